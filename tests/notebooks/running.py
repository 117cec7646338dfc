"""Runs one notebook in a kernel of its own and tells all that happened.

nbmake runs the cells; this module prepares the kernel, has ``watcher`` keep a journal in it, and
looks afterwards for processes that outlived it. Nothing of a run stays: not its files, not its
processes, nothing in this process's environment.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import nbmake.nb_run
import psutil
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from nbmake.nb_result import NotebookError, NotebookResult
from nbmake.nb_run import NotebookRun

from tools import kernel
from tests.notebooks import boards

ROOT = Path(__file__).parents[2]
# What the watcher's sample of work takes on the machine for which the budgets were set.
SAMPLE_SECONDS = 0.0008
SECONDS_TO_LEAVE = 6.0  # a TensorBoard that is busy needs more than three


@dataclass(frozen=True)
class Run:
    """What one run of a notebook did.

    ``result`` is nbmake's: the notebook with its outputs, and the error it ended with, if any.
    ``journal`` holds what the watcher wrote, ``dead_boards`` the ids of cells that show a
    TensorBoard which does not answer, ``left_over`` a line on each process that had to be ended.
    """

    result: NotebookResult
    journal: list[dict]
    dead_boards: list[str]
    left_over: list[str]

    def notes(self, kind: str) -> list[dict]:
        """The journal's lines of one kind, in the order they were written."""
        return [note for note in self.journal if note["kind"] == kind]

    @property
    def memory(self) -> int:
        """The most memory the kernel has held, in bytes."""
        return max((note["memory"] for note in self.notes("usage")), default=0)

    @property
    def slowness(self) -> float:
        """How many times as long as where the budgets were set work took here; at least 1.

        Processor time depends on the processor, and on who shares its cores and caches. So the same
        work is timed after every cell; nine times in ten it took no longer than this tells.
        """
        samples = sorted(note["sample"] for note in self.notes("usage"))
        return max(1.0, samples[9 * len(samples) // 10] / SAMPLE_SECONDS) if samples else 1.0

    @property
    def seconds_by_cell(self) -> dict[str, float]:
        """Processor seconds of the kernel and its children, cell by cell, the imports left out.

        Everything up to the cell tagged ``imports`` is left out with it.
        """
        spent = self._seconds_of_all_cells()
        return {cell: seconds for cell, seconds in spent.items() if cell not in self._start(spent)}

    @property
    def seconds_to_start(self) -> float:
        """Processor seconds from the start to the end of the cell tagged ``imports``."""
        spent = self._seconds_of_all_cells()
        return sum(spent[cell] for cell in self._start(spent))

    def _seconds_of_all_cells(self) -> dict[str, float]:
        usage = self.notes("usage")
        totals = [note["seconds"] for note in usage]
        return {
            note["cell"]: after - before
            for note, before, after in zip(usage, [0.0, *totals], totals, strict=False)
        }

    def _start(self, spent: dict[str, float]) -> list[str]:
        """The cells up to the one tagged ``imports``; none if it did not run."""
        cells = list(spent)
        imports = [c.id for c in self.result.nb.cells if "imports" in c.metadata.get("tags", [])]
        return cells[: cells.index(imports[0]) + 1] if set(imports) & set(cells) else []


def run(
    notebook: Path,
    folder: Path,
    timeout: int = 300,
    make_room: Callable[[Path, Path, Mapping[str, str]], Room] | None = None,
    **variables: str,
) -> Run:
    """Run ``notebook`` with ``folder`` as its working directory.

    ``timeout`` is each cell's, in seconds; ``variables`` are added to the kernel's environment.
    ``make_room`` makes another place for the kernel than a ``Room``.
    """
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="nb-", ignore_cleanup_errors=True) as name:
        room = (make_room or Room)(Path(name), folder, {**variables, "NOTEBOOK_RUN": mark})
        try:
            result = _execute(notebook, room, timeout)
        finally:
            left_over = end_processes("NOTEBOOK_RUN", mark)
        return Run(result, room.read_journal(), room.dead_boards, left_over)


class Room:
    """The place a kernel lives in: its files, its environment, its working directory."""

    def __init__(self, path: Path, folder: Path, variables: Mapping[str, str]):
        self.path = path
        self.folder = folder
        self.cell_file = path / "cell"
        self.journal = path / "journal"
        self.dead_boards: list[str] = []
        startup = path / "ipython" / "profile_default" / "startup"
        startup.mkdir(parents=True)
        temporary = path / "tmp"
        temporary.mkdir()
        (startup / "00-watch.py").write_text(self.startup(), "utf-8")
        self.environment = {
            **_inherited(),
            "IPYTHONDIR": str(path / "ipython"),
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)),
            "TUTORIAL_SCRATCH": str(path / "scratch"),
            "OMP_NUM_THREADS": "1",
            **variables,
        }

    def read_journal(self) -> list[dict]:
        if not self.journal.exists():
            return []
        return [json.loads(line) for line in self.journal.read_text("utf-8").splitlines()]

    def kernel(self) -> dict[str, Any]:
        """The arguments of the kernel's manager."""
        return kernel.options(self.path)

    def startup(self) -> str:
        """What the kernel runs before the first cell."""
        # A function, since IPython runs this in the notebook's own namespace.
        return f"""\
def _start():
    import sys

    sys.path.insert(0, {str(ROOT)!r})
    from tests.notebooks import signatures, watcher

    sys.path.remove({str(ROOT)!r})
    signatures.enforce()
    watcher.watch(get_ipython(), {str(self.cell_file)!r}, {str(self.journal)!r})


_start()
del _start
"""


def _inherited() -> dict[str, str]:
    """This process's environment without what would make the run another than a reader's."""
    unwanted = ("PYTEST_", "TUTORIAL_", "PYTHONWARNINGS", "MPLBACKEND")
    return {
        name: value
        for name, value in os.environ.items()
        if name == "TUTORIAL_DEVICE" or not name.startswith(unwanted)
    }


def _execute(notebook: Path, room: Room, timeout: int) -> NotebookResult:
    with _nbmake_uses(functools.partial(WatchedClient, room=room)) as clients:
        try:
            return NotebookRun(notebook, timeout).execute()
        except DeadKernelError as error:
            nb = clients[-1].nb
            place = [cell.id for cell in nb.cells].index(room.cell_file.read_text("utf-8"))
            return NotebookResult(nb, NotebookError(str(error), str(error), place))


@contextmanager
def _nbmake_uses(client_type) -> Iterator[list[NotebookClient]]:
    """Have nbmake make its clients with ``client_type``; give the list of those it made."""
    made = []

    def make(*arguments, **options) -> NotebookClient:
        made.append(client_type(*arguments, **options))
        return made[-1]

    with mock.patch.object(nbmake.nb_run, "NotebookClient", make):
        yield made


class WatchedClient(NotebookClient):
    """nbclient with a kernel that lives in a ``Room``."""

    def __init__(self, nb: NotebookNode, room: Room, **options):
        # A kernel with torch needs two seconds to leave politely; what it has to leave behind is
        # looked for afterwards in either case.
        super().__init__(nb, shutdown_kernel="immediate", **options)
        # nbclient plays the front end for output widgets, and one cell in thirty then waits for a
        # whole time-out. Without that, what a widget's function shows is the cell's own output.
        self.widget_registry = {}
        self.room = room

    def create_kernel_manager(self) -> AsyncKernelManager:
        self.km = AsyncKernelManager(**self.room.kernel())
        return self.km

    async def async_start_new_kernel(self, **options) -> None:
        options |= {"cwd": str(self.room.folder), "env": self.room.environment}
        await super().async_start_new_kernel(**options)

    async def async_execute_cell(self, cell: NotebookNode, *arguments, **options) -> NotebookNode:
        self.room.cell_file.write_text(cell.id, "utf-8")
        await super().async_execute_cell(cell, *arguments, **options)
        if cell.cell_type == "code" and not all(map(_answers, boards.ports(cell))):
            self.room.dead_boards.append(cell.id)
        return cell


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def end_processes(variable: str, value: str) -> list[str]:
    """End the processes with this value in their environment that do not leave by themselves.

    They have ``SECONDS_TO_LEAVE``. Returns a line for each that had to be ended.
    """
    deadline = time.monotonic() + SECONDS_TO_LEAVE
    while (living := _marked(variable, value)) and time.monotonic() < deadline:
        time.sleep(0.05)
    lines = []
    for process in living:
        try:
            lines.append(f"process {process.pid}: {' '.join(process.cmdline())}")
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(living, timeout=1)
    return lines


def _marked(variable: str, value: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _has(process, variable, value)]


def _has(process: psutil.Process, variable: str, value: str) -> bool:
    try:
        return process.environ().get(variable) == value
    except psutil.Error:  # another user's, or gone
        return False
