"""What the tests of the machinery share: a kernel to run cells in, and a course of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.notebooks import running, samples

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_cells(tmp_path):
    """Run cells, given as sources or as cells, in a kernel; sources are called cell-0, cell-1, …"""

    def run(*cells, **options) -> running.Run:
        named = [
            samples.code(cell, f"cell-{number}") if isinstance(cell, str) else cell
            for number, cell in enumerate(cells)
        ]
        file = tmp_path / "sample.ipynb"
        nbformat.write(samples.notebook(*named), file)
        return running.run(file, tmp_path, **options)

    return run


@pytest.fixture
def course(tmp_path):
    """A checkout with this machinery and one chapter, whose notebook is good."""
    return Course(tmp_path / "course")


class Course:
    """A small checkout, and pytest run on it in a process of its own."""

    def __init__(self, root: Path):
        self.root = root
        self.notebook = root / "notebooks" / f"{samples.CHAPTER.stem}.ipynb"
        ignore = shutil.ignore_patterns("test_*.py", "conftest.py", "__pycache__")
        for part in ("accelerator", "notebooks"):
            shutil.copytree(ROOT / "tests" / part, root / "tests" / part, ignore=ignore)
        for name in ("conftest.py", "pyproject.toml"):
            shutil.copy(ROOT / name, root / name)
        for path, text in HELPERS.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        shutil.copy(ROOT / "helpers" / "chapters.py", root / "helpers" / "all_chapters.py")
        self.write(samples.good())

    def write(self, nb: nbformat.NotebookNode, path: Path | None = None) -> None:
        path = path or self.notebook
        path.parent.mkdir(exist_ok=True)
        nbformat.write(nb, path)

    def pytest(self, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "pytest", *arguments]
        return subprocess.run(
            command,
            cwd=folder or self.root,
            capture_output=True,
            encoding="utf-8",
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
        )


HELPERS = {
    "helpers/__init__.py": "",
    "helpers/chapters.py": f"""\
from helpers.all_chapters import Chapter

CHAPTERS = ({samples.CHAPTER!r},)
""",
    "helpers/stamp.py": """\
def stamped(nb, chapter):
    return nb
""",
    "helpers/exercises/__init__.py": """\
from tests.notebooks.samples import mended as catalogue
""",
}
