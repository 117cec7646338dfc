"""Right answers of ``tests.chapters.answers`` are called right, and changes of them are not.

``tests/long`` tries more changes, and the wrong answers.
"""

from __future__ import annotations

import pytest

import chapters
from helpers.exercises import Prediction
from tests.chapters import answers
from tests.mutants import called_right, sampled

CATALOGUE = chapters.catalogue()


@pytest.mark.parametrize(("name", "answer"), list(answers.listed("RIGHT")))
def test_another_way_is_right_too(name, answer):
    card = CATALOGUE[name].check(answer)
    assert card.state == "right", card


FUNCTIONS = [name for name, one in CATALOGUE.items() if not isinstance(one, Prediction)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_some_changes_of_the_reference_are_refused(name):
    exercise = CATALOGUE[name]
    known = answers.equivalents(exercise.chapter).get(exercise.short_name, {})
    tried = sampled(exercise.reference, 4, known)
    assert called_right(exercise, exercise.reference, tried) == []
