"""How notebooks are run as tests: what nbmake, which collects and runs them, leaves open."""

from __future__ import annotations

import gc
import os
import sys
import tempfile

import pytest
from nbclient import NotebookClient
from nbmake.pytest_items import NotebookItem

from helpers import strict

SECONDS = 300  # allowed for one notebook; 5 to 20 are usual on two cores

# Two workers with two threads each on two cores take longer than one after the other. Torch reads
# this when it is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A container often forbids to write compiled modules. Then each process compiles ours anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What is imported and collected stays to the end: the garbage collector need not go through it.
gc.disable()

# Before a test imports a module.
strict.enforce_types()

# nbclient plays the front end for output widgets, and now and then a cell of chapter 03 then waits
# for a whole time-out. Without it, what the function of a widget shows is the cell's own output.
NotebookClient.on_comm_open_jupyter_widget = lambda self, message: None
# A kernel with torch needs some seconds to leave by itself; nothing in it is to be kept.
NotebookClient.shutdown_kernel.default_value = "immediate"


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: while a notebook runs, its worker only waits."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Notebooks come first, so that no worker waits for one at the end."""
    items.sort(key=lambda item: not isinstance(item, NotebookItem))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """Give a notebook's kernel strict helpers, and a folder of its own for its files."""
    if not isinstance(item, NotebookItem):
        return (yield)
    with (
        tempfile.TemporaryDirectory(prefix="notebook-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TUTORIAL_STRICT", "1")
        patch.setenv("TUTORIAL_SCRATCH", os.path.join(folder, "scratch"))
        patch.setenv("IPYTHONDIR", os.path.join(folder, "ipython"))
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if isinstance(item, NotebookItem) and report.passed and report.duration > SECONDS:
        report.outcome = "failed"
        report.longrepr = f"{item.name} took {report.duration:.0f} s, {SECONDS} are allowed"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what each notebook took, the slowest first."""
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.getreports(kind)]
    runs = [one for one in reports if one.when == "call" and one.nodeid.endswith(".ipynb")]
    for report in sorted(runs, key=lambda report: -report.duration):
        terminalreporter.write_line(f"{report.duration:6.1f} s  {report.nodeid}")
