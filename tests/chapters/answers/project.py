"""Answers to the exercises of chapter 10."""

import math
import random

import numpy as np
import torch


def split_by_writer_in_plain_python(writers, share, seed):
    numbers = writers.tolist()
    people = sorted(set(numbers))
    held_out = set(random.Random(seed).sample(people, max(1, round(share * len(people)))))
    train = [row for row, person in enumerate(numbers) if person not in held_out]
    return train, [row for row, person in enumerate(numbers) if person in held_out]


def split_by_writer_with_numpy(writers, share, seed):
    writers = writers.numpy()
    people = np.random.default_rng(seed).permutation(np.unique(writers))
    held_out = np.isin(writers, people[: max(1, round(share * len(people)))])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def refuse_row_by_row(images, labels, path):
    for row, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        if not all(math.isfinite(pixel) for pixel in image.flatten().tolist()):
            raise ValueError(f"In {path} the image of row {row} is not finite.")
        if label not in range(10):
            raise ValueError(f"In {path} the label of row {row} is {label}.")


def refuse_all_at_once(images, labels, path):
    bad = ~torch.isfinite(images.sum(dim=(1, 2))) | (labels < 0) | (labels > 9)
    if bad.any():
        raise ValueError(path + ": rows " + ", ".join(map(str, bad.nonzero().flatten().tolist())))


def calibration_error_by_sums(confidence, right, bins):
    gaps = torch.zeros(bins, dtype=torch.float64)
    place = (confidence * bins).long().clamp(max=bins - 1)
    gaps.index_add_(0, place, right.double() - confidence.double())
    return (gaps.abs().sum() / len(right)).item()


def calibration_error_with_numpy(confidence, right, bins):
    confidence, right = confidence.double().numpy(), right.numpy().astype(float)
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    total = 0.0
    for number in np.unique(place):
        inside = place == number
        total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


RIGHT = {
    "split_by_writer": [split_by_writer_in_plain_python, split_by_writer_with_numpy],
    "refuse": [refuse_row_by_row, refuse_all_at_once],
    "calibration_error": [calibration_error_by_sums, calibration_error_with_numpy],
}
WRONG = {
    "split_by_writer": [
        (
            "round(share",
            "math.ceil(share",
            "    people",
            "    import math\n\n    people",
            "rounded",
        ),
        (
            "torch.Generator().manual_seed(seed)",
            "None",
            "The same seed gives the same split",
        ),
        ("(~held_out).nonzero().squeeze(1),", "~held_out,", "Row numbers are expected"),
    ],
    "refuse": [
        ("ValueError", "IndexError", "ValueError"),
        (
            "if not good.all()",
            "if True",
            "(~good).nonzero()[0].item()",
            "0",
            "for good rows nothing is",
        ),
    ],
    "calibration_error": [
        ("return error", "return 100 * error", "weighed by its share"),
    ],
}
