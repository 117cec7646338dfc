"""Types are enforced in ``helpers``, and only where they are meant."""

from __future__ import annotations

import pytest
from jaxtyping import TypeCheckError

import chapters
from chapters import CHAPTERS, Chapter
from tests.notebooks import signatures


def test_a_wrong_type_is_refused():
    with pytest.raises(TypeCheckError):
        Chapter(stem=0, title="", question="", minutes=0, cpu_seconds=0.0)


def test_an_integer_passes_for_a_float():
    assert Chapter(stem="", title="", question="", minutes=0, cpu_seconds=1).cpu_seconds == 1


def test_every_module_is_enforced_but_the_answers_to_exercises():
    enforced = signatures.enforced_modules()
    assert chapters.__name__ in enforced
    assert "helpers.exercises.engine" in enforced
    assert not {f"helpers.exercises.{chapter.room}" for chapter in CHAPTERS} & set(enforced)
