"""The exercises of chapter 02: which question a loss asks, and of how many values."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from helpers import data
from helpers.exercises import Case, Exercises, Words, require
from helpers.exercises.observe import gradients
from helpers.exercises.trial import call

chapter = Exercises(__file__)
report = chapter.report


def _loss_and_slope(answer, prediction, target, *others, **named):
    prediction = prediction.clone().requires_grad_()
    before = prediction.detach().clone(), target.clone()
    loss = require(answer(prediction, target, *others, **named), torch.Tensor, "the loss")
    yield "loss", loss.detach()
    yield "slope", gradients(loss.sum(), prediction)[0]
    yield "kept", torch.equal(before[0], prediction) and torch.equal(before[1], target)


def _together(answer, prediction, target, *others):
    """Loss and slope as one observation, under the name of the case."""
    seen = dict(_loss_and_slope(answer, prediction, target, *others))
    return {"loss": seen["loss"], "slope": seen["slope"]}


@chapter.prediction
def divisor():
    values, classes = torch.rand(4, 10), torch.arange(4)
    steps, step_classes = torch.rand(4, 10, 6), torch.arange(24).reshape(4, 6) % 10
    calls = {
        "mse (4, 10)": lambda how: F.mse_loss(values, values + 1, reduction=how),
        "ce (4, 10)": lambda how: F.cross_entropy(values, classes, reduction=how),
        "ce (4, 10, 6)": lambda how: F.cross_entropy(steps, step_classes, reduction=how),
    }
    return {name: round((call("sum") / call("mean")).item()) for name, call in calls.items()}


def _errors(*shape, far=False):
    """Targets, and predictions with errors of 0, exactly 1 and both signs among them."""
    errors = 2 * torch.randn(shape)
    errors.view(-1)[: min(4, errors.numel())] = torch.tensor([0.0, 1.0, -3.0, 0.5])[
        : errors.numel()
    ]
    targets = torch.randint(-3, 4, shape).float()
    return targets + (1e4 * errors if far else errors), targets


def _by_name(answer, prediction, target, delta, reduction):
    """The arguments are named, as in the prompt."""
    return answer(prediction=prediction, target=target, reduction=reduction, delta=delta)


_DRAWN = [((7,), 1.0), ((3, 2), 0.5), ((2, 3, 4), 2.0), ((6, 1), 0.3), ((1, 5), 1.7)]
_UNEQUAL = [
    ((3, 1), (3,)),
    ((3, 1), (3, 2)),
    ((3, 1), (1, 1)),
    ((4,), (1, 4)),
    ((2, 3), (3, 2)),
    ((3,), (4,)),
    ((5,), ()),
    ((), (1,)),
]


def _unequal(**how):
    for one, two in _UNEQUAL:
        yield Case(f"predictions {one}, targets {two}", torch.randn(one), torch.randn(two), **how)


@chapter.exercise(
    cases=lambda: [
        *(
            Case(f"none, shape {shape}, delta = {delta}", *_errors(*shape), delta, "none")
            for shape, delta in _DRAWN
        ),
        Case("none, errors of 10,000 and more", *_errors(5, far=True), 2.5, "none"),
        *(
            Case(
                f"{how}, shape {shape}, delta = {delta}",
                *_errors(*shape),
                delta,
                how,
                about=how,
                observe=_together,
            )
            for shape, delta in _DRAWN[1:]
            for how in ("mean", "sum")
        ),
        Case("no delta, no reduction", *_errors(4, 2), about="defaults", observe=_together),
        Case("named", *_errors(5), 0.5, "sum", about="defaults", observe=_by_name),
        *_unequal(about="shapes", observe=call),
    ],
    observe=_loss_and_slope,
)
def huber(prediction, target, delta=1.0, reduction="mean"):
    if prediction.shape != target.shape:
        raise ValueError(f"shapes differ: {tuple(prediction.shape)}, {tuple(target.shape)}")
    size = (prediction - target).abs()
    each = torch.where(size <= delta, size**2 / 2, delta * size - delta**2 / 2)
    return {"mean": each.mean, "sum": each.sum, "none": lambda: each}[reduction]()


@chapter.prediction
def slopes():
    losses = {
        "BCELoss": lambda z, t: F.binary_cross_entropy(z.sigmoid(), t),
        "BCEWithLogitsLoss": F.binary_cross_entropy_with_logits,
        "MSE": lambda z, t: F.mse_loss(z.sigmoid(), t),
    }
    seen = {}
    for name, loss in losses.items():
        logit = torch.tensor([-40.0], requires_grad=True)
        value = loss(logit, torch.ones(1))
        value.backward()
        seen[f"{name} says 40"] = abs(value.item() - 40) < 0.1
        seen[f"{name} pulls"] = abs(logit.grad.item()) > 0.001
    del seen["MSE says 40"]
    return seen


class _Calls(TorchDispatchMode):
    """Remembers the operations of torch that run inside it."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.add(str(operation))
        return operation(*args, **(kwargs or {}))


def _by_its_own_means(answer, *arguments):
    with _Calls() as calls:
        answer(*arguments)
    return not any("binary_cross_entropy_with_logits" in name for name in calls.names)


def _positives_named(answer, logits, targets, pos_weight):
    return answer(logits, targets, pos_weight=pos_weight)


def _logits(*shape):
    return 3 * torch.randn(shape), (torch.rand(shape) > 0.5).float()


def _soft(*shape):
    return 3 * torch.randn(shape), torch.rand(shape)


def _at(*sizes):
    """Each logit in both signs, with the targets 0, 1 and 0.3."""
    logits = torch.tensor([sign * size for size in sizes for sign in (1.0, -1.0)])
    return logits.repeat(3), torch.tensor([0.0, 1.0, 0.3]).repeat_interleave(len(logits))


_WEIGHTS = {"3": 3.0, "0": 0.0, "0.2": 0.2, "one of each class": [0.5, 1.0, 4.0]}


@chapter.exercise(
    cases=lambda: [
        *(
            Case(f"logits up to 10 or so, targets 0 and 1, shape {shape}", *_logits(*shape))
            for shape in [(8,), (4, 3), (1, 1), (2, 3, 2)]
        ),
        *(
            Case(f"soft targets of shape {shape}", *_soft(*shape), about="soft", observe=_together)
            for shape in [(2, 3), (6,)]
        ),
        *(
            Case(f"logits of ±{size:,}", *_at(size), about="far", observe=_together)
            for size in (20, 40, 200, 1_000, 100_000)
        ),
        Case("logits of 0", *_at(0), about="zero", observe=_together),
        *(
            Case(
                f"{kind}, pos_weight {name}",
                *make(4, 3),
                torch.tensor(w),
                about="positives",
                observe=_together,
            )
            for name, w in _WEIGHTS.items()
            for kind, make in {"targets 0 and 1": _logits, "soft targets": _soft}.items()
        ),
        Case(
            "logits of ±200, pos_weight 3",
            *_at(200),
            torch.tensor(3.0),
            about="positives",
            observe=_together,
        ),
        Case(
            "pos_weight named",
            *_soft(5),
            torch.tensor(3.0),
            about="positives",
            observe=_positives_named,
        ),
        Case("which functions are called", *_logits(5), about="own", observe=_by_its_own_means),
        Case(
            "which functions are called, with a pos_weight",
            *_logits(5),
            torch.tensor(3.0),
            about="own",
            observe=_by_its_own_means,
        ),
    ],
    observe=_loss_and_slope,
)
def bce_with_logits(logits, targets, pos_weight=None):
    if_positive = F.softplus(-logits)
    if_negative = F.softplus(logits)
    if pos_weight is not None:
        if_positive = pos_weight * if_positive
    return targets * if_positive + (1 - targets) * if_negative


def _sentences(lengths, longest, classes, pad):
    """Sentences of these lengths; far logits stand at the padded positions."""
    logits = 3 * torch.randn(len(lengths), longest, classes)
    targets = torch.randint(0, classes, (len(lengths), longest))
    targets = torch.where(targets == pad, (targets + 1) % classes, targets)
    for row, length in enumerate(lengths):
        targets[row, length:] = pad
        logits[row, length:] *= 50
    return logits, targets, pad


def _views(logits, targets, pad):
    """As a model gives them that works on one position of all sentences after the other."""
    return logits.transpose(0, 1).contiguous().transpose(0, 1), targets.T.contiguous().T, pad


def _with_a_sure_answer(logits, targets, pad):
    """The loss of the first position is exactly 0, and it counts like the others."""
    logits[0, 0] = 0.0
    logits[0, 0, targets[0, 0]] = 80.0
    return logits, targets, pad


_TEXTS = {
    "loss": [
        ("3 sentences, 7 classes, pad = 0", (5, 3, 1), 5, 7, 0),
        ("4 sentences, 5 classes, pad = 4", (2, 8, 4, 8), 8, 5, 4),
        ("2 sentences, 9 classes, pad = 3", (6, 1), 6, 9, 3),
    ],
    "equal": [
        ("3 sentences, length 5, 5 classes, pad = 0", (5, 3, 2), 5, 5, 0),
        ("4 sentences, length 4, 4 classes, pad = 2", (4, 3, 1, 2), 4, 4, 2),
    ],
    "outside": [
        ("3 sentences, 6 classes, pad = -1", (4, 3, 2), 4, 6, -1),
        ("2 sentences, 4 classes, pad = -100", (3, 7), 7, 4, -100),
        ("2 sentences, 4 classes, pad = 4", (3, 7), 7, 4, 4),
    ],
    "full": [
        ("2 sentences, none padded, pad = 0", (6, 6), 6, 5, 0),
        ("2 sentences, none padded, pad = -1", (4, 4), 4, 3, -1),
    ],
    "empty": [
        ("3 sentences, one of them all padding, pad = 0", (4, 0, 2), 4, 6, 0),
        ("3 sentences, one of them all padding, pad = -1", (0, 3, 5), 5, 4, -1),
    ],
    "one": [
        ("1 sentence, pad = 0", (3,), 5, 6, 0),
        ("1 sentence of one position, pad = 1", (1,), 1, 4, 1),
        ("2 sentences of one position, pad = -1", (1, 1), 1, 4, -1),
    ],
}


@chapter.exercise(
    cases=lambda: (
        [
            Case(
                label,
                *_sentences(*facts),
                about=about,
                observe=_loss_and_slope if about == "loss" else _together,
            )
            for about, texts in _TEXTS.items()
            for label, *facts in texts
        ]
        + [
            Case(label, *change(*_sentences((4, 2), 4, 5, 0)), about=about, observe=_together)
            for label, change, about in (
                ("2 sentences, whose dimensions were swapped", _views, "equal"),
                ("2 sentences, one position without loss", _with_a_sure_answer, "equal"),
            )
        ]
    ),
)
def sequence_loss(logits, targets, pad):
    return F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=pad)


def _digits():
    split = data.digits()
    return split.x_train[:640], split.y_train[:640], split.x_val[:200], split.y_val[:200]


def _asked_one_at_a_time(answer, x, y, x_new, y_new):
    model = require(answer(x, y), nn.Module, "what `train_reader` returns").eval()
    with torch.no_grad():
        alone = torch.cat([model(image) for image in x_new.split(1)])
        together = model(x_new)
    yield "alone", torch.allclose(alone, together, atol=1e-3)
    shares = bool((alone >= 0).all()) and torch.allclose(alone.sum(dim=1), torch.ones(len(alone)))
    yield "probabilities", not shares
    accuracy = (alone.argmax(dim=1) == y_new).float().mean().item()
    yield "digits", Words("more than 0.8" if accuracy > 0.8 else f"{accuracy:.3f} of the digits")
    loss = F.cross_entropy(alone, y_new).item()
    # A known mistake gives the very same number.
    yield "loss", Words("less than 0.5" if loss < 0.5 else f"{loss:.4f}")


@chapter.exercise(
    cases=lambda: [Case("640 digits for training, 200 for validation", *_digits())],
    observe=_asked_one_at_a_time,
    seconds=30,
)
def train_reader(x, y):
    """Train a classifier on images `x` with labels `y` and return it."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
        nn.LogSoftmax(dim=1),
    )
    loss_fn = nn.NLLLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)

    model.train()
    for _ in range(10):
        for rows in torch.randperm(len(x)).split(64):
            loss = loss_fn(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def _quantile(answer, prediction, target, *settings, **named):
    loss_fn = require(answer(*settings, **named), nn.Module, "a `QuantileLoss(…)`")
    prediction = prediction.clone().requires_grad_()
    before = prediction.detach().clone(), target.clone()
    loss = require(loss_fn(prediction, target), torch.Tensor, "the loss")
    yield "loss", loss.detach()
    yield "slope", gradients(loss.sum(), prediction)[0]
    yield "kept", torch.equal(before[0], prediction) and torch.equal(before[1], target)


def _quantile_together(answer, *arguments):
    seen = dict(_quantile(answer, *arguments))
    return {"loss": seen["loss"], "slope": seen["slope"]}


def _named_settings(answer, prediction, target):
    return answer(reduction="none", q=0.8)(prediction, target).detach()


def _two_losses(answer, prediction, target):
    first, _ = answer(0.9), answer(0.1, "sum")
    return first(prediction, target).detach()


def _exact(answer, prediction, target):
    # Where the prediction is exact, the slope is whichever you like.
    return answer(0.7, "none")(prediction, target).detach()


def _chosen_for_patients(answer, q):
    loss_fn = answer(q)
    patients = 7 * torch.linspace(-1, 1, 101, dtype=torch.float64) ** 3
    choices = torch.linspace(-7, 7, 141, dtype=torch.float64)
    costs = [loss_fn(choice.expand_as(patients), patients).detach().sum() for choice in choices]
    return round(choices[torch.stack(costs).argmin()].item(), 1)


def _gradcheck(answer, prediction, target, *settings):
    loss_fn = answer(*settings)
    prediction.requires_grad_()
    if not loss_fn(prediction, target).requires_grad:
        return False
    return torch.autograd.gradcheck(loss_fn, (prediction, target), raise_exception=False)


def _refuses(answer, prediction, target):
    return answer(0.9)(prediction, target)


def _pair(*shape, dtype=torch.float32):
    return torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)


_SETTINGS = [(0.9, (5, 2)), (0.25, (7,)), (0.5, (2, 3, 2)), (0.05, (6, 1))]


@chapter.exercise(
    cases=lambda: [
        *(
            Case(f"q = {q}, none, shape {shape}", *_pair(*shape), q, "none")
            for q, shape in _SETTINGS
        ),
        *(
            Case(
                f"q = {q}, {how}, shape {shape}",
                *_pair(*shape),
                q,
                how,
                about=how,
                observe=_quantile_together,
            )
            for q, shape in _SETTINGS
            for how in ("mean", "sum")
        ),
        Case(
            "q = 0.8, no reduction", *_pair(4, 3), 0.8, about="defaults", observe=_quantile_together
        ),
        Case("named", *_pair(4), about="defaults", observe=_named_settings),
        Case("a loss, after another was made", *_pair(5), about="own", observe=_two_losses),
        Case("exact predictions", torch.ones(3), torch.ones(3), about="exact", observe=_exact),
        *(
            Case(f"q = {q} for 101 patients", q, about="choice", observe=_chosen_for_patients)
            for q in (0.9, 0.25)
        ),
        *(
            Case(
                f"q = {q}, {how}, float64",
                *_pair(4, 2, dtype=torch.float64),
                q,
                how,
                about="gradcheck",
                observe=_gradcheck,
            )
            for q, how in [(0.9, "mean"), (0.3, "none")]
        ),
        *_unequal(about="shapes", observe=_refuses),
    ],
    observe=_quantile,
)
class QuantileLoss(nn.Module):
    def __init__(self, q, reduction="mean"):
        super().__init__()
        self.q, self.reduction = q, reduction

    def forward(self, prediction, target):
        if prediction.shape != target.shape:
            raise ValueError(f"shapes differ: {tuple(prediction.shape)}, {tuple(target.shape)}")
        e = target - prediction
        each = torch.where(e > 0, self.q * e, (1 - self.q) * -e)
        return {"mean": each.mean, "sum": each.sum, "none": lambda: each}[self.reduction]()


def _network(features=4, classes=3):
    block = nn.Sequential(nn.Linear(features, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5))
    block.requires_grad_(False)
    return nn.Sequential(block, nn.Linear(16, classes))


def _batches(*sizes, features=4, classes=3):
    return [(3 * torch.randn(size, features), torch.randint(0, classes, (size,))) for size in sizes]


def _loader(rows, size):
    x, y = _batches(rows)[0]
    return DataLoader(TensorDataset(x, y), batch_size=size)


def _weights(*weights):
    return torch.tensor(weights)


def _watched(answer, model, batches, *weight):
    """The loss, and what the model saw: by hooks, as the answer may call it as it likes."""
    modes, graphs, rows = [], [], []

    def before(module, inputs):
        modes.append(any(part.training for part in module.modules()))

    def after(module, inputs, output):
        graphs.append(output.requires_grad)
        rows.append(len(output))

    hooks = model.register_forward_pre_hook(before), model.register_forward_hook(after)
    asked = [p.requires_grad for p in model.parameters()]
    values = [p.detach().clone() for p in model.parameters()]
    try:
        loss = answer(model, batches, *weight)
    finally:
        for hook in hooks:
            hook.remove()
    yield "loss", loss
    yield "eval", not any(modes)
    yield "gradients", not any(graphs)
    yield "joined", max(rows, default=0) <= max(len(x) for x, _ in batches)
    same = all(torch.equal(old, new) for old, new in zip(values, model.parameters(), strict=True))
    yield "kept", same and asked == [p.requires_grad for p in model.parameters()]


def _value(answer, *arguments):
    return answer(*arguments)


@chapter.exercise(
    cases=lambda: [
        Case("batches of 8, 8 and 3 rows, no weights", _network(), _batches(8, 8, 3)),
        Case("a DataLoader, 21 rows in batches of 5", _network(), _loader(21, 5)),
        Case("one batch of 6 rows", _network(), _batches(6)),
        *(
            Case(label, *facts, about="weights", observe=_value)
            for label, *facts in [
                (
                    "batches of 8, 8 and 3 rows, weights 1, 5, 20",
                    _network(),
                    _batches(8, 8, 3),
                    _weights(1.0, 5.0, 20.0),
                ),
                (
                    "batches of 1, 7 and 4 rows, weights 0.2, 0.5, 0.1, 2",
                    _network(2, 4),
                    _batches(1, 7, 4, features=2, classes=4),
                    _weights(0.2, 0.5, 0.1, 2.0),
                ),
                (
                    "equal batches, weights 1, 5, 20",
                    _network(),
                    _batches(6, 6),
                    _weights(1.0, 5.0, 20.0),
                ),
                (
                    "a DataLoader, weights 3, 1, 9",
                    _network(),
                    _loader(13, 4),
                    _weights(3.0, 1.0, 9.0),
                ),
            ]
        ),
    ],
    observe=_watched,
)
def dataset_loss(model, batches, weight=None):
    model.eval()
    total, divisor = 0.0, 0.0
    for x, y in batches:
        with torch.no_grad():
            total += F.cross_entropy(model(x), y, weight=weight, reduction="sum").item()
        divisor += len(y) if weight is None else weight[y].sum().item()
    return total / divisor
