"""The exercises of chapter 08: lengths, angles, and how much more than right to ask for."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from helpers.exercises import Case, Exercises, Shortfall, require
from helpers.exercises.observe import NO_GRADIENT, gradients, made, numbers

chapter = Exercises(__file__)
report = chapter.report


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
        "the cosine of any feature and any class vector changes": not torch.allclose(
            before, after, atol=1e-5
        ),
    }


def _as(name, value):
    """The observer that keeps ``value(answer, *arguments)`` under a name."""

    def observe(answer, *arguments):
        yield name, value(answer, *arguments)

    return observe


def _values(result):
    """A copy of a tensor in float32, since no prompt asks for a dtype."""
    if not isinstance(result, torch.Tensor):
        return result
    copy = result.detach().clone()
    return copy.float() if copy.is_floating_point() else copy


def _near(value, exact, distance):
    """``exact`` where ``value`` is as near to it as asked, else ``value``."""
    if not (isinstance(value, torch.Tensor) and value.shape == exact.shape):
        return value
    return exact if ((value - exact).abs() < distance).all() else _values(value)


def _weights_of(head, shape):
    """The parameter that holds the weights, whatever its name."""
    found = [p for p in head.parameters() if p.shape == shape]
    if len(found) != 1:
        raise Shortfall(
            f"The number of parameters of the shape {tuple(shape)}, which is `(classes, "
            f"features)`, is to be 1. It is {len(found)}."
        )
    return found[0]


def _weights(head, values):
    """The parameter that holds the weights, with other values in it."""
    weight = _weights_of(head, values.shape)
    with torch.no_grad():
        weight.copy_(values)
    return weight


def _shapes_of(head):
    return {name: tuple(p.shape) for name, p in head.named_parameters()}


def _angles_only(answer, x, weight, scale):
    head = made(answer, weight.shape[1], weight.shape[0], scale=scale)
    yield "parameters", _shapes_of(head)
    matrix = _weights(head, weight)
    yield "logits", _values(head(x))
    yield "weights", _values(matrix)
    matrix = _weights(head, weight)
    given = x.clone().requires_grad_()
    logits = require(head(given), torch.Tensor, "the logits")
    features, weights = gradients(logits / scale, given, matrix)
    yield "slope of the weights", weights
    yield "slope of the features", features


def _logits_alone(answer, x, weight, name, *options):
    head = made(answer, weight.shape[1], weight.shape[0], *options)
    _weights(head, weight)
    yield name, _values(head(x))


def _after_a_step(answer, x, weight):
    head = made(answer, weight.shape[1], weight.shape[0], scale=3.0)
    matrix = _weights(head, weight)
    optimizer = torch.optim.SGD(head.parameters(), lr=5.0)
    for _ in range(2):
        loss = F.cross_entropy(head(x), torch.arange(len(x)) % len(weight))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    yield "moved", (_values(matrix), _values(head(x)), _values(head.eval()(x)))


def _at_the_start(answer, x, classes):
    shape = classes, x.shape[1]
    heads = [made(answer, x.shape[1], classes) for _ in range(2)]
    first, second = (_weights_of(head, shape).detach() for head in heads)
    cosine = F.cosine_similarity(x[:, None], first, dim=2)
    exact = 20 * cosine
    yield "start", _near(heads[0](x), exact, 1e-3) is exact
    rows = {tuple(row.tolist()) for row in F.normalize(first)}
    yield "random", len(rows) == classes and not torch.equal(first, second)


@chapter.exercise(
    cases=lambda: [
        *(
            Case(
                f"{n} rows, {features} features about {x:g} long, {classes} classes, scale {scale}",
                x * numbers(n, features, seed=seed),
                w * numbers(classes, features, seed=seed + 50),
                scale,
            )
            for seed, (n, features, classes, scale, x, w) in enumerate(
                (
                    (6, 5, 3, 20.0, 1, 1),
                    (4, 3, 5, 1.0, 3, 2),
                    (7, 8, 2, 30.0, 50, 30),
                    (2, 2, 4, 5.0, 1000, 3),
                )
            )
        ),
        *(
            Case(
                label,
                *(x * numbers(n, features, seed=7), x * numbers(classes, features, seed=57)),
                *(name, *options),
                observe=_logits_alone,
            )
            for label, n, features, classes, x, name, options in (
                ("short features and weights, scale 1", 4, 3, 5, 0.3, "logits", (1.0,)),
                ("no scale given", 4, 3, 2, 3, "options", ()),
                ("the scale as third argument", 4, 3, 2, 3, "options", (7.0,)),
                ("one row", 1, 4, 3, 3, "one", ()),
                ("one class", 5, 4, 1, 3, "one", ()),
            )
        ),
        Case("two steps of SGD", numbers(6, 4), 2 * numbers(3, 4), observe=_after_a_step),
        Case("two new heads of 5 features and 4 classes", numbers(3, 5), 4, observe=_at_the_start),
    ],
    observe=_angles_only,
)
class CosineClassifier(nn.Module):
    def __init__(self, features, classes, scale=20.0):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(classes, features))

    def forward(self, x):
        directions = F.normalize(self.weight, dim=1)
        return self.scale * F.normalize(x, dim=1) @ directions.T


def _cosines(n, classes, seed=0):
    features = F.normalize(numbers(n, 6, seed=seed))
    return F.linear(features, F.normalize(numbers(classes, 6, seed=seed + 1)))


def _far_from_their_classes():
    return torch.tensor([[-0.9, 0.2, 0.5], [0.1, 0.95, -1.0]]), torch.tensor([0, 2])


def _at_zero_and_one():
    return torch.tensor([[0.0, 0.3], [1.0, -0.2], [0.1, 0.2]]), torch.tensor([0, 0, 1])


def _lowered(answer, cosine, labels, margin, scale):
    given = cosine.clone()
    yield "logits", _values(answer(given, labels, margin=margin, scale=scale))
    yield "cosine", given
    start = cosine.clone().requires_grad_()
    logits = answer(1 * start, labels, margin=margin, scale=scale)
    logits = require(logits, torch.Tensor, "the logits")
    yield "slope", gradients(logits / scale, start)[0]


@chapter.exercise(
    cases=lambda: [
        Case("4 rows, 3 classes", _cosines(4, 3), torch.tensor([2, 0, 1, 1]), 0.35, 20.0),
        Case("3 rows, 6 classes", _cosines(3, 6), torch.tensor([4, 0, 4]), 0.35, 20.0),
        Case("margin 0.1, scale 30", _cosines(5, 4), torch.tensor([3, 3, 0, 1, 2]), 0.1, 30.0),
        Case("margin 0", _cosines(2, 3), torch.tensor([0, 2]), 0.0, 10.0),
        Case("one row, scale 1", _cosines(1, 5), torch.tensor([3]), 0.5, 1.0),
        Case("own cosines of -0.9 and -1", *_far_from_their_classes(), 0.35, 20.0),
        Case("own cosines of 0, 1 and 0.2", *_at_zero_and_one(), 0.25, 5.0),
        *(
            Case(
                f"{n} rows, {classes} classes, margin {margin}",
                *(_cosines(n, classes, n), torch.arange(n) * 3 % classes, margin, 8.0),
            )
            for n, classes, margin in ((9, 2, 0.2), (6, 7, 0.45), (12, 4, 0.05))
        ),
        Case(
            "neither margin nor scale given",
            *(_cosines(4, 3), torch.tensor([2, 0, 1, 1])),
            observe=_as("options", lambda answer, *given: _values(answer(*given))),
        ),
        Case(
            "margin and scale as third and fourth argument",
            *(_cosines(4, 3), torch.tensor([2, 0, 1, 1]), 0.2, 7.0),
            observe=_as("options", lambda answer, *given: _values(answer(*given))),
        ),
    ],
    observe=_lowered,
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


def _exactly(cosine, margin):
    """The formula's values and slopes, in float64."""
    angle = cosine.double().clamp(-1, 1).acos()
    before = angle <= math.pi - margin
    values = torch.where(before, torch.cos(angle + margin), angle.cos() - margin * math.sin(margin))
    return values, (torch.sin(angle + margin) / angle.sin()).where(before, 1.0)


def _inside(answer, cosine, margin):
    given = cosine.clone()
    exact, exact_slopes = (part.float() for part in _exactly(cosine, margin))
    yield "values", _near(answer(given, margin), exact, 5e-5)
    yield "cosine", torch.equal(given, cosine)
    start = cosine.clone().requires_grad_()
    (slopes,) = gradients(answer(1 * start, margin), start)
    # Near an end they depend on the last bit of the cosine, which float64 has and float32 has not.
    exact = exact_slopes * numbers(*cosine.shape, seed=2)
    yield "slopes", _near(slopes, exact, 1e-4 + 1e-3 * exact.abs())


_ENDS = (1.0, -1.0, 1.0000001, -1.0000001, 1.0000005, 0.99999994, -0.99999994, 0.99999, -0.99999)


def _at_the_ends(answer, margin):
    ends = torch.tensor(_ENDS)
    given = ends.clone()
    values = answer(given, margin)
    yield "values at the ends", _near(values, _exactly(ends, margin)[0].float(), 0.01)
    yield "cosine", torch.equal(given, ends)
    start = ends.clone().requires_grad_()
    (slopes,) = gradients(answer(1 * start, margin), start)
    yield (
        "slopes at the ends",
        slopes if slopes is NO_GRADIENT else bool(slopes.isfinite().all()),
    )


def _between(*shape, seed, margin):
    """Cosines from -0.999 to 0.999, none of them at the border, where rounding would decide."""
    cosine = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 1.998 - 0.999
    border = -math.cos(margin)
    return torch.where((cosine - border).abs() < 1e-3, cosine + 2e-3, cosine)


@chapter.exercise(
    cases=lambda: [
        *(
            Case(
                f"{n} cosines, margin {margin}",
                *(_between(n, seed=seed, margin=margin), margin),
            )
            for seed, (n, margin) in enumerate(
                ((40, 0.5), (60, 0.2), (40, 1.0), (30, 1.4), (20, 0.05))
            )
        ),
        Case("margin 0", _between(20, seed=9, margin=0.0), 0.0),
        Case("cosines of -0.999 and 0.999", torch.tensor([-0.999, 0.999]), 0.5),
        *(
            Case(
                f"cosines of the shape {shape}",
                *(_between(*shape, seed=3, margin=0.5), 0.5),
                observe=_as("shape", lambda answer, *given: _values(answer(*given))),
            )
            for shape in ((), (0,), (1,), (2, 3, 4), (1, 2, 1))
        ),
        *(
            Case(f"cosines at 1 and -1, margin {m}", m, observe=_at_the_ends)
            for m in (0.5, 0.2, 1.0, 0.0)
        ),
        Case(
            "no margin given",
            _between(9, seed=4, margin=0.5),
            observe=_as("options", lambda answer, cosine: _values(answer(cosine))),
        ),
        Case(
            "`margin=0.3`",
            _between(9, seed=4, margin=0.3),
            observe=_as("options", lambda answer, cosine: _values(answer(cosine, margin=0.3))),
        ),
    ],
    observe=_inside,
)
def arcface(cosine, margin=0.5):
    angle = cosine.clamp(-0.999999, 0.999999).acos()
    further = torch.cos(angle + margin)
    beyond = cosine - margin * math.sin(margin)
    return torch.where(angle <= math.pi - margin, further, beyond)


def _fixed(answer, x, weight, labels, name):
    head = made(answer, weight.shape[1], weight.shape[0])
    yield "parameters", _shapes_of(head)
    matrix = _weights(head, weight)
    given = x.clone().requires_grad_()
    logits = require(head(given, labels), torch.Tensor, "the logits")
    yield name, _values(logits)
    yield "slopes", gradients(logits / 20, matrix, given)
    yield "weights", _values(matrix)
    plain = require(head(given), torch.Tensor, "the logits")
    yield "no labels", _values(plain)
    yield "slopes, no labels", gradients(plain / 20, matrix, given)
    yield "modes", (_values(head.eval()(x, labels)), _values(head(x)))


def _options_of_arc_head(answer, x, weight, labels, positional, named):
    head = made(answer, weight.shape[1], weight.shape[0], *positional, **named)
    _weights(head, weight)
    yield "options", (_values(head(x, labels)), _values(head(x)))


def _on_the_class_weight(answer, classes, features):
    """Rows on their class vector, opposite to it, and 0.02 beside it."""
    head = made(answer, features, classes)
    matrix = _weights(head, torch.eye(classes, features))
    rows = torch.zeros(4, features)
    rows[:, 0] = torch.tensor([1.0, -1.0, math.cos(0.02), 300.0])
    rows[2, 1] = math.sin(0.02)
    rows.requires_grad_()
    labels = torch.zeros(4, dtype=torch.long)
    logits = require(head(rows, labels), torch.Tensor, "the logits")
    own = [math.cos(0.5), -1 - 0.5 * math.sin(0.5), math.cos(0.52), math.cos(0.5)]
    yield "ends", _near(logits[:, 0], 20 * torch.tensor(own), 0.2)
    slopes = gradients(logits[:, 0], rows, matrix)
    finite = [slope if slope is NO_GRADIENT else bool(slope.isfinite().all()) for slope in slopes]
    yield "slopes at the ends", finite


def _in_turn(n, classes):
    return torch.arange(n) * 2 % classes


@chapter.exercise(
    cases=lambda: [
        *(
            Case(
                f"{n} rows, {classes} classes, weights {length:g} long",
                numbers(n, features, seed=seed),
                length * F.normalize(numbers(classes, features, seed=seed + 3)),
                _in_turn(n, classes),
                "logits" if length == 1 else "grown",
            )
            for seed, (n, features, classes, length) in enumerate(
                (
                    (6, 5, 3, 1.0),
                    (1, 4, 5, 1.0),
                    (40, 3, 4, 1.0),
                    (6, 5, 3, 3.0),
                    (3, 4, 4, 20.0),
                    (8, 4, 5, 0.25),
                )
            )
        ),
        *(
            Case(
                label,
                *(numbers(12, 3), F.normalize(numbers(4, 3, seed=1)), _in_turn(12, 4)),
                *(positional, named),
                observe=_options_of_arc_head,
            )
            for label, positional, named in (
                ("scale 5 and margin 0.2", (), {"scale": 5.0, "margin": 0.2}),
                ("margin 1", (), {"margin": 1.0}),
                ("margin 0", (), {"margin": 0.0}),
                ("scale and margin as third and fourth argument", (7.0, 0.3), {}),
            )
        ),
        Case("rows on their class vector and opposite to it", 3, 4, observe=_on_the_class_weight),
    ],
    observe=_fixed,
)
class ArcHead(nn.Module):
    """ArcFace. With labels, the margin is on each row's own class; without, there is none."""

    def __init__(self, features, classes, scale=20.0, margin=0.5):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, features)))

    def forward(self, features, labels=None):
        cosine = F.normalize(features) @ F.normalize(self.weight).T
        cosine = cosine.clamp(-0.999999, 0.999999)
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


def _rate(answer, scores, same, name):
    yield name, answer(scores.clone(), same.clone())


def _drawn(pairs, share, lead, seed, step=0.0):
    """Scores of which those of the same class are higher, on average; at least one of each kind."""
    same = torch.rand(pairs, generator=torch.Generator().manual_seed(seed)) < share
    same[:2] = _same(1, 0)
    scores = numbers(pairs, seed=seed + 1000) / 3 + lead * same
    return (scores / step).round() * step if step else scores, same


def _close_order():
    return 0.5037 + 1e-4 * numbers(8), numbers(8) > 0


def _with_an_outlier():
    scores = torch.cat([0.5 + 1e-4 * numbers(40, seed=5), torch.tensor([50.0])])
    same = torch.cat([numbers(40, seed=5) + 0.5 * numbers(40, seed=6) > 0, _same(1)])
    return scores, same


def _far(middle, seed):
    scores, same = _drawn(25, 0.5, 0.3, seed)
    return scores + middle, same


def _before_the_crossing():
    """The best threshold is the last one before false acceptance passes false rejection."""
    return torch.tensor([0.9, 0.8, 0.7, 0.6, 0.6, 0.5, 0.1]), _same(1, 1, 1, 0, 0, 1, 0)


def _behind_the_crossing():
    return torch.tensor([0.1, 0.4, 0.4, 0.5, 0.9, 0.2, 0.3]), _same(0, 1, 1, 0, 1, 0, 0)


@chapter.exercise(
    # In no case do two thresholds bring the rates equally near, where rounding would choose.
    cases=lambda: [
        Case("a perfect order", torch.tensor([0.9, 0.8, 0.3, 0.1]), _same(1, 1, 0, 0), "rate"),
        Case("two pairs, in order", torch.tensor([0.2, 0.7]), _same(0, 1), "rate"),
        Case("two pairs, in the wrong order", torch.tensor([0.2, 0.7]), _same(1, 0), "rate"),
        Case(
            "all on the wrong side",
            *(torch.tensor([-0.9, -0.8, 0.3]), _same(1, 1, 0), "rate"),
        ),
        *(
            Case(f"{pairs} pairs, about {share:.0%} the same", *_drawn(pairs, share, lead, seed), n)
            for seed, (pairs, share, lead, n) in enumerate(
                (
                    (8, 0.5, 0.4, "rate"),
                    (9, 0.5, 0.1, "rate"),
                    (15, 0.4, 0.4, "rate"),
                    (20, 0.6, 0.3, "rate"),
                    (33, 0.5, 0.0, "rate"),
                    (48, 0.5, -0.3, "rate"),
                    (40, 0.5, 1.0, "rate"),
                    (120, 0.1, 0.5, "shares"),
                    (90, 0.9, 0.4, "shares"),
                    (40, 0.1, 0.1, "shares"),
                )
            )
        ),
        Case("7 pairs", *_before_the_crossing(), "rate"),
        Case("7 pairs, others", *_behind_the_crossing(), "rate"),
        *(
            Case(
                f"{pairs} pairs with many equal scores",
                *(*_drawn(pairs, 0.4, 0.3, seed, step=0.5), "ties"),
            )
            for seed, pairs in ((25, 14), (20, 16), (20, 24), (20, 30), (21, 60))
        ),
        Case("two equal scores, the same pair first", torch.full((2,), 0.5), _same(1, 0), "ties"),
        Case("two equal scores, the same pair last", torch.full((2,), 0.5), _same(0, 1), "ties"),
        Case("scores that lie close together", *_close_order(), "range"),
        Case("close together, and one far away", *_with_an_outlier(), "range"),
        Case("all scores below -3", *_far(-5.0, 30), "range"),
        Case("all scores above 90", *_far(100.0, 31), "range"),
    ],
    observe=_rate,
)
def equal_error_rate(scores, same):
    worst = []
    for threshold in scores.unique():
        accepted = scores >= threshold
        false_acceptance = accepted[~same].float().mean().item()
        false_rejection = (~accepted)[same].float().mean().item()
        worst.append(max(false_acceptance, false_rejection))
    return min(worst)


def _scale_for(answer, classes, probability, name):
    yield name, answer(classes, probability)


@chapter.exercise(
    cases=lambda: [
        *(
            Case(f"{classes} classes, probability {p}", classes, p, name)
            for name, classes, p in (
                ("scale", 3, 0.9),
                ("scale", 2, 0.9),
                ("scale", 10, 0.9),
                ("scale", 4, 0.75),
                ("scale", 1000, 0.5),
                ("small", 2, 0.51),
                ("small", 10, 0.12),
                ("small", 100, 0.02),
                ("large", 1000, 0.99),
                ("large", 10_000, 0.99),
            )
        ),
    ],
    observe=_scale_for,
)
def least_scale(classes, probability):
    other = -1 / (classes - 1)
    return math.log((classes - 1) * probability / (1 - probability)) / (1 - other)


def _translations(n, features=6, seed=0):
    first = numbers(n, features, seed=seed)
    second = first + 0.5 * numbers(n, features, seed=seed + 1)
    lengths = 1 + torch.arange(n)[:, None] % 4
    return 3 * first * lengths, second * lengths.flip(0)


def _loss_value(loss):
    """What is no tensor has no gradient, which is observed elsewhere."""
    return torch.tensor(loss) if type(loss) is float else _values(loss)


def _loss_of(answer, first, second, scale, margin, name):
    loss = answer(first.clone(), second.clone(), scale=scale, margin=margin)
    yield name, _loss_value(loss)
    first, second = first.clone().requires_grad_(), second.clone().requires_grad_()
    loss = answer(first, second, scale=scale, margin=margin)
    if isinstance(loss, torch.Tensor):
        loss = loss / scale
    yield "slopes", gradients(loss, first, second)


@chapter.exercise(
    cases=lambda: [
        Case("4 pairs, no margin", *_translations(4), 10.0, 0.0, "directions"),
        Case("7 pairs of width 3, no margin", *_translations(7, 3, 5), 5.0, 0.0, "directions"),
        Case("5 pairs", *_translations(5), 20.0, 0.3, "loss"),
        Case("3 pairs, scale 5, margin 0.1", *_translations(3), 5.0, 0.1, "loss"),
        Case("12 pairs of width 4, margin 0.6", *_translations(12, 4, 7), 8.0, 0.6, "loss"),
        Case("one pair", *_translations(1), 20.0, 0.3, "loss"),
        Case(
            "neither scale nor margin given",
            *_translations(6, 4, 9),
            observe=_as("options", lambda answer, *given: _loss_value(answer(*given))),
        ),
        Case(
            "scale and margin as third and fourth argument",
            *(*_translations(6, 4, 9), 3.0, 0.5),
            observe=_as("options", lambda answer, *given: _loss_value(answer(*given))),
        ),
    ],
    observe=_loss_of,
)
def pair_loss(first, second, scale=20.0, margin=0.3):
    cosine = F.normalize(first) @ F.normalize(second).T
    own = torch.arange(len(first), device=first.device)
    logits = scale * (cosine - margin * F.one_hot(own, len(own)))
    there = F.cross_entropy(logits, own)
    back = F.cross_entropy(logits.T, own)
    return (there + back) / 2
