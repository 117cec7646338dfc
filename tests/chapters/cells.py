"""The cells of an exercise, as they stand in its notebook, and run as a notebook runs them."""

from __future__ import annotations

import functools
import itertools
import linecache
from types import SimpleNamespace
from typing import Any, NamedTuple

import nbformat

from chapters import CHAPTERS
from helpers.exercises import Exercise, Prediction
from helpers.exercises.engine import source_of
from helpers.exercises.feedback import Card
from tests.notebooks import definitions


class Asked(NamedTuple):
    """An exercise in its notebook: the markdown that asks, and the cell to answer in."""

    prompt: str
    starter: str


@functools.cache
def asked(chapter: str) -> dict[str, Asked]:
    """The exercises in a chapter's notebook by the name in their tag ``exercise:<name>``."""
    (stem,) = [one.stem for one in CHAPTERS if one.name == chapter]
    cells = nbformat.read(definitions.NOTEBOOKS / f"{stem}.ipynb", as_version=4).cells
    return {
        tag.removeprefix("exercise:"): Asked(before.source, cell.source)
        for before, cell in itertools.pairwise(cells)
        for tag in cell.metadata.get("tags", [])
        if tag.startswith("exercise:")
    }


def asked_of(exercise: Exercise) -> Asked:
    """The cells of one exercise. Raises ``LookupError`` if the notebook does not ask it."""
    name = exercise.short_name
    if name not in asked(exercise.chapter):
        raise LookupError(
            f"the notebook of {exercise.chapter} has no cell with the tag 'exercise:{name}', and "
            f"chapters/{exercise.chapter}/exercises.py defines {name}: add the tag, or correct it"
        )
    return asked(exercise.chapter)[name]


def solved(exercise: Exercise) -> str:
    """The source of the reader's cell with the reference solution in it."""
    name = exercise.short_name
    source = source_of(exercise.reference)
    if isinstance(exercise, Prediction):
        source += f"\n\n\n{name} = {exercise.reference.__name__}()"
    return f"{source}\n\n\nex.{name}.check({name})"


@functools.cache
def imported(chapter: str) -> dict[str, Any]:
    """What the chapter's notebook imports; for an exercise made in a test, the first chapter's."""
    stems = {one.name: one.stem for one in CHAPTERS}
    return definitions.imported(stems.get(chapter, CHAPTERS[0].stem))


_numbers = itertools.count()


def run_cell(exercise: Exercise, source: str) -> tuple[Any, Card]:
    """Run a cell of an exercise; give the answer that it hands in and the card that it gets.

    The cell's source can be looked up, as that of a notebook's cell can.
    """
    handed_in = []

    def check(answer: Any) -> Card:
        handed_in.append((answer, exercise.check(answer)))
        return handed_in[-1][1]

    file = f"<cell {next(_numbers)} {exercise.name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    stand_in = SimpleNamespace(**{exercise.short_name: SimpleNamespace(check=check)})
    names = imported(exercise.chapter)
    exec(compile(source, file, "exec"), {**names, "__name__": "__main__", "ex": stand_in})
    return handed_in[-1]
