"""What only shows where there is an accelerator, tried in processes that have a pretended one.

Torch cannot take a backend back, so this process must not get it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers import checkout
from tests.long.accelerator import plugged

ROOT = checkout.root()
CHECKS = sorted((ROOT / "tests/long/accelerator/checks").glob("[!_]*.py"))
# The exercises' tests that ask for a verdict on an answer. A check that names the first mistake
# tries out the others, too.
VERDICTS = "solution or another_way or (known_mistake and -1])"


def run(*arguments: str | Path, folder: Path, **variables: str) -> str:
    """Run pytest on files where there is an accelerator; return what it says.

    Raises ``AssertionError``, with the whole report, unless every test passes.
    """
    options = ("-o", "addopts=", "-p", "no:randomly", "-p", "no:cacheprovider", "--tb=short", "-q")
    child = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--basetemp={folder / 'child'}", *arguments],
        cwd=ROOT,
        env=plugged.environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert child.returncode == 0, child.stdout
    assert " passed" in child.stdout and " skipped" not in child.stdout, child.stdout
    return child.stdout


@pytest.mark.parametrize("checks", CHECKS, ids=lambda file: file.stem)
def test_where_there_is_an_accelerator(checks, tmp_path):
    run(checks, folder=tmp_path)


def test_exercises_give_the_same_verdicts_where_there_is_an_accelerator(tmp_path):
    run(ROOT / "tests" / "chapters", "-k", VERDICTS, folder=tmp_path)


def test_an_accelerator_without_mixed_precision_is_enough(tmp_path):
    chosen = "margins or augment or training"
    run(*CHECKS, "-k", chosen, folder=tmp_path, MOCK_ACCELERATOR="no-autocast")


def test_a_failing_check_is_reported_in_full(tmp_path):
    failing = tmp_path / "failing.py"
    failing.write_text("def test_it():\n    assert 1 + 1 == 3, 'counted wrongly'\n")
    with pytest.raises(AssertionError, match="counted wrongly"):
        run(failing, folder=tmp_path)


def test_this_process_has_no_pretended_accelerator():
    assert torch._C._get_privateuse1_backend_name() == "privateuseone"
