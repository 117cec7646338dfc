"""What only shows where there is an accelerator, tried in processes that have a pretended one.

Torch can't take a backend back, so this process must not get it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.long.accelerator import plugged

ROOT = Path(__file__).parents[2]
CHECKS = sorted(file for file in (ROOT / "tests/accelerator/checks").glob("[!_]*.py"))
# The exercises' tests that ask for a verdict on an answer, as they are.
VERDICTS = "solution or another_way or known_mistake"

pytestmark = pytest.mark.accelerator


def run(*arguments: str | Path, folder: Path, **variables: str) -> str:
    """Run pytest on files where there is an accelerator; return what it says.

    Raises ``AssertionError``, with the whole report, unless every test passes.
    """
    quietly = ("-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short", "-q")
    child = subprocess.run(
        [sys.executable, "-m", "pytest", *quietly, f"--basetemp={folder / 'child'}", *arguments],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            **plugged.environment(),
            **variables,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert child.returncode == 0, child.stdout
    assert " skipped" not in child.stdout, child.stdout
    return child.stdout


@pytest.mark.parametrize("checks", CHECKS, ids=lambda file: file.stem)
def test_where_there_is_an_accelerator(checks, tmp_path):
    assert " passed" in run(checks, folder=tmp_path)


def test_where_there_is_an_accelerator_exercises_answer_the_same(tmp_path):
    catalogue = ROOT / "tests" / "exercises" / "test_catalogue.py"
    assert " known mistakes" in run(catalogue, "-k", VERDICTS, folder=tmp_path)


def test_an_accelerator_without_mixed_precision_is_enough(tmp_path):
    checks = [ROOT / "tests" / "accelerator" / "checks" / name for name in MIXED_PRECISION]
    chosen = "mixed_precision or margins or augment or training"
    said = run(*checks, "-k", chosen, folder=tmp_path, MOCK_ACCELERATOR="no-autocast")
    assert " passed" in said


MIXED_PRECISION = ("clean_programs.py", "rooms.py")


def test_a_failing_check_is_told_in_full(tmp_path):
    failing = tmp_path / "failing.py"
    failing.write_text("def test_it():\n    assert 1 + 1 == 3, 'counted wrongly'\n")
    with pytest.raises(AssertionError, match="counted wrongly"):
        run(failing, folder=tmp_path)


def test_this_process_has_no_pretended_accelerator():
    assert torch._C._get_privateuse1_backend_name() == "privateuseone"
