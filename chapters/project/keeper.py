"""Runs a program with limits, in processes of its own, and ends all of them.

``Keeper`` is what the examiner uses. It starts this file as a process, which has torch loaded and
forks for each run: a run then starts in a moment. Runs of one keeper order sets alike. In the run,
a hook of Python refuses what the program may not do, and notes it. The hook guards against
accidents and simple tricks. It is no wall against a program that brings machine code of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import linecache
import os
import re
import runpy
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

try:
    import resource
except ImportError:  # Windows, where the examiner says that it can't run
    resource = None

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
MEGABYTE = 2**20
TOKEN = "PROJECT_EXAM"  # an environment variable: marks the processes of one keeper
WARM = "warm"
STARTING, GRACE = 120, 30  # seconds until a keeper answers: when it starts, and after a run's limit
_RUNPY = "<frozen runpy>"
# environment variables that say where libraries write
_PLACES = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR")
TAIL = 4000  # characters of what a program printed that are kept
HARMLESS = ("uname", "ldconfig", "lscpu")  # programs that libraries start


@dataclass(frozen=True)
class Limits:
    """What a run may use: seconds by the clock and of the processor, bytes, processes."""

    seconds: float = 150
    processor: int = 40
    memory: int = 3000 * MEGABYTE
    printed: int = MEGABYTE
    file: int = 64 * MEGABYTE
    disk: int = 200 * MEGABYTE
    processes: int = 16


@dataclass(frozen=True)
class Order:
    """A run: the words after ``project.py``, where, what may be written, what not be opened.

    When it has worked ``kill_after`` seconds since its first change in ``out``, the run is killed:
    not before it has changed the file ``saved``, if one is named, or has taken three times as long.
    A file that would grow beyond ``break_at`` bytes kills it, too: in the middle of a write. The
    seconds are those of the processor where the system tells them, else those of the clock.
    """

    words: tuple[str, ...]
    folder: str
    out: str
    home: str
    writable: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    kill_after: float | None = None
    saved: str | None = None
    break_at: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a run ended. ``why`` names the limit that ended it, "killed" if it was to be killed."""

    code: int
    why: str
    seconds: float
    processor: float
    first: float  # seconds of work until the first change in ``out``
    printed: str
    deeds: tuple[tuple[str, str], ...]  # what it tried and may not do
    left: int  # processes that it left behind

    @property
    def fine(self) -> bool:
        return self.code == 0 and not self.why


class Keeper:
    """A process that runs programs; close it in the end. A run that ends it gets a new one.

    ``warm``: it loads torch first, so that the programs need not.
    """

    def __init__(self, warm: bool = True) -> None:
        self.process, self.warm = None, warm

    def run(self, order: Order) -> Ended:
        if self.process is None:
            self._start()
        pid, answer = None, None
        try:
            self.process.stdin.write(json.dumps(asdict(order)) + "\n")
            self.process.stdin.flush()
            pid = self._read(STARTING)
            answer = self._read(order.limits.seconds + GRACE) if pid else None
        except BrokenPipeError:
            pass
        finally:  # also when the reader interrupts
            if answer is None:
                self.close()
                _end_marked(self.token, pid)
        if answer is None:
            deed = ("kill", "the process that started it")
            return Ended(-9, "keeper", 0.0, 0.0, 0.0, "", (deed,), 0)
        return Ended(**{**answer, "deeds": tuple(map(tuple, answer["deeds"]))})

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _start(self) -> None:
        self.token = secrets.token_hex(8)
        left_out = ("TUTORIAL_STRICT", "PYTHONHASHSEED", "PYTHONWARNINGS")
        environment = {name: v for name, v in os.environ.items() if name not in left_out}
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), *([WARM] if self.warm else [])],
            env={**environment, **threads, TOKEN: self.token, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _read(self, seconds: float):
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None


def _end_marked(token: str, pid: int | None) -> None:
    """End what a keeper that is gone has started."""
    if pid:
        _kill_group(pid)
    mark = f"{TOKEN}={token}".encode()
    for _ in range(5):
        found = [p for p in _numbers() if mark in _bytes(f"/proc/{p}/environ")]
        for process in found:
            _kill(process)
        if not found:
            return
        time.sleep(0.1)


# The keeper's process


def serve() -> None:
    """Read an order a line, run it, print the number of its process and then how it ended."""
    _adopt_orphans()
    if sys.argv[1:] == [WARM]:
        _load()
    for line in sys.stdin:
        order = json.loads(line)
        order["limits"] = Limits(**order["limits"])
        order = Order(**order)
        pid = os.fork()
        if pid == 0:
            break
        print(pid, flush=True)
        print(json.dumps(asdict(_watch(pid, order))), flush=True)
    else:
        return
    try:
        os.setsid()
    except BaseException:
        os._exit(99)
    _become(order)


def _load() -> None:
    import torch
    import torch._dynamo  # the first optimizer of a process imports it
    import torch.utils.tensorboard  # noqa: F401

    gc.freeze()  # what a fork's collector does not touch is not copied


def _watch(pid: int, order: Order) -> Ended:
    limits, start = order.limits, time.monotonic()
    before, unsaved = _state(order.out), _stamp(order.saved)
    first, why, worked, next_look = None, "", 0.0, start
    while True:
        ended, status, used = os.wait4(pid, os.WNOHANG)
        now = time.monotonic()
        if ended:
            break
        worked = _worked(pid, now - start)
        if first is None and _state(order.out) != before:
            first = worked
        if now - start > limits.seconds:
            why = "seconds"
        elif order.kill_after is not None and first is not None:
            saved = not order.saved or _stamp(order.saved) != unsaved
            due = order.kill_after if saved else 3 * order.kill_after
            why = "killed" if worked - first >= due else ""
        if not why and now >= next_look:
            why, next_look = _too_much(order), now + 0.1
        if why:
            _kill_group(pid)
            _, status, used = os.wait4(pid, 0)
            break
        time.sleep(0.004)
    seconds = time.monotonic() - start
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        why = "processor"
    if code == -signal.SIGXFSZ:
        why = "killed" if order.break_at else "file"
    left = 0 if why or code < 0 else _still_there()
    _kill_group(pid)
    _end_children()
    deeds = _bytes(f"{order.home}/deeds").decode("utf-8", "replace").splitlines()
    return Ended(
        code=code,
        why=why or _too_much(order),
        seconds=seconds,
        processor=used.ru_utime + used.ru_stime,
        first=worked if first is None else first,
        printed=_bytes(f"{order.home}/printed")[-TAIL:].decode("utf-8", "replace"),
        deeds=tuple(tuple(line.split("\t", 1)) for line in dict.fromkeys(deeds) if "\t" in line),
        left=left,
    )


def _stamp(path: str | None) -> tuple[int, ...]:
    """What changes when a file is written or replaced."""
    try:
        told = os.stat(path or "")
    except OSError:
        return ()
    return told.st_ino, told.st_size, told.st_mtime_ns


def _too_much(order: Order) -> str:
    """The limit that a run has gone beyond, or ""."""
    limits = order.limits
    family = _descendants()
    if len(family) > limits.processes:
        return "processes"
    pages = sum(int((_bytes(f"/proc/{p}/statm").split() or [0, 0])[1]) for p in family)
    if pages * resource.getpagesize() > limits.memory:
        return "memory"
    if len(_bytes(f"{order.home}/printed", limits.printed + 1)) > limits.printed:
        return "printed"
    folders = {order.out, order.home, *order.writable}
    if sum(size for folder in folders for size, _ in _state(folder).values()) > limits.disk:
        return "disk"
    return ""


def _worked(pid: int, seconds: float) -> float:
    """Seconds of the processor that a process has used, if the system tells them."""
    fields = _bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if fields else seconds


def _state(folder: str) -> dict[str, tuple[int, int]]:
    """Size and time of change of each file below a folder."""
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue  # it is gone by now
            found[path] = (status.st_size, status.st_mtime_ns)
    return found


def _adopt_orphans() -> None:
    """On Linux, what a run's processes leave behind becomes a child of this process."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _numbers() -> list[int]:
    return [int(n) for n in os.listdir("/proc") if n.isdecimal()] if os.path.isdir("/proc") else []


def _descendants() -> list[int]:
    """The living processes below this one; on Linux alone."""
    parents = {}
    for process in _numbers():
        fields = _bytes(f"/proc/{process}/stat").rpartition(b")")[2].split()
        if fields and fields[0] != b"Z":
            parents[process] = int(fields[1])
    family, grown = {os.getpid()}, True
    while grown:
        more = {p for p, parent in parents.items() if parent in family} - family
        family, grown = family | more, bool(more)
    return [p for p in family if p != os.getpid()]


def _still_there() -> int:
    """How many processes are there half a second after the program has ended."""
    for _ in range(10):
        _reap()
        if not _descendants():
            return 0
        time.sleep(0.05)
    return len(_descendants())


def _end_children() -> None:
    for _ in range(100):
        family = _descendants()
        for sign in (signal.SIGSTOP, KILL):  # what is stopped can't fork
            for process in family:
                _kill(process, sign)
        _reap()
        if not family:
            return
        time.sleep(0.01)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _kill(pid: int, sign: int = KILL) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, sign)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, KILL)
    except (ProcessLookupError, PermissionError):
        _kill(pid)


def _bytes(path: str, most: int = -1) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError:
        return b""


# The run's process


def _become(order: Order) -> None:
    """Turn this process into the run: its folder, its limits, the hook, then ``project.py``."""
    limits, home = order.limits, order.home
    os.environ.update(dict.fromkeys(_PLACES, home))
    tempfile.tempdir = None  # it is looked up again
    os.chdir(order.folder)
    deeds = os.open(f"{home}/deeds", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    printed = os.open(f"{home}/printed", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream in (1, 2):
        os.dup2(printed, stream)
    if order.break_at:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    size = order.break_at or limits.file
    for kind, most in (
        (resource.RLIMIT_CPU, limits.processor),
        (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))
    _draw_anew()
    linecache.getlines(__file__)  # a traceback shows lines of this file, which may be hidden
    sys.argv = ["project.py", *order.words]
    sys.path[0] = order.folder
    sys.addaudithook(_hook(order, deeds))
    try:
        runpy.run_path("project.py", run_name="__main__")
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if code == 1 and error.code != 1:
            print(error.code, file=sys.stderr)
    except BaseException as error:
        place = error.__traceback__
        while place and place.tb_frame.f_code.co_filename in (__file__, runpy.__file__, _RUNPY):
            place = place.tb_next
        traceback.print_exception(type(error), error, place)
        code = 1
    _leave(code)


def _leave(code: int) -> None:
    """End as Python does, but do not take apart each of torch's modules, which costs a second."""
    gc.collect()  # closes the program's files
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code & 0xFF)


def _draw_anew() -> None:
    """What was loaded before the fork must not give each run the same random numbers."""
    import random

    random.seed()
    if "torch" in sys.modules:
        import numpy
        import torch

        numpy.random.seed()
        torch.default_generator.seed()


_CHANGES = re.compile(
    r"os\.(remove|rename|rmdir|mkdir|link|symlink|truncate|chmod|chown|utime)|shutil\.(rmtree|move)"
)
_STARTS = re.compile(r"subprocess\.Popen|os\.(system|exec|posix_spawn|spawn)|pty\.spawn")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _hook(order: Order, deeds: int):
    """What Python asks before it opens a file, starts a program and the like."""
    inside = [os.path.realpath(p) for p in (order.out, order.home, *order.writable, os.devnull)]
    hidden = [os.path.realpath(p) for p in order.hidden]
    proc = tuple(f"/proc/{name}" for name in (os.getppid(), "1"))

    def below(path: str, folders) -> bool:
        return any(path == folder or path.startswith(f"{folder}{os.sep}") for folder in folders)

    def refuse(kind: str, what: str) -> None:
        os.write(deeds, f"{kind}\t{what}\n".encode("utf-8", "replace")[:500])
        raise PermissionError(f"the examiner does not let a program {kind} {what}")

    def look(path, changes: bool, folder: int = -1) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        given = os.fsdecode(path)
        if folder >= 0:  # relative to an open folder
            given = os.path.join(f"/proc/self/fd/{folder}", given)
        path = os.path.realpath(given)
        if changes and not below(path, inside):
            refuse("change", given)
        if below(path, hidden) or below(path, proc):
            refuse("open", given)

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            look(args[0], bool((args[2] or 0) & _WRITES))
        elif event == "os.listdir" or event == "os.scandir":
            look(args[0], False)
        elif _CHANGES.fullmatch(event):
            two = event in ("os.rename", "os.link", "shutil.move")
            folders = [part for part in args[2:] if type(part) is int] if two else args[-1:]
            if event == "os.mkdir" and os.path.isdir(args[0]):
                return  # Python raises FileExistsError, and nothing changes
            for path, folder in zip(args[: 1 + two], [*folders, -1, -1], strict=False):
                look(path, True, folder if type(folder) is int else -1)
        elif _STARTS.fullmatch(event):
            program = args[0] if isinstance(args[0], (str, bytes, os.PathLike)) else args[0][0]
            if os.path.basename(os.fsdecode(program)) not in HARMLESS:
                refuse("start", os.fsdecode(program))
        elif event in ("socket.connect", "socket.bind") and isinstance(args[1], tuple):
            refuse("connect to", str(args[1]))
        elif event in ("os.kill", "os.killpg"):
            group = args[0] if event == "os.killpg" else args[0] > 0 and os.getpgid(args[0])
            if args[0] != 0 and group != os.getpgrp():
                refuse("kill", "a process that it did not start")

    return hook


if __name__ == "__main__":
    serve()
