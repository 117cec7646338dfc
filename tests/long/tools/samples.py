"""A small course for the tests of the authors' commands."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from chapters import Chapter
from helpers import checkout
from tests.notebooks.samples import markdown, notebook

CHAPTER = Chapter(stem="00_start_here", title="Sample", question="Why?")
NEXT = Chapter(stem="01_module", title="Next", question="And then?")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAAAAADRSSBWAAAAC0lEQVR42mNk+A8AAQkBAqTXPr8AAAAASUVORK5CYII="
)
README = """\
# Sample course

<!-- badges -->
[![Tests](https://elsewhere.test/badge.svg)](https://elsewhere.test)
<!-- /badges -->

![A picture](picture.png)

## Start

Read the [first chapter](notebooks/00_start_here.ipynb) and the [licence](LICENSE).

<!-- clone -->
<!-- /clone -->

<!-- site -->
To look first, read [the site](https://elsewhere.test/site).
<!-- /site -->

## The chapters

<!-- chapters -->
| Chapter |
<!-- /chapters -->
"""


RECAP = markdown("## What to keep\n| You want | Reach for |\n|---|---|\n| a sum | `+` |", "recap")


def course(folder: Path, *cells: NotebookNode) -> Path:
    """A checkout with one chapter, ``CHAPTER``, whose notebook holds ``cells`` and a recap."""
    (folder / "notebooks").mkdir(parents=True)
    shutil.copy(checkout.root() / "pyproject.toml", folder)
    (folder / "README.md").write_text(README, "utf-8")
    (folder / "LICENSE").write_text("Do as you like.\n", "utf-8")
    (folder / "picture.png").write_bytes(PNG)
    write(folder, *cells)
    return folder


def write(folder: Path, *cells: NotebookNode) -> None:
    """Give the course's chapter other cells."""
    nb = notebook(markdown("# 00 · Sample", "header"), *cells, RECAP, markdown("---", "footer"))
    nbformat.write(nb, folder / "notebooks" / f"{CHAPTER.stem}.ipynb")
