"""Answers to the exercises of chapter 03."""

from __future__ import annotations

import math
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from chapters.optimizers import exercises as ex
from tests.chapters.answers import edited

# accumulated_step


def gradients_in_own_lists(model, micro_batches, loss_fn, optimizer):
    parameters = list(model.parameters())
    rows = sum(len(x) for x, _ in micro_batches)
    sums, total = [torch.zeros_like(p) for p in parameters], 0.0
    for x, y in micro_batches:
        loss = loss_fn(model(x), y) * len(x) / rows
        sums = [a + b for a, b in zip(sums, torch.autograd.grad(loss, parameters), strict=True)]
        total += loss.detach().numpy()
    for parameter, gradient in zip(parameters, sums, strict=True):
        parameter.grad = gradient
    optimizer.step()
    return total


def sums_divided_at_the_end(model, micro_batches, loss_fn, optimizer):
    model.zero_grad()
    rows, total = 0, 0.0
    for x, y in micro_batches:
        loss = loss_fn(model(x), y) * len(y)
        loss.backward()
        rows += len(y)
        total += loss.item()
    for parameter in model.parameters():
        parameter.grad /= rows
    optimizer.step()
    return total / rows


def a_closure(model, micro_batches, loss_fn, optimizer):
    sizes = [len(x) for x, _ in micro_batches]

    def closure():
        optimizer.zero_grad()
        whole = torch.zeros(())
        for size, (x, y) in zip(sizes, micro_batches, strict=True):
            part = loss_fn(model(x), y) * (size / sum(sizes))
            part.backward()
            whole += part.detach()
        return whole

    return optimizer.step(closure).item()


def losses_measured_first(model, micro_batches, loss_fn, optimizer):
    """Goes over the pieces twice; a graph that nothing needs is dropped at once."""
    rows = sum(len(x) for x, _ in micro_batches)
    mean = sum(loss_fn(model(x), y).item() * len(x) for x, y in micro_batches) / rows
    optimizer.zero_grad()
    for x, y in reversed(micro_batches):
        loss_fn(model(x), y).backward(gradient=torch.tensor(len(x) / rows))
    optimizer.step()
    return mean


def losses_joined_at_the_end(model, micro_batches, loss_fn, optimizer):
    rows = sum(len(x) for x, _ in micro_batches)
    loss = sum(loss_fn(model(x), y) * len(x) for x, y in micro_batches) / rows
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def pieces_joined(model, micro_batches, loss_fn, optimizer):
    x, y = (torch.cat(parts) for parts in zip(*micro_batches, strict=True))
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def mean_of_means(model, micro_batches, loss_fn, optimizer):
    optimizer.zero_grad()
    total = 0.0
    for x, y in micro_batches:
        loss = loss_fn(model(x), y) / len(micro_batches)
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


def sum_of_means(model, micro_batches, loss_fn, optimizer):
    optimizer.zero_grad()
    total = 0.0
    for x, y in micro_batches:
        loss = loss_fn(model(x), y)
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total / len(micro_batches)


def a_step_for_each_piece(model, micro_batches, loss_fn, optimizer):
    total = 0.0
    for x, y in micro_batches:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(micro_batches)


def loss_as_a_tensor(model, micro_batches, loss_fn, optimizer):
    rows = sum(len(x) for x, _ in micro_batches)
    optimizer.zero_grad()
    total = 0.0
    for x, y in micro_batches:
        loss = loss_fn(model(x), y) * len(x) / rows
        loss.backward()
        total += loss.detach()
    optimizer.step()
    return total


# sgd


def sgd_of_torch(w, grad, memory, lr=1e-3, **options):
    if not memory:
        memory["w"] = nn.Parameter(w.clone())
        memory["optimizer"] = torch.optim.SGD([memory["w"]], **options)
    memory["optimizer"].param_groups[0]["lr"] = lr
    memory["w"].grad = grad
    memory["optimizer"].step()
    return w - memory["w"].data


def sgd_in_place(w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False):
    direction = grad.clone()
    if weight_decay != 0:
        direction.add_(w, alpha=weight_decay)
    if momentum != 0:
        if not memory:
            memory["buffer"] = direction.clone()
        else:
            memory["buffer"].mul_(momentum).add_(direction, alpha=1 - dampening)
        if nesterov:
            direction.add_(memory["buffer"], alpha=momentum)
        else:
            direction = memory["buffer"].clone()
    return direction.mul_(lr)


def sgd_by_history(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    """All gradients so far, each weighted by its age."""
    seen = memory.setdefault("seen", [])
    seen.append(torch.add(grad, w, alpha=weight_decay))
    if not momentum:
        return lr * seen[-1]
    ages = range(len(seen) - 1, -1, -1)
    shares = [1.0] + [1 - dampening] * (len(seen) - 1)
    velocity = sum(s * momentum**a * g for s, a, g in zip(shares, ages, seen, strict=True))
    return lr * (seen[-1] + momentum * velocity) if nesterov else lr * velocity


def sgd_by_exceptions(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    d = grad + weight_decay * w
    if momentum == 0:
        return d * lr
    try:
        memory[0] = torch.lerp(torch.zeros_like(d), memory[0], momentum) + d * (1 - dampening)
    except KeyError:
        memory[0] = d
    return lr * (d + momentum * memory[0] if nesterov else memory[0])


def sgd_with_one_memory(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    memory = _MEMORY
    return sgd_in_place(w, grad, memory, lr, momentum, dampening, weight_decay, nesterov)


_MEMORY = {}


def sgd_with_an_average(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    g = grad + weight_decay * w
    v = memory["v"] = momentum * memory.get("v", 0) + (1 - momentum) * g
    return lr * (g + momentum * v if nesterov else v)


def sgd_keeps_the_first_gradient(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    g = grad + weight_decay * w if weight_decay else grad
    if not momentum:
        return lr * g
    if "v" not in memory:
        memory["v"] = g
    else:
        memory["v"].mul_(momentum).add_(g, alpha=1 - dampening)
    return lr * (g + momentum * memory["v"] if nesterov else memory["v"])


def sgd_dampens_without_momentum(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    d = grad + weight_decay * w
    v = memory["v"] = momentum * memory["v"] + (1 - dampening) * d if "v" in memory else d
    return lr * (d + momentum * v) if nesterov else lr * v


def sgd_begins_anew_at_zero(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    g = grad + weight_decay * w
    if momentum:
        v = memory.get("v", torch.zeros_like(grad))
        v = memory["v"] = torch.where(v == 0, g, momentum * v + (1 - dampening) * g)
        g = g + momentum * v if nesterov else v
    return lr * g


# adam


def adam_of_the_whole_history(
    w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False
):
    """Averages over all gradients so far, each weighted by its age."""
    grad = grad if decoupled else grad + weight_decay * w
    history = memory.setdefault("history", [])
    history.append(grad)
    gradients = torch.stack(history).flatten(1)
    ages = torch.arange(len(history)).flip(0).unsqueeze(1)
    m, v = (
        ((beta**ages * values).sum(0) / (beta**ages).sum(0)).view_as(w)
        for beta, values in zip(betas, (gradients, gradients**2), strict=True)
    )
    return lr * m / (v.sqrt() + eps) + (lr * weight_decay * w if decoupled else 0)


def adam_of_torch(w, grad, memory, lr=1e-3, decoupled=False, **options):
    if not memory:
        memory["w"] = nn.Parameter(w.clone())
        kind = torch.optim.AdamW if decoupled else torch.optim.Adam
        memory["optimizer"] = kind([memory["w"]], **{"weight_decay": 0, **options})
    (group,) = memory["optimizer"].param_groups
    group["lr"] = lr
    memory["w"].grad = grad
    memory["optimizer"].step()
    return w - memory["w"].data


def adam_in_place(
    w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False
):
    if not memory:
        memory.update(t=0, m=torch.zeros_like(w), v=torch.zeros_like(w))
    if not decoupled:
        grad = grad.add(w, alpha=weight_decay)
    memory["t"] += 1
    memory["m"].lerp_(grad, 1 - betas[0])
    memory["v"].mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
    first, second = (1 - beta ** memory["t"] for beta in betas)
    step = lr / first * memory["m"] / (memory["v"].sqrt() / math.sqrt(second) + eps)
    return step.add(w, alpha=lr * weight_decay) if decoupled else step


def adam_with_running_powers(
    w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False
):
    m, v, left1, left2 = memory.get("state", (0, 0, 1, 1))
    g = grad if decoupled else grad + weight_decay * w
    m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g.square()
    left1, left2 = left1 * betas[0], left2 * betas[1]
    memory["state"] = m, v, left1, left2
    step = (m / (1 - left1)).div((v / (1 - left2)) ** 0.5 + eps)
    return lr * (step + weight_decay * w) if decoupled else lr * step


def adam_counts_for_all(
    w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False
):
    _COUNT.append(1)
    memory["t"] = len(_COUNT) - 1
    return adam_in_place(w, grad, {**memory}, lr, betas, eps, weight_decay, decoupled)


_COUNT = []


def adam_from_0(
    w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False
):
    b1, b2 = betas
    t = memory.get("t", 0)
    memory["t"] = t + 1
    g = grad if decoupled else grad + weight_decay * w
    memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
    memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g**2
    m, v = memory["m"] / (1 - b1**t), memory["v"] / (1 - b2**t)
    step = lr * m / (v.sqrt() + eps)
    return step + lr * weight_decay * w if decoupled else step


def adam_that_decays_twice(
    w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False
):
    step = adam_in_place(w, grad, memory, lr, betas, eps, weight_decay)
    return step + lr * weight_decay * w if decoupled else step


def adam_of_sums(
    w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False
):
    b1, b2 = betas
    g = grad if decoupled else grad + weight_decay * w
    memory["t"] = t = memory.get("t", 0) + 1
    memory["m"] = b1 * memory.get("m", 0) + g
    memory["v"] = b2 * memory.get("v", 0) + g * g
    step = memory["m"] / (1 - b1**t) / ((memory["v"] / (1 - b2**t)).sqrt() + eps)
    return lr * (step + weight_decay * w) if decoupled else lr * step


def step_of_nan(w, grad, memory, **options):
    return torch.full_like(w, float("nan"))


def sgd_with_nesterov_turned_round(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    g = grad + weight_decay * w
    if momentum:
        old = memory.get("v")
        memory["v"] = g if old is None else momentum * old + (1 - dampening) * g
        g = memory["v"] + momentum * g if nesterov else memory["v"]
    return lr * g


def adam_with_fixed_betas(
    w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False
):
    return adam_in_place(w, grad, memory, lr, (0.9, 0.999), eps, weight_decay, decoupled)


def adamw_shrinks_w_itself(
    w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False
):
    if decoupled:
        w.mul_(1 - lr * weight_decay)
        return adam_in_place(w, grad, memory, lr, betas, eps, 0, True)
    return adam_in_place(w, grad, memory, lr, betas, eps, weight_decay, False)


# decay_groups


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


def lazy_groups(model, weight_decay):
    def chosen(large):
        return (p for p in model.parameters() if p.requires_grad and (p.dim() >= 2) == large)

    return (
        {"params": chosen(True), "weight_decay": weight_decay},
        {"params": chosen(False), "weight_decay": 0},
    )


def groups_by_recursion(model, weight_decay):
    def collect(module, found):
        for parameter in module.parameters(recurse=False):
            found[parameter] = parameter.ndim
        for child in module.children():
            collect(child, found)
        return found

    found = {p: n for p, n in collect(model, {}).items() if p.requires_grad}
    few = [p for p, n in found.items() if n in (0, 1)]
    return [
        {"params": [p for p in found if all(p is not one for one in few)]}
        | {"weight_decay": weight_decay},
        {"params": few, "weight_decay": 0},
    ]


def groups_of_a_state_dict(model, weight_decay):
    """Kept variables are the parameters themselves."""
    first, second = {}, {}
    for value in model.state_dict(keep_vars=True).values():
        if isinstance(value, nn.Parameter) and value.requires_grad:
            (first if len(value.size()) > 1 else second)[value] = None
    groups = [{"weight_decay": weight_decay}, {"weight_decay": 0.0}]
    groups[0]["params"], groups[1]["params"] = tuple(first), tuple(second)
    return groups


def _two(model, weight_decay, decays, trained=lambda model: model.parameters()):
    found = [p for p in trained(model) if p.requires_grad]
    return [
        {"params": [p for p in found if decays(p)], "weight_decay": weight_decay},
        {"params": [p for p in found if not decays(p)], "weight_decay": 0.0},
    ]


def exactly_two_dimensions(model, weight_decay):
    return _two(model, weight_decay, lambda p: p.ndim == 2)


def by_class(model, weight_decay):
    kinds = (nn.Linear, nn.Conv2d)
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, kinds)}
    return _two(model, weight_decay, lambda p: id(p) in matrices)


def by_normalisation(model, weight_decay):
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)
    norms = {id(m.weight) for m in model.modules() if isinstance(m, kinds)}
    biases = {id(p) for name, p in model.named_parameters() if name.endswith("bias")}
    return _two(model, weight_decay, lambda p: id(p) not in norms | biases)


def frozen_by_module(model, weight_decay):
    found = []
    for layer in model.modules():
        own = list(layer.parameters(recurse=False))
        if any(p.requires_grad for p in own):
            found += [p for p in own if all(p is not one for one in found)]
    return [
        {"params": [p for p in found if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in found if p.ndim < 2], "weight_decay": 0.0},
    ]


def by_children(model, weight_decay):
    def trained(model):
        return dict.fromkeys(p for child in model.children() for p in child.parameters())

    return _two(model, weight_decay, lambda p: p.ndim >= 2, trained)


def no_empty_group(model, weight_decay):
    return [group for group in _two(model, weight_decay, lambda p: p.ndim >= 2) if group["params"]]


def one_group(model, weight_decay):
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    return [{"params": matrices, "weight_decay": weight_decay}]


def squeezed(model, weight_decay):
    return _two(model, weight_decay, lambda p: p.squeeze().ndim >= 2)


def pairs_with_names(model, weight_decay):
    found = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [pair for pair in found if pair[1].ndim >= 2], "weight_decay": weight_decay},
        {"params": [pair for pair in found if pair[1].ndim < 2], "weight_decay": 0.0},
    ]


def sets(model, weight_decay):
    groups = _two(model, weight_decay, lambda p: p.ndim >= 2)
    return [{**group, "params": set(group["params"])} for group in groups]


def copies(model, weight_decay):
    def trained(model):
        return [nn.Parameter(p.data.clone(), p.requires_grad) for p in model.parameters()]

    return _two(model, weight_decay, lambda p: p.ndim >= 2, trained)


# warmup_cosine


def cosine_of_the_half_angle(step, warmup, total):
    if step >= total:
        return 0.0
    if step < warmup:
        return sum(1 / warmup for _ in range(step + 1))
    return math.cos(math.pi * (step - warmup) / (total - warmup) / 2) ** 2


def the_smaller_of_two(step, warmup, total):
    rise = (step + 1) / max(warmup, 1)
    left = max(total - max(step, warmup), 0) / (total - warmup)
    return min(rise, 1.0) if step < warmup else math.sin(math.pi / 2 * left) ** 2


def cosine_in_tensors(step, warmup, total):
    if step < warmup:
        return torch.tensor(step + 1) / warmup
    progress = torch.tensor((step - warmup) / (total - warmup)).clamp(0, 1)
    return 0.5 + 0.5 * torch.cos(torch.pi * progress)


def cosine_of_a_table(step, warmup, total):
    rise = np.arange(1, warmup + 1) / max(warmup, 1)
    fall = (1 + np.cos(np.linspace(0, np.pi, total - warmup + 1))) / 2
    return np.concatenate([rise, fall])[min(step, total)]


def cosine_over_all_steps(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(step / total, 1)))


def begins_at_zero(step, warmup, total):
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / (total - warmup))))


def quarter_cosine(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    return math.cos(math.pi / 2 * (step - warmup) / (total - warmup)) if step < total else 0.0


def straight_fall(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (total - step) / (total - warmup))


def stays_above_zero(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    return max(0.01, 0.5 * (1 + math.cos(math.pi * min(1, (step - warmup) / (total - warmup)))))


def nothing_returned_at_the_end(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    if step < total:
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


# train_digits


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def schedule_as_a_function(images, classes, epochs=6, warmup=40):
    model = _network()
    batches = DataLoader(TensorDataset(images, classes), batch_size=96, shuffle=True)
    total = epochs * len(batches)

    def factor(t):
        if t < warmup:
            return (t + 1) / warmup
        return (1 + math.cos(math.pi * (t - warmup) / (total - warmup))) / 2

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = lr_scheduler.LambdaLR(optimizer, factor)
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            scheduler.step()
    return model


def one_cycle(images, classes, epochs=6, warmup=40):
    model = _network()
    batches = DataLoader(TensorDataset(images, classes), batch_size=96, shuffle=True)
    total = epochs * len(batches)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=total, pct_start=warmup / total, cycle_momentum=False
    )
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            scheduler.step()
    return model


def a_hook_moves_the_scheduler(images, classes, epochs=6, warmup=40):
    model = _network()
    batches = DataLoader(TensorDataset(images, classes), batch_size=96, shuffle=True)
    total = epochs * len(batches)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    parts = [
        lr_scheduler.LinearLR(optimizer, 0.01, total_iters=warmup),
        lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - warmup),
    ]
    scheduler = lr_scheduler.SequentialLR(optimizer, parts, milestones=[warmup])
    optimizer.register_step_post_hook(lambda *_: scheduler.step())

    def loss_of(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(epochs):
        for batch in batches:
            optimizer.step(partial(loss_of, *batch))
    return model


def rates_written_by_hand(images, classes, epochs=6, warmup=40):
    model = _network()
    order = torch.cat([torch.randperm(len(images)) for _ in range(epochs)])
    pieces = [part for epoch in order.split(len(images)) for part in epoch.split(96)]
    left = len(pieces) - warmup
    rates = [*torch.linspace(0.0, 0.1, warmup + 1)[:-1], *torch.linspace(0.1, 0.0, left + 1)[:-1]]
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    for rate, rows in zip(rates, pieces, strict=True):
        optimizer.param_groups[0]["lr"] = rate.item()
        loss = F.cross_entropy(model(images[rows]), classes[rows])
        model.zero_grad()
        loss.backward()
        optimizer.step()
    return model


a_larger_rate = edited(
    ex.train_digits,
    *("lr=0.1,", "lr=0.3,"),
    *("            scheduler.step()", "        scheduler.step()"),
)
no_annealing = edited(ex.train_digits, "milestones=[warmup]", "milestones=[10_000]")
no_zero_grad = edited(ex.train_digits, "            optimizer.zero_grad()\n", "")


def both_schedulers_at_once(images, classes, epochs=6, warmup=40):
    model = _network()
    batches = DataLoader(TensorDataset(images, classes), batch_size=96, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    first = lr_scheduler.LinearLR(optimizer, 0.01, total_iters=warmup)
    second = lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(batches))
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            first.step()
            second.step()
    return model


# train_in_groups


def whole_groups_clipped_by_hand(model, batches, validate, epochs, group):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=1)
    for _ in range(epochs):
        model.train()
        for start in range(0, len(batches), group):
            optimizer.zero_grad()
            losses = [F.cross_entropy(model(x), y) for x, y in batches[start : start + group]]
            torch.stack(losses).mean().backward()
            length = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
            for parameter in model.parameters():
                parameter.grad /= length.clamp(min=1.0)
            optimizer.step()
        scheduler.step(1 - validate(model.eval()))
    return model


def a_hook_clips(model, batches, validate, epochs, group):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def clip(*_):
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)

    optimizer.register_step_pre_hook(clip)
    optimizer.register_step_post_hook(lambda *_: optimizer.zero_grad())
    plateau = lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=0.1, patience=1)
    for _ in range(epochs):
        model.train()
        for number, (x, y) in enumerate(batches, 1):
            F.cross_entropy(model(x), y).div(group).backward()
            if not number % group:
                optimizer.step()
        model.eval()
        plateau.step(validate(model))
    return model


def counts_the_epochs_itself(model, batches, validate, epochs, group):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    best, waited = -1.0, 0
    for _ in range(epochs):
        model.train()
        stream = iter(batches)
        while pieces := list(islice(stream, group)):
            model.zero_grad()
            for x, y in pieces:
                F.cross_entropy(model(x), y).backward()
            for p in model.parameters():
                p.grad /= len(pieces)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        accuracy = validate(model.eval())
        waited = 0 if accuracy > best else waited + 1
        best = max(best, accuracy)
        if waited == 2:
            waited = 0
            for options in optimizer.param_groups:
                options["lr"] /= 10
    return model


def closures(model, batches, validate, epochs, group):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=1)

    def closure():
        optimizer.zero_grad()
        loss = sum(F.cross_entropy(model(x), y) for x, y in pieces) / len(pieces)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        return loss

    for _ in range(epochs):
        model.train()
        for first in range(0, len(batches), group):
            pieces = batches[first : first + group]
            optimizer.step(closure)
        scheduler.step(validate(model.eval()))
    return model


def empties_before_each_group(model, batches, validate, epochs, group):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=0.1, patience=1)
    for _ in range(epochs):
        model.train()
        for number, (x, y) in enumerate(batches, start=1):
            if number % group == 1:
                optimizer.zero_grad()
            (nn.functional.cross_entropy(model(x), y) / group).backward()
            if number % group == 0:
                nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
                optimizer.step()
        model.eval()
        scheduler.step(validate(model))
    return model


def _changed(**changes):
    options = {"max_norm": 1.0, "mode": "max", "factor": 0.1, "patience": 1, "clip": "norm"}
    options |= {"min_lr": 0.0, "measure": float, "weight": lambda group: 1 / group} | changes

    def train_in_groups(model, batches, validate, epochs, group):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        chosen = {name: options[name] for name in ("mode", "factor", "patience", "min_lr")}
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, **chosen)
        for _ in range(epochs):
            model.train()
            optimizer.zero_grad()
            for number, (x, y) in enumerate(batches, start=1):
                (F.cross_entropy(model(x), y) * options["weight"](group)).backward()
                if number % group == 0:
                    if options["clip"] == "norm":
                        nn.utils.clip_grad_norm_(model.parameters(), options["max_norm"])
                    elif options["clip"] == "value":
                        nn.utils.clip_grad_value_(model.parameters(), 1.0)
                    else:
                        for p in model.parameters():
                            nn.utils.clip_grad_norm_([p], 1.0)
                    optimizer.step()
                    optimizer.zero_grad()
            scheduler.step(options["measure"](validate(model.eval())))
        return model

    return train_in_groups


_HUNDREDTH = {"SGD": 1.0, "SGD with momentum": 10.0, "Adagrad": 0.1, "Adam": 1.0}
_CHAINS = {"MultiStepLR": True, "LinearLR": True, "LambdaLR": False, "OneCycleLR": False}

RIGHT = {
    "accumulated_step": [
        gradients_in_own_lists,
        sums_divided_at_the_end,
        a_closure,
        losses_measured_first,
    ],
    "sgd": [sgd_of_torch, sgd_in_place, sgd_by_history, sgd_by_exceptions],
    "hundredth": [
        {"SGD": 1, "SGD with momentum": 10, "Adagrad": 0.1, "Adam": 1},
        {name: np.float32(value) for name, value in _HUNDREDTH.items()},
        {name: torch.tensor(value) for name, value in _HUNDREDTH.items()},
    ],
    "adam": [
        adam_of_the_whole_history,
        adam_of_torch,
        adam_in_place,
        adam_with_running_powers,
    ],
    "decay_groups": [groups_by_layer, lazy_groups, groups_by_recursion, groups_of_a_state_dict],
    "warmup_cosine": [
        cosine_of_the_half_angle,
        the_smaller_of_two,
        cosine_in_tensors,
        cosine_of_a_table,
    ],
    "train_digits": [
        schedule_as_a_function,
        one_cycle,
        a_hook_moves_the_scheduler,
        rates_written_by_hand,
    ],
    "chains": [
        {name: np.bool_(value) for name, value in _CHAINS.items()},
        {name: torch.tensor(value) for name, value in _CHAINS.items()},
        {name: _CHAINS[name] for name in sorted(_CHAINS)},
    ],
    "train_in_groups": [
        whole_groups_clipped_by_hand,
        a_hook_clips,
        counts_the_epochs_itself,
        closures,
    ],
}
WRONG = {
    "accumulated_step": [
        (losses_joined_at_the_end, "before the next piece"),
        (pieces_joined, "never joined"),
        (mean_of_means, "You divide by the number of pieces"),
        (sum_of_means, "are the *sum* of the pieces' means"),
        (a_step_for_each_piece, "**one** step"),
        (loss_as_a_tensor, "as a float"),
    ],
    "sgd": [
        (sgd_with_nesterov_turned_round, "the wrong way round"),
        (step_of_nan, "Without any options that is the gradient"),
        (sgd_with_one_memory, "`memory`"),
        (sgd_with_an_average, "Your velocity is an average"),
        (sgd_keeps_the_first_gradient, "writes into neither"),
        (sgd_dampens_without_momentum, "Without momentum there is no velocity"),
        (sgd_begins_anew_at_zero, "the gradient, undamped"),
    ],
    "hundredth": [
        (_HUNDREDTH | {"SGD with momentum": 1.9}, "add one old step"),
        (_HUNDREDTH | {"SGD with momentum": 9}, "left a gradient out"),
        (_HUNDREDTH | {"SGD with momentum": 9.99973}, "not rounded"),
        (_HUNDREDTH | {"Adam": 0.1}, "slow down as Adagrad"),
    ],
    "adam": [
        (adam_from_0, "you count from t = 0"),
        (adam_that_decays_twice, "your decay is there twice"),
        (adam_of_sums, "Your `m` and `v` are sums"),
        (step_of_nan, "which is what 0 / 0 gives"),
        (adam_counts_for_all, "In step t"),
        (adam_with_fixed_betas, "as given in `betas`"),
        (adamw_shrinks_w_itself, "writes into neither"),
    ],
    "decay_groups": [
        (exactly_two_dimensions, "**two or more dimensions**"),
        (by_class, "**two or more dimensions**"),
        (by_normalisation, "**two or more dimensions**"),
        (frozen_by_module, "Frozen parameters are in no group"),
        (by_children, "in exactly one group"),
        (no_empty_group, "two groups"),
        (one_group, "are in no group"),
        (squeezed, "**two or more dimensions**"),
        (pairs_with_names, "where one of them is empty"),
        (sets, "An optimizer takes the two groups"),
        (copies, "no copies"),
    ],
    "warmup_cosine": [
        (cosine_over_all_steps, "Your cosine begins in step 0"),
        (begins_at_zero, "Your first factor is 0"),
        (quarter_cosine, "a quarter of a cosine's period"),
        (straight_fall, "along half a cosine"),
        (stays_above_zero, "0"),
        (nothing_returned_at_the_end, "no `return`"),
    ],
    "train_digits": [
        (a_larger_rate, "You followed the colleague"),
        (no_annealing, "the rate falls bit by bit"),
        (no_zero_grad, "90 %"),
        (both_schedulers_at_once, "The rate rises"),
    ],
    "chains": [(_CHAINS | {"LambdaLR": True}, "`LambdaLR` computes")],
    "train_in_groups": [
        (_changed(max_norm=2.0), "longer than 1"),
        (_changed(max_norm=0.5), "only where that is longer than 1"),
        (_changed(clip="value"), "all parameters taken together"),
        (_changed(clip="each"), "all parameters taken together"),
        (_changed(mode="min"), "counts a better number as worse"),
        (_changed(patience=0), "brought no new best"),
        *((_changed(patience=epochs), "brought no new best") for epochs in (2, 3, 10)),
        (_changed(factor=0.5), "divided by ten"),
        (_changed(min_lr=0.01), "the counting starts again"),
        (empties_before_each_group, "In groups of 1 nothing empties"),
        (_changed(measure=lambda accuracy: -accuracy, mode="min"), "default threshold is relative"),
        (_changed(weight=lambda group: 1), "the *sum* over the group"),
        (_changed(weight=lambda group: 1 / 4), "along the mean"),
    ],
}
