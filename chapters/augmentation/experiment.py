"""Does augmentation help? The same small network with each method, over several seeds.

``python -m chapters.augmentation.experiment`` runs the whole protocol and writes ``results.json``
beside this file; ``--help`` lists its options. The protocol:

1. 200 digits to train on, 449 to choose by, 450 to test on. All are 16 × 16.
2. A seed decides which 200 digits these are, the first weights, the batches and the random numbers
   of a method, each from a stream of its own. The first three are the same for every method.
3. Every method gets six settings: three strengths at two rates (without augmentation: six rates).
   Dropout is a control: it works against overfitting and changes no image.
4. Each setting is trained with two seeds. The setting with the best validation accuracy is kept.
5. The kept setting is trained with ten other seeds, for 2,000 steps.
6. The kept setting is judged on the test digits, as they are and changed in five ways. The kept
   settings are judged once, but the protocol is not blind: earlier forms of this table (other
   strengths, fewer steps, no dropout) were made on the same test digits, and the strengths of some
   methods were changed after them.
7. A gain is the difference to no augmentation with the same seed. Its standard error is printed. It
   is over seeds, on one set of test digits.
8. AugMix with its loss has AugMix's severities and the paper's weight of 12. It shows the network
   three images where others show one, so it is trained a second time with a third of the steps.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torchvision
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from helpers import augment, data, runtime

Images = Float[Tensor, "n 1 h w"]
Targets = Float[Tensor, "n classes"]
#: a batch's loss, of (model, images, targets, generator)
Method = Callable[[nn.Module, Tensor, Tensor, Generator], Tensor]
Change = Callable[[Images, Generator], Images]
#: of each method, a row for each seed, a column for each entry of ``COLUMNS``
Results = Mapping[str, Float[Tensor, "seeds columns"]]

CLASSES = 10
SIDE = 16  # pixels; the digits' 8 leave AugMix's shifts no room
BATCH = 50
BINS = 15
RATES = (2e-3, 5e-3)
CHOOSING_SEEDS = (100, 101)
JSD_WEIGHT = 12
SHIPPED = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Size:
    """How much is trained: on ``train`` digits, ``steps`` batches, a network of ``width``."""

    train: int
    steps: int
    width: int


NOTEBOOK = Size(train=100, steps=200, width=8)
FULL = Size(train=200, steps=2000, width=16)


@dataclass(frozen=True)
class Setting:
    """How strong a method is (what that means depends on the method), and Adam's rate."""

    strength: float
    rate: float


# The methods: each takes a strength and gives the loss of a batch ---------------------------------


def none(strength: float = 0.0) -> Method:
    return lambda model, x, y, generator: F.cross_entropy(model(x), y)


def dropout(probability: float) -> Method:
    """Dropout before the last layer: a control, which changes no image."""

    def loss(model: nn.Module, x: Images, y: Targets, generator: Generator) -> Tensor:
        features = model[:-1](x)
        kept = torch.rand(features.shape, generator=generator) >= probability
        features = features * kept.to(features) / (1 - probability)
        return F.cross_entropy(model[-1](features), y)

    return loss


def label_smoothing(smoothing: float) -> Method:
    return lambda model, x, y, generator: F.cross_entropy(model(x), y, label_smoothing=smoothing)


def shift(pixels: float) -> Method:
    """A random crop of the image with an empty border of ``pixels``."""
    return _changing(functools.partial(shifted, pixels=int(pixels)))


def shifted(x: Images, generator: Generator | None = None, *, pixels: int) -> Images:
    """Each image moved by up to ``pixels`` in both directions; what comes in is empty."""
    padded = F.pad(x, [pixels] * 4)
    places = torch.randint(2 * pixels + 1, (2, len(x)), generator=generator).to(x.device)
    rows, columns = places[..., None] + torch.arange(SIDE, device=x.device)
    each = torch.arange(len(x), device=x.device)[:, None, None]
    return padded[each, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def shift_and_rotate(strength: float) -> Method:
    """Up to ``strength`` of AugMix's strongest: 5 pixels and 30°."""

    def change(x: Images, generator: Generator) -> Images:
        for name in ("TranslateX", "TranslateY", "Rotate"):
            strengths = strength * torch.rand(len(x), generator=generator)
            x = _moved(x, name, strengths, generator)
        return x

    return _changing(change)


def cutout(side: float) -> Method:
    return _changing(lambda x, generator: augment.cutout(x, int(side), generator=generator))


def mixup(alpha: float) -> Method:
    def loss(model: nn.Module, x: Images, y: Targets, generator: Generator) -> Tensor:
        x, y = augment.mixup(x, y, alpha, generator=generator)
        return F.cross_entropy(model(x), y)

    return loss


def cutmix(probability: float) -> Method:
    """CutMix with α = 1, in this share of the batches."""

    def loss(model: nn.Module, x: Images, y: Targets, generator: Generator) -> Tensor:
        if torch.rand((), generator=generator) < probability:
            x, y = augment.cutmix(x, y, generator=generator)
        return F.cross_entropy(model(x), y)

    return loss


def rand_augment(magnitude: float) -> Method:
    policy = v2.RandAugment(num_ops=2, magnitude=int(magnitude))

    def change(x: Images, generator: Generator) -> Images:
        with torch.random.fork_rng(devices=[]):  # torchvision takes no generator
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            return torch.stack([policy(image) for image in x])

    return _changing(change)


def augmix(severity: float) -> Method:
    return _changing(lambda x, generator: augment.augmix(x, int(severity), generator=generator))


def torchvisions_augmix(severity: float) -> Method:
    def change(x: Images, generator: Generator) -> Images:
        return augment.augmix(x, int(severity), generator=generator, torchvision_levels=True)

    return _changing(change)


def augmix_jsd(severity: float) -> Method:
    """AugMix, and its loss with the paper's weight."""

    def loss(model: nn.Module, x: Images, y: Targets, generator: Generator) -> Tensor:
        twice = torch.cat([x, x])
        views = torch.cat([x, augment.augmix(twice, int(severity), generator=generator)])
        clean, *others = model(views).chunk(3)
        return F.cross_entropy(clean, y) + JSD_WEIGHT * augment.js_divergence(clean, *others)

    return loss


#: each method with the strengths that it may choose from
METHODS: dict[str, tuple[Callable[[float], Method], tuple[float, ...]]] = {
    "none": (none, (0.0,)),
    "dropout": (dropout, (0.25, 0.5, 0.75)),
    "label smoothing": (label_smoothing, (0.05, 0.1, 0.2)),
    "shift": (shift, (1, 2, 3)),
    "shift, rotate": (shift_and_rotate, (0.2, 0.4, 0.8)),
    "Cutout": (cutout, (4, 8, 12)),
    "MixUp": (mixup, (0.05, 0.2, 0.8)),
    "CutMix": (cutmix, (0.1, 0.3, 1.0)),
    "RandAugment": (rand_augment, (3, 6, 9)),
    "AugMix": (augmix, (3, 5, 8)),
    "AugMix, torchvision": (torchvisions_augmix, (3, 5, 8)),
    "AugMix + JSD": (augmix_jsd, (3, 5, 8)),
}
#: methods that show the network several images where others show one
IMAGES_A_STEP = {"AugMix + JSD": 3}


def settings(name: str) -> list[Setting]:
    """The six settings from which a method's is chosen."""
    _, strengths = METHODS[name]
    rates = RATES if len(strengths) > 1 else (1e-3, 2e-3, 3e-3, 5e-3, 7e-3, 1e-2)
    return [Setting(strength, rate) for strength in strengths for rate in rates]


# What the trained network is tested on ------------------------------------------------------------


def _noise(x: Images, generator: Generator) -> Images:
    return (x + 0.3 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def _blur(x: Images, generator: Generator) -> Images:
    return v2.functional.gaussian_blur(x, [5, 5], [1.5, 1.5])


def _contrast(x: Images, generator: Generator) -> Images:
    return 0.5 + 0.6 * (x - 0.5)


def _shift(x: Images, generator: Generator) -> Images:
    return shifted(x, generator, pixels=2)


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


def validation_images() -> tuple[Images, Int[Tensor, " n"]]:
    """The validation digits, and their labels."""
    return _resized(_digits().x_val), _digits().y_val


def test_images() -> tuple[dict[str, Images], Int[Tensor, " n"]]:
    """The test digits under each of ``TESTS``, always the same, and their labels."""
    x = _resized(_digits().x_test)
    changed = {name: change(x, torch.Generator().manual_seed(0)) for name, change in TESTS.items()}
    return changed, _digits().y_test


# Training and comparing ---------------------------------------------------------------------------


def train(
    method: Method,
    seed: int,
    size: Size = NOTEBOOK,
    rate: float = 5e-3,
    each_step: Callable[[int, nn.Module], None] = lambda step, model: None,
) -> nn.Module:
    """The network, trained with a method; the global random generators are left alone."""
    digits, device = _digits(), runtime.device()
    order, draws, weights = _streams(seed)
    chosen = torch.randperm(len(digits.x_train), generator=order)[: size.train]
    x = _resized(digits.x_train[chosen]).to(device)
    y = F.one_hot(digits.y_train[chosen], CLASSES).float().to(device)
    model = network(size.width, weights).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, size.steps)
    for step in range(size.steps):
        batch = torch.randint(size.train, (BATCH,), generator=order).to(device)
        loss = method(model, x[batch], y[batch], draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        each_step(step, model)
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
def accuracy(model: nn.Module, x: Images, labels: Int[Tensor, " n"]) -> float:
    """How many images are recognised, in %."""
    predicted = model(x.to(runtime.device())).argmax(dim=1).cpu()
    return 100 * (predicted == labels).float().mean().item()


@torch.no_grad()
def scores(
    model: nn.Module, tests: Mapping[str, Images], labels: Int[Tensor, " n"]
) -> Float[Tensor, " columns"]:
    """The columns of ``COLUMNS``: accuracies in %, and the calibration error in points."""
    logits = model(tests["clean"].to(runtime.device())).cpu()
    error = 100 * calibration_error(logits.softmax(dim=1), labels)
    return torch.tensor([*(accuracy(model, x, labels) for x in tests.values()), error])


@torch.no_grad()
def too_sure(model: nn.Module, x: Images, labels: Int[Tensor, " n"]) -> float:
    """Mean confidence less accuracy, in points: above 0 where a network is too sure."""
    confidence = model(x.to(runtime.device())).softmax(dim=1).amax(dim=1).mean().item()
    return 100 * confidence - accuracy(model, x, labels)


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


def choose(
    name: str, size: Size, among: Sequence[Setting], seeds: Sequence[int] = CHOOSING_SEEDS
) -> tuple[Setting, float]:
    """A method's setting with the most right validation digits, and how many these are, in %."""
    make, _ = METHODS[name]
    x, labels = validation_images()
    found = {
        setting: statistics.mean(
            accuracy(train(make(setting.strength), seed, size, setting.rate), x, labels)
            for seed in seeds
        )
        for setting in among
    }
    best = max(found, key=found.__getitem__)
    return best, found[best]


def trained(name: str, setting: Setting, seeds: Sequence[int], size: Size) -> list[nn.Module]:
    """The networks of a method at a setting, one for each seed."""
    method = METHODS[name][0](setting.strength)
    return [train(method, seed, size, setting.rate) for seed in seeds]


def tested(
    name: str, setting: Setting, seeds: Sequence[int], size: Size
) -> Float[Tensor, "seeds columns"]:
    """The scores of a method at a setting, a row for each seed."""
    tests, labels = test_images()
    return torch.stack([scores(m, tests, labels) for m in trained(name, setting, seeds, size)])


def gains(results: Results) -> dict[str, Float[Tensor, "seeds columns"]]:
    """For every other method, what it gains over ``"none"``, seed by seed; positive is better."""
    better = torch.tensor([1.0] * len(TESTS) + [-1.0])  # a calibration error should be small
    base = results["none"]
    return {name: (values - base) * better for name, values in results.items() if name != "none"}


def standard_error(values: Float[Tensor, "seeds columns"]) -> Float[Tensor, " columns"]:
    return values.std(dim=0) / len(values) ** 0.5


def stands_out(gain: Float[Tensor, "seeds columns"]) -> Tensor:
    """Where a mean gain is more than three standard errors from 0."""
    return gain.mean(dim=0).abs() > 3 * standard_error(gain)


def draw(results: Results) -> Figure:
    """Mean gain of each method on each test; white where it does not stand out."""
    found = gains(results)
    means = torch.stack([gain.mean(dim=0) for gain in found.values()])
    errors = torch.stack([standard_error(gain) for gain in found.values()])
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
            f"{mean:+.1f}\n±{errors[row, column]:.1f}",
            **{"ha": "center", "va": "center", "size": 9.5},
            weight="bold" if clear[row, column] else "normal",
            color="white" if dark else "black" if clear[row, column] else "#777777",
        )
    axes.set_xticks(range(len(COLUMNS)), COLUMNS)
    axes.set_yticks(range(len(found)), found)
    axes.grid(False)
    axes.set_title(f"Gain over no augmentation, {len(results['none'])} seeds")
    axes.set_xlabel("percentage points, ± standard error; coloured beyond three standard errors")
    return figure


def table(results: Results) -> str:
    """Levels of ``"none"`` and gains of the others as text; ``*`` where ``stands_out``."""
    width = max(map(len, results)) + 2
    lines = [" " * width + "".join(f"{name:>14}" for name in COLUMNS)]
    base = results["none"]
    plain = [f"{m:.1f} ±{e:.1f}" for m, e in zip(base.mean(0), standard_error(base), strict=True)]
    lines.append(f"{'none':{width}}" + "".join(f"{entry:>14}" for entry in plain))
    for name, gain in gains(results).items():
        parts = zip(gain.mean(0), standard_error(gain), stands_out(gain), strict=True)
        entries = [f"{mean:+.1f} ±{error:.1f}{' *'[clear]}" for mean, error, clear in parts]
        lines.append(f"{name:{width}}" + "".join(f"{entry:>14}" for entry in entries))
    return "\n".join(lines)


# The whole protocol -------------------------------------------------------------------------------


def measured(name: str, seeds: int, size: Size) -> dict:
    """One method's part of ``results.json``: what was chosen, and its scores."""
    runtime.threads(1)
    start = time.process_time()
    chosen, validation = choose(name, size, settings(name))
    models, (tests, labels) = trained(name, chosen, range(seeds), size), test_images()
    part = {
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__.partition("+")[0],
        "torchvision": torchvision.__version__.partition("+")[0],
        **asdict(chosen),
        "validation": round(validation, 2),
        "scores": _rounded(torch.stack([scores(model, tests, labels) for model in models])),
        "too sure": [round(too_sure(model, tests["clean"], labels), 2) for model in models],
    }
    if images := IMAGES_A_STEP.get(name):
        fewer = Size(size.train, size.steps // images, size.width)
        part["scores, same compute"] = _rounded(tested(name, chosen, range(seeds), fewer))
    return {**part, "seconds": round(time.process_time() - start)}


def shipped(path: Path = SHIPPED) -> tuple[dict, dict[str, Float[Tensor, "seeds columns"]]]:
    """What ``results.json`` says of the run, and the scores of each method."""
    said = json.loads(path.read_text("utf-8"))
    results = {}
    for name, part in said["methods"].items():
        results[name] = torch.tensor(part["scores"])
        if "scores, same compute" in part:
            results[f"{name}, 1/{IMAGES_A_STEP[name]} steps"] = torch.tensor(
                part["scores, same compute"]
            )
    return said, results


def _rounded(scores: Float[Tensor, "seeds columns"]) -> list[list[float]]:
    return [[round(score, 2) for score in row] for row in scores.tolist()]


def _streams(seed: int) -> tuple[Generator, Generator, int]:
    """Independent random streams for the batches and the method's draws, and a seed for weights."""
    batches, draws, weights = np.random.SeedSequence(seed).generate_state(3).tolist()
    generators = (torch.Generator().manual_seed(state) for state in (batches, draws))
    return (*generators, weights)


@functools.cache
def _digits() -> data.Split:
    return data.digits(held_out=0.5)


def _changing(change: Change) -> Method:
    """The method that changes the images and leaves the labels."""
    return lambda model, x, y, generator: F.cross_entropy(model(change(x, generator)), y)


def _moved(x: Images, name: str, strengths: Float[Tensor, " n"], generator: Generator) -> Images:
    """Each image moved by one of AugMix's operations, with a sign of its own."""
    operation = torch.full((len(x),), augment.OPERATIONS.index(name))
    sign = 2 * torch.randint(2, (len(x),), generator=generator) - 1
    return augment.operate(x, operation, strengths, sign)


def _resized(x: Images) -> Float[Tensor, "n 1 side side"]:
    return F.interpolate(x, size=SIDE, mode="bilinear")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m chapters.augmentation.experiment",
        description="Train a small network with each augmentation at a setting that is chosen on "
        "validation digits, over several seeds, and compare it with none: accuracy in %, clean and "
        "under corruptions, and the calibration error.",
    )
    parser.add_argument("--seeds", type=int, default=10, help="how many (default 10)")
    for name, default in asdict(FULL).items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default {default})")
    parser.add_argument("--processes", type=int, default=2, help="at the same time (default 2)")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="(default results.json here)")
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error(f"--seeds is {options.seeds}: a spread needs at least 2")
    size = Size(options.train, options.steps, options.width)
    print(f"{size}, {options.seeds} seeds", flush=True)
    work, parts = functools.partial(measured, seeds=options.seeds, size=size), {}
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for name, part in zip(METHODS, pool.map(work, METHODS), strict=True):
            parts[name] = part
            print(f"{name}: {part['seconds']} s", flush=True)
    said = {
        "command": f"python -m chapters.augmentation.experiment --seeds {options.seeds}",
        "seeds": options.seeds,
        "size": asdict(size),
        "columns": [*COLUMNS],
        "methods": parts,
    }
    options.out.write_text(json.dumps(said, indent=1) + "\n", "utf-8")
    print(f"\n{table(shipped(options.out)[1])}\n\n* beyond three standard errors")


if __name__ == "__main__":
    main()
