"""What a message of torch means and what helps: ``python -m helpers explain``, offline.

In scope is what a learner of the chapters' subjects gets from torch 2 or later, torchvision,
TensorBoard, a notebook, or plain Python around them: shapes, dtypes, devices and CUDA, autograd,
modules, losses, optimizers, loaders and workers, files and state dicts, half precision, compiling,
several processes, and installing. What other libraries say is left to them.

The answers stand in ``messages.toml``. A message is found by torch's wording, whatever numbers,
names, paths and shapes are in it. Where no wording fits, the message may be the beginning of one,
such as a title that is cut off, or share most of its words with one. At last a general entry says
what errors of this type and place have in common.
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
LONG_ENOUGH = 30  # the characters that a message shares with the wording that it begins
ERROR_NAME = re.compile(
    r"(?:^|[\w?])(?:error|warning):"
)  # a wording with it also says what stands above the message
ANY_TYPE = "Error"  # of a general entry
HEAD = re.compile(
    r"(?<!except )\b(?:\w+\.)*((?:[A-Z]\w*)?(?:Error|Warning|Exception))\s*[:：](?!:)\s*"
)
LAUNCHERS = {"ChildFailedError", "CalledProcessError", "ProcessExitedException", "SignalException"}
LOG_OF_LAUNCHER = re.compile(
    r"^.*(?:torch[./]distributed[./]elastic\b.*\bfailed \(exitcode).*$", re.M
)
BARE = re.compile(r"^((?:\w+\.)*\w+(?:Error|Exception))[ \t]*$", re.MULTILINE)  # without a message


@dataclass(frozen=True, eq=False)
class Entry:
    """A message with its cause and what helps, as ``messages.toml`` describes them."""

    name: str
    type: str
    message: str
    cause: str
    fix: str
    where: Sequence[str] = ()
    also: Sequence[str] = ()
    quoted: bool = False
    general: bool = False


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
    text = re.sub(r"^\[(?:rank)?\d+\]:? ?", "", text, flags=re.MULTILINE)  # in several processes
    text = re.sub(r"\\n(?=[A-Z]\w+(?:Error|Warning):)", "\n", text)  # a message within a message
    text = BARE.sub(r"\1: ", text)
    heads = [None, *HEAD.finditer(text)]
    end = len(text)
    while len(heads) > 2 and _is_of_others(heads[-1], heads[1:-1], text):
        end = heads.pop().start()
    *above, head = heads
    if head is None:
        return "", text, text
    start = head.start()  # of the names before the message: "InductorError: FileNotFoundError: …"
    while above[-1] and above[-1].end() == start:
        start = above.pop().start()
    log = LOG_OF_LAUNCHER.search(text, head.end(), end)
    end = log.start() if log else end
    return head[1], text[head.end() : end], text[above[-1].end() if above[-1] else 0 : end]


def _is_of_others(last: re.Match[str], above: Sequence[re.Match[str]], text: str) -> bool:
    """Whether the last of several errors is a launcher's, or a warning at the end of a program."""
    between = text[above[-1].end() : last.start()]
    if last[1] in LAUNCHERS:
        return between != "" and any(it[1] not in LAUNCHERS for it in above)
    is_last = "\n" in between and last[1].endswith("Warning")
    return is_last and any(not it[1].endswith("Warning") for it in above)


def normalised(text: str) -> str:
    """The text in lower case without quotation marks, with / for \\ and # for each number."""
    text = re.sub(r"\\+", "/", re.sub(r"\\?['\"`‘’“”]", "", text.lower()))
    return " ".join(re.sub(r"0x[\da-f]+|\d+(?:\.\d+)*", "#", text).split())


def find(text: str) -> Entry | None:
    """The entry that answers a message or a traceback; None if there is none."""
    return _found(text)[0]


def ranked(text: str) -> list[tuple[float, int, Entry]]:
    """Each entry's wordings by their likeness to a message; rare words count for more."""
    said = _words(normalised(parsed(text)[1])[:400])
    found = []
    whole = _weight(said)
    for entry, words, weight in _worded():
        likeness = _weight(said & words) / (math.sqrt(whole * weight) or 1)
        found.append((likeness, len(said & words), entry))
    return sorted(found, key=lambda it: -it[0])


def answer(text: str) -> tuple[bool, str]:
    """Whether something is known of a message, and what to print."""
    entry, wording = _found(text)
    if entry:
        head = "Not known word for word. In general:" if entry.general else wording
        lines = [head, f"Why: {entry.cause}", f"Try: {entry.fix}"]
        lines += [f"See: notebooks/{it.replace('#', '.ipynb: ', 1)}" for it in entry.where]
        return True, "\n".join(textwrap.fill(it, 88, subsequent_indent="     ") for it in lines)
    near = dict.fromkeys(it for likeness, _, it in ranked(text) if likeness > 0.2)
    lines = [f"  {it.type}: {it.message}" for it in list(near)[:3]]
    return False, "\n".join(["Not known here." + " The nearest are:" * bool(lines), *lines])


def _found(text: str) -> tuple[Entry | None, str]:
    """The entry that answers a text, and the wording of it that was met."""
    type_name, message, traceback = parsed(text)
    said, whole = normalised(message), normalised(traceback)
    fits = [
        (size, e.type == type_name, e, wording)
        for e, wording, part, patterns, size in _patterns()
        # the part first, which is a hundred times faster
        if part in whole and _stand(patterns, whole if _names_an_error(patterns) else said)
    ]
    if known := [fit for fit in fits if not fit[2].general]:
        return max(known, key=lambda fit: fit[:2])[2:]
    begun = [(it, wording) for it, wording, plain in _wordings() if _is_cut_off(said, plain)]
    if len({it for it, _ in begun}) == 1:
        return begun[0]
    likeness, shared, entry = ranked(text)[0]
    is_like = likeness >= LIKE_ENOUGH and shared >= FEWEST_WORDS
    if is_like and type_name in ("", entry.type):
        return entry, entry.message
    general = (fit[2:] for fit in fits if fit[2].type in (type_name, ANY_TYPE))
    return next(general, (None, ""))


@cache
def _wordings() -> list[tuple[Entry, str, str]]:
    """Each wording of each entry, as it is and normalised."""
    said = ((it, w) for it in entries() for w in (it.message, *it.also))
    return [(it, w, normalised(w).rstrip(" .!:")) for it, w in said]


def _stand(patterns: Sequence[re.Pattern[str]], text: str) -> bool:
    """Whether the text holds one after the other."""
    at = 0
    for pattern in patterns:
        found = pattern.search(text, at)
        if found is None:
            return False
        at = found.end()
    return True


def _names_an_error(patterns: Sequence[re.Pattern[str]]) -> bool:
    return any(ERROR_NAME.search(pattern.pattern) for pattern in patterns)


@cache
def _patterns() -> list[tuple[Entry, str, str, Sequence[re.Pattern[str]], int]]:
    """Each wording with its longest part without a gap, its patterns, and its length.

    The gaps of a general wording have any length, so each of its parts is a pattern.
    """
    made = []
    for it, wording, plain in _wordings():
        part = max(re.split(" *… *", plain), key=len)
        literal = re.escape(re.sub(" *… *", "…", plain).lstrip("…"))
        end = "" if plain.endswith("…") else r"(?!\w)"  # without a gap there, a word ends
        literal = literal.rstrip("…")
        if it.general:
            parts = literal.split("…")
        else:
            start = r"(?<![a-z_])" if plain[0].isalnum() else ""  # nor does it begin within one
            parts = [start + literal.replace("…", ".{0,300}?")]
        parts[-1] += end
        made.append((it, wording, part, [*map(re.compile, parts)], len(literal)))
    return made


def _is_cut_off(said: str, wording: str) -> bool:
    """Whether a message ends within a wording, of which it has enough."""
    size, rest = 0, said.rstrip(" .…")
    for part in wording.split("…"):
        if not rest:
            return size >= LONG_ENOUGH
        at = rest.find(part)
        if at < 0:
            if size >= LONG_ENOUGH and " " not in rest:  # it ends with what stands in a gap
                return True
            fewest = max(LONG_ENOUGH - size, 5 if size else len(rest))
            return any(rest.endswith(part[:end]) for end in range(fewest, len(part)))
        if at > 0 and not size:
            return False
        size, rest = size + len(part), rest[at + len(part) :]
    return False


def _words(said: str) -> set[str]:
    return set(re.findall(r"[^\W\d]{3,}", said))


@cache
def _worded() -> list[tuple[Entry, set[str], float]]:
    """The words of each wording that is not general, and their weight."""
    said = ((it, _words(plain)) for it, _, plain in _wordings() if not it.general)
    return [(it, words, _weight(words)) for it, words in said]


@cache
def _uses() -> Counter[str]:
    return Counter(word for *_, plain in _wordings() for word in _words(plain))


@cache
def _rarity(word: str) -> float:
    return math.log(1 + len(_wordings()) / (1 + _uses()[word]))


def _weight(words: set[str]) -> float:
    return sum(map(_rarity, words))
