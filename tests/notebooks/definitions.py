"""A chapter's own functions and classes, so that tests run against what the chapter teaches."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from tests.notebooks import contract
from tests.notebooks.contract.cells import code_cells, tagged_names, tags
from tests.notebooks.contract.code import tree

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def load(stem: str, *names: str) -> Any:
    """What ``notebooks/<stem>.ipynb`` defines under these names: one object, or a tuple of them.

    Runs the imports of the notebook's ``imports`` cell, the definitions asked for (functions,
    classes, assignments) and those that they use, in the notebook's order, and nothing else. Of
    several definitions of a name the last one counts; exercises define nothing. Raises
    ``LookupError`` for a name that the notebook does not define.
    """
    nb = contract.read(NOTEBOOKS / f"{stem}.ipynb")
    known = _definitions(nb)
    missing = [name for name in names if name not in known]
    if missing:
        raise LookupError(
            f"notebooks/{stem}.ipynb does not define {', '.join(missing)}: "
            f"it defines {', '.join(sorted(known)) or 'nothing'}"
        )
    namespace: dict[str, Any] = {"__name__": f"notebooks.{stem}"}
    program = ast.Module(body=[*_imports(nb), *_needed(names, known)], type_ignores=[])
    exec(compile(program, f"{stem}.ipynb", "exec"), namespace)
    found = tuple(namespace[name] for name in names)
    return found if len(names) > 1 else found[0]


def imported(stem: str) -> dict[str, Any]:
    """What the ``imports`` cell of ``notebooks/<stem>.ipynb`` imports, by name."""
    namespace: dict[str, Any] = {}
    program = ast.Module(body=_imports(contract.read(NOTEBOOKS / f"{stem}.ipynb")), type_ignores=[])
    exec(compile(program, f"{stem}.ipynb", "exec"), namespace)
    return namespace


def _definitions(nb: NotebookNode) -> dict[str, ast.stmt]:
    """Every statement outside the exercises that defines a name, by that name."""
    return {
        name: statement
        for cell in code_cells(nb)
        if not tagged_names(cell, "exercise")
        for statement in tree(cell).body
        for name in _defined_names(statement)
    }


def _defined_names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for node in (node for target in targets for node in ast.walk(target)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


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
        used = {user for name in open_names for user in _used_names(known[name])}
        open_names = (used & known.keys()) - needed
    wanted = [known[name] for name in needed]
    return [statement for statement in dict.fromkeys(known.values()) if statement in wanted]


def _used_names(statement: ast.stmt) -> set[str]:
    """The global names that a statement, or a function within it, refers to."""
    tables = [symtable.symtable(ast.unparse(statement), "notebook", "exec")]
    used = set()
    for table in tables:  # grows while it is read
        tables += table.get_children()
        top = table.get_type() == "module"
        used |= {s.get_name() for s in table.get_symbols() if s.is_global() or top}
    return used
