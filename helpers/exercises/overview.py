"""A reader's progress as a small table."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from helpers.exercises import record
from helpers.exercises.engine import Exercise
from helpers.exercises.feedback import inline

_SYMBOLS = {"untried": "○", "tried": "◐", "right": "●"}
_LEGEND = "● right · ◐ tried · ○ not tried yet"


@dataclass(frozen=True)
class Overview:
    """``rows``: chapter title -> list of (exercise title, stars, "untried" | "tried" | "right")."""

    rows: Mapping[str, list[tuple[str, int, str]]]

    @classmethod
    def of(cls, chapters: Mapping[str, Sequence[Exercise]]) -> Overview:
        """The state of each chapter's exercises, from the progress file."""
        known = record.states()
        return cls(
            {
                title: [
                    (part.title, part.stars, known.get(part.name, "untried")) for part in exercises
                ]
                for title, exercises in chapters.items()
            }
        )

    def __str__(self) -> str:
        lines = []
        for chapter, exercises in self.rows.items():
            lines.append(f"{chapter}: {_count(exercises)}")
            lines += [
                f"  {_SYMBOLS[state]} {title} {'★' * stars}" for title, stars, state in exercises
            ]
        return "\n".join([*lines, _LEGEND])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = []
        for chapter, exercises in self.rows.items():
            items = "".join(
                f"<div>{_SYMBOLS[state]} {inline(title)} "
                f'<span style="opacity:.7">{"★" * stars}</span></div>'
                for title, stars, state in exercises
            )
            parts.append(
                f'<div style="margin:.4em 0"><b>{html.escape(chapter)}</b> · {_count(exercises)}'
                f'<div style="margin-left:1em">{items}</div></div>'
            )
        return "".join(parts) + f'<div style="opacity:.7">{_LEGEND}</div>'


def _count(exercises: list[tuple[str, int, str]]) -> str:
    right = sum(state == "right" for _, _, state in exercises)
    return f"{right} of {len(exercises)}"
