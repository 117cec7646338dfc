"""Answers to chapter 06 that are wrong in ways that a check could overlook.

Each does most of what its prompt asks, and each leaves out one thing that matters.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from helpers import boards
from chapters.tensorboard import exercises as ex


def says(exercise, mistake):
    """What the room says about one of its mistakes, by the name of its function."""
    return next(m.says for m in exercise.mistakes if m.answer.__name__ == mistake)


# What a writer does


def test_a_step_of_none_is_told_that_a_step_is_a_number():
    steps = {**ex.on_disk.answer_right, "[point.step for point in points]": [None, None, None]}
    assert ex.on_disk.check(steps).text == says(ex.on_disk, "no_step_is_none")


# Looking


def looked(model, images):
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    for module, mode in modes.items():
        module.training = mode
    return classes, probabilities


def empties_gradients(model, images):
    model.zero_grad()
    return looked(model, images)


def everything_asks_for_gradients(model, images):
    model.requires_grad_(False)
    result = looked(model, images)
    model.requires_grad_(True)
    return result


def modes_of_two_levels(model, images):
    modes = {part: part.training for part in (model, *model.children())}
    result = looked(model, images)
    for part, mode in modes.items():
        part.train(mode)
    return result


def records_afterwards(model, images):
    torch.set_grad_enabled(False)
    result = looked(model, images)
    torch.set_grad_enabled(True)
    return result


def at_a_random_copy(model, images):
    torch.rand(1)
    return looked(model, images)


@pytest.mark.parametrize(
    "answer",
    [
        empties_gradients,
        everything_asks_for_gradients,
        modes_of_two_levels,
        records_afterwards,
        at_a_random_copy,
    ],
)
def test_half_a_look_is_not_right(answer):
    assert ex.look.check(looked).state == "right"
    assert ex.look.check(answer).state == "wrong"


# Logging an epoch


def epoch_logged(model, batches, optimizer, writer, epoch, histogram=lambda gradient: True):
    losses, sizes = [], []
    for step, (images, labels) in enumerate(batches, epoch * len(batches)):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        writer.add_scalar("loss/batch", loss, step)
        losses.append(loss.item())
        sizes.append(len(labels))
    mean = sum(a * b for a, b in zip(losses, sizes, strict=True)) / sum(sizes)
    writer.add_scalar("loss/epoch", mean, step)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and histogram(parameter.grad):
            writer.add_histogram(f"gradient/{name}", parameter.grad, step)


def trains_in_eval_mode(model, *rest):
    model.eval()
    epoch_logged(model, *rest)
    model.train()


def leaves_eval_mode_behind(model, *rest):
    model.train()
    epoch_logged(model, *rest)
    model.eval()


def no_histogram_of_zeros(*arguments):
    epoch_logged(*arguments, histogram=torch.Tensor.any)


def no_histogram(*arguments):
    epoch_logged(*arguments, histogram=lambda gradient: False)


@pytest.mark.parametrize(
    "answer", [trains_in_eval_mode, leaves_eval_mode_behind, no_histogram_of_zeros]
)
def test_half_an_epoch_is_not_right(answer):
    assert ex.train_epoch.check(epoch_logged).state == "right"
    assert ex.train_epoch.check(answer).state == "wrong"


def test_who_logs_no_histogram_is_not_told_of_lost_gradients():
    said = ex.train_epoch.check(no_histogram).text
    assert said == says(ex.train_epoch, "without_histograms")


def test_who_empties_the_gradients_after_logging_them_is_right():
    def tidy(model, batches, optimizer, writer, epoch):
        epoch_logged(model, batches, optimizer, writer, epoch)
        optimizer.zero_grad()

    assert ex.train_epoch.check(tidy).state == "right"


# Precision and recall


def curves_logged(writer, probabilities, labels, step, classes):
    for c in classes:
        writer.add_pr_curve(f"pr/{c}", labels == c, probabilities[:, c], step)


def classes_of_the_labels(writer, logits, labels, step):
    curves_logged(writer, logits.softmax(dim=1), labels, step, labels.unique().tolist())


def softmax_in_place(writer, logits, labels, step):
    logits.copy_(logits.softmax(dim=1))
    curves_logged(writer, logits, labels, step, range(logits.shape[1]))


def as_many_classes_as_labels(writer, logits, labels, step):
    curves_logged(writer, logits.softmax(dim=1), labels, step, range(int(labels.max()) + 1))


@pytest.mark.parametrize(
    "answer", [classes_of_the_labels, softmax_in_place, as_many_classes_as_labels]
)
def test_half_the_curves_are_not_right(answer):
    assert ex.log_pr_curves.check(answer).state == "wrong"


# A diagnosis from the log


def diagnosed(folder, moved=None, dead=None, name=lambda tag: tag.partition("/")[2], least=0.01):
    rows, states = {}, {}
    for row in boards.histograms(folder):
        rows.setdefault((name(row.tag), row.tag.partition("/")[0]), []).append(row)
    for layer in {layer for layer, _ in rows}:
        weights, gradients = (rows.get((layer, k), []) for k in ("weight", "gradient"))
        if not gradients:
            states[layer] = "frozen"
        elif (dead or all_zero)(gradients):
            states[layer] = "dead"
        else:
            share = (moved or by_edges)(weights[0], weights[-1])
            states[layer] = "stuck" if share < least else "learning"
    return states


def all_zero(rows):
    return all(max(abs(row.edges[1:][row.counts > 0])) <= 1e-12 for row in rows)


def by_edges(one, other):
    before, after = (dict(zip(row.edges[1:], row.counts, strict=True)) for row in (one, other))
    return sum(abs(before.get(e, 0) - after.get(e, 0)) for e in before | after) / 2 / 400


def by_place(one, other):
    pairs = zip(one.counts, other.counts, strict=False)
    return sum(abs(a - b) for a, b in pairs) / 2 / sum(one.counts)


def by_the_mean(one, other):
    means = [
        ((row.edges[1:] + row.edges[:-1]) / 2 * row.counts).sum() / sum(row.counts)
        for row in (one, other)
    ]
    return abs(means[0] - means[1])


def one_bin(rows):
    return all((row.counts > 0).sum() == 1 for row in rows)


@pytest.mark.parametrize(
    "options",
    [
        {"moved": by_place},
        {"moved": by_the_mean},
        {"moved": by_the_mean, "least": 1e-4},
        {"moved": by_the_mean, "least": 0.1},
        {"least": 0.05},
        {"least": 0.1},
        {"least": 0.001},
        {"dead": one_bin},
        {"name": lambda tag: tag.split("/")[1]},
        {"name": lambda tag: tag.split("/")[-1]},
    ],
    ids=[
        "bins by place",
        "means",
        "means, a low threshold",
        "means, a high threshold",
        "1 in 20",
        "1 in 10",
        "1 in 1000",
        "one bin is dead",
        "second word of the tag",
        "last word of the tag",
    ],
)
def test_half_a_diagnosis_is_not_right(options):
    assert ex.diagnose.check(lambda folder: diagnosed(folder)).state == "right"
    assert ex.diagnose.check(lambda folder: diagnosed(folder, **options)).state == "wrong"


# One directory a run


def descents(paths, rates):
    losses = []
    for path, rate in zip(paths, rates, strict=True):
        weight = 4.0
        with SummaryWriter(path) as writer:
            for step in range(20):
                loss = (weight - 1) ** 2
                writer.add_scalar("loss", loss, step)
                weight -= rate * 2 * (weight - 1)
        losses.append(loss)
    return losses


def named(folder, rates, form=str):
    return descents([Path(folder, f"lr={form(rate)}") for rate in rates], rates)


def after_emptying(folder, rates):
    shutil.rmtree(folder)
    return named(folder, rates)


def each_once(folder, rates):
    return named(folder, list(dict.fromkeys(rates)))


def in_six_digits(folder, rates):
    return named(folder, rates, "{:g}".format)


def in_four_decimals(folder, rates):
    return named(folder, rates, "{:.4f}".format)


@pytest.mark.parametrize("answer", [after_emptying, each_once, in_six_digits, in_four_decimals])
def test_half_a_sweep_is_not_right(answer):
    assert ex.sweep.check(answer).state == "wrong"


def test_a_run_beside_the_folder_is_not_one_without_a_folder():
    def beside(folder, rates):
        return descents([f"{folder}_lr={rate}" for rate in rates], rates)

    assert ex.sweep.check(beside).text == says(ex.sweep, "beside_the_folder")


def test_a_rounded_rate_is_not_called_a_number_without_meaning():
    assert ex.sweep.check(in_four_decimals).text != says(ex.sweep, "numbered")


# The best checkpoint


def top(points):
    best = max((p for p in points if not math.isnan(p.value)), key=lambda point: point.value)
    return best.run, best.step, best.value


def later_values_win(folder):
    points = boards.scalars(folder, "accuracy/validation", purge=False)
    return top({(point.run, point.step): point for point in points}.values())


def without_diverged_runs(folder):
    points = boards.scalars(folder, "accuracy/validation")
    diverged = {point.run for point in points if math.isnan(point.value)}
    return top([point for point in points if point.run not in diverged])


def without_what_a_step_back_hides(folder):
    kept = []
    for point in boards.scalars(folder, "accuracy/validation", purge=False):
        kept = [p for p in kept if (p.run, p.step) < (point.run, point.step) or p.run != point.run]
        kept.append(point)
    return top(kept)


@pytest.mark.parametrize(
    "answer", [later_values_win, without_diverged_runs, without_what_a_step_back_hides]
)
def test_half_the_best_is_not_right(answer):
    assert ex.best.check(answer).state == "wrong"


# The smoothing slider


def from_the_first_value(values, weight):
    last, smoothed = values[0], []
    for value in values:
        last = last * weight + value * (1 - weight)
        smoothed.append(last)
    return smoothed


def exchanged(values, weight):
    average, smoothed = 0.0, []
    for n, value in enumerate(values):
        average = (1 - weight) * average + weight * value
        smoothed.append(average / (1 - weight ** (n + 1)))
    return smoothed


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        (from_the_first_value, "begins_as_older_boards"),
        (exchanged, "exchanged_in_the_average"),
    ],
)
def test_another_average_is_told_which_it_is(answer, mistake):
    assert ex.smooth.check(answer).text == says(ex.smooth, mistake)
