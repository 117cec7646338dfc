"""Chapter 04's workers on systems that start processes in another way than this one does.

The chapter says that Windows and macOS spawn, that Linux forks up to Python 3.13 and has a fork
server from 3.14 on, and that this decides what becomes of a class from a cell.
"""

import multiprocessing
import subprocess
import sys
from typing import NamedTuple

import nbformat
import pytest

from chapters import CHAPTERS
from tests.notebooks import behaviour, contract, running
from tests.notebooks.definitions import NOTEBOOKS
from tests.notebooks.samples import code, notebook

(CHAPTER,) = [chapter for chapter in CHAPTERS if chapter.room == "data_loading"]
CELLS = (
    *("rows-class", "sharded-class", "slow-class", "cell-class", "cell-class-cause"),
    *("every-method", "worker-error", "ref-arguments", "ref-fallback"),
)


class System(NamedTuple):
    """A way in which processes start: by default, and where ``loading.workers`` decides."""

    default: str
    platform: str
    for_modules: str  # how it starts what a module holds
    for_cells: str | None  # and what a cell holds; None: the main process loads


SYSTEMS = {
    "Linux up to Python 3.13": System("fork", "linux", "forkserver", "fork"),
    "Linux from Python 3.14 on": System("forkserver", "linux", "forkserver", "fork"),
    "macOS": System("spawn", "darwin", "spawn", None),
}


@pytest.fixture
def run_as_on(tmp_path):
    """Run the chapter's cells on workers, and more, as on a system."""
    chapter = contract.read(NOTEBOOKS / f"{CHAPTER.stem}.ipynb")
    cells = {cell.id: cell for cell in chapter.cells}

    def run(system, *more):
        made = [
            cells["setup"],
            code(STARTS_LIKE.format(system=system), "starts-like"),
            cells["imports"],
            code(DECIDES_LIKE.format(system=system), "decides-like"),
            *[cells[name] for name in CELLS],
            *more,
        ]
        file = tmp_path / "sample.ipynb"
        nbformat.write(notebook(*made), file)
        return running.run(file, tmp_path)

    return run


STARTS_LIKE = """
import multiprocessing

multiprocessing.set_start_method({system.default!r})
"""
DECIDES_LIKE = """
decide = loading._start_method
loading._start_method = lambda dataset, platform: decide(dataset, {system.platform!r})
"""
BY_DEFAULT = """
assert torch.multiprocessing.get_start_method() == {system.default!r}
loader = DataLoader(loading.Draws(4), batch_size=2, num_workers=2)
with forking() if {system.default!r} == "fork" else contextlib.nullcontext():
    first, second = loader
assert first["worker"].tolist() == [0, 0] and second["worker"].tolist() == [1, 1]
assert first["seed"][0] + 1 == second["seed"][0]
assert first["own"].tolist() == second["own"].tolist()
"""
OF_A_CELL = """
loader = DataLoader(Slow([0.0] * 4), batch_size=2, num_workers=2)
with forking():
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3]]
"""


@pytest.mark.parametrize("name", SYSTEMS)
def test_workers_do_what_the_chapter_says(name, run_as_on):
    system = SYSTEMS[name]
    if system.default not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {system.default}")
    if sys.platform != "linux" and system.platform == "linux":
        pytest.skip("a class from a cell is forked on Linux only")
    more = [code(BY_DEFAULT.format(system=system), "by-default")]
    if system.default == "fork":
        more.append(code(OF_A_CELL, "of-a-cell"))
    run = run_as_on(system, *more)
    rules = set(behaviour.RULES) - {behaviour.within_budget}  # spawning takes what it takes
    assert [problem for rule in rules for problem in rule(run, CHAPTER)] == []
    shown = {cell.id: text(cell) for cell in run.result.nb.cells}
    assert f"start method: {system.for_modules}\n" in shown["cell-class"]
    workers = 2 if system.for_cells else 0
    assert f"helpers.loading 2 {system.for_modules}\n" in shown["ref-fallback"]
    assert f"__main__ {workers} {system.for_cells}\n" in shown["ref-fallback"]
    told = "the main process loads it. Put what it needs into a module."
    assert (told in shown["ref-fallback"]) == (system.for_cells is None)


def text(cell):
    return "".join(output.get("text", "") for output in cell.get("outputs", []))


def test_the_default_of_this_python_is_one_that_the_chapter_names():
    by_default = {
        "linux": "fork" if sys.version_info < (3, 14) else "forkserver",
        "darwin": "spawn",
        "win32": "spawn",
    }
    program = "import torch; print(torch.multiprocessing.get_start_method())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == by_default[sys.platform], done.stderr
