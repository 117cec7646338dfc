"""Runs notebooks as a reader would, away from the checkout, and brings their outputs back."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from tools import kernel
from helpers.checkout import CourseError

COURSE = Path(__file__).resolve().parents[2]
SECONDS_A_CELL = 600
MOST_KERNELS = 4  # each holds torch in memory


def execute(notebooks: Mapping[str, NotebookNode], room: Path) -> None:
    """Run notebooks, given by name, in place; several at once where there are processors for it.

    Each kernel has one torch thread, imports this very ``helpers`` and writes below ``room`` alone,
    into a folder with the notebook's name. Raises ``CourseError`` with the notebook, the cell and
    the error as soon as a cell raises, takes too long or ends its kernel; no kernel is left then.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(_execute_all(notebooks, room))
    else:  # in a notebook, for example: a thread can run a loop of its own
        with ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(lambda: asyncio.run(_execute_all(notebooks, room))).result()


async def _execute_all(notebooks: Mapping[str, NotebookNode], room: Path) -> None:
    free = asyncio.Semaphore(min(MOST_KERNELS, os.cpu_count() or 1))

    async def execute_one(name: str, nb: NotebookNode) -> None:
        async with free:
            await _execute(nb, name, room / name)

    tasks = [asyncio.create_task(execute_one(name, nb)) for name, nb in notebooks.items()]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _execute(nb: NotebookNode, name: str, room: Path) -> None:
    started = time.monotonic()
    room.mkdir(parents=True)
    client = _Client(nb, room)
    try:
        await client.async_execute()
    except CellExecutionError as error:
        problem = f"{error.ename}: {error.evalue}" if error.evalue else _without_words(error)
    except CellTimeoutError:
        problem = f"it took longer than {SECONDS_A_CELL} seconds"
    except DeadKernelError:
        problem = "it ended the kernel"
    else:
        print(f"{name} ran in {time.monotonic() - started:.0f} seconds.", flush=True)
        return
    raise CourseError(
        f"{name}: cell {client.running!r} stopped the build: {problem}. Run the notebook, mend the "
        "cell, and build again; the site is as it was"
    )


def _without_words(error: CellExecutionError) -> str:
    """The name of an error that says nothing, as ``assert`` raises it, and the line it is from."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", error.traceback)
    lines = re.findall(r"^-+> \d+ (.*)$", plain, re.MULTILINE)
    return f"{error.ename} at {lines[0].strip()!r}" if lines else error.ename


class _Client(NotebookClient):
    """nbclient with a kernel of this Python that lives in ``room``."""

    def __init__(self, nb: NotebookNode, room: Path):
        super().__init__(nb, timeout=SECONDS_A_CELL, shutdown_kernel="immediate")
        # Without a front end for widgets, what an explorer draws is the cell's own output.
        self.widget_registry = {}
        self.running = ""
        self.room = room
        self.environment = _environment(room)

    def create_kernel_manager(self) -> AsyncKernelManager:
        self.km = AsyncKernelManager(**kernel.options(self.room))
        return self.km

    async def async_start_new_kernel(self, **options) -> None:
        # What the kernel and its workers say apart from the cells' outputs is for nobody.
        with (self.room / "kernel.log").open("w") as log:
            options |= {"cwd": str(self.room), "env": self.environment}
            await super().async_start_new_kernel(stdout=log, stderr=log, **options)

    async def async_execute_cell(self, cell: NotebookNode, *arguments, **options) -> NotebookNode:
        self.running = cell.id
        return await super().async_execute_cell(cell, *arguments, **options)


def _environment(room: Path) -> dict[str, str]:
    """This process's environment without its settings of the course, and with folders in room."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TUTORIAL_", "PYTEST_", "PYTHONWARNINGS", "MPLBACKEND"))
    }
    temporary = room / "tmp"
    temporary.mkdir()
    return {
        **inherited,
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)),
        "IPYTHONDIR": str(room / "ipython"),
        "TUTORIAL_SCRATCH": str(room / "scratch"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(COURSE), os.environ.get("PYTHONPATH")])),
    }
