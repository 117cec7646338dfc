"""Right answers of ``tests.chapters.answers`` are called right.

``tests/long`` tries changes of them, and the wrong answers.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chapters
from helpers.exercises import Prediction
from tests.chapters import answers

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
