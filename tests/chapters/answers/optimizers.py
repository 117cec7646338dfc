"""Answers to the exercises of chapter 03."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

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


def pieces_joined(model, micro_batches, loss_fn, optimizer):
    x, y = (torch.cat(parts) for parts in zip(*micro_batches, strict=True))
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


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


def sgd_with_one_memory(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    memory = _MEMORY
    return sgd_in_place(w, grad, memory, lr, momentum, dampening, weight_decay, nesterov)


_MEMORY = {}


# adam


def adam_of_the_whole_history(
    w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False
):
    """Averages over all gradients so far, each weighted by its age."""
    grad = grad if decoupled else grad + weight_decay * w
    history = memory.setdefault("history", [])
    history.append(grad)
    gradients = torch.stack(history).reshape(len(history), -1)
    ages = torch.arange(len(history), dtype=grad.dtype).flip(0).unsqueeze(1)
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


def step_of_nan(w, grad, memory, **options):
    return torch.full_like(w, float("nan"))


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


# train_digits


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def _trained(model, batches, epochs, optimizer, scheduler):
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            scheduler.step()
    return model


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
    return _trained(model, batches, epochs, optimizer, scheduler)


def one_cycle(images, classes, epochs=6, warmup=40):
    model = _network()
    batches = DataLoader(TensorDataset(images, classes), batch_size=96, shuffle=True)
    total = epochs * len(batches)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=total, pct_start=warmup / total, cycle_momentum=False
    )
    return _trained(model, batches, epochs, optimizer, scheduler)


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


RIGHT = {
    "accumulated_step": [
        gradients_in_own_lists,
        a_closure,
        losses_measured_first,
    ],
    "sgd": [sgd_of_torch, sgd_in_place, sgd_by_history],
    "adam": [adam_of_the_whole_history, adam_of_torch, adam_in_place, adam_with_running_powers],
    "decay_groups": [groups_by_layer, lazy_groups, groups_of_a_state_dict],
    "warmup_cosine": [
        cosine_of_the_half_angle,
        the_smaller_of_two,
        cosine_in_tensors,
        cosine_of_a_table,
    ],
    "train_digits": [
        schedule_as_a_function,
        one_cycle,
        rates_written_by_hand,
    ],
    "train_in_groups": [
        whole_groups_clipped_by_hand,
        a_hook_clips,
        closures,
    ],
}
WRONG = {
    "accumulated_step": [
        (
            "total = 0.0",
            "total = whole = 0.0",
            "(loss * share).backward()",
            "whole += loss * share",
            "    optimizer.step()",
            "    whole.backward()\n    optimizer.step()",
            "before the next piece",
        ),
        (pieces_joined, "never joined"),
        ("len(x) / rows", "1 / len(micro_batches)", "You divide by the number of pieces"),
        (
            "(loss * share)",
            "loss",
            "loss.item() * share",
            "loss.item() / len(micro_batches)",
            "are the *sum* of the pieces' means",
        ),
        (
            "        (loss * share)",
            "        optimizer.zero_grad()\n        loss",
            "        total +=",
            "        optimizer.step()\n        total +=",
            "    optimizer.step()\n    return",
            "    return",
            "**one** step",
        ),
        ("return total", "return torch.tensor(total)", "as a float"),
    ],
    "sgd": [
        (step_of_nan, "Without any options that is the gradient"),
        (sgd_with_one_memory, "`memory`"),
        (
            "grad = grad + weight_decay * w",
            "grad = grad + weight_decay * w if weight_decay else grad",
            'momentum * memory["velocity"] + (1 - dampening) * grad',
            'memory["velocity"].mul_(momentum).add_(grad, alpha=1 - dampening)',
            "writes into neither",
        ),
        ("    if momentum:", "    if True:", "Without momentum there is no velocity"),
        (
            "            velocity = momentum *",
            '            velocity = grad.where(memory["velocity"] == 0, momentum *',
            "(1 - dampening) * grad",
            "(1 - dampening) * grad)",
            "the gradient, undamped",
        ),
    ],
    "adam": [
        (step_of_nan, "which is what 0 / 0 gives"),
        (adam_counts_for_all, "In step t"),
        ("b1, b2 = betas", "b1, b2 = 0.9, 0.999", "as given in `betas`"),
        ("        step = step + decay", "        w.sub_(lr * decay)", "writes into neither"),
    ],
    "decay_groups": [
        ("p.ndim >= 2", "p.ndim == 2", "p.ndim < 2", "p.ndim != 2", "**two or more dimensions**"),
        (by_class, "**two or more dimensions**"),
        (by_normalisation, "**two or more dimensions**"),
        (frozen_by_module, "Frozen parameters are in no group"),
        (by_children, "in exactly one group"),
        (
            "return [\n",
            "return [group for group in [\n",
            "0.0},\n    ]",
            '0.0},\n    ] if group["params"]]',
            "two groups",
        ),
        (
            '        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},\n',
            "",
            "are in no group",
        ),
        (
            "p.ndim >= 2",
            "p.squeeze().ndim >= 2",
            "p.ndim < 2",
            "p.squeeze().ndim < 2",
            "**two or more dimensions**",
        ),
        (
            "[p for p in model.parameters() if p.requires_grad]",
            "[pair for pair in model.named_parameters() if pair[1].requires_grad]",
            "p.ndim >= 2",
            "p[1].ndim >= 2",
            "p.ndim < 2",
            "p[1].ndim < 2",
            "where one of them is empty",
        ),
        (
            "[p for p in trained if p.ndim >= 2]",
            "{p for p in trained if p.ndim >= 2}",
            "An optimizer takes the two groups",
        ),
        (
            "[p for p in model.parameters() if p.requires_grad]",
            "[nn.Parameter(p.data.clone()) for p in model.parameters() if p.requires_grad]",
            "no copies",
        ),
    ],
    "warmup_cosine": [
        ("(1 + math.cos(math.pi * progress)) / 2", "1 - progress", "along half a cosine"),
        ("return (1 +", "return max(0.01, (1 +", ") / 2", ") / 2)", "0"),
        ("    progress =", "    if step >= total:\n        return\n    progress =", "no `return`"),
    ],
    "train_digits": [
        ("milestones=[warmup]", "milestones=[10_000]", "the rate falls bit by bit"),
        ("            optimizer.zero_grad()\n", "", "90 %"),
        (
            "SequentialLR(\n        optimizer,",
            "ChainedScheduler(",
            "T_max=total - warmup",
            "T_max=total",
            "        milestones=[warmup],\n",
            "",
            "The rate rises",
        ),
    ],
    "train_in_groups": [
        ("max_norm=1.0", "max_norm=2.0", "longer than 1"),
        ("max_norm=1.0", "max_norm=0.5", "only where that is longer than 1"),
        (
            "nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)",
            "nn.utils.clip_grad_value_(model.parameters(), 1.0)",
            "all parameters taken together",
        ),
        (
            "nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)",
            "[nn.utils.clip_grad_norm_([p], 1.0) for p in model.parameters()]",
            "all parameters taken together",
        ),
        ("patience=1", "patience=0", "brought no new best"),
        ("patience=1", "patience=2", "brought no new best"),
        ("patience=1", "patience=1, threshold=0.01", "brought no new best"),
        ("factor=0.1", "factor=0.5", "divided by ten"),
        ("patience=1", "patience=1, min_lr=0.01", "the counting starts again"),
        ("loss_fn(model(x), y) / group", "loss_fn(model(x), y) / 4", "along the mean"),
    ],
}
