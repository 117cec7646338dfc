"""Answers to the exercises of chapter 08."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from helpers import margins

# longer

_LONGER = (
    "accuracy",
    "mean loss of the rows it gets right",
    "mean loss of the rows it gets wrong",
    "the cosine of any feature and any class vector changes",
)


def _longer(*values):
    return dict(zip(_LONGER, values, strict=True))


# least_scale


def least_scale_by_trying(classes, probability):
    cosines = torch.full((classes,), -1 / (classes - 1), dtype=torch.float64)
    cosines[0] = 1
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        enough = (middle * cosines).softmax(0)[0] > probability
        low, high = (low, middle) if enough else (middle, high)
    return high


def least_scale_in_float32(classes, probability):
    p = torch.tensor(probability)
    return ((p.logit() + math.log(classes - 1)) * (classes - 1) / classes).item()


def least_scale_in_numpy(classes, probability):
    return np.log((classes - 1) / (1 / np.float64(probability) - 1)) / (1 + 1 / (classes - 1))


def least_scale_by_newton(classes, probability):
    """Newton's method on log-odds, which are linear in the scale: one step is enough."""
    scale = torch.zeros((), requires_grad=True)
    cosines = torch.full((classes,), -1 / (classes - 1))
    cosines[0] = 1
    logits = scale * cosines
    missing = math.log(probability / (1 - probability)) - logits[0] + logits[1:].logsumexp(0)
    (slope,) = torch.autograd.grad(missing, scale)
    return -(missing / slope).item()


def least_scale_of_one_rival(classes, probability):
    return (probability / (1 - probability) > 0) * math.log(probability / (1 - probability))


def least_scale_at_least_one(classes, probability):
    rivals = classes - 1
    return max(1.0, math.log(rivals * probability / (1 - probability)) * rivals / classes)


def least_scale_up_to_ten(classes, probability):
    low, high = 0.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        reached = 1 / (1 + (classes - 1) * math.exp(-middle * classes / (classes - 1)))
        low, high = (low, middle) if reached > probability else (middle, high)
    return high


def least_scale_rounded(classes, probability):
    return round(math.log((classes - 1) * probability / (1 - probability)) * (1 - 1 / classes), 2)


# CosineClassifier


class Classifier(nn.Module):
    def __init__(self, features, classes, scale=20.0):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(classes, features))

    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight))


class DividesAfterwards(nn.Module):
    def __init__(self, features, classes, scale=20.0):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.ones(classes, features)))

    def forward(self, x):
        lengths = x.norm(dim=1, keepdim=True) * self.weight.norm(dim=1)
        return self.scale * F.linear(x, self.weight) / lengths


class OfLinear(nn.Linear):
    def __init__(self, features, classes, scale=20.0):
        super().__init__(features, classes, bias=False)
        self.register_buffer("factor", torch.tensor(float(scale)))

    def forward(self, x, labels=None):
        return super().forward(F.normalize(x)) * (self.factor / self.weight.norm(dim=1))


class ByCosineSimilarity(nn.Module):
    def __init__(self, features: int, classes: int, scale: float = 20.0):
        super().__init__()
        self.settings = {"scale": scale}
        self.register_parameter("weight", nn.Parameter(torch.rand(classes, features) - 0.5))

    def forward(self, x):
        return self.settings["scale"] * F.cosine_similarity(x[:, None], self.weight, dim=2)


class RowByRow(nn.Module):
    def __init__(self, features, classes, scale=20.0):
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.ones(classes, features)))
        self.cosine = functools.partial(torch.cosine_similarity, dim=-1)
        self.scaled = lambda cosine: cosine.mul(scale)

    def forward(self, x):
        return self.scaled(torch.stack([self.cosine(x, w) for w in self.weight], dim=-1))


class OfTheCourse(margins.CosineHead):
    def __init__(self, features, classes, scale=20.0):
        super().__init__(features, classes, scale=scale)


class NormalisedInTrainingOnly(Classifier):
    def forward(self, x):
        weight = F.normalize(self.weight) if self.training else self.weight
        return self.scale * F.linear(F.normalize(x), weight)


class FeaturesDetached(Classifier):
    def forward(self, x):
        return self.scale * F.linear(F.normalize(x).detach(), F.normalize(self.weight))


class Unnormalised(Classifier):
    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), self.weight)


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


class ScaleOfOne(Classifier):
    def __init__(self, features, classes, scale=1.0):
        super().__init__(features, classes, scale)


class ScaleWithoutDefault(Classifier):
    def __init__(self, features, classes, scale):
        super().__init__(features, classes, scale)


class Squeezed(Classifier):
    def forward(self, x):
        return super().forward(x).squeeze()


class WithABias(Classifier):
    def __init__(self, features, classes, scale=20.0):
        super().__init__(features, classes, scale)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x):
        return super().forward(x) + self.bias


class InALayer(nn.Module):
    def __init__(self, features, classes, scale=20.0):
        super().__init__()
        self.layer, self.scale = nn.Linear(features, classes, bias=False), scale

    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), F.normalize(self.layer.weight))


class NoParameter(Classifier):
    def __init__(self, features, classes, scale=20.0):
        super().__init__(features, classes, scale)
        del self.weight
        self.weight = torch.randn(classes, features, requires_grad=True)


class Transposed(Classifier):
    def __init__(self, features, classes, scale=20.0):
        super().__init__(features, classes, scale)
        self.weight = nn.Parameter(torch.randn(features, classes))

    def forward(self, x):
        return self.scale * F.normalize(x) @ F.normalize(self.weight, dim=0)


class DirectionsKept(Classifier):
    def forward(self, x):
        if not hasattr(self, "directions"):
            self.directions = F.normalize(self.weight.detach())
        return self.scale * F.normalize(x) @ self.directions.T


class AllOnes(Classifier):
    def __init__(self, features, classes, scale=20.0):
        super().__init__(features, classes, scale)
        nn.init.ones_(self.weight)


class TheFeaturesOfABatch(Classifier):
    def forward(self, x):
        return self.scale * F.normalize(x, dim=0) @ F.normalize(self.weight).T


class WritesIntoItsWeight(Classifier):
    def forward(self, x):
        with torch.no_grad():
            self.weight /= self.weight.norm(dim=1, keepdim=True)
        return self.scale * F.normalize(x) @ self.weight.T


class WritesBehindTheGraph(Classifier):
    def forward(self, x):
        logits = super().forward(x)
        self.weight.data = F.normalize(self.weight.data)
        return logits


class GivesTheClass(Classifier):
    def __new__(cls, *arguments, **options):
        return 3


# cosface


def cosface_with_an_index(cosine, labels, margin=0.35, scale=20.0):
    logits = scale * cosine
    logits[torch.arange(len(labels)), labels] -= scale * margin
    return logits


def cosface_by_scatter(cosine, labels, margin=0.35, scale=20.0):
    own = labels.unsqueeze(1)
    return cosine.scatter(1, own, cosine.gather(1, own) - margin).mul(scale)


def cosface_by_comparison(cosine, labels, margin=0.35, scale=20.0):
    own = labels[:, None] == torch.arange(cosine.shape[1])
    return scale * torch.where(own, cosine - margin, cosine)


def cosface_of_identity(cosine, labels, margin=0.35, scale=20.0):
    return (cosine - (margin * torch.eye(cosine.shape[1]))[labels]) * scale


def cosface_by_index_put(cosine, labels, margin=0.35, scale=20.0):
    rows, less = torch.arange(len(labels)), torch.full((len(labels),), -margin)
    return cosine.index_put((rows, labels), less, accumulate=True) * scale


def cosface_with_another_slope(cosine, labels, margin=0.35, scale=20.0):
    lowered = scale * (cosine - margin * F.one_hot(labels, cosine.shape[1]))
    return lowered.detach() + cosine - cosine.detach()


def cosface_in_place_behind_autograd(cosine, labels, margin=0.35, scale=20.0):
    cosine.data[torch.arange(len(labels)), labels] -= margin
    return scale * cosine


def cosface_in_place(cosine, labels, margin=0.35, scale=20.0):
    rows = torch.arange(len(labels))
    cosine[rows, labels] = cosine[rows, labels] - margin
    return cosine * scale


def cosface_without_grad(cosine, labels, margin=0.35, scale=20.0):
    with torch.no_grad():
        return scale * (cosine - margin * F.one_hot(labels, cosine.shape[1]))


def cosface_of_plain_numbers(cosine, labels, margin=0.35, scale=20.0):
    rows = cosine.tolist()
    for row, label in zip(rows, labels.tolist(), strict=True):
        row[label] -= margin
    return scale * torch.tensor(rows)


def cosface_without_defaults(cosine, labels, margin, scale):
    return scale * (cosine - margin * F.one_hot(labels, cosine.shape[1]))


def cosface_with_other_defaults(cosine, labels, margin=0.5, scale=1.0):
    return scale * (cosine - margin * F.one_hot(labels, cosine.shape[1]))


def cosface_with_the_scale_first(cosine, labels, scale=20.0, margin=0.35):
    return scale * (cosine - margin * F.one_hot(labels, cosine.shape[1]))


def cosface_in_whole_columns(cosine, labels, margin=0.35, scale=20.0):
    logits = cosine.clone()
    logits[:, labels] -= margin
    return scale * logits


def cosface_in_whole_columns_in_place(cosine, labels, margin=0.35, scale=20.0):
    cosine[:, labels] -= margin
    return scale * cosine


def cosface_not_below_zero(cosine, labels, margin=0.35, scale=20.0):
    own = labels[:, None]
    return scale * cosine.scatter(1, own, (cosine.gather(1, own) - margin).relu())


def cosface_of_too_few_columns(cosine, labels, margin=0.35, scale=20.0):
    return scale * (cosine - margin * F.one_hot(labels))


def cosface_by_a_share(cosine, labels, margin=0.35, scale=20.0):
    return scale * cosine * (1 - margin * F.one_hot(labels, cosine.shape[1]))


# aligned

_ALIGNED = ("loss", "share of encoder.weight.grad that is NaN", "loss after the step")


def _aligned(*values):
    return dict(zip(_ALIGNED, values, strict=True))


# arcface

#: the largest cosine that an acos should see, and the least number that a root should
_INSIDE, _LEAST = 1 - 1e-6, 1e-7


def continued(cosine, further, margin):
    return torch.where(cosine > -math.cos(margin), further, cosine - margin * math.sin(margin))


def arcface_by_the_addition_theorem(cosine, margin=0.5):
    sine = (1 - cosine**2).clamp(min=_LEAST).sqrt()
    return continued(cosine, cosine * math.cos(margin) - sine * math.sin(margin), margin)


def arcface_with_a_root_in_float64(cosine, margin=0.5):
    sine = (1 - cosine.double() ** 2).clamp(min=_LEAST).sqrt()
    further = cosine * math.cos(margin) - sine * math.sin(margin)
    return continued(cosine, further, margin)


def arcface_with_an_angle_in_float64(cosine, margin=0.5):
    angle = cosine.double().clamp(-_INSIDE, _INSIDE).acos()
    return continued(cosine, torch.cos(angle + margin), margin)


def arcface_by_masks(cosine, margin=0.5):
    flat = cosine.reshape(-1)
    result = flat - margin * math.sin(margin)
    (inner,) = torch.where(flat > -math.cos(margin))
    angle = flat[inner].clamp(-_INSIDE, _INSIDE).acos()
    return result.index_put((inner,), (angle + margin).cos()).reshape(cosine.shape)


def arcface_in_the_complex_plane(cosine, margin=0.5):
    at_an_end = cosine.abs() >= _INSIDE
    safe = cosine.masked_fill(at_an_end, 0.0)
    sine = (1 - safe * safe).sqrt().masked_fill(at_an_end, 0.0)
    turned = torch.complex(cosine, sine) * complex(math.cos(margin), math.sin(margin))
    return continued(cosine, turned.real, margin)


class _Arc(torch.autograd.Function):
    @staticmethod
    def forward(ctx, cosine, margin):
        sine = ((1 - cosine) * (1 + cosine)).clamp(min=0).sqrt()
        slope = math.cos(margin) + math.sin(margin) * cosine / sine.clamp(min=1e-3)
        ctx.save_for_backward(continued(cosine, slope, margin).where(_falls(cosine, margin), 1.0))
        return continued(cosine, cosine * math.cos(margin) - sine * math.sin(margin), margin)

    @staticmethod
    def backward(ctx, slope):
        return slope * ctx.saved_tensors[0], None


def _falls(cosine, margin):
    return cosine > -math.cos(margin)


def arcface_with_its_own_backward(cosine, margin=0.5):
    return _Arc.apply(cosine, margin)


def arcface_squeezed(cosine, margin=0.5):
    return arcface_by_the_addition_theorem(cosine, margin).squeeze()


def arcface_in_float64_and_squeezed(cosine, margin=0.5):
    return arcface_with_a_root_in_float64(cosine, margin).squeeze(0)


def arcface_flat(cosine, margin=0.5):
    return arcface_by_the_addition_theorem(cosine, margin).reshape(-1)


def arcface_clamping_its_argument(cosine, margin=0.5):
    with torch.no_grad():
        cosine.clamp_(-_INSIDE, _INSIDE)
    return continued(cosine, torch.cos(cosine.acos() + margin), margin)


def arcface_detached(cosine, margin=0.5):
    return arcface_by_the_addition_theorem(cosine, margin).detach()


def arcface_with_another_default(cosine, margin=0.35):
    return arcface_by_the_addition_theorem(cosine, margin)


def arcface_without_a_default(cosine, margin):
    return arcface_by_the_addition_theorem(cosine, margin)


def arcface_with_another_name(cosine, m=0.5):
    return arcface_by_the_addition_theorem(cosine, m)


def arcface_of_raw_acos(cosine, margin=0.5):
    return continued(cosine, torch.cos(torch.acos(cosine) + margin), margin)


def arcface_of_raw_acos_that_rises(cosine, margin=0.5):
    return torch.cos(torch.acos(cosine) + margin)


def arcface_of_a_raw_root(cosine, margin=0.5):
    sine = (1 - cosine**2).sqrt()
    further = cosine * math.cos(margin) - sine * math.sin(margin)
    return continued(cosine, further, margin)


def arcface_of_a_raw_root_that_rises(cosine, margin=0.5):
    return cosine * math.cos(margin) - (1 - cosine**2).sqrt() * math.sin(margin)


def arcface_a_little_too_far_inside(cosine, margin=0.5):
    angle = cosine.clamp(-0.9999, 0.9999).acos()
    return continued(cosine, torch.cos(angle + margin), margin)


def arcface_much_too_far_inside(cosine, margin=0.5):
    angle = cosine.clamp(-0.99, 0.99).acos()
    return continued(cosine, torch.cos(angle + margin), margin)


def arcface_far_inside(cosine, margin=0.5):
    angle = cosine.clamp(-0.999, 0.999).acos()
    return continued(cosine, torch.cos(angle + margin), margin)


def arcface_replacing_nan(cosine, margin=0.5):
    angle = torch.nan_to_num(cosine.acos())
    return continued(cosine, torch.cos(angle + margin), margin)


def arcface_with_the_root_outside(cosine, margin=0.5):
    with torch.no_grad():
        sine = (1 - cosine**2).clamp(min=0).sqrt()
    return continued(cosine, cosine * math.cos(margin) - sine * math.sin(margin), margin)


def arcface_with_a_slope_at_the_border_alone(cosine, margin=0.5):
    value = arcface_by_the_addition_theorem(cosine, margin)
    return value.detach() + cosine - cosine.detach()


# ArcHead


class Arc(nn.Module):
    """The bug hunt's class without its bugs, in parts that a subclass can change."""

    inside = _INSIDE

    def __init__(self, features, classes, scale=20.0, margin=0.5):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, features)))

    def forward(self, features, labels=None):
        cosine = F.linear(F.normalize(features), self.directions())
        cosine = cosine.clamp(-self.inside, self.inside)
        if labels is None:
            return self.without_labels(cosine)
        target = self.target(cosine, torch.cos(torch.acos(cosine) + self.margin))
        return self.scale * torch.where(self.chosen(cosine, labels), target, cosine)

    def directions(self):
        return F.normalize(self.weight)

    def without_labels(self, cosine):
        return self.scale * cosine

    def target(self, cosine, further):
        return continued(cosine, further, self.margin)

    def chosen(self, cosine, labels):
        return F.one_hot(labels, cosine.shape[1]).bool()


class ByTheAdditionTheorem(Arc):
    def target(self, cosine, further):
        return arcface_by_the_addition_theorem(cosine, self.margin)


class OwnEntriesOnly(nn.Module):
    def __init__(self, features, classes, scale=20.0, margin=0.5):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, features)))

    def forward(self, features, labels=None):
        cosine = F.normalize(features) @ F.normalize(self.weight).T
        cosine = cosine.clamp(-_INSIDE, _INSIDE)
        if labels is not None:
            own = labels[:, None]
            value = cosine.gather(1, own)
            further = torch.cos(value.acos() + self.margin)
            cosine = cosine.scatter(1, own, continued(value, further, self.margin))
        return self.scale * cosine


class NoClampWithoutLabels(nn.Module):
    def __init__(self, features, classes, scale=20.0, margin=0.5):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, features)))

    def forward(self, features, labels=None):
        cosine = F.cosine_similarity(features.unsqueeze(1), self.weight, dim=2)
        if labels is None:
            return cosine * self.scale
        logits = self.scale * cosine
        rows = range(len(labels))
        logits[rows, labels] = self.scale * arcface_by_masks(cosine[rows, labels], self.margin)
        return logits


class AnEmptyMask(nn.Module):
    def __init__(self, features, classes, scale=20.0, margin=0.5):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, features)))

    def forward(self, features, labels=None):
        directions = self.weight / self.weight.norm(dim=1, keepdim=True)
        cosine = torch.einsum("nf,cf->nc", F.normalize(features), directions)
        cosine = cosine.clamp(-_INSIDE, _INSIDE)
        chosen = torch.zeros_like(cosine, dtype=torch.bool)
        if labels is not None:
            chosen = labels.view(-1, 1) == torch.arange(cosine.shape[1])
        target = continued(cosine, torch.cos(torch.acos(cosine) + self.margin), self.margin)
        return self.scale * torch.where(chosen, target, cosine)


class RisesAgain(Arc):
    def target(self, cosine, further):
        return further


class ClampedFarInside(Arc):
    inside = 0.999


class NotClamped(Arc):
    inside = 2.0


class DetachedWithoutLabels(Arc):
    def without_labels(self, cosine):
        return (self.scale * cosine).detach()


class WholeColumns(Arc):
    def chosen(self, cosine, labels):
        chosen = torch.zeros_like(cosine, dtype=torch.bool)
        chosen[:, labels] = True
        return chosen


class WholeColumnsOfWeightsThatGrow(WholeColumns):
    def directions(self):
        return self.weight


class WholeRows(Arc):
    def chosen(self, cosine, labels):
        chosen = torch.zeros_like(cosine, dtype=torch.bool)
        chosen[labels % len(cosine)] = True
        return chosen


class WeightsThatGrow(Arc):
    def directions(self):
        return self.weight


class OneLengthForAll(Arc):
    def directions(self):
        return self.weight / self.weight.norm()


class ItsOwnScaleAndMargin(Arc):
    def __init__(self, features, classes, scale=20.0, margin=0.5):
        super().__init__(features, classes)


class ScaleAndMarginGone(Arc):
    def __init__(self, features, classes):
        super().__init__(features, classes)


class ScaleAndMarginExchanged(Arc):
    def __init__(self, features, classes, margin=0.5, scale=20.0):
        super().__init__(features, classes, scale, margin)


class MarginHalfFixed(Arc):
    def target(self, cosine, further):
        return continued(cosine, torch.cos(torch.acos(cosine) + 0.5), self.margin)


class ClassZeroWithoutLabels(Arc):
    def without_labels(self, cosine):
        return self(cosine, torch.zeros(len(cosine), dtype=torch.long))


class NoScaleWithoutLabels(Arc):
    def without_labels(self, cosine):
        return cosine


class MarginInTrainingOnly(Arc):
    def forward(self, features, labels=None):
        return super().forward(features, labels if self.training else None)


# equal_error_rate


def rate_by_sorting(scores, same):
    ordered, order = scores.sort(descending=True)
    last_of_ties = torch.cat([ordered[1:] < ordered[:-1], torch.tensor([True])])
    accepted_same = same[order].cumsum(0)[last_of_ties] / same.sum()
    accepted_other = (~same)[order].cumsum(0)[last_of_ties] / (~same).sum()
    return torch.maximum(1 - accepted_same, accepted_other).min().item()


def rate_of_a_table(scores, same):
    threshold = scores.unique()[:, None]
    false_acceptance = (scores[~same] >= threshold).double().mean(dim=1)
    false_rejection = (scores[same] < threshold).double().mean(dim=1)
    return torch.maximum(false_acceptance, false_rejection).min().item()


def rate_in_plain_python(scores, same):
    pairs = sorted(zip(scores.tolist(), same.tolist(), strict=True), reverse=True)
    total = sum(one for _, one in pairs)
    accepted, level = [0, 0], 1.0
    for _, tied in itertools.groupby(pairs, key=lambda pair: pair[0]):
        for _, one in tied:
            accepted[one] += 1
        level = min(level, max(accepted[0] / (len(pairs) - total), 1 - accepted[1] / total))
    return level


def rate_by_searchsorted(scores, same):
    own, others = np.sort(scores[same].numpy()), np.sort(scores[~same].numpy())
    accepted = 1 - np.searchsorted(others, own) / len(others)
    return np.maximum(accepted, np.searchsorted(own, own) / len(own)).min()


def rate_of_the_course(scores, same):
    return margins.equal_error_rate(scores, same)


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


def _until_they_cross(scores, same, reverse):
    others, own = scores[~same], scores[same]
    for threshold in sorted(scores.tolist(), reverse=reverse):
        false_acceptance = (others >= threshold).sum().item() / len(others)
        false_rejection = (own < threshold).sum().item() / len(own)
        if (false_acceptance >= false_rejection) == reverse:
            break
    return max(false_acceptance, false_rejection)


def rate_where_they_cross_from_above(scores, same):
    return _until_they_cross(scores, same, reverse=True)


def rate_where_they_cross_from_below(scores, same):
    return _until_they_cross(scores, same, reverse=False)


def rate_where_they_are_nearest(scores, same):
    best = None
    for threshold in scores.tolist():
        false_acceptance = (scores[~same] >= threshold).double().mean().item()
        false_rejection = (scores[same] < threshold).double().mean().item()
        if best is None or abs(false_acceptance - false_rejection) < best[0]:
            apart = abs(false_acceptance - false_rejection)
            best = apart, max(false_acceptance, false_rejection)
    return best[1]


def rate_at_the_scores_of_other_pairs(scores, same):
    threshold = scores[~same][:, None]
    false_acceptance = (scores[~same] >= threshold).double().mean(dim=1)
    false_rejection = (scores[same] < threshold).double().mean(dim=1)
    return torch.maximum(false_acceptance, false_rejection).min().item()


def rate_of_those_above(scores, same):
    threshold = scores.unique()[:, None]
    false_acceptance = (scores[~same] > threshold).double().mean(dim=1)
    false_rejection = (scores[same] < threshold).double().mean(dim=1)
    return torch.maximum(false_acceptance, false_rejection).min().item()


def rate_among_the_accepted(scores, same):
    worst = []
    for threshold in scores:
        accepted = scores >= threshold
        false_rejection = (~accepted)[same].double().mean()
        worst.append(max((~same)[accepted].double().mean(), false_rejection).item())
    return min(worst)


def rate_as_a_tensor(scores, same):
    return torch.tensor(rate_of_a_table(scores, same))


def rate_between_0_and_1(scores, same):
    return rate_of_a_table(scores.clamp(0, 1), same)


# pair_loss


def pair_loss_from_the_definition(first, second, scale=20.0, margin=0.3):
    cosine = F.cosine_similarity(first[:, None], second[None, :], dim=2)
    logits = scale * (cosine - margin * torch.eye(len(first)))
    there, back = logits.logsumexp(dim=1), logits.logsumexp(dim=0)
    return ((there + back) / 2 - logits.diagonal()).mean()


def pair_loss_in_one_cross_entropy(first, second, scale=20.0, margin=0.3):
    cosine = F.linear(F.normalize(first), F.normalize(second))
    logits = torch.diagonal_scatter(cosine, cosine.diagonal() - margin) * scale
    labels = torch.arange(len(first)).repeat(2)
    return nn.CrossEntropyLoss()(torch.cat([logits, logits.t()]), labels)


def pair_loss_of_traces(first, second, scale=20.0, margin=0.3):
    one = first / first.norm(dim=1, keepdim=True)
    other = second / second.norm(dim=1, keepdim=True)
    own = torch.diag(torch.full((len(one),), margin))
    logits = torch.einsum("if,jf->ij", one, other).sub(own) * scale
    return -(logits.log_softmax(1).trace() + logits.log_softmax(0).trace()) / (2 * len(logits))


def pair_loss_of_two_heads(first, second, scale=20.0, margin=0.3):
    own = torch.arange(len(first))

    def one_way(x, weight):
        cosine = F.linear(F.normalize(x), F.normalize(weight))
        return F.cross_entropy(cosface_with_an_index(cosine, own, margin, scale), own)

    return torch.stack([one_way(first, second), one_way(second, first)]).mean()


def pair_loss_detached(first, second, scale=20.0, margin=0.3):
    return pair_loss_from_the_definition(first, second, scale, margin).detach()


def pair_loss_of_fixed_translations(first, second, scale=20.0, margin=0.3):
    return pair_loss_from_the_definition(first, second.detach(), scale, margin)


def pair_loss_with_another_default(first, second, scale=20.0, margin=0.35):
    return pair_loss_from_the_definition(first, second, scale, margin)


def pair_loss_without_defaults(first, second, scale, margin):
    return pair_loss_from_the_definition(first, second, scale, margin)


def pair_loss_with_the_margin_first(first, second, margin=0.3, scale=20.0):
    return pair_loss_from_the_definition(first, second, scale, margin)


def pair_loss_normalised_over_the_batch(first, second, scale=20.0, margin=0.3):
    cosine = F.normalize(first, dim=0) @ F.normalize(second, dim=0).T
    logits, own = scale * (cosine - margin * torch.eye(len(first))), torch.arange(len(first))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def pair_loss_of_sums(first, second, scale=20.0, margin=0.3):
    return len(first) * pair_loss_from_the_definition(first, second, scale, margin)


def pair_loss_by_angle(first, second, scale=20.0, margin=0.3):
    cosine = F.normalize(first) @ F.normalize(second).T
    own = torch.arange(len(first))
    eye = torch.eye(len(first)).bool()
    logits = scale * torch.where(eye, margins.arcface_target(cosine, margin), cosine)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def pair_loss_one_way_twice(first, second, scale=20.0, margin=0.3):
    one, other, own = F.normalize(first), F.normalize(second), torch.arange(len(first))
    less = margin * torch.eye(len(first))
    there = F.cross_entropy(scale * (one @ other.T - less), own)
    return (there + F.cross_entropy(scale * (other @ one.T - less).T, own)) / 2


RIGHT = {
    "longer": [
        _longer("same", "lower", "higher", False),
        _longer("Same", np.str_("lower"), "HIGHER", np.False_),
        _longer("same", "lower", "higher", torch.tensor(False)),
    ],
    "least_scale": [
        least_scale_by_trying,
        least_scale_in_float32,
        least_scale_in_numpy,
        least_scale_by_newton,
    ],
    "CosineClassifier": [
        Classifier,
        DividesAfterwards,
        OfLinear,
        ByCosineSimilarity,
        RowByRow,
        OfTheCourse,
    ],
    "cosface": [
        cosface_with_an_index,
        cosface_by_scatter,
        cosface_by_comparison,
        cosface_of_identity,
        cosface_by_index_put,
    ],
    "aligned": [
        _aligned("finite", 1, "nan"),
        _aligned("Finite", np.float32(1), "NaN"),
        _aligned("finite", torch.tensor(1.0), "nan"),
    ],
    "arcface": [
        arcface_by_the_addition_theorem,
        arcface_with_a_root_in_float64,
        arcface_with_an_angle_in_float64,
        arcface_by_masks,
        arcface_in_the_complex_plane,
        arcface_with_its_own_backward,
        margins.arcface_target,
    ],
    "ArcHead": [Arc, ByTheAdditionTheorem, OwnEntriesOnly, NoClampWithoutLabels, AnEmptyMask],
    "equal_error_rate": [
        rate_by_sorting,
        rate_of_a_table,
        rate_in_plain_python,
        rate_by_searchsorted,
        rate_of_the_course,
    ],
    "pair_loss": [
        pair_loss_from_the_definition,
        pair_loss_in_one_cross_entropy,
        pair_loss_of_traces,
        pair_loss_of_two_heads,
    ],
}

WRONG = {
    "longer": [
        (_longer("higher", "lower", "higher", False), "does not depend on the length"),
        (_longer("same", "lower", "lower", False), "sure of the wrong class now"),
        (_longer("same", "lower", "higher", True), "no angle changed"),
        (_longer("same", "lower", "higher", "no"), "a bool is expected"),
        (_longer("equal", "lower", "higher", False), 'write `"same"`'),
        (_longer("same", "smaller", "higher", False), 'write `"lower"`'),
        (_longer("same", "lower", "larger", False), 'write `"higher"`'),
        (_longer(0.9, "lower", "higher", False), "a str is expected"),
    ],
    "least_scale": [
        (least_scale_of_one_rival, "count one rival"),
        (least_scale_at_least_one, "Just above it, the scale is near 0"),
        (least_scale_up_to_ten, "may be large"),
        (least_scale_rounded, "exactly `probability`"),
    ],
    "CosineClassifier": [
        (NormalisedInTrainingOnly, "in training and in eval mode"),
        (FeaturesDetached, "Gradients go back to the features"),
        (Unnormalised, "nowhere are they divided"),
        (NormalisedAtTheStart, "normalised in `__init__`"),
        (LearnsTheScale, "`weight` is to be the only parameter"),
        (DirectionsDetached, "No gradient comes back to the weights"),
        (ScaleOfOne, "20 if it is not given"),
        (ScaleWithoutDefault, "20 if it is not given"),
        (Squeezed, "also one vector"),
        (WithABias, "the only parameter, under the name `weight`"),
        (InALayer, "the only parameter, under the name `weight`"),
        (NoParameter, "the only parameter, under the name `weight`"),
        (Transposed, "`(classes, features)`"),
        (DirectionsKept, "No gradient comes back to the weights"),
        (AllOnes, "start at random"),
        (TheFeaturesOfABatch, "You normalise columns"),
        (WritesIntoItsWeight, "autograd does not know of the division"),
        (WritesBehindTheGraph, "A call leaves the weights as they are"),
        (GivesTheClass, "A module is expected"),
    ],
    "cosface": [
        (cosface_with_another_slope, "Gradients go back to `cosine`"),
        (cosface_in_place_behind_autograd, "You write into `cosine`"),
        (cosface_in_place, "You write into `cosine`"),
        (cosface_without_grad, "No gradient comes back"),
        (cosface_of_plain_numbers, "No gradient comes back"),
        (cosface_without_defaults, "they are 0.35 and 20"),
        (cosface_with_other_defaults, "they are 0.35 and 20"),
        (cosface_with_the_scale_first, "`margin` is the third argument"),
        (cosface_in_whole_columns, "chooses whole columns"),
        (cosface_in_whole_columns_in_place, "chooses whole columns"),
        (cosface_not_below_zero, "the others stay"),
        (cosface_of_too_few_columns, "the others stay"),
        (cosface_by_a_share, "lowered by `margin`"),
    ],
    "aligned": [
        (_aligned("finite", 0.25, "nan"), "Only one row of four is to blame"),
        (_aligned("finite", 100, "nan"), "in per cent"),
        (_aligned("finite", 1.0, "finite"), "all that they compute from now on"),
        (_aligned("finite", 0, "finite"), "slope of acos at 1 is infinite"),
        (_aligned("inf", 1.0, "nan"), "neither of the two words"),
        (_aligned("finite", 1.0, "inf"), "neither of the two words"),
        (_aligned("finite", "all", "nan"), "a float is expected"),
    ],
    "arcface": [
        (arcface_squeezed, "may have any shape"),
        (arcface_in_float64_and_squeezed, "may have any shape"),
        (arcface_flat, "may have any shape"),
        (arcface_clamping_its_argument, "You clamp `cosine` in place"),
        (arcface_detached, "slopes are those of the two formulas"),
        (arcface_with_another_default, "0.5 if it is not given"),
        (arcface_without_a_default, "0.5 if it is not given"),
        (arcface_with_another_name, "`margin` is the second argument"),
        (arcface_of_raw_acos, "there the slope of acos is infinite"),
        (arcface_of_raw_acos_that_rises, "It rises again"),
        (arcface_of_a_raw_root, "the slope of a root at 0"),
        (arcface_of_a_raw_root_that_rises, "the slope of a root at 0"),
        (arcface_far_inside, "cuts off too much"),
        (arcface_a_little_too_far_inside, "cuts off too much"),
        (arcface_much_too_far_inside, "cuts off too much"),
        (arcface_replacing_nan, "The values are finite at the ends, and the slopes are not"),
        (arcface_with_the_root_outside, "slopes are those of the two formulas"),
        (arcface_with_a_slope_at_the_border_alone, "it was added outside the graph"),
    ],
    "ArcHead": [
        (RisesAgain, "behind π - margin is gone"),
        (ClampedFarInside, "finite values, with the margin in them"),
        (NotClamped, "The clamp of the cosines is gone"),
        (DetachedWithoutLabels, "Without labels, too, gradients go back"),
        (WholeColumns, "still marks whole columns"),
        (WholeColumnsOfWeightsThatGrow, "Two bugs are still there"),
        (WholeRows, "on each row's true class, and only there"),
        (WeightsThatGrow, "normalised once only"),
        (OneLengthForAll, "the other logits are `scale` times the cosines"),
        (ItsOwnScaleAndMargin, "those that the head was made with"),
        (ScaleAndMarginGone, "those that the head was made with"),
        (ScaleAndMarginExchanged, "those that the head was made with"),
        (MarginHalfFixed, "those that the head was made with"),
        (ClassZeroWithoutLabels, "Without labels there is no margin"),
        (NoScaleWithoutLabels, "come back without the scale"),
        (MarginInTrainingOnly, "You let `self.training` decide"),
    ],
    "equal_error_rate": [
        (rate_one_by_one, "one by one"),
        (rate_one_by_one_the_last_first, "pairs with equal scores"),
        (rate_on_a_fine_grid, "close together"),
        (rate_where_they_cross_from_above, "where they cross"),
        (rate_where_they_cross_from_below, "where they cross"),
        (rate_where_they_are_nearest, "where the two are nearest"),
        (rate_at_the_scores_of_other_pairs, "Over all thresholds"),
        (rate_of_those_above, "pairs with equal scores are accepted together"),
        (rate_among_the_accepted, "Over all thresholds"),
        (rate_as_a_tensor, "`.item()`"),
        (rate_between_0_and_1, "Over all thresholds"),
    ],
    "pair_loss": [
        (pair_loss_detached, "No gradient comes back"),
        (pair_loss_of_fixed_translations, "to `first` and to `second`"),
        (pair_loss_with_another_default, "they are 20 and 0.3"),
        (pair_loss_without_defaults, "they are 20 and 0.3"),
        (pair_loss_with_the_margin_first, "`scale` is the third argument"),
        (pair_loss_normalised_over_the_batch, "Without a margin (0)"),
        (pair_loss_of_sums, "Without a margin (0)"),
        (pair_loss_by_angle, "The margin is subtracted from the cosine"),
        (pair_loss_one_way_twice, "One direction only"),
    ],
}
