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
from helpers.exercises.engine import Case, Exercise, Prediction


@functools.cache
def _ready() -> None:
    """Make the first optimizer of the process, which imports much of torch for seconds."""
    # An answer's time limit is not the place for it: an interrupted import leaves wreckage.
    torch.optim.SGD([nn.Parameter(torch.zeros(1))])


# One step from several micro-batches ------------------------------------------------------------

accumulated_step = Exercise(
    "optimizers.accumulated_step",
    title="One step from several micro-batches",
    stars=2,
    minutes=10,
    ask="""
    A batch of 12 rows does not fit into memory; pieces of it do. Write `accumulated_step`: it takes
    **one** step of the optimizer, the same as if all rows had come in one batch, and returns the
    mean loss per row as a float.

    `micro_batches` is a list of pairs `(x, y)` of *different* lengths. `loss_fn` is a mean over the
    rows it gets. Gradients of an earlier step may still be there.
    """,
    hints=(
        "Gradients add up over `backward()` calls. So what is each micro-batch's loss to be "
        "multiplied by, so that the sum is the mean over all rows?",
        "A micro-batch with 5 of 12 rows counts 5/12: `(loss * len(x) / rows).backward()`.",
        "`zero_grad()` once before the loop, `step()` once after it.",
    ),
    cases=lambda: [
        Case("12 rows in pieces of 5, 5 and 2", *_pieces(5, 5, 2)),
        Case("12 rows in two equal pieces", *_pieces(6, 6)),
        Case("one piece", *_pieces(7)),
    ],
    takeaway="Accumulation is a weighted sum of gradients. Divide by the number of rows, not by "
    "the number of pieces: the last piece is usually shorter.",
)


def _pieces(*sizes):
    torch.manual_seed(sum(sizes))
    model = nn.Linear(3, 1)
    x = torch.randn(sum(sizes), 3)
    y = torch.arange(float(sum(sizes))).unsqueeze(1)
    nn.functional.mse_loss(model(x), 100 * y).backward()  # the gradients of an earlier step
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, list(zip(x.split(sizes), y.split(sizes), strict=True)), optimizer


@accumulated_step.observe
def _one_step(answer, model, micro_batches, optimizer):
    steps = []
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    loss = answer(model, micro_batches, nn.functional.mse_loss, optimizer)
    return {
        "steps of the optimizer": len(steps),
        "weights after the step": {name: p.detach() for name, p in model.named_parameters()},
        "mean loss per row": loss,
    }


@accumulated_step.starter
def accumulated_step(model, micro_batches, loss_fn, optimizer):
    """Take one step on all rows of the micro-batches; return their mean loss."""
    ...


@accumulated_step.reference
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


@accumulated_step.also_right
def gradients_by_hand(model, micro_batches, loss_fn, optimizer):
    parameters = list(model.parameters())
    rows = sum(len(x) for x, _ in micro_batches)
    losses = [loss_fn(model(x), y) * len(x) for x, y in micro_batches]
    mean = sum(losses) / rows
    for parameter, gradient in zip(parameters, torch.autograd.grad(mean, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return mean.item()


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


@accumulated_step.mistake(
    "Your gradients are the *sum* of the pieces' means, so the step is as many times too long as "
    "there are pieces. Give each piece its share of the rows."
)
def adds_the_means(model, micro_batches, loss_fn, optimizer):
    optimizer.zero_grad()
    return _accumulate(model, micro_batches, loss_fn, optimizer, lambda x: 1)


@accumulated_step.mistake(
    "You divide by the number of pieces. With pieces of different lengths, each row of a short one "
    "then counts more than a row of a long one. Weight by rows."
)
def divides_by_pieces(model, micro_batches, loss_fn, optimizer):
    optimizer.zero_grad()
    return _accumulate(model, micro_batches, loss_fn, optimizer, lambda x: 1 / len(micro_batches))


@accumulated_step.mistake(
    "Gradients of an earlier step are still in `.grad`, and your sum begins with them. Clear them "
    "before the first piece."
)
def never_clears(model, micro_batches, loss_fn, optimizer):
    rows = sum(len(x) for x, _ in micro_batches)
    return _accumulate(model, micro_batches, loss_fn, optimizer, lambda x: len(x) / rows)


@accumulated_step.mistake(
    "You clear the gradients for each piece, so only the last piece is left when the step is "
    "taken. Clear once, before the loop."
)
def clears_each_time(model, micro_batches, loss_fn, optimizer):
    rows, total = sum(len(x) for x, _ in micro_batches), 0.0
    for x, y in micro_batches:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y) * len(x) / rows
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


@accumulated_step.mistake(
    "You take a step after each piece: those are several short steps, each from other weights. One "
    "step is asked for, after the last piece."
)
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

sgd = Exercise(
    "optimizers.sgd",
    title="All of SGD",
    stars=2,
    minutes=12,
    ask="""
    Write the rule of `torch.optim.SGD` with all its arguments. In this order:

    1. **weight decay**: add `weight_decay * w` to the gradient;
    2. **momentum**, if it is not zero: the velocity is `momentum` times the old velocity plus
       `1 - dampening` times the gradient. In the first step there is no old velocity: the velocity
       *is* the gradient, undamped;
    3. **Nesterov**: go along the gradient plus `momentum` times the new velocity, instead of along
       the velocity;
    4. the step is `lr` times that. The rate may differ from call to call.

    `memory` is a dict of yours, empty at first. Leave `w` and `grad` as they are.
    """,
    hints=(
        "`if momentum:` … keep the velocity in `memory`, under a name of your choice.",
        "`grad = grad + …` makes a new tensor. `grad += …` writes into the caller's.",
        "The last line is `return lr * direction`, where `direction` is the gradient, the "
        "velocity, or Nesterov's sum.",
    ),
    cases=lambda: [
        Case("plain", *_walk(lr=0.1)),
        Case("weight decay", *_walk(lr=0.1, weight_decay=0.3)),
        Case("momentum 0.9", *_walk(lr=0.1, momentum=0.9)),
        Case("momentum 0.9, dampening 0.4", *_walk(lr=0.1, momentum=0.9, dampening=0.4)),
        Case("momentum 0.8 and weight decay", *_walk(lr=0.1, momentum=0.8, weight_decay=0.3)),
        Case("Nesterov", *_walk(lr=0.1, momentum=0.8, nesterov=True)),
        Case("momentum, and a rate that falls", *_walk(falls=True, lr=0.1, momentum=0.9)),
    ],
    takeaway="The velocity is a sum of gradients without any rate in it, and the rate of today "
    "multiplies it all. That is why a scheduler acts at once.",
)


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


@sgd.starter
def sgd(w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False):
    """The step that is subtracted from `w`."""
    ...


@sgd.reference
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


@sgd.also_right
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


@sgd.mistake(
    "Your velocity is an average: you weight the new gradient with `1 - momentum`. torch sums: the "
    "new gradient counts fully, unless there is dampening."
)
def averages(w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False):
    grad = grad + weight_decay * w
    if not momentum:
        return lr * grad
    old = memory.get("velocity", 0)
    memory["velocity"] = momentum * old + (1 - momentum) * grad
    return lr * (grad + momentum * memory["velocity"] if nesterov else memory["velocity"])


@sgd.mistake(
    "Your velocity holds steps, not gradients: the rate is inside it. As long as the rate stays "
    "the same nobody can tell; when it falls, your old steps go on at the old rate."
)
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


@sgd.mistake(
    "You dampen the first step too. In torch the first velocity is the whole gradient; dampening "
    "begins with the second step."
)
def dampens_the_first(
    w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False
):
    grad = grad + weight_decay * w
    if not momentum:
        return lr * grad
    memory["velocity"] = momentum * memory.get("velocity", 0) + (1 - dampening) * grad
    return lr * (grad + momentum * memory["velocity"] if nesterov else memory["velocity"])


@sgd.mistake(
    "Your weight decay goes around the velocity: it is added at the end. torch's SGD adds it to "
    "the gradient first, so that the velocity remembers it."
)
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


@sgd.mistake(
    "`nesterov` changes nothing in your rule. With it, the direction is the gradient plus "
    "`momentum` times the new velocity."
)
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


@sgd.mistake(
    "The steps are right, and you write into the caller's gradient: `+=`, or an in-place method on "
    "a velocity that *is* the first gradient. Make new tensors."
)
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

hundredth = Prediction(
    "optimizers.hundredth",
    title="The hundredth step",
    stars=2,
    minutes=4,
    ask="""
    The gradient of one weight is 1, in every step. How many times as long as its first step is the
    hundredth step of each optimizer? Round to one digit after the point. Momentum is 0.9;
    everything else is torch's default.
    """,
    blank='{"SGD": ..., "SGD with momentum": ..., "Adagrad": ..., "Adam": ...}',
    hints=(
        "Momentum sums gradients: 1 + 0.9 + 0.9² + … What does that come to?",
        "After t steps Adagrad has summed t squares, and it divides by the *root* of the sum.",
        "Adam's two averages are both corrected for their start. What are they here?",
    ),
    takeaway="Momentum lengthens a steady step tenfold, Adagrad shortens it with √t, and Adam's "
    "length is its learning rate, early and late.",
)


def _ratio(kind, **options):
    w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = kind([w], **options)
    places = [w.item()]
    for _ in range(100):
        w.grad = torch.ones_like(w)
        optimizer.step()
        places.append(w.item())
    return round((places[100] - places[99]) / (places[1] - places[0]), 1)


@hundredth.reference
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


@hundredth.mistake(
    "A steady gradient gives steady steps for plain SGD. With momentum each step adds to the "
    "velocity, and nothing in it divides: it is a sum, not an average."
)
def momentum_averages():
    return {"SGD with momentum": _ratio(torch.optim.SGD)}


@hundredth.mistake(
    "Adagrad's sum of squares is 100 by then; you divided by it. It divides by its root."
)
def adagrad_without_root():
    return {"Adagrad": round(_ratio(torch.optim.Adagrad) ** 2, 2)}


@hundredth.mistake(
    "Adagrad does not keep its pace: its sum of squares only grows. That is what RMSprop and Adam "
    "mend with an average."
)
def adagrad_steady():
    return {"Adagrad": _ratio(torch.optim.Adam)}


@hundredth.mistake(
    "Adam has a momentum too, but its first average is a real average, corrected for its start: "
    "for a steady gradient it is that gradient, in every step."
)
def adam_sums():
    return {"Adam": _ratio(torch.optim.SGD, momentum=0.9)}


@hundredth.mistake(
    "You let Adam slow down as Adagrad does. Its average of squares does not grow with time: old "
    "squares fade from it."
)
def adam_shrinks():
    return {"Adam": _ratio(torch.optim.Adagrad)}


# Adam -------------------------------------------------------------------------------------------

adam = Exercise(
    "optimizers.adam",
    title="Adam and AdamW",
    stars=3,
    minutes=15,
    ask="""
    Write the rule of `torch.optim.Adam`, and with `decoupled=True` that of `torch.optim.AdamW`.
    With `betas = (b1, b2)` and t = 1, 2, 3, …:

    - an average `m` of the gradients that keeps a share `b1` of the old at each step, and an
      average `v` of their squares that keeps `b2`; both begin at zero;
    - both are **corrected** for that beginning: divided by `1 - b1**t` and by `1 - b2**t`;
    - the step is `lr` times corrected `m` over (root of corrected `v`, plus `eps`);
    - Adam adds `weight_decay * w` to the gradient before anything else. AdamW leaves the gradient
      alone and subtracts `lr * weight_decay * w` besides.

    Leave `w` and `grad` as they are.
    """,
    hints=(
        '`t = memory["t"] = memory.get("t", 0) + 1` counts the calls.',
        "Keep the *uncorrected* averages in `memory`; correct copies of them in each step.",
        "`eps` stands outside the root.",
    ),
    help=(
        (
            "<code>nan</code> in the first step",
            "`1 - b1**t` is zero for t = 0. Count before you divide: the first step is t = 1.",
        ),
    ),
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
    takeaway="Adam is two averages, both corrected, and a quotient. AdamW keeps the decay out of "
    "the quotient, so that it decays all weights alike.",
)

adam.observe(_steps)


@adam.starter
def adam(w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False):
    """The step that is subtracted from `w`."""
    ...


@adam.reference
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


@adam.also_right
def corrected_by_weights(
    w, grad, memory, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled=False
):
    """Averages over the whole history, each gradient weighted by its age."""
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


@adam.mistake(
    "Your averages are not corrected. They begin at zero, and the one of the squares recovers far "
    "more slowly: your first step is about three times too long."
)
def uncorrected(w, grad, memory, **options):
    return _adam_attempt(w, grad, memory, **options, correction=lambda beta, t: 1)


@adam.mistake(
    "Your correction does not change with time: it is that of the first step for ever. Count the "
    "calls in `memory`."
)
def corrected_for_ever(w, grad, memory, **options):
    return _adam_attempt(w, grad, memory, **options, correction=lambda beta, t: 1 - beta)


@adam.mistake(
    "`eps` is under the root in your rule. torch adds it to the root: with a large `eps` the two "
    "differ much."
)
def eps_under_the_root(w, grad, memory, **options):
    return _adam_attempt(
        w, grad, memory, **options, quotient=lambda m, v, eps: m / (v + eps).sqrt()
    )


@adam.mistake(
    "You divide by the average of the squares itself. Its root is what has the size of a gradient."
)
def without_the_root(w, grad, memory, **options):
    return _adam_attempt(w, grad, memory, **options, quotient=lambda m, v, eps: m / (v + eps))


@adam.mistake(
    "Your betas are swapped: the first belongs to the gradients, the second to their squares."
)
def betas_swapped(w, grad, memory, betas=(0.9, 0.999), **options):
    return _adam_attempt(w, grad, memory, betas=betas[::-1], **options)


@adam.mistake(
    "Your second average is made from the square of the *average* gradient. It is the average of "
    "the squares: `grad**2` of each step."
)
def squares_the_average(w, grad, memory, **options):
    return _adam_attempt(w, grad, memory, **options, square=lambda grad, m: m**2)


@adam.mistake(
    "`decoupled` changes nothing in your rule: the decay goes through the quotient both times. In "
    "AdamW it never enters the gradient."
)
def never_decoupled(w, grad, memory, decoupled=False, **options):
    return _adam_attempt(w, grad, memory, **options)


@adam.mistake(
    "You do what AdamW does, always. Without `decoupled`, the decay is added to the gradient and "
    "passes through both averages."
)
def always_decoupled(w, grad, memory, decoupled=False, **options):
    return _adam_attempt(w, grad, memory, decoupled=True, **options)


@adam.mistake(
    "Your decoupled decay lacks the rate: torch subtracts `lr * weight_decay * w`, so that the "
    "decay follows the schedule of the rate."
)
def decay_without_rate(w, grad, memory, **options):
    return _adam_attempt(w, grad, memory, **options, decay_rate=1)


# Parameter groups -------------------------------------------------------------------------------

decay_groups = Exercise(
    "optimizers.decay_groups",
    title="Decay for some, none for others",
    stars=2,
    minutes=10,
    ask="""
    Weight decay is meant for the matrices of a network. Pulled towards zero, a bias or a
    normalisation's scale only loses what it has learned. Write
    `decay_groups(model, weight_decay)`: a list of two parameter groups for an optimizer.

    - Parameters with **two or more dimensions** get `weight_decay`, those with fewer get 0.
    - Frozen parameters are in no group; every other parameter is in exactly one.

    It must work for any model: nested, with normalisation layers, with a weight used twice.
    """,
    hints=(
        'A group is a dict: `{"params": [...], "weight_decay": 0.1}`.',
        "`model.parameters()` gives each parameter once, nested ones and shared ones too. You need "
        "no names and no types of layers.",
        "`p.ndim` is the number of dimensions; `p.requires_grad` is False if it is frozen.",
    ),
    cases=lambda: [
        Case("a small network with BatchNorm", _network()),
        Case("the same with its first layer frozen", _network(frozen=True)),
        Case("an embedding shared with the output layer", _tied()),
    ],
    takeaway="Options of a group stand in its dict and go before the optimizer's defaults. Check "
    "that each parameter is in one group: what is in none is never trained, without a word.",
)


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


@decay_groups.observe
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


@decay_groups.starter
def decay_groups(model, weight_decay):
    """Two parameter groups: with `weight_decay`, and without."""
    ...


@decay_groups.reference
def decay_groups(model, weight_decay):
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


@decay_groups.also_right
def by_module(model, weight_decay):
    groups = {True: {}, False: {}}
    for part in model.modules():
        for parameter in part.parameters(recurse=False):
            if parameter.requires_grad:
                groups[len(parameter.shape) > 1][id(parameter)] = parameter
    return [
        {"params": list(groups[False].values()), "weight_decay": 0.0},
        {"params": list(groups[True].values()), "weight_decay": weight_decay},
    ]


@decay_groups.mistake(
    "You go by the name `bias`. The scale of a normalisation layer is called `weight`, has one "
    "dimension, and is decayed by your groups."
)
def by_name(model, weight_decay):
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for n, p in trained if "bias" not in n], "weight_decay": weight_decay},
        {"params": [p for n, p in trained if "bias" in n], "weight_decay": 0.0},
    ]


@decay_groups.mistake(
    "Your groups hold frozen parameters. Leave out what does not require a gradient: unfrozen "
    "later, or with a stale gradient, it would move."
)
def frozen_too(model, weight_decay):
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


@decay_groups.mistake(
    "Parameters with fewer than two dimensions are in no group. Nobody decays them, as you wished; "
    "nobody trains them either."
)
def leaves_the_rest_out(model, weight_decay):
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [nn.Parameter(torch.zeros(1))], "weight_decay": 0.0},
    ]


@decay_groups.mistake("The groups are the wrong way round: the matrices are the ones to decay.")
def the_wrong_way_round(model, weight_decay):
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": 0.0},
    ]


@decay_groups.mistake(
    "Your second group does not say `weight_decay`, so it takes the optimizer's own, which need "
    "not be zero. Write `0.0` into the group."
)
def relies_on_the_default(model, weight_decay):
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2]},
    ]


@decay_groups.mistake(
    "A parameter with two names is in your groups twice. `parameters()` of the whole model gives "
    "it once; walking layer by layer, you have to take care of that yourself."
)
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

chains = Prediction(
    "optimizers.chains",
    title="Two schedulers on one optimizer",
    stars=2,
    minutes=4,
    ask="""
    An optimizer has two schedulers: `ExponentialLR`, and a second one. Both are stepped, one after
    the other. Is the learning rate the **product** of the two curves? Write `True` or `False`.
    """,
    blank='{"MultiStepLR": ..., "LinearLR": ..., "LambdaLR": ..., "OneCycleLR": ...}',
    hints=(
        "A schedule can be written in two ways: *today's rate is yesterday's rate times …*, or "
        "*today's rate is f(t)*. Which one leaves room for a second scheduler?",
        "`LambdaLR` is documented as the *initial* rate times the function's value. `OneCycleLR` "
        "is told its `max_lr`.",
    ),
    takeaway="A scheduler that multiplies the rate it finds can share an optimizer. One that "
    "computes the rate from the start overwrites whatever it finds.",
)


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


@chains.reference
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


@chains.mistake(
    "`LambdaLR` computes its rate from the initial one, at each step anew. What the other "
    "scheduler wrote is lost."
)
def lambda_multiplies():
    factor = torch.optim.lr_scheduler.MultiplicativeLR
    return {"LambdaLR": _multiplies(lambda optimizer: factor(optimizer, lambda t: 0.5))}


@chains.mistake(
    "`OneCycleLR` is told the largest rate and the number of steps, and writes the rate that "
    "follows from them. It does not look at what it finds."
)
def one_cycle_multiplies():
    linear = torch.optim.lr_scheduler.LinearLR
    return {"OneCycleLR": _multiplies(lambda optimizer: linear(optimizer, 0.04))}


@chains.mistake(
    "`MultiStepLR` multiplies the rate it finds by `gamma` at its milestones, and by nothing in "
    "between. That leaves the other scheduler's work alone."
)
def milestones_overwrite():
    function = torch.optim.lr_scheduler.LambdaLR
    return {"MultiStepLR": _multiplies(lambda o: function(o, lambda t: 0.1 ** (t >= 2)))}


@chains.mistake(
    "`LinearLR` looks like a function of time, but it is written as a factor from one step to the "
    "next: it multiplies what it finds."
)
def linear_overwrites():
    function = torch.optim.lr_scheduler.LambdaLR
    return {"LinearLR": _multiplies(lambda o: function(o, lambda t: min(1, 0.5 + t / 8)))}


# Warm-up and cosine -----------------------------------------------------------------------------

warmup_cosine = Exercise(
    "optimizers.warmup_cosine",
    title="Warm up, then anneal",
    stars=2,
    minutes=10,
    ask="""
    The schedule of most large models. Write `warmup_cosine(step, warmup, total)`, the factor by
    which `LambdaLR` multiplies the base rate in step 0, 1, 2, …:

    - over the first `warmup` steps it rises by equal amounts, from `1 / warmup` in step 0 to 1 in
      step `warmup - 1`;
    - from step `warmup` on it falls along half a cosine, from 1 there to 0 in step `total`;
    - from then on it stays 0. `warmup` may be 0.
    """,
    hints=(
        "Three stretches, three cases. In the middle one, how far are you along, from 0 to 1?",
        "`progress = (step - warmup) / (total - warmup)`.",
        "`math.cos(math.pi * progress)` goes from 1 to -1; halve it and lift it.",
    ),
    cases=lambda: [
        Case("10 steps of warm-up, 50 in all", 10, 50),
        Case("4 steps of warm-up, 8 in all", 4, 8),
        Case("no warm-up", 0, 20),
    ],
    takeaway="A first factor of 0 would waste the first step, and a cosine that is not stopped "
    "rises again. Draw a schedule before you train with it.",
)


@warmup_cosine.observe
def _factors(answer, warmup, total):
    return {f"factor in step {t}": answer(t, warmup, total) for t in range(total + 6)}


@warmup_cosine.starter
def warmup_cosine(step, warmup, total):
    """The factor of the base rate in this step, between 0 and 1."""
    ...


@warmup_cosine.reference
def warmup_cosine(step, warmup, total):
    import math

    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / (total - warmup))
    return (1 + math.cos(math.pi * progress)) / 2


@warmup_cosine.also_right
def by_the_half_angle(step, warmup, total):
    if step >= total:
        return 0.0
    if step < warmup:
        return sum(1 / warmup for _ in range(step + 1))
    return math.cos(math.pi * (step - warmup) / (total - warmup) / 2) ** 2


def _cosine(progress):
    return (1 + math.cos(math.pi * progress)) / 2


@warmup_cosine.mistake(
    "Your first factor is 0: the first step goes nowhere, and the rise comes one step late. In "
    "step 0 the factor is `1 / warmup`."
)
def starts_at_zero(step, warmup, total):
    if step < warmup:
        return step / warmup
    return _cosine(min(1.0, (step - warmup) / (total - warmup)))


@warmup_cosine.mistake(
    "Your cosine begins in step 0, under the warm-up: when the rise ends, the factor falls in one "
    "jump. Measure progress from the end of the warm-up."
)
def cosine_from_the_start(step, warmup, total):
    return (step + 1) / warmup if step < warmup else _cosine(min(1.0, step / total))


@warmup_cosine.mistake(
    "After step `total` your factor rises again: a cosine has no end. Hold the progress at 1."
)
def rises_again(step, warmup, total):
    return (step + 1) / warmup if step < warmup else _cosine((step - warmup) / (total - warmup))


@warmup_cosine.mistake(
    "Your factor goes below zero, down to -1: a negative rate climbs. Halve the cosine and lift it."
)
def goes_negative(step, warmup, total):
    if step < warmup:
        return (step + 1) / warmup
    return math.cos(math.pi * min(1.0, (step - warmup) / (total - warmup)))


@warmup_cosine.mistake("Without warm-up you divide by zero. Ask first whether there is any.")
def divides_by_zero(step, warmup, total):
    rise = min(1.0, (step + 1) / warmup)
    return rise * _cosine(min(1.0, max(0, step - warmup) / (total - warmup)))


@warmup_cosine.mistake(
    "Your fall lasts `total` steps and begins after the warm-up, so it is not over in step "
    "`total`. It has `total - warmup` steps."
)
def falls_too_long(step, warmup, total):
    return (step + 1) / warmup if step < warmup else _cosine(min(1.0, (step - warmup) / total))


# Bug hunt: one bug ------------------------------------------------------------------------------

train_digits = Exercise(
    "optimizers.train_digits",
    title="Bug hunt: the network that learns slowly",
    stars=2,
    minutes=10,
    ask="""
    This program trains on digits. The rate should rise over 40 batches to 0.1 and then anneal to
    zero by the end. Nothing is raised and the loss falls, but on new digits the network is right in
    less than 75 % of cases; others pass 90 % with these very settings. "Take a larger rate", says a
    colleague.

    There is **one** bug. Find it by looking at what the program does, and mend it. Leave the rate,
    the 40, the epochs and the batch size as they are. (`SequentialLR` runs its first scheduler,
    and from the call number in `milestones` on the second.)
    """,
    start="This is the program as found. Print the rate that each `optimizer.step()` uses, before "
    "you change anything.",
    hints=(
        'Record `optimizer.param_groups[0]["lr"]` before every step and look at the first, the '
        "largest and the last.",
        "How many times is `scheduler.step()` called in all, and how many calls does the schedule "
        "expect?",
    ),
    cases=lambda: [Case("1,347 digits, 6 epochs", *_digits())],
    takeaway="A scheduler counts its own calls. Whether they mean batches or epochs is decided by "
    "where the line stands, and nothing checks it against the numbers you gave.",
)


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


@train_digits.observe
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


@train_digits.starter
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


@train_digits.reference
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


@train_digits.also_right
def with_a_function(images, classes):
    def schedule(optimizer, total):
        def factor(t):
            if t < 40:
                return 0.01 + 0.99 * t / 40
            return (1 + math.cos(math.pi * (t - 40) / (total - 40))) / 2

        return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    return _train_digits(images, classes, schedule)


@train_digits.mistake(
    "You followed the colleague. The network learns faster, and the schedule is as broken as "
    "before: the rate never falls. Look at what the rate does over time."
)
def larger_rate(images, classes):
    return _train_digits(
        images,
        classes,
        lambda o, total: _rise_and_fall(o, 40, total - 40),
        lr=0.5,
        per_epoch=True,
    )


@train_digits.mistake(
    "Without the scheduler the network learns, at a rate of 0.1 throughout. The task was to make "
    "the schedule work, not to be rid of it."
)
def no_schedule(images, classes):
    return _train_digits(images, classes, lambda o, total: None)


@train_digits.mistake(
    "You shortened the warm-up to a few epochs. The rate now moves in six coarse stairs, one an "
    "epoch, instead of from batch to batch."
)
def warmup_in_epochs(images, classes):
    return _train_digits(images, classes, lambda o, total: _rise_and_fall(o, 2, 4), per_epoch=True)


@train_digits.mistake(
    "The scheduler now moves with the batches, and the fall is counted in epochs: after 6 batches "
    "the cosine is at zero and comes up again, over and over. The fall has to last as many calls "
    "as are left after the warm-up."
)
def falls_in_six_batches(images, classes):
    return _train_digits(images, classes, lambda o, total: _rise_and_fall(o, 40, 6))


@train_digits.mistake(
    "Nothing that the optimizer does has changed: the rate still never comes near 0.1. Count the "
    "calls of `scheduler.step()`."
)
def the_same_again(images, classes):
    return _train_digits(
        images, classes, lambda o, total: _rise_and_fall(o, 40, total - 40), per_epoch=True
    )


# Bug hunt: several bugs -------------------------------------------------------------------------

train_in_groups = Exercise(
    "optimizers.train_in_groups",
    title="Bug hunt: three bugs, no error",
    stars=3,
    minutes=15,
    ask="""
    You have not seen this program. It should

    - take one step for each `group` micro-batches, along the mean of their gradients;
    - never step along a gradient longer than 1, whatever an odd row does to it;
    - cut the rate to a tenth when the validation accuracy has not improved for more than one epoch,
      and only then.

    It does none of the three, and raises nothing. `validate(model)` gives an accuracy. The number
    of batches is a multiple of `group`. Mend it.
    """,
    start="This is the program as found. Take the three promises one by one: which line keeps it, "
    "and does it run at the right moment?",
    hints=(
        "At the moment of `optimizer.step()`: from how many micro-batches is what lies in `.grad`?",
        "At the moment of `clip_grad_norm_`: what is there to be clipped?",
        "What does `ReduceLROnPlateau` take for an improvement, if you don't tell it?",
    ),
    cases=lambda: [
        Case("8 micro-batches in groups of 4, one row a thousand times too large", *_micro(4)),
        Case("6 micro-batches in groups of 2", *_micro(2)),
        Case("8 micro-batches in groups of 4, all of them quiet", *_micro(4, size=0.05, odd=1)),
    ],
    takeaway="The order is clear, backward for each piece, clip, step; the middle one works on "
    "what is in `.grad` at that moment. And a plateau has a direction: `mode`.",
)

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


@train_in_groups.observe
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


@train_in_groups.starter
def train_in_groups(model, batches, validate, epochs, group):
    """Train on groups of micro-batches; clip; lower the rate when validation stalls."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=1)
    loss_fn = nn.CrossEntropyLoss()
    for epoch in range(epochs):
        model.train()
        for number, (x, y) in enumerate(batches, start=1):
            optimizer.zero_grad()
            loss = loss_fn(model(x), y) / group
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            loss.backward()
            if number % group == 0:
                optimizer.step()
        model.eval()
        accuracy = validate(model)
        scheduler.step(accuracy)
        print(f"epoch {epoch}: accuracy {accuracy:.1%}, rate {scheduler.get_last_lr()[0]:.0e}")
    return model


@train_in_groups.reference
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


@train_in_groups.also_right
def by_whole_groups(model, batches, validate, epochs, group):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=1)
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
