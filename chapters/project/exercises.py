"""The exercises of chapter 10: what a project has to get right before and after its training."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from helpers.exercises import Case, Exercises
from helpers.exercises.trial import Shortfall, require

chapter = Exercises(__file__)
report = chapter.report


@chapter.prediction
def ceiling():
    truth = torch.arange(1600) % 10
    labels = truth.clone()
    labels[::16] = (truth[::16] + 1) % 10
    by_heart = labels
    return {
        "reads every digit right": (truth == labels).float().mean().item(),
        "knows every label by heart": (by_heart == labels).float().mean().item(),
    }


def _splits(answer, writers, share, seed):
    n, people = len(writers), {*writers.tolist()}
    train, val = _rows(answer(writers.clone(), share, seed), n)
    yield "rows", sorted(train + val) == list(range(n))
    yield "writers", not {*writers[train].tolist()} & {*writers[val].tolist()}
    yield "share", len({*writers[val].tolist()})
    yield "order", train == sorted(train) and val == sorted(val)
    yield "repeats", _rows(answer(writers.clone(), share, seed), n) == (train, val)
    if len(people) > 4:
        others = [_rows(answer(writers.clone(), share, s), n)[1] for s in range(12)]
        chosen = {person for rows in others for person in writers[rows].tolist()}
        yield "seeds", len(chosen) > max(1, round(share * len(people)))


def _rows(result, n):
    if type(result) not in (tuple, list) or len(result) != 2:
        require(result, tuple)
        raise Shortfall("Two are expected: the rows to train on, and the rows to validate.")
    parts = []
    for part in result:
        part = torch.as_tensor(part)
        if part.dtype == torch.bool or part.is_floating_point() or part.ndim != 1:
            raise Shortfall(f"Row numbers are expected, {part.dtype} of {part.ndim} axes came.")
        parts.append(part.tolist())
        if any(not 0 <= row < n for row in parts[-1]):
            raise Shortfall(f"The {n} rows have the numbers 0 to {n - 1}.")
    return tuple(parts)


def _writers(people, rows, first=0):
    numbers = first + 3 * torch.arange(people)
    return numbers[torch.randperm(rows) % people]


@chapter.exercise(
    observe=_splits,
    cases=lambda: [
        Case("40 rows of 8 writers, a quarter", _writers(8, 40), 0.25, 0),
        Case("45 rows of 9 writers, a quarter", _writers(9, 45), 0.25, 4),
        Case("200 rows of 30 writers, a fifth", _writers(30, 200, 100), 0.2, 1),
        Case("9 rows of 3 writers, a tenth", _writers(3, 9, 7), 0.1, 2),
        Case("60 rows of 11 writers, a third", _writers(11, 60), 1 / 3, 3),
    ],
)
def split_by_writer(writers, share, seed):
    people = writers.unique()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(people), generator=generator)
    count = max(1, round(share * len(people)))
    held_out = torch.isin(writers, people[order[:count]])
    return (~held_out).nonzero().squeeze(1), held_out.nonzero().squeeze(1)


@chapter.prediction
def resumed_log():
    import tempfile

    from torch.utils.tensorboard import SummaryWriter

    from helpers import boards

    found = {}
    for name, purge in {"no purge_step": None, "purge_step=3": 3, "purge_step=4": 4}.items():
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            for steps, purged in (((1, 2, 3, 4, 5), None), ((4, 5, 6), purge)):
                with SummaryWriter(folder, purge_step=purged) as writer:
                    for step in steps:
                        writer.add_scalar("train/loss", 1 / step, step)
            logged = [point.step for point in boards.scalars(Path(folder), "train/loss")]
        found[name] = [step for step in range(1, 7) if logged.count(step) != 1]
    return found


def _refusal(answer, images, labels, path, row):
    try:
        answer(images.clone(), labels.clone(), path)
    except ValueError as error:
        yield "refuses", True
        yield "file", path in str(error)
        numbers = re.findall(r"\d+", str(error).replace(path, ""))
        yield "row", row is None or str(row) in numbers
    else:
        yield "refuses", False
        yield "file", False
        yield "row", False


def _scans(row=None, value=None, label=None, n=40):
    images, labels = torch.rand(n, 4, 4), torch.arange(n) % 10
    if value is not None:
        images[row, 1, 2] = value
    if label is not None:
        labels[row] = label
    return images, labels, "train.npz", row


@chapter.exercise(
    observe=_refusal,
    cases=lambda: [
        Case("good rows", *_scans()),
        Case("NaN in row 37", *_scans(37, float("nan"))),
        Case("an infinite pixel in row 21", *_scans(21, float("inf"))),
        Case("minus infinity in row 33", *_scans(33, float("-inf"))),
        Case("a label 10 in row 26", *_scans(26, label=10)),
        Case("a label -1 in row 39", *_scans(39, label=-1)),
        Case("NaN in row 0", *_scans(0, float("nan"))),
        Case("no rows", *_scans(n=0)),
    ],
)
def refuse(images, labels, path):
    checks = [
        (images.isfinite().flatten(1).all(dim=1), "a pixel is NaN or infinite"),
        ((labels >= 0) & (labels <= 9), "the label is not 0 to 9"),
    ]
    for good, what in checks:
        if not good.all():
            row = (~good).nonzero()[0].item()
            raise ValueError(f"{path}, row {row}: {what}")


def _by_turns():
    """Too sure and too modest in turn, from bin to bin; the last holds the confidence 1, too."""
    confidence = torch.tensor([0.1, 0.4, 0.6, 0.9, 1.0]).repeat_interleave(6)
    return confidence, (torch.arange(30) // 6 % 2 == 1)


def _answers(n, power=1.0, top=False):
    confidence = 0.1 + 0.89 * torch.rand(n)
    right = torch.rand(n) < confidence**power
    if top:
        confidence[: n // 4], right[: n // 8] = 1.0, False
    return confidence, right


@chapter.exercise(
    cases=lambda: [
        Case("200 answers, about as sure as right, 10 bins", *_answers(200), 10),
        Case("300 answers that are too sure, 10 bins", *_answers(300, 3.0), 10),
        Case("100 answers that are not sure enough, 5 bins", *_answers(100, 0.3), 5),
        Case(
            "80 answers, a quarter of them with the confidence 1, 4 bins", *_answers(80, 1, True), 4
        ),
        Case("30 answers, too sure and too modest in turn, 4 bins", *_by_turns(), 4),
        Case("one answer, wrong, 10 bins", torch.tensor([0.83]), torch.tensor([False]), 10),
        Case(
            "two that cancel out, 2 bins", torch.tensor([0.2, 0.8]), torch.tensor([True, False]), 2
        ),
    ],
)
def calibration_error(confidence, right, bins):
    place = (confidence * bins).long().clamp(max=bins - 1)
    error = 0.0
    for number in range(bins):
        inside = place == number
        if inside.any():
            gap = right[inside].float().mean() - confidence[inside].mean()
            error += inside.float().mean().item() * gap.abs().item()
    return error
