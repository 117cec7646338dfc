"""The explorers of chapter 08: where a margin draws the line, and a sphere of digits."""

from __future__ import annotations

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from helpers import margins
from helpers.plots import COLOURS

Embedded = tuple[Float[Tensor, "n 3"], Int[Tensor, " n"]]

#: the menu of ``draw_boundary``
HEADS = {
    "no margin": lambda cosine, margin: cosine,
    "CosFace": margins.cosface_target,
    "ArcFace": margins.arcface_target,
}
STEPS = 3601  # points on the way from one class to the other


def draw_boundary(
    head: str = "CosFace", margin: float = 0.35, scale: float = 20.0, between: int = 90
) -> Figure:
    """Two classes, ``between`` degrees apart, and the feature directions on the arc from A to B.

    Left, the sector of directions that training accepts as A and as B, that is, where the own logit
    leads with the margin on it; testing divides at the dashed line. Right, the loss of a feature
    of class A on its way to B, with the margin and without.
    """
    figure, (arc, curve) = plt.subplots(1, 2, figsize=(8.6, 3.6))
    edge = accepted(head, margin, between)
    _draw_sectors(arc, edge, between)
    arc.set_title(f"{head}: {max(0.0, between - 2 * edge):.0f}° belong to nobody")
    way = torch.linspace(0, between, STEPS)
    curve.plot(way, losses(head, margin, scale, between), label="training")
    curve.plot(way, losses("no margin", 0.0, scale, between), label="without margin")
    curve.axvline(between / 2, color="#666666", linewidth=0.8, linestyle="--")
    curve.set(xlabel="angle from A (degrees)", ylabel="loss of class A", title=f"Scale {scale:g}")
    curve.set_ylim(bottom=0)
    curve.legend(loc="upper left")
    return figure


def accepted(head: str, margin: float, between: float) -> float:
    """How many degrees from its own class a feature may stand and still lead, margin included.

    0 where not even the class's own direction leads. Raises ``ValueError`` for a name that is not
    in ``HEADS``.
    """
    own, other = _cosines(between)
    leads = _target(head)(own, margin) >= other
    # the target falls along the way and the other rises, so what leads is a piece at the start
    return between * (int(leads.sum()) - 1) / (STEPS - 1) if leads.any() else 0.0


def losses(head: str, margin: float, scale: float, between: float) -> Float[Tensor, " points"]:
    """Cross-entropy of class A for features on the arc from A to B, with the margin on A."""
    own, other = _cosines(between)
    logits = scale * torch.stack([_target(head)(own, margin), other], dim=1)
    return F.cross_entropy(logits, torch.zeros(STEPS, dtype=torch.long), reduction="none")


def draw_sphere(embedded: Mapping[str, Embedded], azimuth: int = 0, elevation: int = 20) -> Figure:
    """Features in three dimensions as points of the unit sphere, a panel for each name.

    ``embedded`` gives features and labels. A point is drawn as the digit that it is, those on the
    far side faintly. ``azimuth`` turns the spheres about their vertical axis, ``elevation`` raises
    the eye, both in degrees. Under each name stand the angles within and between the classes.
    """
    figure, panels = plt.subplots(
        1, len(embedded), figsize=(4.2 * len(embedded), 4.5), squeeze=False
    )
    for axes, (name, (features, labels)) in zip(panels.flat, embedded.items(), strict=True):
        features, labels = features.detach().cpu(), labels.cpu()
        _draw_digits(axes, seen_from(margins.directions(features), azimuth, elevation), labels)
        angles = margins.class_angles(features, labels)
        title = f"{name}: {angles.within:.0f}° within, {angles.between:.0f}° between"
        axes.set_title(title, loc="center")
    return figure


def seen_from(
    points: Float[Tensor, "n 3"], azimuth: float, elevation: float
) -> Float[Tensor, "n 3"]:
    """The points turned: to the right, upwards, and towards the eye."""
    a, e = math.radians(azimuth), math.radians(elevation)
    around = [[math.cos(a), math.sin(a), 0.0], [-math.sin(a), math.cos(a), 0.0], [0.0, 0.0, 1.0]]
    raised = [
        [0.0, 1.0, 0.0],
        [-math.sin(e), 0.0, math.cos(e)],
        [math.cos(e), 0.0, math.sin(e)],
    ]
    return points @ (torch.tensor(raised) @ torch.tensor(around)).T.to(points.dtype)


def _draw_digits(axes: Axes, points: Float[Tensor, "n 3"], labels: Int[Tensor, " n"]) -> None:
    axes.add_patch(plt.Circle((0, 0), 1, facecolor="#F7F7F7", edgecolor="#BBBBBB", zorder=0))
    near = points[:, 2] >= 0
    for digit in labels.unique().tolist():
        for side, opacity in ((~near, 0.12), (near, 0.9)):
            right, up, _ = points[side & (labels == digit)].T
            axes.scatter(
                right,
                up,
                marker=f"${digit}$",
                s=30,
                linewidth=0.2,
                alpha=opacity,
                color=COLOURS[digit % len(COLOURS)],
            )
    axes.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), aspect="equal")
    axes.set_axis_off()


def _draw_sectors(axes: Axes, edge: float, between: float) -> None:
    """The circle with A on the right and B ``between`` degrees further."""
    for start, stop, colour in ((0, edge, COLOURS[0]), (between - edge, between, COLOURS[1])):
        along = torch.deg2rad(torch.linspace(start, stop, 60))
        xs, ys = [0, *along.cos().tolist()], [0, *along.sin().tolist()]
        # dashes of the colour cycle, scaled to no width, stop matplotlib before 3.11
        axes.fill(xs, ys, color=colour, alpha=0.35, linewidth=0, linestyle="-")
    circle = torch.linspace(0, 2 * math.pi, 200)
    axes.plot(circle.cos(), circle.sin(), color="#BBBBBB", linewidth=1, linestyle="-")
    for name, degrees, colour in (("A", 0, COLOURS[0]), ("B", between, COLOURS[1])):
        x, y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        axes.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour})
        axes.text(1.12 * x, 1.12 * y, name, color=colour, weight="bold", ha="center", va="center")
    half = math.radians(between / 2)
    axes.plot([0, math.cos(half)], [0, math.sin(half)], color="#333333", linestyle="--", lw=1.2)
    axes.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal")
    axes.set_axis_off()


def _cosines(between: float) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    way = torch.deg2rad(torch.linspace(0, between, STEPS))
    return way.cos(), (math.radians(between) - way).cos()


def _target(head: str):
    if head not in HEADS:
        raise ValueError(f"unknown head {head!r}: it must be one of {', '.join(HEADS)}")
    return HEADS[head]
