"""Answers to chapter 08 that a check could misjudge: other right ones, and wrong ones that do most
of what their prompt asks. Where a sentence is tested, a reader who wrote this must get it.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from chapters.margin_losses import exercises as ex

# Second right answers


def least_scale_by_trying(classes, probability):
    cosines = torch.full((classes,), -1 / (classes - 1), dtype=torch.float64)
    cosines[0] = 1
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        enough = (middle * cosines).softmax(0)[0] > probability
        low, high = (low, middle) if enough else (middle, high)
    return high


class Classifier(nn.Module):
    def __init__(self, features, classes, scale=20.0):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(classes, features))

    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight))


class DividesAfterwards(Classifier):
    def forward(self, x):
        lengths = x.norm(dim=1, keepdim=True) * self.weight.norm(dim=1)
        return self.scale * F.linear(x, self.weight) / lengths


def cosface_with_an_index(cosine, labels, margin=0.35, scale=20.0):
    logits = scale * cosine
    logits[torch.arange(len(labels)), labels] -= scale * margin
    return logits


def continued(cosine, further, margin):
    return torch.where(cosine > -math.cos(margin), further, cosine - margin * math.sin(margin))


def arcface_by_the_addition_theorem(cosine, margin=0.5):
    sine = (1 - cosine**2).clamp(min=1e-7).sqrt()
    return continued(cosine, cosine * math.cos(margin) - sine * math.sin(margin), margin)


def arcface_with_a_root_in_float64(cosine, margin=0.5):
    sine = (1 - cosine.double() ** 2).clamp(min=1e-7).sqrt()
    further = cosine * math.cos(margin) - sine * math.sin(margin)
    return continued(cosine, further, margin).float()


def arcface_with_an_angle_in_float64(cosine, margin=0.5):
    angle = cosine.double().clamp(-1 + 1e-7, 1 - 1e-7).acos()
    return continued(cosine, torch.cos(angle + margin).to(cosine.dtype), margin)


class Arc(nn.Module):
    """The bug hunt's class without its bugs, in parts that a subclass can change."""

    border = 1e-6

    def __init__(self, features, classes, scale=20.0, margin=0.5):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, features)))

    def forward(self, features, labels=None):
        cosine = F.linear(F.normalize(features), F.normalize(self.weight))
        cosine = cosine.clamp(-1 + self.border, 1 - self.border)
        if labels is None:
            return self.without_labels(cosine)
        target = self.target(cosine, torch.cos(torch.acos(cosine) + self.margin))
        return self.scale * torch.where(self.chosen(cosine, labels), target, cosine)

    def without_labels(self, cosine):
        return self.scale * cosine

    def target(self, cosine, further):
        return continued(cosine, further, self.margin)

    def chosen(self, cosine, labels):
        return F.one_hot(labels, cosine.shape[1]).bool()


class ByTheAdditionTheorem(Arc):
    def target(self, cosine, further):
        return arcface_by_the_addition_theorem(cosine, self.margin)


def rate_by_sorting(scores, same):
    ordered, order = scores.sort(descending=True)
    last_of_ties = torch.cat([ordered[1:] < ordered[:-1], torch.tensor([True])])
    accepted_same = same[order].cumsum(0)[last_of_ties] / same.sum()
    accepted_other = (~same)[order].cumsum(0)[last_of_ties] / (~same).sum()
    return torch.maximum(1 - accepted_same, accepted_other).min().item()


def pair_loss_from_the_definition(first, second, scale=20.0, margin=0.3):
    cosine = F.cosine_similarity(first[:, None], second[None, :], dim=2)
    logits = scale * (cosine - margin * torch.eye(len(first)))
    there, back = logits.logsumexp(dim=1), logits.logsumexp(dim=0)
    return ((there + back) / 2 - logits.diagonal()).mean()


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.least_scale, least_scale_by_trying),
        (ex.CosineClassifier, Classifier),
        (ex.CosineClassifier, DividesAfterwards),
        (ex.cosface, cosface_with_an_index),
        (ex.arcface, arcface_by_the_addition_theorem),
        (ex.arcface, arcface_with_a_root_in_float64),
        (ex.arcface, arcface_with_an_angle_in_float64),
        (ex.ArcHead, Arc),
        (ex.ArcHead, ByTheAdditionTheorem),
        (ex.equal_error_rate, rate_by_sorting),
        (ex.pair_loss, pair_loss_from_the_definition),
    ],
)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card


# Half an answer


class NormalisedInTrainingOnly(Classifier):
    def forward(self, x):
        weight = F.normalize(self.weight) if self.training else self.weight
        return self.scale * F.linear(F.normalize(x), weight)


class FeaturesDetached(Classifier):
    def forward(self, x):
        return self.scale * F.linear(F.normalize(x).detach(), F.normalize(self.weight))


def cosface_with_another_slope(cosine, labels, margin=0.35, scale=20.0):
    lowered = scale * (cosine - margin * F.one_hot(labels, cosine.shape[1]))
    return lowered.detach() + cosine - cosine.detach()


def cosface_in_place_behind_autograd(cosine, labels, margin=0.35, scale=20.0):
    cosine.data[torch.arange(len(labels)), labels] -= margin
    return scale * cosine


def arcface_squeezed(cosine, margin=0.5):
    return arcface_by_the_addition_theorem(cosine, margin).squeeze()


def arcface_clamping_its_argument(cosine, margin=0.5):
    with torch.no_grad():
        cosine.clamp_(-1 + 1e-6, 1 - 1e-6)
    return continued(cosine, torch.cos(cosine.acos() + margin), margin)


def arcface_detached(cosine, margin=0.5):
    return arcface_by_the_addition_theorem(cosine, margin).detach()


class RisesAgain(Arc):
    def target(self, cosine, further):
        return further


class ClampedFarInside(Arc):
    border = 1e-3


class DetachedWithoutLabels(Arc):
    def without_labels(self, cosine):
        return (self.scale * cosine).detach()


def rate_one_by_one(scores, same):
    order = scores.argsort(descending=True, stable=True)
    accepted_same = same[order].cumsum(0) / same.sum()
    accepted_other = (~same)[order].cumsum(0) / (~same).sum()
    return torch.maximum(1 - accepted_same, accepted_other).min().item()


def rate_one_by_one_the_last_first(scores, same):
    return rate_one_by_one(scores.flip(0), same.flip(0))


def rate_on_a_fine_grid(scores, same):
    worst = []
    for threshold in torch.linspace(scores.min(), scores.max(), 2000):
        accepted = scores >= threshold
        worst.append(max(accepted[~same].float().mean(), (~accepted)[same].float().mean()).item())
    return min(worst)


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.CosineClassifier, NormalisedInTrainingOnly),
        (ex.CosineClassifier, FeaturesDetached),
        (ex.cosface, cosface_with_another_slope),
        (ex.cosface, cosface_in_place_behind_autograd),
        (ex.arcface, arcface_squeezed),
        (ex.arcface, arcface_clamping_its_argument),
        (ex.arcface, arcface_detached),
        (ex.ArcHead, RisesAgain),
        (ex.ArcHead, ClampedFarInside),
        (ex.ArcHead, DetachedWithoutLabels),
        (ex.equal_error_rate, rate_one_by_one),
        (ex.equal_error_rate, rate_one_by_one_the_last_first),
        (ex.equal_error_rate, rate_on_a_fine_grid),
    ],
)
def test_half_an_answer_is_not_right(exercise, answer):
    assert exercise.check(answer).state == "wrong"


# Half an answer that must get its sentence


class Unnormalised(Classifier):
    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), self.weight)


class UnnormalisedAndSmall(Unnormalised):
    def __init__(self, features, classes, scale=20.0):
        super().__init__(features, classes, scale)
        nn.init.xavier_uniform_(self.weight)


class NormalisedAtTheStart(Unnormalised):
    def __init__(self, features, classes, scale=20.0):
        super().__init__(features, classes, scale)
        self.weight = nn.Parameter(F.normalize(torch.rand(classes, features) - 0.5))


class LearnsTheScale(Classifier):
    def __init__(self, features, classes, scale=20.0):
        super().__init__(features, classes, scale)
        self.scale = nn.Parameter(torch.tensor([scale]))


class DirectionsDetached(Classifier):
    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight).detach())


def cosface_without_grad(cosine, labels, margin=0.35, scale=20.0):
    with torch.no_grad():
        return scale * (cosine - margin * F.one_hot(labels, cosine.shape[1]))


def cosface_of_plain_numbers(cosine, labels, margin=0.35, scale=20.0):
    rows = cosine.tolist()
    for row, label in zip(rows, labels.tolist(), strict=True):
        row[label] -= margin
    return scale * torch.tensor(rows)


class WholeColumns(Arc):
    def chosen(self, cosine, labels):
        chosen = torch.zeros_like(cosine, dtype=torch.bool)
        chosen[:, labels] = True
        return chosen


def pair_loss_detached(first, second, scale=20.0, margin=0.3):
    return pair_loss_from_the_definition(first, second, scale, margin).detach()


@pytest.mark.parametrize(
    ("exercise", "answer", "says"),
    [
        (ex.CosineClassifier, Unnormalised, "nowhere are they divided"),
        (ex.CosineClassifier, UnnormalisedAndSmall, "nowhere are they divided"),
        (ex.CosineClassifier, NormalisedAtTheStart, "normalised in `__init__`"),
        (ex.CosineClassifier, LearnsTheScale, "`weight` is to be the only parameter"),
        (ex.CosineClassifier, DirectionsDetached, "no gradient comes back to the weights"),
        (ex.cosface, cosface_without_grad, "no gradient comes back"),
        (ex.cosface, cosface_of_plain_numbers, "no gradient comes back"),
        (ex.ArcHead, WholeColumns, "Two of three are fixed. `chosen[:, labels]"),
        (ex.pair_loss, pair_loss_detached, "no gradient comes back"),
    ],
)
def test_half_an_answer_has_its_sentence(exercise, answer, says):
    card = exercise.check(answer)
    assert card.state == "wrong" and says in card.text, card


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
