"""Right answers of ``tests.chapters.answers`` are called right, and changes of them are not.

``tests/long`` tries more changes, and the wrong answers.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chapters
from helpers.exercises import Prediction
from tests.chapters import answers
from tests.mutants import called_right, sampled

CATALOGUE = chapters.catalogue()


@pytest.mark.parametrize(("name", "answer"), list(answers.right()))
def test_another_way_is_right_too(name, answer):
    card = CATALOGUE[name].check(answer)
    assert card.state == "right", card


def retyped(value, form):
    if isinstance(value, dict):
        return {name: retyped(one, form) for name, one in reversed(value.items())}
    return form(value)


@pytest.mark.parametrize("name", [n for n, e in CATALOGUE.items() if isinstance(e, Prediction)])
@pytest.mark.parametrize(
    "form",
    [
        lambda value: np.array(value)[()] if not isinstance(value, set) else value,
        lambda value: torch.tensor(value) if isinstance(value, bool | int | float) else value,
        lambda value: value.upper() if isinstance(value, str) and "." not in value else value,
    ],
    ids=["numpy", "tensors", "capitals"],
)
def test_a_prediction_may_have_other_types(name, form):
    card = CATALOGUE[name].check(retyped(CATALOGUE[name].right, form))
    assert card.state == "right", card


FUNCTIONS = [name for name, one in CATALOGUE.items() if not isinstance(one, Prediction)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_some_changes_of_the_reference_are_refused(name):
    exercise = CATALOGUE[name]
    known = answers.equivalents(exercise.chapter).get(exercise.short_name, {})
    tried = sampled(exercise.reference, 4, known)
    assert called_right(exercise, exercise.reference, tried) == []
