"""Answers to the exercises that are not in the course: right ones by other ways, and wrong ones.

Each chapter's module has ``RIGHT``, which maps the name of an exercise to answers that keep every
sentence of its prompt, and ``WRONG``, which maps it to pairs of an answer that breaks one and a
piece of what is said of it. In place of the answer, an edit of the solution may stand: old, new, …
The TOML file beside it lists changes of right answers that are right too
(``tests.long.mutants``): a table for each answer, with the change and the reason.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import chapters
from helpers.exercises import Exercise
from helpers.exercises.engine import source_of
from helpers.exercises.notation import compiled

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CATALOGUE = chapters.catalogue()
NAMES = [chapter.name for chapter in chapters.CHAPTERS]


@functools.cache
def of_chapter(chapter: str) -> ModuleType:
    module = importlib.import_module(f"{__name__}.{chapter}")
    for exercise in (*module.RIGHT, *module.WRONG):
        assert f"{chapter}.{exercise}" in CATALOGUE, (
            f"{module.__file__} has answers to {exercise!r}: the chapter has no such exercise"
        )
    return module


@functools.cache
def equivalents(chapter: str) -> dict[str, dict[str, str]]:
    """Answer -> change -> why the changed answer is right too."""
    file = Path(__file__).with_name(f"{chapter}.toml")
    return tomllib.loads(file.read_text("utf-8")) if file.exists() else {}


def on_one_worker(name: str) -> pytest.MarkDecorator:
    """One worker gets all that tries an exercise: it tries out the known mistakes only once."""
    return pytest.mark.xdist_group(name)


def right() -> Iterator[Any]:
    """Parameters of a test: the name of an exercise and an answer of ``RIGHT``."""
    for chapter in NAMES:
        for exercise, given in of_chapter(chapter).RIGHT.items():
            for number, answer in enumerate(given):
                name, told = f"{chapter}.{exercise}", getattr(answer, "__name__", number)
                marks = on_one_worker(name)
                yield pytest.param(name, answer, id=f"{name}-{told}", marks=marks)


def wrong(*names: str) -> Iterator[Any]:
    """Parameters of a test: the name of an exercise, an answer of ``WRONG`` and what is said."""
    for name in names:
        chapter, exercise = name.split(".")
        for *answer, says in of_chapter(chapter).WRONG.get(exercise, []):
            made = answer[0] if len(answer) == 1 else edited(CATALOGUE[name], *answer)
            marks = on_one_worker(name)
            yield pytest.param(name, made, says, id=f"{name}-{says}", marks=marks)


def edited(exercise: Exercise, *pairs: str) -> Any:
    """The solution of an exercise in which pieces of its source are replaced: old, new, old, …"""
    source = source_of(exercise.reference)
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert source.count(old) == 1, f"{exercise.name} holds {old!r} {source.count(old)} times"
        source = source.replace(old, new)
    return compiled(source, exercise.reference, " ".join(pairs))
