"""Chapter 04's workers on systems that start processes in another way than this one does.

The chapter says that Windows and macOS spawn, and that Linux forks up to Python 3.13 and has a fork
server from 3.14 on. This decides what becomes of a class from a cell.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from typing import NamedTuple

import nbformat
import pytest

from helpers import checkout
from tests.notebooks.samples import code, notebook
from tools.run import clean_environment, run

CELLS = (
    *(
        "a-class",
        "a-loader",
        "rows-class",
        "new-process",
        "every-method",
        "doubled",
        "sharded-class",
    ),
    *("slow-class", "cell-class", "cell-class-cause", "worker-error", "clearer", "clearer-proof"),
    *("ref-arguments", "ref-pinned"),
)


class System(NamedTuple):
    """How a system starts processes: by default, and where ``loading.workers`` decides."""

    default: str
    platform: str
    for_modules: str  # for a class of a module
    for_cells: str | None  # for a class of a cell; None: the main process loads


SYSTEMS = {
    "Linux up to Python 3.13": System("fork", "linux", "forkserver", "fork"),
    "Linux from Python 3.14 on": System("forkserver", "linux", "forkserver", "fork"),
    "macOS": System("spawn", "darwin", "spawn", None),
}

STARTS_LIKE = """
import multiprocessing

multiprocessing.set_start_method({system.default!r})
"""
DECIDES_LIKE = """
from helpers import loading

decide = loading._start_method
loading._start_method = lambda dataset, platform: decide(dataset, {system.platform!r})
"""
# What the chapter's helper chooses, and that it loads.
CHOSEN = """
def forking():
    # Python 3.12 and later warn when a process with threads, as a notebook's, is forked.
    if sys.version_info < (3, 12):
        return contextlib.nullcontext()
    return expect_warning(DeprecationWarning, match="use of fork() may lead to deadlocks")


for dataset in (datasets.Slow([0.0]), Slow([0.0])):
    arguments = loading.workers(dataset, 2)
    chosen = arguments.get("multiprocessing_context")
    method = chosen and chosen.get_start_method()
    print(type(dataset).__module__, arguments["num_workers"], method)
    with forking() if method == "fork" else contextlib.nullcontext():
        assert [batch.tolist() for batch in DataLoader(dataset, **arguments)] == [[0]]
"""
BY_DEFAULT = """
assert torch.multiprocessing.get_start_method() == {system.default!r}
loader = DataLoader(datasets.Draws(4), batch_size=2, num_workers=2)
with forking() if {system.default!r} == "fork" else contextlib.nullcontext():
    first, second = loader
assert first["worker"].tolist() == [0, 0] and second["worker"].tolist() == [1, 1]
assert first["seed"][0] + 1 == second["seed"][0]
assert first["own"].tolist() == second["own"].tolist()
"""
CLASS_OF_A_CELL = """
loader = DataLoader(Slow([0.0] * 4), batch_size=2, num_workers=2)
with forking():
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3]]
"""


def outputs_on(system: System) -> dict[str, str]:
    """Run the chapter's cells on workers as on a system; return what each one prints, by id."""
    file = checkout.root() / "notebooks" / "04_data_loading.ipynb"
    cells = {cell.id: cell for cell in nbformat.read(file, as_version=4).cells}
    cells["new-process"].source = cells["new-process"].source.replace(
        "sys.platform", repr(system.platform)
    )
    made = [
        cells["setup"],
        code(STARTS_LIKE.format(system=system), "starts-like"),
        cells["imports"],
        code(DECIDES_LIKE.format(system=system), "decides-like"),
        *[cells[name] for name in CELLS],
        code(CHOSEN, "chosen"),
        code(BY_DEFAULT.format(system=system), "by-default"),
    ]
    if system.default == "fork":
        made.append(code(CLASS_OF_A_CELL, "class-of-a-cell"))
    ran = run(notebook(*made), environment=clean_environment(TUTORIAL_STRICT="1"))
    assert ran.error is None, ran.error
    return {
        cell.id: "".join(output.get("text", "") for output in cell.outputs)
        for cell in ran.notebook.cells
    }


@pytest.mark.parametrize("name", SYSTEMS)
def test_workers_do_what_the_chapter_says(name):
    system = SYSTEMS[name]
    if system.default not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {system.default}")
    if sys.platform != "linux" and system.platform == "linux":
        pytest.skip("a class from a cell is forked on Linux only")
    shown = outputs_on(system)
    assert f"method: {system.for_modules}\n" in shown["new-process"]
    workers = 2 if system.for_cells else 0
    assert f"chapters.data_loading.datasets 2 {system.for_modules}\n" in shown["chosen"]
    assert f"__main__ {workers} {system.for_cells}\n" in shown["chosen"]
    no_workers = "the main process loads it. Put what it needs into a module."
    assert (no_workers in shown["chosen"]) == (system.for_cells is None)


def test_the_default_of_this_python_is_one_that_the_chapter_names():
    by_default = {
        "linux": "fork" if sys.version_info < (3, 14) else "forkserver",
        "darwin": "spawn",
        "win32": "spawn",
    }
    program = "import torch; print(torch.multiprocessing.get_start_method())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == by_default[sys.platform], done.stderr
