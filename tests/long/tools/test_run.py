"""The one runner: what a notebook meets in its kernel, how a run ends, and what is left of it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

import pytest

from helpers import checkout
from helpers.checkout import CourseError
from tests.long.tools.samples import CHAPTER, course
from tests.notebooks.samples import code, notebook
from tests.processes import has_ended
from tools.run import EXECUTED, clean_environment, executed, failures, run

ROOT = checkout.root()


def of(*sources, **options):
    """Run cells that are called c-0, c-1, …"""
    cells = [code(source, f"c-{place}") for place, source in enumerate(sources)]
    return run(notebook(*cells), **options)


def shown(done, place=0):
    return "".join(output.get("text", "") for output in done.notebook.cells[place].outputs)


# What a notebook meets

LOOK = """
import json, os, sys, tempfile
import helpers
names = ("TUTORIAL_STRICT", "PYTEST_CURRENT_TEST", "PYTHONWARNINGS", "OMP_NUM_THREADS")
print(json.dumps({
    "course": os.path.dirname(helpers.__file__) == os.path.join(ROOT, "helpers"),
    "cwd": os.listdir(), "temporary": os.listdir(tempfile.gettempdir()),
    "settings": {name: os.environ[name] for name in names if name in os.environ},
    "python": sys.executable, "mark": os.environ.get("MARK"),
}))
"""


def test_a_kernel_has_empty_folders_one_thread_and_no_setting_of_ours(monkeypatch):
    monkeypatch.setenv("TUTORIAL_STRICT", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    done = of(f"ROOT = {str(ROOT.parent)!r} + '/' + {ROOT.name!r}\n{LOOK}")
    assert done.error is None and done.seconds > 0
    assert json.loads(shown(done)) == {
        **{"course": True, "cwd": [], "python": sys.executable, "mark": None},
        "temporary": [],
        "settings": {"OMP_NUM_THREADS": "1"},
    }


def test_no_path_of_this_machine_gets_into_the_outputs():
    done = of(
        "import json, os, tempfile, nbformat, helpers\n"
        "print(os.getcwd() + '/a', json.__file__, nbformat.__file__, helpers.__file__)",
        "here = os.path.join(tempfile.gettempdir(), 'file')\nhere",
        "print(here[:9] + '\\n    ' + here[9:])",  # as helpers.expect breaks a line
    )
    stdlib = f"python3.{sys.version_info.minor}"
    assert shown(done) == (
        f"a …/{stdlib}/json/__init__.py …/site-packages/nbformat/__init__.py helpers/__init__.py\n"
    )
    assert done.notebook.cells[1].outputs[0].data == {"text/plain": "'tmp/file'"}
    assert shown(done, 2) == "tmp/file\n"


def test_what_a_widget_shows_is_the_cells_own_output():
    """In a process of its own, since ``conftest.py`` changes nbclient in those of pytest."""
    program = """
from tests.notebooks.samples import code, notebook
from tests.processes import has_ended
from tools.run import run
source = "from ipywidgets import interact; interact(lambda n: print('n is', n), n=(0, 10, 1));"
print(run(notebook(code(source, "explore"))).notebook.cells[0].outputs)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert r"n is 5\n" in done.stdout, done.stderr


# How a run ends

BREAKS = {
    "half = 0.5\nassert half > 1": ("AssertionError: at `assert half > 1`", 2),
    "def f():\n    raise ValueError('a\\nb')\n\nf()": ("ValueError: a b", 4),
    "x = = 1": ("SyntaxError: invalid syntax", None),
}


def test_each_error_is_told_with_its_cell_and_line_and_ends_its_cell_only():
    done = of(*BREAKS, "print('end')", allow_errors=True)
    told = [(failure.cell, failure.error, failure.line) for failure in failures(done.notebook)]
    assert [(cell, line) for cell, _, line in told] == [("c-0", 2), ("c-1", 4), ("c-2", None)]
    for (_, error, _), (expected, _) in zip(told, BREAKS.values(), strict=True):
        assert error.startswith(expected)
    assert "ValueError: a\nb" in list(failures(done.notebook))[1].trace
    assert shown(done, 3) == "end\n"


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import time\ntime.sleep(60)", "TimeoutError: not done after 1 seconds"),
        ("import os\nos._exit(3)", "DeadKernelError: the kernel ended"),
    ],
)
def test_a_cell_that_does_not_end_or_ends_the_kernel_always_ends_the_run(source, error):
    done = of("print('begin')", source, "print('end')", allow_errors=True, timeout=1)
    assert (done.error.cell, done.error.error) == ("c-1", error)
    assert (shown(done), shown(done, 2)) == ("begin\n", "")


CHILD = """
import subprocess, sys
command = [sys.executable, "-c", "import time; time.sleep(600)"]
print(subprocess.Popen(command, start_new_session=True).pid)
"""


@pytest.mark.parametrize("end", ["", "import os\nos._exit(3)"])
def test_no_process_and_no_file_outlives_a_run(end, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = of(CHILD, end)
    assert has_ended(int(shown(done)))
    assert list(tmp_path.iterdir()) == []


def test_a_python_that_starts_no_kernel_is_named(tmp_path):
    with pytest.raises(CourseError, match="no Python at .*missing"):
        of("1", python=tmp_path / "missing")
    with pytest.raises(CourseError, match="(?s)no kernel starts.*ipykernel is installed there.*x"):
        of("1", environment={**clean_environment(), "PYTHONHOME": str(tmp_path / "x")})


# One executed copy


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A course whose notebook leaves a file for each time it has run, and the shared folder."""
    runs, shared = tmp_path / "runs", tmp_path / "shared"
    runs.mkdir()
    shared.mkdir()
    source = f"import tempfile\nprint(bool(tempfile.mkstemp(dir={str(runs)!r})))"
    folder = course(tmp_path / "course", code(source, "count"), code("1 / 0", "error"))
    monkeypatch.setenv(EXECUTED, str(shared))
    return folder, runs


def test_processes_that_share_a_folder_run_a_notebook_once(counted):
    folder, runs = counted
    path = folder / "notebooks" / f"{CHAPTER.stem}.ipynb"
    before = path.read_bytes()
    program = f"""
from pathlib import Path
from tests.long.tools.samples import CHAPTER
from tools.run import executed
print(executed(CHAPTER, Path({str(folder)!r})).cells[1].outputs[0].text)
"""
    command = [sys.executable, "-c", program]
    others = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    assert [other.communicate()[0].strip() for other in others] == [b"True"] * 2
    nb = executed(CHAPTER, folder)
    assert [failure.cell for failure in failures(nb)] == ["error"]
    assert len(list(runs.iterdir())) == 1
    assert path.read_bytes() == before
