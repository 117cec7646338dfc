"""Does augmentation help? The same small network with each method, over several seeds.

``python -m chapters.augmentation.experiment`` runs it at full size and prints the tables;
``--help`` lists its options. A seed decides which digits are trained on, the network's first
weights and the batches, the same for every method, so differences between methods are paired.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from helpers import augment, data, plots, runtime

Images = Float[Tensor, "n 1 h w"]
Targets = Float[Tensor, "n classes"]
#: what a method is: a batch's loss, of (model, images, targets, generator)
Method = Callable[[nn.Module, Tensor, Tensor, Generator], Tensor]
Change = Callable[[Images, Generator], Images]
#: of each method, a row for each seed, a column for each entry of ``COLUMNS``
Results = Mapping[str, Float[Tensor, "seeds columns"]]

CLASSES = 10
SIDE = 16  # pixels; the digits' 8 leave AugMix's shifts no room
BATCH = 50
BINS = 15


@dataclass(frozen=True)
class Size:
    """How much is trained: on ``train`` digits, ``steps`` batches, a network of ``width``."""

    train: int
    steps: int
    width: int


NOTEBOOK = Size(train=100, steps=130, width=8)
FULL = Size(train=200, steps=400, width=16)


# The methods: each gives the loss of a batch ------------------------------------------------------


def none(model: nn.Module, x: Images, y: Targets, generator: Generator) -> Float[Tensor, ""]:
    return F.cross_entropy(model(x), y)


def shift_and_rotate(
    model: nn.Module, x: Images, y: Targets, generator: Generator
) -> Float[Tensor, ""]:
    for names in (("TranslateX", "Rotate"), ("TranslateY", "Rotate")):
        x = _moved(x, names, strongest=5, generator=generator)
    return F.cross_entropy(model(x), y)


def cutout(model: nn.Module, x: Images, y: Targets, generator: Generator) -> Float[Tensor, ""]:
    return F.cross_entropy(model(augment.cutout(x, SIDE // 2, generator=generator)), y)


def mixup(model: nn.Module, x: Images, y: Targets, generator: Generator) -> Float[Tensor, ""]:
    x, y = augment.mixup(x, y, generator=generator)
    return F.cross_entropy(model(x), y)


def cutmix(model: nn.Module, x: Images, y: Targets, generator: Generator) -> Float[Tensor, ""]:
    x, y = augment.cutmix(x, y, generator=generator)
    return F.cross_entropy(model(x), y)


def augmix(model: nn.Module, x: Images, y: Targets, generator: Generator) -> Float[Tensor, ""]:
    return F.cross_entropy(model(augment.augmix(x, generator=generator)), y)


def augmix_jsd(model: nn.Module, x: Images, y: Targets, generator: Generator) -> Float[Tensor, ""]:
    views = torch.cat([x, augment.augmix(torch.cat([x, x]), generator=generator)])
    clean, *others = model(views).chunk(3)
    return F.cross_entropy(clean, y) + 12 * augment.js_divergence(clean, *others)


METHODS: dict[str, Method] = {
    "none": none,
    "shift, rotate": shift_and_rotate,
    "Cutout": cutout,
    "MixUp": mixup,
    "CutMix": cutmix,
    "AugMix": augmix,
    "AugMix + JSD": augmix_jsd,
}


# What the trained network is tested on ------------------------------------------------------------


def _noise(x: Images, generator: Generator) -> Images:
    return (x + 0.3 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def _blur(x: Images, generator: Generator) -> Images:
    from torchvision.transforms.v2 import functional as VF

    return VF.gaussian_blur(x, [5, 5], [1.5, 1.5])


def _contrast(x: Images, generator: Generator) -> Images:
    return 0.5 + 0.6 * (x - 0.5)


def _shift(x: Images, generator: Generator) -> Images:
    for name in ("TranslateX", "TranslateY"):
        x = _moved(x, (name,), strongest=4, generator=generator, weakest=4)
    return x


def _occlusion(x: Images, generator: Generator) -> Images:
    return augment.cutout(x, 6, generator=generator)


TESTS: dict[str, Change] = {
    "clean": lambda x, generator: x,
    "noise": _noise,
    "blur": _blur,
    "shift": _shift,
    "contrast": _contrast,
    "occlusion": _occlusion,
}
#: accuracy on each test, and the calibration error on the clean one, all in points
COLUMNS = (*TESTS, "calibration")


def test_images() -> tuple[dict[str, Images], Int[Tensor, " n"]]:
    """The test digits under each of ``TESTS``, always the same, and their labels."""
    digits = _digits()
    x = _resized(digits.x_test)
    changed = {name: change(x, torch.Generator().manual_seed(0)) for name, change in TESTS.items()}
    return changed, digits.y_test


# Running and comparing ----------------------------------------------------------------------------


def run(
    methods: Mapping[str, Method],
    seeds: Sequence[int],
    size: Size = NOTEBOOK,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Float[Tensor, "seeds columns"]]:
    """Train with every method and seed; give the scores. ``say`` is told of every method's end."""
    tests, labels = test_images()
    results = {}
    for name, method in methods.items():
        start = time.process_time()
        models = [train(method, seed, size) for seed in seeds]
        results[name] = torch.stack([scores(model, tests, labels) for model in models])
        say(f"{name}: {(time.process_time() - start) / len(models):.1f} s a run")
    return results


def train(method: Method, seed: int, size: Size = NOTEBOOK) -> nn.Module:
    """The network, trained with a method; the global random generators are left alone."""
    digits = _digits()
    device = runtime.device()
    order = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(digits.x_train), generator=order)[: size.train]
    x = _resized(digits.x_train[chosen]).to(device)
    y = F.one_hot(digits.y_train[chosen], CLASSES).float().to(device)
    model = network(size.width, seed).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, size.steps)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(size.steps):
        batch = torch.randint(size.train, (BATCH,), generator=order).to(device)
        loss = method(model, x[batch], y[batch], draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return model.eval()


def network(width: int, seed: int) -> nn.Module:
    """Two convolutions of stride 2 and a linear layer, without BatchNorm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * (SIDE // 4) ** 2, CLASSES),
        )


@torch.no_grad()
def scores(
    model: nn.Module, tests: Mapping[str, Images], labels: Int[Tensor, " n"]
) -> Float[Tensor, " columns"]:
    """The columns of ``COLUMNS``: accuracies in %, and the calibration error in points."""
    device = runtime.device()
    logits = {name: model(x.to(device)).cpu() for name, x in tests.items()}
    accuracy = [100 * (z.argmax(dim=1) == labels).float().mean() for z in logits.values()]
    error = 100 * calibration_error(logits["clean"].softmax(dim=1), labels)
    return torch.stack([*accuracy, error])


def calibration_error(
    probabilities: Float[Tensor, "n classes"], labels: Int[Tensor, " n"]
) -> Float[Tensor, ""]:
    """How far confidence is from accuracy, in [0, 1]: the expected calibration error, 15 bins.

    Source: Guo et al., 2017 (arXiv 1706.04599), the definition of ECE.
    """
    confidence, predicted = probabilities.max(dim=1)
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    gap = (predicted == labels).to(confidence) - confidence
    return torch.zeros(BINS).to(gap).index_add(0, bins, gap).abs().sum() / len(labels)


def gains(results: Results) -> dict[str, Float[Tensor, "seeds columns"]]:
    """For every other method, what it gains over ``"none"``, seed by seed; positive is better."""
    better = torch.tensor([1.0] * len(TESTS) + [-1.0])  # a calibration error should be small
    base = results["none"]
    return {name: (values - base) * better for name, values in results.items() if name != "none"}


def stands_out(gain: Float[Tensor, "seeds columns"]) -> Tensor:
    """Where a mean gain is more than three standard errors from 0."""
    return gain.mean(dim=0).abs() > 3 * gain.std(dim=0) / len(gain) ** 0.5


def draw(results: Results) -> Figure:
    """Mean gain and spread of each method on each test; white where it does not stand out."""
    found = gains(results)
    means = torch.stack([gain.mean(dim=0) for gain in found.values()])
    spread = torch.stack([gain.std(dim=0) for gain in found.values()])
    clear = torch.stack([stands_out(gain) for gain in found.values()])
    shown = torch.where(clear, means, 0.0)
    figure, axes = plt.subplots(figsize=(8.6, 0.62 * len(found) + 1.5))
    axes.imshow(shown.numpy(), cmap="PuOr", vmin=-20, vmax=20, aspect="auto")
    for row, column in itertools.product(*map(range, means.shape)):
        mean = means[row, column].item()
        dark = abs(shown[row, column].item()) > 12
        axes.text(
            column,
            row,
            f"{mean:+.1f}\n±{spread[row, column]:.1f}",
            **{"ha": "center", "va": "center", "size": 9.5},
            weight="bold" if clear[row, column] else "normal",
            color="white" if dark else "black" if clear[row, column] else "#777777",
        )
    axes.set_xticks(range(len(COLUMNS)), COLUMNS)
    axes.set_yticks(range(len(found)), found)
    axes.grid(False)
    seeds = len(results["none"])
    up, down = int((clear & (means > 0)).sum()), int((clear & (means < 0)).sum())
    axes.set_title(
        f"Of {means.numel()} effects, {up} help and {down} hurt beyond the spread of {seeds} seeds"
    )
    axes.set_xlabel("gain over no augmentation, in points, ± standard deviation over seeds")
    return figure


def table(results: Results) -> str:
    """Levels of ``"none"`` and gains of the others as text; ``*`` where ``stands_out``."""
    width = max(map(len, results)) + 2
    lines = [" " * width + "".join(f"{name:>14}" for name in COLUMNS)]
    base = results["none"]
    plain = [f"{m:.1f} ±{s:.1f}" for m, s in zip(base.mean(0), base.std(0), strict=True)]
    lines.append(f"{'none':{width}}" + "".join(f"{entry:>14}" for entry in plain))
    for name, gain in gains(results).items():
        parts = zip(gain.mean(0), gain.std(0), stands_out(gain), strict=True)
        entries = [f"{mean:+.1f} ±{std:.1f}{'*' if clear else ' '}" for mean, std, clear in parts]
        lines.append(f"{name:{width}}" + "".join(f"{entry:>14}" for entry in entries))
    return "\n".join(lines)


@functools.cache
def _digits() -> data.Split:
    return data.digits()


def _moved(
    x: Images, names: Sequence[str], strongest: int, generator: Generator, weakest: int = 0
) -> Images:
    """Each image moved by one of the named operations, at a level of its own."""
    places = torch.tensor([augment.OPERATIONS.index(name) for name in names])
    n = len(x)
    operation = places[torch.randint(len(places), (n,), generator=generator)]
    level = torch.randint(weakest, strongest + 1, (n,), generator=generator)
    sign = 2 * torch.randint(2, (n,), generator=generator) - 1
    return augment.operate(x, operation, level, sign)


def _resized(x: Images) -> Float[Tensor, "n 1 side side"]:
    return F.interpolate(x, size=SIDE, mode="bilinear")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m chapters.augmentation.experiment",
        description="Train a small network with each augmentation, over several seeds, and compare "
        "it with none: accuracy in %, clean and under corruptions, and the calibration error.",
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many (default 5)")
    for name, default in vars(FULL).items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default {default})")
    parser.add_argument("--figure", type=Path, help="also write the figure to this file")
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error(f"--seeds is {options.seeds}: a spread needs at least 2")
    size = Size(options.train, options.steps, options.width)
    runtime.threads(1)
    print(f"{size}, {options.seeds} seeds")
    results = run(METHODS, range(options.seeds), size, say=lambda line: print(line, flush=True))
    print(
        f"\n{table(results)}\n\ncalibration: the gain is a fall of the error. * beyond 3 std errors"
    )
    if options.figure:
        with plt.rc_context():  # the style is for this figure, not for those of the caller
            plots.use_style()
            figure = draw(results)
            figure.savefig(options.figure)
            plt.close(figure)


if __name__ == "__main__":
    main()
