"""The index of messages: every error and warning that a chapter shows, why it comes and what helps.

The messages are those that the chapters' own expectations met when the notebooks were executed.
Causes and fixes are those of ``helpers/messages.toml``, whose other entries follow at the end.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from nbformat import NotebookNode

from chapters import Chapter
from helpers import explain
from helpers.explain import Entry
from tools.claims import Claim, claims_of
from tools.site.markdown import escaped, link_to, literal, sections


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

What torch says, why, and what helps: every error and every warning that a chapter provokes on
purpose, as torch words it here, with the section that explains it, and what else a learner meets
with torch 2, torchvision, TensorBoard, a notebook and the plain Python around them. What other
libraries say is left to them. `python -m helpers explain` answers the same in a terminal.

<p class="on-screen"><label for="message-filter">Paste a message or a whole traceback, or type words
of it</label>
<textarea id="message-filter" rows="3" autocomplete="off" spellcheck="false"></textarea>
<span id="message-count" role="status"></span></p>
<script src="_static/messages.js" defer></script>"""
ELSEWHERE = "Not provoked in a chapter"
QUOTED = "Only on a GPU or a full machine, as quoted"
GENERAL = "Where no message fits: what such errors have in common"


def page(notebooks: Mapping[Chapter, NotebookNode]) -> str:
    """The page's markdown, from executed notebooks."""
    parts = [_BEGINNING, _wordings()]
    found = sorted(index(notebooks).items(), key=lambda entry: _order(entry[0]))
    answers = {message: _answer(message, places) for message, places in found}
    for type_name, messages in groupby(found, key=lambda entry: entry[0].type_name):
        parts.append(f"## {type_name}")
        parts += [_entry(message, answers[message], places) for message, places in messages]
    others = [entry for entry in explain.entries() if entry not in answers.values()]
    for heading in (ELSEWHERE, QUOTED, GENERAL):
        parts.append(f"## {heading}")
        parts += [_other(entry, notebooks) for entry in others if _heading(entry) == heading]
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


def _answer(message: Message, places: Sequence[Place]) -> Entry | None:
    """The entry for a message; where a claim's own words stand for it, by its sections too."""
    found = explain.find(f"{message.type_name}: {message.text}")
    words = explain.normalised(message.text.strip("…"))
    shown_in = {f"{place.chapter.stem}#{place.section}" for place in places}
    near = (it for it in explain.entries() if shown_in & set(it.where))
    return found or next((it for it in near if words in explain.normalised(it.message)), None)


def _entry(message: Message, answer: Entry | None, places: Sequence[Place]) -> str:
    said = literal(f"{message.type_name}: {message.text}")
    links = " · ".join(link_to(*place) for place in places)
    if answer is None:
        return f"- {said}\\\n  {links}"
    mark = f'<span data-entry="{answer.name}"></span>'
    return f"- {mark}{said}\\\n  {escaped(f'{answer.cause} {answer.fix}')}\\\n  {links}"


def _heading(entry: Entry) -> str:
    return GENERAL if entry.general else QUOTED if entry.quoted else ELSEWHERE


def _other(entry: Entry, notebooks: Mapping[Chapter, NotebookNode]) -> str:
    places = [
        Place(chapter, heading)
        for chapter, nb in notebooks.items()
        for cell in nb.cells
        if cell.cell_type == "markdown"
        for heading, _ in sections(cell.source)
        if f"{chapter.stem}#{heading}" in entry.where
    ]
    return _entry(Message(entry.type, entry.message), entry, places).removesuffix("\\\n  ")


def _wordings() -> str:
    """What the page's search looks for in a pasted text: names, types and wordings of entries.

    The last of each is whether the entry is a general one.
    """
    wordings = [
        (entry.name, entry.type, explain.normalised(wording).rstrip(" .!:"), entry.general)
        for entry in explain.entries()
        for wording in (entry.message, *entry.also)
    ]
    data = json.dumps(wordings, ensure_ascii=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="message-wordings">{data}</script>'
