"""Which sample goes to which worker and batch: computed, and drawn."""

from __future__ import annotations

from collections import Counter
from itertools import chain, zip_longest

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from helpers.plots import COLOURS

SOURCES = ("data set", "stream", "sharded stream")
TWICE = COLOURS[1]


def plan(
    samples: int, batch_size: int, workers: int, source: str, shuffle: bool, drop_last: bool
) -> list[tuple[int, list[int]]]:
    """The batches of one epoch in the order in which a ``DataLoader`` gives them.

    Each is a pair of the worker (0 also for the main process, where ``workers`` is 0) and its
    samples. Of a data set (map style), the loader hands out batches of numbers in turn. Of a
    stream, each worker makes batches of what it reads: everything, or, where it is sharded, every
    ``workers``-th sample. ``shuffle`` counts for a data set only. Raises ``ValueError`` for an
    unknown ``source``.
    """
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}: it must be one of {SOURCES}")
    n_workers = max(workers, 1)
    if source == "data set":
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(samples, generator=generator) if shuffle else torch.arange(samples)
        batches = _cut(order.tolist(), batch_size, drop_last)
        return [(place % n_workers, batch) for place, batch in enumerate(batches)]
    step = n_workers if source == "sharded stream" else 1
    reads = [range(worker if step > 1 else 0, samples, step) for worker in range(n_workers)]
    rounds = zip_longest(*(_cut(list(read), batch_size, drop_last) for read in reads))
    return [(worker, batch) for turn in rounds for worker, batch in enumerate(turn) if batch]


def draw(
    samples: int = 22,
    batch_size: int = 4,
    workers: int = 2,
    source: str = "data set",
    shuffle: bool = False,
    drop_last: bool = False,
) -> Figure:
    """One epoch: a row for each worker, a column for each batch, in it the numbers of its samples.

    Samples that come more than once stand in orange frames. The title counts.
    """
    batches = plan(samples, batch_size, workers, source, shuffle, drop_last)
    times = Counter(chain.from_iterable(batch for _, batch in batches))
    rows = max(workers, 1)
    height = max(2.4, 0.28 * rows * (batch_size + 1) + 1.1)
    figure, axes = plt.subplots(figsize=(max(5.5, 0.5 * len(batches) + 1.6), height))
    for place, (worker, batch) in enumerate(batches):
        for line, sample in enumerate(batch):
            y = worker * (batch_size + 1) + line
            colour = TWICE if times[sample] > 1 else COLOURS[0]
            box = Rectangle(
                (place + 0.55, y), 0.9, 0.9, facecolor="white", edgecolor=colour, lw=1.5
            )
            axes.add_patch(box)
            axes.text(place + 1, y + 0.47, str(sample), ha="center", va="center", size=9)
    names = [f"worker {worker}" for worker in range(workers)] or ["main\nprocess"]
    middles = [worker * (batch_size + 1) + batch_size / 2 for worker in range(rows)]
    axes.set_yticks(middles, names)
    axes.set(
        title=_finding(samples, times),
        xlabel="batch, in the order of arrival",
        xlim=(0.4, max(len(batches), 1) + 0.6),
        ylim=(rows * (batch_size + 1) - 0.5, -0.5),
        xticks=range(1, len(batches) + 1),
    )
    axes.grid(False)
    return figure


def _cut(order: list[int], size: int, drop_last: bool) -> list[list[int]]:
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    return [batch for batch in batches if len(batch) == size or not drop_last]


def _finding(samples: int, times: Counter) -> str:
    missing = samples - len(times)
    repeated = sum(count > 1 for count in times.values())
    if repeated:
        return f"{repeated} of {samples} samples come {max(times.values())} times"
    return f"{missing} of {samples} samples never come" if missing else "Each sample comes once"
