"""A chapter's own functions and classes, so that tests run against what the chapter teaches."""

from __future__ import annotations

import ast
from typing import Any
from unittest import mock

from nbformat import NotebookNode

from helpers.exercises import Exercise
from tests.notebooks.cells import (
    NOTEBOOKS,
    bound_names,
    code_cells,
    exercises,
    read,
    tags,
    tree,
    used_names,
)

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


def load(stem: str, *names: str) -> Any:
    """What ``notebooks/<stem>.ipynb`` defines under these names: one object, or a tuple of them.

    Runs the imports of the notebook's ``imports`` cell, the definitions asked for (functions,
    classes, assignments) and those that they use, in the notebook's order, and nothing else. Of
    several definitions of a name the last one counts; exercises define nothing, and what ``yours``
    gives is the course's solution, whatever was checked in this process. Raises ``LookupError`` for
    a name that the notebook does not define.
    """
    nb = read(NOTEBOOKS / f"{stem}.ipynb")
    known = _definitions(nb)
    missing = [name for name in names if name not in known]
    if missing:
        raise LookupError(
            f"notebooks/{stem}.ipynb does not define {', '.join(missing)}: "
            f"it defines {', '.join(sorted(known)) or 'nothing'}"
        )
    namespace = _run(stem, [*_imports(nb), *_needed(names, known)])
    found = tuple(namespace[name] for name in names)
    return found if len(names) > 1 else found[0]


def imported(stem: str) -> dict[str, Any]:
    """What the ``imports`` cell of ``notebooks/<stem>.ipynb`` imports, by name."""
    return _run(stem, _imports(read(NOTEBOOKS / f"{stem}.ipynb")))


def _run(stem: str, statements: list[ast.stmt]) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": f"notebooks.{stem}"}
    program = ast.Module(statements, type_ignores=[])
    with mock.patch.object(Exercise, "yours", lambda exercise: exercise.right):
        exec(compile(program, f"{stem}.ipynb", "exec", dont_inherit=True), namespace)
    return namespace


def _definitions(nb: NotebookNode) -> dict[str, ast.stmt]:
    """Every statement outside the exercises that defines a name, by that name."""
    return {
        name: statement
        for cell in code_cells(nb)
        if not exercises(cell)
        for statement in tree(cell).body
        if isinstance(statement, DEFINITIONS)
        for name in bound_names(statement)
    }


def _imports(nb: NotebookNode) -> list[ast.stmt]:
    """The import statements of the cell tagged ``imports``."""
    return [
        statement
        for cell in code_cells(nb)
        if "imports" in tags(cell)
        for statement in tree(cell).body
        if isinstance(statement, ast.Import | ast.ImportFrom)
    ]


def _needed(names: tuple[str, ...], known: dict[str, ast.stmt]) -> list[ast.stmt]:
    """The statements that define the names, and those that these use, in the notebook's order."""
    needed, open_names = set(), set(names)
    while open_names:
        needed |= open_names
        used = {user for name in open_names for user in used_names(known[name])}
        open_names = (used & known.keys()) - needed
    wanted = [known[name] for name in needed]
    return [statement for statement in dict.fromkeys(known.values()) if statement in wanted]
