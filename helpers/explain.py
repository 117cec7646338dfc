"""What a message of torch means and what helps: ``python -m helpers explain``, offline.

The answers stand in ``messages.toml``. A message is found by torch's wording, whatever numbers,
names, paths and shapes are in it; where no wording fits, by the words that it shares with one.
"""

from __future__ import annotations

import math
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIKE_ENOUGH, FEWEST_WORDS = 0.5, 7  # the likeness (of 1) and the shared words that make an answer
ERROR_NAME = re.compile(r"\werror:")  # a wording with it also says what stands above the message
HEAD = re.compile(r"(?<!except )\b(?:\w+\.)*(\w*(?:Error|Warning|Exception))\s*[:：]\s*")


@dataclass(frozen=True, eq=False)
class Entry:
    """A message with its cause and what helps, as ``messages.toml`` describes them."""

    name: str
    type: str
    message: str
    cause: str
    fix: str
    where: Sequence[str]
    also: Sequence[str] = ()
    quoted: bool = False


@cache
def entries() -> tuple[Entry, ...]:
    """All entries, in the order of the file."""
    tables = tomllib.loads(Path(__file__).with_name("messages.toml").read_text("utf-8"))
    return tuple(Entry(name, **table) for name, table in tables.items())


def parsed(text: str) -> tuple[str, str, str]:
    """The type and the message of a text's last error or warning, and it with the lines above it.

    Without one, "" and all of the text. What a worker of a loader raised stands below what the
    loader says of it, so it is the last.
    """
    text = re.sub(r"\x1b\[[\d;]*m", "", text)  # the colours of a notebook
    text = re.sub(r"\\n(?=[A-Z]\w+(?:Error|Warning):)", "\n", text)  # a message within a message
    *above, head = [None, *HEAD.finditer(text)]
    if head is None:
        return "", text, text
    start = above[-1].end() if above[-1] else 0
    return head[1], text[head.end() :], text[start:]


def normalised(text: str) -> str:
    """The text in lower case without quotation marks, and with # for each number."""
    text = re.sub(r"['\"`‘’“”]", "", text.lower())
    return " ".join(re.sub(r"0x[\da-f]+|\d+(?:\.\d+)*", "#", text).split())


def find(text: str) -> Entry | None:
    """The entry that answers a message or a traceback; None if there is none."""
    type_name, message, traceback = parsed(text)
    said, whole = normalised(message), normalised(traceback)
    if fits := [
        (size, e.type == type_name, e)
        for e, pattern, size in _patterns()
        if pattern.search(whole if ERROR_NAME.search(pattern.pattern) else said)
    ]:
        return max(fits, key=lambda fit: fit[:2])[2]
    likeness, shared, entry = ranked(text)[0]
    is_like = likeness >= LIKE_ENOUGH and shared >= FEWEST_WORDS
    return entry if is_like and type_name in ("", entry.type) else None


def ranked(text: str) -> list[tuple[float, int, Entry]]:
    """Each entry's wordings by their likeness to a message; rare words count for more."""
    said = _words(normalised(parsed(text)[1])[:400])
    found = []
    for entry, words in ((it, _words(wording)) for it, wording in _wordings()):
        likeness = _weight(said & words) / (math.sqrt(_weight(said) * _weight(words)) or 1)
        found.append((likeness, len(said & words), entry))
    return sorted(found, key=lambda it: -it[0])


def answer(text: str) -> tuple[bool, str]:
    """Whether something is known of a message, and what to print."""
    if entry := find(text):
        lines = [f"{entry.type}: {entry.message}", f"Why: {entry.cause}", f"Try: {entry.fix}"]
        lines += [f"See: notebooks/{it.replace('#', '.ipynb: ', 1)}" for it in entry.where]
        return True, "\n".join(textwrap.fill(it, 88, subsequent_indent="     ") for it in lines)
    near = dict.fromkeys(it for likeness, _, it in ranked(text) if likeness > 0.2)
    lines = [f"  {it.type}: {it.message}" for it in list(near)[:3]]
    return False, "\n".join(["Not known here." + " The nearest are:" * bool(lines), *lines])


@cache
def _wordings() -> list[tuple[Entry, str]]:
    return [(it, normalised(w).rstrip(" .!:")) for it in entries() for w in (it.message, *it.also)]


@cache
def _patterns() -> list[tuple[Entry, re.Pattern[str], int]]:
    """Each wording as a pattern, with its length."""
    made = [(it, re.escape(re.sub(" *… *", "…", w).lstrip("…"))) for it, w in _wordings()]
    return [(it, re.compile(_gaps(w)), len(w.rstrip("…"))) for it, w in made]


def _gaps(wording: str) -> str:
    """A wording as a regular expression: without a gap at its end, it ends where a word does."""
    end = "" if wording.endswith("…") else r"(?!\w)"
    return wording.rstrip("…").replace("…", ".{0,300}?") + end


def _words(said: str) -> set[str]:
    return set(re.findall(r"[^\W\d]{3,}", said))


@cache
def _uses() -> Counter[str]:
    return Counter(word for _, wording in _wordings() for word in _words(wording))


def _weight(words: set[str]) -> float:
    return sum(math.log(1 + len(_wordings()) / (1 + _uses()[word])) for word in words)
