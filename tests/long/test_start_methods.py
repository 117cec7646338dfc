"""Chapter 04's workers on systems that start processes in another way than this one does.

The chapter says that Windows and macOS spawn, and that Linux forks up to Python 3.13 and has a fork
server from 3.14 on. This decides what becomes of a class from a cell.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys

import nbformat
import pytest

from helpers import checkout
from tests.notebooks.samples import code, notebook
from tools.run import clean_environment, run

CELLS = (
    *("a-class", "a-loader", "rows-class", "new-process", "every-method", "doubled"),
    *("sharded-class", "sharded", "slow-class", "cell-class", "cell-class-cause", "worker-error"),
    *("clearer", "clearer-proof", "ref-arguments", "pinning", "ref-pinned"),
)
STARTS_LIKE = """
import multiprocessing

multiprocessing.set_start_method({default!r})
"""
DECIDES_LIKE = """
from helpers import loading

decide = loading._start_method
loading._start_method = lambda dataset, system: decide(dataset, {platform!r})
"""


@pytest.mark.parametrize(
    "default, platform", [("fork", "linux"), ("forkserver", "linux"), ("spawn", "darwin")]
)
def test_the_chapters_cells_run_where_processes_start_in_another_way(default, platform):
    if default not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {default}")
    if sys.platform != "linux" and platform == "linux":
        pytest.skip("a class from a cell is forked on Linux only")
    file = checkout.root() / "notebooks" / "04_data_loading.ipynb"
    cells = {cell.id: cell for cell in nbformat.read(file, as_version=4).cells}
    for cell in cells.values():
        cell.source = cell.source.replace("sys.platform", repr(platform))
    made = [
        cells["setup"],
        code(STARTS_LIKE.format(default=default), "starts-like"),
        cells["imports"],
        code(DECIDES_LIKE.format(platform=platform), "decides-like"),
        *[cells[name] for name in CELLS],
    ]
    ran = run(notebook(*made), environment=clean_environment(TUTORIAL_STRICT="1"))
    assert ran.error is None, ran.error


def test_the_default_of_this_python_is_one_that_the_chapter_names():
    by_default = {
        "linux": "fork" if sys.version_info < (3, 14) else "forkserver",
        "darwin": "spawn",
        "win32": "spawn",
    }
    program = "import torch; print(torch.multiprocessing.get_start_method())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == by_default[sys.platform], done.stderr
