"""Worker processes for a ``DataLoader``, in a notebook too.

A worker that is not forked gets its data set as a pickle, and a pickle names classes by module. A
class from a notebook's cell is of the module ``__main__``, which in the worker is another one.
"""

import pickle
import sys
from io import BytesIO
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info


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


def reseed(worker_id: int) -> None:
    """A ``worker_init_fn``: the data set's own NumPy generator starts from the worker's seed.

    The data set keeps that generator as ``own``. torch seeds the global generators, and no other.
    """
    info = get_worker_info()
    info.dataset.own = np.random.default_rng(info.seed)


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
