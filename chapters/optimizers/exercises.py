"""The exercises of chapter 03: what makes a step, and which learning rate it takes."""

from __future__ import annotations

import contextlib
from functools import partial
from itertools import chain

import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, TensorDataset

from helpers import data
from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)


def _ready() -> None:
    """Make an optimizer, as the first one of a process imports much of torch for seconds."""
    # Cases are made outside the time limit of an answer, which would interrupt the import.
    torch.optim.SGD([nn.Parameter(torch.zeros(1))])


def _pieces(*sizes):
    torch.manual_seed(sum(sizes))
    model = nn.Linear(3, 1)
    x = torch.randn(sum(sizes), 3)
    y = torch.arange(float(sum(sizes))).unsqueeze(1)
    nn.functional.mse_loss(model(x), 100 * y).backward()  # the gradients of an earlier step
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, list(zip(x.split(sizes), y.split(sizes), strict=True)), optimizer


def _one_step(answer, model, micro_batches, optimizer):
    steps = []
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    loss = answer(model, micro_batches, nn.functional.mse_loss, optimizer)
    return {
        "steps of the optimizer": len(steps),
        "weights after the step": {name: p.detach() for name, p in model.named_parameters()},
        "mean loss per row": loss,
    }


@chapter.exercise(
    cases=lambda: [
        Case("12 rows in pieces of 5, 5 and 2", *_pieces(5, 5, 2)),
        Case("12 rows in two equal pieces", *_pieces(6, 6)),
        Case("one piece", *_pieces(7)),
    ],
    observe=_one_step,
)
def accumulated_step(model, micro_batches, loss_fn, optimizer):
    rows = sum(len(x) for x, _ in micro_batches)
    total = 0.0
    optimizer.zero_grad()
    for x, y in micro_batches:
        share = len(x) / rows
        loss = loss_fn(model(x), y)
        (loss * share).backward()
        total += loss.item() * share
    optimizer.step()
    return total


def _walk(falls=False, **options):
    """A start, gradients to come, and the options of each step."""
    _ready()
    w = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    gradients = torch.randn(8, 3, dtype=torch.float64) * torch.tensor([0.1, 1.0, 10.0])
    rates = [options["lr"] * (0.5**t if falls else 1) for t in range(len(gradients))]
    return w, gradients, [{**options, "lr": rate} for rate in rates]


def _steps(answer, w, gradients, options):
    """Every step that a rule gives along the walk, and whether it left its arguments alone."""
    memory, steps, kept = {}, {}, gradients.clone()
    for t, (gradient, chosen) in enumerate(zip(gradients, options, strict=True), start=1):
        before = w.clone()
        steps[f"step {t}"] = answer(w, gradient, memory, **chosen).clone()
        steps[f"w left as it is in step {t}"] = torch.equal(w, before)
        w = before - steps[f"step {t}"]
    return steps | {"gradients left as they are": torch.equal(gradients, kept)}


@chapter.exercise(
    cases=lambda: [
        Case("plain", *_walk(lr=0.1)),
        Case("weight decay", *_walk(lr=0.1, weight_decay=0.3)),
        Case("momentum 0.9", *_walk(lr=0.1, momentum=0.9)),
        Case("momentum 0.9, dampening 0.4", *_walk(lr=0.1, momentum=0.9, dampening=0.4)),
        Case("momentum 0.8 and weight decay", *_walk(lr=0.1, momentum=0.8, weight_decay=0.3)),
        Case("Nesterov", *_walk(lr=0.1, momentum=0.8, nesterov=True)),
        Case("momentum, and a rate that falls", *_walk(falls=True, lr=0.1, momentum=0.9)),
    ],
    observe=_steps,
)
def sgd(w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False):
    grad = grad + weight_decay * w
    direction = grad
    if momentum:
        if "velocity" in memory:
            velocity = momentum * memory["velocity"] + (1 - dampening) * grad
        else:
            velocity = grad
        memory["velocity"] = velocity
        direction = grad + momentum * velocity if nesterov else velocity
    return lr * direction


@chapter.prediction
def hundredth():
    def ratio(kind, **options):
        w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = kind([w], **options)
        places = [w.item()]
        for _ in range(100):
            w.grad = torch.ones_like(w)
            optimizer.step()
            places.append(w.item())
        return round((places[100] - places[99]) / (places[1] - places[0]), 1)

    return {
        "SGD": ratio(torch.optim.SGD),
        "SGD with momentum": ratio(torch.optim.SGD, momentum=0.9),
        "Adagrad": ratio(torch.optim.Adagrad),
        "Adam": ratio(torch.optim.Adam),
    }


@chapter.exercise(
    cases=lambda: [
        Case("the defaults", *_walk(lr=0.1)),
        Case("other betas", *_walk(lr=0.1, betas=(0.5, 0.8))),
        Case("a large eps", *_walk(lr=0.1, eps=0.5)),
        Case("Adam with weight decay", *_walk(lr=0.1, weight_decay=0.3)),
        Case("AdamW with weight decay", *_walk(lr=0.1, weight_decay=0.3, decoupled=True)),
        Case(
            "AdamW, and a rate that falls",
            *_walk(falls=True, lr=0.1, weight_decay=1.0, decoupled=True),
        ),
    ],
    observe=_steps,
)
def adam(w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False):
    b1, b2 = betas
    decay = weight_decay * w
    if not decoupled:
        grad = grad + decay
    t = memory["t"] = memory.get("t", 0) + 1
    m = memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * grad
    v = memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * grad**2
    m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
    step = m_hat / (v_hat.sqrt() + eps)
    if decoupled:
        step = step + decay
    return lr * step


def _network(frozen=False):
    _ready()
    hidden = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
    hidden.requires_grad_(not frozen)
    return nn.Sequential(hidden, nn.Linear(8, 3))


def _tied():
    _ready()
    layers = {"embed": nn.Embedding(20, 6), "norm": nn.LayerNorm(6)}
    model = nn.ModuleDict(layers | {"out": nn.Linear(6, 20, bias=False)})
    model["out"].weight = model["embed"].weight
    return model


def _decay_by_name(answer, model):
    groups = torch.optim.AdamW(answer(model, 0.1), lr=0.01, weight_decay=0.7).param_groups
    return {
        "groups": len(groups),
        "weight decay of each parameter, in each group that holds it": {
            name: [group["weight_decay"] for group in groups for p in group["params"] if p is one]
            for name, one in model.named_parameters()
        },
    }


@chapter.exercise(
    cases=lambda: [
        Case("a small network with BatchNorm", _network()),
        Case("the same with its first layer frozen", _network(frozen=True)),
        Case("an embedding shared with the output layer", _tied()),
    ],
    observe=_decay_by_name,
)
def decay_groups(model, weight_decay):
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def _factors(answer, warmup, total):
    return {f"factor in step {t}": answer(t, warmup, total) for t in range(total + 6)}


@chapter.exercise(
    cases=lambda: [
        Case("10 steps of warm-up, 50 in all", 10, 50),
        Case("4 steps of warm-up, 8 in all", 4, 8),
        Case("no warm-up", 0, 20),
    ],
    observe=_factors,
)
def warmup_cosine(step, warmup, total):
    import math

    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / (total - warmup))
    return (1 + math.cos(math.pi * progress)) / 2


def _digits():
    _ready()
    split = data.digits()
    return split.x_train, split.y_train, split.x_test, split.y_test


@contextlib.contextmanager
def _watched_steps(look):
    """Call ``look(optimizer)`` before every step that any optimizer takes."""
    handle = register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: look(optimizer))
    try:
        yield
    finally:
        handle.remove()


def _rates_and_accuracy(answer, images, classes, new_images, new_classes):
    rates = []
    with _watched_steps(lambda optimizer: rates.append(optimizer.param_groups[0]["lr"])):
        model = answer(images, classes)
    with torch.no_grad():
        accuracy = (model(new_images).argmax(dim=1) == new_classes).float().mean().item()
    largest = max(rates, default=0.0)
    return {
        "optimizer steps": len(rates),
        "rate in the first step": round(rates[0], 4) if rates else None,
        "largest rate": round(largest, 3),
        "steps until the largest rate": round(rates.index(largest), -1) if rates else None,
        "the last rate is below a hundredth of the largest": bool(
            rates and rates[-1] < largest / 100
        ),
        "accuracy on new digits above 85 %": accuracy > 0.85,
    }


@chapter.exercise(
    cases=lambda: [Case("1,347 digits, 6 epochs", *_digits())],
    observe=_rates_and_accuracy,
    seconds=30,
)
def train_digits(images, classes, epochs=6, warmup=40):
    """A trained classifier; the rate warms up to 0.1 and then anneals to zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    batches = DataLoader(TensorDataset(images, classes), batch_size=96, shuffle=True)
    total = epochs * len(batches)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=warmup),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - warmup),
        ],
        milestones=[warmup],
    )
    loss_fn = nn.CrossEntropyLoss()
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
            scheduler.step()
    return model


@chapter.prediction
def chains():
    def rates(*makes):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
        schedulers = [make(optimizer) for make in makes]
        seen = []
        for _ in range(9):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            for scheduler in schedulers:
                scheduler.step()
        return torch.tensor(seen)

    first = partial(lr_scheduler.ExponentialLR, gamma=0.9)
    second = {
        "MultiStepLR": partial(lr_scheduler.MultiStepLR, milestones=[2, 5]),
        "LinearLR": partial(lr_scheduler.LinearLR, start_factor=0.5, total_iters=4),
        "LambdaLR": partial(lr_scheduler.LambdaLR, lr_lambda=lambda t: 0.5**t),
        "OneCycleLR": partial(lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=20),
    }
    return {
        name: torch.allclose(rates(first, make), rates(first) * rates(make))
        for name, make in second.items()
    }


_ACCURACIES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.85, 0.85, 0.85)


def _micro(group, size=5.0, odd=1000.0):
    """Micro-batches of which each uses two input columns of its own within its group."""
    _ready()
    torch.manual_seed(group)
    model = nn.Linear(2 * group, 3)
    batches = []
    for number in range(8 if group == 4 else 6):
        x = torch.zeros(5, 2 * group)
        columns = 2 * (number % group)
        x[:, columns : columns + 2] = size * torch.randn(5, 2)
        batches.append((x, torch.randint(3, (5,))))
    batches[-1][0][0] *= odd
    return model, batches, group


def _what_each_step_sees(answer, model, batches, group):
    rates, lengths, shares = [], [], []

    def look(optimizer):
        gradient = model.weight.grad
        of_each = torch.linalg.vector_norm(gradient.reshape(3, group, 2), dim=(0, 2))
        length = nn.utils.get_total_norm([p.grad for p in model.parameters()])
        rates.append(optimizer.param_groups[0]["lr"])
        lengths.append(round(length.item(), 3))
        shares.append((of_each / gradient.norm()).tolist())

    accuracies = iter(_ACCURACIES)
    with _watched_steps(look):
        answer(model, batches, lambda model: next(accuracies), len(_ACCURACIES), group)
    per_epoch = len(batches) // group
    return {
        "optimizer steps": len(rates),
        "longest gradient at a step": max(lengths, default=0),
        "micro-batches in the gradient of each step": [
            sum(share > 0 for share in of_step) for of_step in shares[:per_epoch]
        ],
        "length of the gradient at each step of the first epoch": lengths[:per_epoch],
        "their shares in the first step": [round(share, 3) for share in chain(*shares[:1])],
        "rate in each epoch": [round(rate, 6) for rate in rates[::per_epoch]],
    }


@chapter.exercise(
    cases=lambda: [
        Case("8 micro-batches in groups of 4, one row a thousand times too large", *_micro(4)),
        Case("6 micro-batches in groups of 2", *_micro(2)),
        Case("8 micro-batches in groups of 4, all of them quiet", *_micro(4, size=0.05, odd=1)),
    ],
    observe=_what_each_step_sees,
    seconds=30,
)
def train_in_groups(model, batches, validate, epochs, group):
    """Train on groups of micro-batches; clip; lower the rate when validation stalls."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.1, patience=1
    )
    loss_fn = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        model.train()
        for number, (x, y) in enumerate(batches, start=1):
            loss = loss_fn(model(x), y) / group
            loss.backward()
            if number % group == 0:
                nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
                optimizer.step()
                optimizer.zero_grad()
        model.eval()
        accuracy = validate(model)
        scheduler.step(accuracy)
        print(f"epoch {epoch}: accuracy {accuracy:.1%}, rate {scheduler.get_last_lr()[0]:.0e}")
    return model
