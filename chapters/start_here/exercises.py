"""The exercises of chapter 00: shapes, slopes, a step, a loop, and a program that never learns."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from helpers import data
from helpers.exercises import Case, Exercises, Words, require

chapter = Exercises(__file__)
report = chapter.report


@chapter.prediction
def sum_shape():
    return tuple((torch.ones(3, 1) + torch.ones(4)).shape)


def _called(answer, f, at):
    return answer(f, at)


def _polynomial(number):
    """A cubic with drawn coefficients, and a place at which it rises or falls clearly."""
    torch.manual_seed(number)
    (a, b, c), at = (torch.rand(3) + 0.5).tolist(), 1 + number / 4
    return (lambda x: a * x**3 + b * x**2 + c * x), at


@chapter.exercise(
    cases=lambda: [
        Case("x³ at 2.0", lambda x: x**3, 2.0),
        Case("5 · x at 2.0, after another function at 2.0", lambda x: 5 * x, 2.0),
        Case("x · sin x at 0.5", lambda x: x * torch.sin(x), 0.5),
        Case("x² at 0.0", lambda x: x**2, 0.0),
        Case("a line with the slope 7 at 1000.0", lambda x: 7 * x + 3, 1000.0),
        *(Case(f"cubic {n} at {_polynomial(n)[1]}", *_polynomial(n)) for n in range(4)),
        Case("exp at -1.5", torch.exp, -1.5),
        Case("relu at -1.0, where it is flat", torch.relu, -1.0),
        Case("1 / x at 0.25", lambda x: 1 / x, 0.25, about="sign"),
        Case("cos x at 1.0", torch.cos, 1.0, about="sign"),
        Case("x² at -3.0", lambda x: x**2, -3.0, about="sign"),
        Case("sin(1,000,000 · x) at 0.5", lambda x: torch.sin(1e6 * x), 0.5, about="exact"),
        Case("relu at 0.0, where autograd says 0", torch.relu, 0.0, about="exact"),
        Case("abs at 0.0, where autograd says 0", torch.abs, 0.0, about="exact"),
    ],
    observe=_called,
)
def slope(f, at):
    x = torch.tensor(at, requires_grad=True)
    f(x).backward()
    return x.grad.item()


def _classifier():
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    batches = [(torch.randn(rows, 6), torch.arange(rows) % 3) for rows in (12, 5, 12)]
    return model, batches, nn.CrossEntropyLoss(), optimizer


def _regression():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    batches = [(torch.randn(rows, 4), torch.randn(rows, 1)) for rows in (10, 10, 1)]
    return model, batches, nn.MSELoss(), optimizer


def _counts():
    """The loss takes its arguments in either order, and gives another value."""
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    rates = [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[2].parameters()}]
    optimizer = torch.optim.SGD(rates, lr=0.1, weight_decay=0.1)
    batches = [(torch.randn(rows, 3), 2 * torch.rand(rows, 2)) for rows in (7, 4, 6)]
    return model, batches, nn.PoissonNLLLoss(), optimizer


def _last_layer():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    optimizer = torch.optim.AdamW(model[2].parameters(), lr=0.05)
    batches = [(torch.randn(rows, 4), torch.arange(rows) % 3) for rows in (8, 9, 1)]
    return model, batches, nn.CrossEntropyLoss(), optimizer


def _with_dropout():
    """One forward pass is one draw: the loss and the step are of the same."""
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    batches = [(torch.randn(rows, 4), torch.arange(rows) % 3) for rows in (6, 9, 3)]
    return model, batches, nn.CrossEntropyLoss(), optimizer


def _number(value):
    tensor = issubclass(type(value), torch.Tensor) and value.numel() == 1
    return value.item() if tensor else value


def _three_steps(answer, model, batches, loss_fn, optimizer):
    steps, losses, weights = [], [], []
    optimizer.register_step_post_hook(lambda *_: steps.append("step"))
    for x, y in batches:
        losses.append(answer(model, x, y, loss_fn, optimizer))
        weights.append([p.detach().clone() for p in model.parameters()])
    yield "steps", len(steps)
    yield "first weights", weights[0]
    yield "weights", weights[1:]
    yield "loss", losses[0]
    # What the first loss says about the type is not said again.
    yield "losses", [_number(loss) for loss in losses[1:]]


@chapter.exercise(
    cases=lambda: [
        Case("three steps of SGD with momentum on a classifier", *_classifier()),
        Case("three steps of Adam on a regression", *_regression()),
        Case("three steps of SGD with two learning rates on counts", *_counts()),
        Case("three steps of AdamW, which holds the last layer alone", *_last_layer()),
        Case("three steps of SGD on a network with dropout", *_with_dropout()),
    ],
    observe=_three_steps,
)
def train_step(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _in_batches(x, y, size, shuffle=False):
    return DataLoader(TensorDataset(x, y), batch_size=size, shuffle=shuffle)


def _rows_of_classes():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    batches = _in_batches(torch.randn(11, 4), torch.arange(11) % 3, 4)
    return model, batches, nn.CrossEntropyLoss(), optimizer, 3


def _rows_of_numbers():
    model = nn.Linear(5, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    batches = _in_batches(torch.randn(7, 5), 3 * torch.randn(7, 1), 3)
    return model, batches, nn.MSELoss(), optimizer, 2


def _rows_of_counts():
    """The loss takes its arguments in either order, and gives another value."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.2)
    batches = _in_batches(torch.randn(9, 3), 2 * torch.rand(9, 2), 5)
    return model, batches, nn.PoissonNLLLoss(), optimizer, 4


def _shuffled_rows():
    """Each pass over the batches has another order."""
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    batches = _in_batches(torch.randn(10, 4), torch.arange(10) % 3, 4, shuffle=True)
    return model, batches, nn.CrossEntropyLoss(), optimizer, 3


def _rows_with_dropout():
    model, *_ = _with_dropout()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    batches = _in_batches(torch.randn(8, 4), torch.arange(8) % 3, 3)
    return model, batches, nn.CrossEntropyLoss(), optimizer, 2


def _epochs(answer, model, batches, loss_fn, optimizer, epochs):
    steps, modes = [], []
    optimizer.register_step_post_hook(lambda *_: steps.append("step"))
    model.eval().register_forward_pre_hook(lambda module, _: modes.append(module.training))
    history = answer(model, batches, loss_fn, optimizer, epochs)
    yield "steps", len(steps)
    yield "weights", [p.detach().clone() for p in model.parameters()]
    yield "mode", all(modes)
    yield "history", history


@chapter.exercise(
    cases=lambda: [
        Case("11 rows of three classes, in batches of 4", *_rows_of_classes()),
        Case("7 rows of numbers, in batches of 3", *_rows_of_numbers()),
        Case("9 rows of counts, in batches of 5", *_rows_of_counts()),
        Case("10 rows in a new order in each epoch", *_shuffled_rows()),
        Case("8 rows, a network with dropout inside", *_rows_with_dropout()),
    ],
    observe=_epochs,
)
def fit(model, batches, loss_fn, optimizer, epochs):
    history = []
    model.train()
    for _ in range(epochs):
        total, count = 0.0, 0
        for x, y in batches:
            loss = loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
            count += len(x)
        history.append(total / count)
    return history


def _scores(rows, classes, right, shift=0.0):
    """Scores, and classes of which the first ``right`` have the largest score.

    The largest score of all is in the first row, so that its place in the table is a class.
    """
    scores = torch.randn(rows, classes) + shift
    scores = scores[scores.amax(dim=1).argsort(descending=True)]
    y = scores.argmax(dim=1)
    y[right:] = (y[right:] + 1) % classes
    return scores, y


@chapter.exercise(
    cases=lambda: [
        Case("8 rows of 3 classes", *_scores(8, 3, right=5)),
        Case("5 rows of 5 classes", *_scores(5, 5, right=2)),
        Case("6 rows of 4 classes, all scores below zero", *_scores(6, 4, right=4, shift=-10.0)),
        Case("each answer right", *_scores(7, 10, right=7)),
        Case("each answer wrong", *_scores(7, 10, right=0)),
        Case(
            "scores that are equal: `argmax` gives the first",
            torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [3.0, 3.0, 3.0]]),
            torch.tensor([1, 1, 2]),
        ),
        Case(
            "scores far from zero",
            torch.tensor([[20.0, 30.0], [-200.0, -150.0], [95.0, 90.0]]),
            torch.tensor([1, 1, 1]),
        ),
    ],
)
def accuracy(scores, y):
    return (scores.argmax(dim=1) == y).float().mean().item()


@chapter.exercise(
    cases=lambda: [Case(f"{classes} classes", classes) for classes in (10, 2, 3, 1000)],
)
def guess_loss(classes):
    return math.log(classes)


def _few_digits(training):
    split = data.digits()
    return split.x_train[:training], split.y_train[:training], split.x_val, split.y_val


def _reads(share):
    def observe(answer, x, y, x_new, y_new):
        model = require(answer(x, y), nn.Module, "what `train_digits` returns").eval()
        with torch.no_grad():
            scores = model(x_new)
        right = (scores.argmax(dim=1) == y_new).float().mean().item()
        if right > share:
            return Words(f"more than {share:.0%} of new digits read")
        # A known mistake gives the very same scores.
        return Words(f"{right:.1%} of new digits read (largest score {scores.max().item():.4f})")

    return observe


@chapter.exercise(
    cases=lambda: [
        Case("300 digits for training", *_few_digits(300), about="learns", observe=_reads(0.8)),
        Case("80 digits for training", *_few_digits(80), about="few", observe=_reads(0.4)),
        Case("400 digits for training", *_few_digits(400), about="learns", observe=_reads(0.8)),
    ],
    seconds=30,
)
def train_digits(x, y):
    """Train a classifier on images `x` with labels `y` and return it."""
    torch.manual_seed(0)

    def network(hidden):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    model = network(hidden=32)
    if len(x) > 100:  # enough data for a wider network
        model = network(hidden=128)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss_fn = nn.CrossEntropyLoss()
    batches = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

    model.train()
    for _ in range(10):
        for x_batch, y_batch in batches:
            loss = loss_fn(model(x_batch), y_batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model
