"""A chapter's page: its executed notebook, as somebody reads it who is not running it."""

from __future__ import annotations

import base64
import copy
import html
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_output

from tools import stamp
from chapters import Chapter
from tools.repository import Repository
from helpers.exercises.engine import Exercise
from tools.site.markdown import escaped, folded


def page(
    executed: NotebookNode,
    chapter: Chapter,
    repository: Repository,
    known: Mapping[str, Exercise],
    figures: Path,
) -> NotebookNode:
    """The page's notebook. Its figures are written into ``figures``, a folder beside the page.

    ``known`` is the catalogue of exercises: below each of them its hints and its solution are
    folded.
    """
    made = copy.deepcopy(executed)
    made.metadata.pop("widgets", None)
    made.cells = list(_cells(made, chapter, repository, known))
    for cell in made.cells:
        if cell.cell_type == "code":
            alive = [output for output in cell.outputs if not _needs_a_kernel(output)]
            cell.outputs = [_with_file(output, chapter, figures) for output in alive]
    return made


def notebook_file(chapter: Chapter) -> str:
    """Where the site has a chapter's notebook for download, as it is in the repository."""
    return f"notebooks/{chapter.stem}.ipynb"


def _cells(
    nb: NotebookNode, chapter: Chapter, repository: Repository, known: Mapping[str, Exercise]
) -> Iterator[NotebookNode]:
    for cell in nb.cells:
        if cell.id == "header":
            yield new_markdown_cell(_header(chapter, repository, known), id=cell.id)
        elif cell.id == "setup":
            cell.metadata["tags"] = ["hide-input"]
            cell.metadata["mystnb"] = {"code_prompt_show": "What the first cell does in Colab"}
            yield cell
        elif cell.id != "footer":  # the theme leads from page to page
            yield cell
        for name in _names(cell, "exercise"):
            yield new_markdown_cell(_help(known[name]), id=f"{cell.id}-help")


def _names(cell: NotebookNode, kind: str) -> list[str]:
    tags = cell.metadata.get("tags", [])
    return [tag.removeprefix(f"{kind}:") for tag in tags if tag.startswith(f"{kind}:")]


def _header(chapter: Chapter, repository: Repository, known: Mapping[str, Exercise]) -> str:
    count = sum(name.partition(".")[0] == chapter.room for name in known)
    links = {
        "Open in Colab": (stamp.colab_url(chapter, repository), ""),
        "Download the notebook": (notebook_file(chapter), " download"),
    }
    buttons = "\n".join(
        f'<a class="button" href="{html.escape(url)}"{attribute}>{label}</a>'
        for label, (url, attribute) in links.items()
    )
    return "\n\n".join(
        [
            f"# {chapter.number} · {chapter.title}",
            f"*{chapter.question}*",
            f'<p class="buttons">\n{buttons}\n</p>',
            f"About {chapter.minutes} minutes · {count} exercise{'s' * (count != 1)}",
        ]
    )


def _help(exercise: Exercise) -> str:
    hints = "\n".join(f"{place}. {escaped(hint)}" for place, hint in enumerate(exercise.hints, 1))
    solution = exercise.solution()
    code = f"```python\n{solution.code.rstrip()}\n```\n\n{escaped(solution.text)}"
    return folded("Hints", hints, "hints") + "\n\n" + folded("A solution", code, "solution")


# What a cell showed


def _needs_a_kernel(output: NotebookNode) -> bool:
    """Whether an output is dead without a running notebook: a widget, a frame with TensorBoard."""
    data = output.get("data", {})
    widget = "application/vnd.jupyter.widget-view+json" in data
    return widget or "tensorboard-frame" in data.get("text/html", "")


def _with_file(output: NotebookNode, chapter: Chapter, figures: Path) -> NotebookNode:
    """The output, its picture in a file of its own."""
    png = output.get("data", {}).get("image/png")
    if png is None:
        return output
    content = base64.b64decode(png)
    name = f"{chapter.stem}-{len(list(figures.glob(f'{chapter.stem}-*.png'))) + 1}.png"
    (figures / name).write_bytes(content)
    width, height = struct.unpack(">II", content[16:24])  # where PNG's header holds them
    image = (
        f'<img class="figure" src="{figures.name}/{name}" alt="{html.escape(_text_of(output))}" '
        f'width="{width}" height="{height}" loading="lazy">'
    )
    return new_output("display_data", {"text/html": image})


def _text_of(output: NotebookNode) -> str:
    """A picture's alternative text; "" if it has none, which the site's tests find."""
    return output.metadata.get("image/png", {}).get("alt", "")


# Paths of the machine that made the page


def replace_paths(executed: NotebookNode, paths: Mapping[str, str]) -> None:
    """Replace each path, with the slash after it, in what the cells of a notebook showed.

    A path is found, too, where ``helpers.expect`` has broken the line within it.
    """
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = _replaced(output.text, paths)
            for kind, content in output.get("data", {}).items():
                if isinstance(content, str) and kind.startswith("text/"):
                    output.data[kind] = _replaced(content, paths)


def _replaced(text: str, paths: Mapping[str, str]) -> str:
    for path, instead in paths.items():
        pattern = r"(?:\n    )?".join(map(re.escape, path)) + r"[/\\]?"
        text = re.sub(pattern, lambda _, word=instead: word, text)
    return text
