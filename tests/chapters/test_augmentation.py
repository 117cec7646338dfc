"""The check of CutMix in chapter 07, whose verdict must not depend on the draws."""

from __future__ import annotations

import functools

import pytest
import torch

from chapters.augmentation import exercises as ex
from tests.chapters import answers


def on_stream(answer, seed):
    """The answer with random numbers of its own."""
    seen = []

    @functools.wraps(answer)
    def reseeded(images, *others):
        if images.shape not in seen:
            seen.append(images.shape)
            torch.manual_seed(100 * seed + len(seen))
        return answer(images, *others)

    return reseeded


@pytest.mark.parametrize("mistake", ex.cutmix.mistakes, ids=lambda mistake: mistake.says[:40])
def test_a_mistake_is_recognised_for_all_draws(mistake):
    assert ex.cutmix.check(on_stream(ex.cutmix.answer_of(mistake.make), 5)).text == mistake.says


@pytest.mark.parametrize(("_", "answer", "says"), list(answers.wrong("augmentation.cutmix")))
def test_a_wrong_cutmix_is_wrong_for_all_draws(_, answer, says):
    assert says in ex.cutmix.check(on_stream(answer, 7)).text
