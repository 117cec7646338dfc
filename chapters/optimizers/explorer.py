"""Chapter 03's explorers: a ravine and the ways down, and a schedule and its parameters."""

import math
from collections.abc import Callable, Iterable

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from helpers.plots import COLOURS

Makes = Callable[[Iterable[Tensor]], Optimizer]

START = (-9.0, 2.0)  # along the ravine, and across it
STEEPNESS = 50.0  # curvature across the ravine; along it, it is 1
REACH = 11.0  # the figure shows this far in each direction

OPTIMIZERS = {
    "SGD": lambda rate, momentum: {"lr": rate, "momentum": momentum},
    "SGD, Nesterov": lambda rate, momentum: {
        "lr": rate,
        "momentum": momentum,
        "nesterov": momentum > 0,
    },
    "Adagrad": lambda rate, momentum: {"lr": rate},
    "RMSprop": lambda rate, momentum: {"lr": rate, "momentum": momentum},
    "Adam": lambda rate, momentum: {"lr": rate, "betas": (momentum, 0.999)},
}


def draw_ravine(
    optimizer: str = "SGD",
    log10_rate: float = -1.5,
    momentum: float = 0.0,
    angle: float = 0.0,
    steps: int = 60,
) -> Figure:
    """Draw the path of an optimizer of torch down a ravine that is turned by ``angle`` degrees.

    ``optimizer`` is a name of ``OPTIMIZERS``, its rate ``10**log10_rate``. ``momentum`` is Adam's
    first beta; Adagrad has none. Raises ``ValueError`` for another name.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer!r}: it must be one of {list(OPTIMIZERS)}")
    kind = getattr(torch.optim, optimizer.partition(",")[0])
    options = OPTIMIZERS[optimizer](10**log10_rate, momentum)
    path = ravine_path(lambda params: kind(params, **options), angle, steps)
    figure, axes = plt.subplots(figsize=(6.4, 4.6))
    draw_path(axes, path, angle)
    loss = ravine(path[-1], angle).item()
    lost = not loss < 1e6
    axes.set_title(f"{optimizer}: " + (f"gone in {steps} steps" if lost else f"loss {loss:.2g}"))
    return figure


def draw_schedule(
    schedule: str = "CosineAnnealingLR",
    warmup: int = 20,
    final: float = 0.1,
    stepped: str = "every batch",
    epochs: int = 5,
    batches: int = 20,
) -> Figure:
    """Draw the rate in each batch of a training, from real calls of ``step()``.

    The schedule is planned in batches: ``warmup`` batches of linear rise, then a fall that ends at
    ``final`` times the base rate 1. ``stepped`` says when ``step()`` is called: ``"every batch"``,
    as planned, or ``"every epoch"``. Raises ``ValueError`` for a schedule not in ``SCHEDULES``.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}: it must be one of {list(SCHEDULES)}")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = _planned(optimizer, schedule, warmup, final, epochs * batches)
    rates = []
    for batch in range(1, epochs * batches + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if stepped == "every batch" or batch % batches == 0:
            scheduler.step()
    figure, axes = plt.subplots()
    axes.plot(range(1, len(rates) + 1), rates, drawstyle="steps-mid")
    axes.set(
        title=f"{schedule}, stepped {stepped}: ends at {rates[-1]:.2g}",
        xlabel="batch",
        ylabel="learning rate",
        ylim=(0, 1.05),
    )
    return figure


def ravine(point: Float[Tensor, "... 2"], angle: float = 0.0) -> Float[Tensor, "..."]:
    """A long valley with steep sides, turned by ``angle`` degrees; 0 is its lowest point."""
    along, across = _turned(point, -angle).unbind(-1)
    return (along**2 + STEEPNESS * across**2) / 2


def ravine_path(make: Makes, angle: float = 0.0, steps: int = 60) -> Float[Tensor, "points 2"]:
    """The start and the point after each step of the optimizer ``make([point])``."""
    point = _turned(torch.tensor(START), angle).requires_grad_()
    optimizer = make([point])
    path = [point.detach().clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        ravine(point, angle).backward()
        optimizer.step()
        path.append(point.detach().clone())
    return torch.stack(path)


def draw_path(axes: Axes, path: Float[Tensor, "points 2"], angle: float = 0.0) -> None:
    """Draw a path over the contours of the ravine, its start a ring and the minimum a cross."""
    line = torch.linspace(-REACH, REACH, 61)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)
    levels = [2, 15, 60, 250, 1000]
    axes.contour(line, line, ravine(grid, angle), levels=levels, colors="#BBBBBB", linewidths=0.8)
    xs, ys = path.clamp(-1e6, 1e6).T
    axes.plot(xs, ys, "-o", color=COLOURS[0], markersize=3, linewidth=1.2)
    axes.plot(*path[0], "o", color=COLOURS[1], markersize=9, markerfacecolor="none")
    axes.plot(0, 0, "x", color=COLOURS[3], markersize=9)
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
    axes.grid(False)


SCHEDULES = {
    "StepLR": lambda optimizer, steps, final: lr_scheduler.StepLR(
        optimizer, step_size=max(1, steps // 3), gamma=final**0.5
    ),
    "LinearLR": lambda optimizer, steps, final: lr_scheduler.LinearLR(
        optimizer, start_factor=1.0, end_factor=final, total_iters=steps
    ),
    "ExponentialLR": lambda optimizer, steps, final: lr_scheduler.ExponentialLR(
        optimizer, gamma=final ** (1 / steps)
    ),
    "CosineAnnealingLR": lambda optimizer, steps, final: lr_scheduler.CosineAnnealingLR(
        optimizer, T_max=steps, eta_min=final
    ),
}


def _planned(
    optimizer: Optimizer, schedule: str, warmup: int, final: float, total: int
) -> lr_scheduler.LRScheduler:
    """The schedule over ``total`` steps, of which the first ``warmup`` rise."""
    if warmup == 0:
        return SCHEDULES[schedule](optimizer, total, final)
    rise = lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    fall = SCHEDULES[schedule](optimizer, total - warmup, final)
    return lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[warmup])


def _turned(point: Float[Tensor, "... 2"], angle: float) -> Float[Tensor, "... 2"]:
    radians = math.radians(angle)
    cos, sin = math.cos(radians), math.sin(radians)
    x, y = point.unbind(-1)
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)
