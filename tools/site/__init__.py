"""The site for people who look before they run: every chapter, executed, as a page.

``chapter``   makes a page of an executed notebook
``front``     the first page, from the README
``messages``  the index of errors and warnings
``recap``     what to keep from all chapters, on a sheet
``sphinx/``   Sphinx's settings, and the site's own style
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbformat import NotebookNode

from chapters import CHAPTERS, Chapter
from helpers.checkout import CourseError
from tools.repository import Repository, repository
from tools.run import ROOT, executed, failures
from tools.site import chapter as chapter_page
from tools.site import front, messages, recap

MARK = ".course-site"  # a file by which a site of this command is known
MOST_KERNELS = 4  # each holds torch in memory
DOWNLOADS = "extra/notebooks"  # below ``extra``, Sphinx copies files as they are


def build(folder: Path, out: Path, chapters: Sequence[Chapter] = CHAPTERS) -> None:
    """Run the notebooks of the checkout ``folder`` and make the site ``out`` of them.

    A former site in ``out`` is replaced when the new one is complete. Raises ``CourseError``, and
    leaves ``out`` as it was, where a cell raises, a page cannot be made, or ``out`` holds something
    other than a site of this command.
    """
    out = out.resolve()
    _refuse_to_replace_anything_else(out)
    address = repository(folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    # The new site is made beside the former one, so that it takes its place by being renamed.
    with TemporaryDirectory(
        prefix=f"{out.name}.", dir=out.parent, ignore_cleanup_errors=True
    ) as name:
        work = Path(name)
        _write_source(folder, _executed(folder, chapters), address, work / "source")
        _make_html(work, address)
        (work / "html" / MARK).write_text("python -m tools site\n", "utf-8")
        replace(out, work / "html", work / "former")


def replace(out: Path, made: Path, former: Path) -> None:
    """Give the folder ``made`` the name ``out``, and what was there the name ``former``."""
    if out.exists():
        out.rename(former)
    try:
        made.rename(out)
    except OSError:
        if former.exists():
            former.rename(out)
        raise


def _refuse_to_replace_anything_else(out: Path) -> None:
    is_free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not (is_free or (out / MARK).is_file()):
        raise CourseError(
            f"{out} is not a site that this command made, so it stays: give an empty or a new "
            "folder with --out"
        )


def _executed(folder: Path, chapters: Sequence[Chapter]) -> dict[Chapter, NotebookNode]:
    """The notebooks with their outputs, several run at once where there are processors for it."""

    def execute(chapter: Chapter) -> NotebookNode:
        nb = executed(chapter, folder)
        for failure in failures(nb):
            raise CourseError(
                f"{chapter.stem}: cell {failure.cell!r} stopped the build: {failure.error}. Run "
                "the notebook, fix the cell, and build again; the site is as it was"
            )
        print(f"{chapter.stem} has run.", flush=True)
        return nb

    with ThreadPoolExecutor(min(MOST_KERNELS, os.cpu_count() or 1)) as pool:
        return dict(zip(chapters, pool.map(execute, chapters), strict=True))


def _write_source(
    folder: Path, notebooks: dict[Chapter, NotebookNode], address: Repository, source: Path
) -> None:
    """Write the pages as Sphinx reads them, and beside them what it copies as it is."""
    downloads = source / DOWNLOADS
    downloads.mkdir(parents=True)
    for chapter, nb in notebooks.items():
        nbformat.write(chapter_page.page(nb, chapter, address), source / f"{chapter.stem}.ipynb")
        shutil.copy(folder / "notebooks" / f"{chapter.stem}.ipynb", downloads)
    pages = {
        "index": front.page(folder, notebooks, address, source),
        "messages": messages.page(notebooks),
        "recap": recap.page(notebooks),
    }
    for name, text in pages.items():
        (source / f"{name}.md").write_text(text, "utf-8")


def _make_html(work: Path, address: Repository) -> None:
    """Have Sphinx make the pages. Raises ``CourseError`` with its warnings."""
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    command += ["-c", str(ROOT / "tools" / "site" / "sphinx"), "-d", str(work / "doctrees")]
    command += [f"-Dhtml_extra_path={work / 'source' / 'extra'}"]
    command += [f"-Dhtml_theme_options.repository_url={address.url}"]
    done = subprocess.run(
        [*command, str(work / "source"), str(work / "html")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        said = (done.stderr or done.stdout).replace(str(work / "source"), "").strip()
        raise CourseError(f"Sphinx could not make the pages without a warning. It said:\n{said}")
