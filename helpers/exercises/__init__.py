"""The exercises of all chapters: find one, see your progress, start again."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from helpers.chapters import CHAPTERS

if TYPE_CHECKING:
    from helpers.exercises.engine import Exercise
    from helpers.exercises.overview import Overview


def catalogue() -> dict[str, Exercise]:
    """Every exercise of the course by its name ("module.linear"), in reading order."""
    from helpers.exercises.engine import Exercise

    rooms = [importlib.import_module(f"{__name__}.{chapter.room}") for chapter in CHAPTERS]
    return {
        part.name: part
        for room in rooms
        for part in vars(room).values()
        if isinstance(part, Exercise)
    }


def find(name: str) -> Exercise:
    """The exercise with this name; a ``KeyError`` that lists the known ones if there is none."""
    known = catalogue()
    if name not in known:
        raise KeyError(f"unknown exercise {name!r}: known are {', '.join(known)}")
    return known[name]


def progress() -> Overview:
    """What you have tried and got right so far, chapter by chapter."""
    from helpers.exercises.overview import overview

    return overview(catalogue())


def reset(name: str = "") -> Overview:
    """Forget your progress in one exercise ("module.linear"), one chapter ("module"), or in all.

    Raises ``KeyError`` with the known names for any other ``name``. Your notebooks stay as they
    are.
    """
    from helpers.exercises import record

    known = catalogue()
    rooms = [chapter.room for chapter in CHAPTERS]
    if name not in ("", *known, *rooms):
        raise KeyError(
            f"cannot reset {name!r}: known chapters are {', '.join(rooms)}; "
            f"known exercises are {', '.join(known)}"
        )
    record.forget(name)
    return progress()
