"""Tries an answer on one case, and keeps what was observed under the names of the requirements."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from helpers.exercises.compare import Difference, Texts, difference, kind_of, remark_on
from helpers.exercises.sandbox import TookTooLong, error_text, first_line, run

#: the name of an observation that a case does not name
RESULT = "result"
#: the name under which a called answer's arguments are compared, as it left them
ARGUMENTS = "arguments"


class Case:
    """One set of arguments on which an answer is tried, with a name a reader understands.

    ``about`` names the requirement that the case tries, if the observation names none. ``observe``
    takes the place of the exercise's own.
    """

    def __init__(
        self, label: str, *arguments: Any, about: str = RESULT, observe: Callable | None = None
    ):
        self.label, self.arguments = label, arguments
        self.about, self.observe = about, observe


class Shortfall(Exception):
    """Raised by an observation that can't go on; its sentence tells the reader why."""


def require(value: Any, kind: type | tuple[type, ...], name: str = "") -> Any:
    """``value``, if it is of a type; else a ``Shortfall`` that names what came in its place."""
    if issubclass(type(value), kind):
        return value
    kinds = kind if isinstance(kind, tuple) else (kind,)
    named = {torch.nn.Module: "a module", int: "an int"}
    wanted = " or ".join(named.get(one, f"a {one.__name__}") for one in kinds)
    place = f" for {name}" if name else ""
    said = f"{wanted} is expected{place}, {kind_of(value)} came. {remark_on(None, value)}"
    raise Shortfall(said[0].upper() + said[1:].rstrip())


@dataclass(frozen=True)
class Raised:
    """The observation of an answer that raised an error."""

    error: BaseException


@dataclass(frozen=True)
class Trial:
    """What one answer did on one case: observations in their order, then what it said besides."""

    case: Case
    seen: dict[str, Any]
    printed: str = ""
    warned: tuple[str, ...] = ()
    took: float = 0.0  # seconds

    @property
    def raised(self) -> Raised | None:
        last = list(self.seen.values())[-1:]
        return last[0] if last and type(last[0]) is Raised else None

    @property
    def stopped(self) -> bool:
        return self.raised is not None and isinstance(self.raised.error, TookTooLong)


def call(answer: Callable, *arguments: Any) -> Any:
    """The observation of an exercise that has none of its own."""
    return answer(*arguments)


def tried(
    observe: Callable,
    answer: Any,
    case: Case,
    *,
    seed: int,
    seconds: float,
    names: Sequence[str] = (),
) -> Trial:
    """Try an answer on a case.

    An observation that is a generator yields pairs of a requirement's name and a value. What any
    other returns is kept under the case's own name. An error is kept under the name of what was to
    come next; ``names`` are those that the reference gave.
    """
    observe = case.observe or observe
    seen: dict[str, Any] = {}
    work = functools.partial(_observe, observe, answer, case, seen)
    begun = time.perf_counter()
    outcome = run(work, seed=seed, seconds=seconds)
    took = time.perf_counter() - begun
    if outcome.error is not None:
        left = [name for name in names if name not in seen]
        place = left[0] if left else names[-1] if names else case.about
        # Python turns a StopIteration in a generator into another error.
        cause = outcome.error.__cause__
        seen[place] = Raised(cause if isinstance(cause, StopIteration) else outcome.error)
    return Trial(case, seen, outcome.printed, outcome.warned, took)


def _observe(observe: Callable, answer: Any, case: Case, seen: dict[str, Any]) -> None:
    if inspect.isgeneratorfunction(observe):
        for name, value in observe(answer, *case.arguments):
            seen[name] = value
        return
    seen[case.about] = observe(answer, *case.arguments)
    if observe is call:
        seen[ARGUMENTS] = case.arguments


#: where two trials of an exercise differ: (number of the case, name of the observation)
Place = tuple[int, str]


def differences(
    expected: Sequence[Trial], got: Sequence[Trial], *, roughly: bool = False
) -> dict[Place, Difference]:
    """Where an answer does something else than the reference (``expected``) does."""
    found = {}
    for number, (wanted, ours) in enumerate(zip(expected, got, strict=False)):
        for name, value in wanted.seen.items():
            if name in ours.seen:
                place = value_difference(name, value, ours.seen[name], roughly=roughly)
            elif ours.raised:
                continue
            else:
                place = Difference("missing", "", lambda: Texts("an observation", "none"))
            if place:
                found[number, name] = place
    return found


def value_difference(
    name: str, expected: Any, got: Any, *, roughly: bool = False
) -> Difference | None:
    """The first difference of an observation. A subclass of the expected error agrees with it."""
    if type(expected) is Raised or type(got) is Raised:
        both = type(expected) is type(got)
        if both and isinstance(got.error, type(expected.error)):
            return None
        return Difference("error", "", lambda: Texts(_error_name(expected), _error_name(got)))
    if name == ARGUMENTS:
        return _argument_difference(expected, got, roughly)
    return difference(expected, got, roughly=roughly)


def same_mistake(name: str, right: Any, theirs: Any, ours: Any, names: Sequence[str]) -> bool:
    """Whether an observation of an answer (``ours``) is that of a known mistake (``theirs``).

    The numbers may be as far apart as one sum in two orders. Words of errors count where torch or
    Python worded them, which they did not where the right answer raises too. ``names`` are those
    of the two answers, which their errors may hold.
    """
    if type(theirs) is not Raised or type(ours) is not Raised:
        return value_difference(name, theirs, ours, roughly=True) is None
    if type(right) is Raised:
        return type(theirs.error) is type(ours.error)
    texts = [error_text(one.error, name) for one, name in zip((theirs, ours), names, strict=True)]
    return type(theirs.error) is type(ours.error) and texts[0] == texts[1]


def is_telling(value: Any) -> bool:
    """Whether two answers hardly give this value for different reasons."""
    if type(value) is Raised:
        return True
    if issubclass(type(value), torch.Tensor):
        parts = value.detach().double() if value.is_floating_point() else torch.zeros(1)
        parts = parts[parts.isfinite()]
        return bool((parts != parts.round()).any())
    if type(value) is dict:
        return any(map(is_telling, value.values()))
    if issubclass(type(value), (tuple, list)):
        return any(map(is_telling, value))
    return type(value) is float and value == value and not value.is_integer()


def _error_name(seen: Any) -> str:
    if type(seen) is not Raised:
        return "no error"
    return f"{type(seen.error).__name__}: {first_line(seen.error)}"


def _argument_difference(expected: tuple, got: tuple, roughly: bool) -> Difference | None:
    """Where the answer left its arguments in another state than the reference does."""
    for position, (theirs, ours) in enumerate(zip(expected, got, strict=True), 1):
        if not issubclass(type(theirs), (torch.Tensor, torch.nn.Module, list, dict)):
            continue
        found = difference(theirs, ours, roughly=roughly)
        if not found and _needs_gradient(theirs) != _needs_gradient(ours):
            texts = Texts(*(f"requires_grad={_needs_gradient(one)}" for one in (theirs, ours)))
            found = Difference("argument", "", lambda texts=texts: texts)
        if found:
            return replace(found, kind="argument", where=str(position))
    return None


def _needs_gradient(argument: Any) -> bool:
    return isinstance(argument, torch.Tensor) and argument.requires_grad
