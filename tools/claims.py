"""What the chapters claim: the errors and warnings that their cells expect, and where they stand.

They are read from the notebooks' code. Nothing runs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from tools.stamp import exercise_of

EXPECTATIONS = ("expect_error", "show_traceback", "expect_warning")


@dataclass(frozen=True)
class Claim:
    """An error or a warning that a cell expects, by the name of its type.

    ``section`` is the text of the nearest heading above. ``match`` is None where the notebook
    computes the words that it looks for.
    """

    chapter: str
    section: str
    cell: str
    type_name: str
    match: str | None


def claims(folder: Path) -> list[Claim]:
    """The claims of all notebooks of a checkout, in the order in which they are read."""
    return [
        claim
        for path in sorted((folder / "notebooks").glob("*.ipynb"))
        for claim in claims_of(nbformat.read(path, as_version=4), path.stem)
    ]


def claims_of(nb: NotebookNode, chapter: str) -> list[Claim]:
    """The claims of a notebook, in order. The cells of setup and exercises claim nothing.

    Raises ``ValueError`` for a cell that is not Python after IPython has read its magics.
    """
    return [
        Claim(chapter, section, cell.id, _name(_arguments(call)["kind"]), _match(call))
        for section, cell in by_section(nb)
        if cell.id != "setup" and not exercise_of(cell)
        for call in _expectations(parsed(cell))
    ]


def by_section(nb: NotebookNode) -> Iterator[tuple[str, NotebookNode]]:
    """The code cells of a notebook, each with the heading of its section.

    The prompt of an exercise, which is the cell before it, begins no section.
    """
    section = ""
    for cell, following in zip_longest(nb.cells, nb.cells[1:]):
        if cell.cell_type == "code":
            yield section, cell
        elif following is None or not exercise_of(following):
            without_code = re.sub(r"^```.*?^```", "", cell.source, flags=re.DOTALL | re.MULTILINE)
            headings = re.findall(r"^#+ +(.*?)\s*$", without_code, re.MULTILINE)
            section = headings[-1] if headings else section


def parsed(cell: NotebookNode) -> ast.Module:
    """A code cell's syntax tree. Lines keep their numbers."""
    try:
        return ast.parse(TransformerManager().transform_cell(cell.source))
    except SyntaxError as error:
        raise ValueError(f"cell {cell.id!r} is not Python: {error}") from None


def expects(statement: ast.stmt) -> bool:
    """Whether a statement is a ``with`` that expects an error or a warning."""
    items = statement.items if isinstance(statement, ast.With) else []
    return any(_expectations(item.context_expr) for item in items)


def _expectations(tree: ast.AST) -> list[ast.Call]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    expected = [call for call in calls if _name(call.func) in EXPECTATIONS]
    return sorted(expected, key=lambda call: (call.lineno, call.col_offset))


def _match(call: ast.Call) -> str | None:
    return getattr(_arguments(call).get("match"), "value", None)


def _arguments(call: ast.Call) -> dict[str | None, ast.expr]:
    given = dict(zip(("kind", "match"), call.args, strict=False))
    return given | {word.arg: word.value for word in call.keywords}


def _name(expression: ast.expr) -> str:
    """The last part of a dotted name; "" for any other expression."""
    return getattr(expression, "attr", getattr(expression, "id", ""))
