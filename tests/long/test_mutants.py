"""Every change of a right answer in a single place is refused, or known to be right too."""

from __future__ import annotations

import pytest

import chapters
from helpers.exercises import Prediction
from helpers.exercises.engine import source_of
from helpers.exercises.sandbox import undisturbed
from tests.chapters import answers
from tests.long.mutants import called_right, mutants

CATALOGUE = chapters.catalogue()


def _right_answers():
    for name, exercise in CATALOGUE.items():
        if isinstance(exercise, Prediction):
            continue
        own = answers.of_chapter(exercise.chapter).RIGHT.get(exercise.short_name, [])
        for answer in [exercise.reference, *own]:
            if hasattr(answer, "__code__") or isinstance(answer, type):
                yield pytest.param(exercise, answer, id=f"{name}-{answer.__name__}")


@pytest.mark.parametrize(("exercise", "answer"), list(_right_answers()))
def test_a_change_in_one_place_is_refused_unless_it_is_known_to_be_right(exercise, answer):
    known = answers.equivalents(exercise.chapter).get(answer.__name__, {})
    with undisturbed():
        right = called_right(exercise, answer, mutants(source_of(answer)), known)
    assert sorted(right) == sorted(known), (
        f"a change of {answer.__name__} that is called right: refuse it by a case, or add it with "
        f"the reason to tests/chapters/answers/{exercise.chapter}.toml, in [{answer.__name__}]"
    )


SOURCE = """
@decorated
def answer(x, scale=2.0):
    with torch.no_grad():
        return [-a.exp() for a in x[1:] if not a < scale]
"""
CHANGES = {
    "without @decorated",
    "not inside with torch.no_grad():",
    "without return [-a.exp() for a in x[1:] if not a < scale]",
    "-a.exp() becomes a.exp()",
    "a.exp() becomes a",
    "not a < scale becomes a < scale",
    "1: → :",
    "a < scale → a <= scale",
    "2.0 → 4.0",
}


def test_changes_of_each_kind_are_made_once():
    found = [mutant.change for mutant in mutants(SOURCE)]
    assert set(found) >= CHANGES and len(found) == len(set(found))
