"""The explorer of chapter 02: what a loss says and how hard it pulls, against the logit."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

Curve = Float[Tensor, " points"]


def _bce_with_logits(logits: Curve, targets: Curve, pos_weight: float) -> Curve:
    weight = torch.tensor(pos_weight)
    return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction="none")


def _bce_on_sigmoid(logits: Curve, targets: Curve, pos_weight: float) -> Curve:
    return F.binary_cross_entropy(logits.sigmoid(), targets, reduction="none")


def _cross_entropy(logits: Curve, targets: Curve, pos_weight: float) -> Curve:
    both = torch.stack([torch.zeros_like(logits), logits], dim=1)
    shares = torch.stack([1 - targets, targets], dim=1)
    weight = torch.tensor([1.0, pos_weight])
    return F.cross_entropy(both, shares, weight=weight, reduction="none")


def _mse_on_sigmoid(logits: Curve, targets: Curve, pos_weight: float) -> Curve:
    return F.mse_loss(logits.sigmoid(), targets, reduction="none")


#: the menu: each function gives the loss of every logit, from (logits, targets, pos_weight); those
#: on the sigmoid have no such weight and leave it out
LOSSES: dict[str, Callable[[Curve, Curve, float], Curve]] = {
    "BCEWithLogitsLoss": _bce_with_logits,
    "BCELoss on the sigmoid": _bce_on_sigmoid,
    "CrossEntropyLoss, logits (0, z)": _cross_entropy,
    "MSELoss on the sigmoid": _mse_on_sigmoid,
}
POINTS = 401


def loss_and_slope(
    loss: str, logits: Curve, target: float, label_smoothing: float = 0.0, pos_weight: float = 1.0
) -> tuple[Curve, Curve]:
    """The loss named ``loss`` at each logit, and its derivative there, by autograd.

    Label smoothing moves the target towards 0.5, as ``F.cross_entropy`` does for two classes.
    ``pos_weight`` multiplies the positive term where the loss has such an argument. Raises
    ``ValueError`` for a name that is not in ``LOSSES``.
    """
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}: it must be one of {', '.join(LOSSES)}")
    z = logits.detach().clone().requires_grad_()
    smoothed = target * (1 - label_smoothing) + label_smoothing / 2
    values = LOSSES[loss](z, torch.full_like(z, smoothed), pos_weight)
    (slope,) = torch.autograd.grad(values.sum(), z)
    return values.detach(), slope


def draw(
    loss: str,
    target: float = 1.0,
    label_smoothing: float = 0.0,
    pos_weight: float = 1.0,
    reach: float = 60.0,
) -> Figure:
    """Loss and slope in float32 for logits from ``-reach`` to ``reach``, one panel each.

    The other arguments are those of ``loss_and_slope``. The title of the second panel
    tells on how much of the range the slope is less than a thousandth in size.
    """
    logits = torch.linspace(-reach, reach, POINTS)
    values, slope = loss_and_slope(loss, logits, target, label_smoothing, pos_weight)
    figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.4))
    for axes, heights, name in zip(panels, (values, slope), ("loss", "slope"), strict=True):
        axes.plot(logits.numpy(), heights.numpy())
        axes.axvline(0, color="#666666", linewidth=0.8, linestyle="-", zorder=0)
        axes.set(xlabel="logit", ylabel=name)
    panels[1].axhline(0, color="#666666", linewidth=0.8, linestyle="-", zorder=0)
    panels[0].set_title(loss)
    silent = (slope.abs() < 1e-3).float().mean().item()
    panels[1].set_title(f"hardly pulls on {silent:.0%} of the range")
    return figure
