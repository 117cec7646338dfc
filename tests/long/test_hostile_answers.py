"""Every exercise gives a verdict to answers that nobody would hand in on purpose."""

import pytest

import chapters
from tests.chapters import hostile

CATALOGUE = chapters.catalogue()


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_hostile_answer_gets_a_verdict(name):
    assert hostile.problems(CATALOGUE[name]) == []
