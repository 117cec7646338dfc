"""The exercises of chapter 02: which question a loss asks, and of how many values."""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd.gradcheck import GradcheckError
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from helpers import data
from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)


# What a mean divides by --------------------------------------------------------------------------


@chapter.prediction
def divisor():
    values, classes = torch.rand(4, 10), torch.arange(4)
    steps, step_classes = torch.rand(4, 10, 6), torch.arange(24).reshape(4, 6) % 10
    calls = {
        "mse (4, 10)": lambda how: nn.functional.mse_loss(values, values + 1, reduction=how),
        "ce (4, 10)": lambda how: nn.functional.cross_entropy(values, classes, reduction=how),
        "ce (4, 10, 6)": lambda how: nn.functional.cross_entropy(
            steps, step_classes, reduction=how
        ),
    }
    return {name: round((call("sum") / call("mean")).item()) for name, call in calls.items()}


# Huber, with the door shut -----------------------------------------------------------------------


def _errors():
    return torch.tensor([-5.0, -1.5, -0.4, 0.0, 0.7, 1.2, 9.0])


def _grid():
    return torch.tensor([[1.2, 0.1], [3.0, 1.0], [-4.0, 1.45]])


def _with_its_slope(answer, prediction, target, delta, reduction):
    prediction = prediction.clone().requires_grad_()
    loss = answer(prediction, target, delta=delta, reduction=reduction)
    loss.sum().backward()
    return {"loss": loss.detach(), "slope": prediction.grad}


def _shut(prediction, target):
    if prediction.shape != target.shape:
        raise ValueError(f"shapes differ: {tuple(prediction.shape)}, {tuple(target.shape)}")


def _reduced(each, reduction):
    return each if reduction == "none" else getattr(each, reduction)()


@chapter.exercise(
    cases=lambda: [
        Case("errors on both sides of delta = 1, mean", _errors(), torch.zeros(7), 1.0, "mean"),
        Case("delta = 2, sum", _errors(), torch.zeros(7), 2.0, "sum"),
        Case("delta = 0.5, none, shape (3, 2)", _grid(), torch.ones(3, 2), 0.5, "none"),
        Case("mean, shape (3, 2)", _grid(), torch.ones(3, 2), 1.0, "mean"),
        Case("predictions (3, 1), targets (3,)", _grid()[:, :1], _errors()[1:4], 1.0, "mean"),
        Case("predictions (3, 1), targets (3, 2)", _grid()[:, :1], _grid(), 1.0, "mean"),
        Case("predictions (3, 1), targets (1, 1)", _grid()[:, :1], _grid()[:1, :1], 1.0, "mean"),
    ],
    observe=_with_its_slope,
)
def huber(prediction, target, delta=1.0, reduction="mean"):
    if prediction.shape != target.shape:
        raise ValueError(f"shapes differ: {tuple(prediction.shape)}, {tuple(target.shape)}")
    size = (prediction - target).abs()
    each = torch.where(size <= delta, size**2 / 2, delta * size - delta**2 / 2)
    return {"mean": each.mean, "sum": each.sum, "none": lambda: each}[reduction]()


def broadcasts(prediction, target, delta=1.0, reduction="mean"):
    size = (prediction - target).abs()
    inside = size.clamp(max=delta)
    return _reduced(inside * (size - inside / 2), reduction)


def reshapes(prediction, target, delta=1.0, reduction="mean"):
    return broadcasts(prediction, target.reshape(prediction.shape), delta, reduction)


def line_without_offset(prediction, target, delta=1.0, reduction="mean"):
    _shut(prediction, target)
    size = (prediction - target).abs()
    return _reduced(torch.where(size <= delta, size**2 / 2, delta * size), reduction)


def parabola_without_half(prediction, target, delta=1.0, reduction="mean"):
    _shut(prediction, target)
    size = (prediction - target).abs()
    return _reduced(torch.where(size <= delta, size**2, delta * size - delta**2 / 2), reduction)


def smooth_l1(prediction, target, delta=1.0, reduction="mean"):
    _shut(prediction, target)
    return F.smooth_l1_loss(prediction, target, beta=delta, reduction=reduction)


def keeps_the_sign(prediction, target, delta=1.0, reduction="mean"):
    _shut(prediction, target)
    e = prediction - target
    return _reduced(torch.where(e <= delta, e**2 / 2, delta * e - delta**2 / 2), reduction)


def compares_dimensions_only(prediction, target, delta=1.0, reduction="mean"):
    if prediction.dim() != target.dim():
        raise ValueError("other dimensions")
    return broadcasts(prediction, target, delta, reduction)


def always_the_mean(prediction, target, delta=1.0, reduction="mean"):
    _shut(prediction, target)
    return broadcasts(prediction, target, delta)


def chooses_once(prediction, target, delta=1.0, reduction="mean"):
    _shut(prediction, target)
    size = (prediction - target).abs()
    if size <= delta:
        return size**2 / 2
    return delta * size - delta**2 / 2


# The number and the slope ------------------------------------------------------------------------


@chapter.prediction
def slopes():
    losses = {
        "BCELoss": lambda z, t: nn.functional.binary_cross_entropy(z.sigmoid(), t),
        "BCEWithLogitsLoss": nn.functional.binary_cross_entropy_with_logits,
        "MSE": lambda z, t: nn.functional.mse_loss(z.sigmoid(), t),
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


# The stable form ---------------------------------------------------------------------------------


def _zero_one(n):
    return (torch.arange(n) % 2).float()


def _far():
    return torch.tensor([-200.0, -200.0, -40.0, -40.0, 40.0, 40.0, 200.0, 200.0])


def _loss_and_slope(answer, logits, targets, pos_weight=None):
    logits = logits.clone().requires_grad_()
    loss = answer(logits, targets) if pos_weight is None else answer(logits, targets, pos_weight)
    loss.sum().backward()
    return {"loss": loss.detach(), "slope": logits.grad}


@chapter.exercise(
    cases=lambda: [
        Case("moderate logits, targets 0 and 1", torch.linspace(-4, 4, 8), _zero_one(8)),
        Case("soft targets of shape (2, 3)", _grid().T.contiguous(), torch.rand(2, 3)),
        Case("logits of ±40 and ±200", _far(), _zero_one(8)),
        Case("pos_weight = 3", _far() / 20, _zero_one(8), torch.tensor(3.0)),
    ],
    observe=_loss_and_slope,
)
def bce_with_logits(logits, targets, pos_weight=None):
    if_positive, if_negative = nn.functional.softplus(-logits), nn.functional.softplus(logits)
    if pos_weight is not None:
        if_positive = pos_weight * if_positive
    return targets * if_positive + (1 - targets) * if_negative


def of_the_book(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    p = logits.sigmoid()
    return -(weight * targets * p.log() + (1 - targets) * (1 - p).log())


def with_an_epsilon(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    p = logits.sigmoid()
    return -(weight * targets * (p + 1e-8).log() + (1 - targets) * (1 - p + 1e-8).log())


def with_a_clamped_probability(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    p = logits.sigmoid().clamp(1e-7, 1 - 1e-7)
    return -(weight * targets * p.log() + (1 - targets) * (1 - p).log())


def torchs_on_the_sigmoid(logits, targets, pos_weight=None):
    each = F.binary_cross_entropy(logits.sigmoid(), targets, reduction="none")
    return each if pos_weight is None else (1 + (pos_weight - 1) * targets) * each


def overflowing_exponential(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    if_positive, if_negative = (1 + (-logits).exp()).log(), (1 + logits.exp()).log()
    return weight * targets * if_positive + (1 - targets) * if_negative


def weighs_everything(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    return weight * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def weighs_the_negatives(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    return targets * F.softplus(-logits) + weight * (1 - targets) * F.softplus(logits)


def averages(logits, targets, pos_weight=None):
    return bce_with_logits.right(logits, targets, pos_weight).mean()


def positives_only(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    return weight * targets * F.softplus(-logits)


# Sequences ---------------------------------------------------------------------------------------


def _sentences(batch, length, classes, pad):
    logits = 3 * torch.randn(batch, length, classes)
    targets = torch.randint(0, classes, (batch, length))
    targets = torch.where(targets == pad, (targets + 1) % classes, targets)
    for row in range(1, batch):
        targets[row, length - row - 1 :] = pad
    return logits, targets, pad


def _loss_and_slope(answer, logits, targets, pad):
    logits = logits.clone().requires_grad_()
    loss = answer(logits, targets, pad)
    loss.backward()
    return {"loss": loss.detach(), "slope": logits.grad}


@chapter.exercise(
    cases=lambda: [
        Case("2 sentences, length 5, 7 classes, pad = 0", *_sentences(2, 5, 7, 0)),
        Case("4 sentences, length 6, 6 classes, pad = -1", *_sentences(4, 6, 6, -1)),
        Case("3 sentences, length 8, 5 classes, pad = 4", *_sentences(3, 8, 5, 4)),
    ],
    observe=_loss_and_slope,
)
def sequence_loss(logits, targets, pad):
    return nn.functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=pad)


def classes_last(logits, targets, pad):
    return F.cross_entropy(logits, targets, ignore_index=pad)


def reshaped(logits, targets, pad):
    batch, length, classes = logits.shape
    logits = logits.reshape(batch, classes, length)
    return F.cross_entropy(logits, targets, ignore_index=pad)


def padding_counts(logits, targets, pad):
    return F.cross_entropy(logits.transpose(1, 2), targets)


def divides_by_all(logits, targets, pad):
    total = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=pad, reduction="sum")
    return total / targets.numel()


def mean_of_sentences(logits, targets, pad):
    each = [F.cross_entropy(z, t, ignore_index=pad) for z, t in zip(logits, targets, strict=True)]
    return torch.stack(each).mean()


def sums(logits, targets, pad):
    return F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=pad, reduction="sum")


def softmax_twice(logits, targets, pad):
    return F.cross_entropy(logits.softmax(dim=2).transpose(1, 2), targets, ignore_index=pad)


# A reader that reads only in company -------------------------------------------------------------


def _digits():
    split = data.digits()
    return split.x_train[:640], split.y_train[:640], split.x_test[:200], split.y_test[:200]


def _asked_one_at_a_time(answer, x, y, x_new, y_new):
    model = answer(x, y)
    if not issubclass(type(model), nn.Module):
        return model
    model.eval()
    with torch.no_grad():
        alone = torch.cat([model(image) for image in x_new.split(1)])
        together = model(x_new)
    accuracy = (alone.argmax(dim=1) == y_new).float().mean().item()
    return {
        "gets more than 8 of 10 single digits right": accuracy > 0.8,
        "gives a digit the same scores alone and in a batch": torch.allclose(
            alone, together, atol=1e-3
        ),
        "has a cross-entropy below 1 on them": F.cross_entropy(alone, y_new).item() < 1,
    }


@chapter.exercise(
    cases=lambda: [Case("640 digits for training, 200 others to judge", *_digits())],
    observe=_asked_one_at_a_time,
    seconds=30,
)
def train_reader(x, y):
    torch.manual_seed(0)
    batches = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)

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
        for images, labels in batches:
            loss = loss_fn(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def _trained(x, y, last, loss_fn):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10), last)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(10):
        for rows in torch.randperm(len(x)).split(64):
            loss = loss_fn(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def another_loss(x, y):
    return _trained(x, y, nn.LogSoftmax(dim=0), nn.CrossEntropyLoss())


def nll_on_logits(x, y):
    return _trained(x, y, nn.Identity(), nn.NLLLoss())


def probabilities(x, y):
    return _trained(x, y, nn.Softmax(dim=1), nn.NLLLoss())


def forgets_the_model(x, y):
    train_reader.right(x, y)


# From batches to the data set --------------------------------------------------------------------


def _dropout_net():
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def _batches(*sizes):
    torch.manual_seed(5)
    return [(3 * torch.randn(size, 4), torch.randint(0, 3, (size,))) for size in sizes]


def _weights():
    return torch.tensor([1.0, 5.0, 20.0])


def _measured(answer, model, batches, weight=None):
    model.train()
    return answer(model, batches) if weight is None else answer(model, batches, weight)


@chapter.exercise(
    cases=lambda: [
        Case("batches of 8, 8 and 3 rows, no weights", _dropout_net(), _batches(8, 8, 3)),
        Case("the same with weights 1, 5, 20", _dropout_net(), _batches(8, 8, 3), _weights()),
        Case("equal batches, weights 1, 5, 20", _dropout_net(), _batches(6, 6), _weights()),
    ],
    observe=_measured,
)
def dataset_loss(model, batches, weight=None):
    model.eval()
    total, divisor = 0.0, 0.0
    for x, y in batches:
        with torch.no_grad():
            total += nn.functional.cross_entropy(model(x), y, weight=weight, reduction="sum").item()
        divisor += len(y) if weight is None else weight[y].sum().item()
    return total / divisor


def _means(model, batches, weight):
    model.eval()
    with torch.no_grad():
        return [F.cross_entropy(model(x), y, weight=weight).item() for x, y in batches]


def mean_of_means(model, batches, weight=None):
    means = _means(model, batches, weight)
    return sum(means) / len(means)


def weighed_by_rows(model, batches, weight=None):
    sizes = [len(y) for _, y in batches]
    means = _means(model, batches, weight)
    return sum(mean * n for mean, n in zip(means, sizes, strict=True)) / sum(sizes)


def divided_by_rows(model, batches, weight=None):
    model.eval()
    with torch.no_grad():
        total = sum(
            F.cross_entropy(model(x), y, weight=weight, reduction="sum") for x, y in batches
        )
    return total.item() / sum(len(y) for _, y in batches)


def measured_in_train_mode(model, batches, weight=None):
    total, divisor = 0.0, 0.0
    for x, y in batches:
        total += F.cross_entropy(model(x), y, weight=weight, reduction="sum").item()
        divisor += len(y) if weight is None else weight[y].sum().item()
    return total / divisor


def ignores_the_weights(model, batches, weight=None):
    return dataset_loss.right(model, batches)


def returns_a_tensor(model, batches, weight=None):
    return torch.tensor(dataset_loss.right(model, batches, weight))


# A loss of one's own -----------------------------------------------------------------------------


def _patients(n):
    return torch.linspace(-1, 1, n, dtype=torch.float64) ** 3 * 7


def _asked_for_one_number(answer, q, reduction, targets):
    loss_fn = answer(q, reduction=reduction)
    torch.manual_seed(0)
    prediction = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    target = torch.randn(5, 2, dtype=torch.float64)
    loss = loss_fn(prediction, target)
    choices = torch.linspace(-7, 7, 141, dtype=torch.float64)
    costs = torch.stack([loss_fn(c.expand_as(targets), targets).detach().sum() for c in choices])
    return {
        "loss": loss.detach(),
        "is a module": issubclass(type(loss_fn), nn.Module),
        "gradcheck": _gradcheck(loss_fn, prediction, target),
        "number chosen for 101 patients": round(choices[costs.argmin()].item(), 1),
        "shapes that differ": _refusal(loss_fn),
    }


def _gradcheck(loss_fn, prediction, target):
    if not loss_fn(prediction, target).requires_grad:
        return "the loss has no gradient"
    try:
        torch.autograd.gradcheck(loss_fn, (prediction, target))
    except GradcheckError:
        return "the slope is not that of the numbers"
    return "passed"


def _refusal(loss_fn):
    for other in (torch.zeros(5), torch.zeros(5, 3), torch.zeros(1, 1)):
        try:
            loss_fn(torch.zeros(5, 1), other)
        except ValueError:
            continue
        return f"(5, 1) and {tuple(other.shape)} are accepted"
    return "refused with a ValueError"


@chapter.exercise(
    cases=lambda: [
        Case("q = 0.9, mean", 0.9, "mean", _patients(101)),
        Case("q = 0.25, sum", 0.25, "sum", _patients(101)),
        Case("q = 0.5, none", 0.5, "none", _patients(101)),
    ],
    observe=_asked_for_one_number,
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


class _Attempt(nn.Module):
    """The parts that every attempt at the exercise has in common; ``each`` differs."""

    def __init__(self, q, reduction="mean"):
        super().__init__()
        self.q, self.reduction = q, reduction

    def forward(self, prediction, target):
        _shut(prediction, target)
        return _reduced(self.each(target - prediction), self.reduction)

    def each(self, e):
        return torch.maximum(self.q * e, (self.q - 1) * e)


class SidesExchanged(_Attempt):
    def each(self, e):
        return torch.maximum((1 - self.q) * e, -self.q * e)


class NegativeOnOneSide(_Attempt):
    def each(self, e):
        return torch.where(e > 0, self.q * e, (1 - self.q) * e)


class ScaledNotTilted(_Attempt):
    def each(self, e):
        return self.q * e.abs()


class Detached(_Attempt):
    def each(self, e):
        return super().each(e.detach())


class Squared(_Attempt):
    def each(self, e):
        return torch.where(e > 0, self.q * e**2, (1 - self.q) * e**2)


class Broadcasts(_Attempt):
    def forward(self, prediction, target):
        return _reduced(self.each(target - prediction), self.reduction)


class AlwaysTheMean(_Attempt):
    def forward(self, prediction, target):
        _shut(prediction, target)
        return self.each(target - prediction).mean()


class ChoosesOnce(_Attempt):
    def each(self, e):
        if e > 0:
            return self.q * e
        return (1 - self.q) * -e
