"""Runs a learner's answer: whatever it does becomes a value, and nothing of it stays behind."""

from __future__ import annotations

import contextlib
import io
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from helpers import runtime


@dataclass(frozen=True)
class Outcome:
    """What one run did.

    The value it gave or the error it raised, what it printed and which warnings it caused;
    ``arguments`` holds what it was called with, as the run left them.
    """

    value: Any = None
    error: BaseException | None = None
    arguments: tuple = ()
    printed: str = ""
    warned: tuple[str, ...] = ()


class TookTooLong(BaseException):
    """The time limit. Not an ``Exception``, so that an answer's own ``except`` does not eat it."""


def run(function: Callable[[], Any], *, seed: int, seconds: float) -> Outcome:
    """Call ``function()`` with every random generator seeded, and report what happened.

    Every exception becomes part of the outcome, ``SystemExit`` included; only an interrupt passes
    through. The time limit holds in the main thread on platforms with ``SIGALRM``.
    """
    printed = _Limited(2_000)
    value, error = None, None
    runtime.seed(seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with contextlib.redirect_stdout(printed), _time_limit(seconds):
                value = function()
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            error = raised
    warned = tuple(f"{entry.category.__name__}: {entry.message}" for entry in caught)
    return Outcome(value, error, (), printed.getvalue(), warned)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Give the reader's random generators, gradient mode and default dtype back as they were."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    grad_enabled, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    devices = range(torch.accelerator.device_count()) if accelerator else ()
    kind = accelerator.type if accelerator else "cuda"
    with torch.random.fork_rng(devices=devices, device_type=kind):
        try:
            torch.set_grad_enabled(True)
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            torch.set_grad_enabled(grad_enabled)
            torch.set_default_dtype(dtype)


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not (in_main_thread and hasattr(signal, "SIGALRM")):
        yield
        return

    def stop(signum, frame):
        raise TookTooLong(f"{seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    # The alarm repeats, in case the first one falls into an `except BaseException`.
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Limited(io.StringIO):
    """Keeps the first characters and drops the rest, however much is printed."""

    def __init__(self, length: int):
        super().__init__()
        self._room = length

    def write(self, text: str) -> int:
        super().write(text[: self._room])
        self._room -= min(self._room, len(text))
        return len(text)
