"""The explorer of chapter 06: what TensorBoard's smoothing does to a drop and to a spike."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from helpers import boards, plots

STEPS = 240
DROP = 120  # the step from which on the loss is low
HIGH, LOW = 2.0, 0.5
SPIKE_AT, SPIKE = 60, 5.0  # one bad batch


def losses(noise: float) -> list[float]:
    """A loss that falls from ``HIGH`` to ``LOW`` at step ``DROP`` and has one spike before.

    ``noise`` is the standard deviation of what is added at each step, always the same.
    """
    values = np.where(np.arange(STEPS) < DROP, HIGH, LOW)
    values = values + noise * np.random.default_rng(0).standard_normal(STEPS)
    values[SPIKE_AT] = SPIKE
    return values.tolist()


def steps_late(smoothing: float, noise: float = 0.0) -> int | None:
    """How many steps after the drop the smoothed loss passes half of it; None if it never does."""
    smoothed = boards.smoothed(losses(noise), smoothing)
    low = (step for step in range(DROP, STEPS) if smoothed[step] < (HIGH + LOW) / 2)
    first = next(low, None)
    return None if first is None else first - DROP


def draw(smoothing: float = 0.6, noise: float = 0.2) -> Figure:
    """Draw the loss as it was logged and as the board shows it. ``smoothing`` is in [0, 1)."""
    logged, late = losses(noise), steps_late(smoothing, noise)
    smoothed = boards.smoothed(logged, smoothing)
    when = "not at all" if late is None else f"{late} step{'s' * (late != 1)} late"
    figure, axes = plt.subplots(figsize=(7, 3.4))
    axes.plot(logged, "-", color=plots.COLOURS[6], lw=1)
    axes.plot(smoothed, "-", color=plots.COLOURS[0])
    axes.axvline(DROP, color="black", lw=1)
    axes.annotate("the drop", (DROP, SPIKE), (6, 0), textcoords="offset points", va="top")
    axes.annotate(
        f"a spike of {SPIKE:g},\nshown as {smoothed[SPIKE_AT]:.1f}",
        (SPIKE_AT, SPIKE),
        (6, 0),
        textcoords="offset points",
        va="top",
    )
    axes.set(title=f"The board shows the drop {when}", xlabel="step", ylabel="loss")
    axes.set(xlim=(0, STEPS), ylim=(-0.2, SPIKE + 0.2))
    return figure
