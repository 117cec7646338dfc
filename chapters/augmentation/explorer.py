"""The explorer of chapter 07: two photographs, and each method at each strength."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Generator, Tensor
from torch.nn import functional as F

from helpers import augment

NAMES = ("flower", "temple")
METHODS = ("Cutout", "MixUp", "CutMix", "AugMix")
HEIGHT, WIDTH = 120, 160

Photographs = Float[Tensor, "2 3 h w"]


@functools.cache
def photographs() -> Photographs:
    """scikit-learn's two sample photographs in [0, 1], 120 × 160: a flower and a temple.

    By vultilion and danielbuechele on Flickr, CC BY 2.0.
    """
    from sklearn.datasets import load_sample_images

    temple, flower = load_sample_images().images
    both = torch.stack([torch.tensor(image) for image in (flower, temple)]).movedim(-1, 1) / 255
    return F.interpolate(both, size=(HEIGHT, WIDTH), mode="bilinear", antialias=True)


def changed(
    method: str, strength: float, seed: int
) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, " classes"]]:
    """The flower changed by a method, and its shares of flower and temple.

    ``strength`` is from 0 to 1: the side of Cutout's square as a part of the image's height, the
    share that MixUp's and CutMix's λ leaves to the temple, or AugMix's severity as a part of ten.
    ``seed`` decides the rest. Raises ``ValueError`` for a method that is not in ``METHODS``.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: it must be one of {METHODS}")
    images, targets = photographs(), torch.eye(2)
    generator = Generator().manual_seed(seed)
    shares, swapped = torch.full((2,), 1 - strength), torch.tensor([1, 0])
    if method == "Cutout":
        images = augment.cutout(images, round(strength * HEIGHT), 0.5, generator)
    elif method == "MixUp":
        images, targets = augment.blend(images, targets, shares, swapped)
    elif method == "CutMix":
        centres = augment.centres(2, HEIGHT, WIDTH, generator)
        halves = augment.half_sides(shares, HEIGHT, WIDTH)
        boxes = augment.boxes_around(centres, halves, HEIGHT, WIDTH)
        images, targets = augment.paste(images, targets, boxes, swapped)
    elif strength > 0:
        images = augment.augmix(images, max(1, round(strength * 10)), generator=generator)
    return images[0], targets[0]


def draw(method: str = "CutMix", strength: float = 0.4, seed: int = 0) -> Figure:
    """The flower, what a method makes of it, and the temple; the title tells the label."""
    image, target = changed(method, strength, seed)
    flower, temple = photographs()
    figure, panels = plt.subplots(1, 3, figsize=(8.6, 2.7), width_ratios=(1, 1.5, 1))
    named = zip(panels, (flower, image, temple), ("flower", "", "temple"), strict=True)
    for axes, pixels, name in named:
        axes.imshow(pixels.movedim(0, -1).clamp(0, 1).numpy())
        axes.set_axis_off()
        axes.set_title(name, loc="center", size=11, weight="normal")
    label = ", ".join(f"{name} {share:.2f}" for name, share in zip(NAMES, target, strict=True))
    panels[1].set_title(f"{method}: {label}", loc="center")
    return figure


def draw_chains(
    image: Float[Tensor, "3 h w"],
    own: Float[Tensor, ""],
    weights: Float[Tensor, " width"],
    chains: Sequence[Sequence[tuple[str, Tensor]]],
    mixed: Float[Tensor, "3 h w"],
) -> Figure:
    """How AugMix makes ``mixed`` of ``image``: a row for each chain of at most three operations.

    A chain is a list of pairs, an operation's name and the image after it. ``own`` is the image's
    weight, and ``weights`` are those of the chains among themselves.
    """
    figure = plt.figure(figsize=(9.4, 1.43 * len(chains)))
    grid = figure.add_gridspec(len(chains), 6, width_ratios=(1.25, 1, 1, 1, 0.55, 1.25))
    middle = len(chains) // 2

    def picture(row, column, pixels, title):
        axes = figure.add_subplot(grid[row, column])
        axes.imshow(pixels.cpu().movedim(0, -1).clamp(0, 1).numpy())
        axes.set_axis_off()
        axes.set_title(title, size=9.5, loc="center", pad=3, weight="normal")

    picture(middle, 0, image, f"the image, × {own:.2f}")
    picture(middle, 5, mixed, "mixed")
    for row, (weight, steps) in enumerate(zip((1 - own) * weights, chains, strict=True)):
        for column, (name, pixels) in enumerate(steps, 4 - len(steps)):
            picture(row, column, pixels, f"→ {name}")
        note = figure.add_subplot(grid[row, 4])
        note.set_axis_off()
        note.text(0.5, 0.5, f"× {weight:.2f} →", ha="center", va="center", size=12)
    total = own + ((1 - own) * weights).sum()
    figure.suptitle(
        f"The image and its chains; the weights sum to {total:.2f}", weight="bold", size=12
    )
    return figure
