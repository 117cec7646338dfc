"""Cells and notebooks made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook


def code(
    source: str, id: str, tags: Sequence[str] = (), outputs: Sequence[NotebookNode] = ()
) -> NotebookNode:
    metadata = {"tags": [*tags]} if tags else {}
    return new_code_cell(source, id=id, metadata=metadata, outputs=[*outputs])


def markdown(source: str, id: str, tags: Sequence[str] = ()) -> NotebookNode:
    return new_markdown_cell(source, id=id, metadata={"tags": [*tags]} if tags else {})


def notebook(*cells: NotebookNode) -> NotebookNode:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return new_notebook(cells=[*cells], metadata=metadata)
