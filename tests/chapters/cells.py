"""Runs the cells of an exercise as a notebook would."""

from __future__ import annotations

import functools
import itertools
import linecache
from types import SimpleNamespace
from typing import Any

from chapters import CHAPTERS
from helpers.exercises.engine import Exercise
from helpers.exercises.feedback import Card
from tests.notebooks import definitions


@functools.cache
def imported(room: str) -> dict[str, Any]:
    """What the chapter's notebook imports; for an exercise made in a test, the first chapter's."""
    stems = {chapter.room: chapter.stem for chapter in CHAPTERS}
    return definitions.imported(stems.get(room, CHAPTERS[0].stem))


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
    names = imported(exercise.name.partition(".")[0])
    exec(compile(source, file, "exec"), {**names, "__name__": "__main__", "ex": stand_in})
    return handed_in[-1]
