"""What the observations of several chapters have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from helpers.exercises.compare import Words
from helpers.exercises.trial import require

#: stands for a gradient that does not arrive
NO_GRADIENT = Words("no gradient comes back")


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Normal random numbers of a seed of their own, whatever was drawn before."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(result: Any, *inputs: Tensor) -> tuple[Tensor | Words, ...]:
    """The gradients of ``result`` for each input, or ``NO_GRADIENT`` where none arrives.

    Of a result with more than one number, a sum is taken in which each has another weight.
    """
    if not (isinstance(result, Tensor) and result.requires_grad):
        return (NO_GRADIENT,) * len(inputs)
    total = (result * numbers(*result.shape, seed=2)).sum() if result.dim() else result
    learning = [one for one in inputs if one.requires_grad]
    found = iter(torch.autograd.grad(total, learning, allow_unused=True) if learning else ())
    arrived = (next(found) if one.requires_grad else None for one in inputs)
    return tuple(NO_GRADIENT if gradient is None else gradient for gradient in arrived)


def made(answer: Callable, *arguments: Any, **options: Any) -> nn.Module:
    """An instance of the class that was handed in; a ``Shortfall`` if that is no module."""
    return require(answer(*arguments, **options), nn.Module, "an instance of the class")
