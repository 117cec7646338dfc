"""Rules on the headings, links and images of a notebook's markdown cells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from nbformat import NotebookNode

from tests.notebooks.cells import NOTEBOOKS, markdown_cells, name, read


def links_resolve(nb: NotebookNode) -> Iterator[str]:
    """Relative links lead to a file and a heading that exist; others are https."""
    for cell in markdown_cells(nb):
        for target in _targets(cell.source):
            problem = _problem(target, nb)
            if problem:
                yield f"{name(cell)} links to {target!r}: {problem}"


def images_have_text(nb: NotebookNode) -> Iterator[str]:
    """Every image in the prose has an alternative text."""
    for cell in markdown_cells(nb):
        text = _without_code(cell.source)
        images = re.findall(r"!\[\s*\]\(|<img\b(?![^>]*\balt=[\"'][^\"'])[^>]*>", text)
        for image in images:
            yield f"{name(cell)} has an image without alternative text: {image}"


def titled_once(nb: NotebookNode) -> Iterator[str]:
    """The chapter has one title, and below it no level of headings is left out."""
    before = 0
    for cell in markdown_cells(nb):
        for level, text in headings(cell.source):
            if level == 1 and before:
                yield f"{name(cell)} has a second title, {text!r}: only the header has one"
            elif level > before + 1:
                yield f"{name(cell)} goes from level {before} to {level} at {text!r}"
            before = level


def headings(markdown: str) -> list[tuple[int, str]]:
    """The level and the text of each heading."""
    found = re.findall(r"^ {0,3}(#{1,6}) +(.*?)(?: +#+)? *$", _without_fences(markdown), re.M)
    return [(len(marks), text) for marks, text in found]


def _targets(markdown: str) -> list[str]:
    """Where the links and images in a text lead to."""
    forms = r"\]\(\s*<?([^\s)>]+)|^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)|\b(?:href|src)=[\"']([^\"']+)"
    found = re.findall(forms, _without_code(markdown), re.MULTILINE)
    found += [(link, "", "") for link in re.findall(r"<(\w+://[^>\s]+)>", _without_code(markdown))]
    return ["".join(groups) for groups in found]


def _without_code(markdown: str) -> str:
    """The text without its code blocks and code spans."""
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", _without_fences(markdown), flags=re.DOTALL)


def _without_fences(markdown: str) -> str:
    return re.sub(r"^ *(```+|~~~+).*?^ *\1[`~]*\s*?$", "", markdown, flags=re.DOTALL | re.M)


def _problem(target: str, nb: NotebookNode) -> str | None:
    """What is wrong with a link in ``nb``; None if nothing is."""
    if re.match(r"\w[\w+.-]*:", target):
        return None if target.startswith("https://") else "links to other places must be https"
    path, _, anchor = unquote(target).partition("#")
    file = (NOTEBOOKS / path).resolve()
    if NOTEBOOKS.parent not in file.parents and file != NOTEBOOKS.parent:
        return "it lies outside the repository"
    if not file.exists():
        return "there is no such file"
    if anchor and anchor not in _anchors(file if path else None, nb):
        return f"there is no heading with the anchor {anchor!r}"
    return None


def _anchors(file: Path | None, nb: NotebookNode) -> set[str]:
    """The anchors of a file's headings, or of the notebook's own."""
    if file is not None and file.suffix != ".ipynb":
        return {_github_anchor(text) for _, text in headings(file.read_text("utf-8"))}
    cells = markdown_cells(nb if file is None else read(file))
    return {_lab_anchor(text) for cell in cells for _, text in headings(cell.source)}


def _lab_anchor(heading: str) -> str:
    """JupyterLab's anchor: the heading's rendered text, its spaces replaced."""
    return _rendered(heading).replace(" ", "-")


def _github_anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", _rendered(heading).lower()).replace(" ", "-")


def _rendered(heading: str) -> str:
    linked = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[`*]|(?<!\w)_|_(?!\w)", "", linked)
