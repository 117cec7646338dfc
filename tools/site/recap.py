"""The recap sheet: what each chapter says is worth keeping, on one page to print."""

from __future__ import annotations

from collections.abc import Mapping

from nbformat import NotebookNode

from chapters import Chapter
from helpers.checkout import CourseError
from tools.site.markdown import link_to, sections

_BEGINNING = """\
# Recap

What the chapters say is worth keeping, one after the other.

<p class="on-screen"><button class="button" type="button" onclick="window.print()">Print this
page</button></p>"""


def page(notebooks: Mapping[Chapter, NotebookNode]) -> str:
    """The page's markdown.

    A chapter's recap is the last cell of its core path, which is a text with a table; raises
    ``CourseError`` for a chapter that ends otherwise.
    """
    parts = [_BEGINNING]
    for chapter, nb in notebooks.items():
        parts += [f"## {link_to(chapter)}", f"*{chapter.question}*", *_recap(nb, chapter)]
    return "\n\n".join(parts) + "\n"


def _recap(nb: NotebookNode, chapter: Chapter) -> list[str]:
    """What stands under the headings of a chapter's recap."""
    ends = (place for place, cell in enumerate(nb.cells) if _is_beyond_the_core(cell))
    last = nb.cells[next(ends, len(nb.cells)) - 1]
    if last.cell_type != "markdown" or "\n|--" not in last.source:
        raise CourseError(
            f"{chapter.stem} ends its core path with cell {last.id!r}, which is no recap: expected "
            "is a text cell with a table of what to keep"
        )
    return [content for _, content in sections(last.source)]


def _is_beyond_the_core(cell: NotebookNode) -> bool:
    return cell.id == "footer" or "reference" in cell.metadata.get("tags", [])
