"""The project's data: handwritten digits made harder, from ``sklearn.datasets.load_digits``.

Each writer has a style: a slant, a size, a pen, a sheet. In the training file, a picture was
scanned twice, the classes are not equally frequent, and some labels are wrong. In every file, some
scans are damaged. Nobody is the writer of two files. The same seed gives the same data.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

SIDE = 16
CLASSES = 10
A_WRITER = 36  # pictures in a row of load_digits(), which come from one hand or from two
WRITERS = {"train": range(30), "test": range(30, 37), "unseen": range(37, 49)}
KEPT = (1, 1, 1, 1, 1, 0.8, 0.8, 0.6, 0.35, 0.35)  # of each class, in the training file
WRONG, DAMAGED = 0.06, 0.12  # shares of the training labels, and of all scans
LETTERS = "ACEFHKMNPRTUVWXY"  # no letter that looks like a digit


class Part(NamedTuple):
    """Rows: images (n, 16, 16), float32 in [0, 1], their classes and their writers, int64."""

    images: np.ndarray
    labels: np.ndarray
    writers: np.ndarray


@functools.cache
def part(name: str, seed: int = 0) -> Part:
    """The rows of ``"train"``, ``"test"`` or ``"unseen"``; the last are in no file."""
    return _made(name, seed)[0]


def pictures(name: str, seed: int = 0) -> np.ndarray:
    """For each row the number of the picture that was scanned, (n,) int64; it is in no file."""
    return _made(name, seed)[1]


def _made(name: str, seed: int) -> tuple[Part, np.ndarray]:
    from sklearn.datasets import load_digits

    source = load_digits()
    draw = torch.Generator().manual_seed(1000 * seed + list(WRITERS).index(name))
    rows = len(source.target) // A_WRITER * A_WRITER
    order = torch.randperm(rows // A_WRITER, generator=torch.Generator().manual_seed(seed))
    hands = torch.arange(rows) // A_WRITER
    writers = order.argsort()[hands]  # a number from 0 on for each hand
    labels = torch.from_numpy(source.target[:rows]).long()
    chosen = (writers >= WRITERS[name].start) & (writers < WRITERS[name].stop)
    if name == "train":
        chosen &= torch.rand(rows, generator=draw) < torch.tensor(KEPT)[labels]
    chosen = chosen.nonzero().squeeze(1)
    if name == "train":
        chosen = chosen.repeat(2)
    chosen = chosen[torch.randperm(len(chosen), generator=draw)]
    pictures = torch.from_numpy(source.images).float().div(16)[chosen]
    images = _scanned(pictures, _styles(seed)[writers[chosen]], draw)
    labels = labels[chosen]
    if name == "train":
        wrong = torch.rand(len(labels), generator=draw) < WRONG
        other = torch.randint(1, CLASSES, labels.shape, generator=draw)
        labels = torch.where(wrong, (labels + other) % CLASSES, labels)
    return Part(images.numpy(), labels.numpy(), writers[chosen].numpy()), chosen.numpy()


def letters(seed: int = 0) -> np.ndarray:
    """Images of capital letters, (n, 16, 16), scanned as the digits of unseen writers are."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    file = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    font = ImageFont.truetype(str(file), 30)
    pictures = []
    for letter in LETTERS:
        sheet = Image.new("L", (32, 32))
        ImageDraw.Draw(sheet).text((16, 16), letter, fill=255, font=font, anchor="mm")
        pictures.append(torch.from_numpy(np.array(sheet)).float().div(255))
    small = avg_pool2d(torch.stack(pictures)[:, None], 4).squeeze(1)
    small = (1.6 * small).clamp(max=1)
    writers = torch.tensor(WRITERS["unseen"])
    styles = _styles(seed)[writers].repeat_interleave(len(small), dim=0)
    draw = torch.Generator().manual_seed(1000 * seed + 9)
    return _scanned(small.repeat(len(writers), 1, 1), styles, draw).numpy()


def write(folder: str | Path, seed: int = 0) -> None:
    """Write ``train.npz`` and ``test.npz`` into a folder, which is made if it is not there."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "test"):
        save(folder / f"{name}.npz", part(name, seed))


def save(path: Path, rows: Part) -> None:
    """Write rows to a file that ``numpy.load`` reads."""
    np.savez(path, **rows._asdict())


def _styles(seed: int) -> Tensor:
    """A row for each writer: turn, slant, width, height, pen, ink, sheet."""
    draw = torch.Generator().manual_seed(77 + seed)
    low = torch.tensor([-0.25, -0.35, 0.8, 0.8, 0.6, 0.55, 0.0])
    high = torch.tensor([0.25, 0.35, 1.1, 1.1, 1.7, 1.0, 0.25])
    return low + (high - low) * torch.rand(WRITERS["unseen"].stop, 7, generator=draw)


def _scanned(pictures: Tensor, styles: Tensor, draw: torch.Generator) -> Tensor:
    """Pictures (n, 8, 8) as their writers (styles (n, 7)) draw them and a scanner sees them."""
    n = len(pictures)
    turn, slant, width, height, pen, ink, sheet = styles.T
    turn = turn + 0.07 * torch.randn(n, generator=draw)
    zero = torch.zeros(n)
    shift = 0.12 * torch.randn(n, 2, generator=draw)
    rows = [turn.cos() / width, turn.sin() + slant, zero, -turn.sin(), turn.cos() / height, zero]
    matrix = torch.stack(rows, dim=1).view(n, 2, 3)
    matrix[:, :, 2] = shift
    grid = affine_grid(matrix, [n, 1, SIDE, SIDE], align_corners=False)
    drawn = grid_sample(pictures[:, None], grid, align_corners=False).squeeze(1)
    drawn = drawn.clamp(0, 1) ** _column(pen) * _column(ink)
    scan = _column(sheet) + (1 - _column(sheet)) * drawn
    scan = scan + 0.06 * torch.randn(scan.shape, generator=draw)
    return _damaged(scan, draw).clamp(0, 1)


def _damaged(scan: Tensor, draw: torch.Generator) -> Tensor:
    """Some scans with three rows missing, blurred, inverted, or with a blot."""
    n = len(scan)
    kind = torch.randint(4, (n,), generator=draw)
    kind[torch.rand(n, generator=draw) >= DAMAGED] = -1
    place = torch.randint(SIDE - 5, (n,), generator=draw)
    line = torch.arange(SIDE)
    stripe = (line >= place[:, None]) & (line < place[:, None] + 3)
    blot = (line >= place[:, None]) & (line < place[:, None] + 5)
    kinds = [
        scan.masked_fill(stripe[:, :, None], 0),
        avg_pool2d(scan[:, None], 5, stride=1, padding=2).squeeze(1),
        1 - scan,
        scan.masked_fill(blot[:, :, None] & blot[:, None, :], 1),
    ]
    for number, damaged in enumerate(kinds):
        scan = torch.where(_column(kind == number), damaged, scan)
    return scan


def _column(values: Tensor) -> Tensor:
    return values[:, None, None]
