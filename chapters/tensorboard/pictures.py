"""Histograms of several runs side by side, as outlines.

The board's Histograms tab draws counts, on one scale for all steps of a chart. Here a height is the
square root of a count, and each outline is equally high, so that single values far out can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers import boards, plots
from helpers.boards.events import LogDir
from helpers.boards.rows import Histogram

SMALLEST = 1e-9  # half the width of a panel, at least: zeros are a line on it


def compare(logdir: LogDir, runs: Sequence[str], layer: str, title: str) -> Figure:
    """Draw ``weight/<layer>`` and ``gradient/<layer>`` of each run, one panel each.

    A panel has one outline for each time that the histogram was logged, the last one in front, and
    a scale of its own. Where nothing was logged, it says so.
    """
    figure, grid = plt.subplots(2, len(runs), figsize=(7, 4), squeeze=False)
    for line, kind in zip(grid, ("weight", "gradient"), strict=True):
        rows = [row for row in boards.histograms(logdir) if row.tag == f"{kind}/{layer}"]
        for axes, run in zip(line, runs, strict=True):
            _outlines(axes, [row for row in rows if row.run == run])
        line[0].set_ylabel(f"{kind}s", size=11)
    for axes, run in zip(grid[0], runs, strict=True):
        axes.set_title(run, size=11, loc="center")
    figure.supxlabel("value (heights: square roots of counts; the last outline in front)", size=10)
    figure.suptitle(title, x=0.02, ha="left", weight="bold")
    return figure


def _outlines(axes: Axes, rows: Sequence[Histogram]) -> None:
    axes.set_yticks([])
    axes.grid(visible=False)
    if not rows:
        axes.set_xticks([])
        axes.text(0.5, 0.5, "none logged", ha="center", transform=axes.transAxes)
        return
    scale = 1.2 * max([SMALLEST, *(abs(row.edges).max() for row in rows)])
    edges = np.linspace(-scale, scale, 41)
    for place, row in enumerate(rows):
        below = np.interp(edges, row.edges, np.concatenate([[0], np.cumsum(row.counts)]))
        height = np.sqrt(np.diff(below))
        height = height / height.max() - 0.6 * place
        axes.fill_between(edges[1:], height, -0.6 * place, color=plots.COLOURS[0], alpha=0.5, lw=0)
        axes.plot(edges[1:], height, "-", color="black", lw=0.8)
    half = float(f"{scale / 2:.1g}")
    axes.set_xticks([0, half], ["0", f"{half:g}"])
