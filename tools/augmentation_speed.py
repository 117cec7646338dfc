"""How fast are the batched helpers?

``python -m tools.augmentation_speed`` prints a table, in about a minute. It compares each method of
``helpers.augment`` with torchvision's transform: on the batch, where all images share the draws of
the transform, and one by one, where each image has its own, as in ``augment``. All ways take turns,
so that they share what else the machine is doing. Of each, the median processor time counts; the
shortest would be the luckiest draw of an AugMix that draws once for all. Only ratios mean anything.

Batching saves what a call costs beside its pixels. The larger the images, the less that is: the
last column shows what is gained even by a batch that shares its draws.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from helpers import augment, runtime

SHAPES = ((128, 1, 28, 28), (128, 3, 32, 32), (32, 3, 96, 96))
ROUNDS = 10
SLICE = 0.02  # seconds that a way is called for, at least once, before the next takes its turn
CLASSES = 10
# The allocator of the C library hands freed memory back to the system beyond twice the largest
# piece that was freed, and then every call pays for getting it again. Training frees large pieces.
FREED = 30 * 2**20


class Ways(NamedTuple):
    """Ways to change the same batch, each a function without arguments."""

    ours: Callable[[], object]
    batched: Callable[[], object]
    by_image: Callable[[], object]


def ways(images: Tensor, labels: Tensor) -> dict[str, Ways]:
    """The ways of each method. torchvision has no Cutout; its RandomErasing stands in."""
    from torchvision.transforms import v2

    targets = F.one_hot(labels, CLASSES).float()
    size = images.shape[-1] // 2
    erase, augmix = v2.RandomErasing(p=1.0), v2.AugMix(all_ops=False)
    mixing = {"MixUp": (augment.mixup, v2.MixUp), "CutMix": (augment.cutmix, v2.CutMix)}
    found = {}
    for name, (ours, transform) in mixing.items():
        theirs = transform(num_classes=CLASSES)
        found[name] = Ways(
            lambda ours=ours: ours(images, targets),
            lambda theirs=theirs: theirs(images, labels),
            lambda theirs=theirs: _pair_by_pair(theirs, images, labels),
        )
    found["Cutout"] = Ways(
        lambda: augment.cutout(images, size),
        lambda: erase(images),
        lambda: torch.stack([erase(image) for image in images]),
    )
    found["AugMix"] = Ways(
        lambda: augment.augmix(images),
        lambda: augmix(images),
        lambda: torch.stack([augmix(image) for image in images]),
    )
    return found


def measure(some: Ways, rounds: int = ROUNDS) -> list[float]:
    """The processor time of each way, the median of several slices, in seconds."""
    spent: list[list[float]] = [[] for _ in some]
    for _ in range(rounds):
        for times, way in zip(spent, some, strict=True):
            start, calls = time.process_time(), 0
            while (passed := time.process_time() - start) < SLICE:
                way()
                calls += 1
            times.append(passed / calls)
    return [statistics.median(times) for times in spent]


def _pair_by_pair(transform: Callable, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Each image mixed with the one before, by a call of its own."""
    pairs = [(i, i - 1) for i in range(len(images))]
    mixed = [transform(images[[*pair]], labels[[*pair]]) for pair in pairs]
    return torch.stack([x[0] for x, _ in mixed]), torch.stack([y[0] for _, y in mixed])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.augmentation_speed",
        description="Compare the speed of helpers.augment with that of torchvision's transforms, "
        "in about a minute: on whole batches, and on one image at a time. Only ratios mean "
        "anything.",
    )
    parser.parse_args(arguments)
    runtime.threads(1)
    torch.empty(FREED, dtype=torch.uint8)
    heads = ("µs an image", "ours / batch", "one by one / ours", "one by one / batch")
    print(f"{'images':>14} {'method':8}" + "".join(f"{head:>20}" for head in heads))
    for shape in SHAPES:
        runtime.seed(0)
        images, labels = torch.rand(shape), torch.randint(CLASSES, shape[:1])
        for name, some in ways(images, labels).items():
            ours, batched, by_image = measure(some)
            numbers = (1e6 * ours / shape[0], ours / batched, by_image / ours, by_image / batched)
            columns = "".join(f"{number:20.2f}" for number in numbers)
            print(f"{'×'.join(map(str, shape)):>14} {name:8}{columns}", flush=True)


if __name__ == "__main__":
    main()
