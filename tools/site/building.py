"""From the notebooks of a checkout to a folder of HTML, which is complete or is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbformat import NotebookNode

from helpers import checkout, exercises
from chapters import Chapter
from helpers.checkout import CourseError
from tools.repository import Repository
from tools.site import chapter_page, front, messages, recap, running

HERE = Path(__file__).resolve().parent
MARK = ".course-site"  # a file by which a site of this command is known
EXTRA = ("extra/figures", "extra/notebooks")  # what Sphinx copies as it is


def build(folder: Path, out: Path, chapters: Sequence[Chapter]) -> None:
    """As ``tools.site.build``, with every package there."""
    _refuse_what_is_no_site(out)
    repository = checkout.repository(folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the site, so that the new one takes its place by being renamed.
    with TemporaryDirectory(
        prefix=f"{out.name}.", dir=out.parent, ignore_cleanup_errors=True
    ) as name:
        room = Path(name)
        executed = _executed(folder, chapters, room / "kernels")
        _write_source(folder, executed, repository, room / "source")
        _make_html(room, repository)
        (room / "html" / MARK).write_text("python -m helpers site\n", "utf-8")
        replace(out, room / "html", room / "former")


def _refuse_what_is_no_site(out: Path) -> None:
    """Raise ``CourseError`` for a place that holds something which this command did not make."""
    if not out.exists() or (out / MARK).is_file():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise CourseError(
            f"{out} is not a site that this command made, so it stays: give an empty or a new "
            "folder with --out"
        )


def _executed(
    folder: Path, chapters: Sequence[Chapter], kernels: Path
) -> dict[Chapter, NotebookNode]:
    """The notebooks with their outputs, in which no path of this machine is named."""
    notebooks = {
        chapter: nbformat.read(folder / "notebooks" / f"{chapter.stem}.ipynb", as_version=4)
        for chapter in chapters
    }
    longest_first = sorted(chapters, key=lambda chapter: -chapter.cpu_seconds)
    running.execute({chapter.stem: notebooks[chapter] for chapter in longest_first}, kernels)
    # Packages first, since their folder may lie in that of the standard library.
    libraries = [Path(sysconfig.get_path(name)) for name in ("purelib", "stdlib")]
    paths = {str(library): f"…/{library.name}/" for library in libraries} | {str(folder): ""}
    for chapter, nb in notebooks.items():
        chapter_page.replace_paths(nb, {str(kernels / chapter.stem): "", **paths})
    return notebooks


def _write_source(
    folder: Path, executed: dict[Chapter, NotebookNode], repository: Repository, source: Path
) -> None:
    """The pages as Sphinx reads them, and beside them what is copied as it is."""
    images, figures, downloads = (source / name for name in ("images", *EXTRA))
    for place in (images, figures, downloads):
        place.mkdir(parents=True)
    known = exercises.catalogue()
    for chapter, nb in executed.items():
        page = chapter_page.page(nb, chapter, repository, known, figures)
        nbformat.write(page, source / f"{chapter.stem}.ipynb")
        shutil.copy(folder / "notebooks" / f"{chapter.stem}.ipynb", downloads)
    pages = {
        front.NAME: front.page(folder, list(executed), repository, images),
        "messages": messages.page(executed),
        "recap": recap.page(executed),
    }
    for name, text in pages.items():
        (source / f"{name}.md").write_text(text, "utf-8")


def _make_html(room: Path, repository: Repository) -> None:
    """Have Sphinx make the pages. Raises ``CourseError`` with what it warned of."""
    settings = {
        "html_extra_path": str(room / "source" / "extra"),
        "html_theme_options.repository_url": repository.url,
    }
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    command += ["-c", str(HERE / "sphinx"), "-d", str(room / "doctrees")]
    command += [f"-D{name}={value}" for name, value in settings.items()]
    command += [str(room / "source"), str(room / "html")]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        said = (done.stderr or done.stdout).replace(str(room / "source"), "").strip()
        raise CourseError(f"Sphinx could not make the pages without a warning. It said:\n{said}")


def replace(out: Path, made: Path, former: Path) -> None:
    """Give the folder ``made`` the name ``out``, and what was there the name ``former``.

    If the first cannot be done, the second is undone.
    """
    if out.exists():
        out.rename(former)
    try:
        made.rename(out)
    except OSError:
        if former.exists():
            former.rename(out)
        raise
