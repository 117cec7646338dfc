"""The verdict on an answer: not tried, right, or wrong, and then *which* mistake it is.

An ``Exercise`` runs an answer beside a reference solution and beside known mistakes. How a chapter
writes one is told in ``helpers.exercises.notation``.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import textwrap
import tokenize
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import torch

from helpers import runtime
from helpers.exercises import record, unrecognised
from helpers.exercises.compare import Difference, Texts, describe, difference, kind_of, plain
from helpers.exercises.feedback import Card
from helpers.exercises.sandbox import TookTooLong, first_line, run, undisturbed
from helpers.exercises.trial import (
    Case,
    Place,
    Raised,
    Shortfall,
    Trial,
    call,
    differences,
    is_telling,
    same_mistake,
    tried,
)

#: stands for "no answer was handed in"; ``None`` is an answer
_NOTHING = object()


class NotRight(AssertionError):
    """Raised by the check of a wrong answer when ``TUTORIAL_STRICT`` is set."""


class _Busy(Exception):
    """The reference did not end as it does when it has the time that it needs."""


class FaultyExercise(ValueError):
    """An exercise is not written as it has to be; the message says where and what to do."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give, and the sentence that explains it.

    ``make`` gives the answer, and each of ``also`` another spelling of it. For a prediction, that
    is a value; of a dict it may hold a part, and the rest is then right.
    """

    says: str
    make: Callable[[], Any]
    also: tuple[Callable[[], Any], ...] = ()

    @property
    def spellings(self) -> tuple[Callable[[], Any], ...]:
        return (self.make, *self.also)


class Exercise:
    """A question whose answer is a function or a class.

    ``name`` is the chapter's and the answer's, as in "losses.huber". ``cases`` makes the arguments
    anew at each call, from a fixed random seed. By default an answer is called on them, and
    compared are what it returns and how it leaves its arguments. A function given as ``observe``
    takes the place of that call, as ``observe(answer, *case.arguments)``; compared is then what it
    yields or returns (``trial.tried``). ``requires`` says what the prompt demands of each
    observation, by its name, the most important first. Every run of every answer starts from the
    same random seed, and ``seconds`` bounds one run on one case. ``given`` makes the program that
    stands in the reader's cell at first, if that is a program with bugs in it; ``start`` then says
    where to begin.
    """

    def __init__(
        self,
        name: str,
        reference: Callable,
        *,
        title: str,
        stars: int,
        minutes: int,
        takeaway: str,
        hints: Sequence[str],
        cases: Callable[[], Iterable[Case]],
        requires: Mapping[str, str] = {},
        mistakes: Sequence[Mistake] = (),
        observe: Callable | None = None,
        given: Callable[[], Any] | None = None,
        start: str = "",
        seconds: float = 10.0,
    ):
        self.name, self.reference = name, reference
        self.title, self.stars, self.minutes = title, stars, minutes
        self.takeaway, self.hints, self.mistakes = takeaway, tuple(hints), tuple(mistakes)
        self.requires = {**requires}
        self.given, self.start, self.seconds = given, start, seconds
        self.cases, self.observe = cases, observe or call
        self._known: dict[Callable, list[Trial]] = {}
        self._mistaken: dict[Callable, set[Place]] = {}
        self._hints_shown = 0
        self._accepted: Any = _NOTHING

    # Used by the reader

    def check(self, answer: Any = _NOTHING) -> Card:
        """Say whether the answer is right and, where it is not, what went wrong.

        Raises nothing, whatever ``answer`` is and does (an interrupt passes through), unless
        ``TUTORIAL_STRICT`` is set: then ``NotRight`` is raised for a wrong answer.
        """
        try:
            with undisturbed():
                card = self._judge(answer)
        except KeyboardInterrupt:
            raise
        except _Busy:
            card = self._wrong(
                "The check's own solution did not get through here: the machine is busy, or "
                "something is missing. Your answer was not judged. Run the cell again."
            )
        except BaseException as error:
            card = self._wrong(
                f"The check could not make sense of what your answer gives: comparing it raised "
                f"`{type(error).__name__}`. Return plain tensors, numbers and modules."
            )
        if card.state == "right":
            self._accepted = answer
        trouble = "" if card.state == "todo" else record.note(self.name, _NOTED[card.state])
        if trouble:
            card = replace(card, rows=(*card.rows, ("note", trouble)))
        if runtime.strict() and card.state == "wrong":
            raise NotRight(f"{self.name}\n{card}")
        return card

    def hint(self, number: int | None = None) -> Card:
        """The next hint at each call, with those before it; or the first ``number`` of them."""
        self._hints_shown = min(len(self.hints), number or self._hints_shown + 1)
        shown = self.hints[: self._hints_shown]
        left = len(self.hints) - len(shown)
        text = "\n\n".join(f"{place}. {hint}" for place, hint in enumerate(shown, 1))
        more = f"\n\n{left} more: run this cell again." if left else "\n\nThat was the last one."
        return Card("hint", self.title, text + more)

    def solution(self) -> Card:
        """A solution, as it stands in the tests of this course."""
        return Card("solution", self.title, self.takeaway, code=source_of(self.reference))

    def yours(self) -> Any:
        """Your answer if a check in this session called it right, else the course's; says which."""
        if self._accepted is _NOTHING:
            print(f"{self.short_name}: the course's solution, until a check calls yours right.")
            return self.right
        print(f"{self.short_name}: yours.")
        return self._accepted

    def __repr__(self) -> str:
        return f"<exercise {self.name} {'★' * self.stars}: .check(answer), .hint(), .solution()>"

    @property
    def chapter(self) -> str:
        return self.name.partition(".")[0]

    @property
    def short_name(self) -> str:
        return self.name.partition(".")[2]

    @property
    def right(self) -> Any:
        """A right answer: the reference; for a prediction, the value that it gives."""
        return self.reference

    def expected(self) -> list[Trial]:
        """What the reference does on each case."""
        return self._trials_of(self.reference)

    def fresh_cases(self) -> list[Case]:
        """The cases, made anew: an answer may change their arguments."""
        runtime.seed(0)
        return list(self.cases())

    def answer_of(self, make: Callable[[], Any]) -> Any:
        """The whole answer that one spelling of a mistake makes."""
        return make()

    @property
    def _check_line(self) -> str:
        return f"ex.{self.short_name}.check({self.short_name})"

    # The verdict, in the order in which it is reached

    def _judge(self, answer: Any) -> Card:
        if answer is _NOTHING:
            return self._wrong(f"Hand in your answer: `{self._check_line}`.")
        unfinished = self._unfinished(answer)
        if unfinished:
            return Card("todo", self.title, unfinished)
        refusal = self._refusal(answer)
        if refusal:
            return self._wrong(refusal)
        expected = self.expected()
        # On a machine where the reference takes long, an answer may, too.
        seconds = max(self.seconds, 3 * max(trial.took for trial in expected))
        trials = self._trials(answer, seconds, [list(trial.seen) for trial in expected])
        if all(_is_blank(trial, answer) for trial in trials):
            return Card("todo", self.title, self._first_step())
        found = differences(expected, trials)
        if not found:
            return Card("right", self.title, self.takeaway)
        recognised = self._recognised(answer, expected, trials, found)
        if recognised:
            return self._wrong(recognised, [*self._score(answer), *_printed(trials)])
        card = self._first_failure(answer, expected, trials, found)
        unrecognised.keep(self.name, _text_of(answer), card)
        return card

    def _unfinished(self, answer: Any) -> str:
        """Why the answer counts as not tried yet, or ""."""
        if answer is ... or (self.given and _written(answer) == self._given_as_written):
            return self._first_step()
        parts = _functions_of(answer)
        if not isinstance(answer, type):
            return self._first_step() if any(_is_open(part) for _, part in parts) else ""
        asked = dict(_functions_of(self.reference))
        still = [name for name, part in parts if name in asked and _is_open(part)]
        return f"`{still[0]}` still has its `...`." if still else ""

    @functools.cached_property
    def _given_as_written(self) -> dict[str, str]:
        return _written(self.given())

    def _refusal(self, answer: Any) -> str:
        """Why the answer cannot even be tried, or ""."""
        is_made = isinstance(self.reference, type) and isinstance(answer, torch.nn.Module)
        if callable(answer) and not is_made:
            return ""
        thing = "class" if isinstance(self.reference, type) else "function"
        return (
            f"Hand in the {thing} itself, without calling it: `{self._check_line}`. "
            f"You handed in {kind_of(answer)}."
        )

    def _trials_of(self, known: Callable) -> list[Trial]:
        """What the reference or a known mistake does: always the same, so tried out once.

        A mistake is known by the function that makes it.
        """
        if known not in self._known:
            is_reference = known is self.reference
            answer = self.right if is_reference else self.answer_of(known)
            names = [] if is_reference else [list(t.seen) for t in self.expected()]
            with undisturbed():  # the answer before may have left other modes
                trials = self._trials(answer, _PATIENCE, names)
            raised = [trial.raised.error for trial in trials if trial.raised]
            if is_reference and any(isinstance(error, _OF_THE_MACHINE) for error in raised):
                raise _Busy
            if len(raised) == len(trials) and isinstance(raised[0], NameError):
                raise FaultyExercise(f"{self.name}: {raised[0]}: define it in exercises.py")
            self._known[known] = trials
        return self._known[known]

    def _trials(self, answer: Any, seconds: float, names: list[list[str]]) -> list[Trial]:
        trials = []
        for seed, case in enumerate(self.fresh_cases()):
            known = names[seed] if names else ()
            trial = tried(self.observe, answer, case, seed=seed, seconds=seconds, names=known)
            trials.append(trial)
            if trial.stopped:
                break
        return trials

    def _recognised(
        self,
        answer: Any,
        expected: list[Trial],
        trials: list[Trial],
        found: Mapping[Place, Difference],
    ) -> str:
        """What is said of the known mistakes that the answer makes, or "".

        An answer makes a mistake if it does as the mistake does wherever that differs from the
        reference. If it differs elsewhere too, something that the mistake gave must be telling, and
        a second mistake that explains some of it is said as well.
        """
        if self._only_roughly(expected, trials):
            return ""
        made = []
        for mistake in self.mistakes:
            places = self._places_of(mistake, answer, expected, trials)
            telling = any(is_telling(trials[number].seen.get(name)) for number, name in places)
            if places and (telling or places >= set(found)):
                made.append((mistake, places))
        if not made:
            return ""
        made.sort(key=lambda one: -len(one[1]))
        first, explained = made[0]
        left = set(found) - explained
        others = [mistake.says for mistake, places in made[1:] if places & left]
        return "\n\n".join([first.says, *(f"And besides: {text}" for text in others[:1])])

    def _places_of(
        self, mistake: Mistake, answer: Any, expected: list[Trial], trials: list[Trial]
    ) -> set[Place]:
        """Where a mistake differs from the reference, if the answer does there as it does."""
        names = _name_of(self.reference), _name_of(answer)
        most: set[Place] = set()
        for make in mistake.spellings:
            try:
                known = self._trials_of(make)
            except FaultyExercise:  # the tests of the course name it
                continue
            if make not in self._mistaken:
                self._mistaken[make] = set(differences(expected, known))
            places = self._mistaken[make]
            does_the_same = len(known) == len(trials) and all(
                name in trials[number].seen
                and same_mistake(
                    name,
                    expected[number].seen.get(name),
                    known[number].seen.get(name),
                    trials[number].seen[name],
                    names,
                )
                for number, name in places
            )
            if does_the_same and len(places) > len(most):
                most = places
        return most

    def _score(self, answer: Any) -> list[tuple[str, str]]:
        """A row that says how many places of a prediction are right, if some are."""
        return []

    def _only_roughly(self, expected: list[Trial], trials: list[Trial]) -> bool:
        """Whether the answer does what is wanted, in numbers that are not exact enough."""
        return len(expected) == len(trials) and not differences(expected, trials, roughly=True)

    def _first_failure(
        self,
        answer: Any,
        expected: list[Trial],
        trials: list[Trial],
        found: Mapping[Place, Difference],
    ) -> Card:
        names = {name for _, name in found}
        # Arguments and what has no demand come last.
        first = next((name for name in self.requires if name in names), None) or min(names)
        number = min(number for number, name in found if name == first)
        place, trial = found[number, first], trials[number]
        texts = place.told
        wanted, got = expected[number].seen[first], trial.seen.get(first)
        demand = self.requires.get(first, "")
        rows = [("tried on", trial.case.label)]
        if type(got) is Raised and type(wanted) is not Raised:
            text = _and_demand(self._story_of(got.error, answer), demand)
        elif self._only_roughly(expected, trials):
            text = _NEARLY
            rows += [("expected", texts.expected), ("got", texts.got)]
        else:
            text = _sentence(place, demand)
            if demand and place.where and place.kind == "value":
                rows += [("at", place.where)]  # the demand stands where it would be told
            if not type(wanted) is type(got) is bool and place.kind not in _TOLD_WHOLE:
                rows += [("expected", texts.expected), ("got", texts.got)]
            rows += [("details", texts.remark)] if place.kind == "value" and texts.remark else []
        rows += _printed([trial])
        rows += [("it warned", trial.warned[0])] if trial.warned else []
        return self._wrong(text, rows)

    def _story_of(self, error: BaseException, answer: Any) -> str:
        """A learner's exception as a sentence with the line it came from."""
        if isinstance(error, Shortfall):
            return str(error)
        if isinstance(error, TookTooLong):
            return f"It took longer than {error} and was stopped. Is there a loop that never ends?"
        said = f"`{type(error).__name__}: {first_line(error)}`"
        line = _line_in(answer, error)
        if line:
            return f"Your code raised {said} at this line: `{line}`."
        name = _name_of(answer)
        calls = (f"{name}(", f"{name}.__init__(")
        if name and any(one in first_line(error) for one in calls):
            form = f"{self.short_name}{inspect.signature(self.reference)}"
            return f"The check could not call your answer: {said}. Its form is `{form}`."
        return f"Trying your answer raised {said}."

    def _first_step(self) -> str:
        if self.start:
            return self.start
        return (
            f"Replace the `...` above and run the cell again. For a first step: "
            f"`ex.{self.short_name}.hint()`."
        )

    def _wrong(self, text: str, rows: Sequence[tuple[str, str]] = ()) -> Card:
        return Card("wrong", self.title, text, rows=tuple(rows))


class Prediction(Exercise):
    """A question whose answer is a value that the reader commits to before the experiment runs.

    The reference is the experiment: a function that runs and gives that value.
    """

    def __init__(self, name: str, reference: Callable, **facts: Any):
        cases = [Case("your prediction")]
        super().__init__(name, reference, cases=lambda: cases, observe=plain, **facts)

    @functools.cached_property
    def right(self) -> Any:
        return plain(_run(self.reference))

    def answer_of(self, make: Callable[[], Any]) -> Any:
        value = _run(make)
        return {**self.right, **value} if type(value) is dict else value

    @property
    def blank(self) -> str:
        """What the reader's cell holds at first, as it shows the form of the answer."""
        if type(self.right) is not dict:
            return "..."
        return "{" + ", ".join(f"{key!r}: ..." for key in self.right) + "}"

    def _unfinished(self, answer: Any) -> str:
        if answer is ...:
            return self._first_step()
        open_places = [place for place, value in _items_of(answer) if value is ...]
        return f"`{open_places[0]}` is still open." if open_places else ""

    def _refusal(self, answer: Any) -> str:
        return ""

    def _recognised(self, answer, expected, trials, found) -> str:
        said = plain(answer)
        told, explained = [], set()
        for mistake in self.mistakes:
            value = plain(_run(mistake.make))
            about, keys = said, {None}
            if type(value) is dict and type(said) is dict:
                about = {key: said[key] for key in value if key in said}
                keys = set(value)
            if difference(value, about) is None and not keys & explained:
                told.append(mistake.says)
                explained |= keys
        return "\n\n".join(told[:2])

    def _score(self, answer: Any) -> list[tuple[str, str]]:
        places, wanted = dict(_items_of(plain(answer))), dict(_items_of(self.right))
        if set(places) != set(wanted):
            return []
        right = sum(difference(wanted[place], places[place]) is None for place in wanted)
        return [("right", f"{right} of {len(wanted)}")] if 0 < right < len(wanted) else []

    def _first_failure(self, answer, expected, trials, found) -> Card:
        (place,) = found.values()
        if place.kind in ("type", "length", "keys"):
            rows = [("yours", describe(answer))]
            if self.blank != "...":
                rows = [("a prediction looks like", self.blank), *rows]
            lacks = place.kind == "keys" and [key for key in self.right if key not in answer]
            # A value was written, not returned, so the remark on functions does not apply.
            came = kind_of(answer) if place.kind == "type" and not place.where else place.told.got
            texts = Texts(place.told.expected, came)
            told = replace(place, tell=lambda: texts)
            text = f"`{lacks[0]!r}` is missing." if lacks else _sentence(told, "")
            return self._wrong(text, rows)
        where = f" at `{place.where}`" if place.where else ""
        return self._wrong(
            f"That is not what happens{where}: `{place.told.got}` is wrong. Look again, or take a "
            f"hint with `ex.{self.short_name}.hint()`.",
            self._score(answer),
        )


def _run(experiment: Callable[[], Any]) -> Any:
    """What an experiment of a chapter gives; an error in it is the chapter's own and is raised."""
    with undisturbed():
        outcome = run(experiment, seed=0, seconds=_PATIENCE)
    if isinstance(outcome.error, _OF_THE_MACHINE):
        raise _Busy from outcome.error
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


#: what ends a reference through no fault of its own
_OF_THE_MACHINE = (
    Shortfall,
    TookTooLong,
    OSError,
    MemoryError,
    ImportError,
    torch.OutOfMemoryError,
)
_PATIENCE = 60.0  # seconds for what the chapter itself runs; a slow machine must not make it wrong
_NEARLY = (
    "The idea is right, and the numbers are to about four digits. Asked for are six: something on "
    "the way is not exact enough, such as a search that stops early or a number that was rounded."
)
_NOTED = {"wrong": "tried", "right": "right"}
#: differences whose sentence says what was expected and what came
_TOLD_WHOLE = ("error", "type", "shape", "dtype")


def source_of(thing: Callable) -> str:
    """The source of a function or class, without its decorators."""
    thing = inspect.unwrap(thing)
    if isinstance(thing, type):
        return _source_of_class(thing)
    text = _source(thing)
    return _lines_of(ast.parse(text).body[0], text)


def _source(function: Callable) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except tokenize.TokenError as error:
        raise OSError("the file of the function is no Python") from error


def _text_of(answer: Any) -> str:
    try:
        if isinstance(answer, type):  # inspect finds no class of a cell
            return source_of(answer)
        return _source(answer).rstrip()
    except (OSError, TypeError, SyntaxError, IndexError, ValueError):  # nowhere to be read
        return describe(answer)


def _source_of_class(cls: type) -> str:
    # inspect looks in the file of the class's module, where an edited class does not stand.
    code = _functions_of(cls)[0][1].__code__
    text = "".join(linecache.getlines(code.co_filename))
    (node,) = [
        node
        for node in _classes_in(text)
        if node.name == cls.__name__ and node.lineno <= code.co_firstlineno <= node.end_lineno
    ]
    return textwrap.dedent(_lines_of(node, text))


@functools.lru_cache(maxsize=8)  # the mistakes of an exercise are edits of one class
def _classes_in(text: str) -> list[ast.ClassDef]:
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]


def _lines_of(node: ast.stmt, text: str) -> str:
    return "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])


def _sentence(found: Difference, demand: str) -> str:
    """What is wrong. A value that differs breaks the demand; a type or a shape may not."""
    if found.kind in ("value", "argument", "missing", "length", "keys") and demand:
        return f"This is not met: {demand}"
    where = f" at `{found.where}`" if found.where else ""
    expected, got, remark = found.told
    kinds = f"{expected} is expected, {got} came"
    facts = {
        "argument": f"Your code leaves its argument {found.where} in another state than it should "
        "(a change in place is seen by everyone who holds the object).",
        "error": f"It should have ended with {expected}; it ended with {got}.",
        "type": f"The type differs{where}: {kinds}. {remark}".rstrip(),
        "shape": f"The shape differs{where}: {kinds}.",
        "dtype": f"The dtype differs{where}: {kinds}.",
        "keys": f"The keys differ{where}.",
    }
    return _and_demand(facts.get(found.kind, f"The {found.kind} differs{where}."), demand)


def _printed(trials: Iterable[Trial]) -> list[tuple[str, str]]:
    """A row with what an answer printed in the first of some trials in which it did."""
    texts = (trial.printed.rstrip() for trial in trials)
    return [("it printed", text) for text in texts if text][:1]


def _and_demand(said: str, demand: str) -> str:
    """What happened, and what was tried then; that may be met otherwise."""
    return f"{said}\n\nAsked for is: {demand}" if demand else said


def _name_of(answer: Any) -> str:
    name = getattr(answer, "__name__", "")
    return name if type(name) is str else ""


def _functions_of(answer: Any) -> list[tuple[str, FunctionType]]:
    """The functions written in an answer: itself, or the methods of a class."""
    if isinstance(answer, FunctionType):
        return [(answer.__name__, inspect.unwrap(answer))]
    if isinstance(answer, type):
        found = {
            name: inspect.unwrap(part) for name, part in vars(answer).items() if callable(part)
        }
        return [(name, part) for name, part in found.items() if isinstance(part, FunctionType)]
    return []


def _items_of(answer: Any) -> list[tuple[str, Any]]:
    if type(answer) is dict:
        return [(repr(key), value) for key, value in answer.items()]
    if type(answer) in (list, tuple):
        return [(f"[{index}]", value) for index, value in enumerate(answer)]
    return []


def _written(answer: Any) -> dict[str, str]:
    """What stands in each function of an answer, without its layout and its comments."""
    written = {}
    for name, function in _functions_of(answer):
        try:
            written[name] = ast.dump(ast.parse(source_of(function)))
        except (OSError, SyntaxError):  # nowhere to be read, or a lambda in the midst of a line
            written[name] = ""
    return written


def _is_open(function: FunctionType) -> bool:
    """Whether a function holds nothing yet but its ``...`` (or ``pass``) and the call of super."""
    try:
        body = ast.parse(source_of(function)).body[0].body
    except (OSError, SyntaxError, AttributeError):  # nowhere to be read, or a lambda
        return False
    texts = [ast.unparse(statement) for statement in body if not _is_docstring(statement)]
    own = [text for text in texts if not text.startswith("super().__init__(")]
    return set(own) <= {"...", "pass"} and (bool(own) or not texts)


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and type(getattr(statement.value, "value", 0)) is str


def _is_blank(trial: Trial, answer: Any) -> bool:
    if trial.raised and isinstance(trial.raised.error, NotImplementedError):
        # torch raises it, too
        return _line_in(answer, trial.raised.error).startswith("raise")
    return any(value is ... for value in trial.seen.values())


def _line_in(answer: Any, error: BaseException) -> str:
    """The last line of the answer's own file that the error passed through."""
    files = {part.__code__.co_filename for _, part in _functions_of(answer)}
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if frame.filename in files]
    return linecache.getline(lines[-1].filename, lines[-1].lineno).strip() if lines else ""
