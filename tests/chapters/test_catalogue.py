"""What holds for every exercise of the course, collected from the catalogue."""

from __future__ import annotations

import ast
import importlib

import pytest
import torch
from torch import nn

import chapters
from chapters import CHAPTERS
from helpers.exercises import Prediction
from helpers.exercises.engine import source_of
from helpers.exercises.trial import ARGUMENTS
from tests.chapters import hostile
from tests.chapters.answers import on_one_worker
from tests.chapters.cells import asked, asked_of, run_cell, solved

CATALOGUE = chapters.catalogue()
EXERCISES = [
    pytest.param(exercise, id=name, marks=on_one_worker(name))
    for name, exercise in CATALOGUE.items()
]
MISTAKES = [
    pytest.param(
        exercise,
        mistake,
        make,
        id=f"{name}-{number}" + "b" * spelling,
        marks=on_one_worker(name),
    )
    for name, exercise in CATALOGUE.items()
    for number, mistake in enumerate(exercise.mistakes, 1)
    for spelling, make in enumerate(mistake.spellings)
]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_cell_as_shipped_is_not_tried_yet(exercise):
    _, card = run_cell(exercise, asked_of(exercise).starter)
    assert card.state == "todo", card


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_cell_with_the_solution_is_right(exercise):
    _, card = run_cell(exercise, solved(exercise))
    assert card.state == "right", card
    assert card.text == exercise.takeaway


@pytest.mark.parametrize(("exercise", "mistake", "make"), MISTAKES)
def test_a_known_mistake_gets_its_own_sentence(exercise, mistake, make):
    card = exercise.check(exercise.answer_of(make))
    assert (card.state, card.text) == ("wrong", mistake.says), card


@pytest.mark.parametrize("exercise", EXERCISES)
def test_every_observation_has_its_demand_and_every_demand_is_observed(exercise):
    if isinstance(exercise, Prediction):
        return
    observed = {name for trial in exercise.expected() for name in trial.seen}
    without = observed - {ARGUMENTS} - set(exercise.requires)
    assert not without, f"[{exercise.short_name}.requires] lacks {without}: write what is demanded"
    unseen = set(exercise.requires) - observed
    assert not unseen, (
        f"[{exercise.short_name}.requires] has {unseen}: observe them, or remove them"
    )
    for demand in exercise.requires.values():
        assert demand.count("`") % 2 == 0 and demand.endswith((".", "?"))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_what_is_said_and_what_is_coded_belong_together(chapter):
    module = importlib.import_module(f"chapters.{chapter.name}.exercises")
    assert not module.chapter.unused, "tables of exercises.toml without an exercise"
    cells = asked(chapter.name)
    own = {e.short_name: e for e in CATALOGUE.values() if e.chapter == chapter.name}
    assert list(cells) == list(own), (
        f"the tags exercise:… in notebooks/{chapter.stem}.ipynb and the exercises in "
        f"chapters/{chapter.name}/exercises.py must be the same, in the same order"
    )
    for name, exercise in own.items():
        prompt, starter = cells[name]
        heading = f"### {'★' * exercise.stars} {exercise.title} · {exercise.minutes} min"
        assert prompt.startswith(heading + "\n"), f"the prompt of {name} needs the TOML's title"
        assert f"`ex.{name}.hint()`" in prompt and f"`ex.{name}.solution()`" in prompt
        assert starter.endswith(f"\nex.{name}.check({name})")
        if exercise.given:
            given = ast.parse(source_of(exercise.given())).body[0]
            assert ast.dump(given) == ast.dump(ast.parse(starter).body[0]), f"`given` of {name}"
        sentences = [mistake.says for mistake in exercise.mistakes]
        assert len(sentences) >= 2 and len(set(sentences)) == len(sentences)
        for text in (exercise.takeaway, *exercise.hints, *sentences):
            assert text.count("`") % 2 == 0, f"an open backtick in {text!r}"


@pytest.mark.parametrize("name", ["losses.divisor", "losses.huber", "losses.QuantileLoss"])
def test_a_hostile_answer_gets_a_verdict(name):
    """A prediction, a function and a class; ``tests/long`` tries all exercises."""
    assert hostile.problems(CATALOGUE[name]) == []


def _tensors(value):
    """The tensors within an argument of a case."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from (*value.parameters(), *value.buffers())
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


@pytest.mark.parametrize("name", [n for n, e in CATALOGUE.items() if not isinstance(e, Prediction)])
def test_an_answer_that_changes_an_argument_spoils_no_later_check(name):
    kept = [CATALOGUE[name].fresh_cases() for _ in range(2)]
    first, again = (
        {
            tensor.untyped_storage().data_ptr()
            for case in cases
            for tensor in _tensors(case.arguments)
            if tensor.numel()
        }
        for cases in kept
    )
    assert not first & again
