"""The exercises of chapter 03: what makes a step, and which learning rate it takes."""

from __future__ import annotations

import contextlib
import copy
import weakref
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.data import DataLoader, TensorDataset

from helpers import data
from helpers.exercises import Case, Exercises
from helpers.exercises.compare import Words
from helpers.exercises.trial import Shortfall, require

chapter = Exercises(__file__)
report = chapter.report


def _ready() -> None:
    """Make an optimizer, as the first one of a process imports much of torch for seconds."""
    # Cases are made outside the time limit of an answer, which would interrupt the import.
    torch.optim.SGD([nn.Parameter(torch.zeros(1))])


def _mean_absolute(output, y):
    return (output - y).abs().sum(dim=1).mean()


def _pieces(*sizes, loss_fn=nn.functional.mse_loss, stale=True, **options):
    torch.manual_seed(sum(sizes))
    rows = sum(sizes)
    if type(loss_fn) is nn.CrossEntropyLoss:
        x, y = 9 * torch.randn(rows, 1, 3, 2), torch.randint(3, (rows,))
        model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    else:
        x, y = torch.randn(rows, 3), 9 * torch.arange(float(rows)).unsqueeze(1)
        model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **options)
    loss_fn(model(x), y).backward()
    optimizer.step()
    if stale:
        loss_fn(3 * model(x), y).backward()
    else:
        optimizer.zero_grad()
    return model, list(zip(x.split(sizes), y.split(sizes), strict=True)), loss_fn, optimizer


class _Held:
    """Stands for a graph as long as that lives and no gradient has gone through it."""

    def __init__(self, rows):
        self.rows = rows


def _watch_rows(model):
    """A list of how many rows the model's graphs held, from its calls on."""
    held, most = weakref.WeakSet(), [0]

    def called(module, args, output):
        alone = len(output)
        if output.requires_grad:
            one = output.grad_fn.metadata["held"] = _Held(len(output))
            held.add(one)
            one = weakref.ref(one)
            output.register_hook(lambda gradient: held.discard(one()))
            alone = 0
        most.append(alone + sum(one.rows for one in held))

    model.register_forward_hook(called)
    return most


def _one_step(answer, model, micro_batches, loss_fn, optimizer):
    steps, held = [], _watch_rows(model)
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    largest = max(len(x) for x, _ in micro_batches)
    loss = answer(model, micro_batches, loss_fn, optimizer)
    yield "weights", {name: p.detach().clone() for name, p in model.named_parameters()}
    yield "steps", len(steps)
    yield "memory", max(largest, *held)
    yield "loss", loss


@chapter.exercise(
    cases=lambda: [
        Case("12 rows in pieces of 5, 5 and 2", *_pieces(5, 5, 2)),
        Case("12 rows in two equal pieces", *_pieces(6, 6)),
        Case("one piece, and no earlier gradients", *_pieces(7, stale=False)),
        Case(
            "pieces of 1, 8 and 3 rows, an optimizer with momentum and weight decay",
            *_pieces(1, 8, 3, momentum=0.9, weight_decay=0.1, stale=False),
        ),
        Case(
            "images and their classes in pieces of 4, 1, 6 and 2, nn.CrossEntropyLoss",
            *_pieces(4, 1, 6, 2, loss_fn=nn.CrossEntropyLoss(), momentum=0.5),
        ),
        Case("pieces of 3 and 9 rows, absolute errors", *_pieces(3, 9, loss_fn=_mean_absolute)),
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


def _walk(*rates, steps=6, start=(1.0, -2.0, 3.0), quiet=0, dtype=torch.float64, **options):
    """A start, gradients to come (the first ``quiet`` are zero), and the options of each step."""
    _ready()
    w = torch.tensor(start, dtype=dtype)
    sizes = torch.tensor([0.1, 1.0, 10.0], dtype=dtype)[: w.numel()].reshape(w.shape)
    gradients = torch.randn(steps, *w.shape, dtype=dtype) * sizes
    gradients[:quiet] = 0
    chosen = [{**options} for _ in range(steps)]
    for step, rate in zip(chosen, rates * steps, strict=False):
        step["lr"] = rate
    return w, gradients, chosen


def _falling(steps):
    return [0.1 * 0.5**t for t in range(steps)]


def _same(one, other):
    # A step of nan leads to a place that is nan.
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _steps(answer, about, w, gradients, options, walks=1):
    """The steps that a rule gives along one or more walks at a time, each with its own memory."""
    places = [w * (-2) ** number for number in range(walks)]
    memories = [{} for _ in places]
    steps, given, kept = [], [], []
    for gradient, chosen in zip(gradients, options, strict=True):
        for number, memory in enumerate(memories):
            arguments = places[number], gradient * (-2) ** number
            kept += [one.clone() for one in arguments]
            given += arguments
            step = require(answer(*arguments, memory, **chosen), torch.Tensor, "the step").clone()
            places[number] = kept[-2] - step
            steps.append(step)
    yield about, torch.stack(steps)
    yield "left", all(map(_same, given, kept))


@chapter.exercise(
    cases=lambda: [
        Case("lr = 0.1 alone", "step", *_walk(0.1)),
        Case("lr = 0.1 alone, w of shape (1, 2)", "step", *_walk(0.1, start=[[2.0, 1.0]])),
        Case("lr = 0.1 alone, w without dimensions", "step", *_walk(0.1, start=2.0)),
        Case("lr = 0.1 alone, w in float32", "step", *_walk(0.1, steps=3, dtype=torch.float32)),
        Case("no options but the defaults", "defaults", *_walk()),
        Case("two weights in turns", "memory", *_walk(0.1), 2),
        Case("betas (0.5, 0.8)", "betas", *_walk(0.1, betas=(0.5, 0.8))),
        Case(
            "betas (0.5, 0.8), first gradients 0", "betas", *_walk(0.1, quiet=2, betas=(0.5, 0.8))
        ),
        Case("betas (0.0, 0.6)", "betas", *_walk(0.1, betas=(0.0, 0.6))),
        Case("betas (0.8, 0.0)", "betas", *_walk(0.1, betas=(0.8, 0.0))),
        Case("eps = 0.5", "eps", *_walk(0.1, eps=0.5)),
        Case("a rate that begins at 0", "rate", *_walk(0.0, 0.1, 0.2)),
        Case("Adam, weight decay 0.3", "decay", *_walk(0.1, weight_decay=0.3)),
        Case("Adam, weight decay 1, falling rate", "decay", *_walk(*_falling(6), weight_decay=1.0)),
        Case("AdamW without weight decay", "decoupled", *_walk(0.1, decoupled=True)),
        Case("AdamW, weight decay 0.3", "decoupled", *_walk(0.1, weight_decay=0.3, decoupled=True)),
        Case(
            "AdamW, weight decay 1, falling rate",
            "decoupled",
            *_walk(*_falling(6), weight_decay=1.0, decoupled=True),
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


class _Own(nn.Module):
    """Parameters in all places of a model, with names that say little about their shapes."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.temperature = nn.Parameter(torch.tensor(2.0))
        self.bias = nn.Parameter(torch.zeros(2, 4))
        self.lists = nn.ParameterList([torch.zeros(3), torch.zeros(3, 3)])
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 1))])


def _layers():
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GroupNorm(1, 2), nn.PReLU()),
        nn.ModuleDict({"gru": nn.GRU(2, 3), "attention": nn.MultiheadAttention(4, 2)}),
        nn.Conv1d(2, 2, 3),
        nn.LayerNorm((2, 3)),
        nn.LayerNorm(4),
        nn.Bilinear(2, 2, 2),
    )


def _half_frozen():
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), nn.Linear(8, 3))
    model[0][0].weight.requires_grad_(False)
    model[0][1].bias.requires_grad_(False)
    model[1].bias.requires_grad_(False)
    return model


def _tied():
    layers = {"embed": nn.Embedding(20, 6), "norm": nn.LayerNorm(6)}
    model = nn.ModuleDict(layers | {"out": nn.Linear(6, 20)})
    model["out"].weight = model["embed"].weight
    model["again"] = model["norm"]
    return model


def _models():
    _ready()
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()), nn.Linear(8, 3)
    )
    layer = nn.Linear(2, 2)
    return {
        "a small network with BatchNorm": network,
        "a small network, half of its parameters frozen": _half_frozen(),
        "an embedding shared with the output layer": _tied(),
        "convolutions, normalisations, a GRU and attention": _layers(),
        "a model with parameters of its own": _Own(),
        "one layer": nn.Linear(3, 2),
        "two layers without biases": nn.Sequential(
            nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
        ),
        "a normalisation alone": nn.Sequential(nn.LayerNorm(4)),
        "two layers that begin with equal weights": nn.Sequential(layer, copy.deepcopy(layer)),
        "a network that is frozen as a whole": nn.Linear(3, 2).requires_grad_(False),
    }


def _held_by(group):
    """The parameters of a group, as an optimizer takes them: one, a list, pairs with names, …"""
    given = require(group, dict, "a parameter group").get("params")
    if given is None:
        raise Shortfall('A parameter group has its parameters under `"params"`.')
    if isinstance(given, torch.Tensor):
        given = [given]
    if not isinstance(given, (set, frozenset)):  # an optimizer refuses those
        given = list(given)
    group["params"] = given
    return [one[1] if isinstance(one, tuple) else one for one in given]


def _decay_by_name(answer, model, weight_decay):
    names = {id(p): name for name, p in model.named_parameters()}
    trained = {name: one for one, name in names.items() if model.get_parameter(name).requires_grad}
    groups = [*require(answer(model, weight_decay), (list, tuple), "the groups")]
    held = [id(p) for group in groups for p in _held_by(group)]
    yield "groups", len(groups)
    known = {names[one] for one in held if one in names}
    yield "frozen", sorted(known - set(trained))
    yield "strangers", all(one in names for one in held)
    yield "once", {name: held.count(one) for name, one in trained.items()}
    optimizer = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.7)
    yield "optimizer", True
    decays = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    yield "decay", {name: float(decays.get(one, -1)) for name, one in trained.items()}


@chapter.exercise(
    cases=lambda: [
        *(Case(label, model, 0.1) for label, model in _models().items()),
        Case("weight decay 0", nn.Linear(3, 2), 0.0),
        Case("weight decay 0.3", nn.Linear(3, 2), 0.3),
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
    def factors(*steps):
        return {f"step {step}": _number(answer(step, warmup, total)) for step in steps}

    if warmup:
        yield "rise", factors(*range(warmup))
        yield "fall", factors(*range(warmup, total))
    else:
        yield "none", factors(*range(total))
    yield "end", factors(total, total + 1, total + 2, 2 * total - warmup, 3 * total, 10 * total)


def _number(value):
    return float(require(value, (float, int, torch.Tensor, np.generic), "the factor"))


_LENGTHS = ((10, 50), (4, 8), (0, 20), (1, 9), (7, 8), (3, 4), (0, 1), (5, 40))


@chapter.exercise(
    cases=lambda: [
        Case(f"warmup = {warmup}, total = {total}", warmup, total) for warmup, total in _LENGTHS
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
    return split.x_train, split.y_train, split.x_val, split.y_val


@contextlib.contextmanager
def _watched_steps(begins, goes=lambda: None):
    """Call ``begins(optimizer)`` before every step of any optimizer, and ``goes()`` with gradients.

    Hooks of the reader's own come before; where a closure is given, it makes the gradients.
    """
    own = {}

    def has_closure(args, kwargs):
        return any(one is not None for one in (*args[1:], *kwargs.values()))

    def before(optimizer, args, kwargs):
        if optimizer in own:
            own.pop(optimizer).remove()
        own[optimizer] = optimizer.register_step_pre_hook(ready)

    def ready(optimizer, args, kwargs):
        begins(optimizer)
        if not has_closure(args, kwargs):
            goes()

    def after(optimizer, args, kwargs):
        if has_closure(args, kwargs):
            goes()

    handles = [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]
    try:
        yield
    finally:
        for handle in (*handles, *own.values()):
            handle.remove()


def _rates_at(rates, steps):
    shown = [f"{rates[step]:.4g} in batch {step + 1}" for step in steps if step < len(rates)]
    return Words("the rate is " + ", ".join(shown))


def _rises(rates, warmup):
    largest = max(rates)
    top = next(step for step, rate in enumerate(rates) if rate > 0.9999 * largest)
    rise = rates[: top + 1]
    grows = all(a < b for a, b in zip(rise, rise[1:], strict=False))
    return warmup - 1 <= top <= warmup and grows and -1e-9 < rates[0] <= largest / 10


def _falls(rates, warmup):
    fall, largest = rates[warmup:], max(rates)
    # The largest rate may come one batch earlier, in the last one of the warm-up.
    steps = [a - b for a, b in zip([largest, *fall], fall, strict=False)]
    sinks = all(-1e-9 < step < largest / 5 for step in steps)
    in_the_middle = largest / 10 < fall[len(fall) // 2] < 0.9 * largest if fall else False
    return sinks and in_the_middle and -1e-9 < rates[-1] < largest / 40


_RISE, _FALL = (0, 10, 20, 30, 40), (40, 50, 60, 70, 80, 89)


def _rates_and_accuracy(answer, images, classes, new_images, new_classes):
    rates = []
    with _watched_steps(lambda optimizer: rates.append(float(optimizer.param_groups[0]["lr"]))):
        model = answer(images, classes)
    if not rates:
        raise Shortfall("No optimizer took a step.")
    yield "steps", len(rates)
    yield "rise", Words("it rises so") if _rises(rates, 40) else _rates_at(rates, _RISE)
    yield "fall", Words("it falls so") if _falls(rates, 40) else _rates_at(rates, _FALL)
    yield "largest", max(rates)
    model = require(model, nn.Module, "the answer's result")
    with torch.no_grad():
        accuracy = (model(new_images).argmax(dim=1) == new_classes).float().mean().item()
    # A good program may miss the 90 % by a few digits with some seeds.
    yield "accuracy", min(accuracy, 0.88)


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


_STALLS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.85, 0.85, 0.85)
_NO_GAIN = (0.5, *[0.6] * 13)
_SMALL_GAINS = (0.5, 0.502, 0.504, 0.506, 0.508)
_RECOVERS = (0.3, 0.6, 0.6, 0.7, 0.5, 0.72, 0.9, 0.91)
_FALLS_BACK = (0.8, 0.5, 0.6, 0.65, 0.7, 0.75, 0.78, 0.79)


def _micro(count, group, accuracies, size=1.0, odd=1.0):
    """Micro-batches of which each uses two input columns of its own."""
    _ready()
    torch.manual_seed(count)
    model = nn.Sequential(nn.Linear(2 * count, 4), nn.Linear(4, 3))
    batches = []
    for number in range(count):
        x = torch.zeros(5, 2 * count)
        x[:, 2 * number : 2 * number + 2] = size * torch.randn(5, 2)
        batches.append((x, torch.randint(3, (5,))))
    x, y = batches[-1]
    x[0] *= odd
    if odd != 1:
        y[0] = model(x)[0].argmin()
    return model, batches, accuracies, group


def _gradient(model):
    return torch.cat(
        [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.parameters()]
    )


def _mode(model):
    return "train" if model.training else "eval"


def _what_each_step_sees(answer, model, batches, accuracies, group):
    twin, columns = copy.deepcopy(model), len(batches)
    groups = [batches[start : start + group] for start in range(0, len(batches), group)]
    wanted, rates, lengths, seen, along, ends = [], [], [], [], [], []
    kept = {"momentum": set(), "mode of the steps": set(), "mode of `validate`": set()}

    def begins(optimizer):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        kept["momentum"].add(optimizer.param_groups[0].get("momentum"))
        kept["mode of the steps"].add(_mode(model))
        if len(wanted) < 2 * len(groups):
            twin.load_state_dict(model.state_dict())
            twin.zero_grad()
            with torch.enable_grad():
                for x, y in groups[len(wanted) % len(groups)]:
                    (nn.functional.cross_entropy(twin(x), y) / group).backward()
            gradient = _gradient(twin)
            wanted.append(gradient / gradient.norm().clamp(min=1))

    def goes():
        gradient = _gradient(model)
        lengths.append(gradient.norm().item())
        if len(seen) < 2 * len(groups):
            of_each = gradient[: model[0].weight.numel()].reshape(-1, columns, 2).norm(dim=(0, 2))
            seen.append(of_each.nonzero().flatten().tolist())
            right = wanted[len(seen) - 1]
            share = (gradient @ right / right.norm() ** 2).item()
            rest = ((gradient - share * right).norm() / right.norm()).item()
            along.append([1.0 if abs(share - 1) < 1e-3 else share, rest if rest > 1e-3 else 0.0])

    def validate(model):
        kept["mode of `validate`"].add(_mode(model))
        if not rates:
            return 0.0
        if not ends or ends[-1] != len(rates):
            ends.append(len(rates))
        return accuracies[min(len(ends), len(accuracies)) - 1]

    with _watched_steps(begins, goes):
        result = answer(model, batches, validate, len(accuracies), group)
    yield "steps", ends
    yield "whole", seen
    longest = max(lengths, default=0.0)
    yield "length", longest if longest > 1.0001 else 1.0
    yield "mean", along
    yield "rate", [rates[end - 1] for end in ends]
    yield "kept", {name: sorted(map(str, values)) for name, values in kept.items()}
    result = require(result, nn.Module, "the answer's result")
    same = zip(result.state_dict().values(), model.state_dict().values(), strict=False)
    yield "model", all(torch.equal(one, other) for one, other in same)


@chapter.exercise(
    cases=lambda: [
        Case(
            "8 micro-batches in groups of 4, one row a thousand times too large",
            *_micro(8, 4, _STALLS, size=5.0, odd=1000.0),
        ),
        Case("6 micro-batches in groups of 3", *_micro(6, 3, _RECOVERS, size=30.0)),
        Case(
            "8 micro-batches in groups of 4, all of them quiet", *_micro(8, 4, _STALLS, size=0.05)
        ),
        Case("3 micro-batches in groups of 1", *_micro(3, 1, _FALLS_BACK, size=2.0)),
        Case("3 micro-batches in one group", *_micro(3, 3, (0.5, 0.5, 0.6, 0.6, 0.7), size=4.0)),
        Case("2 micro-batches in one group, 14 epochs", *_micro(2, 2, _NO_GAIN, size=4.0)),
        Case("2 micro-batches in one group, small gains", *_micro(2, 2, _SMALL_GAINS, size=4.0)),
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


@chapter.exercise(
    cases=lambda: [
        Case("lr = 0.1 alone", "plain", *_walk(0.1)),
        Case("lr = 0.1 alone, w of shape (1, 2)", "plain", *_walk(0.1, start=[[2.0, 1.0]])),
        Case("no options but the defaults", "defaults", *_walk()),
        Case("momentum 0.9", "momentum", *_walk(0.1, momentum=0.9)),
        Case("momentum 0.9 in float32", "momentum", *_walk(0.1, momentum=0.9, dtype=torch.float32)),
        Case(
            "momentum 0.5, w of shape (1, 2)",
            "momentum",
            *_walk(0.1, start=[[2.0, 1.0]], momentum=0.5),
        ),
        Case("two weights in turns, momentum 0.9", "memory", *_walk(0.1, momentum=0.9), 2),
        Case("momentum 0.9, dampening 0.4", "first", *_walk(0.1, momentum=0.9, dampening=0.4)),
        Case(
            "momentum 0.7, dampening 0.4, first gradient 0",
            "first",
            *_walk(0.1, quiet=1, momentum=0.7, dampening=0.4),
        ),
        Case("dampening 0.4 without momentum", "without", *_walk(0.1, dampening=0.4)),
        Case("weight decay 0.3", "decay", *_walk(0.1, weight_decay=0.3)),
        Case("weight decay 1", "decay", *_walk(0.1, weight_decay=1)),
        Case(
            "momentum 0.8, weight decay 0.3", "decay", *_walk(0.1, momentum=0.8, weight_decay=0.3)
        ),
        Case("Nesterov, momentum 0.8", "nesterov", *_walk(0.1, momentum=0.8, nesterov=True)),
        Case(
            "Nesterov, momentum 0.8, weight decay 0.3",
            "nesterov",
            *_walk(0.1, momentum=0.8, weight_decay=0.3, nesterov=True),
        ),
        Case("momentum 0.9, a rate that falls", "rate", *_walk(*_falling(6), momentum=0.9)),
        Case("momentum 0.9, a rate that begins at 0", "rate", *_walk(0.0, 0.1, 0.2, momentum=0.9)),
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
