"""Answers to the exercises of chapter 00 that differ from the solution and are right too."""

import pytest
import torch
from torch import nn

from chapters.start_here import exercises as ex


def slope_by_function_transform(f, at):
    return torch.func.grad(f)(torch.tensor(at)).item()


def train_step_with_gradients_asked_for(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    parameters = list(model.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return float(loss.detach())


def train_digits_with_plain_sgd(x, y):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    for _ in range(100):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.slope, slope_by_function_transform),
        (ex.train_step, train_step_with_gradients_asked_for),
        (ex.train_digits, train_digits_with_plain_sgd),
    ],
)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card
