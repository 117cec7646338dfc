"""The answers of this session that no known mistake explains, for a reader who wants to send them.

They are kept in memory, and written to a file when the reader asks for it.
"""

from __future__ import annotations

import platform
from typing import NamedTuple

import torch

from helpers import runtime
from helpers.exercises.feedback import Card


class _Kept(NamedTuple):
    exercise: str
    answer: str
    card: str


#: the last ones only
_MOST = 200
_kept: list[_Kept] = []


def keep(exercise: str, answer: str, card: Card) -> None:
    entry = _Kept(exercise, answer, str(card))
    if entry not in _kept:
        _kept.append(entry)
        del _kept[:-_MOST]


def report(chapter: str) -> Card:
    """Write the answers to a chapter's exercises to one text file, and say where it is."""
    own = [entry for entry in _kept if entry.exercise.partition(".")[0] == chapter]
    title = "Answers that were not recognised"
    if not own:
        return Card("report", title, "There are none since this notebook was started.")
    file = runtime.scratch("reports") / f"{chapter}.txt"
    parts = [f"Python {platform.python_version()}, torch {torch.__version__}\n"]
    parts += [f"{entry.exercise}\n\n{entry.answer}\n\n{entry.card}\n" for entry in own]
    try:
        file.write_text(f"\n{'-' * 72}\n".join(parts), encoding="utf-8")
    except OSError as error:
        why = f"{error.strerror} ({file})"
        text = f"The file could not be written: {why}. Free or choose a place."
        return Card("report", title, text)
    return Card(
        "report",
        title,
        f"{len(own)} of them, with what was said to each, are in this file. Read it. If you think "
        "that a verdict is wrong or says too little, send it to us; nothing is sent by itself.",
        rows=(("file", str(file)),),
    )
