"""Answers of ``tests.chapters.answers`` get the verdict that they deserve."""

from __future__ import annotations

import pytest

import chapters
from helpers.exercises import Prediction
from tests.chapters import answers
from tests.mutants import called_right, sampled

CATALOGUE = chapters.catalogue()


def _all(kind):
    for chapter in answers.NAMES:
        for name, given in getattr(answers.of_chapter(chapter), kind).items():
            for number, answer in enumerate(given):
                told = getattr(answer, "__name__", number)
                yield pytest.param(f"{chapter}.{name}", answer, id=f"{chapter}.{name}-{told}")


@pytest.mark.parametrize(("name", "answer"), list(_all("RIGHT")))
def test_another_way_is_right_too(name, answer):
    card = CATALOGUE[name].check(answer)
    assert card.state == "right", card


@pytest.mark.parametrize(("name", "wrong"), list(_all("WRONG")))
def test_a_wrong_answer_is_told_what_is_wrong(name, wrong):
    answer, says = wrong
    card = CATALOGUE[name].check(answer)
    assert card.state == "wrong", card
    assert says in card.text, card


FUNCTIONS = [name for name, one in CATALOGUE.items() if not isinstance(one, Prediction)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_some_changes_of_the_reference_are_refused(name):
    """``tests/long`` tries all changes, and those of the other right answers."""
    exercise = CATALOGUE[name]
    known = answers.equivalents(exercise.chapter).get(exercise.short_name, {})
    tried = sampled(exercise.reference, 4, known)
    assert called_right(exercise, exercise.reference, tried) == []
