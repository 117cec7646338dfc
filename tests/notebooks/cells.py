"""Cells of a notebook, and the names in their code."""

from __future__ import annotations

import ast
import dis
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import nbformat.v4
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PYTHON_MAGICS = ("capture", "prun", "time", "timeit")  # cell magics whose body is Python


def read(path: Path) -> NotebookNode:
    """The notebook as its file has it: unlike ``nbformat.read``, this repairs nothing."""
    return nbformat.v4.reads(path.read_text("utf-8"))


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def markdown_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "markdown"]


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def exercises(cell: NotebookNode) -> list[str]:
    """The names in the cell's tags ``exercise:<name>``: one for an exercise, else none."""
    return [tag.removeprefix("exercise:") for tag in tags(cell) if tag.startswith("exercise:")]


def name(cell: NotebookNode) -> str:
    """What messages call the cell."""
    return f"cell {cell.get('id', '(no id)')!r}"


def tree(cell: NotebookNode) -> ast.Module:
    """The cell's syntax tree, magics and commands turned into calls of IPython's.

    A cell magic that runs Python is left out and its body taken. Raises ``SyntaxError`` for code
    that is not Python.
    """
    magic = re.match(r"\s*%%(\w+)[^\n]*\n?", cell.source)
    source = cell.source[magic.end() :] if magic and magic[1] in PYTHON_MAGICS else cell.source
    return ast.parse(TransformerManager().transform_cell(source))


def bound_names(*statements: ast.stmt) -> set[str]:
    """The global names that the statements define, assign or import."""
    return {name for binds, name in _steps(_compiled(statements)) if binds}


def used_names(*statements: ast.stmt) -> set[str]:
    """The global names that the statements, or functions within them, look up.

    A name that the statements themselves bind before they look it up is not one of them.
    """
    code = _compiled(statements)
    in_functions = {name for part in _parts(code) for name in _all_looked_up(part)}
    return _looked_up(code) | (in_functions - bound_names(*statements))


def _compiled(statements: tuple[ast.stmt, ...]) -> CodeType:
    module = ast.Module([*statements], type_ignores=[])
    return compile(module, "<cell>", "exec", dont_inherit=True)  # annotations are evaluated


def _looked_up(code: CodeType) -> set[str]:
    bound, used = set(), set()
    for binds, name in _steps(code):
        if binds:
            bound.add(name)
        elif name not in bound:
            used.add(name)
    return used


def _all_looked_up(code: CodeType) -> set[str]:
    """What ``code`` looks up, with the functions and classes in it."""
    return _looked_up(code).union(*map(_all_looked_up, _parts(code)))


def _parts(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _steps(code: CodeType) -> Iterator[tuple[bool, str]]:
    """In the order of execution, each global name, and whether it is bound (or looked up)."""
    for step in dis.get_instructions(code):
        if step.opname in ("STORE_NAME", "STORE_GLOBAL"):
            binds = True
        elif step.opname in ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"):
            binds = False
        else:
            continue
        if not step.argval.startswith("__"):  # Python's own, as for annotations
            yield binds, step.argval
