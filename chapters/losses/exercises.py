"""The exercises of chapter 02: which question a loss asks, and of how many values."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from helpers import data
from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)


def _loss_and_slope(answer, prediction, *others):
    prediction = prediction.clone().requires_grad_()
    loss = answer(prediction, *others)
    loss.sum().backward()
    return {"loss": loss.detach(), "slope": prediction.grad}


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


def _errors():
    return torch.tensor([-5.0, -1.5, -0.4, 0.0, 0.7, 1.2, 9.0])


def _grid():
    return torch.tensor([[1.2, 0.1], [3.0, 1.0], [-4.0, 1.45]])


@chapter.exercise(
    cases=lambda: [
        Case("errors on both sides of delta = 1, mean", _errors(), torch.zeros(7)),
        Case("delta = 2, sum", _errors(), torch.zeros(7), 2.0, "sum"),
        Case("delta = 0.5, none, shape (3, 2)", _grid(), torch.ones(3, 2), 0.5, "none"),
        Case("mean, shape (3, 2)", _grid(), torch.ones(3, 2), 1.0, "mean"),
        Case("predictions (3, 1), targets (3,)", _grid()[:, :1], _errors()[1:4]),
        Case("predictions (3, 1), targets (3, 2)", _grid()[:, :1], _grid()),
        Case("predictions (3, 1), targets (1, 1)", _grid()[:, :1], _grid()[:1, :1]),
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


def _far():
    return torch.tensor([-200.0, -200.0, -40.0, -40.0, 40.0, 40.0, 200.0, 200.0])


def _zeros_and_ones():
    return torch.tensor([0.0, 1.0] * 4)


@chapter.exercise(
    cases=lambda: [
        Case("moderate logits, targets 0 and 1", torch.linspace(-4, 4, 8), _zeros_and_ones()),
        Case("soft targets of shape (2, 3)", 3 * torch.randn(2, 3), torch.rand(2, 3)),
        Case("logits of ±40 and ±200", _far(), _zeros_and_ones()),
        Case("pos_weight = 3", _far() / 20, _zeros_and_ones(), torch.tensor(3.0)),
    ],
    observe=_loss_and_slope,
)
def bce_with_logits(logits, targets, pos_weight=None):
    if_positive = F.softplus(-logits)
    if_negative = F.softplus(logits)
    if pos_weight is not None:
        if_positive = pos_weight * if_positive
    return targets * if_positive + (1 - targets) * if_negative


def _sentences(batch, length, classes, pad):
    logits = 3 * torch.randn(batch, length, classes)
    targets = torch.randint(0, classes, (batch, length))
    targets = torch.where(targets == pad, (targets + 1) % classes, targets)
    for row in range(1, batch):
        targets[row, length - row - 1 :] = pad
    return logits, targets, pad


@chapter.exercise(
    cases=lambda: [
        Case("2 sentences, length 5, 7 classes, pad = 0", *_sentences(2, 5, 7, 0)),
        Case("4 sentences, length 6, 6 classes, pad = -1", *_sentences(4, 6, 6, -1)),
        Case("3 sentences, length 8, 5 classes, pad = 4", *_sentences(3, 8, 5, 4)),
    ],
    observe=_loss_and_slope,
)
def sequence_loss(logits, targets, pad):
    return F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=pad)


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
    same = torch.allclose(alone, together, atol=1e-3)
    return {
        "gets more than 8 of 10 single digits right": accuracy > 0.8,
        "gives a digit the same scores alone and in a batch": same,
        "has a cross-entropy below 1 on them": F.cross_entropy(alone, y_new).item() < 1,
    }


@chapter.exercise(
    cases=lambda: [Case("640 digits for training, 200 others to judge", *_digits())],
    observe=_asked_one_at_a_time,
    seconds=30,
)
def train_reader(x, y):
    """Train a classifier on images `x` with labels `y` and return it."""
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


def _dropout_net():
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def _batches(*sizes):
    torch.manual_seed(5)
    return [(3 * torch.randn(size, 4), torch.randint(0, 3, (size,))) for size in sizes]


def _weights():
    return torch.tensor([1.0, 5.0, 20.0])


def _returned(answer, *arguments):
    # The mode in which an answer leaves the model is not compared.
    return answer(*arguments)


@chapter.exercise(
    cases=lambda: [
        Case("batches of 8, 8 and 3 rows, no weights", _dropout_net(), _batches(8, 8, 3)),
        Case("the same with weights 1, 5, 20", _dropout_net(), _batches(8, 8, 3), _weights()),
        Case("equal batches, weights 1, 5, 20", _dropout_net(), _batches(6, 6), _weights()),
    ],
    observe=_returned,
)
def dataset_loss(model, batches, weight=None):
    model.eval()
    total, divisor = 0.0, 0.0
    for x, y in batches:
        with torch.no_grad():
            total += F.cross_entropy(model(x), y, weight=weight, reduction="sum").item()
        divisor += len(y) if weight is None else weight[y].sum().item()
    return total / divisor


def _chosen_for_patients(loss_fn):
    patients = 7 * torch.linspace(-1, 1, 101, dtype=torch.float64) ** 3
    choices = torch.linspace(-7, 7, 141, dtype=torch.float64)
    costs = [loss_fn(choice.expand_as(patients), patients).detach().sum() for choice in choices]
    return round(choices[torch.stack(costs).argmin()].item(), 1)


def _gradcheck(loss_fn, prediction, target):
    if not loss_fn(prediction, target).requires_grad:
        return "the loss has no gradient"
    if not torch.autograd.gradcheck(loss_fn, (prediction, target), raise_exception=False):
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


def _loss_and_choice(answer, prediction, target, *settings):
    loss_fn = answer(*settings)
    prediction.requires_grad_()
    return {
        "loss": loss_fn(prediction, target).detach(),
        "is a module": issubclass(type(loss_fn), nn.Module),
        "gradcheck": _gradcheck(loss_fn, prediction, target),
        "number chosen for 101 patients": _chosen_for_patients(loss_fn),
        "shapes that differ": _refusal(loss_fn),
    }


def _pair():
    return torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)


@chapter.exercise(
    cases=lambda: [
        Case("q = 0.9, mean", *_pair(), 0.9),
        Case("q = 0.25, sum", *_pair(), 0.25, "sum"),
        Case("q = 0.5, none", *_pair(), 0.5, "none"),
    ],
    observe=_loss_and_choice,
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
