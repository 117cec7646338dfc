"""What the chapters say that the installed torch no longer does.

A claim is an ``assert`` or an expected error or warning in a cell. A cell ends at its first claim
that does not hold, so the report lists one for each cell.
"""

from __future__ import annotations

import ast
import platform
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from nbformat import NotebookNode

from chapters import Chapter
from helpers.checkout import CourseError
from tools import claims
from tools.run import Failure, executed, failures
from tools.site.markdown import literal

LONGEST = 160  # characters of a claim or an error


@dataclass(frozen=True)
class Change:
    """A cell that ended with an error: where it stands, the claim that failed, the error.

    ``claim`` is any statement that raised; "" where the cell did not come to one.
    """

    chapter: Chapter
    section: str
    cell: str
    claim: str
    error: str


def report(folder: Path, chapters: Iterable[Chapter], page: Path | None = None) -> int:
    """Run chapters of a checkout and print what has changed; 1 if something has.

    With a ``page``, a file, the report is written there too, as Markdown. Raises ``CourseError``
    where that file cannot be written and where no kernel starts.
    """
    if page is not None and (page.is_dir() or not page.parent.is_dir()):
        raise CourseError(f"cannot write the report to {page}: give a file in a folder that exists")
    print(_installed())
    changes = []
    for chapter in chapters:
        found = list(changes_in(executed(chapter, folder), chapter))
        print(f"{_title(chapter)}: {_count(found)}", flush=True)
        for change in found:
            print(f"  {change.section}, cell {change.cell!r}")
            print(f"    {change.claim}\n    {change.error}")
        changes += found
    if page is not None:
        page.write_text(_markdown(changes), "utf-8")
    return int(bool(changes))


def changes_in(nb: NotebookNode, chapter: Chapter) -> Iterator[Change]:
    """The cells of an executed notebook that ended with an error."""
    cells = {cell.id: (section, cell) for section, cell in claims.by_section(nb)}
    for failure in failures(nb):
        section, cell = cells[failure.cell]
        claim, error = _line(_claim(cell, failure)), _line(failure.error)
        yield Change(chapter, section, cell.id, claim, error)


def _claim(cell: NotebookNode, failure: Failure) -> str:
    """The statement that failed; where it stands in an expectation's block, the expectation."""
    if failure.line is None:
        return ""
    statements = [
        node
        for node in ast.walk(claims.parsed(cell))  # the outer ones first
        if isinstance(node, ast.stmt) and node.lineno <= failure.line <= node.end_lineno
    ]
    expectations = [node for node in statements if claims.expects(node)]
    return ast.unparse((expectations or statements)[-1])


def _markdown(changes: list[Change]) -> str:
    items = [
        f"- {_title(change.chapter)} · {change.section}, cell {literal(change.cell)}: "
        f"{literal(change.claim or 'no statement')}\\\n  {literal(change.error)}"
        for change in changes
    ]
    heading = f"## The chapters and {_installed()}"
    return "\n\n".join([heading, _count(changes), "\n".join(items)]).rstrip() + "\n"


def _installed() -> str:
    """The versions that the report is about."""
    packages = [f"{name} {version(name)}" for name in ("torch", "torchvision")]
    return ", ".join([*packages, f"Python {platform.python_version()}"])


def _count(changes: list[Change]) -> str:
    if not changes:
        return "everything holds"
    return f"{len(changes)} cell{'s' * (len(changes) != 1)} failed"


def _title(chapter: Chapter) -> str:
    return f"{chapter.number} · {chapter.title}"


def _line(text: str) -> str:
    return textwrap.shorten(text, LONGEST, placeholder=" …")
