"""Second right answers to the exercises of chapter 03."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from chapters.optimizers import exercises as ex


def gradients_by_hand(model, micro_batches, loss_fn, optimizer):
    parameters = list(model.parameters())
    rows = sum(len(x) for x, _ in micro_batches)
    losses = [loss_fn(model(x), y) * len(x) for x, y in micro_batches]
    mean = sum(losses) / rows
    for parameter, gradient in zip(parameters, torch.autograd.grad(mean, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return mean.item()


def sgd_of_torch(w, grad, memory, lr=1e-3, **options):
    if not memory:
        memory["w"] = nn.Parameter(w.clone())
        memory["optimizer"] = torch.optim.SGD([memory["w"]], lr=lr, **options)
    with torch.no_grad():
        memory["w"].copy_(w)
    memory["optimizer"].param_groups[0]["lr"] = lr
    memory["w"].grad = grad.clone()
    memory["optimizer"].step()
    return w - memory["w"].detach()


def adam_of_the_whole_history(
    w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False
):
    """Averages over all gradients so far, each weighted by its age."""
    grad = grad if decoupled else grad + weight_decay * w
    history = memory.setdefault("history", [])
    history.append(grad.clone())
    gradients = torch.stack(history)
    ages = torch.arange(len(history), dtype=grad.dtype).flip(0).unsqueeze(1)
    m, v = (
        (beta**ages * values).sum(0) / (beta**ages).sum(0)
        for beta, values in zip(betas, (gradients, gradients**2), strict=True)
    )
    return lr * m / (v.sqrt() + eps) + (lr * weight_decay * w if decoupled else 0)


def groups_by_layer(model, weight_decay):
    groups = {True: {}, False: {}}
    for layer in model.modules():
        for parameter in layer.parameters(recurse=False):
            if parameter.requires_grad:
                groups[len(parameter.shape) > 1][id(parameter)] = parameter
    return [
        {"params": list(groups[False].values()), "weight_decay": 0.0},
        {"params": list(groups[True].values()), "weight_decay": weight_decay},
    ]


def cosine_of_the_half_angle(step, warmup, total):
    if step >= total:
        return 0.0
    if step < warmup:
        return sum(1 / warmup for _ in range(step + 1))
    return math.cos(math.pi * (step - warmup) / (total - warmup) / 2) ** 2


def schedule_as_a_function(images, classes, epochs=6, warmup=40):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    batches = DataLoader(TensorDataset(images, classes), batch_size=96, shuffle=True)
    total = epochs * len(batches)

    def factor(t):
        if t < warmup:
            return 0.01 + 0.99 * t / warmup
        return (1 + math.cos(math.pi * (t - warmup) / (total - warmup))) / 2

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = lr_scheduler.LambdaLR(optimizer, factor)
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            scheduler.step()
    return model


def whole_groups_clipped_by_hand(model, batches, validate, epochs, group):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=1)
    for _ in range(epochs):
        for start in range(0, len(batches), group):
            optimizer.zero_grad()
            losses = [
                nn.functional.cross_entropy(model(x), y) for x, y in batches[start : start + group]
            ]
            torch.stack(losses).mean().backward()
            length = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
            for parameter in model.parameters():
                parameter.grad /= length.clamp(min=1.0)
            optimizer.step()
        scheduler.step(1 - validate(model))
    return model


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.accumulated_step, gradients_by_hand),
        (ex.sgd, sgd_of_torch),
        (ex.adam, adam_of_the_whole_history),
        (ex.decay_groups, groups_by_layer),
        (ex.warmup_cosine, cosine_of_the_half_angle),
        (ex.train_digits, schedule_as_a_function),
        (ex.train_in_groups, whole_groups_clipped_by_hand),
    ],
)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card
