"""What a chapter gives to take along runs alone, and does what the chapter says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from chapters import CHAPTERS
from tests.notebooks.cells import NOTEBOOKS, read, tags

CLAIMS = Path(__file__).parent / "take_along"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_it_runs_in_a_new_process_and_keeps_its_claim(chapter, tmp_path, run_in_new_process):
    nb = read(NOTEBOOKS / f"{chapter.stem}.ipynb")
    (cell,) = [cell for cell in nb.cells if "take-along" in tags(cell)]
    claims = (CLAIMS / f"{chapter.name}.py").read_text("utf-8")
    assert "\nassert " in claims
    ended = run_in_new_process(f"{cell.source}\n\n{claims}", tmp_path)
    assert ended.code == 0, ended.printed


def test_a_program_has_only_what_it_imports(tmp_path, run_in_new_process):
    ended = run_in_new_process("import sys\nprint('sklearn' in sys.modules)", tmp_path)
    assert ended == (0, "False\n")
