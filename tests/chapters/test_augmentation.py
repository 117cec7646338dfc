"""The check of CutMix in chapter 07, whose verdict must not depend on the draws."""

from __future__ import annotations

import functools

import pytest
import torch

from chapters.augmentation import exercises as ex


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
