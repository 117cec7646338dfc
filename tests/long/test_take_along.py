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


def test_an_end_without_mixing_helps_in_the_training_of_the_augmentation_chapter():
    nb = read(NOTEBOOKS / "07_augmentation.ipynb")
    (cell,) = [cell for cell in nb.cells if "take-along" in tags(cell)]
    rule = "epoch < 0.8 * epochs and "
    assert cell.source.count(rule) == 1

    def accuracy(source: str, seed: int) -> float:
        names: dict = {}
        exec(source.replace("manual_seed(0)", f"manual_seed({seed})"), names)
        return names["accuracy"]

    with_rule, without = (
        [accuracy(source, seed) for seed in range(8)]
        for source in (cell.source, cell.source.replace(rule, ""))
    )
    assert sum(with_rule) > sum(without), (with_rule, without)
