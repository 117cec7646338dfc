"""Answers to the exercises of chapter 08."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from chapters.margin_losses import exercises as ex

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


# CosineClassifier


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


class GivesTheClass(nn.Module):
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


def arcface_of_a_raw_root(cosine, margin=0.5):
    sine = (1 - cosine**2).sqrt()
    further = cosine * math.cos(margin) - sine * math.sin(margin)
    return continued(cosine, further, margin)


def arcface_with_the_root_outside(cosine, margin=0.5):
    with torch.no_grad():
        sine = (1 - cosine**2).clamp(min=0).sqrt()
    return continued(cosine, cosine * math.cos(margin) - sine * math.sin(margin), margin)


# ArcHead


class OwnEntriesOnly(ex.ArcHead.reference):
    def forward(self, features, labels=None):
        cosine = F.normalize(features) @ F.normalize(self.weight).T
        cosine = cosine.clamp(-_INSIDE, _INSIDE)
        if labels is not None:
            own = labels[:, None]
            value = cosine.gather(1, own)
            further = torch.cos(value.acos() + self.margin)
            cosine = cosine.scatter(1, own, continued(value, further, self.margin))
        return self.scale * cosine


class NoClampWithoutLabels(ex.ArcHead.reference):
    def forward(self, features, labels=None):
        cosine = F.cosine_similarity(features.unsqueeze(1), self.weight, dim=2)
        if labels is None:
            return cosine * self.scale
        logits = self.scale * cosine
        rows = range(len(labels))
        logits[rows, labels] = self.scale * arcface_by_masks(cosine[rows, labels], self.margin)
        return logits


class AnEmptyMask(ex.ArcHead.reference):
    def forward(self, features, labels=None):
        directions = self.weight / self.weight.norm(dim=1, keepdim=True)
        cosine = torch.einsum("nf,cf->nc", F.normalize(features), directions)
        cosine = cosine.clamp(-_INSIDE, _INSIDE)
        chosen = torch.zeros_like(cosine, dtype=torch.bool)
        if labels is not None:
            chosen = labels.view(-1, 1) == torch.arange(cosine.shape[1])
        target = continued(cosine, torch.cos(torch.acos(cosine) + self.margin), self.margin)
        return self.scale * torch.where(chosen, target, cosine)


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


def rate_one_by_one_the_last_first(scores, same):
    scores, same = scores.flip(0), same.flip(0)
    order = scores.argsort(descending=True, stable=True)
    accepted_same = same[order].cumsum(0) / same.sum()
    accepted_other = (~same)[order].cumsum(0) / (~same).sum()
    return torch.maximum(1 - accepted_same, accepted_other).min().item()


def rate_on_a_fine_grid(scores, same):
    worst = []
    for threshold in torch.linspace(scores.min(), scores.max(), 2000):
        accepted = scores >= threshold
        worst.append(max(accepted[~same].float().mean(), (~accepted)[same].float().mean()).item())
    return min(worst)


def rate_where_they_cross(scores, same):
    others, own = scores[~same], scores[same]
    for threshold in sorted(scores.tolist(), reverse=True):
        false_acceptance = (others >= threshold).sum().item() / len(others)
        false_rejection = (own < threshold).sum().item() / len(own)
        if false_acceptance >= false_rejection:
            break
    return max(false_acceptance, false_rejection)


def mean_where_nearest(dtype, thresholds):
    def equal_error_rate(scores, same):
        limits = thresholds(scores)
        accepted = torch.stack([(scores[~same] >= t).to(dtype).mean() for t in limits])
        rejected = torch.stack([(scores[same] < t).to(dtype).mean() for t in limits])
        place = (accepted - rejected).abs().argmin()
        return ((accepted[place] + rejected[place]) / 2).item()

    return equal_error_rate


THRESHOLDS = (
    lambda scores: scores,
    lambda scores: scores.unique(),
    lambda scores: scores.unique().flip(0),
    lambda scores: torch.cat([scores.unique(), torch.tensor([math.inf])]),
    lambda scores: torch.cat([torch.tensor([math.inf]), scores.sort(descending=True).values]),
)


def mean_where_they_cross(scores, same):
    for threshold in sorted(scores.tolist(), reverse=True):
        accepted = np.mean((scores[~same] >= threshold).numpy())
        rejected = np.mean((scores[same] < threshold).numpy())
        if accepted >= rejected:
            return float(accepted + rejected) / 2


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


def pair_loss_of_two_heads(first, second, scale=20.0, margin=0.3):
    own = torch.arange(len(first))

    def one_way(x, weight):
        cosine = F.linear(F.normalize(x), F.normalize(weight))
        return F.cross_entropy(cosface_with_an_index(cosine, own, margin, scale), own)

    return torch.stack([one_way(first, second), one_way(second, first)]).mean()


RIGHT = {
    "least_scale": [
        least_scale_by_trying,
        least_scale_in_float32,
        least_scale_in_numpy,
    ],
    "CosineClassifier": [DividesAfterwards, OfLinear, ByCosineSimilarity],
    "cosface": [
        cosface_with_an_index,
        cosface_by_scatter,
        cosface_by_comparison,
    ],
    "arcface": [
        arcface_by_the_addition_theorem,
        arcface_with_a_root_in_float64,
        arcface_by_masks,
        arcface_in_the_complex_plane,
        arcface_with_its_own_backward,
    ],
    "ArcHead": [OwnEntriesOnly, NoClampWithoutLabels, AnEmptyMask],
    "equal_error_rate": [
        rate_by_sorting,
        rate_of_a_table,
        rate_in_plain_python,
    ],
    "pair_loss": [
        pair_loss_from_the_definition,
        pair_loss_in_one_cross_entropy,
        pair_loss_of_two_heads,
    ],
}

WRONG = {
    "least_scale": [
        (
            "return math",
            "return max(1.0, math",
            "other)",
            "other))",
            "Just above it, the scale is near 0",
        ),
        ("return math", "return min(10.0, math", "other)", "other))", "may be large"),
        ("return math", "return round(math", "other)", "other), 2)", "exactly `probability`"),
    ],
    "CosineClassifier": [
        (
            "F.normalize(self.weight, dim=1)",
            "F.normalize(self.weight) if self.training else self.weight",
            "in training and in eval mode",
        ),
        ("F.normalize(x, dim=1)", "F.normalize(x.detach())", "Gradients go back to the features"),
        ("scale=20.0", "scale=1.0", "20 if it is not given"),
        ("scale=20.0", "scale", "20 if it is not given"),
        (
            "return self.scale * F.normalize(x, dim=1) @",
            "return self.scale * (F.normalize(x) @",
            "directions.T",
            "directions.T).squeeze()",
            "also one vector",
        ),
        (
            "self.scale = scale",
            "self.scale, self.bias = scale, nn.Parameter(torch.zeros(classes))",
            "directions.T",
            "directions.T + self.bias",
            "the only parameter, under the name `weight`",
        ),
        (
            "self.weight = nn.Parameter(torch.randn(classes, features))",
            "self.layer = nn.Linear(features, classes, bias=False)",
            "self.weight,",
            "self.layer.weight,",
            "the only parameter, under the name `weight`",
        ),
        (
            "nn.Parameter(torch.randn(classes, features))",
            "torch.randn(classes, features).requires_grad_()",
            "the only parameter, under the name `weight`",
        ),
        (
            "(classes, features)",
            "(features, classes)",
            "F.normalize(self.weight, dim=1)",
            "F.normalize(self.weight, dim=0).T",
            "`(classes, features)`",
        ),
        ("torch.randn", "torch.ones", "start at random"),
        (
            "return ",
            "self.weight.data = directions.data.clone()\n        return ",
            "A call leaves the weights as they are",
        ),
        (GivesTheClass, "A module is expected"),
        *(
            ("self.scale * ", "", "@ directions.T", division, "You divide by the scale")
            for division in ("@ (directions.T / self.scale)", "@ directions.T * (1 / self.scale)")
        ),
        ("self.scale = scale", "self.scale = 1 / scale", "You divide by the scale"),
        ("self.scale = scale", "self.scale = 20", "The scale that is given is not used"),
    ],
    "cosface": [
        (
            "scale * (cosine",
            "cosine - cosine.detach() + scale * (cosine.detach()",
            "Gradients go back to `cosine`",
        ),
        ("margin=0.35, scale=20.0", "margin, scale", "they are 0.35 and 20"),
        ("margin=0.35, scale=20.0", "margin=0.5, scale=1.0", "they are 0.35 and 20"),
        ("margin=0.35, scale=20.0", "scale=20.0, margin=0.35", "`margin` is the third argument"),
        (
            "cosine - margin * own",
            "torch.where(own > 0, (cosine - margin).relu(), cosine)",
            "the others stay",
        ),
        (", cosine.shape[1]", "", "the others stay"),
        ("(cosine - margin * own)", "cosine * (1 - margin * own)", "lowered by `margin`"),
    ],
    "arcface": [
        ("further, beyond)", "further, beyond).squeeze()", "may have any shape"),
        ("further, beyond)", "further, beyond).detach()", "slopes are those of the two formulas"),
        ("margin=0.5", "margin=0.35", "0.5 if it is not given"),
        ("margin=0.5", "margin", "0.5 if it is not given"),
        ("margin=0.5):", "m=0.5):\n    margin = m", "`margin` is the second argument"),
        (arcface_of_a_raw_root, "the slope of a root at 0"),
        (arcface_with_the_root_outside, "slopes are those of the two formulas"),
    ],
    "ArcHead": [
        ("-0.999999, 0.999999", "-0.999, 0.999", "finite values, with the margin in them"),
        (
            "return self.scale * cosine",
            "return self.scale * cosine.detach()",
            "Without labels, too, gradients go back",
        ),
        (
            "torch.arange(len(labels)), labels",
            "labels % len(cosine)",
            "on each row's true class, and only there",
        ),
        (
            "F.normalize(self.weight).T",
            "(self.weight / self.weight.norm()).T",
            "the other logits are `scale` times the cosines",
        ),
        ("= scale, margin", "= 20.0, 0.5", "those that the head was made with"),
        (
            ", scale=20.0, margin=0.5",
            "",
            "= scale, margin",
            "= 20.0, 0.5",
            "those that the head was made with",
        ),
        ("scale=20.0, margin=0.5", "margin=0.5, scale=20.0", "those that the head was made with"),
        (
            "return self.scale * cosine",
            "labels = torch.zeros(len(cosine), dtype=torch.long)",
            "Without labels there is no margin",
        ),
    ],
    "equal_error_rate": [
        (rate_one_by_one_the_last_first, "pairs with equal scores"),
        (rate_on_a_fine_grid, "close together"),
        (rate_where_they_cross, "You take the larger rate where"),
        *(
            (mean_where_nearest(dtype, thresholds), "no threshold makes them equal")
            for dtype in (torch.float32, torch.float64)
            for thresholds in THRESHOLDS
        ),
        (mean_where_they_cross, "no threshold makes them equal"),
        ("scores.unique()", "scores[~same]", "Over all thresholds"),
        (
            "accepted[~same]",
            "(scores > threshold)[~same]",
            "pairs with equal scores are accepted together",
        ),
        ("accepted[~same]", "(~same)[accepted]", "Over all thresholds"),
        ("min(worst)", "torch.tensor(min(worst))", "`.item()`"),
        ("worst = []", "worst, scores = [], scores.clamp(0, 1)", "Over all thresholds"),
    ],
    "pair_loss": [
        ("F.normalize(second)", "F.normalize(second.detach())", "to `first` and to `second`"),
        ("margin=0.3", "margin=0.35", "they are 20 and 0.3"),
        ("scale=20.0, margin=0.3", "scale, margin", "they are 20 and 0.3"),
        ("scale=20.0, margin=0.3", "margin=0.3, scale=20.0", "`scale` is the third argument"),
        (
            "F.normalize(first) @ F.normalize(second).T",
            "F.normalize(first, dim=0) @ F.normalize(second, dim=0).T",
            "Without a margin (0)",
        ),
        ("/ 2", "/ 2 * len(first)", "Without a margin (0)"),
        (
            "F.normalize(first) @ F.normalize(second).T",
            "F.normalize(first) @ second.T",
            "not cosines",
        ),
        (
            "F.normalize(first) @ F.normalize(second).T",
            "torch.einsum('if,jf->ij', first, second / second.norm(dim=1, keepdim=True))",
            "not cosines",
        ),
        ("(there + back) / 2", "F.cross_entropy(logits.T, own)", "One direction only"),
        ("logits, own", "scale * cosine, own", "missing in one of the two directions"),
        (
            "cosine - margin * F.one_hot(own, len(own))",
            "torch.where(F.one_hot(own) > 0, (cosine.acos() + margin).cos(), cosine)",
            "The margin is subtracted from the cosine",
        ),
    ],
}
