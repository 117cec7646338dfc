"""Answers to chapter 08 that a check could judge wrongly, in either direction.

Each wrong one does most of what its prompt asks and leaves out one thing that matters. Where a
sentence is tested, it is the one that a reader who wrote this must get.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from chapters.margin_losses import exercises as ex

# CosFace


def own(cosine, labels):
    return F.one_hot(labels, cosine.shape[1])


def cosface_detached(cosine, labels, margin=0.35, scale=20.0):
    return (scale * (cosine - margin * own(cosine, labels))).detach()


def cosface_without_grad(cosine, labels, margin=0.35, scale=20.0):
    with torch.no_grad():
        return scale * (cosine - margin * own(cosine, labels))


def cosface_of_plain_numbers(cosine, labels, margin=0.35, scale=20.0):
    rows = cosine.tolist()
    for row, label in zip(rows, labels.tolist(), strict=True):
        row[label] -= margin
    return scale * torch.tensor(rows)


@pytest.mark.parametrize(
    "answer", [cosface_detached, cosface_without_grad, cosface_of_plain_numbers]
)
def test_logits_without_a_gradient_are_not_right(answer):
    card = ex.cosface.check(answer)
    assert card.state == "wrong" and "no gradient comes back" in card.text


def cosface_clamped(cosine, labels, margin=0.35, scale=20.0):
    return scale * (cosine - margin * own(cosine, labels)).clamp(-1, 1)


def cosface_with_another_slope(cosine, labels, margin=0.35, scale=20.0):
    lowered = scale * (cosine - margin * own(cosine, labels))
    return lowered.detach() + cosine - cosine.detach()


def cosface_in_place_behind_autograd(cosine, labels, margin=0.35, scale=20.0):
    cosine.data[torch.arange(len(labels)), labels] -= margin
    return scale * cosine


@pytest.mark.parametrize(
    "answer",
    [cosface_clamped, cosface_with_another_slope, cosface_in_place_behind_autograd],
)
def test_half_a_cosface_is_not_right(answer):
    assert ex.cosface.check(answer).state == "wrong"


# A classifier of angles


class Classifier(nn.Module):
    def __init__(self, features, classes, scale=20.0):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(classes, features))

    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight))


class TrainOnly(Classifier):
    def forward(self, x):
        weight = F.normalize(self.weight) if self.training else self.weight
        return self.scale * F.linear(F.normalize(x), weight)


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


class Detached(Classifier):
    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight).detach())


class FeaturesDetached(Classifier):
    def forward(self, x):
        return self.scale * F.linear(F.normalize(x).detach(), F.normalize(self.weight))


@pytest.mark.parametrize("answer", [TrainOnly, FeaturesDetached])
def test_half_a_cosine_classifier_is_not_right(answer):
    assert ex.CosineClassifier.check(Classifier).state == "right"
    assert ex.CosineClassifier.check(answer).state == "wrong"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Unnormalised, "nowhere are they divided"),
        (UnnormalisedAndSmall, "nowhere are they divided"),
        (NormalisedAtTheStart, "normalised in `__init__`"),
        (LearnsTheScale, "`weight` is to be the only parameter"),
        (Detached, "no gradient comes back to the weights"),
    ],
)
def test_each_way_to_miss_a_cosine_has_its_sentence(answer, says):
    card = ex.CosineClassifier.check(answer)
    assert card.state == "wrong" and says in card.text, card


# ArcFace


def continued(cosine, further, margin):
    return torch.where(cosine > -math.cos(margin), further, cosine - margin * math.sin(margin))


def arcface_squeezed(cosine, margin=0.5):
    angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
    return continued(cosine, torch.cos(angle + margin), margin).squeeze()


def arcface_clamping_its_argument(cosine, margin=0.5):
    with torch.no_grad():
        cosine.clamp_(-1 + 1e-6, 1 - 1e-6)
    return continued(cosine, torch.cos(cosine.acos() + margin), margin)


def arcface_detached(cosine, margin=0.5):
    angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
    return continued(cosine, torch.cos(angle + margin), margin).detach()


@pytest.mark.parametrize(
    "answer", [arcface_squeezed, arcface_clamping_its_argument, arcface_detached]
)
def test_half_an_arcface_is_not_right(answer):
    assert ex.arcface.check(answer).state == "wrong"


def arcface_clamped_at_the_ends(cosine, margin=0.5):
    angle = cosine.clamp(-1, 1).acos()
    return continued(cosine, torch.cos(angle + margin), margin)


def arcface_with_a_root_of_zero(cosine, margin=0.5):
    root = (1 - cosine**2).clamp(min=0).sqrt()
    return continued(cosine, cosine * math.cos(margin) - root * math.sin(margin), margin)


@pytest.mark.parametrize("answer", [arcface_clamped_at_the_ends, arcface_with_a_root_of_zero])
def test_a_clamp_at_the_very_end_is_judged_by_its_slope(answer):
    """It hangs on the version of torch whether a clamp has the slope 0 or 1 at its border."""
    card = ex.arcface.check(answer)
    assert card.state == "right" or "may let the ends through" in card.text


def arcface_in_float64(cosine, margin=0.5):
    angle = cosine.double().clamp(-1 + 1e-7, 1 - 1e-7).acos()
    return continued(cosine, torch.cos(angle + margin).to(cosine.dtype), margin)


def test_more_precision_inside_is_right():
    assert ex.arcface.check(arcface_in_float64).state == "right"


# Bug hunt


class Arc(nn.Module):
    """The class as it was given, each bug in a method of its own."""

    border = 1e-6

    def __init__(self, features, classes, scale=20.0, margin=0.5):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, features)))

    def forward(self, features, labels=None):
        cosine = F.normalize(features) @ self.directions().T
        cosine = cosine.clamp(-1 + self.border, 1 - self.border)
        if labels is None:
            if self.plain_without_labels:
                return self.unlabelled(cosine)
            labels = cosine.argmax(dim=1)
        chosen = torch.zeros_like(cosine, dtype=torch.bool)
        chosen[self.rows(labels), labels] = True
        further = torch.cos(torch.acos(cosine) + self.margin)
        return self.scale * torch.where(chosen, self.target(cosine, further), cosine)

    plain_without_labels = True

    def directions(self):
        return F.normalize(self.weight)

    def unlabelled(self, cosine):
        return self.scale * cosine

    def rows(self, labels):
        return torch.arange(len(labels))

    def target(self, cosine, further):
        return continued(cosine, further, self.margin)


class RisesAgain(Arc):
    def target(self, cosine, further):
        return further


class Unclamped(Arc):
    border = 0.0

    def forward(self, features, labels=None):
        cosine = F.linear(F.normalize(features), self.directions())
        if labels is None:
            return self.scale * cosine
        chosen = F.one_hot(labels, cosine.shape[1]).bool()
        further = torch.cos(torch.acos(cosine) + self.margin)
        return self.scale * torch.where(chosen, self.target(cosine, further), cosine)


class DetachedWithoutLabels(Arc):
    def unlabelled(self, cosine):
        return (self.scale * cosine).detach()


class ClampedFarInside(Arc):
    border = 1e-3


@pytest.mark.parametrize("answer", [RisesAgain, Unclamped, DetachedWithoutLabels, ClampedFarInside])
def test_a_mended_head_that_breaks_something_else_is_not_right(answer):
    assert ex.ArcHead.check(Arc).state == "right"
    assert ex.ArcHead.check(answer).state == "wrong"


class WholeColumns(Arc):
    def rows(self, labels):
        return slice(None)


class OldWeights(Arc):
    def directions(self):
        return self.weight


class OldLabels(Arc):
    plain_without_labels = False


class ColumnsAndWeights(WholeColumns, OldWeights):
    """Two bugs are left."""


class ColumnsAndLabels(WholeColumns, OldLabels):
    """Two bugs are left."""


class WeightsAndLabels(OldWeights, OldLabels):
    """Two bugs are left."""


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (WholeColumns, "Two of three"),
        (OldWeights, "Two of three"),
        (OldLabels, "Two of three"),
        (ColumnsAndWeights, "One of three is mended: without labels"),
        (ColumnsAndLabels, "One of three is mended: the weights"),
        (WeightsAndLabels, "One of three is mended: each row"),
    ],
)
def test_whoever_mends_some_is_told_of_the_others(answer, says):
    card = ex.ArcHead.check(answer)
    assert card.state == "wrong" and card.text.startswith(says), card


# Verification


def rates_one_by_one(scores, same):
    order = scores.argsort(descending=True, stable=True)
    accepted_same = same[order].cumsum(0) / same.sum()
    accepted_other = (~same)[order].cumsum(0) / (~same).sum()
    return torch.maximum(1 - accepted_same, accepted_other).min().item()


def rates_one_by_one_the_last_first(scores, same):
    return rates_one_by_one(scores.flip(0), same.flip(0))


def rates_on_a_fine_grid(scores, same):
    worst = []
    for threshold in torch.linspace(scores.min(), scores.max(), 2000):
        accepted = scores >= threshold
        worst.append(max(accepted[~same].float().mean(), (~accepted)[same].float().mean()).item())
    return min(worst)


@pytest.mark.parametrize(
    "answer", [rates_one_by_one, rates_one_by_one_the_last_first, rates_on_a_fine_grid]
)
def test_half_an_equal_error_rate_is_not_right(answer):
    assert ex.equal_error_rate.check(answer).state == "wrong"


# Pairs


def pair_logits(first, second, scale, margin):
    cosine = F.normalize(first) @ F.normalize(second).T
    return scale * (cosine - margin * torch.eye(len(first)))


def pairs(there, back):
    own = torch.arange(len(there))
    return (F.cross_entropy(there, own) + F.cross_entropy(back.T, own)) / 2


def pair_loss_detached(first, second, scale=20.0, margin=0.3):
    logits = pair_logits(first, second, scale, margin)
    return pairs(logits, logits).detach()


def pair_loss_as_a_float(first, second, scale=20.0, margin=0.3):
    return pair_loss_detached(first, second, scale, margin).item()


def pair_loss_with_a_margin_there(first, second, scale=20.0, margin=0.3):
    with_it, without = (pair_logits(first, second, scale, m) for m in (margin, 0.0))
    return pairs(with_it, without)


def pair_loss_with_a_margin_back(first, second, scale=20.0, margin=0.3):
    with_it, without = (pair_logits(first, second, scale, m) for m in (margin, 0.0))
    return pairs(without, with_it)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (pair_loss_detached, "no gradient comes back"),
        (pair_loss_as_a_float, "no gradient comes back"),
        (pair_loss_with_a_margin_there, "missing on the way back"),
        (pair_loss_with_a_margin_back, "on the transposed matrix only"),
    ],
)
def test_half_a_pair_loss_has_its_sentence(answer, says):
    card = ex.pair_loss.check(answer)
    assert card.state == "wrong" and says in card.text, card


# Predictions and formulas


def test_capitals_are_no_mistake():
    answer = {
        key: word.upper() if isinstance(word, str) else word
        for key, word in ex.longer.answer_right.items()
    }
    assert ex.longer.check(answer).state == "right"


def test_a_small_lead_of_the_wrong_class_could_lower_the_loss():
    """Why the prompt says how far the wrong class leads."""
    label = torch.tensor([1])
    close, clear = torch.tensor([[0.01, 0.0, -1.0, -1.0]]), torch.tensor([[1.0, 0.0, -1.0, -1.0]])
    assert F.cross_entropy(10 * close, label) < F.cross_entropy(close, label)
    assert F.cross_entropy(10 * clear, label) > F.cross_entropy(clear, label)


def l2_bound(classes, probability):
    return math.log(probability * (classes - 2) / (1 - probability))


def test_the_bound_of_another_head_is_recognised():
    assert "L2-constrained" in ex.least_scale.check(l2_bound).text
