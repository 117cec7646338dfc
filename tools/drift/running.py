"""Runs a chapter's copy in a kernel of this Python and finds what became of each of its claims."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nbformat
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tools import claims, kernel
from helpers.checkout import CourseError
from tools.claims import Claim
from tools.drift.recorder import Note
from tools.drift.words import in_words
from helpers.expect import is_about_installed

SECONDS_TO_START = 120
SECONDS_OF_A_CELL = 600
ROOT = Path(__file__).parents[2]

Verdict = Literal["still true", "changed", "not reached", "about another torch"]


@dataclass(frozen=True)
class Outcome:
    """What became of a claim; ``instead`` tells what came, or why nothing did."""

    claim: Claim
    verdict: Verdict
    instead: str = ""


@dataclass(frozen=True)
class Visit:
    """One run of a chapter: what became of its claims, and the cells that ended with an error."""

    chapter: str
    outcomes: list[Outcome]
    errors: dict[str, str]  # cell -> the error in a line

    @property
    def changed(self) -> bool:
        """Whether something is no longer as the chapter has it."""
        return bool(self.errors) or any(one.verdict == "changed" for one in self.outcomes)


def visit(notebook: Path) -> Visit:
    """Run a notebook's copy, every cell of it, in a temporary folder.

    An error ends its cell and no more. Raises ``CourseError`` where no kernel starts, or where it
    records nothing.
    """
    nb = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory(prefix="drift-", ignore_cleanup_errors=True) as name:
        room = _Room(Path(name))
        errors = room.run([cell for cell in nb.cells if cell.cell_type == "code"])
        notes = room.notes()
    found = claims.claims_of(nb, notebook.stem)
    return Visit(notebook.stem, list(_outcomes(found, notes, errors)), errors)


def _outcomes(found: list[Claim], notes: list[Note], errors: dict[str, str]) -> Iterator[Outcome]:
    numbers: dict[str, int] = {}
    for claim in found:
        number = numbers[claim.cell] = numbers.get(claim.cell, -1) + 1
        own = [note for note in notes if (note.cell, note.number) == (claim.cell, number)]
        yield _outcome(claim, own, errors.get(claim.cell))


def _outcome(claim: Claim, notes: list[Note], error: str | None) -> Outcome:
    """Of several times, a change counts most; a claim holds if it held whenever it was reached."""
    by_verdict = {note.verdict: note for note in reversed(notes)}
    if note := by_verdict.get("changed"):
        return Outcome(claim, "changed", note.instead)
    if not is_about_installed(claim.since, claim.until):
        limits = {"since": claim.since, "until": claim.until}.items()
        about = " ".join(f"{word} {version}" for word, version in limits if version)
        return Outcome(claim, "about another torch", about)
    if note := by_verdict.get("not reached"):
        return Outcome(claim, "not reached", note.instead)
    if by_verdict:
        return Outcome(claim, "still true")
    return Outcome(claim, "not reached", error or "no cell came to it")


class _Room:
    """The files of a run, and the kernel that is started among them."""

    def __init__(self, path: Path):
        self.path = path
        self.cell_file = path / "cell"
        self.journal = path / "journal"
        startup = path / "ipython" / "profile_default" / "startup"
        for folder in (startup, path / "tmp", path / "work"):
            folder.mkdir(parents=True)
        (startup / "00-record.py").write_text(self._startup(), "utf-8")

    def run(self, cells: list[nbformat.NotebookNode]) -> dict[str, str]:
        """Run the cells; return the error of each that ended with one, by the cell's id."""
        errors: dict[str, str] = {}
        with self._kernel() as (manager, client):
            if not self.journal.exists():
                raise CourseError(
                    "the kernel of this Python started, but IPython did not run the start-up file "
                    f"that records claims: look at what `{sys.executable} -m IPython` says"
                )
            for cell in cells:
                self.cell_file.write_text(cell.id * claims.claims_something(cell), "utf-8")
                try:
                    error = _executed(manager, client, cell.source)
                except _Stopped as stopped:
                    errors[cell.id] = str(stopped)
                    break
                if error:
                    errors[cell.id] = error
        return errors

    def notes(self) -> list[Note]:
        return [Note(**json.loads(line)) for line in self.journal.read_text("utf-8").splitlines()]

    @contextmanager
    def _kernel(self) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
        manager = KernelManager(**kernel.options(self.path))
        manager.start_kernel(
            cwd=str(self.path / "work"),
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        client = manager.blocking_client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=SECONDS_TO_START)
            yield manager, client
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()

    def _environment(self) -> dict[str, str]:
        """This process's environment without what would make the run another than a reader's."""
        unwanted = ("PYTEST_", "PYTHONWARNINGS", "MPLBACKEND", "TUTORIAL_STRICT", "TUTORIAL_DATA")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(unwanted)},
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self.path / "tmp")),
            "IPYTHONDIR": str(self.path / "ipython"),
            "TUTORIAL_SCRATCH": str(self.path / "scratch"),
        }

    def _startup(self) -> str:
        # A function, since IPython runs this in the notebook's own namespace.
        return f"""\
def _start():
    import sys

    sys.path.insert(0, {str(ROOT)!r})
    from tools.drift import recorder

    sys.path.remove({str(ROOT)!r})
    recorder.record(get_ipython(), {str(self.cell_file)!r}, {str(self.journal)!r})


_start()
del _start
"""


class _Stopped(Exception):
    """The kernel goes no further; the message says why."""


def _executed(manager: KernelManager, client: BlockingKernelClient, source: str) -> str:
    """Run a cell; return its error in a line, or "". Raises ``_Stopped``."""
    request = client.execute(source, allow_stdin=False, stop_on_error=False)
    deadline = time.monotonic() + SECONDS_OF_A_CELL
    while time.monotonic() < deadline:
        try:
            reply = client.get_shell_msg(timeout=1)
        except queue.Empty:
            if not manager.is_alive():
                raise _Stopped("the kernel died") from None
            continue
        if reply["parent_header"].get("msg_id") == request:
            answer = reply["content"]
            if answer["status"] == "ok":
                return ""
            return in_words(f"{answer['ename']}: {answer['evalue']}")
    raise _Stopped(f"the kernel was still busy after {SECONDS_OF_A_CELL} s")
