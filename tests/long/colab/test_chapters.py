"""Every chapter with the versions that Colab has, from its setup cell to its end.

A chapter is run as shipped on a fresh machine, and then with its solutions in a new kernel on the
same machine, where its setup cell finds the course installed.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from packaging.version import Version

from helpers import checkout
from chapters import CHAPTERS, Chapter
from tests.long.colab import notebooks
from tests.long.colab.environment import VARIABLE, Environment, colab_versions
from tests.long.colab.machine import Machine
from tests.notebooks import behaviour, collection, contract
from tests.notebooks.running import Run

KEPT = ("torch", "torchvision", "numpy")
# The budgets of processor time are about the newest libraries.
RULES = [
    rule
    for rule in behaviour.RULES
    if rule not in (behaviour.within_budget, behaviour.quick_start, behaviour.no_warning)
]


@pytest.fixture
def colabs():
    """The environment with Colab's versions."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(
            f"{VARIABLE} names no environment with Colab's versions; `python -m tests.long.colab "
            "FOLDER` makes one"
        )
    environment = Environment(Path(folder))
    if not environment.is_current():
        pytest.fail(
            f"{VARIABLE}={folder} is not a current environment with Colab's versions: make it "
            "with `python -m tests.long.colab FOLDER`"
        )
    return environment


@pytest.fixture
def machine(tmp_path, repository, colabs):
    wheels = str(colabs.wheels)
    return Machine(tmp_path / "machine", repository, colabs.python, PIP_FIND_LINKS=wheels)


@pytest.mark.colab
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_a_chapter_runs_as_shipped_and_then_solved(chapter, machine, tmp_path):
    source = checkout.root() / "notebooks" / f"{chapter.stem}.ipynb"
    shipped, solved = contract.read(source), collection.solved(contract.read(source))
    wanted = {name: Version(colab_versions()[name]).public for name in KEPT}
    for nb, settings in [(shipped, {}), (solved, {"TUTORIAL_STRICT": "1"})]:
        notebook = tmp_path / source.name
        nbformat.write(with_versions_at_the_end(nb), notebook)
        run = notebooks.run(notebook, machine, **settings)
        found = list(problems(run, chapter, machine))
        assert not found, "\n".join(found)
        assert versions_at_the_end(run) == wanted
    installed = machine.installed()
    assert "pytorch_by_experiment" in installed
    assert {name.replace("_", "-") for name in installed} & colab_versions().keys() == set()


def problems(run: Run, chapter: Chapter, machine: Machine) -> Iterator[str]:
    """What is wrong with a run, in words; the traceback of an error that stopped it comes last."""
    for rule in RULES:
        yield from rule(run, chapter)
    yield from behaviour.no_warning(as_a_reader_sees_it(run, machine), chapter)
    yield from boards_by_way_of_colab(run)
    if run.result.error:
        yield run.result.error.trace


def as_a_reader_sees_it(run: Run, machine: Machine) -> Run:
    """The run without the warnings of Colab's libraries that Python by itself does not show."""
    hidden = ("DeprecationWarning", "ResourceWarning")
    ours = (str(machine.packages / "helpers"), "ipykernel_")
    seen = [
        note
        for note in run.journal
        if not (
            note["kind"] == "warning"
            and note["category"].endswith(hidden)
            and not any(place in note["file"] for place in ours)
        )
    ]
    return dataclasses.replace(run, journal=seen)


def boards_by_way_of_colab(run: Run) -> Iterator[str]:
    """Every TensorBoard is shown as in Colab, where a frame could not reach it."""
    for cell in run.result.nb.cells:
        if re.search(r"^%tensorboard", cell.source, re.MULTILINE):
            shown = [output.get("data", {}) for output in cell.outputs]
            scripts = "".join(data.get("application/javascript", "") for data in shown)
            if "google.colab.kernel.proxyPort" not in scripts:
                yield f"cell {cell.id!r} shows no board that asks Colab for its address"


def with_versions_at_the_end(nb: NotebookNode) -> NotebookNode:
    modules = ", ".join(KEPT)
    source = f"import {modules}\n\nprint(*[module.__version__ for module in ({modules})])"
    return NotebookNode(nb, cells=[*nb.cells, new_code_cell(source, id="versions")])


def versions_at_the_end(run: Run) -> dict[str, str]:
    """The versions of the modules that the kernel has loaded, without the label of their build."""
    outputs = run.result.nb.cells[-1].outputs
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    versions = [Version(word).public for word in printed.split()]
    return dict(zip(KEPT, versions, strict=True))
