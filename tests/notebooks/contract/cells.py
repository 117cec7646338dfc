"""Cells picked out of a notebook."""

from __future__ import annotations

from nbformat import NotebookNode


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def markdown_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "markdown"]


def core(nb: NotebookNode) -> list[NotebookNode]:
    """The cells before the reference part, which begins at the cell tagged ``reference``."""
    starts = [place for place, cell in enumerate(nb.cells) if "reference" in tags(cell)]
    return nb.cells[: starts[0]] if starts else nb.cells


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def tagged_names(cell: NotebookNode, kind: str) -> list[str]:
    """The names in a cell's tags of the form ``kind:name``."""
    return [tag.removeprefix(f"{kind}:") for tag in tags(cell) if tag.startswith(f"{kind}:")]


def name(cell: NotebookNode) -> str:
    """What messages call the cell."""
    return f"cell {cell.get('id', '(no id)')!r}"
