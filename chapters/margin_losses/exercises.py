"""The exercises of chapter 08: lengths, angles, and how much more than right to ask for."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from helpers.exercises import Case, Exercises, Words

chapter = Exercises(__file__)


@chapter.prediction
def longer():
    features, weight = torch.randn(1000, 8), torch.randn(5, 8)
    labels = (features @ weight.T).argmax(dim=1)
    first, second = (features @ weight.T).topk(2, dim=1).values.T
    sure = (first - second).topk(100).indices  # these are labelled as another class
    labels[sure] = (labels[sure] + 1) % 5
    long = 10 * features

    def seen(x):
        logits = x @ weight.T
        right = logits.argmax(dim=1) == labels
        loss = F.cross_entropy(logits, labels, reduction="none")
        return right.float().mean().item(), loss[right].mean().item(), loss[~right].mean().item()

    def word(before, after):
        return "same" if math.isclose(before, after) else ("higher" if after > before else "lower")

    accuracy, loss_right, loss_wrong = map(word, seen(features), seen(long))
    before, after = (F.cosine_similarity(x, weight[:1]) for x in (features, long))
    return {
        "accuracy": accuracy,
        "mean loss of the rows it gets right": loss_right,
        "mean loss of the rows it gets wrong": loss_wrong,
        "the cosine of any feature and any class weight changes": not torch.allclose(
            before, after, atol=1e-5
        ),
    }


@chapter.exercise(
    cases=lambda: [
        Case(f"{classes} classes, probability {p}", classes, p)
        for classes, p in ((2, 0.9), (3, 0.9), (10, 0.9), (10, 0.999), (1000, 0.99))
    ],
)
def least_scale(classes, probability):
    other = -1 / (classes - 1)
    return math.log((classes - 1) * probability / (1 - probability)) / (1 - other)


def _numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


_NO_SLOPE = Words("no gradient comes back")


def _slopes(result, *inputs):
    """The gradients of a weighted sum of ``result``, or a word for each that does not arrive."""
    if not (isinstance(result, torch.Tensor) and result.requires_grad):
        return (_NO_SLOPE,) * len(inputs)
    total = (result * _numbers(*result.shape, seed=2)).sum()
    found = torch.autograd.grad(total, inputs, allow_unused=True)
    return tuple(_NO_SLOPE if slope is None else slope for slope in found)


def _values(result):
    return result.detach() if isinstance(result, torch.Tensor) else result


def _after_the_optimizer(answer, features, classes, scale, x):
    head = answer(features, classes, scale=scale)
    matrices = [p for p in head.parameters() if p.shape == (classes, features)]
    at_start = [F.cosine_similarity(x[:, None], matrix, dim=2) for matrix in matrices]
    starts = [tuple(row.tolist()) for matrix in matrices for row in matrix]
    first = head(x)
    weight = 3 * _numbers(classes, features, seed=1)
    with torch.no_grad():
        for matrix in matrices:
            matrix.copy_(weight)
    x = x.clone().requires_grad_()
    logits = head(x)
    slope, *moved = _slopes(logits, x, *matrices)
    return {
        "parameters": sorted(name for name, _ in head.named_parameters()),
        "a weight for each class and feature": len(matrices) == 1,
        "each class has a direction of its own at the start": len(set(starts)) == len(starts),
        "cosines times the scale at the start": any(
            torch.allclose(first, scale * cosine, rtol=0, atol=1e-3 * scale) for cosine in at_start
        ),
        "logits once the weights have moved": _values(logits),
        "slope of the features": slope,
        "slope of the weights": moved,
        "logits in eval mode": _values(head.eval()(x)),
    }


@chapter.exercise(
    cases=lambda: [
        Case("5 features, 3 classes", 5, 3, 20.0, _numbers(6, 5)),
        Case("features a hundred times as long", 5, 3, 20.0, 100 * _numbers(6, 5)),
        Case("2 features, 4 classes, scale 1", 2, 4, 1.0, _numbers(3, 2)),
    ],
    observe=_after_the_optimizer,
)
class CosineClassifier(nn.Module):
    def __init__(self, features, classes, scale=20.0):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(classes, features))

    def forward(self, x):
        directions = F.normalize(self.weight, dim=1)
        return self.scale * F.normalize(x, dim=1) @ directions.T


def _cosines(n, classes):
    return F.linear(F.normalize(_numbers(n, 6)), F.normalize(_numbers(classes, 6, seed=1)))


def _far_from_their_classes():
    return torch.tensor([[-0.9, 0.2, 0.5], [0.1, 0.95, -1.0]]), torch.tensor([0, 2])


def _with_the_slope(answer, cosine, labels, margin, scale):
    start = cosine.clone().requires_grad_()
    given = 1 * start  # no leaf, so that a change in place is seen and not refused
    logits = answer(given, labels, margin=margin, scale=scale)
    (slope,) = _slopes(logits, start)
    return {
        "logits": _values(logits),
        "slope of the cosines": slope,
        "`cosine` afterwards": given.detach(),
    }


@chapter.exercise(
    cases=lambda: [
        Case("4 rows, 3 classes", _cosines(4, 3), torch.tensor([2, 0, 1, 1]), 0.35, 20.0),
        Case("3 rows, 6 classes", _cosines(3, 6), torch.tensor([4, 0, 4]), 0.35, 20.0),
        Case("margin 0.1, scale 64", _cosines(5, 4), torch.tensor([3, 3, 0, 1, 2]), 0.1, 64.0),
        Case("margin 0", _cosines(2, 3), torch.tensor([0, 2]), 0.0, 10.0),
        Case("an own cosine of -0.9", *_far_from_their_classes(), 0.35, 20.0),
    ],
    observe=_with_the_slope,
)
def cosface(cosine, labels, margin=0.35, scale=20.0):
    own = F.one_hot(labels, cosine.shape[1])
    return scale * (cosine - margin * own)


@chapter.prediction
def aligned():
    encoder = nn.Linear(2, 2, bias=False)
    nn.init.eye_(encoder.weight)
    weight = nn.Parameter(torch.eye(2))
    x, labels = torch.tensor([[3.0, 0.0], [1.0, 2.0], [2.0, 1.0], [1.0, 3.0]]), [0, 1, 0, 1]
    labels = torch.tensor(labels)
    optimizer = torch.optim.SGD([*encoder.parameters(), weight], lr=0.1)

    def loss_now():
        directions = F.normalize(encoder(x))
        cosine = directions @ F.normalize(weight).T
        is_target = F.one_hot(labels, 2).bool()
        further = torch.cos(torch.acos(cosine) + 0.5)
        logits = 20 * torch.where(is_target, further, cosine)
        return F.cross_entropy(logits, labels)

    first = loss_now()
    first.backward()
    share = encoder.weight.grad.isnan().float().mean().item()
    optimizer.step()
    word = {True: "finite", False: "nan"}
    return {
        "loss": word[first.isfinite().item()],
        "share of encoder.weight.grad that is NaN": share,
        "loss after the step": word[loss_now().isfinite().item()],
    }


def _inside_and_at_the_ends(answer, margin):
    inside = torch.linspace(-0.999, 0.999, 41)[:, None].requires_grad_()
    values = answer(1 * inside, margin)
    (slopes,) = _slopes(values, inside)
    ends = torch.tensor([[1.0, -1.0], [1.0000001, -1.0000001]], requires_grad=True)
    given = 1 * ends  # no leaf, so that a change in place is seen and not refused
    at_ends = answer(given, margin)
    (end_slopes,) = _slopes(at_ends, ends)
    expected = torch.tensor([math.cos(margin), -1 - margin * math.sin(margin)])
    return {
        "values": _values(values),
        "slopes": _by_the_formula(slopes, inside.detach(), margin),
        "shape is kept": tuple(at_ends.shape),
        "values at the ends": _word(at_ends.isfinite().all()),
        "slope at the ends": end_slopes
        if end_slopes is _NO_SLOPE
        else _word(end_slopes.isfinite().all()),
        "values at the ends within 0.01": bool(((at_ends - expected).abs() < 0.01).all()),
        "`cosine` is left as it is": torch.equal(given, ends),
    }


def _by_the_formula(slopes, cosine, margin):
    """The formula's slopes where ``slopes`` are near them, else ``slopes`` as they are.

    Near an end they hang on the last bit of the cosine, which float64 has and float32 has not.
    """
    angle = cosine.double().acos()
    exact = (torch.sin(angle + margin) / angle.sin()).where(angle <= math.pi - margin, 1.0)
    exact = (exact * _numbers(*cosine.shape, seed=2)).float()
    if slopes is _NO_SLOPE or not torch.allclose(slopes, exact, rtol=1e-4, atol=1e-4):
        return slopes
    return exact


def _word(finite):
    return "finite" if finite else "not finite"


@chapter.exercise(
    cases=lambda: [
        Case("margin 0.5", 0.5),
        Case("margin 0.2", 0.2),
        Case("margin 1.0", 1.0),
        Case("margin 0", 0.0),
    ],
    observe=_inside_and_at_the_ends,
)
def arcface(cosine, margin=0.5):
    angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
    further = torch.cos(angle + margin)
    beyond = cosine - margin * math.sin(margin)
    return torch.where(angle <= math.pi - margin, further, beyond)


def _with_and_without_labels(answer, features, classes, x, labels, length=1.0):
    head = answer(features, classes)
    names = [name for name, _ in head.named_parameters()]
    with torch.no_grad():
        head.weight.copy_(length * F.normalize(_numbers(classes, features, seed=3)))
    logits, plain = head(x, labels), head(x)
    return {
        "parameters": names,
        "logits without labels": _values(plain),
        "slope of the weights without labels": _slopes(plain, head.weight)[0],
        "logits with labels": _values(logits),
        "slope of the weights": _slopes(logits, head.weight)[0],
        "weights afterwards": head.weight.detach().clone(),
        "logits in eval mode, with labels": _values(head.eval()(x, labels)),
        **_at_the_ends(head, classes, features),
    }


def _at_the_ends(head, classes, features):
    """What the head makes of rows on their class weight, opposite to it, and 0.02 beside it."""
    with torch.no_grad():
        head.weight.copy_(torch.eye(classes, features))
    rows = torch.zeros(3, features)
    rows[:, 0] = torch.tensor([1.0, -1.0, math.cos(0.02)])
    rows[2, 1] = math.sin(0.02)
    rows.requires_grad_()
    own = head(rows, torch.zeros(3, dtype=torch.long))[:, 0]
    wanted = 20 * torch.tensor([math.cos(0.5), -1 - 0.5 * math.sin(0.5), math.cos(0.52)])
    slopes = _slopes(own, rows)[0]
    return {
        "slopes at the cosines 1 and -1": slopes
        if slopes is _NO_SLOPE
        else _word(slopes.isfinite().all()),
        "own logits at the cosines 1, -1 and 0.9998, within 0.2": [
            bool(near) for near in (own - wanted).abs() < 0.2
        ],
    }


@chapter.exercise(
    cases=lambda: [
        Case("6 rows, 3 classes", 5, 3, _numbers(6, 5), torch.tensor([0, 1, 2, 2, 1, 0])),
        Case("the weights three times as long", 4, 4, _numbers(3, 4), torch.tensor([1, 1, 3]), 3.0),
    ],
    observe=_with_and_without_labels,
)
class ArcHead(nn.Module):
    """ArcFace. With labels, the margin is on each row's own class; without, there is none."""

    def __init__(self, features, classes, scale=20.0, margin=0.5):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, features)))

    def forward(self, features, labels=None):
        cosine = F.normalize(features) @ F.normalize(self.weight).T
        cosine = cosine.clamp(-1 + 1e-6, 1 - 1e-6)
        if labels is None:
            return self.scale * cosine
        chosen = torch.zeros_like(cosine, dtype=torch.bool)
        chosen[torch.arange(len(labels)), labels] = True

        further = torch.cos(torch.acos(cosine) + self.margin)
        beyond = cosine - self.margin * math.sin(self.margin)
        target = torch.where(cosine > -math.cos(self.margin), further, beyond)
        return self.scale * torch.where(chosen, target, cosine)


def _same(*flags):
    return torch.tensor(flags).bool()


def _overlapping():
    scores = torch.tensor([0.9, 0.5, 0.7, 0.2, 0.6, 0.1, -0.3, 0.4])
    return scores, _same(1, 1, 1, 1, 0, 0, 0, 0)


def _close_order():
    return _numbers(8) > 0


def _with_an_outlier():
    scores = torch.cat([0.5 + 1e-4 * _numbers(40, seed=5), torch.tensor([50.0])])
    same = torch.cat([_numbers(40, seed=5) + 0.5 * _numbers(40, seed=6) > 0, _same(1)])
    return scores, same


def _unbalanced():
    same = torch.arange(110) < 10
    return (_numbers(110) + 1.5 * same), same


def _tied():
    same = torch.arange(60) % 3 == 0
    return ((_numbers(60, seed=4) + same).round() / 4), same


@chapter.exercise(
    cases=lambda: [
        Case("a perfect order", torch.tensor([0.9, 0.8, 0.3, 0.1]), _same(1, 1, 0, 0)),
        Case("one of each kind on the wrong side", *_overlapping()),
        Case("100 pairs that differ for 10 that are the same", *_unbalanced()),
        Case("many equal scores", *_tied()),
        Case("scores that lie close together", 0.5037 + 1e-4 * _numbers(8), _close_order()),
        Case("two equal scores, the same pair first", torch.tensor([0.5, 0.5]), _same(1, 0)),
        Case("two equal scores, the same pair last", torch.tensor([0.5, 0.5]), _same(0, 1)),
        Case("close together, and one far away", *_with_an_outlier()),
        Case("all on the wrong side", torch.tensor([-0.9, -0.8, 0.3]), _same(1, 1, 0)),
    ],
)
def equal_error_rate(scores, same):
    worst = []
    for threshold in scores.unique():
        accepted = scores >= threshold
        false_acceptance = accepted[~same].float().mean().item()
        false_rejection = (~accepted)[same].float().mean().item()
        worst.append(max(false_acceptance, false_rejection))
    return min(worst)


def _translations(n):
    first = _numbers(n, 6)
    return 3 * first, first + 0.5 * _numbers(n, 6, seed=1)


def _with_slopes(answer, first, second, scale, margin):
    first, second = first.clone().requires_grad_(), second.clone().requires_grad_()
    loss = answer(first, second, scale=scale, margin=margin)
    to_first, to_second = _slopes(loss, first, second)
    value = torch.tensor(loss) if isinstance(loss, float) else _values(loss)
    return {"loss": value, "slope, first": to_first, "slope, second": to_second}


@chapter.exercise(
    cases=lambda: [
        Case("5 pairs", *_translations(5), 20.0, 0.3),
        Case("3 pairs, scale 5, margin 0.1", *_translations(3), 5.0, 0.1),
        Case("4 pairs, no margin", *_translations(4), 10.0, 0.0),
    ],
    observe=_with_slopes,
)
def pair_loss(first, second, scale=20.0, margin=0.3):
    cosine = F.normalize(first) @ F.normalize(second).T
    own = torch.arange(len(first), device=first.device)
    logits = scale * (cosine - margin * F.one_hot(own, len(own)))
    there = F.cross_entropy(logits, own)
    back = F.cross_entropy(logits.T, own)
    return (there + back) / 2
