"""Which tests a notebook has, however pytest is called.

nbmake finds the notebooks. For those in ``notebooks/`` its one test is replaced by a test for each
rule of the contract and two runs: as shipped, and with the reference solutions in the exercises.
Both are done once more on the pretended accelerator of ``tests/accelerator``, with the marker
``accelerator``. Other notebooks are left to nbmake.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbmake.nb_result import NotebookError, NotebookResult
from nbmake.pytest_items import NotebookFailedException, NotebookFile, NotebookItem

import helpers.exercises
import chapters
from chapters import Chapter
from tests.long.accelerator import plugged
from tests.notebooks import behaviour, contract, running
from tests.notebooks.contract.cells import tagged_names
from tests.notebooks.summary import PROVED, USAGE

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Iterator[None]:
    """Take the chapters' notebooks over from nbmake."""
    collectors = yield
    if file_path.parent != NOTEBOOKS:
        return collectors
    return [
        ChapterFile.from_parent(parent, path=file_path) if type(one) is NotebookFile else one
        for one in collectors
    ]


class ChapterFile(NotebookFile):
    """A chapter's notebook."""

    def collect(self) -> Iterator[pytest.Item]:
        chapter = chapter_of(self.path.stem)
        for rule in contract.RULES:
            name = f"contract: {rule.__name__}"
            yield ContractItem.from_parent(self, name=name, rule=rule, chapter=chapter)
        yield ShippedItem.from_parent(self, name="as shipped", chapter=chapter)
        yield SolvedItem.from_parent(self, name="solved", chapter=chapter)
        for kind in (ShippedThere, SolvedThere):
            yield kind.from_parent(self, name=kind.name_of_test, chapter=chapter)


def chapter_of(stem: str) -> Chapter:
    """The chapter with this notebook; one that breaks the contract if none is listed."""
    unlisted = Chapter(stem=stem, title="", question="", minutes=0, cpu_seconds=0)
    return next((c for c in chapters.CHAPTERS if c.stem == stem), unlisted)


class ContractItem(pytest.Item):
    """One rule of the contract on one notebook."""

    def __init__(self, *, rule: Callable[..., Iterable[str]], chapter: Chapter, **node):
        super().__init__(**node)
        self.rule = rule
        self.chapter = chapter
        self.user_properties.append((PROVED, "contract rule"))

    def runtest(self) -> None:
        problems = list(self.rule(contract.read(self.path), self.chapter))
        if problems:
            raise ContractBroken("\n".join(problems))

    def repr_failure(self, excinfo: pytest.ExceptionInfo, style=None):
        if excinfo.errisinstance(ContractBroken):
            return f"{self.rule.__doc__}\n\n{excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.name}: {self.name}"


class ContractBroken(AssertionError):
    """A notebook breaks a rule of the contract."""


class ShippedItem(NotebookItem):
    """A notebook run from top to bottom as the reader gets it."""

    variables: Mapping[str, str] = {}  # added to the kernel's environment

    def __init__(self, name: str, parent: ChapterFile, chapter: Chapter):
        # Not NotebookItem's, which names each of its items like the file.
        super(NotebookItem, self).__init__(name, parent)
        self.filename = str(parent.path)
        self.chapter = chapter
        self.user_properties.append((PROVED, "notebook run"))

    def runtest(self) -> None:
        run = self.run_notebook()
        seconds = sum(run.seconds_by_cell.values())
        allowed = behaviour.seconds_allowed(run, self.chapter)
        usage = [seconds, allowed, run.seconds_to_start, run.memory]
        self.user_properties.append((USAGE, [f"{self.path.stem}, {self.name}", *usage]))
        problems = behaviour.problems(run, self.chapter)
        if problems:
            raise NotebookFailedException(_failure(run, problems))

    def run_notebook(self) -> running.Run:
        timeout = self.config.option.nbmake_timeout
        run = running.run(self.path, self.path.parent, timeout, **self.variables)
        if self.config.option.overwrite:
            nbformat.write(run.result.nb, self.path)
        return run

    def repr_failure(self, excinfo: pytest.ExceptionInfo, style=None):
        if excinfo.errisinstance(NotebookFailedException):
            return super().repr_failure(excinfo)
        return pytest.Item.repr_failure(self, excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.name}: {self.name}"


class SolvedItem(ShippedItem):
    """A notebook run with the reference solutions, where a check that is not right raises."""

    def run_notebook(self) -> running.Run:
        nb = solved(contract.read(self.path))
        with tempfile.TemporaryDirectory(prefix="solved-") as folder:
            file = Path(folder, self.path.name)
            nbformat.write(nb, file)
            timeout = self.config.option.nbmake_timeout
            variables = {**self.variables, "TUTORIAL_STRICT": "1"}
            return running.run(file, self.path.parent, timeout, **variables)


class OnAccelerator(ShippedItem):
    """The same run in a kernel that has the pretended accelerator."""

    variables = plugged.environment()

    def __init__(self, **node):
        super().__init__(**node)
        self.add_marker("accelerator")

    def runtest(self) -> None:
        run = self.run_notebook()
        problems = behaviour.problems_on_accelerator(run, self.chapter)
        if problems:
            raise NotebookFailedException(_failure(run, problems))


class ShippedThere(OnAccelerator):
    name_of_test = "on an accelerator, as shipped"


class SolvedThere(OnAccelerator, SolvedItem):
    name_of_test = "on an accelerator, solved"


def solved(nb: NotebookNode) -> NotebookNode:
    """The notebook, changed in place: every exercise's cell holds its reference solution."""
    known = helpers.exercises.catalogue()
    for cell in nb.cells:
        for name in tagged_names(cell, "exercise"):
            cell.source = known[name].solved_cell()
    return nb


def _failure(run: running.Run, problems: list[str]) -> NotebookResult:
    """All problems, in the form that nbmake shows."""
    error = run.result.error
    trace = "\n\n".join([*problems, *([error.trace] if error else [])])
    place = error.failing_cell_index if error else -1
    return NotebookResult(run.result.nb, NotebookError(problems[0], trace, place))
