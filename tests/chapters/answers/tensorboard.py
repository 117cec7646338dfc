"""Answers to the exercises of chapter 06."""

from __future__ import annotations

import collections
import contextlib
import copy
import itertools
import math
import operator
import os
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from helpers import boards, training

# look


def looks_at_a_copy(model, images):
    with torch.inference_mode():
        logits = copy.deepcopy(model).eval()(images)
    classes = logits.argmax(dim=1)
    chosen = logits.log_softmax(dim=1).exp()[torch.arange(len(images)), classes]
    return classes, chosen


@contextlib.contextmanager
def in_eval_mode(model):
    trained = [module for module in model.modules() if module.training]
    model.eval()
    yield model
    for module in trained:
        module.training = True


def looks_and_detaches(model, images):
    with in_eval_mode(model) as quiet:
        logits = quiet(images).detach()
    sizes = (logits - logits.amax(dim=1, keepdim=True)).exp()
    return [logits.max(dim=1).indices, 1 / sizes.sum(dim=1)]


def looks_at_one_after_the_other(model, images):
    with in_eval_mode(model), torch.no_grad():
        rows = [model(image[None]).softmax(dim=1)[0] for image in images]
    classes = [int(row.argmax()) for row in rows]
    return torch.tensor(classes), torch.tensor([float(row.max()) for row in rows])


# train_epoch


def counts_its_steps(model, batches, optimizer, writer, epoch):
    step, losses, sizes = epoch * len(batches), [], []
    for images, labels in batches:
        model.zero_grad()
        loss = nn.CrossEntropyLoss()(model(images), labels)
        loss.backward()
        writer.add_scalar("loss/batch", loss, global_step=step)
        if len(losses) == len(batches) - 1:
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    writer.add_histogram(f"gradient/{name}", parameter.grad, step)
        optimizer.step()
        losses.append(loss.item())
        sizes.append(len(labels))
        step += 1
    mean = np.dot(losses, sizes) / sum(sizes)
    writer.add_scalar("loss/epoch", mean, step - 1)


def empties_the_gradients_after_logging_them(model, batches, optimizer, writer, epoch):
    counts_its_steps(model, batches, optimizer, writer, epoch)
    optimizer.zero_grad()


def writes_at_the_end(model, batches, optimizer, writer, epoch):
    losses = [training.step(model, b, F.cross_entropy, optimizer).item() for b in batches]
    first = epoch * len(batches)
    for step, loss in enumerate(losses, first):
        writer.add_scalar("loss/batch", loss, step)
    last = first + len(batches) - 1
    mean = np.average(losses, weights=[len(labels) for _, labels in batches])
    writer.add_scalar("loss/epoch", mean, last)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            writer.add_histogram(f"gradient/{name}", parameter.grad, last)


def asks_autograd(model, batches, optimizer, writer, epoch):
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    summed = 0.0
    for number, (images, labels) in enumerate(batches, epoch * len(batches)):
        loss = F.nll_loss(model(images).log_softmax(dim=1), labels, reduction="sum")
        gradients = torch.autograd.grad(loss / len(labels), named.values(), allow_unused=True)
        for parameter, gradient in zip(named.values(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        writer.add_scalar("loss/batch", loss.item() / len(labels), number)
        summed += loss.item()
    writer.add_scalar("loss/epoch", summed / sum(len(labels) for _, labels in batches), number)
    for name, gradient in zip(named, gradients, strict=True):
        if gradient is not None:
            writer.add_histogram(f"gradient/{name}", gradient, number, bins="tensorflow")


# smooth


def takes_weighted_means(values, weight):
    smoothed = []
    for n in range(1, len(values) + 1):
        factors = [weight**age for age in reversed(range(n))]
        products = map(operator.mul, factors, values)
        smoothed.append(sum(products) / sum(factors))
    return smoothed


def multiplies_by_a_matrix(values, weight):
    ages = np.subtract.outer(np.arange(len(values)), np.arange(len(values)))
    factors = np.where(ages >= 0, np.float64(weight) ** np.maximum(ages, 0), 0.0)
    return list(factors @ np.array(values, dtype=float) / factors.sum(axis=1))


def reckons_in_fractions(values, weight):
    weight, average, smoothed = Fraction(weight), Fraction(0), []
    for n, value in enumerate(map(Fraction, values)):
        average = weight * average + (1 - weight) * value
        smoothed.append(float(average / (1 - weight ** (n + 1))))
    return smoothed


# sweep


def descend(rate, writer):
    """The training of ``sweep`` by its formula."""
    weight = 4.0
    for step in range(20):
        loss = (weight - 1) ** 2
        writer.add_scalar("loss", loss, step)
        weight -= rate * 2 * (weight - 1)
    return loss


def names_runs_by_time_too(folder, rates):
    losses = []
    for rate in rates:
        name = f"{time.time()}_lr={rate}"
        with SummaryWriter(os.path.join(folder, name)) as writer:
            losses.append(descend(rate, writer))
    return losses


def names_runs_by_the_second(folder, rates):
    now = time.strftime("%Y-%m-%dT%H-%M-%S")
    losses = []
    for rate in rates:
        with SummaryWriter(Path(folder, f"{now}_{rate}")) as writer:
            losses.append(descend(rate, writer))
    return losses


def closes_no_writer(folder, rates):
    names = {rate: f"{rate}_{time.monotonic_ns()}" for rate in rates}
    return [descend(rate, SummaryWriter(Path(folder, names[rate]))) for rate in rates]


def refuses_a_second_sweep(folder, rates):
    for rate in rates:
        Path(folder, f"{rate}").mkdir(exist_ok=rates.count(rate) > 1)
    return [descend(rate, SummaryWriter(Path(folder, f"{rate}"))) for rate in rates]


def leaves_out_what_is_there(folder, rates):
    runs = [Path(folder, f"{rate}") for rate in rates]
    new = [run if not run.exists() else Path(folder.parent, run.name) for run in runs]
    return [descend(rate, SummaryWriter(run)) for run, rate in zip(new, rates, strict=True)]


class RunWriter(SummaryWriter):
    """Takes a name that is still free."""

    def __init__(self, parent, rate):
        free = (Path(parent, f"{rate}_try{n}") for n in itertools.count())
        super().__init__(str(next(path for path in free if not path.exists())), max_queue=1)


def subclasses_the_writer(folder, rates):
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(RunWriter(folder, rate)) for rate in rates]
        return tuple(descend(rate, writer) for rate, writer in zip(rates, writers, strict=True))


def empties_its_own_folder(folder, rates):
    for rate, old in itertools.product(rates, Path(folder).glob("*/*")):
        if old.parent.name == str(rate):
            old.unlink()
    return [descend(rate, SummaryWriter(Path(folder, f"{rate}"))) for rate in rates]


# log_pr_curves


def logs_with_numpy(writer, logits, labels, step):
    sizes = np.exp(logits.numpy() - logits.numpy().max(axis=1, keepdims=True))
    for c, column in enumerate((sizes / sizes.sum(axis=1, keepdims=True)).T):
        writer.add_pr_curve(f"pr/{c}", np.equal(labels, c), column, step)


def logs_backwards(writer, logits, labels, step):
    probabilities = F.log_softmax(logits, dim=1).exp()
    for c in reversed(range(logits.size(1))):
        of_class = torch.where(labels == c, 1, 0)
        writer.add_pr_curve("pr/" + str(c), of_class, probabilities.select(1, c), step)


def logs_without_a_loop(writer, logits, labels, step):
    columns = nn.Softmax(dim=1)(logits).unbind(1)
    tags, truths = map("pr/{}".format, itertools.count()), map(labels.eq, itertools.count())
    collections.deque(map(writer.add_pr_curve, tags, truths, columns, itertools.repeat(step)), 0)


# diagnose


def all_zero(gradients):
    return all(np.abs(row.edges[1:][row.counts > 0]).max() <= 1e-12 for row in gradients)


def share_moved(first, last):
    edges = np.union1d(first.edges, last.edges)
    below = [
        np.interp(edges, row.edges, np.concatenate([[0], np.cumsum(row.counts)]))
        for row in (first, last)
    ]
    return np.abs(np.diff(below[0]) - np.diff(below[1])).sum() / 2 / sum(first.counts)


def moved(one, other):
    before, after = (dict(zip(row.edges[1:], row.counts, strict=True)) for row in (one, other))
    leavers = [before.get(edge, 0) - after.get(edge, 0) for edge in before | after]
    return sum(map(abs, leavers)) / 2 / sum(one.counts)


def largest(row):
    ends = np.maximum(abs(row.edges[:-1]), abs(row.edges[1:]))
    return ends[np.array(row.counts) > 0].max()


def by_layer(folder, cut=lambda tag: tag.split("/", 1)):
    layers = {}
    for row in boards.histograms(folder):
        kind, name = cut(row.tag)
        layers.setdefault(name, {"weight": [], "gradient": []})[kind].append(row)
    return layers


def interpolates_the_counts(folder):
    states = {}
    for name, rows in by_layer(folder).items():
        if not rows["gradient"]:
            states[name] = "frozen"
        elif all_zero(rows["gradient"]):
            states[name] = "dead"
        else:
            learning = share_moved(rows["weight"][0], rows["weight"][-1]) >= 0.01
            states[name] = "learning" if learning else "stuck"
    return states


def takes_the_chapters_functions(folder):
    states = {}
    for layer, rows in by_layer(folder).items():
        tops = [largest(row) for row in rows["gradient"]]
        if not tops:
            states[layer] = "frozen"
        elif max(tops) <= 1e-12:
            states[layer] = "dead"
        elif moved(rows["weight"][0], rows["weight"][-1]) < 0.01:
            states[layer] = "stuck"
        else:
            states[layer] = "learning"
    return states


class Layer:
    """What was logged of a layer."""

    def __init__(self):
        self.weight, self.gradient = [], []

    @property
    def state(self):
        if len(self.gradient) == 0:
            return "frozen"
        if not max(map(largest, self.gradient)) > 1e-12:
            return "dead"
        return "learning" if moved(self.weight[0], self.weight[-1]) >= 1 / 100 else "stuck"


def fills_objects(folder):
    layers = collections.defaultdict(Layer)
    for row in boards.histograms(folder):
        kind, _, name = row.tag.partition("/")
        getattr(layers[name], kind).append(row)
    return {name: layer.state for name, layer in layers.items()}


# best


def goes_run_by_run(folder):
    top = (None, None, -math.inf)
    for run in boards.runs(folder):
        for point in boards.scalars(folder, run=run):
            if point.tag == "accuracy/validation" and point.value > top[2]:
                top = (run, point.step, point.value)
    return top


def asks_numpy(folder):
    points = boards.scalars(folder, "accuracy/validation")
    number = np.nanargmax([point.value for point in points])
    run, _, step, _, value = points[number]
    return run, np.int64(step), np.float64(value)


class Best(NamedTuple):
    run: str
    step: int
    value: float


def sorts_named_tuples(folder):
    points = (Best(p.run, p.step, p.value) for p in boards.scalars(folder, "accuracy/validation"))
    known = itertools.filterfalse(lambda best: math.isnan(best.value), points)
    return sorted(known, key=lambda best: -best.value)[0]


def reads_the_last_file_only(folder):
    top = None
    for run in boards.runs(folder):
        with tempfile.TemporaryDirectory() as name:
            file = sorted(Path(folder, run).glob("*tfevents*"))[-1]
            Path(name, file.name).write_bytes(file.read_bytes())
            for p in boards.scalars(name):
                if p.tag == "accuracy/validation" and p.value > (top or [0, 0, -1.0])[2]:
                    top = run, p.step, p.value
    return top


def begins_at_zero(folder):
    answer, top = None, 0.0
    for point in boards.scalars(folder, "accuracy/validation"):
        if point.value > top:
            answer, top = (point.run, point.step, point.value), point.value
    return answer


RIGHT = {
    "look": [looks_at_a_copy, looks_and_detaches, looks_at_one_after_the_other],
    "train_epoch": [
        counts_its_steps,
        empties_the_gradients_after_logging_them,
        writes_at_the_end,
        asks_autograd,
    ],
    "smooth": [
        takes_weighted_means,
        multiplies_by_a_matrix,
        reckons_in_fractions,
    ],
    "sweep": [
        names_runs_by_time_too,
        names_runs_by_the_second,
        closes_no_writer,
        subclasses_the_writer,
    ],
    "log_pr_curves": [logs_with_numpy, logs_backwards, logs_without_a_loop],
    "diagnose": [
        interpolates_the_counts,
        takes_the_chapters_functions,
        fills_objects,
    ],
    "best": [goes_run_by_run, asks_numpy, sorts_named_tuples],
}


WRONG = {
    "look": [
        (
            "    model.eval()\n",
            "    model.eval()\n    model.zero_grad()\n",
            "The gradients that the model holds",
        ),
        (
            "    model.eval()\n",
            "    model.eval()\n    model.requires_grad_(True)\n",
            "`requires_grad` of each",
        ),
        (
            "return classes",
            "torch.set_grad_enabled(True)\n    return classes",
            "Whether gradients are recorded",
        ),
        ("return classes", "torch.rand(1)\n    return classes", "The state of the random numbers"),
        ("return classes", "images.mul_(2)\n    return classes", "The images"),
        (
            "model(images).softmax(dim=1)",
            "nn.functional.normalize(model(images).exp(), p=1)",
            "probability for each predicted class",
        ),
    ],
    "train_epoch": [
        (
            '    writer.add_scalar("loss/epoch"',
            '    model.eval()\n    writer.add_scalar("loss/epoch"',
            "The modes are the caller's",
        ),
        (
            "if parameter.grad is not None:",
            "if parameter.grad is not None and parameter.grad.any():",
            "A gradient of zeros gets one",
        ),
        ("parameter.grad is not None", "parameter.requires_grad", "Then there is nothing to log"),
        (
            'writer.add_scalar("loss/batch", loss.item(), step)',
            "pass",
            "since the start of the whole training",
        ),
    ],
    "smooth": [
        (
            "average / (1 - weight**n)",
            "type(value)(average / (1 - weight**n))",
            "the new value enters with the factor",
        ),
        ("1 - weight**n", "1 - math.pow(1 - weight, n)", "the divisor is not"),
        ("return smoothed", "values[:] = smoothed\n    return values", "it stays as it was"),
        ("return smoothed", "return torch.tensor(smoothed)", "A list or a tuple is expected"),
    ],
    "sweep": [
        ("={rate}", "={rate:.4f}", "holds `str(rate)`"),
        ('_rate={rate}"', '_rate={rate}".replace(".", "_")', "holds `str(rate)`"),
        ("Path(folder, ", 'Path(folder, "sweep", ', "directly under"),
        ("append(loss.item())", "append(loss.detach())", "`.item()`"),
        (empties_its_own_folder, "An earlier sweep"),
        (refuses_a_second_sweep, "FileExistsError"),
        (leaves_out_what_is_there, "for each rate"),
    ],
    "log_pr_curves": [
        (
            "logits.softmax(dim=1)",
            "nn.functional.normalize(logits.exp(), p=1)",
            "however large the logits",
        ),
        ("[:, c], step", "[:, c], step, 100", "takes by itself"),
    ],
    "best": [
        (reads_the_last_file_only, "still counts"),
        (begins_at_zero, "A tuple or a list is expected"),
    ],
    "diagnose": [
        (
            "leavers = [abs(before.get(edge, 0) - after.get(edge, 0)) for edge in before | after]",
            "means = [(r.edges[1:] * r.counts).sum() / sum(r.counts) for r in (one, other)]",
            "sum(leavers) / 2 / sum(one.counts)",
            "abs(means[0] - means[1])",
            "of its weights below 0.01",
        ),
        ("moved < 0.01", "moved < 0.05", "of the weights is 0.01 or more"),
        (
            'kind, _, layer = row.tag.partition("/")',
            'kind, *_, layer = row.tag.split("/")',
            "It may have a `/` in it",
        ),
        (
            "moved < 0.01",
            "moved < 0.01 and not any(map(all_zero, gradients))",
            "at least one gradient outside",
        ),
        (
            "moved < 0.01",
            "moved < 0.01 and not all_zero(gradients[-1])",
            "at least one gradient outside",
        ),
    ],
}
