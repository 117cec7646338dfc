"""The exercises of chapter 03: what makes a step, and which learning rate it takes."""

from __future__ import annotations

import contextlib
import functools
import math

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, TensorDataset

from helpers import data
from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)


@functools.cache
def _ready() -> None:
    """Make the first optimizer of the process, which imports much of torch for seconds."""
    # An answer's time limit is not the place for it: an interrupted import leaves wreckage.
    torch.optim.SGD([nn.Parameter(torch.zeros(1))])


# One step from several micro-batches ------------------------------------------------------------


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
        loss = loss_fn(model(x), y) * len(x) / rows
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


def _accumulate(model, micro_batches, loss_fn, optimizer, weight):
    """The loop that all attempts share; ``weight(x)`` is a micro-batch's share."""
    rows = sum(len(x) for x, _ in micro_batches)
    total = 0.0
    for x, y in micro_batches:
        loss = loss_fn(model(x), y)
        (loss * weight(x)).backward()
        total += loss.item() * len(x) / rows
    optimizer.step()
    return total


def adds_the_means(model, micro_batches, loss_fn, optimizer):
    optimizer.zero_grad()
    return _accumulate(model, micro_batches, loss_fn, optimizer, lambda x: 1)


def divides_by_pieces(model, micro_batches, loss_fn, optimizer):
    optimizer.zero_grad()
    return _accumulate(model, micro_batches, loss_fn, optimizer, lambda x: 1 / len(micro_batches))


def never_clears(model, micro_batches, loss_fn, optimizer):
    rows = sum(len(x) for x, _ in micro_batches)
    return _accumulate(model, micro_batches, loss_fn, optimizer, lambda x: len(x) / rows)


def clears_each_time(model, micro_batches, loss_fn, optimizer):
    rows, total = sum(len(x) for x, _ in micro_batches), 0.0
    for x, y in micro_batches:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y) * len(x) / rows
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


def steps_each_time(model, micro_batches, loss_fn, optimizer):
    rows, total = sum(len(x) for x, _ in micro_batches), 0.0
    for x, y in micro_batches:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y) * len(x) / rows
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total


# SGD --------------------------------------------------------------------------------------------


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


sgd.observe(_steps)


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
)
def sgd(w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False):
    direction = grad + weight_decay * w
    if momentum:
        grad = direction
        if "velocity" in memory:
            memory["velocity"] = momentum * memory["velocity"] + (1 - dampening) * grad
        else:
            memory["velocity"] = grad
        velocity = memory["velocity"]
        direction = grad + momentum * velocity if nesterov else velocity
    return lr * direction


def averages(w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False):
    grad = grad + weight_decay * w
    if not momentum:
        return lr * grad
    old = memory.get("velocity", 0)
    memory["velocity"] = momentum * old + (1 - momentum) * grad
    return lr * (grad + momentum * memory["velocity"] if nesterov else memory["velocity"])


def keeps_the_rate(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    grad = grad + weight_decay * w
    if not momentum:
        return lr * grad
    if "velocity" in memory:
        memory["velocity"] = momentum * memory["velocity"] + (1 - dampening) * lr * grad
    else:
        memory["velocity"] = lr * grad
    return lr * grad + momentum * memory["velocity"] if nesterov else memory["velocity"]


def dampens_the_first(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    grad = grad + weight_decay * w
    if not momentum:
        return lr * grad
    memory["velocity"] = momentum * memory.get("velocity", 0) + (1 - dampening) * grad
    return lr * (grad + momentum * memory["velocity"] if nesterov else memory["velocity"])


def decays_at_the_end(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    direction = grad
    if momentum:
        old = memory.get("velocity")
        velocity = grad if old is None else momentum * old + (1 - dampening) * grad
        memory["velocity"] = velocity
        direction = grad + momentum * velocity if nesterov else velocity
    return lr * (direction + weight_decay * w)


def without_nesterov(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    direction = grad + weight_decay * w
    if momentum:
        old = memory.get("velocity")
        memory["velocity"] = (
            direction if old is None else momentum * old + (1 - dampening) * direction
        )
        direction = memory["velocity"]
    return lr * direction


def writes_into_the_gradient(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    grad += weight_decay * w
    if not momentum:
        return lr * grad
    if "velocity" in memory:
        memory["velocity"].mul_(momentum).add_(grad, alpha=1 - dampening)
    else:
        memory["velocity"] = grad
    return lr * (grad + momentum * memory["velocity"] if nesterov else memory["velocity"])


# The length of a step ---------------------------------------------------------------------------


def _ratio(kind, **options):
    w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = kind([w], **options)
    places = [w.item()]
    for _ in range(100):
        w.grad = torch.ones_like(w)
        optimizer.step()
        places.append(w.item())
    return round((places[100] - places[99]) / (places[1] - places[0]), 1)


@chapter.prediction
def hundredth_ratios():
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


# Adam -------------------------------------------------------------------------------------------


adam.observe(_steps)


@chapter.exercise(
    cases=lambda: [
        Case("the defaults", *_walk(lr=0.1)),
        Case("other betas", *_walk(lr=0.1, betas=(0.5, 0.8))),
        Case("a large eps", *_walk(lr=0.1, eps=0.5)),
        Case("Adam with weight decay", *_walk(lr=0.1, weight_decay=0.3)),
        Case("AdamW with weight decay", *_walk(lr=0.1, weight_decay=0.3, decoupled=True)),
        Case(
            "AdamW, and a rate that falls", *_walk(True, lr=0.1, weight_decay=1.0, decoupled=True)
        ),
    ],
)
def adam(w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False):
    decay = weight_decay * w
    if not decoupled:
        grad = grad + decay
    b1, b2 = betas
    t = memory["t"] = memory.get("t", 0) + 1
    m = memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * grad
    v = memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * grad**2
    step = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
    return lr * (step + decay) if decoupled else lr * step


def _adam_attempt(
    w,
    grad,
    memory,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0,
    decoupled=False,
    correction=lambda beta, t: 1 - beta**t,
    quotient=lambda m, v, eps: m / (v.sqrt() + eps),
    square=lambda grad, m: grad**2,
    decay_rate=None,
):
    """Adam, with the parts replaceable in which attempts differ."""
    grad = grad if decoupled else grad + weight_decay * w
    t = memory["t"] = memory.get("t", 0) + 1
    m = memory["m"] = betas[0] * memory.get("m", 0) + (1 - betas[0]) * grad
    v = memory["v"] = betas[1] * memory.get("v", 0) + (1 - betas[1]) * square(grad, m)
    step = lr * quotient(m / correction(betas[0], t), v / correction(betas[1], t), eps)
    decay = (lr if decay_rate is None else decay_rate) * weight_decay * w
    return step + decay if decoupled else step


def uncorrected(w, grad, memory, **options):
    return _adam_attempt(w, grad, memory, **options, correction=lambda beta, t: 1)


def corrected_for_ever(w, grad, memory, **options):
    return _adam_attempt(w, grad, memory, **options, correction=lambda beta, t: 1 - beta)


def eps_under_the_root(w, grad, memory, **options):
    return _adam_attempt(
        w, grad, memory, **options, quotient=lambda m, v, eps: m / (v + eps).sqrt()
    )


def without_the_root(w, grad, memory, **options):
    return _adam_attempt(w, grad, memory, **options, quotient=lambda m, v, eps: m / (v + eps))


def betas_swapped(w, grad, memory, betas=(0.9, 0.999), **options):
    return _adam_attempt(w, grad, memory, betas=betas[::-1], **options)


def squares_the_average(w, grad, memory, **options):
    return _adam_attempt(w, grad, memory, **options, square=lambda grad, m: m**2)


def never_decoupled(w, grad, memory, decoupled=False, **options):
    return _adam_attempt(w, grad, memory, **options)


def always_decoupled(w, grad, memory, decoupled=False, **options):
    return _adam_attempt(w, grad, memory, decoupled=True, **options)


def decay_without_rate(w, grad, memory, **options):
    return _adam_attempt(w, grad, memory, **options, decay_rate=1)


# Parameter groups -------------------------------------------------------------------------------


def _network(frozen=False):
    _ready()
    hidden = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
    if frozen:
        hidden.requires_grad_(False)
    return nn.Sequential(hidden, nn.Linear(8, 3))


def _tied():
    _ready()
    model = nn.ModuleDict(
        {
            "embed": nn.Embedding(20, 6),
            "norm": nn.LayerNorm(6),
            "out": nn.Linear(6, 20, bias=False),
        }
    )
    model["out"].weight = model["embed"].weight
    return model


def _decay_by_name(answer, model):
    optimizer = torch.optim.AdamW(answer(model, 0.1), lr=0.01, weight_decay=0.7)
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    return {
        "groups": len(optimizer.param_groups),
        "entries in the groups": sum(len(group["params"]) for group in optimizer.param_groups),
        "weight decay of each parameter": {
            name: decays.get(id(p), "in no group") for name, p in model.named_parameters()
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


def by_name(model, weight_decay):
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for n, p in trained if "bias" not in n], "weight_decay": weight_decay},
        {"params": [p for n, p in trained if "bias" in n], "weight_decay": 0.0},
    ]


def frozen_too(model, weight_decay):
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def leaves_the_rest_out(model, weight_decay):
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [nn.Parameter(torch.zeros(1))], "weight_decay": 0.0},
    ]


def the_wrong_way_round(model, weight_decay):
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": 0.0},
    ]


def relies_on_the_default(model, weight_decay):
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2]},
    ]


def shared_twice(model, weight_decay):
    decayed, rest = [], []
    for part in model.modules():
        for parameter in part.parameters(recurse=False):
            if parameter.requires_grad:
                (decayed if parameter.ndim >= 2 else rest).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]


# Which schedules multiply -----------------------------------------------------------------------


def _multiplies(make):
    from torch.optim.lr_scheduler import ExponentialLR

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

    def exponential(optimizer):
        return ExponentialLR(optimizer, 0.9)

    return torch.allclose(rates(exponential, make), rates(exponential) * rates(make))


@chapter.prediction
def chains_measured():
    from torch.optim import lr_scheduler as schedulers

    def rates(*makes):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
        made = [make(optimizer) for make in makes]
        seen = []
        for _ in range(9):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            for scheduler in made:
                scheduler.step()
        return torch.tensor(seen)

    def first(optimizer):
        return schedulers.ExponentialLR(optimizer, 0.9)

    second = {
        "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [2, 5]),
        "LinearLR": lambda o: schedulers.LinearLR(o, 0.5, total_iters=4),
        "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda t: 0.5**t),
        "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 1.0, total_steps=20),
    }
    return {
        name: torch.allclose(rates(first, make), rates(first) * rates(make))
        for name, make in second.items()
    }


# Warm-up and cosine -----------------------------------------------------------------------------


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


def _cosine(progress):
    return (1 + math.cos(math.pi * progress)) / 2


def starts_at_zero(step, warmup, total):
    if step < warmup:
        return step / warmup
    return _cosine(min(1.0, (step - warmup) / (total - warmup)))


def cosine_from_the_start(step, warmup, total):
    return (step + 1) / warmup if step < warmup else _cosine(min(1.0, step / total))


def rises_again(step, warmup, total):
    return (step + 1) / warmup if step < warmup else _cosine((step - warmup) / (total - warmup))


def goes_negative(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    return math.cos(math.pi * min(1.0, (step - warmup) / (total - warmup)))


def divides_by_zero(step, warmup, total):
    rise = min(1.0, (step + 1) / warmup)
    return rise * _cosine(min(1.0, max(0, step - warmup) / (total - warmup)))


def falls_too_long(step, warmup, total):
    return (step + 1) / warmup if step < warmup else _cosine(min(1.0, (step - warmup) / total))


# Bug hunt: one bug ------------------------------------------------------------------------------


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


def _train_digits(images, classes, schedule, epochs=6, lr=0.1, per_epoch=False):
    """The program with another schedule: ``schedule(optimizer, total)`` gives what is stepped."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    batches = DataLoader(TensorDataset(images, classes), batch_size=96, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    scheduler = schedule(optimizer, epochs * len(batches))
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            if scheduler and not per_epoch:
                scheduler.step()
        if scheduler and per_epoch:
            scheduler.step()
    return model


def _rise_and_fall(optimizer, warmup, fall):
    make = torch.optim.lr_scheduler
    parts = [
        make.LinearLR(optimizer, 0.01, total_iters=warmup),
        make.CosineAnnealingLR(optimizer, T_max=fall),
    ]
    return make.SequentialLR(optimizer, parts, milestones=[warmup])


def larger_rate(images, classes):
    return _train_digits(
        images,
        classes,
        lambda o, total: _rise_and_fall(o, 40, total - 40),
        lr=0.5,
        per_epoch=True,
    )


def no_schedule(images, classes):
    return _train_digits(images, classes, lambda o, total: None)


def warmup_in_epochs(images, classes):
    return _train_digits(images, classes, lambda o, total: _rise_and_fall(o, 2, 4), per_epoch=True)


def falls_in_six_batches(images, classes):
    return _train_digits(images, classes, lambda o, total: _rise_and_fall(o, 40, 6))


def the_same_again(images, classes):
    return _train_digits(
        images, classes, lambda o, total: _rise_and_fall(o, 40, total - 40), per_epoch=True
    )


# Bug hunt: several bugs -------------------------------------------------------------------------


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
    seen = []

    def look(optimizer):
        gradient = model.weight.grad
        columns = gradient.norm(dim=0).square()
        shares = columns.reshape(group, 2).sum(dim=1).sqrt() / gradient.norm()
        length = nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()
        seen.append((optimizer.param_groups[0]["lr"], length, shares))

    accuracies = iter(_ACCURACIES)
    with _watched_steps(look):
        answer(model, batches, lambda model: next(accuracies), len(_ACCURACIES), group)
    per_epoch = len(batches) // group
    return {
        "optimizer steps": len(seen),
        "longest gradient at a step": round(max(length for _, length, _ in seen), 3) if seen else 0,
        "micro-batches in the gradient of each step": [
            int((shares > 0).sum()) for _, _, shares in seen[:per_epoch]
        ],
        "length of the gradient at each step of the first epoch": [
            round(length, 3) for _, length, _ in seen[:per_epoch]
        ],
        "their shares in the first step": [round(s.item(), 3) for s in seen[0][2]] if seen else [],
        "rate in each epoch": [round(rate, 6) for rate, _, _ in seen[::per_epoch]],
    }


@chapter.exercise(
    cases=lambda: [
        Case("8 micro-batches in groups of 4, one row a thousand times too large", *_micro(4)),
        Case("6 micro-batches in groups of 2", *_micro(2)),
        Case("8 micro-batches in groups of 4, all of them quiet", *_micro(4, size=0.05, odd=1)),
    ],
    observe=_what_each_step_sees,
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


def _grouped(clears, clips, mode):
    """An attempt: ``clears`` before a "batch" or a "group"; ``clips`` "early" (before backward),
    at each "piece", before the step ("right") or "late" (after it)."""

    def attempt(model, batches, validate, epochs, group):
        def clip(moment):
            if moment == clips:
                nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)

        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode=mode, factor=0.1, patience=1
        )
        for _ in range(epochs):
            for number, (x, y) in enumerate(batches):
                if clears == "batch" or number % group == 0:
                    optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y) / group
                clip("early")
                loss.backward()
                clip("piece")
                if (number + 1) % group == 0:
                    clip("right")
                    optimizer.step()
                    clip("late")
            scheduler.step(validate(model))
        return model

    attempt.__name__ = f"clears_each_{clears}_clips_{clips}_mode_{mode}"
    return attempt


def _mended_but(divides, clears):
    """All three promises kept, at the price of a line: ``divides`` the loss by the group or not;
    ``clears`` "never" or once an "epoch"."""

    def attempt(model, batches, validate, epochs, group):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=0.1, patience=1
        )
        for _ in range(epochs):
            if clears == "epoch":
                optimizer.zero_grad()
            for number, (x, y) in enumerate(batches, start=1):
                loss = nn.functional.cross_entropy(model(x), y)
                (loss / group if divides else loss).backward()
                if number % group == 0:
                    nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
                    optimizer.step()
                    if clears == "group":
                        optimizer.zero_grad()
            scheduler.step(validate(model))
        return model

    attempt.__name__ = f"divides_{divides}_clears_{clears}"
    return attempt


for _divides, _clears, _says in (
    (
        True,
        "never",
        "Nothing empties the gradients any more: every step runs on all groups so far.",
    ),
    (
        True,
        "epoch",
        "The gradients are emptied once an epoch, and an epoch has several groups: the second step "
        "still holds the first group's. Empty them once for each group.",
    ),
    (
        False,
        "group",
        "Your gradient is the *sum* over the group, not the mean: divide each loss by `group`. "
        "Clipping hides it wherever the gradients are long.",
    ),
):
    train_in_groups.mistake(_says)(_mended_but(_divides, _clears))


_PIECES = "A step still sees only the last of its micro-batches: the others are cleared away. "

_LONG = "Steps are still taken along gradients far longer than 1. "

_RATE = "The rate still falls while the accuracy rises, so the scheduler takes better for worse. "

for _clears, _clips, _mode, _says in (
    ("batch", "early", "min", "All three promises are still broken. " + _PIECES),
    ("batch", "early", "max", "One mended, two left. " + _PIECES + _LONG),
    ("batch", "right", "min", "One mended, two left. " + _PIECES + _RATE),
    ("group", "early", "min", "One mended, two left. " + _LONG + _RATE),
    ("batch", "right", "max", "Two mended, one left. " + _PIECES),
    ("group", "early", "max", "Two mended, one left. " + _LONG + "When do you clip?"),
    ("group", "right", "min", "Two mended, one left. " + _RATE),
    (
        "group",
        "late",
        "max",
        "You clip after the step: by then the long gradient has done its work.",
    ),
    (
        "group",
        "piece",
        "max",
        "You clip after every micro-batch, so the early ones are shortened again and again and the "
        "last one counts most. Clip once, when the group is complete.",
    ),
):
    train_in_groups.mistake(_says.strip())(_grouped(_clears, _clips, _mode))
