"""Draws what TensorBoard's dashboards show, from the same event files.

All points are drawn that ``reading`` gives. The board draws a sample of them, and may draw points
that a restart with ``purge_step`` hides here.

Each function returns a figure in the course's look. ``title`` states what the figure shows; without
one, the tag stands there. All raise what the functions in ``reading`` raise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from helpers import plots
from helpers.boards import reading
from helpers.boards.events import LogDir
from helpers.boards.rows import Histogram

BINS = 30  # as many as TensorBoard draws
MOST_OUTLINES = 50
# Where a normal distribution is ±0.5, ±1 and ±1.5 standard deviations from its mean; and all of it.
BANDS = ((0.0, 100.0), (6.68, 93.32), (15.87, 84.13), (30.85, 69.15))
MOST_COLUMNS = 4


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """TensorBoard's smoothing: an exponential moving average without the bias to its start at 0.

    With ``weight`` w in [0, 1), a value n steps back counts w to the n. Values that are not finite
    stay as they are and are left out of the average; a constant series stays constant. Raises
    ``ValueError`` for another weight. Source: ``resmoothDataset`` in TensorBoard's scalar chart.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"weight must be in [0, 1), got {weight}: TensorBoard's slider ends there")
    average, weights, result = 0.0, 0.0, []
    constant = len(set(values)) == 1
    for value in values:
        if constant or not math.isfinite(value):
            result.append(value)
            continue
        average = weight * average + (1 - weight) * value
        weights = weight * weights + (1 - weight)
        result.append(average / weights)
    return result


def draw_scalars(
    logdir: LogDir, tag: str, smoothing: float = 0.0, *, title: str | None = None
) -> Figure:
    """Draw one line a run over the steps, as on the SCALARS dashboard.

    With ``smoothing``, the logged values stay as a faint line behind the smoothed one. A run
    without a finite value has no line, and is named below the axis.
    """
    lines = []
    for run, points in groupby(reading.scalars(logdir, tag), key=lambda point: point.run):
        steps, values = zip(*((point.step, point.value) for point in points), strict=True)
        lines.append((plots.plain(run), steps, values, smoothed(values, smoothing)))
    figure, axes = plt.subplots()
    lineless = []
    for run, steps, values, smooth in lines:
        if not np.isfinite(values).any():
            lineless.append(run)
            continue
        (line,) = axes.plot(steps, smooth, label=run, marker="o")
        line.set_markevery(plots.alone(values))
        if smoothing > 0:
            axes.plot(steps, values, "-", color=line.get_color(), alpha=0.3, lw=1, label="_logged")
    without = f" (without a finite value: {', '.join(lineless)})" if lineless else ""
    axes.set(title=title or plots.plain(tag), xlabel=f"step{without}", ylabel=plots.plain(tag))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len({line.get_label() for line in axes.lines} - {"_logged"}) > plots.MOST_LABELS:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handlelength=3)
    else:
        plots.label_ends(axes)
    return figure


def draw_histograms(logdir: LogDir, tag: str, run: str, *, title: str | None = None) -> Figure:
    """Draw one outline a step, as on the HISTOGRAMS dashboard: later ones darker and in front.

    Heights can be compared within the figure. At most 50 steps are drawn.
    """
    rows = reading.histograms(logdir, tag, run)
    rows = rows[:: -math.ceil(len(rows) / MOST_OUTLINES)][::-1]  # the last one is among them
    edges = np.linspace(*_range(rows), BINS + 1)
    heights = np.array([_rebinned(row, edges) for row in rows])
    heights *= 0.25 * max(len(rows), 4) / max(heights.max(), 1e-12)  # the highest takes a quarter
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    middles = (edges[:-1] + edges[1:]) / 2
    for place, height in enumerate(heights):
        age = 1 - place / max(len(rows) - 1, 1)
        colour = plt.get_cmap("Blues")(0.9 - 0.6 * age)
        axes.fill_between(middles, -place, height - place, color=colour, lw=0)
        axes.plot(middles, height - place, "-", color="white", lw=0.8)
    shown = sorted({round(place) for place in np.linspace(0, len(rows) - 1, 6)})
    axes.set_yticks([-place for place in shown], [str(rows[place].step) for place in shown])
    title = title or plots.plain(f"{tag} ({run})")
    axes.set(title=title, xlabel="value", ylabel="step, the latest in front")
    axes.grid(axis="y", visible=False)
    return figure


def draw_distributions(logdir: LogDir, tag: str, run: str, *, title: str | None = None) -> Figure:
    """Draw bands of percentiles over the steps, as on the DISTRIBUTIONS dashboard.

    From the outside in, the bands hold all values and those within 1.5, 1 and 0.5 standard
    deviations if the values are normally distributed; the line is the median. Raises ``ValueError``
    if the histogram was logged only once.
    """
    rows = reading.histograms(logdir, tag, run)
    if len(rows) < 2:
        raise ValueError(
            f"histogram {tag!r} of run {run!r} was logged once: bands need two steps or more; "
            "draw_histograms draws one"
        )
    figure, axes = plt.subplots()
    steps = [row.step for row in rows]
    for (lower, upper), alpha in zip(BANDS, (0.2, 0.25, 0.35, 0.5), strict=True):
        bottom, top = [[_percentile(row, p) for row in rows] for p in (lower, upper)]
        axes.fill_between(steps, bottom, top, color=plots.COLOURS[0], alpha=alpha, lw=0)
    axes.plot(steps, [_percentile(row, 50) for row in rows], "-", color="black", lw=1.2)
    low, high = _range(rows)
    margin = 0.05 * (high - low)
    axes.set(title=title or plots.plain(f"{tag} ({run})"), xlabel="step", ylabel="value")
    axes.set_ylim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def draw_images(
    logdir: LogDir, tag: str, run: str | None = None, *, title: str | None = None
) -> Figure:
    """Draw every picture under a tag with its run and step; of a video, the first frame."""
    pictures = reading.images(logdir, tag, run)
    columns = min(MOST_COLUMNS, len(pictures))
    lines = math.ceil(len(pictures) / columns)
    height, width = pictures[0].pixels.shape[1:3]
    across = 6.4 / columns
    size = (6.4, lines * (min(across * height / width, 4.8) + 0.3) + 0.4)
    figure, grid = plt.subplots(lines, columns, squeeze=False, figsize=size)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, picture in zip(grid.flat, pictures, strict=False):
        axes.imshow(picture.pixels[0], cmap="gray", vmin=0, vmax=255)
        name = f"step {picture.step}" if run else plots.plain(f"{picture.run}, step {picture.step}")
        axes.set_title(name, loc="center", size=10, weight="normal", pad=3)
    figure.suptitle(title or plots.plain(tag), x=0.02, ha="left", size=12, weight="bold")
    return figure


def _range(rows: Sequence[Histogram]) -> tuple[float, float]:
    low = min(row.edges[0] for row in rows)
    high = max(row.edges[-1] for row in rows)
    if high - low < 1e-9 * max(abs(low), abs(high), 1):  # all values are the same: give them room
        return low - 0.5, high + 0.5
    return low, high


def _rebinned(row: Histogram, edges: np.ndarray) -> np.ndarray:
    """The counts between other edges, as if values lay evenly within each of their own bins."""
    below = np.concatenate([[0], np.cumsum(row.counts)])
    return np.diff(np.interp(edges, row.edges, below))


def _percentile(row: Histogram, percent: float) -> float:
    """The value below which so many percent of the values lie, by the same reckoning."""
    below = np.concatenate([[0], np.cumsum(row.counts)])
    used = np.flatnonzero(row.counts)
    first, last = used[0], used[-1] + 1
    wanted = percent / 100 * below[-1]
    return float(np.interp(wanted, below[first : last + 1], row.edges[first : last + 1]))
