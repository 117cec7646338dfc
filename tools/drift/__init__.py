"""What the chapters say, compared with what the installed torch does.

``running`` runs a chapter in a kernel where ``recorder`` lets no claim end its cell, ``listing``
tells what became of each.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from chapters import Chapter
from helpers.checkout import CourseError

NEEDED = ("jupyter_client", "ipykernel", "nbformat")


def report(folder: Path, chapters: Iterable[Chapter], page: Path | None = None) -> int:
    """Run chapters of a checkout and print what became of their claims; 1 if something changed.

    With a ``page``, a file, the report is written there too, as Markdown. Raises ``CourseError``
    where that file cannot be, where a package is missing, and where no kernel starts.
    """
    if page is not None and (page.is_dir() or not page.parent.is_dir()):
        raise CourseError(f"cannot write the report to {page}: give a file in a folder that exists")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise CourseError(
            f"{', '.join(missing)} is not installed: in the course's folder, run "
            f'`{sys.executable} -m pip install -e ".[lab]"`'
        )
    from tools.drift import listing, running

    print(listing.installed())
    visits = []
    for chapter in chapters:
        visits.append(running.visit(folder / "notebooks" / f"{chapter.stem}.ipynb"))
        print(listing.text(visits[-1]), flush=True)
    print(listing.count(visits))
    if page is not None:
        page.write_text(listing.markdown(visits), "utf-8")
    return int(any(visit.changed for visit in visits))
