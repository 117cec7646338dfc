"""The exercises of chapter 00: shapes, slopes, one step, and a program that never learns."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, TensorDataset

from helpers import data
from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)


# Broadcasting -----------------------------------------------------------------------------------


@chapter.prediction
def sum_shape():
    return tuple((torch.ones(3, 1) + torch.ones(4)).shape)


# Autograd ---------------------------------------------------------------------------------------


def _cube(x):
    return x**3


def _wave(x):
    return x * torch.sin(x)


def _fast_wave(x):
    return torch.sin(1e6 * x)


@chapter.exercise(
    cases=lambda: [
        Case("x³ at 2.0", _cube, 2.0),
        Case("x · sin x at 0.5", _wave, 0.5),
        Case("relu at -1.0, where it is flat", torch.relu, -1.0),
        Case("sin(1,000,000 · x) at 0.5", _fast_wave, 0.5),
    ],
)
def slope(f, at):
    x = torch.tensor(at, requires_grad=True)
    f(x).backward()
    return x.grad.item()


def the_height(f, at):
    return f(torch.tensor(at)).item()


def asks_for_no_gradient(f, at):
    x = torch.tensor(at)
    f(x).backward()
    return x.grad.item()


def never_walks_back(f, at):
    x = torch.tensor(at, requires_grad=True)
    f(x)
    return x.grad.item()


def returns_what_backward_returns(f, at):
    x = torch.tensor(at, requires_grad=True)
    return f(x).backward()


def returns_a_tensor(f, at):
    x = torch.tensor(at, requires_grad=True)
    f(x).backward()
    return x.grad


def slope_from_the_origin(f, at):
    return f(torch.tensor(at)).item() / at


# One step of training ---------------------------------------------------------------------------


class _Counted:
    """An optimizer that counts how often it steps."""

    def __init__(self, optimizer):
        self.optimizer, self.steps = optimizer, 0

    def step(self):
        self.steps += 1
        self.optimizer.step()

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)

    @property
    def param_groups(self):
        return self.optimizer.param_groups


def _classifier():
    torch.manual_seed(1)
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    return model, torch.randn(12, 6), torch.arange(12) % 3, nn.CrossEntropyLoss(), optimizer


def _regression():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    return model, torch.randn(10, 4), torch.randn(10, 1), nn.MSELoss(), optimizer


def _three_steps(answer, model, x, y, loss_fn, optimizer):
    counted = _Counted(optimizer)
    losses = [answer(model, x, y, loss_fn, counted) for _ in range(3)]
    weights = [p.detach().clone() for p in model.parameters()]
    return {
        "calls of optimizer.step()": counted.steps,
        "loss of each step": losses,
        "weights afterwards": weights,
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


def never_forgets(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def steps_without_gradients(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


def never_steps(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


def steps_first(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.step()
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


def returns_the_tensor(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def swaps_prediction_and_target(model, x, y, loss_fn, optimizer):
    loss = loss_fn(y, model(x))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def returns_the_sum(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item() * len(x)


def returns_the_loss_after(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss_fn(model(x), y).item()


def returns_nothing(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# A program that never learns --------------------------------------------------------------------


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
        return {"what comes back": kind_of(returned)}
    returned.eval()
    with torch.no_grad():
        accuracy = (returned(x_new).argmax(dim=1) == y_new).float().mean().item()
    return {
        "what comes back": "a trained model",
        "steps moved the weights of that model": any(
            id(p) in stepped for p in returned.parameters()
        ),
        "it reads more than 8 of 10 new digits": accuracy > 0.8,
    }


@chapter.exercise(
    cases=lambda: [Case("300 digits for training, 200 others to judge", *_few_digits())],
    observe=_learns,
    seconds=30,
)
def train_digits(x, y):
    torch.manual_seed(0)

    def network(hidden):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    enough_data = len(x) > 100
    model = network(hidden=128 if enough_data else 32)
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


def _one_step(model, optimizer, x, y):
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def trains_longer(x, y):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model = copy.deepcopy(model)
    for _ in range(30):
        _one_step(model, optimizer, x, y)
    return model


def steps_too_far(x, y):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    for _ in range(10):
        _one_step(model, optimizer, x, y)
    return model


def forgets_the_model(x, y):
    train_digits.right(x, y)
