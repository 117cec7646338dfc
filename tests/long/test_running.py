"""Notebooks are collected and run by nbmake as it ships, and strictly."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from tests.notebooks.cells import NOTEBOOKS
from tests.notebooks.samples import code, notebook

ROOT = NOTEBOOKS.parent

PYTEST = """
import sys

import pytest


class Show:
    def pytest_collection_finish(self, session):
        for item in session.items:
            print("collected:", type(item.parent), type(item), item.name)


sys.exit(pytest.main(sys.argv[1:], plugins=[Show()]))
"""


def run_pytest(folder: Path, *arguments: str) -> str:
    """What pytest prints, started in ``folder`` in a process of its own."""
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-c", PYTEST, "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ).stdout


SAMPLES = {
    "warns": [
        "import os\nimport sys\nimport warnings\n\nimport helpers.expect",
        "assert 'helpers.strict' in sys.modules\nassert os.environ['TUTORIAL_SCRATCH']",
        "warnings.warn('text')",
    ],
    "explorer": [
        "import torch\n\nfrom helpers.explore import explore",
        "explore(lambda power=1.0: 1 / 0, alt='A curve.', power=(0.0, 2.0, 0.5))",
    ],
}


TYPES = "<class 'nbmake.pytest_items.NotebookFile'> <class 'nbmake.pytest_items.NotebookItem'>"


def test_nbmakes_own_items_fail_for_a_warning_and_an_explorers_error_and_tell_seconds(tmp_path):
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "notebooks").mkdir()
    for name, sources in SAMPLES.items():
        cells = [code(source, f"cell-{number}") for number, source in enumerate(sources)]
        nbformat.write(notebook(*cells), tmp_path / "notebooks" / f"{name}.ipynb")
    said = run_pytest(tmp_path, "notebooks", "-n", "0")
    said = re.sub(r"\x1b\[[\d;]*m", "", said)  # nbmake's colours
    assert "2 failed" in said, said
    assert "UserWarning: text" in said and "ZeroDivisionError: division by zero" in said
    for name in SAMPLES:
        assert f"collected: {TYPES} {name}.ipynb" in said
        assert re.search(rf"^ +\d+\.\d s  \S+{name}\.ipynb$", said, re.MULTILINE)
