"""Answers that break a sentence of their prompt are refused and told what is wrong."""

from __future__ import annotations

import pytest

import chapters
from tests.chapters import answers

CATALOGUE = chapters.catalogue()


@pytest.mark.parametrize(("name", "answer", "says"), list(answers.wrong(*CATALOGUE)))
def test_a_wrong_answer_is_told_what_is_wrong(name, answer, says):
    card = CATALOGUE[name].check(answer)
    assert card.state == "wrong", card
    assert says in card.text, card
