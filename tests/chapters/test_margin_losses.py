"""What the checks and the prompts of chapter 08 rest on."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from chapters.margin_losses import exercises as ex
from tests.chapters.answers.margin_losses import continued


def arcface_clamped_at_the_ends(cosine, margin=0.5):
    angle = cosine.clamp(-1, 1).acos()
    return continued(cosine, torch.cos(angle + margin), margin)


def arcface_with_a_root_of_zero(cosine, margin=0.5):
    sine = (1 - cosine**2).clamp(min=0).sqrt()
    return continued(cosine, cosine * math.cos(margin) - sine * math.sin(margin), margin)


@pytest.mark.parametrize("answer", [arcface_clamped_at_the_ends, arcface_with_a_root_of_zero])
def test_a_clamp_at_the_very_end_is_judged_by_its_slope(answer):
    """The version of torch decides whether a clamp has the slope 0 or 1 at its border."""
    card = ex.arcface.check(answer)
    assert card.state == "right" or "may let the ends through" in card.text


def test_a_small_lead_of_the_wrong_class_could_lower_the_loss():
    """Why the prompt of ``longer`` says how far the wrong class leads."""
    label = torch.tensor([1])
    close, clear = torch.tensor([[0.01, 0.0, -1.0, -1.0]]), torch.tensor([[1.0, 0.0, -1.0, -1.0]])
    assert F.cross_entropy(10 * close, label) < F.cross_entropy(close, label)
    assert F.cross_entropy(10 * clear, label) > F.cross_entropy(clear, label)
