"""Worker processes for a ``DataLoader``, in a notebook too.

A worker that is not forked gets its data set as a pickle, and a pickle names classes by module. A
class from a notebook's cell is of the module ``__main__``, which in the worker is another one.
"""

import pickle
import sys
from io import BytesIO
from typing import Any

import numpy as np
import torch
from torch import Tensor

MOST_SERVED = 200  # tensors that a new process is given: each is an open file


def workers(dataset: Any, n: int, *others: Any) -> dict[str, Any]:
    """Arguments of ``DataLoader`` that load ``dataset`` with ``n`` workers, in a notebook too.

    ::

        DataLoader(dataset, batch_size=32, **workers(dataset, 2))

    ``others`` is what else goes to the workers: a ``collate_fn`` or ``worker_init_fn`` of your own.
    What a new process can import is loaded by new processes: safe in a process with threads, and a
    notebook's kernel has threads. On Linux that is ``forkserver``, whose server imports torch at
    the first use, so that later workers start quickly; elsewhere ``spawn``, where each worker does.
    A script needs ``if __name__ == "__main__":`` then.
    What only a copy of this process has, such as a class from a cell, needs ``fork``: done on
    Linux, where it works as a rule although Python 3.12 and later warn (``DeprecationWarning``)
    that a lock held by another thread stays locked in the copy. On Linux, many tensors on the CPU
    and a ``np.memmap`` are forked, too: they need no open files and no copies then. On other
    systems forking is unsafe or missing. Nor is a data set forked that holds what can't be pickled,
    such as an open file, whose position the copies would share. Then one printed line says why the
    main process loads.
    Workers are kept between epochs, with the data set as it was: later changes of it do not reach
    them. Each gives all of an ``IterableDataset`` whose ``__iter__`` takes no share by
    ``get_worker_info()``. Raises ``ValueError`` for negative ``n``.
    """
    if n < 0:
        raise ValueError(f"the number of workers must be at least 0, got {n}")
    if n == 0:
        return {"num_workers": 0}
    method, why = _start_method(dataset, sys.platform, *others)
    if method is None:
        print(why)
        return {"num_workers": 0}
    context = torch.multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["torch.utils.data"])
    return {"num_workers": n, "multiprocessing_context": context, "persistent_workers": True}


def _start_method(dataset: Any, platform: str, *others: Any) -> tuple[str | None, str]:
    """The start method for a data set on a platform, or None and the reason."""
    scout = _Scout(BytesIO())
    try:
        scout.dump((dataset, *others))
    except Exception as error:  # pickling runs the data set's own code
        return None, (
            f"A {type(dataset).__name__} can't be given to workers ({error}): the main process "
            "loads it. Open files and the like in the first __getitem__, not in __init__."
        )
    many = len(scout.memories) > MOST_SERVED
    # Forked from a server or not, system libraries of macOS may fail in the copy.
    if platform == "linux" and (scout.only_here or scout.mapped or (many and scout.on_cpu)):
        return "fork", ""
    if scout.mapped:
        return None, (
            f"A {type(dataset).__name__} holds a memmap, which would be copied whole to each "
            "worker: the main process loads it. Open it in the first __getitem__, not in __init__."
        )
    if not scout.only_here:
        return ("forkserver" if platform == "linux" and not many else "spawn"), ""
    return None, (
        f"A new process can't make a {type(dataset).__name__} ({scout.only_here}): the main "
        "process loads it. Put what it needs into a module."
    )


class _Scout(pickle.Pickler):
    """Pickles without the bulk of the data.

    ``memories`` are those of its tensors, ``on_cpu`` says whether all are there, ``mapped`` whether
    there is an array that lies in a file, and ``only_here`` what no other process can import.
    """

    def __init__(self, file: BytesIO):
        super().__init__(file)
        self.memories: set[int] = set()
        self.on_cpu, self.mapped, self.only_here = True, False, ""

    def reducer_override(self, part: Any) -> Any:
        if isinstance(part, Tensor) and part.layout is torch.strided:
            self.memories.add(part.untyped_storage().data_ptr())
            self.on_cpu &= part.device.type == "cpu"
        if isinstance(part, np.memmap) and part._mmap is not None:  # a copy has the type, too
            self.mapped = True
        if isinstance(part, Tensor | np.ndarray):
            holds_objects = isinstance(part, np.ndarray) and part.dtype.hasobject
            return list, ([type(part), *(part.ravel() if holds_objects else ())],)
        if hasattr(part, "__qualname__") and callable(part) and _of_this_process(part):
            self.only_here = f"{part.__qualname__} is defined in {part.__module__}"
            return list, ()
        return NotImplemented


def _of_this_process(part: Any) -> bool:
    # A script's main module has a file, from which a new process runs it again.
    module = getattr(part, "__module__", None)  # str.strip has none
    of_a_cell = module == "__main__" and not hasattr(sys.modules["__main__"], "__file__")
    return of_a_cell or "<" in part.__qualname__  # <lambda>, or within a function: <locals>
