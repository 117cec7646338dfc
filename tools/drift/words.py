"""Values, errors and differences, each told in a line."""

from __future__ import annotations

import textwrap
from typing import Any

LONGEST = 160  # characters of one value or message


def headline(error: BaseException) -> str:
    """The type of an error and the beginning of its message."""
    return in_words(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def in_words(text: str) -> str:
    """A text in one line, shortened at its end."""
    return textwrap.shorten(text, LONGEST, placeholder=" …")


def difference(seen: list[tuple[str, Any]]) -> str:
    """What the sides of a comparison that failed were: pairs of an expression and its value.

    Of two dicts, only the items that differ.
    """
    if len(seen) == 2 and all(isinstance(value, dict) for _, value in seen):
        (left, ours), (right, theirs) = seen
        seen = [(left, _other_than(theirs, ours)), (right, _other_than(ours, theirs))]
    shown = [(in_words(text), _shown(value)) for text, value in seen]
    told = [f"{text} is {value}" for text, value in shown if text != value]
    return "; ".join(told) or "it is false"


def _other_than(these: dict, those: dict) -> dict:
    """The items of ``those`` that ``these`` has not, by what they show as."""
    return {
        key: value
        for key, value in those.items()
        if key not in these or _shown(these[key]) != _shown(value)
    }


def _shown(value: Any) -> str:
    try:
        return in_words(repr(value))
    except Exception as error:  # a class of the chapter may show itself badly
        return f"a {type(value).__name__} without repr ({type(error).__name__})"
