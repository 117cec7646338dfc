"""Where an answer draws random numbers, the verdict does not depend on the seed."""

from __future__ import annotations

import pytest

import chapters
from helpers.exercises import trial
from tests.chapters import answers
from tests.chapters.test_augmentation import on_stream

CATALOGUE = chapters.catalogue()
SEEDS = range(1, 51)
WITH_CHANCE = [
    "start_here.train_digits",
    "module.Linear",
    "module.DeepNet",
    "losses.train_reader",
    "optimizers.train_digits",
    "data_loading.LengthBatches",
    "data_loading.make_loaders",
    "augmentation.mixup",
    "augmentation.cutmix",
    "augmentation.ricap",
]


@pytest.mark.parametrize("name", WITH_CHANCE)
def test_a_right_answer_is_right_for_every_seed(name, monkeypatch):
    exercise = CATALOGUE[name]
    exercise.expected()  # with its own seeds, and kept
    run, shift = trial.run, 0
    monkeypatch.setattr(
        trial, "run", lambda work, *, seed, seconds: run(work, seed=seed + shift, seconds=seconds)
    )
    own = answers.of_chapter(exercise.chapter).RIGHT[exercise.short_name]
    refused = []
    for number in SEEDS:
        shift = 1000 * number
        answer = [exercise.reference, *own][number % (len(own) + 1)]
        card = exercise.check(answer)
        if card.state != "right":
            refused.append((number, answer, str(card)))
    assert not refused


@pytest.mark.parametrize(("name", "answer", "says"), list(answers.wrong("augmentation.cutmix")))
def test_a_wrong_cutmix_is_wrong_for_other_draws_too(name, answer, says):
    assert says in CATALOGUE[name].check(on_stream(answer, 7)).text
