"""Runs inside the kernel of a tested notebook and writes down what its outputs do not tell.

``watch`` is called by a start-up file before the first cell. It appends JSON lines to the journal,
each naming the cell that was running:

``warning``   a warning that was shown (``category``, ``message``, ``file``, ``line``)
``command``   a shell command with an exit code that is not 0 (``command``, ``code``)
``error``     the exception a cell ended with, magics' usage errors included (``error``)
``usage``     after each cell: processor time so far, the kernel's own and its children's
              (``seconds``), the most memory the kernel has held (``memory``, in bytes), and what
              a piece of work takes that is always the same (``sample``, in seconds)
``device``    after each cell, where the kernel has the pretended accelerator: what has become of
              it so far (see ``tests.long.accelerator.device.usage``)
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import psutil
from IPython.utils.process import get_output_error_code
from IPython.utils.text import LSString, SList


def watch(shell, cell_file: str, journal: str) -> None:
    """Watch an IPython ``shell``. The runner keeps the id of the running cell in ``cell_file``."""
    notes = Notes(Path(cell_file), Path(journal))
    _watch_cells(shell, notes)
    _watch_warnings(notes)
    _watch_commands(shell, notes)


class Notes:
    """The journal; it takes notes only while a cell runs."""

    def __init__(self, cell_file: Path, journal: Path):
        self.cell_file = cell_file
        self.journal = journal
        self.cell = None

    def open_cell(self, *_) -> None:
        self.cell = self.cell_file.read_text("utf-8")

    def close_cell(self) -> None:
        self.cell = None

    def add(self, kind: str, **facts) -> None:
        if self.cell is None:
            return
        line = json.dumps({"kind": kind, "cell": self.cell, **facts})
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _watch_cells(shell, notes: Notes) -> None:
    def after_cell(result) -> None:
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            notes.add("error", error=f"{type(error).__name__}: {error}")
        usage = {"seconds": processor_seconds(), "memory": peak_memory(), "sample": sample()}
        notes.add("usage", **usage)
        if accelerator := sys.modules.get("tests.long.accelerator.device"):
            notes.add("device", **accelerator.usage())
        notes.close_cell()
        _show_every_warning_of_torch()

    shell.events.register("pre_run_cell", notes.open_cell)
    shell.events.register("post_run_cell", after_cell)


def _watch_warnings(notes: Notes) -> None:
    show = warnings.showwarning

    def note(message, category, filename, lineno, file=None, line=None) -> None:
        notes.add(
            "warning",
            category=category.__name__,
            message=str(message),
            file=filename,
            line=lineno,
        )
        show(message, category, filename, lineno, file, line)

    warnings.showwarning = note
    warnings.simplefilter("always")


def _show_every_warning_of_torch() -> None:
    """By default, torch gives some warnings once a process; a cell may have expected that one."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_warn_always(True)


def _watch_commands(shell, notes: Notes) -> None:
    """Replace the functions behind ``!command``, ``%pip`` and ``lines = !command``."""
    run = shell.system

    def note(command: str, code: int) -> None:
        if code != 0:
            notes.add("command", command=command, code=code)

    def system(command: str) -> None:
        expanded = shell.var_expand(command, depth=1)
        run("{expanded}")  # the shell expands its caller's variables: this one, and nothing in it
        note(expanded, shell.user_ns["_exit_code"])

    def getoutput(command: str, split: bool = True, depth: int = 0) -> SList | LSString:
        expanded = shell.var_expand(command, depth=depth + 1)
        out, err, code = get_output_error_code(expanded)
        note(expanded, code)
        return SList((out + err).splitlines()) if split else LSString(out + err)

    shell.system, shell.getoutput = system, getoutput


def processor_seconds() -> float:
    """Seconds of processor time of this process, its children, and theirs, living or ended."""
    return sum(map(_seconds, [psutil.Process(), *psutil.Process().children(recursive=True)]))


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it ended between being listed and being asked
        return 0.0
    return times.user + times.system + times.children_user + times.children_system


def sample() -> float:
    """Seconds of this thread's processor time for work that is the same after every cell."""
    started = time.thread_time()
    sum(n * n % 7 for n in range(15_000))
    return time.thread_time() - started


def peak_memory() -> int:
    """The most memory this process has held, in bytes; what it holds now where nobody counts."""
    status = Path("/proc/self/status")
    if status.exists():  # not ru_maxrss, which a process inherits from the one that started it
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    memory = psutil.Process().memory_info()
    return getattr(memory, "peak_wset", memory.rss)
