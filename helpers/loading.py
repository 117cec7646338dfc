"""Data sets that worker processes can import, and the loader arguments that start those workers.

A worker that is not forked gets its data set as a pickle, and a pickle names classes by module. A
class from a notebook's cell is of the module ``__main__``, which in the worker is another one.
"""

import gzip
import pickle
import random
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

SCRIPTS = (
    *("ARABIC", "ARMENIAN", "BENGALI", "CYRILLIC", "DEVANAGARI"),
    *("GEORGIAN", "GREEK", "HEBREW", "TAMIL", "TELUGU"),
)


class Digits(Dataset):
    """Images and their labels, tensors of equal length, the images changed by ``transform``."""

    def __init__(
        self,
        images: Float[Tensor, "n *image"],
        labels: Int[Tensor, " n"],
        transform: Callable[[Tensor], Tensor] | None = None,
    ):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, Int[Tensor, ""]]:
        image = self.images[i]
        if self.transform is not None:
            image = self.transform(image)
        return image, self.labels[i]


class Draws(Dataset):
    """``n`` samples that tell who made them, with a random number from each of four generators.

    Sample ``i`` is a dict of integers: ``sample`` (``i``), ``worker`` (-1 in the main process),
    ``seed`` (the worker's, or -1), and draws below 1000 from ``torch``, ``numpy`` and
    ``random``, the global generators, and from ``own``, a NumPy generator that the data set holds.
    """

    def __init__(self, n: int):
        self.n = n
        self.own = np.random.default_rng(0)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> dict[str, int]:
        info = get_worker_info()
        return {
            "sample": i,
            "worker": info.id if info else -1,
            "seed": info.seed if info else -1,
            "torch": torch.randint(1000, ()).item(),
            "numpy": np.random.randint(1000),
            "random": random.randrange(1000),
            "own": int(self.own.integers(1000)),
        }


def reseed(worker_id: int) -> None:
    """A ``worker_init_fn`` for ``Draws``: its own generator begins anew from the worker's seed."""
    info = get_worker_info()
    info.dataset.own = np.random.default_rng(info.seed)


class Slow(Dataset):
    """Sample ``i`` is the number ``i`` and takes ``waits[i]`` seconds: a disk, or a network."""

    def __init__(self, waits: list[float]):
        self.waits = waits

    def __len__(self) -> int:
        return len(self.waits)

    def __getitem__(self, i: int) -> int:
        time.sleep(self.waits[i])
        return i


class Counted(Dataset):
    """Sample ``i`` is the number ``i``, and ``asked[i]`` how often it was asked for.

    ``asked``, ``Int[Tensor, "n"]``, lies in memory that all processes share.
    """

    def __init__(self, n: int):
        self.asked = torch.zeros(n, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, i: int) -> int:
        self.asked[i] += 1
        return i


class Rows(IterableDataset):
    """scikit-learn's digits as a stream, read line by line: pairs of an image and its class.

    An image is ``Float[Tensor, "1 8 8"]`` in [0, 1], a class an int from 0 to 9. The stream ends
    after ``n`` rows, or with the file's 1,797. Each worker reads all of it.
    """

    def __init__(self, n: int | None = None):
        self.n = n

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "1 8 8"], int]]:
        # Found, not imported: that would take a new process longer than the reading.
        package = Path(find_spec("sklearn").origin).parent
        with gzip.open(package / "datasets" / "data" / "digits.csv.gz", "rt") as lines:
            for line in islice(lines, self.n):
                *pixels, digit = map(float, line.split(","))
                yield torch.tensor(pixels).view(1, 8, 8) / 16, int(digit)


class ShardedRows(Rows):
    """``Rows`` dealt out to the workers like cards: together they give each row once."""

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "1 8 8"], int]]:
        info = get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        return islice(super().__iter__(), first, None, step)


class Letters(Dataset):
    """Names of letters, as Unicode gives them, and the script each letter belongs to.

    A sample is ``(codes, script)``: ``Int[Tensor, "length"]`` with a to z as 1 to 26 and anything
    else as 27 (0 stays free for padding), and a class from 0 to 9, the place in ``SCRIPTS``. How
    many there are depends on Python's version of Unicode.
    """

    def __init__(self):
        names = (unicodedata.name(chr(code), "") for code in range(0x3000))
        parts = (name.partition(" LETTER ") for name in names)
        self.samples = [
            (text.lower(), SCRIPTS.index(script.split()[0]))
            for script, _, text in parts
            if text and script.split()[0] in SCRIPTS
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[Int[Tensor, " length"], int]:
        text, script = self.samples[i]
        codes = [ord(letter) - 96 if "a" <= letter <= "z" else 27 for letter in text]
        return torch.tensor(codes), script


def workers(dataset: Any, n: int) -> dict[str, Any]:
    """Arguments of ``DataLoader`` that load ``dataset`` with ``n`` workers, in a notebook too.

    ::

        DataLoader(dataset, batch_size=32, **workers(dataset, 2))

    What a new process can import is loaded by new processes: safe in a process with threads, and a
    notebook's kernel has threads. On Linux that is ``forkserver``, whose server imports torch at
    the first use, so that later workers start quickly; elsewhere ``spawn``, where each worker does.
    What only a copy of this process has, such as a class from a cell, needs ``fork``: done on
    Linux, where it works as a rule although Python 3.12 and later warn (``DeprecationWarning``)
    that a lock held by another thread stays locked in the copy. On other systems forking is unsafe
    or missing; there one printed line says why the main process loads.
    Workers are kept between epochs. Raises ``ValueError`` for negative ``n``.
    """
    if n < 0:
        raise ValueError(f"the number of workers must be at least 0, got {n}")
    if n == 0:
        return {"num_workers": 0}
    method, why = _start_method(dataset, sys.platform)
    if method is None:
        print(f"{why}: the main process loads it. Put what it needs into a module.")
        return {"num_workers": 0}
    context = torch.multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["torch.utils.data", "helpers.loading"])
    return {"num_workers": n, "multiprocessing_context": context, "persistent_workers": True}


def _start_method(dataset: Any, platform: str) -> tuple[str | None, str]:
    """The start method for a data set on a platform, or None and the reason."""
    obstacle = _obstacle(dataset)
    if not obstacle:
        # Forked from a server or not, system libraries of macOS may fail in the copy.
        return ("forkserver" if platform == "linux" else "spawn"), ""
    if platform == "linux":
        return "fork", ""
    return None, f"A new process can't make a {type(dataset).__name__} ({obstacle})"


def _obstacle(dataset: Any) -> str:
    """Why a new process could not unpickle the data set, or ""."""
    try:
        _Scout(BytesIO()).dump(dataset)
    except Exception as error:  # pickling runs the data set's own code
        return str(error)
    return ""


class _Scout(pickle.Pickler):
    """Pickles without the bulk of the data, and stops at what no other process can import."""

    def reducer_override(self, part: Any) -> Any:
        if isinstance(part, Tensor | np.ndarray):
            return list, ()
        if isinstance(part, type | FunctionType) and _of_this_process(part.__module__):
            raise pickle.PicklingError(f"{part.__qualname__} is defined in {part.__module__}")
        return NotImplemented


def _of_this_process(module: str) -> bool:
    # A script's main module has a file, from which a new process runs it again.
    return module == "__main__" and not hasattr(sys.modules["__main__"], "__file__")
