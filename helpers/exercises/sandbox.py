"""Runs a learner's answer: whatever it does becomes a value, and nothing of it stays behind."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import math
import os
import random
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from helpers import runtime


@dataclass(frozen=True)
class Outcome:
    """What one run gave or raised, what it printed and which warnings it caused."""

    value: Any = None
    error: BaseException | None = None
    printed: str = ""
    warned: tuple[str, ...] = ()


class TookTooLong(BaseException):
    """The time limit. Not an ``Exception``, so that an answer's own ``except`` does not eat it."""


def run(function: Callable[[], Any], *, seed: int, seconds: float) -> Outcome:
    """Call ``function()`` with every random generator seeded, and report what happened.

    Every exception becomes part of the outcome, ``SystemExit`` included; only an interrupt passes
    through. The time limit holds on every platform and in every thread. Without ``SIGALRM``, or
    outside the main thread, it stops Python code only: a single long call into C ends first.
    """
    printed = _Limited(2_000)
    value, error = None, None
    runtime.seed(seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with contextlib.redirect_stdout(printed):
                value = _in_time(function, seconds)
        except KeyboardInterrupt:
            raise
        except TookTooLong:
            error = TookTooLong(f"{seconds:g} s")
        except BaseException as raised:
            error = raised
    warned = tuple(f"{entry.category.__name__}: {entry.message}" for entry in caught)
    return Outcome(value, error, printed.getvalue(), warned)


def error_text(error: BaseException, name: str = "") -> str:
    """The error's text without colours, addresses, and the author's ``name`` for what raised it."""
    try:
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return "(its message cannot be printed)"
    if name:
        text = re.sub(rf"\b{re.escape(name)}\b", "answer", text)
    return re.sub(r"0x[0-9a-f]+", "0x…", text)


def first_line(error: BaseException) -> str:
    lines = error_text(error).strip().splitlines()
    return lines[0][:300] if lines else "(no message)"


def _without_leftovers(empty: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function like ``torch.empty`` that gives NaN: no answer is right by what memory held."""

    @functools.wraps(empty)
    def filled(*arguments: Any, **options: Any) -> Tensor:
        made = empty(*arguments, **options)
        if made.is_floating_point() and made.layout is torch.strided:
            with torch.no_grad():
                made.fill_(math.nan)
        return made

    return filled


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Torch's usual modes inside; afterwards the reader's modes and generators as they were."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    devices = range(torch.accelerator.device_count()) if accelerator else ()
    kind = accelerator.type if accelerator else "cuda"
    with (
        torch.random.fork_rng(devices=devices, device_type=kind),
        torch.inference_mode(False),
        torch.enable_grad(),
        warnings.catch_warnings(),
        contextlib.ExitStack() as afterwards,
    ):
        for device in {"cpu", kind}:
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
                afterwards.enter_context(torch.autocast(device, enabled=False))
        afterwards.callback(_set_device_and_determinism, *_device_and_determinism())
        afterwards.callback(random.setstate, random.getstate())
        afterwards.callback(np.random.set_state, np.random.get_state())
        afterwards.callback(os.chdir, os.getcwd())
        afterwards.callback(torch.set_num_threads, torch.get_num_threads())
        afterwards.callback(torch.set_default_dtype, torch.get_default_dtype())
        afterwards.callback(torch.autograd.set_detect_anomaly, torch.is_anomaly_enabled())
        torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            afterwards.enter_context(torch.device("cpu"))
        for place, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
            made = getattr(place, name)
            if not hasattr(made, "__wrapped__"):  # once is enough: filling counts as a change
                afterwards.callback(setattr, place, name, made)
                setattr(place, name, _without_leftovers(made))
        yield


def _device_and_determinism() -> tuple[torch.device, bool, bool]:
    return (
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def _set_device_and_determinism(device: torch.device, deterministic: bool, warns: bool) -> None:
    now = _device_and_determinism()
    if now[0] != device:
        torch.set_default_device(device)
    if now[1:] != (deterministic, warns):  # setting it imports torch's compiler
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)


def _in_time(function: Callable[[], Any], seconds: float) -> Any:
    """Call ``function()``; raise ``TookTooLong`` in it after ``seconds``, and never afterwards."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    by_signal = in_main_thread and hasattr(signal, "SIGALRM")
    limit = _Alarm(seconds) if by_signal else _Watchdog(seconds)
    try:
        try:
            limit.start()
            return function()
        finally:
            limit.over = True
    finally:
        # Reached with `over` unset if TookTooLong came in the line above.
        limit.over = True
        limit.stop()


#: An answer may catch the first TookTooLong (`except BaseException`), so it is raised again.
_AGAIN = 0.2  # seconds


class _Alarm:
    """The limit by a signal, which also interrupts a sleep."""

    def __init__(self, seconds: float):
        self.seconds, self.over = seconds, False

    def start(self) -> None:
        self._before = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self.seconds, _AGAIN)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)

    def _ring(self, signum: int, frame: Any) -> None:
        if not self.over:
            raise TookTooLong


class _Watchdog:
    """The limit by a thread that raises in the thread that it watches."""

    def __init__(self, seconds: float):
        self.seconds, self.over = seconds, False
        self._watched = threading.get_ident()
        self._stopped = threading.Event()
        self._raising = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        with self._raising:
            raise_in(self._watched, None)  # takes back what has not arrived yet

    def _watch(self) -> None:
        wait = self.seconds
        while not self._stopped.wait(wait):
            with self._raising:
                if self.over or self._stopped.is_set():
                    return
                raise_in(self._watched, TookTooLong)
            wait = _AGAIN


def raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise an error in the thread with this number, as soon as it runs Python code."""
    number = ctypes.c_ulong(thread)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(number, error and ctypes.py_object(error))


class _Limited(io.StringIO):
    """Keeps the first characters and drops the rest, however much is printed."""

    def __init__(self, length: int):
        super().__init__()
        self._room = length

    def write(self, text: str) -> int:
        super().write(text[: self._room])
        self._room -= min(self._room, len(text))
        return len(text)
