"""How long a chapter's core path takes, computed from its words, its code and its exercises.

The rates are those of a careful reader: 180 words and 10 lines of code a minute, and six seconds to
run a cell and to look at what it prints. An exercise takes the minutes that its heading says; what
its prompt says is read in that time. The cells that tell the minutes are not counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nbformat import NotebookNode

WORDS_A_MINUTE = 180
LINES_A_MINUTE = 10
RUNS_A_MINUTE = 10
TELLING = ("header", "half-way")
EXERCISE = re.compile(r"^### ★.* · (\d+) min$", re.MULTILINE)


def of(nb: NotebookNode) -> int:
    """The minutes of a chapter's core path, rounded to five."""
    return _rounded(core(nb))


def before(nb: NotebookNode, cell: NotebookNode) -> int:
    """The minutes until a cell of the core path, rounded to five."""
    return _rounded(nb.cells[: nb.cells.index(cell)])


def core(nb: NotebookNode) -> list[NotebookNode]:
    """The cells before the reference part, which begins at the cell tagged ``reference``."""
    cells = nb.cells
    starts = [n for n, cell in enumerate(cells) if "reference" in cell.metadata.get("tags", [])]
    return cells[: starts[0]] if starts else cells


def _rounded(cells: Sequence[NotebookNode]) -> int:
    return 5 * round(sum(map(_minutes, cells)) / 5)


def _minutes(cell: NotebookNode) -> float:
    if cell.get("id") in TELLING:
        return 0
    exercise = EXERCISE.search(cell.source)
    hidden = cell.metadata.get("jupyter", {}).get("source_hidden")
    if cell.cell_type == "markdown":
        return int(exercise[1]) if exercise else len(cell.source.split()) / WORDS_A_MINUTE
    if cell.cell_type == "code" and not hidden:
        lines = sum(bool(line.strip()) for line in cell.source.splitlines())
        return lines / LINES_A_MINUTE + 1 / RUNS_A_MINUTE
    return 0
