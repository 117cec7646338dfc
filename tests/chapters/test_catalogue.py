"""What holds for every exercise of the course, collected from the catalogue."""

from __future__ import annotations

import re

import pytest

from helpers import exercises
from chapters import CHAPTERS
from helpers.exercises.engine import Exercise, Prediction
from tests.chapters.cells import run_cell
from tests.long.hostile import HOSTILE

CATALOGUE = exercises.catalogue()
EXERCISES = [pytest.param(exercise, id=name) for name, exercise in CATALOGUE.items()]
ALTERNATIVES = [
    pytest.param(exercise, answer, id=f"{name}-{answer.__name__}")
    for name, exercise in CATALOGUE.items()
    for answer in exercise.alternatives
]
MISTAKES = [
    pytest.param(exercise, mistake, id=f"{name}-{mistake.answer.__name__}")
    for name, exercise in CATALOGUE.items()
    for mistake in exercise.mistakes
]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_cell_as_shipped_is_not_tried_yet(exercise):
    _, card = run_cell(exercise, exercise.starter_cell())
    assert card.state == "todo", card


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_cell_with_the_solution_is_right(exercise, record_property):
    _, card = run_cell(exercise, exercise.solved_cell())
    assert card.state == "right", card
    assert card.text == exercise.takeaway
    record_property("proved", "exercise")


@pytest.mark.parametrize(("exercise", "answer"), ALTERNATIVES)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(exercise.answer_of(answer))
    assert card.state == "right", card


@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES)
def test_a_known_mistake_gets_its_own_sentence(exercise, mistake, record_property):
    card = exercise.check(exercise.answer_of(mistake.answer))
    assert (card.state, card.text) == ("wrong", mistake.says), card
    record_property("proved", "known mistake")


@pytest.mark.parametrize("exercise", EXERCISES)
def test_checking_twice_says_the_same(exercise):
    answer, card = run_cell(exercise, exercise.solved_cell())
    assert exercise.check(answer) == card


@pytest.mark.usefixtures("resting_collector")
@pytest.mark.parametrize("make", HOSTILE)
@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_hostile_answer_gets_a_verdict(exercise, make):
    exercise = _hurried(exercise)
    card = exercise.check(make())
    assert card.state in ("todo", "wrong")
    assert str(card) and card._repr_html_()


@pytest.mark.parametrize("exercise", EXERCISES)
def test_it_is_told_in_full(exercise):
    room, _, name = exercise.name.partition(".")
    assert room in [chapter.room for chapter in CHAPTERS]
    assert name == exercise.short_name
    assert 1 <= exercise.stars <= 3 and exercise.minutes > 0
    assert exercise.ask and exercise.takeaway and exercise.hints
    assert len(exercise.mistakes) >= 2
    sentences = [mistake.says for mistake in exercise.mistakes]
    assert len(set(sentences)) == len(sentences)
    for text in (exercise.ask, exercise.takeaway, *exercise.hints, *sentences):
        assert text.count("`") % 2 == 0, f"an open backtick in {text!r}"


@pytest.mark.parametrize("exercise", EXERCISES)
def test_every_function_has_a_second_way(exercise):
    assert isinstance(exercise, Prediction) or exercise.alternatives


@pytest.mark.parametrize("exercise", EXERCISES)
def test_its_name_is_the_answers_name(exercise):
    answer = re.escape(exercise.short_name)
    for cell in (exercise.starter_cell(), exercise.solved_cell()):
        assert re.search(rf"^(def|class) {answer}\b|^{answer} = ", cell, re.MULTILINE)
        assert cell.endswith(f"\nex.{exercise.short_name}.check({exercise.short_name})")


def test_it_stands_in_its_room_under_its_name():
    for name, exercise in CATALOGUE.items():
        room, _, short = name.partition(".")
        module = __import__(f"helpers.exercises.{room}", fromlist=[short])
        assert getattr(module, short) is exercise


def _hurried(exercise: Exercise) -> Exercise:
    """The same exercise with little patience, so that an endless answer ends soon."""
    hurried = exercise.__class__.__new__(exercise.__class__)
    hurried.__dict__ = {**exercise.__dict__, "seconds": 0.3}
    return hurried
