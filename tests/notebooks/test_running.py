"""A run has a room of its own, tells what happened in it, and leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import psutil

from tests.notebooks import behaviour
from tests.notebooks.samples import CHAPTER, code


def printed(run, cell: int = 0) -> str:
    return run.result.nb.cells[cell].outputs[0].text.strip()


def test_the_watcher_leaves_no_name_in_the_notebook(run_cells):
    names = set(printed(run_cells("print(*dir())")).split())
    public = {name for name in names if not name.startswith("_")}
    assert public <= {"In", "Out", "exit", "get_ipython", "open", "quit"}
    assert "_start" not in names


def test_the_working_directory_is_the_folder_that_was_given(run_cells, tmp_path):
    run = run_cells("import os\n\nprint(os.getcwd())")
    assert Path(printed(run)).samefile(tmp_path)


def test_the_kernel_has_a_readers_environment(run_cells, monkeypatch):
    ours = {
        "OMP_NUM_THREADS": "7",
        "TUTORIAL_STRICT": "1",
        "TUTORIAL_DATA": "cifar10",
        "TUTORIAL_DEVICE": "cpu",
        "PYTHONWARNINGS": "ignore",
        "PYTEST_XDIST_WORKER": "gw0",
    }
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    names = [*ours, "ADDED"]
    run = run_cells(f"import os\n\nprint(*map(os.environ.get, {names}))", ADDED="yes")
    assert printed(run) == "1 None None cpu None None yes"


def test_signatures_of_helpers_are_enforced_in_the_kernel(run_cells, tmp_path):
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "__init__.py").write_text("")
    (tmp_path / "helpers" / "chapters.py").write_text("def half(x: float): return x / 2")
    run = run_cells("from chapters import half\n\nhalf(3)", "half('3')")
    (note,) = run.notes("error")
    assert note["cell"] == "cell-1"
    assert "TypeCheckError" in note["error"]


def test_nothing_of_a_run_stays(run_cells, monkeypatch, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = dict(os.environ)
    run = run_cells(
        "import os, pathlib, subprocess, sys, tempfile",
        "tempfile.mkstemp(), pathlib.Path(os.environ['TUTORIAL_SCRATCH']).mkdir()",
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "print(subprocess.Popen(sleep, start_new_session=True).pid)",
    )
    pid = int(printed(run, 2))
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert list(temporary.iterdir()) == []
    assert dict(os.environ) == before


def test_the_cells_before_an_error_are_told_too(run_cells):
    run = run_cells("import warnings\n\nwarnings.warn('early')", "1 / 0", "2")
    assert list(run.seconds_by_cell) == ["cell-0", "cell-1"]
    assert len(behaviour.problems(run, CHAPTER)) == 2


def test_peak_memory_is_the_peak_and_not_what_is_held_at_the_end(run_cells):
    small = run_cells("1").memory
    large = run_cells("block = bytearray(200_000_000)\ndel block").memory
    assert large - small > 150_000_000


def test_a_notebook_without_imports_cell_counts_from_its_start(run_cells):
    run = run_cells(code("1", "first"), code("2", "second"))
    assert list(run.seconds_by_cell) == ["first", "second"]
    assert run.seconds_to_start == 0


def test_what_the_imports_cost_is_told_apart_from_what_the_cells_cost(run_cells):
    busy = (
        "import time\n\nend = time.process_time() + {}\nwhile time.process_time() < end:\n    pass"
    )
    run = run_cells(code(busy.format(1.0), "imports", ["imports"]), code(busy.format(0.5), "work"))
    assert run.seconds_to_start >= 1.0
    assert list(run.seconds_by_cell) == ["work"]
    assert 0.499 < run.seconds_by_cell["work"] < 1.0  # a difference of two sums
