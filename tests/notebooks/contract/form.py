"""Rules on a notebook's place, metadata and the order of its cells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import nbformat
from nbformat import NotebookNode

import chapters
from tools import stamp
from chapters import Chapter
from tests.notebooks.contract.cells import code_cells, core, name, tags

MOST_CORE_CELLS = 60


def listed_in_order(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """The chapter is listed in ``chapters``, and its number is its place there."""
    if chapter not in chapters.CHAPTERS:
        yield f"{chapter.stem} is not in CHAPTERS of helpers/chapters.py: list it there"
        return
    place = f"{chapters.CHAPTERS.index(chapter):02}"
    if chapter.number != place:
        yield f"{chapter.stem} has the number {chapter.number}, its place in CHAPTERS is {place}"


def valid_format(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """The file is valid nbformat 4.5 or newer, the first with cell ids."""
    if (nb.nbformat, nb.nbformat_minor) < (4, 5):
        yield f"nbformat is {nb.nbformat}.{nb.nbformat_minor}: cell ids need 4.5 or newer"
        return
    if not all("id" in cell for cell in nb.cells):
        yield "not a valid notebook: a cell has no id"
        return
    try:
        nbformat.validate(nb)
    except nbformat.ValidationError as error:
        yield f"not a valid notebook: {str(error).splitlines()[0]}"


def python3_kernel(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """The kernel is the one that every installation has."""
    kernel = nb.metadata.get("kernelspec", {})
    if kernel.get("name") != "python3" or not kernel.get("display_name"):
        yield f"kernelspec is {dict(kernel)}: it must name 'python3' and have a display name"
    language = nb.metadata.get("language_info", {}).get("name")
    if language != "python":
        yield f"language_info names {language!r}: it must name 'python'"


def nothing_executed(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """No outputs, execution counts or widget states are kept in the repository."""
    for cell in code_cells(nb):
        if cell.get("outputs"):
            yield f"{name(cell)} has outputs: run `nbstripout --keep-id` on the notebook"
        if cell.get("execution_count") is not None:
            yield f"{name(cell)} has an execution count: run `nbstripout --keep-id` on the notebook"
    if "widgets" in nb.metadata:
        yield "the metadata hold the state of widgets: run `nbstripout --keep-id` on the notebook"


def readable_ids(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """Every cell has an id of its own, given by a person: it is what messages call the cell."""
    ids = Counter(cell.get("id", "") for cell in nb.cells)
    for cell_id, count in ids.items():
        if count > 1:
            yield f"{count} cells have the id {cell_id!r}"
        if not re.fullmatch(r"[a-z][a-z0-9-]*", cell_id) or re.fullmatch("[0-9a-f]{8}", cell_id):
            yield f"the id {cell_id!r} is no name: use words such as 'plot-losses'"


def generated_cells_current(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """Header, setup, exercises and footer are what ``python -m helpers stamp`` writes."""
    stamped = stamp.stamped(nb, chapter)
    mend = "run `python -m helpers stamp`"
    if [cell.get("id") for cell in nb.cells] != [cell.id for cell in stamped.cells]:
        missing = {cell.id for cell in stamped.cells} - {cell.get("id") for cell in nb.cells}
        which = f"; missing are {', '.join(sorted(missing))}" if missing else ""
        yield f"the generated cells are not those of the chapter{which}: {mend}"
        return
    changed = [
        name(ours) for ours, theirs in zip(nb.cells, stamped.cells, strict=True) if ours != theirs
    ]
    for cell in changed:
        yield f"{cell} is out of date: {mend}"
    if nb != stamped and not changed:
        yield f"the notebook's metadata are out of date: {mend}"


def imports_after_setup(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """The first code cell is the setup, the second, and no other, is tagged ``imports``."""
    cells = code_cells(nb)
    if not cells or cells[0].get("id") != "setup":
        yield "the first code cell must be 'setup': run `python -m helpers stamp`"
    tagged = [place for place, cell in enumerate(cells) if "imports" in tags(cell)]
    if tagged != [1]:
        found = ", ".join(name(cells[place]) for place in tagged) or "no cell"
        yield f"the code cell after 'setup', and no other, must be tagged 'imports'; it is {found}"


def nothing_exempt(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """No cell is skipped, mocked, or allowed to fail."""
    for cell in nb.cells:
        for tag in {"raises-exception", "skip-execution"} & set(tags(cell)):
            yield f"{name(cell)} is tagged {tag!r}: show an error with helpers.expect.expect_error"
        if "nbmake" in cell.metadata:
            yield f"{name(cell)} has nbmake metadata: tests run what the reader runs"
    if nb.metadata.get("execution", {}).get("allow_errors"):
        yield "the metadata allow errors: show an error with helpers.expect.expect_error"


def core_length(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """The core path is short enough for one sitting."""
    count = sum(cell.cell_type == "code" for cell in core(nb))
    if count > MOST_CORE_CELLS:
        yield (
            f"the core path has {count} code cells, {MOST_CORE_CELLS} at most are allowed: "
            "move what is looked up rather than read behind the cell tagged 'reference'"
        )
