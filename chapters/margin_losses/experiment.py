"""Does a margin help to tell whether two images show the same? Heads compared in verification.

``python -m chapters.margin_losses.experiment`` runs the whole protocol and writes ``results.json``
beside this file; ``--help`` lists its options. The protocol:

1. Two images are accepted as one class if the cosine of their features is large enough.
2. Digits: trained on seven of the ten, tested on new images of these and of the other three.
3. Characters, drawn in 16 faces of fonts: trained on 10 or 160, tested on 60 never trained on.
4. A seed decides the classes, the first weights and the batches, the same for every head.
5. Every head has 18 settings: two rates of Adam, each with nine scales, or with three margins at
   three scales. Each is trained with three seeds; the one with the lowest equal error rate in
   validation is kept: on other images of the known digits, on 40 other characters.
6. The kept setting is trained with twenty other seeds, and tested once for each.
7. Measured: equal error rate; share of same pairs accepted (TAR) at 1 % false acceptance (FAR); the
   false acceptance at a threshold that gave 1 % elsewhere: on new images of the classes trained on,
   and, for the characters, on the 40 others.
8. Every head gets the same number of steps and the same Adam.
9. A difference is taken seed by seed from the cosine head without a margin whose scale does the
   same: both stay, or both rise. Its scale and its rate are its own. So each margin head is also
   compared with this rival at the scale and the rate of the margin head.
10. Standard errors are over the test seeds, with the kept settings: they leave out that other seeds
   in validation may keep another setting.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import itertools
import json
import statistics
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from helpers import data, margins, plots, runtime

Images = Float[Tensor, "n 1 side side"]
Labels = Int[Tensor, " n"]
#: a row for each seed, a column for each of a task's columns
Results = Mapping[str, Float[Tensor, "seeds columns"]]

FEATURES = 32
BATCH = 64
RATES = (0.01, 0.03)  # in trials, 0.003 and 0.1 were worse
CHOOSING_SEEDS = (100, 101, 102)
KNOWN = 7  # digits
IMAGES = 6400  # of characters, to train on
WARMUP = 0.2  # of the steps, in which a margin rises
RISE = 0.9  # of the steps, in which a scale rises from 1
MEASURES = ("equal error rate", "TAR at 1 % FAR")
SHIPPED = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Size:
    """How much is trained: so many steps, with an encoder of this width."""

    steps: int
    width: int


FULL = Size(steps=600, width=64)


@dataclass(frozen=True)
class Setting:
    """A head's scale, its margin, and the rate of Adam."""

    scale: float = 1.0
    margin: float = 0.0
    rate: float = RATES[0]


# The heads ----------------------------------------------------------------------------------------


# Several runs are trained at once, as a stack: the first dimension of every tensor is the run.

Stack = Float[Tensor, "runs n features"]


def logits(
    name: str,
    x: Stack,
    labels: Int[Tensor, "runs n"],
    head: Mapping[str, Tensor],
    scale: Float[Tensor, "runs 1 1"],
    margin: float,
) -> Float[Tensor, "runs n classes"]:
    """What the head of this name makes of features; ``margin`` is on each row's own class."""
    if name == "softmax":
        return scale * x @ head["weight"].mT
    if name == "cosine, learned":
        scale = head["log_scale"].exp()  # stays near 20 at most: CLIP limits it to 100
    cosine = margins.directions(x) @ margins.directions(head["weight"]).mT
    if has_margin(name):
        own = labels.unsqueeze(2)
        target = TARGETS[name.removesuffix(RISING)](cosine.gather(2, own), margin)
        cosine = cosine.scatter(2, own, target)
    return scale * cosine


TARGETS = {"CosFace": margins.cosface_target, "ArcFace": margins.arcface_target}
RISING = ", rising"  # how the name of a head ends whose scale rises


def has_margin(name: str) -> bool:
    return name.removesuffix(RISING) in TARGETS


def contrastive(
    x: Stack, labels: Int[Tensor, "runs n"], scale: Float[Tensor, "runs 1 1"] | float
) -> Float[Tensor, " runs"]:
    """The supervised contrastive loss; it has no class weights. The scale is 1 / temperature.

    Khosla et al., "Supervised Contrastive Learning" (2020), equation 2.
    """
    x = F.normalize(x, dim=-1)
    itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    log_shares = (scale * x @ x.mT).masked_fill(itself, -1e9).log_softmax(dim=2)
    same = (labels[:, :, None] == labels[:, None, :]) & ~itself
    partners = same.sum(dim=2)
    each = -(log_shares * same).sum(dim=2) / partners.clamp(min=1)
    return each.sum(dim=1) / (partners > 0).sum(dim=1)


SCALES = (2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 13.0, 20.0, 30.0)


def _grid(scales: Sequence[float], margins: Sequence[float] = (0.0,)) -> list[Setting]:
    return [Setting(s, m, rate) for rate in RATES for m in margins for s in scales]


#: the 18 settings of each head, among which validation chooses; softmax's scale is a plain factor
SETTINGS: dict[str, list[Setting]] = {
    "softmax": _grid((0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)),
    "cosine": _grid(SCALES),
    "CosFace": _grid((3.0, 8.0, 20.0), (0.05, 0.15, 0.35)),
    "ArcFace": _grid((3.0, 8.0, 20.0), (0.1, 0.2, 0.5)),
    "cosine, rising": _grid((3.0, 5.0, 7.0, 10.0, 13.0, 16.0, 20.0, 30.0, 45.0)),
    "CosFace, rising": _grid((5.0, 10.0, 20.0), (0.05, 0.15, 0.35)),
    "ArcFace, rising": _grid((5.0, 10.0, 20.0), (0.1, 0.2, 0.5)),
    "cosine, learned": _grid((1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 13.0, 20.0)),
    "contrastive": _grid(SCALES),
}


# The tasks: what is trained on, chosen by and tested on -------------------------------------------


class Task(NamedTuple):
    """``batch`` gives images and labels to train on; the others are images and labels.

    Settings are chosen by the first of ``thresholds``, and a threshold is set on each of them.
    """

    classes: int
    batch: Callable[[Generator], tuple[Images, Labels]]
    thresholds: dict[str, tuple[Images, Labels]]
    tests: dict[str, tuple[Images, Labels]]

    @property
    def validation(self) -> tuple[Images, Labels]:
        return next(iter(self.thresholds.values()))


@functools.lru_cache(maxsize=24)
def digits_task(seed: int) -> Task:
    """Seven digits to train on; new images of them, and images of the other three."""
    digits = data.digits(held_out=0.5)
    known = known_digits(seed)
    train, val, test = (torch.isin(y, known) for y in (digits.y_train, digits.y_val, digits.y_test))
    x, y = digits.x_train[train], torch.searchsorted(known, digits.y_train[train])

    def batch(generator: Generator) -> tuple[Images, Labels]:
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        return x[rows], y[rows]

    return Task(
        KNOWN,
        batch,
        {"known digits": (digits.x_val[val], digits.y_val[val])},
        {
            "known": (digits.x_test[test], digits.y_test[test]),
            "unknown": (digits.x_test[~test], digits.y_test[~test]),
        },
    )


def known_digits(seed: int) -> Int[Tensor, " known"]:
    """The digits that a seed draws for training, in order."""
    return _draw(10, seed)[:KNOWN].sort().values


@functools.lru_cache(maxsize=24)
def characters_task(seed: int, classes: int) -> Task:
    """6,400 images of so many characters to train on, and images of 60 others to test on.

    A threshold is set on 40 other characters, and on new images of the characters trained on.
    """
    shapes = glyphs()
    # The same 40 to choose by for every seed, so none of the others was ever chosen by.
    order = _draw(len(shapes), 0)
    choosing, rest = order[:40], order[40:]
    rest = rest[_draw(len(rest), seed)]
    test, train = rest[:60], rest[60 : 60 + classes]

    def images(
        characters: Int[Tensor, " classes"], each: int, stream: int
    ) -> tuple[Images, Labels]:
        labels = torch.arange(len(characters)).repeat_interleave(each)
        generator = torch.Generator().manual_seed(1000 * stream + seed)
        return looks(shapes[characters[labels]], generator), labels

    each = IMAGES // classes
    x, _ = images(train, each, 0)

    def batch(generator: Generator) -> tuple[Images, Labels]:
        # Each drawn class twice: the contrastive loss needs partners, and all heads get the same.
        labels = torch.randint(classes, (BATCH // 2,), generator=generator).repeat(2)
        return x[labels * each + torch.randint(each, (BATCH,), generator=generator)], labels

    thresholds = {
        "other characters": images(choosing, 20, 1),
        "trained characters": images(train, 1200 // classes, 3),
    }
    return Task(classes, batch, thresholds, {"never seen": images(test, 20, 2)})


TASKS: dict[str, Callable[[int], Task]] = {
    "7 digits": digits_task,
    "10 characters": functools.partial(characters_task, classes=10),
    "160 characters": functools.partial(characters_task, classes=160),
}


def columns(task: str) -> list[str]:
    """What is measured in a task, in per cent; in brackets, where the threshold for 1 % was set."""
    if task == "7 digits":
        kinds, thresholds = ("known", "unknown"), ("known digits",)
    else:
        kinds, thresholds = ("never seen",), ("other characters", "trained characters")
    measures = (*MEASURES, *(f"FAR ({name})" for name in thresholds))
    return [f"{kind}: {measure}" for kind in kinds for measure in measures]


FACES = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
)
GLYPH = 24  # pixels of a character before it is turned and made smaller
SIDE = 16  # pixels of an image


@functools.cache
def glyphs() -> Float[Tensor, "characters faces glyph glyph"]:
    """Letters and numbers of Latin, Greek and Cyrillic in every face, none like another.

    A character whose images have a mean cosine above 0.85 with those of one before it is left out:
    A is in three alphabets, and o is a small O.
    """
    known = set.intersection(*(set(FT2Font(file).get_charmap()) for file in _font_files()))
    letters = (chr(code) for code in sorted(known) if code < 0x500)
    shapes = drawn("".join(c for c in letters if unicodedata.category(c)[0] in "LN"))
    directions = F.normalize(shapes.flatten(2), dim=2)
    alike = torch.einsum("afp,bfp->ab", directions, directions) / shapes.shape[1]
    kept: list[int] = []
    for number, cosines in enumerate(alike):
        if not kept or cosines[kept].max() < 0.85:
            kept.append(number)
    return shapes[kept]


def drawn(characters: str) -> Float[Tensor, "characters faces glyph glyph"]:
    """Each character in every face, as large as its square."""
    fonts = [ImageFont.truetype(file, 64) for file in _font_files()]
    return torch.stack([torch.stack([_drawn(c, font) for font in fonts]) for c in characters])


def looks(shapes: Float[Tensor, "n faces glyph glyph"], generator: Generator) -> Images:
    """An image of each character: in a random face, size and place, turned a little, with noise."""
    n, faces = shapes.shape[:2]
    face = torch.randint(faces, (n,), generator=generator)
    turn, size, right, down = torch.rand(4, n, generator=generator) * 2 - 1
    angle, zoom = 0.2 * turn, 1.35 + 0.2 * size  # radians; the square by the character
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = [cos, -sin, 0.15 * right, sin, cos, 0.15 * down]
    theta = torch.stack(rows, dim=1).view(n, 2, 3)
    grid = F.affine_grid(theta, [n, 1, SIDE, SIDE], align_corners=False)
    images = F.grid_sample(shapes[torch.arange(n), face, None], grid, align_corners=False)
    return images + 0.2 * torch.randn(images.shape, generator=generator)


# Training and measuring ---------------------------------------------------------------------------


def encoder(width: int, pixels: int) -> nn.Module:
    """The chapter's encoder: three linear layers."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, FEATURES),
    )


class Run(NamedTuple):
    """What one training is made of."""

    setting: Setting
    task: Task
    seed: int


class Encoders(nn.Module):
    """Encoders as a stack, each as ``encoder`` makes it; called with images ``(runs, n, …)``."""

    def __init__(self, models: Sequence[nn.Module]):
        super().__init__()
        parameters, buffers = torch.func.stack_module_state(list(models))
        self.parts = nn.ParameterDict({_name(n): p.detach() for n, p in parameters.items()})
        self.running = {_name(name): buffer for name, buffer in buffers.items()}

    def forward(self, x: Float[Tensor, "runs n *image"]) -> Stack:
        x = x.flatten(2)
        for layer in ("1", "4"):
            x = F.relu(self._normalised(self._linear(x, layer), str(int(layer) + 1)))
        return self._linear(x, "7")

    def _linear(
        self, x: Float[Tensor, "runs n inputs"], layer: str
    ) -> Float[Tensor, "runs n outputs"]:
        weight, bias = self.parts[f"weight{layer}"], self.parts[f"bias{layer}"]
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    def _normalised(self, x: Stack, layer: str) -> Stack:
        """BatchNorm sees each run's features as columns of their own."""
        runs, n, features = x.shape
        columns = F.batch_norm(
            x.transpose(0, 1).reshape(n, -1),
            self.running[f"running_mean{layer}"].view(-1),
            self.running[f"running_var{layer}"].view(-1),
            self.parts[f"weight{layer}"].view(-1),
            self.parts[f"bias{layer}"].view(-1),
            training=self.training,
        )
        return columns.view(n, runs, features).transpose(0, 1)


def train(name: str, runs: Sequence[Run], size: Size) -> Encoders:
    """Encoders, each trained with a head on its task; the global random generators are left alone.

    The runs have one margin and one rate; the number of classes is the same in all tasks.
    """
    device, classes = runtime.device(), runs[0].task.classes
    generators, models, weights = [], [], []
    for run in runs:
        batches, first = np.random.SeedSequence(run.seed).generate_state(2).tolist()
        generators.append(torch.Generator().manual_seed(batches))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(first)
            models.append(encoder(size.width, run.task.validation[0][0].numel()))
            weights.append(nn.init.xavier_uniform_(torch.empty(classes, FEATURES)))
    scale = torch.tensor([run.setting.scale for run in runs], device=device).view(-1, 1, 1)
    head = {"weight": torch.stack(weights).to(device).requires_grad_()}
    if name == "cosine, learned":
        head["log_scale"] = scale.log().requires_grad_()
    stack = Encoders([model.to(device) for model in models])
    (margin,) = {run.setting.margin for run in runs}
    (rate,) = {run.setting.rate for run in runs}
    optimizer = torch.optim.Adam([*stack.parameters(), *head.values()])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=size.steps)
    for step in range(size.steps):
        drawn = [run.task.batch(own) for run, own in zip(runs, generators, strict=True)]
        x, y = (torch.stack(part).to(device) for part in zip(*drawn, strict=True))
        share = step / size.steps
        scale_now = 1 + min(share / RISE, 1) * (scale - 1) if name.endswith(RISING) else scale
        if name == "contrastive":
            losses = contrastive(stack(x), y, scale)
        else:
            found = logits(name, stack(x), y, head, scale_now, min(share / WARMUP, 1) * margin)
            losses = F.cross_entropy(found.mT, y, reduction="none").mean(dim=1)
        optimizer.zero_grad()
        losses.sum().backward()  # the runs share no parameter, so each gets its own slopes
        optimizer.step()
        schedule.step()
    return stack.eval()


def _name(parameter: str) -> str:
    """``weight1`` for ``1.weight``: a ParameterDict allows no dots."""
    layer, _, kind = parameter.partition(".")
    return kind + layer


@torch.no_grad()
def encoded(stack: Encoders, images: Sequence[Tensor]) -> list[Tensor]:
    """The features of each run's own images, which may be more or fewer."""
    padded = nn.utils.rnn.pad_sequence(list(images), batch_first=True)
    features = stack(padded.to(runtime.device())).cpu()
    return [rows[: len(own)] for rows, own in zip(features, images, strict=True)]


def measures(
    thresholds: Sequence[tuple[Tensor, Tensor]], in_test: Sequence[tuple[Tensor, Tensor]]
) -> list[float]:
    """The columns of a task, in per cent, of the features and labels of each part."""
    levels = []
    for features, labels in thresholds:
        scores, same = margins.pair_scores(features, labels)
        levels.append(scores[~same].quantile(0.99))
    found = []
    for features, labels in in_test:
        scores, same = margins.pair_scores(features, labels)
        false, true = margins.roc(scores, same)
        found += [
            margins.equal_error_rate(scores, same),
            torch.where(false <= 0.01, true, 0.0).max().item(),
            *((scores[~same] > level).float().mean().item() for level in levels),
        ]
    return [100 * rate for rate in found]


def choose(
    name: str, task: str, among: Sequence[Setting], size: Size
) -> tuple[Setting, dict[Setting, float]]:
    """The setting with the lowest equal error rate in validation, and that of each, in per cent."""
    found: dict[Setting, list[float]] = {}
    for _, group in itertools.groupby(among, key=lambda setting: (setting.rate, setting.margin)):
        runs = [Run(s, TASKS[task](seed), seed) for s in group for seed in CHOOSING_SEEDS]
        features = encoded(train(name, runs, size), [run.task.validation[0] for run in runs])
        for run, rows in zip(runs, features, strict=True):
            scores = margins.pair_scores(rows, run.task.validation[1])
            found.setdefault(run.setting, []).append(100 * margins.equal_error_rate(*scores))
    means = {setting: statistics.mean(rates) for setting, rates in found.items()}
    return min(means, key=means.__getitem__), means


def tested(
    name: str, task: str, setting: Setting, seeds: Sequence[int], size: Size
) -> Float[Tensor, "seeds columns"]:
    """The columns of a head at a setting, a row for each seed; ``"pixels"`` are not trained."""
    runs = [Run(setting, TASKS[task](seed), seed) for seed in seeds]
    stack = None if name == "pixels" else train(name, runs, size)

    def features(parts: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        images = [x for x, _ in parts]
        found = [x.flatten(1) for x in images] if stack is None else encoded(stack, images)
        return [(x, y) for x, (_, y) in zip(found, parts, strict=True)]

    def by_run(part: str) -> list[tuple[tuple[Tensor, Tensor], ...]]:
        named = [getattr(run.task, part) for run in runs]
        kinds = [features([own[kind] for own in named]) for kind in named[0]]
        return list(zip(*kinds, strict=True))

    rows = zip(by_run("thresholds"), by_run("tests"), strict=True)
    return torch.tensor([measures(thresholds, tests) for thresholds, tests in rows])


# The whole protocol -------------------------------------------------------------------------------


def measured(job: tuple[str, str], seeds: int, size: Size) -> dict:
    """One head's part of a task in ``results.json``: what was chosen, and its columns."""
    runtime.threads(1)
    task, name = job
    start = time.process_time()
    part = {}
    setting = Setting()
    if name != "pixels":
        setting, found = choose(name, task, SETTINGS[name], size)
        part = {
            **asdict(setting),
            "validation": round(found[setting], 2),
            "of each setting": [round(rate, 2) for rate in found.values()],
        }
    part["columns"] = _rounded(tested(name, task, setting, range(seeds), size))
    if has_margin(name):
        bare = Setting(setting.scale, 0.0, setting.rate)
        rows = tested(rival(name), task, bare, range(seeds), size)
        part["without the margin"] = _rounded(rows)
    return {**part, "seconds": round(time.process_time() - start)}


def shipped(path: Path = SHIPPED) -> tuple[dict, dict[str, dict[str, Tensor]]]:
    """What ``results.json`` says of the run, and of each task the columns of each head."""
    said = json.loads(path.read_text("utf-8"))
    results = {
        task: {name: torch.tensor(part["columns"]) for name, part in heads.items()}
        for task, heads in said["tasks"].items()
    }
    return said, results


def without_margin(said: dict) -> dict[str, dict[str, Tensor]]:
    """Of each task the columns of each margin head's rival, at the margin head's scale and rate."""
    return {
        task: {
            name: torch.tensor(part["without the margin"])
            for name, part in heads.items()
            if has_margin(name)
        }
        for task, heads in said["tasks"].items()
    }


def rival(name: str) -> str:
    """The cosine head without a margin whose scale does the same."""
    return "cosine" + (RISING if name.endswith(RISING) else "")


def standard_error(values: Float[Tensor, "seeds ..."]) -> Tensor:
    return values.std(dim=0) / len(values) ** 0.5


def table(said: dict, results: Mapping[str, Results]) -> str:
    """Every task's columns as text: mean ± standard error (and its difference from the rival)."""
    lines = []
    for task, heads in results.items():
        lines.append(
            f"\nTrained on {task}; in brackets, the difference from 'cosine', "
            "or for a rising scale from 'cosine, rising'"
        )
        lines.append(" " * 31 + "".join(f"{column:>38}" for column in columns(task)))
        for name, values in heads.items():
            part = said["tasks"][task][name]
            setting = ", ".join(
                f"{part[key]:g}" for key in ("scale", "margin", "rate") if key in part
            )
            gap = values - heads[rival(name)]
            cells = (
                f"{m:.2f} ± {e:.2f} ({d:+.2f} ± {de:.2f})"
                for m, e, d, de in zip(
                    values.mean(0),
                    standard_error(values),
                    gap.mean(0),
                    standard_error(gap),
                    strict=True,
                )
            )
            lines.append(f"{name:16}{setting:15}" + "".join(f"{cell:>38}" for cell in cells))
    return "\n".join(lines)


def differences(
    results: Mapping[str, Results],
    column: int,
    rivals: Mapping[str, Results] | None = None,
) -> str:
    """Margin head less rival in every task, seed by seed: mean ± standard error, * above three.

    ``rivals`` is what ``without_margin`` gives; by default, the rivals are those of the results.
    """
    lines = [" " * 16 + "".join(f"{task:>17}" for task in results)]
    for name in filter(has_margin, SETTINGS):
        line = f"{name:16}"
        for task, heads in results.items():
            other = rivals[task][name] if rivals else heads[rival(name)]
            gap = (heads[name] - other)[:, column]
            mean, error = gap.mean(), standard_error(gap)
            star = "*" if mean.abs() > 3 * error else " "
            line += f"{f'{mean:+.2f} ± {error:.2f}{star}':>17}"
        lines.append(line)
    return "\n".join(lines)


def levels(results: Mapping[str, Results]) -> str:
    """Each measure on classes that were not trained on: lowest and highest head, and the pixels."""
    lines = []
    for task, heads in results.items():
        means = torch.stack([heads[name].mean(dim=0) for name in SETTINGS])
        for column, name in enumerate(columns(task)):
            if not name.startswith("known"):
                low, high = means[:, column].aminmax()
                pixels = heads["pixels"][:, column].mean()
                spread = f"{low:4.1f} to {high:4.1f} %, pixels {pixels:4.1f} %"
                lines.append(f"{task:15} {name:37} {spread}")
    return "\n".join(lines)


def draw(results: Mapping[str, Results], panels: Sequence[tuple[str, int]]) -> Figure:
    """A panel for each task and column: the mean of every head, and two standard errors."""
    heads = [name for name in results[panels[0][0]] if name != "pixels"]
    figure, axes = plt.subplots(1, len(panels), figsize=(9.6, 3.4), sharey=True)
    for one, (task, column) in zip(axes, panels, strict=True):
        for place, name in enumerate(heads):
            values = results[task][name][:, column]
            error = 2 * standard_error(values).item()
            colour = plots.COLOURS[1 if has_margin(name) else 0]
            one.errorbar(values.mean(), place, xerr=error, fmt="o", color=colour, capsize=3)
        kind, _, measure = columns(task)[column].partition(": ")
        one.set_title(f"{task}, {kind}", loc="center", size=11)
        one.set(xlabel=f"{measure} (%)", ylim=(len(heads) - 0.5, -0.5))
    axes[0].set_yticks(range(len(heads)), heads)
    return figure


def _rounded(rows: Float[Tensor, "seeds columns"]) -> list[list[float]]:
    return [[round(rate, 2) for rate in row] for row in rows.tolist()]


def _draw(n: int, seed: int) -> Int[Tensor, " n"]:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _font_files() -> list[str]:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [str(folder / f"{face}.ttf") for face in FACES]


def _drawn(character: str, font: ImageFont.FreeTypeFont) -> Float[Tensor, "glyph glyph"]:
    """A character in the middle of a square that it fills from side to side or top to bottom."""
    paper = Image.new("L", (192, 192))
    ImageDraw.Draw(paper).text((48, 48), character, fill=255, font=font)
    ink = paper.crop(paper.getbbox())
    square = Image.new("L", (max(ink.size),) * 2)
    square.paste(ink, ((square.width - ink.width) // 2, (square.height - ink.height) // 2))
    small = np.array(square.resize((GLYPH, GLYPH), Image.Resampling.BOX))
    return torch.from_numpy(small).float() / 255


def _kept(path: Path, seeds: int, size: Size) -> dict:
    """The results in a file, which must be of the same size as those that are added."""
    said = json.loads(path.read_text("utf-8"))
    if (said["size"], said.get("seeds")) != (asdict(size), seeds):
        raise SystemExit(f"{path} holds results of another size or number of seeds: run all tasks.")
    return said


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m chapters.margin_losses.experiment", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, default=20, help="how many to test with (20)")
    for name, default in asdict(FULL).items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default {default})")
    parser.add_argument(
        "--task", choices=TASKS, action="append", help="this one anew, the others as in the file"
    )
    parser.add_argument("--processes", type=int, default=2, help="at the same time (default 2)")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="(default results.json here)")
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error(f"--seeds is {options.seeds}: a spread needs at least 2")
    size = Size(options.steps, options.width)
    print(f"{size}, {options.seeds} seeds", flush=True)
    again = options.task or [*TASKS]
    tasks = dict(_kept(options.out, options.seeds, size)["tasks"]) if options.task else {}
    tasks |= {task: {} for task in again}
    jobs = [*itertools.product(again, ("pixels", *SETTINGS))]
    work = functools.partial(measured, seeds=options.seeds, size=size)
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for (task, name), part in zip(jobs, pool.map(work, jobs), strict=True):
            tasks[task][name] = part
            print(f"{task}, {name}: {part['seconds']} s", flush=True)
    said = {
        "command": f"python -m chapters.margin_losses.experiment --seeds {options.seeds}",
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__.partition("+")[0],
        "matplotlib": matplotlib.__version__,
        "size": asdict(size),
        "seeds": options.seeds,
        "characters": len(glyphs()),
        "tasks": {task: tasks[task] for task in TASKS if task in tasks},
    }
    options.out.write_text(json.dumps(said, indent=1) + "\n", "utf-8")
    print(table(*shipped(options.out)))


if __name__ == "__main__":
    main()
