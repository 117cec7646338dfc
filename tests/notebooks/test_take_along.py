"""What a chapter gives to take along runs alone, and does what the chapter says of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chapters import CHAPTERS
from tests.notebooks.cells import NOTEBOOKS, read, tags
from tools.run import clean_environment

CLAIMS = Path(__file__).parent / "take_along"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_it_runs_in_a_new_process_and_keeps_its_claim(chapter, tmp_path):
    nb = read(NOTEBOOKS / f"{chapter.stem}.ipynb")
    (cell,) = [cell for cell in nb.cells if "take-along" in tags(cell)]
    claims = (CLAIMS / f"{chapter.name}.py").read_text("utf-8")
    assert "\nassert " in claims
    program = tmp_path / "taken_along.py"
    program.write_text(f"{cell.source}\n\n{claims}", "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", program.name],
        cwd=tmp_path,
        env=clean_environment(MPLBACKEND="agg"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
