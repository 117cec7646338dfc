"""How a chapter writes its exercises: code in ``exercises.py``, what is said in ``exercises.toml``.

    chapter = Exercises(__file__)

    @chapter.exercise(cases=lambda: [Case("a vector", torch.ones(3))])
    def double(x):
        return 2 * x

The decorated function (or class) is the reference solution, and its name means the exercise from
then on. ``@chapter.prediction`` takes the experiment that gives the right value. The table of the
same name in the TOML file says the rest:

    [double]
    title = "★ Twice · 2 min"             # the heading of the prompt, word for word
    takeaway = "Twice is twice."
    hints = ["Think.", "Write `x + x`."]

    [double.requires]
    result = "Every number comes back twice as large."

    [[double.mistake]]
    says = "You square `x`. Twice `x` is `x + x`."
    edit = ["2 * x", "x ** 2"]

``requires`` holds a sentence for each observation, the most important first: what the prompt
demands there. A mistake is an edit of the reference: pairs of a piece that its source holds exactly
once and what takes its place; ``also`` lists edits for other spellings of the same mistake. What an
edit can't express is a function of ``exercises.py`` (``code = "name"``).
A wrong prediction is a value, or the part of a dict that is wrong (``gives = …``), or the function
that gives it. Where the reader's cell holds a program with bugs at first, ``given`` makes them by
edits of the reference, and ``start`` says where to begin looking. The prompt and the cell stand in
the notebook alone.
"""

from __future__ import annotations

import functools
import linecache
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from helpers.exercises import unrecognised
from helpers.exercises.engine import Exercise, FaultyExercise, Mistake, Prediction, source_of
from helpers.exercises.feedback import Card
from helpers.exercises.trial import Case

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Exercises:
    """The exercises of one chapter; ``file`` is its ``exercises.py``.

    Raises ``FaultyExercise`` for a TOML file that can't be read or that holds something unknown.
    Edits are tried when they are first needed, and then raise it too. Each message names the file,
    the exercise and what to do.
    """

    def __init__(self, file: str):
        self.file = Path(file).with_suffix(".toml")
        self.chapter = Path(file).parent.name
        try:
            self._said = tomllib.loads(self.file.read_text("utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise FaultyExercise(f"{self._place}: {error}") from None
        #: tables of the TOML file that belong to no exercise yet
        self.unused = set(self._said)

    def exercise(
        self,
        *,
        cases: Callable[[], Iterable[Case]],
        observe: Callable | None = None,
        seconds: float = 10.0,
    ) -> Callable[[Callable], Exercise]:
        """The decorated function or class is the reference; arguments as for ``Exercise``."""

        def make(reference: Callable) -> Exercise:
            facts = self._facts(reference, _FUNCTION)
            more = {"cases": cases, "observe": observe, "seconds": seconds}
            return Exercise(f"{self.chapter}.{reference.__name__}", reference, **facts, **more)

        return make

    def prediction(self, experiment: Callable[[], Any]) -> Prediction:
        """The decorated function runs the experiment and gives the right value."""
        facts = self._facts(experiment, _PREDICTION)
        return Prediction(f"{self.chapter}.{experiment.__name__}", experiment, **facts)

    def report(self) -> Card:
        """Write the answers of this session that no known mistake explains to a text file.

        It stays on this machine. Whoever wants to can send it to the authors of the course.
        """
        return unrecognised.report(self.chapter)

    def _facts(self, reference: Callable, ways: set[str]) -> dict[str, Any]:
        """What the TOML file says about an exercise, for ``Exercise``."""
        name = reference.__name__
        said = self._said.get(name)
        if said is None:
            raise FaultyExercise(
                f"{self._place} has no table [{name}]: {name} is an exercise; add it"
            )
        self.unused.discard(name)
        self._refuse_unknown(name, said, _TABLE)
        for key in _TABLE - _OPTIONAL - set(said):
            raise FaultyExercise(f"{self._place} [{name}] lacks {key!r}: add it")
        title = _TITLE.fullmatch(said["title"])
        if title is None:
            raise FaultyExercise(
                f"{self._place} [{name}] has the title {said['title']!r}: write it as the heading "
                'of the prompt, as in "★★ Twice · 5 min"'
            )
        given = said.get("given")
        return {
            "title": title["title"],
            "stars": len(title["stars"]),
            "minutes": int(title["minutes"]),
            "takeaway": said["takeaway"],
            "hints": said["hints"],
            "requires": said.get("requires", {}),
            "start": said.get("start", ""),
            "mistakes": [
                self._mistake(reference, number, mistake, ways)
                for number, mistake in enumerate(said.get("mistake", []), 1)
            ],
            "given": given and self._edited(reference, given, f"{name}.given"),
        }

    def _mistake(
        self, reference: Callable, number: int, said: dict[str, Any], ways: set[str]
    ) -> Mistake:
        place = f"{reference.__name__}.mistake {number}"
        self._refuse_unknown(place, said, {"says", *ways, *(["also"] if ways is _FUNCTION else [])})
        given = ways & set(said)
        if not said.get("says") or len(given) != 1:
            raise FaultyExercise(
                f"{self._place} [{place}] holds {', '.join(said)}: it needs `says`, which is the "
                f"sentence for it, and exactly one of {', '.join(sorted(ways))}"
            )
        if "gives" in said:
            return Mistake(said["says"], lambda: said["gives"])
        if "code" in said:
            make = self._named(reference, said["code"], place, ways)
        else:
            make = self._edited(reference, said["edit"], place)
        also = enumerate(said.get("also", []), 1)
        more = [self._edited(reference, edit, f"{place}, also {n}") for n, edit in also]
        return Mistake(said["says"], make, tuple(more))

    def _named(
        self, reference: Callable, name: str, place: str, ways: set[str]
    ) -> Callable[[], Any]:
        """Makes the answer that a function of the chapter's module is, or that it gives."""

        def make() -> Any:
            # The name may be defined below the exercise.
            if name not in _names_of(reference):
                raise FaultyExercise(
                    f"{self._place} [{place}] names the code {name!r}, which exercises.py beside "
                    "it does not define: write that function"
                )
            answer = _names_of(reference)[name]
            return answer() if ways is _PREDICTION else answer

        return make

    def _edited(self, reference: Callable, edits: list[str], place: str) -> Callable[[], Any]:
        """Makes the reference with pieces of its source replaced."""

        def make() -> Any:
            source = _source_of_reference(reference)
            if not edits or len(edits) % 2:
                raise FaultyExercise(
                    f"{self._place} [{place}] has an edit of {len(edits)} texts: write pairs of a "
                    "piece of the reference and what takes its place"
                )
            for old, new in zip(edits[::2], edits[1::2], strict=True):
                if source.count(old) != 1:
                    raise FaultyExercise(
                        f"{self._place} [{place}] replaces {old!r}, which the source of "
                        f"{reference.__name__} holds {source.count(old)} times: choose a piece "
                        "that it holds once"
                    )
                source = source.replace(old, new)
            return compiled(source, reference, place)

        return make

    def _refuse_unknown(self, place: str, said: dict[str, Any], known: set[str]) -> None:
        for key in set(said) - known:
            raise FaultyExercise(
                f"{self._place} [{place}] has the unknown key {key!r}: known are "
                f"{', '.join(sorted(known))}"
            )

    @property
    def _place(self) -> str:
        return f"chapters/{self.chapter}/{self.file.name}"


_TABLE = {"title", "takeaway", "hints", "start", "given", "mistake", "requires"}
_OPTIONAL = {"start", "given", "mistake", "requires"}
_FUNCTION = {"edit", "code"}
_PREDICTION = {"gives", "code"}
_TITLE = re.compile(r"(?P<stars>★+) (?P<title>.+) · (?P<minutes>\d+) min")


#: an exercise's mistakes are edits of one source, and it takes long to find it
_source_of_reference = functools.lru_cache(maxsize=8)(source_of)


def _names_of(reference: Callable) -> dict[str, Any]:
    return vars(sys.modules[reference.__module__])


def compiled(source: str, reference: Callable, place: str) -> Any:
    """The function or class that a source defines, with the names of the reference's module."""
    file = f"<{reference.__module__}, {place}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    names = dict(_names_of(reference))
    exec(compile(source, file, "exec"), names)
    return names[reference.__name__]
