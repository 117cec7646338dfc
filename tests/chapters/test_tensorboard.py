"""Answers to chapter 06 beside the references and mistakes: other right ones, and half answers."""

from __future__ import annotations

import copy
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from chapters.tensorboard import exercises as ex
from helpers import boards

# Right in another way


def looks_at_a_copy(model, images):
    with torch.inference_mode():
        logits = copy.deepcopy(model).eval()(images)
    classes = logits.argmax(dim=-1).clone()
    chosen = logits.log_softmax(dim=-1).exp()[torch.arange(len(images)), classes]
    return classes, chosen.clone()


def counts_its_steps(model, batches, optimizer, writer, epoch, logged=lambda gradient: True):
    step, losses, sizes = epoch * len(batches), [], []
    for images, labels in batches:
        model.zero_grad()
        loss = nn.CrossEntropyLoss()(model(images), labels)
        loss.backward()
        writer.add_scalar("loss/batch", loss, global_step=step)
        if len(losses) == len(batches) - 1:
            for name, parameter in model.named_parameters():
                if parameter.requires_grad and logged(parameter.grad):
                    writer.add_histogram(f"gradient/{name}", parameter.grad, step)
        optimizer.step()
        losses.append(loss.detach())
        sizes.append(len(labels))
        step += 1
    mean = (torch.stack(losses) * torch.tensor(sizes)).sum() / sum(sizes)
    writer.add_scalar("loss/epoch", mean, step - 1)


def empties_the_gradients_after_logging_them(model, batches, optimizer, writer, epoch):
    counts_its_steps(model, batches, optimizer, writer, epoch)
    optimizer.zero_grad()


def takes_weighted_means(values, weight):
    smoothed = []
    for n in range(1, len(values) + 1):
        factors = [weight**age for age in reversed(range(n))]
        products = [factor * value for factor, value in zip(factors, values, strict=False)]
        smoothed.append(sum(products) / sum(factors))
    return smoothed


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
        name = f"{time.strftime('%Y-%m-%dT%H-%M-%S')}_lr={rate}"
        with SummaryWriter(os.path.join(folder, name)) as writer:
            losses.append(descend(rate, writer))
    return losses


def closes_no_writer(folder, rates):
    return [descend(rate, SummaryWriter(Path(folder, f"{rate}"))) for rate in rates]


def logs_column_by_column(writer, logits, labels, step):
    truth = F.one_hot(labels, logits.shape[1])
    scores = logits.double().exp()
    columns = (scores / scores.sum(dim=1, keepdim=True)).T
    for c, (is_class, column) in enumerate(zip(truth.T, columns, strict=True)):
        writer.add_pr_curve(f"pr/{c}", is_class, column.float(), global_step=step)


def all_zero(gradients):
    return all(np.abs(row.edges[1:][row.counts > 0]).max() <= 1e-12 for row in gradients)


def share_moved(first, last):
    edges = np.union1d(first.edges, last.edges)
    below = [
        np.interp(edges, row.edges, np.concatenate([[0], np.cumsum(row.counts)]))
        for row in (first, last)
    ]
    return np.abs(np.diff(below[0]) - np.diff(below[1])).sum() / 2 / 400


def mean_moved(first, last):
    means = [
        np.average((row.edges[1:] + row.edges[:-1]) / 2, weights=row.counts)
        for row in (first, last)
    ]
    return abs(means[0] - means[1])


def diagnosed_by(moved=share_moved, least=0.01, cut=lambda tag: tag.split("/", 1)):
    """A diagnosis that calls a layer learning where at least so much has moved."""

    def diagnose(folder):
        layers = {}
        for row in boards.histograms(folder):
            kind, name = cut(row.tag)
            layers.setdefault(name, {"weight": [], "gradient": []})[kind].append(row)
        states = {}
        for name, rows in layers.items():
            if not rows["gradient"]:
                states[name] = "frozen"
            elif all_zero(rows["gradient"]):
                states[name] = "dead"
            else:
                learning = moved(rows["weight"][0], rows["weight"][-1]) >= least
                states[name] = "learning" if learning else "stuck"
        return states

    return diagnose


def goes_run_by_run(folder):
    top = ("", 0, -math.inf)
    for run in boards.runs(folder):
        for point in boards.scalars(folder, run=run):
            if point.tag == "accuracy/validation" and point.value > top[2]:
                top = (run, point.step, point.value)
    return top


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.look, looks_at_a_copy),
        (ex.train_epoch, counts_its_steps),
        (ex.train_epoch, empties_the_gradients_after_logging_them),
        (ex.smooth, takes_weighted_means),
        (ex.sweep, names_runs_by_time_too),
        (ex.sweep, closes_no_writer),
        (ex.log_pr_curves, logs_column_by_column),
        (ex.diagnose, diagnosed_by()),
        (ex.best, goes_run_by_run),
    ],
)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card


# Each of these does most of what its prompt asks, and leaves out one thing that matters.


def empties_gradients(model, images):
    model.zero_grad()
    return looks_at_a_copy(model, images)


def makes_everything_ask_for_gradients(model, images):
    model.requires_grad_(True)
    return looks_at_a_copy(model, images)


def records_afterwards(model, images):
    result = looks_at_a_copy(model, images)
    torch.set_grad_enabled(True)
    return result


def draws_a_random_number(model, images):
    torch.rand(1)
    return looks_at_a_copy(model, images)


def trains_in_eval_mode(model, *rest):
    model.eval()
    counts_its_steps(model, *rest)
    model.train()


def leaves_eval_mode_behind(model, *rest):
    counts_its_steps(model, *rest)
    model.eval()


def logs_no_histogram_of_zeros(*arguments):
    counts_its_steps(*arguments, logged=torch.Tensor.any)


def rounds_to_four_decimals(folder, rates):
    losses = []
    for rate in rates:
        with SummaryWriter(Path(folder, f"lr={rate:.4f}")) as writer:
            losses.append(descend(rate, writer))
    return losses


def logs_as_many_classes_as_labels(writer, logits, labels, step):
    for c in range(int(labels.max()) + 1):
        writer.add_pr_curve(f"pr/{c}", labels == c, logits.softmax(dim=1)[:, c], step)


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.look, empties_gradients),
        (ex.look, makes_everything_ask_for_gradients),
        (ex.look, records_afterwards),
        (ex.look, draws_a_random_number),
        (ex.train_epoch, trains_in_eval_mode),
        (ex.train_epoch, leaves_eval_mode_behind),
        (ex.train_epoch, logs_no_histogram_of_zeros),
        (ex.sweep, rounds_to_four_decimals),
        (ex.log_pr_curves, logs_as_many_classes_as_labels),
        (ex.diagnose, diagnosed_by(mean_moved)),
        (ex.diagnose, diagnosed_by(mean_moved, least=1e-4)),
        (ex.diagnose, diagnosed_by(mean_moved, least=0.1)),
        (ex.diagnose, diagnosed_by(least=0.05)),
        (ex.diagnose, diagnosed_by(least=0.001)),
        (ex.diagnose, diagnosed_by(cut=lambda tag: (tag.split("/")[0], tag.split("/")[-1]))),
    ],
)
def test_half_an_answer_is_not_right(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "wrong", card


def test_a_rounded_rate_is_not_called_a_number_without_meaning():
    assert "which is which" not in ex.sweep.check(rounds_to_four_decimals).text
