"""Errors and warnings that a chapter shows on purpose: required to happen, and shown short.

::

    with expect_error(RuntimeError, match="same dtype"):
        torch.ones(2) @ torch.ones(2, dtype=torch.float64)
"""

import importlib.metadata
import os
import re
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

LONGEST = 300  # characters of a message in its short form
WIDTH = 100  # columns at which it wraps


class ExpectationError(AssertionError):
    """The block did not do what the chapter says it does; ``instead`` tells what it did."""

    def __init__(self, message: str, instead: str):
        super().__init__(message)
        self.instead = instead


def expect_error(
    kind: type[BaseException], match: str, *, since: str | None = None
) -> AbstractContextManager[None]:
    """Require that the block raises ``kind`` with ``match`` in its message, and show it short.

    ``kind`` is one class; a subclass will do. ``match`` is a plain substring. Where the block
    raises nothing, another type or another message, this raises ``ExpectationError``, from the
    error that came; an interrupt passes through. ``since`` is the first version of torch ("2.12")
    for which the chapter claims this; with an earlier one, the block may raise ``kind`` or not.
    """
    return _ExpectedError(_Claim(kind, match, since), _print_short)


def show_traceback(
    kind: type[BaseException], match: str, *, since: str | None = None
) -> AbstractContextManager[None]:
    """Like ``expect_error``, but print the traceback as Python does, from the block's own line."""
    return _ExpectedError(_Claim(kind, match, since), _print_traceback)


@contextmanager
def expect_warning(kind: type[Warning], match: str, *, since: str | None = None) -> Iterator[None]:
    """Require that the block emits a warning ``kind`` with ``match`` in it, and show it short.

    It is seen on every run, also where Python's filters or torch's C++ would warn only once. Other
    warnings, and errors, take their usual way. Raises ``ExpectationError`` if no such warning
    comes. ``since`` as for ``expect_error``.
    """
    claim = _Claim(kind, match, since)
    if not claim.applies():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", kind)
            yield
        return
    seen: list[Warning] = []
    show_other = warnings.showwarning

    def show(message, category, *place) -> None:
        if claim.fits(message):
            seen.append(message)
        else:
            show_other(message, category, *place)

    with warnings.catch_warnings(), _torch_warns_always():
        # The filters in force decide about other warnings; (?-i: because a filter ignores case.
        warnings.filterwarnings("always", f"(?s:.*)(?-i:{re.escape(match)})", kind)
        warnings.showwarning = show
        try:
            yield
        finally:
            warnings.showwarning = show_other  # some Pythons' catch_warnings leaves it as it is
    if not seen:
        raise claim.failed("no such warning came (if it comes once a process, restart the kernel)")
    _print_short(seen[0], match)


def as_expected(holds: Any, says: str) -> None:
    """Say whether a result that depends on a seed, a rate or a size came out as the chapter says.

    ``holds`` is true or false, as a bool or a tensor of one element. Prints ``as expected:`` or
    ``not here:`` and the sentence. Raises ``ExpectationError`` only under ``TUTORIAL_STRICT``: a
    reader who changes a number has done nothing wrong.
    """
    if holds:
        print(f"as expected: {says}")
        return
    print(f"not here: {says}")
    if os.environ.get("TUTORIAL_STRICT", "") not in ("", "0"):
        raise ExpectationError(f"not so with the chapter's own numbers: {says}", "not so")


def is_about_installed(since: str | None) -> bool:
    """Whether the installed torch is of this version or a later one; None is any version.

    Raises ``ValueError`` for what is not a version.
    """
    return _numbers(since or "0") <= _numbers(_torch_version())


@dataclass(frozen=True)
class _Claim:
    kind: type[BaseException]
    match: str
    since: str | None

    def __post_init__(self) -> None:
        if not self.match.strip():
            raise ValueError(
                f"match is empty: give words from the message that tell this {self.kind.__name__} "
                "from others"
            )

    def __str__(self) -> str:
        return f"{self.kind.__name__} with {self.match!r} in its message"

    def fits(self, error: BaseException) -> bool:
        return isinstance(error, self.kind) and self.match in str(error)

    def applies(self) -> bool:
        """Whether the claim is about the installed torch; if not, say so."""
        if is_about_installed(self.since):
            return True
        print(
            f"{self.kind.__name__}: about torch since {self.since}. You have torch "
            f"{_torch_version()}, which may do otherwise."
        )
        return False

    def failed(self, instead: str) -> ExpectationError:
        return ExpectationError(
            f"expected {self}, but {instead}. If you have not changed the cell, torch may have "
            f"changed since it was written: you have torch {_torch_version()}",
            instead,
        )


@dataclass(frozen=True)
class _ExpectedError(AbstractContextManager):
    claim: _Claim
    show: Callable[[BaseException, str], None]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        expected = isinstance(error, self.claim.kind)
        if error is not None and not expected and not isinstance(error, Exception):
            return False  # an interrupt or an exit is meant for the kernel
        if not self.claim.applies():
            return expected
        if error is None:
            raise self.claim.failed("the block raised nothing")
        if not self.claim.fits(error):
            raise self.claim.failed(f"the block raised {_headline(error)}") from error
        self.show(error, self.claim.match)
        return True


@contextmanager
def _torch_warns_always() -> Iterator[None]:
    """Let torch's C++ side repeat the warnings that it gives once per process."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        yield
    finally:
        torch.set_warn_always(before)


def _print_short(error: BaseException, match: str) -> None:
    print(textwrap.fill(_headline(error, match), WIDTH, subsequent_indent="    "))


def _print_traceback(error: BaseException, match: str) -> None:
    print("".join(traceback.format_exception(error)), end="")


def _headline(error: BaseException, match: str = "") -> str:
    """The type and the message up to the line with ``match``, or the part around it if long."""
    message = str(error)
    start = message.find(match)
    stop = start + len(match)
    line_end = message.find("\n", stop)
    text = message if line_end < 0 else message[:line_end]
    if len(text) > LONGEST:
        first = max(0, min(start - (LONGEST - len(match)) // 2, len(text) - LONGEST))
        last = max(first + LONGEST, stop)
        text = "…" * (first > 0) + text[first:last] + "…" * (last < len(text))
    return f"{type(error).__name__}: {' '.join(text.split())}"


def _torch_version() -> str:
    return importlib.metadata.version("torch")


def _numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version: ``"2.14.1+cu130"`` gives ``(2, 14, 1)``."""
    release = re.match(r"\d+(\.\d+)*", version)
    if release is None:
        raise ValueError(f"version {version!r}: give numbers with dots between them, as in '2.12'")
    return tuple(int(number) for number in release[0].split("."))
