"""A chapter's page: its executed notebook, for somebody who reads without running it."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

import chapters
from chapters import Chapter
from helpers.exercises import Exercise
from tools.repository import Repository
from tools.site.markdown import buttons, escaped, folded
from tools.stamp import colab_url, exercise_of, facts


def page(executed: NotebookNode, chapter: Chapter, repository: Repository) -> NotebookNode:
    """The page's notebook. Hints and solution are folded below each exercise."""
    made = copy.deepcopy(executed)
    made.metadata.pop("widgets", None)
    made.cells = list(_cells(made, chapter, repository))
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _needs_a_kernel(output)]
            _prepare_pictures(cell)
    return made


def _cells(nb: NotebookNode, chapter: Chapter, repository: Repository) -> Iterator[NotebookNode]:
    for cell in nb.cells:
        if cell.id == "header":
            yield new_markdown_cell(_header(chapter, nb, repository), id=cell.id)
        elif cell.id == "setup":
            yield _folded(cell, "What the first cell does in Colab")
        elif "proof" in cell.metadata.get("tags", []):
            yield _folded(cell, "The proof")
        elif cell.id not in ("footer", "half-way"):  # the theme leads from page to page
            yield cell
        if name := exercise_of(cell):
            exercise = chapters.find(f"{chapter.name}.{name}")
            yield new_markdown_cell(_help(exercise), id=f"{cell.id}-help")


def _folded(cell: NotebookNode, summary: str) -> NotebookNode:
    cell.metadata["tags"] = ["hide-input"]
    cell.metadata["mystnb"] = {"code_prompt_show": summary}
    return cell


def _header(chapter: Chapter, nb: NotebookNode, repository: Repository) -> str:
    links = {
        "Open in Colab": colab_url(chapter, repository),
        "Download the notebook": f"notebooks/{chapter.stem}.ipynb",
    }
    return "\n\n".join(
        [
            f"# {chapter.number} · {chapter.title}",
            f"*{chapter.question}*",
            buttons(links),
            " · ".join(facts(nb)),
        ]
    )


def _help(exercise: Exercise) -> str:
    hints = "\n".join(f"{place}. {escaped(hint)}" for place, hint in enumerate(exercise.hints, 1))
    solution = exercise.solution()
    code = f"```python\n{solution.code.rstrip()}\n```\n\n{escaped(solution.text)}"
    return folded("Hints", hints, "hints") + "\n\n" + folded("A solution", code, "solution")


def _needs_a_kernel(output: NotebookNode) -> bool:
    """Whether an output is dead without a running notebook: a widget, a frame with TensorBoard.

    A widget with a picture, such as an explorer, is shown as that picture.
    """
    data = output.get("data", {})
    widget = "application/vnd.jupyter.widget-view+json" in data and "image/png" not in data
    return widget or "tensorboard-frame" in data.get("text/html", "")


def _prepare_pictures(cell: NotebookNode) -> None:
    """Have pictures shown from files of their own, with their texts; "" where they have none."""
    pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
    for picture in pictures:
        picture.data = NotebookNode({"image/png": picture.data["image/png"]})
    texts = [picture.metadata.get("image/png", {}).get("alt", "") for picture in pictures]
    options = {"alt": " ".join(dict.fromkeys(texts)), "classes": "figure"}
    cell.metadata.setdefault("mystnb", {})["image"] = options
