"""Ranks in the threads of one process: how the answers of chapter 09 are tried in milliseconds.

Each thread has a process group of its own, torch's with gloo, so ``torch.distributed`` does there
what it does in a process. What torch keeps for a process as a whole is shared, such as the random
generator.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed import distributed_c10d

from helpers import ranks as processes
from helpers.exercises.sandbox import raise_in
from helpers.exercises.trial import Shortfall

SECONDS = 5.0  # how long a rank waits for another one

_COLLECTED = {2: 1, 8: 2}  # after so many waits, the youngest generations; later, all

_WAITS = (
    "One rank waits for a message that no other rank sends. Each rank has to call the same "
    "collectives in the same order."
)


def together(ranks: int, work: Callable[[int], Any]) -> list[Any]:
    """What ``work(rank)`` returns in each rank, in order.

    Raises the error of the first rank that raises one of its own, and a ``Shortfall`` if ranks
    wait for each other.
    """
    with _worlds():
        shared = dist.HashStore(), threading.Barrier(ranks), threading.Barrier(ranks)
        threads = [_Rank(rank, ranks, work, *shared) for rank in range(ranks)]
        try:
            for thread in threads:
                thread.start()
            _wait_for(threads)
        finally:
            for thread in threads:
                if not thread.ended.is_set():
                    raise_in(thread.ident, SystemExit)
    errors = [thread.error for thread in threads if thread.error is not None]
    own = [error for error in errors if not _is_about_another(error)]
    if own:
        raise own[0]
    if errors:
        raise Shortfall(_WAITS)
    return [thread.value for thread in threads]


def _wait_for(threads: Sequence[_Rank]) -> None:
    waited = 0  # for the rest, since the first has ended
    while alive := [thread for thread in threads if not thread.ended.is_set()]:
        alive[0].ended.wait(0.1)  # an interrupt in `join` would count the thread as ended
        waited += len(alive) < len(threads)
        if waited in _COLLECTED:  # closes what the ended one left open: who waits hears of it
            gc.collect(_COLLECTED[waited])


class _Rank(threading.Thread):
    def __init__(self, rank, ranks, work, store, connected, done):
        super().__init__(daemon=True)
        self.rank, self.ranks, self.work = rank, ranks, work
        self.store, self.connected, self.done = store, connected, done
        self.value: Any = None
        self.error: BaseException | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        with contextlib.suppress(SystemExit):  # `together` ends it with this, wherever it is
            self._take_part()

    def _take_part(self) -> None:
        limit = timedelta(seconds=SECONDS)
        try:
            dist.init_process_group(
                "gloo", store=self.store, rank=self.rank, world_size=self.ranks, timeout=limit
            )
            self.connected.wait(SECONDS)  # who leaves now would keep others from connecting
            self.value = self.work(self.rank)
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # they hold what keeps the group open
            self.error = error
            self.done.abort()
        finally:
            with contextlib.suppress(threading.BrokenBarrierError):
                self.done.wait(0.3)  # then those that wait for this one have to hear of it
            with contextlib.suppress(Exception):  # an answer may have done it
                dist.destroy_process_group()
            self.ended.set()


class _World(threading.local):
    """What torch keeps of the process groups of a process, for each thread."""

    def __init__(self):
        self.default_pg, self.group_count, self.comms = None, 0, []
        self.pg_map, self.pg_names, self.pg_group_ranks = {}, {}, {}
        self.pg_backend_config, self.pg_coalesce_state = {}, {}
        self.tags_to_pg, self.pg_to_tag = {}, {}


@contextlib.contextmanager
def _worlds() -> Iterator[None]:
    """Let each thread have its process groups; torch's own tests do it in the same way.

    ``init_process_group`` gives ``sys.excepthook`` another function each time.
    """
    hook = sys.excepthook
    isolate = distributed_c10d.torch._C._distributed_c10d._set_thread_isolation_mode
    before, distributed_c10d._world = distributed_c10d._world, _World()
    named = os.environ.get(processes.INTERFACE)
    os.environ.update(processes.loopback())
    isolate(True)
    try:
        yield
    finally:
        isolate(False)
        sys.excepthook = hook
        distributed_c10d._world = before
        os.environ.pop(processes.INTERFACE, None)
        if named is not None:
            os.environ[processes.INTERFACE] = named


def _is_about_another(error: BaseException) -> bool:
    """Whether a rank raised this because another one has left, or does not answer."""
    said = str(error)
    words = ("by peer", "Timed out", "Wait timeout", "timed out", "Broken pipe", "Socket")
    return isinstance(error, RuntimeError) and any(word in said for word in words)
