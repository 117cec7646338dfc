"""What became of the claims, by chapter and section: for a terminal, and as Markdown."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import groupby

from chapters import CHAPTERS
from tools.claims import Claim
from tools.drift.running import Outcome, Visit
from tools.drift.words import in_words

VERDICTS = ("still true", "changed", "not reached", "about another torch")


def text(visit: Visit) -> str:
    """The report on one chapter: each claim a line below its section, and what came instead."""
    lines = [_title(visit.chapter)]
    for section, outcomes in groupby(visit.outcomes, key=lambda one: one.claim.section):
        lines.append(f"  {section}")
        for one in outcomes:
            lines.append(f"    {one.verdict:<20}{words(one.claim)}")
            if one.instead:
                lines.append(f"{'':24}{_place(one.claim)}: {one.instead}")
    lines += [f"  cell {cell!r} stopped: {error}" for cell, error in visit.errors.items()]
    return "\n".join(lines)


def markdown(visits: list[Visit]) -> str:
    """The report on several chapters, for a page: what changed first, the rest folded."""
    parts = [f"## The chapters and {installed()}", count(visits)]
    parts += ["\n".join(_changes(visits)) or "Nothing has changed."]
    for visit in visits:
        rows = "\n".join(_rows(visit))
        parts.append(
            f"<details><summary>{_title(visit.chapter)}: {count([visit])}</summary>\n\n{rows}\n\n"
            "</details>"
        )
    return "\n\n".join(parts) + "\n"


def count(visits: Iterable[Visit]) -> str:
    """How many claims there are, and how many of each verdict."""
    verdicts = Counter(one.verdict for visit in visits for one in visit.outcomes)
    told = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS)
    return f"{verdicts.total()} claims: {told}"


def installed() -> str:
    """The versions that the report is about."""
    packages = [f"{name} {version(name)}" for name in ("torch", "torchvision")]
    return ", ".join([*packages, f"Python {platform.python_version()}"])


def words(claim: Claim) -> str:
    """The claim in a line."""
    if claim.kind == "assertion":
        return in_words(claim.source)
    return f"{claim.kind} {claim.type_name}" + (f": {claim.match}" if claim.match else "")


def _changes(visits: list[Visit]) -> Iterator[str]:
    for visit in visits:
        for one in visit.outcomes:
            if one.verdict == "changed":
                yield _row(one, f"{_title(visit.chapter)} · {one.claim.section}: ")
        for cell, error in visit.errors.items():
            yield f"- {_title(visit.chapter)}: cell {cell!r} stopped: {_code(error)}"


def _rows(visit: Visit) -> Iterator[str]:
    for section, outcomes in groupby(visit.outcomes, key=lambda one: one.claim.section):
        yield f"\n**{section}**\n"
        yield from map(_row, outcomes)


def _row(one: Outcome, where: str = "") -> str:
    instead = f" ({_place(one.claim)}: {_code(one.instead)})" if one.instead else ""
    return f"- {where}**{one.verdict}** {_code(words(one.claim))}{instead}"


def _place(claim: Claim) -> str:
    return f"cell {claim.cell!r}, line {claim.line}"


def _title(stem: str) -> str:
    titles = {chapter.stem: f"{chapter.number} · {chapter.title}" for chapter in CHAPTERS}
    return titles.get(stem, stem)


def _code(text: str) -> str:
    """The text as code, whatever backticks it holds."""
    fence = "`" * (max(map(len, _ticks(text)), default=0) + 1)
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def _ticks(text: str) -> list[str]:
    return ["".join(run) for is_tick, run in groupby(text, key="`".__eq__) if is_tick]
