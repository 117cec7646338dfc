"""Runs a notebook in a clean kernel. Nothing else in the course starts one for a whole notebook.

The kernel has its own temporary folder, which also is its working folder, so that no path of this
machine gets into the outputs. When the run is over, the kernel and all its children are ended.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import os
import re
import shutil
import sys
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil
from filelock import FileLock
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_output

from chapters import Chapter
from helpers import checkout
from helpers.checkout import CourseError

ROOT = Path(__file__).resolve().parents[1]
SECONDS_A_CELL = 300
#: names a folder in which ``executed`` keeps its copies
EXECUTED = "COURSE_EXECUTED"
LONGEST_SOCKET = 100  # bytes of a socket's path; macOS takes 103, Linux 107
RUN = "COURSE_RUN"  # marks the processes of a run


@dataclass(frozen=True)
class Failure:
    """An error that ended a cell: in a line, with its traceback in plain text.

    ``line`` is the line of the cell that raised it, None where no line is known.
    """

    cell: str
    error: str
    line: int | None
    trace: str


@dataclass(frozen=True)
class Run:
    """One run of a notebook: the notebook with its outputs, and the wall-clock seconds it took."""

    notebook: NotebookNode
    seconds: float

    @property
    def error(self) -> Failure | None:
        """The first error that ended a cell."""
        return next(failures(self.notebook), None)


def run(
    notebook: Path | NotebookNode,
    *,
    python: str | Path = sys.executable,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    startup: Sequence[str] = (),
    allow_errors: bool = False,
    timeout: int = SECONDS_A_CELL,
) -> Run:
    """Run a copy of a notebook in a kernel of the interpreter ``python``.

    ``folder`` is the working folder, an empty one if left out. ``environment`` is what the kernel
    inherits, ``clean_environment()`` if left out; folders for temporary files are added to it.
    ``startup`` holds programs that IPython runs before the first cell, in the notebook's names.
    ``timeout`` is in seconds, for each cell.

    The first error stops the run unless errors are allowed. A cell that takes too long or ends the
    kernel stops it always; like any error, this becomes an output of the cell. Raises
    ``CourseError`` where no kernel starts.
    """
    if shutil.which(python) is None:
        raise CourseError(f"no kernel starts: there is no Python at {python}")
    nb = copy.deepcopy(notebook) if isinstance(notebook, dict) else nbformat.read(notebook, 4)
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="nb-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        inherited = clean_environment() if environment is None else environment
        variables = {**inherited, **_folders(home), RUN: mark}
        for number, program in enumerate(startup):
            path = home / "ipython" / "profile_default" / "startup" / f"{number:02}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(program, "utf-8")
        work = folder or home / "work"
        client = _Client(
            nb,
            km=AsyncKernelManager(**kernel_options(home, python)),
            timeout=timeout,
            allow_errors=allow_errors,
            # A kernel with torch needs two seconds to leave by itself.
            shutdown_kernel="immediate",
        )
        started = time.monotonic()
        try:
            _execute(client, home, cwd=str(work), env=variables)
        finally:
            _end_processes(mark)
        seconds = time.monotonic() - started
        _hide_paths(nb, [home / "work", home])
        return Run(nb, seconds)


def executed(chapter: Chapter, folder: Path | None = None) -> NotebookNode:
    """A chapter's notebook with its outputs; errors end their cell only.

    ``folder`` is the checkout, this one if left out. Where the environment variable
    ``COURSE_EXECUTED`` names a folder, all processes that share it run a notebook once.
    """
    path = (folder or checkout.root()) / "notebooks" / f"{chapter.stem}.ipynb"
    shared = os.environ.get(EXECUTED)
    if shared is None:
        return run(path, allow_errors=True).notebook
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    kept = Path(shared) / f"{chapter.stem}-{digest}.ipynb"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            partial = kept.with_suffix(".partial")
            nbformat.write(run(path, allow_errors=True).notebook, partial)
            partial.replace(kept)
    return nbformat.read(kept, as_version=4)


def failures(nb: NotebookNode) -> Iterator[Failure]:
    """The errors that ended cells of an executed notebook, in order."""
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield _failure(cell, output)


def clean_environment(**variables: str) -> dict[str, str]:
    """This process's environment without what would make a run differ from a reader's.

    ``variables`` are added. The kernel imports ``helpers`` and ``chapters`` from this checkout.
    """
    unwanted = ("PYTEST_", "TUTORIAL_", "PYTHONWARNINGS", "MPLBACKEND")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **variables}


def kernel_options(folder: Path, python: str | Path = sys.executable) -> dict[str, Any]:
    """The arguments of a ``KernelManager`` for a kernel of ``python`` with its files in ``folder``.

    The kernel is reached through sockets in ``folder`` where the system has them and their paths
    are short enough. Otherwise it takes ports, which another program may take first.
    """
    longest = os.fsencode(folder.resolve() / "kernel-ipc-99")
    sockets = os.name == "posix" and len(longest) <= LONGEST_SOCKET
    return {
        "kernel_spec_manager": _OneKernel(python=str(python)),
        "connection_file": str(folder / "kernel.json"),
        "transport": "ipc" if sockets else "tcp",
    }


class _OneKernel(KernelSpecManager):
    """Knows one kernel, IPython's of ``python``, whatever kernels the user has installed."""

    def __init__(self, python: str):
        super().__init__(kernel_dirs=[])
        self.python = python

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [self.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name=kernel_name, language="python")


class _Client(NotebookClient):
    """nbclient that knows which cell is running."""

    def __init__(self, nb: NotebookNode, **options: Any):
        super().__init__(nb, **options)
        # nbclient plays the front end of output widgets, and one cell in thirty then waits for a
        # whole time-out. Without that, what a widget's function shows is the cell's own output.
        self.widget_registry = {}
        self.owns_km = True  # so that the kernel is shut down here
        self.running: NotebookNode | None = None

    async def async_execute_cell(self, cell: NotebookNode, *arguments, **options) -> NotebookNode:
        self.running = cell
        return await super().async_execute_cell(cell, *arguments, **options)


def _execute(client: _Client, home: Path, **options: Any) -> None:
    """Run the client's notebook; what stops it without an error of its cell becomes one."""
    log = home / "kernel.log"  # what the kernel says besides the outputs of its cells
    try:
        with log.open("wb") as said:
            _to_its_end(client.async_execute(stdout=said, stderr=said, **options))
    except CellExecutionError:
        pass  # the cell holds it
    except CellTimeoutError:
        _add_error(client.running, "TimeoutError", f"not done after {client.timeout} seconds")
    except DeadKernelError:
        _add_error(client.running, "DeadKernelError", "the kernel ended")
    except RuntimeError as error:
        if client.running is not None:
            raise
        raise CourseError(
            "no kernel starts: look at what Python says below, and whether ipykernel is installed "
            f"there\n{error}\n{log.read_text('utf-8', 'replace')[-2000:]}"
        ) from error


def _to_its_end(coroutine: Coroutine) -> None:
    """Run a coroutine, in a thread of its own where a loop is running already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(coroutine)
    else:
        with ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(asyncio.run, coroutine).result()


def _folders(home: Path) -> dict[str, str]:
    """Variables that keep what a kernel writes in folders below ``home``; they are made."""
    for name in ("tmp", "work"):
        (home / name).mkdir()
    return {
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(home / "tmp")),
        "IPYTHONDIR": str(home / "ipython"),
        "TUTORIAL_SCRATCH": str(home / "scratch"),
    }


def _end_processes(mark: str) -> None:
    """End what a run has left: servers, and children of a kernel that ended by itself."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN) == mark:
                process.kill()
                process.wait(5)
        except (psutil.Error, OSError):
            continue  # gone, or another user's


def _hide_paths(nb: NotebookNode, own: Sequence[Path]) -> None:
    """Take the folders ``own``, the checkout and the libraries out of the paths in the outputs.

    ``helpers.expect`` may have broken a line within a path.
    """
    # Packages first, since their folder may lie in that of the standard library.
    packages = [path for path in sys.path if path.endswith("-packages")]
    libraries = [Path(path) for path in [*packages, sysconfig.get_path("stdlib")]]
    paths = {library: f"…/{library.name}/" for library in libraries}
    paths |= dict.fromkeys([*own, ROOT], "")
    for path, instead in paths.items():
        pattern = r"(?:\n    )?".join(map(re.escape, str(path))) + r"[/\\]?"
        for cell in nb.cells:
            for output in cell.get("outputs", []):
                data = output.get("data", output)
                for kind, shown in data.items():
                    if isinstance(shown, str) and kind.startswith("text"):
                        data[kind] = re.sub(pattern, instead, shown)


def _add_error(cell: NotebookNode, name: str, value: str) -> None:
    cell.outputs.append(new_output("error", ename=name, evalue=value, traceback=[]))


def _failure(cell: NotebookNode, output: NotebookNode) -> Failure:
    trace = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(output.traceback))
    place = re.search(r"^-+> *(\d+) (.*)$", trace, re.MULTILINE)  # the first frame is the cell's
    said = " ".join(output.evalue.split())
    if not said and place:  # a plain `assert`
        said = f"at `{place[2].strip()}`"
    error = f"{output.ename}: {said}" if said else output.ename
    return Failure(cell.id, error, int(place[1]) if place else None, trace)
