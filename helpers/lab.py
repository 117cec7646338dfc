"""The reader's working copy of the notebooks, and JupyterLab on it.

Reading does not change the checkout: a reader works on copies in ``work/``, which git ignores.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path

from chapters import CHAPTERS, Chapter
from helpers.checkout import CourseError


def update(folder: Path) -> list[str]:
    """Bring the working copy of a checkout up to date without losing an edit.

    Copies what is missing and replaces what the reader has not edited (outputs and empty cells are
    no edits). Returns a line for each notebook that has a newer version and was edited, and which
    therefore stays as it is.
    """
    work = working_copy(folder)
    work.mkdir(exist_ok=True)
    copied = _copied(work)
    kept = []
    for original in sorted((folder / "notebooks").glob("*.ipynb")):
        name, copy = original.name, work / original.name
        newest, theirs = _fingerprint(original), _fingerprint(copy)
        if theirs in (_ABSENT, copied.get(name)) and theirs != newest:
            copy.write_bytes(original.read_bytes())
            theirs = newest
        if theirs == newest:
            copied[name] = newest
        elif copied.get(name) != newest:
            kept.append(name)
    (work / _RECORD).write_text(json.dumps(copied, indent=1), "utf-8")
    return [_kept_line(name.removesuffix(".ipynb")) for name in kept]


def set_aside(folder: Path, chapter: Chapter) -> str | None:
    """Rename the reader's copy of a chapter, so that ``update`` copies it anew.

    Returns a line with the name that it has now, or None if there was no copy.
    """
    copy = working_copy(folder) / f"{chapter.stem}.ipynb"
    if not copy.exists():
        return None
    number = 1
    while (aside := copy.with_name(f"{chapter.stem}.yours-{number}.ipynb")).exists():
        number += 1
    copy.rename(aside)
    return f"Your {copy.name} is now {aside.name}."


def launch(folder: Path, arguments: list[str]) -> None:
    """Run JupyterLab on the working copy until it ends; ``arguments`` are JupyterLab's own.

    Raises ``CourseError`` if JupyterLab is not installed.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise CourseError(
            "JupyterLab is not installed: in the course's folder, run "
            f'`{sys.executable} -m pip install -e ".[lab]"`'
        )
    # Without this, a kernel that was installed for the user could take the place of this Python's.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    from jupyterlab.labapp import LabApp

    where = f"--ServerApp.root_dir={working_copy(folder)}"
    start = f"--LabApp.default_url=/lab/tree/{CHAPTERS[0].stem}.ipynb"
    LabApp.launch_instance([where, start, *arguments])


def working_copy(folder: Path) -> Path:
    """Where a checkout's working copy lies."""
    return folder / "work"


_RECORD = ".copied.json"  # notebook -> fingerprint of the version that was copied
_ABSENT = "absent"


def _copied(work: Path) -> dict[str, str]:
    """The record of what was copied. Where it cannot be read, nothing is known to be unedited."""
    try:
        record = json.loads((work / _RECORD).read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _fingerprint(notebook: Path) -> str:
    """A digest of the sources of a notebook's cells.

    Empty cells do not count: JupyterLab adds one when the last cell is run.
    """
    if not notebook.exists():
        return _ABSENT
    content = notebook.read_bytes()
    try:
        cells = [
            (cell["cell_type"], "".join(cell["source"])) for cell in json.loads(content)["cells"]
        ]
    except (ValueError, TypeError, KeyError):
        return hashlib.sha256(content).hexdigest()
    sources = json.dumps([cell for cell in cells if cell[1].strip()])
    return hashlib.sha256(sources.encode()).hexdigest()


def _kept_line(stem: str) -> str:
    return (
        f"{stem}.ipynb has a newer version; you edited yours, so it stays. To get the new one and "
        f"keep yours beside it: python -m helpers lab --fresh {stem}"
    )
