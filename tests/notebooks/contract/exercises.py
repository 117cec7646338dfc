"""Rules on a notebook's exercises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from nbformat import NotebookNode

import helpers.exercises
from chapters import Chapter
from tests.notebooks.contract.cells import code_cells, core, name, tagged_names
from tests.notebooks.contract.prose import headings

MOST_SECTIONS = 3


def exercises_complete(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """Each exercise of the chapter's room appears once, after its prompt, and no other does."""
    room = [n for n in helpers.exercises.catalogue() if n.split(".")[0] == chapter.room]
    found = Counter(n for cell in code_cells(nb) for n in tagged_names(cell, "exercise"))
    for exercise in found.keys() - set(room):
        yield f"{exercise!r} is no exercise of helpers/exercises/{chapter.room}.py"
    for exercise in room:
        if found[exercise] != 1:
            yield f"the exercise {exercise!r} appears {found[exercise]} times, once is wanted"
    yield from _without_prompt(nb)


def _without_prompt(nb: NotebookNode) -> Iterator[str]:
    asked = []
    for cell in nb.cells:
        for exercise in tagged_names(cell, "exercise"):
            if cell.cell_type != "code":
                yield f"{name(cell)} is tagged 'exercise:{exercise}', but it is not a code cell"
            elif exercise not in asked:
                yield f"{name(cell)} must follow a markdown cell tagged 'prompt:{exercise}'"
        asked = tagged_names(cell, "prompt") if cell.cell_type == "markdown" else []


def exercises_regular(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """In the core path, the reader does something every few sections."""
    for has_exercise, run in groupby(_sections(nb), key=lambda section: section[1]):
        titles = [title for title, _ in run]
        if not has_exercise and len(titles) > MOST_SECTIONS:
            yield (
                f"{len(titles)} sections from {titles[0]!r} to {titles[-1]!r} pass without an "
                f"exercise, {MOST_SECTIONS} at most are allowed"
            )


def _sections(nb: NotebookNode) -> list[tuple[str, bool]]:
    """The sections of the core path (``##``), and whether each has an exercise."""
    sections: list[tuple[str, bool]] = []
    for cell in core(nb):
        if cell.cell_type == "markdown":
            sections += [(text, False) for level, text in headings(cell.source) if level == 2]
        elif sections and tagged_names(cell, "exercise"):
            sections[-1] = sections[-1][0], True
    return sections
