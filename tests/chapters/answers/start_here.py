"""Answers to the exercises of chapter 00."""

import copy
import math

import numpy as np
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def slope_by_function_transform(f, at):
    return torch.func.grad(f)(torch.tensor(at)).item()


def slope_by_jacobian_in_float64(f, at):
    return np.float64(jacobian(f, torch.tensor(at, dtype=torch.float64)))


def slope_in_forward_mode(f, at):
    return torch.func.jvp(f, (torch.tensor(at),), (torch.tensor(1.0),))[1].item()


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


def fit_with_weights(model, batches, loss_fn, optimizer, epochs):
    def one_epoch():
        losses = []
        for x, y in batches:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            losses += [loss.detach()] * len(y)
        return torch.stack(losses).mean().item()

    model.train()
    return [one_epoch() for _ in range(epochs)]


def fit_divided_by_the_size_of_the_dataset(model, batches, loss_fn, optimizer, epochs):
    history = np.zeros(epochs)
    for epoch in range(epochs):
        for x, y in batches:
            loss = loss_fn(model.train()(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            history[epoch] += loss.item() * len(x) / len(batches.dataset)
    return history.tolist()


def accuracy_counted(scores, y):
    right = [row.argmax().item() == label.item() for row, label in zip(scores, y, strict=True)]
    return sum(right) / len(right)


def accuracy_of_the_indices(scores, y):
    best = scores.max(dim=1).indices
    return (best == y).sum().item() / len(y)


def accuracy_in_numpy(scores, y):
    return np.mean(scores.numpy().argmax(axis=1) == y.numpy())


def guess_loss_by_the_formula(classes):
    return -math.log(1 / classes)


def guess_loss_by_torch(classes):
    return F.cross_entropy(torch.zeros(5, classes), torch.arange(5) % classes).item()


def guess_loss_in_numpy(classes):
    return np.log(classes)


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


RIGHT = {
    "slope": [
        slope_by_function_transform,
        slope_by_jacobian_in_float64,
        slope_in_forward_mode,
    ],
    "train_step": [
        train_step_with_a_closure,
        train_step_of_a_real_optimizer,
        train_step_emptied_afterwards,
    ],
    "fit": [
        fit_with_weights,
        fit_divided_by_the_size_of_the_dataset,
    ],
    "accuracy": [
        accuracy_counted,
        accuracy_of_the_indices,
        accuracy_in_numpy,
    ],
    "guess_loss": [
        guess_loss_by_the_formula,
        guess_loss_by_torch,
        guess_loss_in_numpy,
    ],
    "train_digits": [
        train_digits_with_a_copy,
        train_digits_by_hand,
        train_digits_in_a_group_of_their_own,
    ],
}
WRONG = {
    "slope": [
        (slope_by_central_difference, "that is not rounded"),
        (slope_by_the_best_of_many_estimates, "The derivative is exact for every `f`"),
        ("x.grad.item()", "round(x.grad.item(), 2)", "that is not rounded"),
    ],
    "train_step": [
        (
            "    optimizer.zero_grad()\n",
            "",
            ".item()",
            ".detach()",
            "And besides: You return the loss as a tensor",
        ),
        (
            "    loss =",
            "    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)\n    loss =",
            "One call makes one step of the optimizer",
        ),
        ("loss.backward()", "(loss / len(x)).backward()", "One step moves the weights as"),
        (
            "optimizer.zero_grad()",
            "for p in model.parameters():\n        p.grad = None if p.dim() > 1 else p.grad",
            "of its own batch alone",
        ),
    ],
    "fit": [
        ("range(epochs)", "range(epochs + 1)", "each batch gets one step"),
        ("loss.backward()", "(loss / len(x)).backward()", "by the gradient of"),
        ("total / count", "round(total / count, 2)", "not rounded"),
        ("        history.append(total / count)", "        history = [total / count]", "one float"),
    ],
    "accuracy": [
        (".item()", ".item() > 0.5", "divided by the number of rows"),
        ("return (", "return round((", ".item()", ".item(), 1)", "not rounded"),
        (".mean()", ".mean() * len(y) / scores.shape[1]", "divided by the number of rows"),
    ],
    "guess_loss": [
        ("math.log(classes)", "math.log(10)", "for any number of classes"),
        ("math.log(classes)", "round(math.log(classes), 2)", "that is not rounded"),
        ("math.log(classes)", "-math.log(1 / classes) / classes", "−ln of the"),
    ],
    "train_digits": [
        (
            "Adam(model.parameters(), lr=0.01)",
            "SGD(model.parameters(), lr=0.0001)",
            "is the learning rate far too small",
        ),
        ("Adam(model.parameters()", "Adam([model[3].bias]", "look at the data"),
        ("\n    return model", "", "A function that has no `return`"),
    ],
}
