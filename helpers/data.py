"""The data sets of the course, as tensors on the CPU."""

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from helpers import runtime


class Split(NamedTuple):
    """Inputs and targets of three parts of the rows: to train on, to choose by, and to test on."""

    x_train: Float[Tensor, "train *features"]
    y_train: Shaped[Tensor, "train *target"]
    x_val: Float[Tensor, "val *features"]
    y_val: Shaped[Tensor, "val *target"]
    x_test: Float[Tensor, "test *features"]
    y_test: Shaped[Tensor, "test *target"]


def digits(held_out: float = 0.25, seed: int = 0) -> Split:
    """1,797 handwritten digits, ``sklearn.datasets.load_digits``; no network needed.

    Inputs are ``Float[Tensor, "n 1 8 8"]`` in [0, 1], 0 the background; targets are the classes 0
    to 9, ``Int[Tensor, "n"]``, int64. Of the fraction ``held_out``, one half is for validation and
    one for the test. ``seed`` decides which rows these are and the order of all; each class has the
    same share of all parts. Raises ``ValueError`` unless ``held_out`` is between 0 and 1 and leaves
    each part enough rows.
    """
    source = _digits_file()
    images = torch.from_numpy(source.images).float().div(16).unsqueeze(1)
    classes = torch.from_numpy(source.target).long()
    return _split(images, classes, _parts(source.target, held_out, seed, stratified=True))


def diabetes(held_out: float = 0.25, seed: int = 0) -> Split:
    """442 patients, ``sklearn.datasets.load_diabetes(scaled=False)``; no network needed.

    Inputs are 10 measurements at baseline (age, sex, body-mass index, blood pressure and six blood
    values), ``Float[Tensor, "n 10"]``. The target is the progression of the disease one year later,
    ``Float[Tensor, "n 1"]``. Every column is standardised with the mean and the standard deviation
    of the training rows, so its unit is one training standard deviation. ``held_out`` and ``seed``
    as for ``digits``, and with the same ``ValueError``.
    """
    from sklearn.datasets import load_diabetes

    source = load_diabetes(scaled=False)
    x = torch.from_numpy(source.data)
    y = torch.from_numpy(source.target).unsqueeze(1)
    parts = _parts(source.target, held_out, seed, stratified=False)
    return _split(_standardised(x, parts[0]), _standardised(y, parts[0]), parts)


def image_data(source: str | None = None) -> Split:
    """Images to classify: ``source``, else ``TUTORIAL_DATA``, else ``"digits"``.

    ``"fashion_mnist"`` (60,000 and 10,000 images, 1×28×28) and ``"cifar10"`` (50,000 and 10,000,
    3×32×32) are downloaded once, by torchvision, into ``runtime.scratch("downloads")``. The last
    sixth of the training images is for validation. Inputs are
    ``Float[Tensor, "n c h w"]``, float32 in [0, 1]; targets are int64 classes. One printed line
    says what was loaded. Raises ``ValueError`` for an unknown name and ``ConnectionError`` if a
    download fails; another data set is never loaded in its place.
    """
    name = source or os.environ.get("TUTORIAL_DATA") or "digits"
    if name != "digits" and name not in _TORCHVISION:
        known = ", ".join(map(repr, ("digits", *_TORCHVISION)))
        raise ValueError(
            f"unknown data set {name!r}: it must be one of {known}, as the argument of image_data "
            "or in TUTORIAL_DATA"
        )
    split = digits() if name == "digits" else _from_torchvision(name)
    shape = "x".join(map(str, split.x_train.shape[1:]))
    print(
        f"{name}: {len(split.x_train)} training, {len(split.x_val)} validation and "
        f"{len(split.x_test)} test images, {shape}"
    )
    return split


_TORCHVISION = {"fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}


def _from_torchvision(name: str) -> Split:
    import torchvision.datasets

    dataset = getattr(torchvision.datasets, _TORCHVISION[name])
    home = runtime.scratch("downloads") / name
    if not home.exists():
        _download(name, dataset, home)
    images, classes = _as_tensors(dataset(home, train=True))
    last = len(images) // 6
    first = len(images) - last
    return Split(
        images[:first],
        classes[:first],
        images[first:],
        classes[first:],
        *_as_tensors(dataset(home, train=False)),
    )


def _download(name: str, dataset: Callable[..., Any], home: Path) -> None:
    """Fill ``home``, which comes into being only when everything is there."""
    # torchvision takes any file of the right name for a good one once it is unpacked, so what is
    # interrupted must not bear the final name.
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=f"{name}-") as unfinished:
        partial = Path(unfinished, name)
        try:
            dataset(partial, train=True, download=True)
        except Exception as error:
            raise ConnectionError(
                f"the download of {name!r} to {home.parent} failed ({type(error).__name__}: "
                f"{error}). Try again when this is put right; image_data('digits') needs none"
            ) from error
        try:
            partial.rename(home)
        except OSError:
            if not home.exists():  # else another process was quicker, and its files are whole
                raise


def _as_tensors(dataset: Any) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
    """A torchvision data set of uint8 images, (n, h, w) or (n, h, w, c), as inputs and targets."""
    images = torch.as_tensor(dataset.data, device="cpu")
    images = images.unsqueeze(1) if images.ndim == 3 else images.movedim(-1, 1)
    classes = torch.as_tensor(dataset.targets, device="cpu").long()
    return images.float().div(255).contiguous(), classes


@functools.cache  # to parse the text takes longer than most of what is done with a split
def _digits_file() -> Any:
    from sklearn.datasets import load_digits

    return load_digits()


def _parts(
    target: Any, held_out: float, seed: int, *, stratified: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows to train on, to choose by and to test on, with the same share of each class."""
    from sklearn.model_selection import train_test_split

    if not 0 < held_out < 1:
        raise ValueError(f"held_out must be between 0 and 1, got {held_out}")

    def divided(rows, size):
        by = target[rows] if stratified else None
        return train_test_split(rows, test_size=size, random_state=seed, stratify=by)

    try:
        train, rest = divided(np.arange(len(target)), held_out)
        parts = train, *divided(rest, 0.5)
    except TypeError:  # also a ValueError, of a seed
        raise
    except ValueError as error:
        raise ValueError(
            f"held_out={held_out} leaves a part with too few of {len(target)} rows: take one "
            "nearer to 0.5"
        ) from error
    return tuple(map(torch.from_numpy, parts))


def _split(x: Tensor, y: Tensor, parts: tuple[Tensor, Tensor, Tensor]) -> Split:
    return Split(*(values[rows] for rows in parts for values in (x, y)))


def _standardised(
    values: Float[Tensor, "n columns"], train: Int[Tensor, " train"]
) -> Float[Tensor, "n columns"]:
    """Float32 columns in units of the training rows' standard deviation, around their mean."""
    if (values[train] == values[train[0]]).all(dim=0).any():
        raise ValueError(
            f"a column is the same in all {len(train)} training rows, so it can't be standardised: "
            "lower held_out"
        )
    std, mean = torch.std_mean(values[train], dim=0)
    return ((values - mean) / std).float()
