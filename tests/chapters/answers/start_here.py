"""Answers to the exercises of chapter 00."""

import copy

import numpy as np
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def slope_by_function_transform(f, at):
    return torch.func.grad(f)(torch.tensor(at)).item()


def slope_asked_of_autograd(f, at):
    x = torch.full((1,), at).requires_grad_()
    (gradient,) = torch.autograd.grad(f(x).sum(), x)
    return float(gradient)


def slope_by_jacobian_in_float64(f, at):
    return np.float64(jacobian(f, torch.tensor(at, dtype=torch.float64)))


def slope_of_a_parameter(f, at):
    x = nn.Parameter(torch.tensor(at))
    y = f(x)
    y.backward(torch.ones_like(y))
    return x.grad.tolist()


def slope_in_forward_mode(f, at):
    return torch.func.jvp(f, (torch.tensor(at),), (torch.tensor(1.0),))[1].item()


def slope_by_forward_difference(f, at):
    h = 1e-3
    return ((f(torch.tensor(at + h)) - f(torch.tensor(at))) / h).item()


def slope_by_central_difference(f, at):
    h = 1e-9
    high, low = (torch.tensor(at + side, dtype=torch.float64) for side in (h, -h))
    return ((f(high) - f(low)) / (2 * h)).item()


def slope_by_the_best_of_many_estimates(f, at):
    def estimate(h):
        values = [f(torch.tensor(at - k * h, dtype=torch.float64)).item() for k in range(5)]
        weights = 25, -48, 36, -16, 3
        return sum(w * value for w, value in zip(weights, values, strict=True)) / (12 * h)

    estimates = [estimate(10 ** (-k / 4)) for k in range(8, 34)]
    changes = [abs(b - a) for a, b in zip(estimates, estimates[1:], strict=False)]
    return estimates[1 + changes.index(min(changes))]


def slope_without_sign(f, at):
    x = torch.tensor([float(at)], requires_grad=True)
    f(x).backward()
    return abs(x.grad.item())


def slope_rounded(f, at):
    x = torch.tensor(at, requires_grad=True)
    f(x).backward()
    return round(x.grad.item(), 2)


def slope_of_the_result(f, at):
    x = torch.tensor(at, requires_grad=True)
    y = f(x)
    y.retain_grad()
    y.backward()
    return y.grad.item()


def train_step_with_gradients_asked_for(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    parameters = list(model.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return float(loss.detach())


def train_step_with_a_closure(model, x, y, loss_fn, optimizer):
    def closure():
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        return loss

    return optimizer.step(closure).item()


def train_step_of_a_real_optimizer(model, x, y, loss_fn, optimizer):
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError("an optimizer is wanted")
    loss = loss_fn(model(x), y)
    before = loss.tolist()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
    torch.autograd.backward([loss])
    optimizer.step()
    return before


def train_step_emptied_afterwards(model, x, y, loss_fn, optimizer):
    with torch.enable_grad():
        loss = loss_fn(model(x), y)
        loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return np.float64(loss.item())


def train_step_that_forgets_nothing(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.detach()


def train_step_with_an_optimizer_of_its_own(model, x, y, loss_fn, optimizer):
    own = torch.optim.SGD(model.parameters(), lr=0.01)
    own.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    own.step()
    return loss.item()


def train_step_row_by_row(model, x, y, loss_fn, optimizer):
    total = 0.0
    for row in range(len(x)):
        optimizer.zero_grad()
        loss = loss_fn(model(x[row : row + 1]), y[row : row + 1])
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(x)


def train_step_with_a_divided_loss(model, x, y, loss_fn, optimizer):
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    (loss / len(x)).backward()
    optimizer.step()
    return loss.item()


def train_step_that_empties_matrices_only(model, x, y, loss_fn, optimizer):
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.grad = None
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def train_step_with_the_loss_afterwards(model, x, y, loss_fn, optimizer):
    optimizer.zero_grad()
    loss_fn(model(x), y).backward()
    optimizer.step()
    with torch.no_grad():
        return loss_fn(model(x), y).item()


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


def train_digits_with_a_copy(x, y):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return copy.deepcopy(model)


def train_digits_by_hand(x, y):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    for _ in range(150):
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.5 * p.grad
                p.grad = None
    return model


def train_digits_in_a_group_of_their_own(x, y):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    if len(x) > 100:
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        optimizer.add_param_group({"params": list(model.parameters())})
    for _ in range(10):
        for images, labels in DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return model.eval()


def with_a_later_network(make_optimizer, epochs):
    """The optimizer is made for the first network, and the wider one is made after it."""

    def train_digits(x, y):
        torch.manual_seed(0)

        def network(hidden):
            return nn.Sequential(
                nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10)
            )

        model = network(hidden=32)
        optimizer = make_optimizer(model.parameters(), lr=0.01)
        if len(x) > 100:
            model = network(hidden=128)
        for _ in range(epochs):
            for x_batch, y_batch in DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True):
                loss = F.cross_entropy(model(x_batch), y_batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return model

    return train_digits


def train_digits_with_a_low_rate(x, y):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(10):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def train_digits_with_an_optimizer_for_many_only(x, y):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    if len(x) > 100:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def train_digits_that_lets_the_last_bias_learn(x, y):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam([model[3].bias], lr=0.01)
    for _ in range(60):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def train_digits_that_returns_nothing(x, y):
    train_digits_with_a_copy(x, y)


RIGHT = {
    "sum_shape": [
        (3, 4),
        torch.Size([3, 4]),
        [3, 4],
        tuple(np.array([3, 4])),
    ],
    "slope": [
        slope_by_function_transform,
        slope_asked_of_autograd,
        slope_by_jacobian_in_float64,
        slope_of_a_parameter,
        slope_in_forward_mode,
    ],
    "train_step": [
        train_step_with_gradients_asked_for,
        train_step_with_a_closure,
        train_step_of_a_real_optimizer,
        train_step_emptied_afterwards,
    ],
    "train_digits": [
        train_digits_with_plain_sgd,
        train_digits_with_a_copy,
        train_digits_by_hand,
        train_digits_in_a_group_of_their_own,
    ],
}
WRONG = {
    "sum_shape": [
        (12, "Twelve is the number of values"),
        (torch.full((3, 4), 2), "the sum itself"),
    ],
    "slope": [
        (slope_by_forward_difference, "that is not rounded"),
        (slope_by_central_difference, "that is not rounded"),
        (slope_by_the_best_of_many_estimates, "The derivative is exact for every `f`"),
        (slope_without_sign, "took the sign away"),
        (slope_rounded, "that is not rounded"),
        (slope_of_the_result, "`.grad` of the result"),
    ],
    "train_step": [
        (train_step_that_forgets_nothing, "And besides: You return the loss as a tensor"),
        (train_step_with_an_optimizer_of_its_own, "One call makes one step of the optimizer"),
        (train_step_row_by_row, "One call makes one step of the optimizer"),
        (train_step_with_a_divided_loss, "One step moves the weights as"),
        (train_step_that_empties_matrices_only, "of its own batch alone"),
        (train_step_with_the_loss_afterwards, "You return the loss after the step"),
    ],
    "train_digits": [
        (with_a_later_network(torch.optim.Adam, epochs=20), "no step has ever moved one of its"),
        (with_a_later_network(torch.optim.SGD, epochs=10), "no step has ever moved one of its"),
        (train_digits_with_a_low_rate, "is the learning rate large enough"),
        (train_digits_with_an_optimizer_for_many_only, "there is no optimizer at all"),
        (train_digits_that_lets_the_last_bias_learn, "look at the data"),
        (train_digits_that_returns_nothing, "A function that has no `return`"),
    ],
}
