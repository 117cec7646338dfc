"""Rules that a tool checks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from chapters import Chapter

ROOT = Path(__file__).parents[3]


def ruff_clean(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """``ruff check`` finds nothing, with the project's settings."""
    yield from _ruff(nb, chapter, "check", "--quiet", "--output-format=concise")


def ruff_formatted(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """``ruff format`` would change nothing."""
    if any(_ruff(nb, chapter, "format", "--check", "--quiet")):
        yield f"not formatted: run `python -m ruff format notebooks/{chapter.stem}.ipynb`"


def nbstripout_clean(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """``nbstripout --keep-id`` would change nothing."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"{chapter.stem}.ipynb")
        file.write_text(_text(nb), "utf-8")
        command = [sys.executable, "-m", "nbstripout", "--verify", "--keep-id", str(file)]
        done = subprocess.run(command, capture_output=True, cwd=folder)
    if done.returncode:
        yield f"not stripped: run `nbstripout --keep-id notebooks/{chapter.stem}.ipynb`"


def _ruff(nb: NotebookNode, chapter: Chapter, *arguments: str) -> list[str]:
    """What ruff has to say, line by line; it reads the notebook from its standard input."""
    file = ROOT / "notebooks" / f"{chapter.stem}.ipynb"
    command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", f"--stdin-filename={file}"]
    done = subprocess.run(
        [*command, "-"], input=_text(nb), capture_output=True, encoding="utf-8", cwd=ROOT
    )
    said = (done.stdout + done.stderr).splitlines()
    return said if said or not done.returncode else [f"ruff ended with {done.returncode}"]


def _text(nb: NotebookNode) -> str:
    return nbformat.v4.writes(nb)
