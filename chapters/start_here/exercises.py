"""The exercises of chapter 00: shapes, slopes, one step, and a program that never learns."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, TensorDataset

from helpers import data
from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)


@chapter.prediction
def sum_shape():
    return tuple((torch.ones(3, 1) + torch.ones(4)).shape)


@chapter.exercise(
    cases=lambda: [
        Case("x³ at 2.0", lambda x: x**3, 2.0),
        Case("x · sin x at 0.5", lambda x: x * torch.sin(x), 0.5),
        Case("relu at -1.0, where it is flat", torch.relu, -1.0),
        Case("sin(1,000,000 · x) at 0.5", lambda x: torch.sin(1e6 * x), 0.5),
    ],
)
def slope(f, at):
    x = torch.tensor(at, requires_grad=True)
    f(x).backward()
    return x.grad.item()


def _classifier():
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    return model, torch.randn(12, 6), torch.arange(12) % 3, nn.CrossEntropyLoss(), optimizer


def _regression():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    return model, torch.randn(10, 4), torch.randn(10, 1), nn.MSELoss(), optimizer


def _three_steps(answer, model, x, y, loss_fn, optimizer):
    steps = []
    optimizer.register_step_post_hook(lambda *_: steps.append("step"))
    losses = [answer(model, x, y, loss_fn, optimizer) for _ in range(3)]
    return {
        "calls of optimizer.step()": len(steps),
        "loss of each step": losses,
        "weights afterwards": [p.detach().clone() for p in model.parameters()],
    }


@chapter.exercise(
    cases=lambda: [
        Case("three steps of SGD with momentum on a classifier", *_classifier()),
        Case("three steps of Adam on a regression", *_regression()),
    ],
    observe=_three_steps,
)
def train_step(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _few_digits():
    split = data.digits()
    return split.x_train[:300], split.y_train[:300], split.x_test[:200], split.y_test[:200]


def _learns(answer, x, y, x_new, y_new):
    stepped = set()

    def remember(optimizer, *_):
        stepped.update(id(p) for group in optimizer.param_groups for p in group["params"])

    handle = register_optimizer_step_post_hook(remember)
    try:
        returned = answer(x, y)
    finally:
        handle.remove()
    if not issubclass(type(returned), nn.Module):
        return returned
    returned.eval()
    with torch.no_grad():
        accuracy = (returned(x_new).argmax(dim=1) == y_new).float().mean().item()
    moved = any(id(p) in stepped for p in returned.parameters())
    return {
        "steps moved the weights of that model": moved,
        "it reads more than 8 of 10 new digits": accuracy > 0.8,
    }


@chapter.exercise(
    cases=lambda: [Case("300 digits for training, 200 others to judge", *_few_digits())],
    observe=_learns,
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
        for images, labels in batches:
            loss = loss_fn(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model
