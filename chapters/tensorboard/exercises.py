"""The exercises of chapter 06: what a run writes down, and what can be read from it."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from helpers import boards, data
from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # An answer may leave a writer open, whose file Windows then does not let go.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


def _event_files(folder: Path) -> int:
    return len(list(folder.rglob("*tfevents*")))


# What a writer does -----------------------------------------------------------------------------


@chapter.prediction
def on_disk():
    import tempfile

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        servers = sum(server.ours for server in boards.running())
        writer = SummaryWriter(folder)
        files = list(folder.iterdir())
        for loss in (3.0, 2.0, 1.0):
            writer.add_scalar("loss", loss)
        writer.flush()
        points = boards.scalars(folder)
        answer = {
            "len(files)": len(files),
            "len(points)": len(points),
            "[point.step for point in points]": [point.step for point in points],
            "TensorBoard servers started": sum(s.ours for s in boards.running()) - servers,
        }
        writer.close()
    return answer


def no_step_is_none():
    return {"[point.step for point in points]": [None for _ in (3.0, 2.0, 1.0)]}


# Looking without touching -----------------------------------------------------------------------


class _Half(nn.Module):
    """Half trained: BatchNorm has seen batches, dropout draws, gradients wait for their step.

    With ``frozen`` 1 the first block, with 2 only the BatchNorm in it (two levels down) is in eval
    mode and asks for no gradient.
    """

    def __init__(self, frozen=0):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 10))
        for _ in range(3):
            self(torch.rand(8, 1, 8, 8)).square().mean().backward()
        if frozen:
            part = self.first if frozen == 1 else self.first[2]
            part.eval().requires_grad_(False)

    def forward(self, images):
        return 5 * self.last(self.dropout(self.first(images)))


def _images(n):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(n))


def _looking(answer, model, images, recording=True):
    before, asked = _state(model), _asking(model)
    modes = {name or "itself": module.training for name, module in model.named_modules()}
    next_random = torch.rand(3, generator=torch.default_generator.clone_state()).tolist()
    with torch.set_grad_enabled(recording):
        classes, probabilities = answer(model, images)
        still_recording = torch.is_grad_enabled()
    after = {name or "itself": module.training for name, module in model.named_modules()}
    changed = [name for name, value in _state(model).items() if not _same(value, before[name])]
    return {
        "classes": classes,
        "probabilities": getattr(probabilities, "detach", lambda: probabilities)(),
        "a result asks for a gradient": getattr(probabilities, "requires_grad", False),
        "gradients are recorded afterwards": still_recording,
        "modules whose mode has changed": [name for name in modes if modes[name] != after[name]],
        "tensors of the model that have changed": changed,
        "parameters whose requires_grad has changed": sorted(asked ^ _asking(model)),
        "the next random numbers are the same": torch.rand(3).tolist() == next_random,
    }


def _state(model):
    """Copies of all that a training changes: parameters, buffers, gradients."""
    gradients = {f"{name}.grad": p.grad for name, p in model.named_parameters()}
    return copy.deepcopy(dict(model.state_dict()) | gradients)


def _same(value, other):
    return value is other if value is None or other is None else torch.equal(value, other)


def _asking(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@chapter.exercise(
    cases=lambda: [
        Case("8 images, in the midst of a training", _Half(), _images(8)),
        Case("8 images, the first BatchNorm frozen in eval mode", _Half(frozen=2), _images(8)),
        Case("4 images, the whole first block frozen in eval mode", _Half(frozen=1), _images(4)),
        Case("called under torch.no_grad()", _Half(), _images(4), False),
        Case("a batch of one image", _Half(), _images(1)),
        Case("5 images, a model already in eval mode", _Half().eval(), _images(5)),
    ],
    observe=_looking,
)
def look(model, images):
    """Return the predicted classes `(n,)` and their probabilities `(n,)`."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    for module, mode in modes.items():
        module.training = mode
    return classes, probabilities


def in_train_mode(model, images):
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    return classes, probabilities


def like_a_training_step(model, images):
    probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    return classes, probabilities


def stays_in_eval_mode(model, images):
    model.eval()
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    return classes, probabilities


def all_to_train_mode(model, images):
    model.eval()
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    model.train()
    return classes, probabilities


def one_mode_for_all(model, images):
    mode = model.training
    model.eval()
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    model.train(mode)
    return classes, probabilities


def modes_of_the_children(model, images):
    modes = {child: child.training for child in model.children()}
    mode = model.training
    model.eval()
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    model.training = mode
    for child, mode in modes.items():
        child.train(mode)
    return classes, probabilities


def keeps_the_graph(model, images):
    modes = {module: module.training for module in model.modules()}
    model.eval()
    probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    for module, mode in modes.items():
        module.training = mode
    return classes, probabilities


def squeezes(model, images):
    classes, probabilities = at_a_copy(model, images)
    return classes.squeeze(), probabilities.squeeze()


def the_other_pair(model, images):
    classes, probabilities = at_a_copy(model, images)
    return probabilities, classes


def logits_for_probabilities(model, images):
    with torch.no_grad():
        logits = copy.deepcopy(model).eval()(images)
    return logits.argmax(dim=1), logits.max(dim=1).values


# Logging an epoch -------------------------------------------------------------------------------


def _batches(*sizes):
    digits = _digits()
    return list(
        zip(digits.x_train.split(list(sizes)), digits.y_train.split(list(sizes)), strict=False)
    )


@functools.cache
def _digits():
    digits = data.digits()
    return digits._replace(x_train=digits.x_train[:64], y_train=digits.y_train[:64])


def _trainings():
    _first_step()  # here, where no time limit holds
    return [
        Case("one epoch of 4 batches of 16", _small_net(), _batches(16, 16, 16, 16), [0]),
        Case(
            "two epochs of 3 batches, the last one smaller",
            _small_net(),
            _batches(24, 24, 16),
            [0, 1],
        ),
        Case("epochs 4 and 5, after a resume", _small_net(), _batches(30, 34), [4, 5]),
        Case("a network with a frozen layer", _small_net(frozen=True), _batches(30, 30, 4), [0]),
        Case("a network with a dead layer", _small_net(dead=True), _batches(32, 32), [0]),
        Case(
            "BatchNorm set to eval mode by the caller",
            _small_net(still=True),
            _batches(32, 32),
            [0],
        ),
    ]


@functools.cache
def _first_step():
    """The first step of a process loads much of torch."""
    net = _small_net()
    net(_digits().x_train).sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()


def _small_net(frozen=False, dead=False, still=False):
    """A network with BatchNorm, for which train and eval mode are not the same.

    Its first layer is ``frozen``, or gets no gradient from a ``dead`` ReLU, or BatchNorm stands
    ``still`` in eval mode.
    """
    torch.manual_seed(0)
    first = nn.Linear(64, 8, bias=False)
    net = nn.Sequential(nn.Flatten(), first, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
    if frozen:
        first.requires_grad_(False)
    if dead:
        nn.init.constant_(net[2].bias, -10.0)
    if still:
        net[2].eval()
    return net


def _epochs_logged(answer, model, batches, epochs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with _folder() as folder:
        with SummaryWriter(folder) as writer:
            for epoch in epochs:
                answer(model, batches, optimizer, writer, epoch)
        points, histograms = boards.scalars(folder), boards.histograms(folder)
        files = _event_files(folder)
    return {
        "steps of the scalars": {tag: _steps(points, tag) for tag in _tags(points)},
        "scalars": {tag: [p.value for p in points if p.tag == tag] for tag in _tags(points)},
        "steps of the histograms": {tag: _steps(histograms, tag) for tag in _tags(histograms)},
        "mean size of what is in the histograms": {
            tag: [_mean_size(row) for row in histograms if row.tag == tag]
            for tag in _tags(histograms)
        },
        "values below 0 in the histograms": {
            tag: [_below_zero(row) for row in histograms if row.tag == tag]
            for tag in _tags(histograms)
        },
        "event files": files,
        "the model is trained": {name: p.detach() for name, p in model.named_parameters()},
        "modules in train mode": [name for name, part in model.named_modules() if part.training],
        # Where there is no histogram this tells why; where there is, it is nobody's business.
        "gradients left for a histogram": bool(histograms)
        or any(parameter.grad is not None for parameter in model.parameters()),
    }


def _tags(rows):
    return sorted({row.tag for row in rows})


def _steps(rows, tag):
    return [row.step for row in rows if row.tag == tag]


def _mean_size(row):
    """About the mean of the absolute values, from the middles of the bins."""
    centres = [(low + high) / 2 for low, high in zip(row.edges[:-1], row.edges[1:], strict=True)]
    total = sum(abs(c) * n for c, n in zip(centres, row.counts, strict=True))
    return float(total / max(sum(row.counts), 1))


def _below_zero(row):
    return int(sum(n for high, n in zip(row.edges[1:], row.counts, strict=True) if high <= 0))


@chapter.exercise(
    cases=lambda: _trainings(),
    observe=_epochs_logged,
)
def train_epoch(model, batches, optimizer, writer, epoch):
    """Train on each of `batches` once; log to `writer`."""
    total, count = 0.0, 0
    for i, (images, labels) in enumerate(batches):
        step = epoch * len(batches) + i
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        writer.add_scalar("loss/batch", loss.item(), step)
        total, count = total + loss.item() * len(labels), count + len(labels)
    writer.add_scalar("loss/epoch", total / count, step)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            writer.add_histogram(f"gradient/{name}", parameter.grad, step)


def _epoch(model, batches, optimizer, writer, epoch, **do):
    """The reference with some of its decisions taken in another way."""
    losses, sizes, grads = [], [], {}
    step_of = do.get("step", lambda i: epoch * len(batches) + i)
    for i, (images, labels) in enumerate(batches):
        loss = F.cross_entropy(model(images), labels)
        if not do.get("piles_up"):
            optimizer.zero_grad()
        loss.backward()
        grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        writer.add_scalar("loss/batch", loss.item(), step_of(i))
        losses.append(loss.item())
        sizes.append(len(labels))
    weights = do.get("weights", sizes)
    mean = sum(map(math.prod, zip(losses, weights, strict=False))) / sum(weights[: len(losses)])
    last = do.get("last", step_of(len(batches) - 1))
    writer.add_scalar("loss/epoch", mean, do.get("epoch_step", last))
    for name, grad in {} if do.get("silent") else grads.items():
        writer.add_histogram(f"gradient/{name}", do.get("logged", torch.clone)(grad), last)


def begins_anew_each_epoch(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, step=lambda i: i)


def without_a_step(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, step=lambda i: None)


def counts_from_one(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, step=lambda i: epoch * len(batches) + i + 1)


def epoch_one_too_late(model, batches, optimizer, writer, epoch):
    end = (epoch + 1) * len(batches)
    _epoch(model, batches, optimizer, writer, epoch, last=end)


def gradients_pile_up(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, piles_up=True)


def in_eval_mode(model, batches, optimizer, writer, epoch):
    model.eval()
    _epoch(model, batches, optimizer, writer, epoch)


def all_in_train_mode(model, batches, optimizer, writer, epoch):
    model.train()
    _epoch(model, batches, optimizer, writer, epoch)


def ends_in_train_mode(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch)
    model.train()


def of_the_sizes(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, logged=torch.abs)


def of_the_steps(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, logged=torch.neg)


def mean_of_means(model, batches, optimizer, writer, epoch):
    ones = [1] * len(batches)
    _epoch(model, batches, optimizer, writer, epoch, weights=ones)


def measured_afterwards(model, batches, optimizer, writer, epoch):
    last = (epoch + 1) * len(batches) - 1
    quiet = _Renaming(writer, "loss/batch", only="loss/batch")
    _epoch(model, batches, optimizer, quiet, epoch)
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    with torch.no_grad():
        writer.add_scalar("loss/epoch", F.cross_entropy(model(images), labels), last)


def epochs_as_steps(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, epoch_step=epoch)


def gradients_are_gone(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, silent=True)
    optimizer.zero_grad()


def without_histograms(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, silent=True)


def closes(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch)
    writer.close()


# The smoothing slider ---------------------------------------------------------------------------


@chapter.exercise(
    cases=lambda: [
        Case("a constant curve, weight 0.9", [5.0] * 6, 0.9),
        Case("one spike, weight 0.6", [1.0, 0.0, 0.0, 8.0, 0.0, 0.0], 0.6),
        Case("a falling loss, weight 0.99", [2.0 / (1 + n) for n in range(30)], 0.99),
        Case("weight 0", [3.0, 1.0, 2.0], 0.0),
        Case("no values yet", [], 0.5),
    ],
)
def smooth(values, weight):
    """The smoothed values, as many as `values`."""
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        smoothed.append(average / (1 - weight**n))
    return smoothed


def not_divided(values, weight):
    average, smoothed = 0.0, []
    for value in values:
        average = weight * average + (1 - weight) * value
        smoothed.append(average)
    return smoothed


def begins_with_the_first(values, weight):
    smoothed = []
    for value in values:
        last = smoothed[-1] if smoothed else value
        smoothed.append(weight * last + (1 - weight) * value)
    return smoothed


def begins_as_older_boards(values, weight):
    last, smoothed = values[0], []
    for value in values:
        last = weight * last + (1 - weight) * value
        smoothed.append(last)
    return smoothed


def exchanged_in_the_average(values, weight):
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = weight * value + (1 - weight) * average
        smoothed.append(average / (1 - weight**n))
    return smoothed


def exchanged_and_not_divided(values, weight):
    average, smoothed = 0.0, []
    for value in values:
        average = weight * value + (1 - weight) * average
        smoothed.append(average)
    return smoothed


def exchanged_throughout(values, weight):
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = weight * value + (1 - weight) * average
        smoothed.append(average / (1 - (1 - weight) ** n))
    return smoothed


def exchanged_in_the_divisor(values, weight):
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        smoothed.append(average / (1 - (1 - weight) ** n))
    return smoothed


def the_other_way_round(values, weight):
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = weight * value + (1 - weight) * average
        rest = 1 - (1 - weight) ** n
        smoothed.append(average / rest if rest else math.nan)
    return smoothed


def divides_what_it_keeps(values, weight):
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = (weight * average + (1 - weight) * value) / (1 - weight**n)
        smoothed.append(average)
    return smoothed


def a_window(values, weight):
    width = max(1, round(1 / (1 - weight)))
    parts = [values[max(0, n - width) : n] for n in range(1, len(values) + 1)]
    return [sum(part) / len(part) for part in parts]


# Precision and recall ---------------------------------------------------------------------------


def _labels():
    return torch.arange(90) % 3


def _logits(knowledge, shy=None):
    noise = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    logits = 1.5 * noise + knowledge * F.one_hot(_labels(), 3)
    if shy is not None:
        logits[:, shy] -= 20
    return logits


def _curves_logged(answer, logits, labels, step):
    before = logits.clone(), labels.clone()
    with _folder() as folder:
        with SummaryWriter(folder) as writer:
            answer(writer, logits, labels, step)
            writer.add_scalar("the caller goes on", 1.0)
        rows, files = boards.pr_curves(folder), _event_files(folder)
    return {
        "tags and steps": [(row.tag, row.step) for row in rows],
        "precision": {row.tag: _floats(row.precision) for row in rows},
        "recall": {row.tag: _floats(row.recall) for row in rows},
        "event files": files,
        "logits and labels as before": [torch.equal(logits, before[0]), labels.equal(before[1])],
    }


def _floats(values):
    return [float(value) for value in values]


@chapter.exercise(
    cases=lambda: [
        Case("an untrained network", _logits(0.0), _labels(), 0),
        Case("a network that has learned something", _logits(2.0), _labels(), 30),
        Case("a class that the network never predicts", _logits(1.0, shy=2), _labels(), 7),
        Case("a class that these labels do not hold", _logits(1.0), _labels() % 2, 9),
    ],
    observe=_curves_logged,
)
def log_pr_curves(writer, logits, labels, step):
    """Log a precision-recall curve for each class."""
    probabilities = logits.softmax(dim=1)
    for c in range(logits.shape[1]):
        writer.add_pr_curve(f"pr/{c}", labels == c, probabilities[:, c], step)


def _curves(writer, truth, scores, step):
    for c in range(scores.shape[1]):
        writer.add_pr_curve(f"pr/{c}", truth == c, scores[:, c], step)


def against_itself(writer, logits, labels, step):
    _curves(writer, logits.argmax(dim=1), logits.softmax(dim=1), step)


def of_logits(writer, logits, labels, step):
    _curves(writer, labels, logits, step)


def only_the_files(writer, logits, labels, step):
    _curves(writer, logits.argmax(dim=1), logits, step)


def only_the_truth(writer, logits, labels, step):
    for c in range(logits.shape[1]):
        writer.add_pr_curve(f"pr/{c}", labels == c, logits[:, c], step)
        writer.close()


def labels_whole(writer, logits, labels, step):
    for c in range(logits.shape[1]):
        writer.add_pr_curve(f"pr/{c}", labels, logits.softmax(dim=1)[:, c], step)


def only_classes_seen(writer, logits, labels, step):
    for c in labels.unique().tolist():
        writer.add_pr_curve(f"pr/{c}", labels == c, logits.softmax(dim=1)[:, c], step)


def in_place(writer, logits, labels, step):
    logits.copy_(logits.softmax(dim=1))
    _curves(writer, labels, logits, step)


def only_the_scores(writer, logits, labels, step):
    for c in range(logits.shape[1]):
        writer.add_pr_curve(f"pr/{c}", logits.argmax(dim=1) == c, logits.softmax(dim=1)[:, c], step)
        writer.close()


def by_sigmoid(writer, logits, labels, step):
    _curves(writer, labels, logits.sigmoid(), step)


def over_the_samples(writer, logits, labels, step):
    _curves(writer, labels, logits.softmax(dim=0), step)


def closes_each_time(writer, logits, labels, step):
    for c in range(logits.shape[1]):
        writer.add_pr_curve(f"pr/{c}", labels == c, logits.softmax(dim=1)[:, c], step)
        writer.close()


def closes_at_the_end(writer, logits, labels, step):
    _curves(writer, labels, logits.softmax(dim=1), step)
    writer.close()


def without_step(writer, logits, labels, step):
    _curves(writer, labels, logits.softmax(dim=1), None)


# Which run is which -----------------------------------------------------------------------------


def five_runs(folder: Path) -> None:
    """Train five networks on digits, each for six epochs, and log them as the runs A to E.

    One is healthy. In one the two hidden layers are frozen, in one a hidden layer is dead from the
    start, one has far too small a learning rate, one far too large a one. The tags are ``loss``,
    and ``weight/<layer>`` and ``gradient/<layer>`` for the layers ``first``, ``second`` and
    ``last``. Weights are logged before the first epoch, too, as step 0.
    """
    for name, (rate, spoil) in _five().items():
        model = _three_layers()
        spoil(model)
        with SummaryWriter(Path(folder, name)) as writer:
            _train_and_log(model, rate, writer)


def _five():
    """Learning rate and what is done to the fresh network, by the name of the run."""

    def nothing(model):
        pass

    def freeze(model):
        model.first.requires_grad_(False)
        model.second.requires_grad_(False)

    def kill(model):
        nn.init.constant_(model.second.bias, -10.0)

    return {
        "A": (1e-6, nothing),
        "B": (0.4, kill),
        "C": (5.0, nothing),
        "D": (0.4, nothing),
        "E": (0.4, freeze),
    }


def _three_layers():
    torch.manual_seed(0)
    model = nn.Sequential()
    for name, layer in (
        ("flat", nn.Flatten()),
        ("first", nn.Linear(64, 32)),
        ("relu", nn.ReLU()),
        ("second", nn.Linear(32, 32)),
        ("again", nn.ReLU()),
        ("last", nn.Linear(32, 10)),
    ):
        model.add_module(name, layer)
    return model


def _train_and_log(model, rate, writer):
    digits = data.digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    batches = list(zip(digits.x_train[:512].split(32), digits.y_train[:512].split(32), strict=True))
    _log_layers(model, writer, 0)
    for epoch in range(1, 7):
        total = 0.0
        for images, labels in batches:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() / len(batches)
        writer.add_scalar("loss", total, epoch)
        _log_layers(model, writer, epoch)


def _log_layers(model, writer, step):
    for name in ("first", "second", "last"):
        weight = getattr(model, name).weight
        writer.add_histogram(f"weight/{name}", weight, step)
        if weight.grad is not None:
            writer.add_histogram(f"gradient/{name}", weight.grad, step)


@chapter.prediction
def which():
    import tempfile

    from helpers.exercises.tensorboard import five_runs

    def reach(row):
        """How far from zero the outermost bin lies that holds a value."""
        edges = zip(row.edges[:-1], row.edges[1:], row.counts, strict=True)
        return max(max(abs(low), abs(high)) for low, high, count in edges if count)

    found = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        five_runs(folder)
        for run in boards.runs(folder):
            rows = boards.histograms(folder, run=run)
            weights = [reach(row) for row in rows if row.tag == "weight/second"]
            gradients = [reach(row) for row in rows if row.tag == "gradient/second"]
            losses = [point.value for point in boards.scalars(folder, "loss", run)]
            if losses[-1] < losses[0] / 2:
                found[run] = "healthy"
            elif not gradients:
                found[run] = "frozen"
            elif weights[-1] > 3 * weights[0]:
                found[run] = "too large"
            else:
                found[run] = "dead" if max(gradients) < 1e-11 else "too small"
    return found


def _swapped(one, other):
    """The truth with two names exchanged, and of it only these two."""
    exchanged = {one: other, other: one}
    truth = which.right
    return {run: exchanged[name] for run, name in truth.items() if name in exchanged}


# A diagnosis from the log -----------------------------------------------------------------------


@functools.cache
def _unseen_runs() -> dict[str, dict[str, bytes]]:
    """The event files of each case by name: written once, and where no time limit holds."""
    programs = {
        "a network that learns": {"body": _layer("learning"), "head": _layer("learning")},
        "a frozen body": {"conv": _layer("frozen"), "fc": _layer("learning")},
        "a dead layer": {"encoder": _layer("dead"), "decoder": _layer("learning")},
        "far too small a rate": {"a": _layer("stuck"), "b": _layer("stuck")},
        "a dead layer under weight decay": {
            "a": _layer("dead", decay=True),
            "b": _layer("learning"),
        },
        "gradients of about 1e-8": {"deep": _layer("stuck", size=1e-08), "top": _layer("learning")},
        "a gradient that is zero at first": {"rare": _layer("learning", rests=(0, 1))},
        "a gradient that is zero at the end": {"rare": _layer("learning", rests=(2,))},
        "a gradient whose values are all alike": {"even": _steady("even gradient")},
        "gradients of about 1e-11": {
            "deep": _layer("stuck", size=1e-11),
            "top": _layer("learning"),
        },
        "2 in 100 weights have moved": {"few": _steady("few move")},
        "1 in 100 weights have moved": {"fewer": _steady("fewer move")},
        "weights that move at first and then no more": {"early": _steady("early")},
        "the weights spread out evenly": {"wide": _steady("spread")},
        "one weight of 400 runs away": {"last": _steady("one runs away")},
        "a layer with a / in its name": {"block/conv": _layer("learning")},
        "a layer whose name holds weight/": {"cell/weight/input": _layer("learning")},
        "all four at once": {
            "blocks.0": _layer("frozen"),
            "blocks.1": _layer("dead"),
            "blocks.2": _layer("stuck"),
            "head": _layer("learning"),
        },
    }
    return {label: _event_files_of(layers) for label, layers in programs.items()}


def _event_files_of(layers):
    with _folder() as folder:
        with SummaryWriter(folder) as writer:
            for name, rows in layers.items():
                for number, (weight, gradient) in enumerate(rows):
                    writer.add_histogram(f"weight/{name}", weight, 300 * number)
                    if gradient is not None:
                        writer.add_histogram(f"gradient/{name}", gradient, 300 * number)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _layer(state, decay=False, size=0.1, rests=()):
    """A layer's weights and gradients at three steps; None where there is no gradient.

    ``rests`` are the steps at which the gradient of a living layer is zero. Values beyond 2 do not
    move, so that the range of the weights says nothing.
    """
    generator = torch.Generator().manual_seed(len(state))

    def noise():
        return torch.randn(20, 20, generator=generator)

    weight, rows = noise(), []
    for step in range(3):
        gradient = size * noise()
        if state == "dead" or step in rests:
            gradient = torch.zeros_like(gradient)
        rows.append((weight, None if state == "frozen" else gradient))
        moves = {"learning": 0.2, "stuck": 1e-4}.get(state, 0.0)
        step_of_it = torch.where(weight.abs() < 2, moves * noise(), 0.0)
        weight = (0.7 if decay else 1.0) * weight + step_of_it
    return rows


def _steady(kind):
    """A layer of 400 weights that stand still but for what ``kind`` says, with a gradient."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(200, generator=generator)
    weight, gradient = torch.cat([half, -half]), torch.randn(400, generator=generator)
    moved = weight.clone()
    if kind == "even gradient":  # one bin holds it all
        moved, gradient = 2 * weight, torch.full((400,), 0.05)
    elif kind == "few move":
        moved[:8] = 5.0
    elif kind == "fewer move":
        moved[:4] = 5.0
    elif kind in ("spread", "early"):  # the mean stays
        moved = 1.5 * weight
    elif kind == "one runs away":  # the mean moves, and so does the first bin that is stored
        moved[0] = -1000.0
    between = moved if kind == "early" else weight
    return [(weight, gradient), (between, gradient), (moved, gradient)]


def _of_a_logged_run(answer, files):
    with _folder() as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return answer(folder)


@chapter.exercise(
    cases=lambda: [Case(label, files) for label, files in _unseen_runs().items()],
    observe=_of_a_logged_run,
)
def diagnose(folder):
    """Return a dict from the name of each layer to its state."""

    def all_zero(row):
        edges = zip(row.edges[:-1], row.edges[1:], row.counts, strict=True)
        return not any(count for low, high, count in edges if max(abs(low), abs(high)) > 1e-12)

    def share_moved(one, other):
        before, after = (dict(zip(row.edges[1:], row.counts, strict=True)) for row in (one, other))
        leavers = [abs(before.get(edge, 0) - after.get(edge, 0)) for edge in before | after]
        return sum(leavers) / 2 / sum(one.counts)

    rows = {}
    for row in boards.histograms(folder):
        rows.setdefault(row.tag, []).append(row)
    states = {}
    for tag, weights in rows.items():
        kind, _, layer = tag.partition("/")
        gradients = rows.get(f"gradient/{layer}")
        if kind == "gradient":
            continue
        elif gradients is None:
            states[layer] = "frozen"
        elif all(map(all_zero, gradients)):
            states[layer] = "dead"
        else:
            stuck = share_moved(weights[0], weights[-1]) < 0.01
            states[layer] = "stuck" if stuck else "learning"
    return states


def _read(folder):
    """The rows of each layer: those of its weights, and those of its gradients."""
    layers = {}
    for row in boards.histograms(folder):
        kind, _, layer = row.tag.partition("/")
        layers.setdefault(layer, {"weight": [], "gradient": []})[kind].append(row)
    return layers


def _largest(row):
    """The outermost edge of a bin that holds values: no value is larger than that."""
    edges = zip(row.edges[:-1], row.edges[1:], strict=True)
    ends = [max(map(abs, ends)) for ends, n in zip(edges, row.counts, strict=True) if n]
    return max(ends, default=0.0)


def _moved(rows, least=0.01):
    """Whether so large a share of the values lies in other bins at the end."""
    first, last = rows[0], rows[-1]
    edges = np.union1d(first.edges, last.edges)
    counts = [_between(row, edges) for row in (first, last)]
    return bool(np.abs(counts[0] - counts[1]).sum() / 2 >= least * sum(first.counts))


def _between(row, edges):
    """The counts of a histogram between more edges than its own, the new ones outside of it."""
    below = np.concatenate([[0], np.cumsum(row.counts)])
    return np.diff(np.interp(edges, row.edges, below))


def by_weights_alone(folder):
    return {
        layer: "learning" if _moved(rows["weight"]) else "dead"
        for layer, rows in _read(folder).items()
    }


def weights_first(folder):
    states = {}
    for layer, rows in _read(folder).items():
        if _moved(rows["weight"]):
            states[layer] = "learning"
        elif not rows["gradient"]:
            states[layer] = "frozen"
        else:
            zero = all(_largest(row) <= 1e-12 for row in rows["gradient"])
            states[layer] = "dead" if zero else "stuck"
    return states


def small_is_zero(folder):
    return _by_gradient(folder, dead=lambda sizes: max(sizes) < 1e-5)


def tiny_is_zero(folder):
    return _by_gradient(folder, dead=lambda sizes: max(sizes) < 1e-9)


def once_zero_is_dead(folder):
    return _by_gradient(folder, dead=lambda sizes: min(sizes) <= 1e-12)


def only_the_last(folder):
    return _by_gradient(folder, dead=lambda sizes: sizes[-1] <= 1e-12)


def no_gradient_is_dead(folder):
    states = by_the_largest_value(folder)
    return {layer: "dead" if state == "frozen" else state for layer, state in states.items()}


def any_move_is_learning(folder):
    return _by_gradient(folder, dead=_always_zero, least=1e-6)


def bins_by_place(folder):
    def moved(rows):
        first, last = rows[0], rows[-1]
        leavers = [abs(a - b) for a, b in zip(first.counts, last.counts, strict=False)]
        return sum(leavers) / 2 >= 0.01 * sum(first.counts)

    return _by_gradient(folder, dead=_always_zero, moved=moved)


def the_last_two(folder):
    def moved(rows):
        return _moved(rows[-2:])

    return _by_gradient(folder, dead=_always_zero, moved=moved)


def one_in_a_hundred_is_stuck(folder):
    return _by_gradient(folder, dead=_always_zero, least=0.011)


def many_must_move(folder):
    return _by_gradient(folder, dead=_always_zero, least=0.05)


def one_bin_is_dead(folder):
    states = by_the_largest_value(folder)
    for layer, rows in _read(folder).items():
        if rows["gradient"] and all(np.count_nonzero(row.counts) == 1 for row in rows["gradient"]):
            states[layer] = "dead"
    return states


def up_to_the_next_slash(folder):
    return {layer.split("/")[0]: state for layer, state in by_the_largest_value(folder).items()}


def removes_the_word(folder):
    states = by_the_largest_value(folder)
    return {layer.replace("weight/", ""): state for layer, state in states.items()}


def _always_zero(sizes):
    return max(sizes) <= 1e-12


def _by_gradient(folder, dead, least=0.01, moved=None):
    states = {}
    for layer, rows in _read(folder).items():
        sizes = [_largest(row) for row in rows["gradient"]]
        if not sizes:
            states[layer] = "frozen"
        elif dead(sizes):
            states[layer] = "dead"
        else:
            weights = rows["weight"]
            learns = moved(weights) if moved else _moved(weights, least)
            states[layer] = "learning" if learns else "stuck"
    return states


# One directory a run ----------------------------------------------------------------------------


def _runs_logged(answer, rates):
    with _folder() as folder, _working_in(folder):
        logs, other = folder / "logs", "yesterday"
        with SummaryWriter(logs / other) as writer:
            writer.add_scalar("loss", 1.0, 0)
        returned = answer(logs, rates)
        if any(type(thread).__name__ == "_AsyncWriterThread" for thread in threading.enumerate()):
            time.sleep(0.2)  # a writer that was not closed is still writing
        points = [p for p in boards.scalars(logs) if p.run != other] if _event_files(logs) else []
        survives = _event_files(logs / other)
        files = {
            "under the folder": _event_files(logs) - survives,
            "in a folder of the writer's own": _event_files(folder / "runs"),
        }
        files["elsewhere"] = _event_files(folder) - survives - sum(files.values())
    runs = {point.run for point in points}
    if len(set(rates)) < len(rates):  # how to name the second of a kind is left open
        return {"returned": list(returned)}
    return {
        "runs": len(runs),
        "runs directly under the folder": sum(
            run != "." and len(Path(run).parts) == 1 for run in runs
        ),
        "the rate in a run's name": {str(rate): _in_a_name(rate, runs) for rate in rates},
        "steps in each run": sorted([p.step for p in points if p.run == run] for run in runs),
        "last losses in the log": [
            round(next(p.value for p in reversed(points) if p.run == run), 4)
            for rate in rates
            for run in sorted(runs)
            if _names(run, rate)
        ],
        "event files": files,
        "the run of yesterday is still there": bool(survives),
        "returned": list(returned),
    }


def _in_a_name(rate, runs):
    """How the rate stands in the name of a run: as Python writes it, rounded, or not at all."""
    count = sum(_names(run, rate) for run in runs)
    if count:
        return f"in {count}"
    numbers = [float(n) for run in runs for n in re.findall(r"\d+\.\d+(?:e-?\d+)?|\de-\d+", run)]
    return "rounded" if any(abs(number - rate) < 0.005 for number in numbers) else "not there"


def _names(run, rate):
    """Whether the rate, written as Python writes it, stands in the name, and not as a part of
    another number."""
    before, found, after = run.partition(str(rate))
    return bool(found) and not before[-1:].isdigit() and not after[:1].isdigit()


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    # A writer without a log_dir makes `runs` where it is; that is not to be the reader's folder.
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@chapter.exercise(
    cases=lambda: [
        Case("rates 0.5 and 0.05", [0.5, 0.05]),
        Case("rates 0.1, 0.001 and 0.004", [0.1, 0.001, 0.004]),
        Case("a single rate, 1e-05", [1e-05]),
        Case("a rate of many digits", [0.00123456789, 0.1]),
        Case("the same rate twice", [0.1, 0.5, 0.1]),
    ],
    observe=_runs_logged,
)
def sweep(folder, rates):
    """Take 20 steps with each learning rate; return the last loss of each."""
    losses = []
    for rate in rates:
        weight = torch.tensor(4.0, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=rate)
        with SummaryWriter(Path(folder, f"rate={rate}")) as writer:
            for step in range(20):
                loss = (weight - 1) ** 2
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                writer.add_scalar("loss", loss.item(), step)
        losses.append(loss.item())
    return losses


def _descent(rate, writer):
    """The given training, by its formula: a step multiplies the distance by `1 - 2 * rate`."""
    weight = torch.tensor(4.0)
    for step in range(20):
        loss = ((weight - 1) ** 2).item()
        writer.add_scalar("loss", loss, step)
        weight = weight - rate * 2 * (weight - 1)
    return loss


def _in_folders(folder, rates, name):
    """A run for each rate; ``name`` is a format for its folder's name."""
    losses = []
    for rate in rates:
        with SummaryWriter(Path(folder, name.format(rate))) as writer:
            losses.append(_descent(rate, writer))
    return losses


def one_folder(folder, rates):
    losses = []
    for rate in rates:
        with SummaryWriter(folder, filename_suffix=f"_rate={rate}") as writer:
            losses.append(_descent(rate, writer))
    return losses


def by_comment(folder, rates):
    losses = []
    for rate in rates:
        with SummaryWriter(comment=f"_rate={rate}") as writer:
            losses.append(_descent(rate, writer))
    return losses


def beside_the_folder(folder, rates):
    losses = []
    for rate in rates:
        with SummaryWriter(f"{folder}_rate={rate}") as writer:
            losses.append(_descent(rate, writer))
    return losses


def six_digits(folder, rates):
    return _in_folders(folder, rates, "rate={:g}")


def empties_the_folder(folder, rates):
    shutil.rmtree(folder)
    return named_by_time_too(folder, rates)


def each_rate_once(folder, rates):
    return named_by_time_too(folder, dict.fromkeys(rates))


def rounded_names(folder, rates):
    return _in_folders(folder, rates, "rate={:.2f}")


def numbered(folder, rates):
    losses = []
    for number, rate in enumerate(rates):
        with SummaryWriter(Path(folder, f"run_{number}")) as writer:
            losses.append(_descent(rate, writer))
    return losses


def as_tags(folder, rates):
    with SummaryWriter(folder) as writer:
        losses = []
        for rate in rates:
            renamed = _Renaming(writer, f"loss/rate={rate}")
            losses.append(_descent(rate, renamed))
    return losses


def by_add_scalars(folder, rates):
    with SummaryWriter(folder) as writer:
        return [_descent(rate, _Sorting(writer, f"rate={rate}")) for rate in rates]


def one_digit(folder, rates):
    return _in_folders(folder, rates, "rate={:.0e}")


class _Sorting:
    """A writer that gives scalars to ``add_scalars``, under a key."""

    def __init__(self, writer, key):
        self.writer, self.key = writer, key

    def add_scalar(self, tag, value, step):
        self.writer.add_scalars(tag, {self.key: value}, step)


class _Renaming:
    """A writer that gives scalars another tag, and lets only those of one tag pass."""

    def __init__(self, writer, tag, only="loss"):
        self.writer, self.tag, self.only = writer, tag, only

    def add_scalar(self, tag, value, step):
        if tag == self.only:
            self.writer.add_scalar(self.tag, value, step)

    def add_histogram(self, tag, values, step):
        self.writer.add_histogram(tag, values, step)


# Reading a stranger's log -----------------------------------------------------------------------


def _tries(values, purge=None, first=None):
    """What one program logs, from step ``first`` on (without it, from ``purge`` or from 0)."""
    first = (purge or 0) if first is None else first
    train = [min(1.0, v + 0.05) for v in values]
    return {"validation": values, "train": train, "purge": purge, "first": first}


def _of_logged_runs(answer, runs):
    with _folder() as folder:
        for name, writers in runs.items():
            for number, logged in enumerate(writers):
                _log_tries(folder / name, logged, clock=1_700_000_000 + 1000 * number)
        found = answer(folder)
    return tuple(found) if isinstance(found, (tuple, list)) else found


def _log_tries(folder, logged, clock):
    purge = logged.get("purge")
    with SummaryWriter(folder, purge_step=purge, filename_suffix=f".{clock}") as writer:
        for split in ("train", "validation"):
            for n, value in enumerate(logged.get(split, []), logged.get("first", 0)):
                writer.add_scalar(f"accuracy/{split}", value, n, walltime=clock + n)
    # Readers take a run's files in the order of their names, which begin with the second.
    for file in folder.glob("events.out.tfevents.*"):
        if file.name.endswith(f".{clock}"):
            file.rename(folder / f"events.out.tfevents.{clock}.host")


@chapter.exercise(
    cases=lambda: [
        Case("two runs", {"a": [_tries([0.5, 0.8437, 0.7])], "b": [_tries([0.4, 0.6])]}),
        Case(
            "a run that only logs the training",
            {"a": [_tries([0.5, 0.6])], "b": [{"train": [0.9]}]},
        ),
        Case(
            "a run that diverges", {"a": [_tries([math.nan, math.nan])], "b": [_tries([0.3, 0.2])]}
        ),
        Case(
            "a run that crashed at step 4 and was resumed from step 2",
            {
                "a": [_tries([0.2, 0.5, 0.9, 0.95]), _tries([0.6, 0.7, 0.8], purge=2)],
                "b": [_tries([0.75])],
            },
        ),
        Case(
            "a run that crashed at step 5 and, resumed from step 2, has not come so far",
            {
                "a": [_tries([0.2, 0.5, 0.6, 0.7, 0.95]), _tries([0.6, 0.7], purge=2)],
                "b": [_tries([0.75])],
            },
        ),
        Case(
            "a run resumed from step 2 that validates from step 4 on",
            {
                "a": [_tries([0.2, 0.5, 0.9, 0.8]), _tries([0.6, 0.7], purge=2, first=4)],
                "b": [_tries([0.75])],
            },
        ),
        Case(
            "a run that diverges after its best step",
            {"a": [_tries([0.5, 0.9, math.nan])], "b": [_tries([0.3, 0.6])]},
        ),
        Case(
            "a run that diverges and comes back",
            {"a": [_tries([0.5, 0.9, math.nan, 0.8])], "b": [_tries([0.7, 0.4])]},
        ),
        Case(
            "runs in folders of folders", {"cnn/1": [_tries([0.5])], "mlp/2": [_tries([0.1, 0.7])]}
        ),
    ],
    observe=_of_logged_runs,
)
def best(folder):
    """Return `(run, step, value)`."""
    points = boards.scalars(folder, "accuracy/validation")
    known = [point for point in points if point.value == point.value]  # nan is unlike itself
    top = max(known, key=lambda point: point.value)
    return top.run, top.step, top.value


def _top(points):
    point = max(points, key=lambda point: -math.inf if math.isnan(point.value) else point.value)
    return point.run, point.step, point.value


def with_orphans(folder):
    return _top(boards.scalars(folder, "accuracy/validation", purge=False))


def the_last_of_each_step(folder):
    points = boards.scalars(folder, "accuracy/validation", purge=False)
    return _top({(point.run, point.step): point for point in points}.values())


def runs_without_nan(folder):
    points = boards.scalars(folder, "accuracy/validation")
    diverged = {point.run for point in points if math.isnan(point.value)}
    return _top([point for point in points if point.run not in diverged])


def from_where_steps_go_back(folder):
    kept = []
    for point in boards.scalars(folder, "accuracy/validation", purge=False):
        kept = [p for p in kept if p.run != point.run or p.step < point.step]
        kept.append(point)
    return _top(kept)


def of_any_tag(folder):
    return _top(boards.scalars(folder))


def keeps_nan(folder):
    point = max(boards.scalars(folder, "accuracy/validation"), key=lambda point: point.value)
    return point.run, point.step, point.value


def sorts_nan(folder):
    points = boards.scalars(folder, "accuracy/validation")
    point = sorted(points, key=lambda point: point.value)[-1]
    return point.run, point.step, point.value


def rounds(folder):
    run, step, value = _top(boards.scalars(folder, "accuracy/validation"))
    return run, step, round(value, 2)


def by_the_last(folder):
    return _top({p.run: p for p in boards.scalars(folder, "accuracy/validation")}.values())


def the_whole_row(folder):
    points = boards.scalars(folder, "accuracy/validation")
    return max((p for p in points if not math.isnan(p.value)), key=lambda point: point.value)
