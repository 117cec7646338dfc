"""The index of messages: every error and warning that a chapter shows, and where it is explained.

The messages are those that the chapters' own expectations met when the notebooks were executed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

from nbformat import NotebookNode

from chapters import Chapter
from tools.claims import Claim, claims_of
from tools.site.markdown import link_to, literal


class Message(NamedTuple):
    """An error or a warning as a chapter shows it, under the name of its type."""

    type_name: str
    text: str


class Place(NamedTuple):
    """A section of a chapter, by its heading."""

    chapter: Chapter
    section: str


_BEGINNING = """\
# Messages

Every error and every warning that a chapter provokes on purpose, as torch words it here, and the
section that explains it.

<p class="on-screen"><label for="message-filter">Paste or type a message; numbers do not
count</label>
<input id="message-filter" type="search" autocomplete="off" spellcheck="false">
<span id="message-count" role="status"></span></p>
<script src="_static/messages.js" defer></script>"""


def page(notebooks: Mapping[Chapter, NotebookNode]) -> str:
    """The page's markdown, from executed notebooks."""
    parts = [_BEGINNING]
    found = sorted(index(notebooks).items(), key=lambda entry: _order(entry[0]))
    for type_name, entries in groupby(found, key=lambda entry: entry[0].type_name):
        parts.append(f"## {type_name}")
        parts += [_entry(message, places) for message, places in entries]
    return "\n\n".join(parts) + "\n"


def index(notebooks: Mapping[Chapter, NotebookNode]) -> dict[Message, list[Place]]:
    """Each message with the places that show it, in the order in which they are read."""
    places: dict[Message, list[Place]] = defaultdict(list)
    for chapter, nb in notebooks.items():
        cells = {cell.id: cell for cell in nb.cells}
        for claim in claims_of(nb, chapter.stem):
            for message in _met(claim, cells[claim.cell]):
                place = Place(chapter, claim.section)
                if place not in places[message]:
                    places[message].append(place)
    return dict(places)


def shown(cell: NotebookNode) -> Iterator[Message]:
    """What a cell printed in the form of an error's or a warning's last line, unwrapped."""
    for output in cell.get("outputs", []):
        lines = re.findall(r"^([\w.]+): (.*(?:\n    \S.*)*)", output.get("text", ""), re.MULTILINE)
        for type_name, wrapped in lines:
            # The lines were broken at spaces, and at hyphens within words.
            text = re.sub(r"(?<=\w-)\n    |\n   (?= )", "", wrapped)
            yield Message(type_name, " ".join(text.split()))


def _met(claim: Claim, cell: NotebookNode) -> list[Message]:
    """The messages of a cell that one of its claims expected.

    Where a claim did not apply to what executed the notebook, its own words stand for the message.
    """
    if claim.match is None:
        return [message for message in shown(cell) if message.type_name == claim.type_name]
    words = " ".join(claim.match.split())
    met = [message for message in shown(cell) if words in message.text]
    return met or [Message(claim.type_name, f"…{words}…")]


def _order(message: Message) -> tuple[str, str]:
    return message.type_name, message.text.lower()


def _entry(message: Message, places: list[Place]) -> str:
    links = " · ".join(link_to(*place) for place in places)
    return f"- {literal(f'{message.type_name}: {message.text}')}\\\n  {links}"
