"""Every chapter with the versions that Colab has, from its setup cell to its end.

The solutions of its exercises are checked right after its imports, by Colab's IPython.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from packaging.version import Version

import chapters
from chapters import CHAPTERS, Chapter
from helpers import checkout
from tests.chapters.cells import solved
from tests.long.colab import environment
from tests.long.colab.machine import Machine
from tests.notebooks.samples import code
from tools.run import failures, run

KEPT = ("torch", "torchvision", "numpy")
VERSIONS = f"""\
import {", ".join(KEPT)}

print(*[module.__version__ for module in ({", ".join(KEPT)})])
"""
# torch 2.11 itself reads its torch.export files so that it warns.
ALLOWED = "The given buffer is not writable"


@pytest.fixture
def machine(tmp_path, repository):
    folder = os.environ.get(environment.VARIABLE)
    if not folder:
        pytest.skip(
            f"{environment.VARIABLE} names no environment with Colab's versions; "
            "`python -m tests.long.colab FOLDER` makes one"
        )
    wheels = str(environment.wheels_of(Path(folder).absolute()))
    python = environment.python_of(Path(folder).absolute())
    variables = {"PIP_FIND_LINKS": wheels, "OMP_NUM_THREADS": "1"}
    return Machine(tmp_path / "machine", repository, python, **variables)


@pytest.mark.colab
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_a_chapter_and_its_solutions_run(chapter, machine):
    nb = nbformat.read(checkout.root() / "notebooks" / f"{chapter.stem}.ipynb", as_version=4)
    (imports,) = [n for n, cell in enumerate(nb.cells, 1) if "imports" in tags(cell)]
    nb.cells[imports:imports] = solutions(chapter)
    nb.cells.append(code(VERSIONS, "versions"))
    ran = run(
        nb,
        python=machine.python,
        folder=machine.content,
        environment=machine.environment,
        startup=["import google.colab"],
    ).notebook
    assert list(problems(ran)) == []
    colabs = environment.versions()
    printed = ran.cells[-1].outputs[0].text.split()
    # without the label of a build
    assert [Version(text).public for text in printed] == [colabs[name] for name in KEPT]
    installed = {name.replace("_", "-") for name in machine.installed()}
    assert "pytorch-by-experiment" in installed
    assert installed & colabs.keys() == set()


def solutions(chapter: Chapter) -> Iterator[NotebookNode]:
    """A cell for each exercise of a chapter, which raises unless its solution is right."""
    for exercise in chapters.catalogue().values():
        if exercise.chapter == chapter.name:
            check = f"ex.{exercise.short_name}.check({exercise.short_name})"
            answer = solved(exercise).removesuffix(check)
            checked = f"card = {check}\nassert card.state == 'right', card"
            yield code(answer + checked, f"solved-{exercise.short_name}")


def problems(ran: NotebookNode) -> Iterator[str]:
    """What is wrong with a run, in words: errors, warnings, and boards that Colab cannot show."""
    for failure in failures(ran):
        yield f"cell {failure.cell!r}: {failure.error}\n{failure.trace}"
    for cell in ran.cells:
        for output in cell.get("outputs", []):
            printed = output.text if output.get("name") == "stderr" else ""
            if printed.count("Warning: ") > printed.count(ALLOWED):
                yield f"cell {cell.id!r} warns: {printed}"
        if re.search(r"^%tensorboard", cell.source, re.MULTILINE):
            shown = [output.get("data", {}) for output in cell.outputs]
            scripts = "".join(data.get("application/javascript", "") for data in shown)
            if "google.colab.kernel.proxyPort" not in scripts:
                yield f"cell {cell.id!r} shows no board that asks Colab for its address"


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])
