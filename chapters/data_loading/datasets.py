"""The data sets of chapter 04, in a module, from which worker processes can import them."""

import gzip
import random
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset, get_worker_info

SCRIPTS = (
    *("ARABIC", "ARMENIAN", "BENGALI", "CYRILLIC", "DEVANAGARI"),
    *("GEORGIAN", "GREEK", "HEBREW", "TAMIL", "TELUGU"),
)

# A row for each digit: 64 pixels from 0 to 16, and the class. Found without an import of
# scikit-learn: that would take a new process longer than the reading.
DIGITS_FILE = Path(find_spec("sklearn").origin).parent / "datasets" / "data" / "digits.csv.gz"


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


class DigitFiles(Dataset):
    """Images in files ``<class>/<name>.png`` of a folder, in the order of their paths.

    A sample is ``Float[Tensor, "1 height width"]`` in [0, 1] and the class, an int. A file is read
    when its sample is asked for.
    """

    def __init__(self, folder: Path):
        self.paths = sorted(Path(folder).glob("*/*.png"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Float[Tensor, "1 height width"], int]:
        path = self.paths[i]
        pixels = np.array(Image.open(path).convert("L"), dtype=np.float32) / 255
        return torch.from_numpy(pixels)[None], int(path.parent.name)


class Records(Dataset):
    """The bytes of a file, as ints; each process that reads opens the file for itself."""

    def __init__(self, path: Path):
        self.path, self.file = path, None

    def __len__(self) -> int:
        return self.path.stat().st_size

    def __getitem__(self, i: int) -> int:
        if self.file is None:
            self.file = self.path.open("rb")
        self.file.seek(i)
        return self.file.read(1)[0]


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
    """A ``worker_init_fn``: the generator ``own`` of the data set starts from the worker's seed.

    The data set may lie behind one ``Subset`` or several. Raises ``TypeError`` where it has no
    ``own``: nothing would be seeded.
    """
    info = get_worker_info()
    dataset = info.dataset
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    if not hasattr(dataset, "own"):
        raise TypeError(f"{type(dataset).__name__} has no generator `own`")
    dataset.own = np.random.default_rng(info.seed)


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
        with gzip.open(DIGITS_FILE, "rt") as lines:
            for line in islice(lines, self.n):
                numbers = torch.tensor([float(text) for text in line.split(",")])
                yield numbers[:64].view(1, 8, 8) / 16, int(numbers[64])


def my_share(stream: Iterable[Any], info: Any) -> Iterable[Any]:
    """This worker's samples of a stream, dealt out like cards; all of them where info is None.

    ``info`` is what ``get_worker_info()`` returns. No later sample is read than the one given.
    """
    if info is None:
        return stream
    return islice(stream, info.id, None, info.num_workers)


class ShardedRows(Rows):
    """``Rows``, of which each worker gives its share: together they give each row once."""

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "1 8 8"], int]]:
        return iter(my_share(super().__iter__(), get_worker_info()))


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
