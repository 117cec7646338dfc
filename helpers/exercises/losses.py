"""The exercises of chapter 02: which question a loss asks, and of how many values."""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd.gradcheck import GradcheckError
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from helpers import data
from helpers.exercises.engine import Case, Exercise, Prediction

# What a mean divides by --------------------------------------------------------------------------

divisor = Prediction(
    "losses.divisor",
    title="What does `mean` divide by?",
    stars=1,
    minutes=3,
    ask="""
    Three losses, each with its default `reduction="mean"`:

    - `F.mse_loss(prediction, target)`, both of shape `(4, 10)`;
    - `F.cross_entropy(logits, classes)` with logits `(4, 10)` and four classes;
    - `F.cross_entropy(logits, classes)` with logits `(4, 10, 6)` and classes `(4, 6)`: four
      sequences of six steps, ten classes.

    Each is a sum divided by a number. Which number? (Cross-entropy makes *one* loss of the ten
    scores that belong to one class label; you know it from chapter 00.)
    """,
    blank='{"mse (4, 10)": ..., "ce (4, 10)": ..., "ce (4, 10, 6)": ...}',
    hints=(
        'How many values does the same call give with `reduction="none"`?',
        "Cross-entropy gives one value for each *target*. The ten classes are not averaged over: "
        "they are one answer.",
    ),
    takeaway='`mean` divides by the number of values that `reduction="none"` gives: every element '
    "of a regression, every target of a classification. Neither is the batch size in general.",
)


@divisor.reference
def divisor():
    values, classes = torch.rand(4, 10), torch.arange(4)
    steps, step_classes = torch.rand(4, 10, 6), torch.arange(24).reshape(4, 6) % 10
    calls = {
        "mse (4, 10)": lambda how: nn.functional.mse_loss(values, values + 1, reduction=how),
        "ce (4, 10)": lambda how: nn.functional.cross_entropy(values, classes, reduction=how),
        "ce (4, 10, 6)": lambda how: nn.functional.cross_entropy(
            steps, step_classes, reduction=how
        ),
    }
    return {name: round((call("sum") / call("mean")).item()) for name, call in calls.items()}


@divisor.mistake(
    "`mse_loss` knows nothing of batches: forty squared errors go in, and it is their mean. "
    "Someone who wants the sum over ten features, averaged over four rows, has to write it."
)
def mse_divides_by_the_batch():
    return {"mse (4, 10)": len(torch.zeros(4, 10))}


@divisor.mistake(
    "The ten logits of a row make *one* loss together, the one of its target. Count the targets of "
    "the second call."
)
def classes_are_averaged_over():
    return {"ce (4, 10)": torch.zeros(4, 10).numel()}


@divisor.mistake(
    "Every step of a sequence has a target, and every target has a loss. The third call has more "
    "targets than sequences."
)
def sequences_count_once():
    return {"ce (4, 10, 6)": len(torch.zeros(4, 10, 6))}


@divisor.mistake(
    "You count every logit of the third call. Ten of them at a time are the answer to one target."
)
def every_logit_counts():
    return {"ce (4, 10, 6)": torch.zeros(4, 10, 6).numel()}


# Huber, with the door shut -----------------------------------------------------------------------

huber = Exercise(
    "losses.huber",
    title="A regression loss that does not broadcast",
    stars=2,
    minutes=10,
    ask="""
    Write `huber(prediction, target, delta=1.0, reduction="mean")`. For an error `e`:

    - where `|e| ≤ delta`, the loss is `e² / 2`;
    - beyond, it is the straight line that continues the parabola with the slope it has there.

    `reduction` is `"mean"`, `"sum"` or `"none"`. And close the trap of this section: raise a
    `ValueError` where the two shapes differ.
    """,
    hints=(
        "The parabola has the slope `delta` at `|e| = delta`. So the line is `delta * |e|` and a "
        "constant that makes the two meet.",
        "`torch.where(condition, a, b)` chooses for each element. An `if` chooses once, and a "
        "tensor of many answers cannot tell it how.",
        "The constant is `-delta² / 2`.",
    ),
    help=(
        (
            "<code>Boolean value of Tensor with more than one value is ambiguous</code>",
            "An <code>if</code> wants one answer; a comparison of tensors gives one per element. "
            "See the second hint.",
        ),
    ),
    cases=lambda: [
        Case("errors on both sides of delta = 1, mean", _errors(), torch.zeros(7), 1.0, "mean"),
        Case("delta = 2, sum", _errors(), torch.zeros(7), 2.0, "sum"),
        Case("delta = 0.5, none, shape (3, 2)", _grid(), torch.ones(3, 2), 0.5, "none"),
        Case("mean, shape (3, 2)", _grid(), torch.ones(3, 2), 1.0, "mean"),
        Case("predictions (3, 1), targets (3,)", _grid()[:, :1], _errors()[1:4], 1.0, "mean"),
        Case("predictions (3, 1), targets (3, 2)", _grid()[:, :1], _grid(), 1.0, "mean"),
        Case("predictions (3, 1), targets (1, 1)", _grid()[:, :1], _grid()[:1, :1], 1.0, "mean"),
    ],
    takeaway="A parabola where errors are small, a line where they are large: no single error can "
    "pull harder than `delta`. And one `if` on the shapes is worth more than a warning.",
)


def _errors():
    return torch.tensor([-5.0, -1.5, -0.4, 0.0, 0.7, 1.2, 9.0])


def _grid():
    return torch.tensor([[1.2, 0.1], [3.0, 1.0], [-4.0, 1.45]])


@huber.observe
def _with_its_slope(answer, prediction, target, delta, reduction):
    prediction = prediction.clone().requires_grad_()
    loss = answer(prediction, target, delta=delta, reduction=reduction)
    loss.sum().backward()
    return {"loss": loss.detach(), "slope": prediction.grad}


def _shut(prediction, target):
    if prediction.shape != target.shape:
        raise ValueError(f"shapes differ: {tuple(prediction.shape)}, {tuple(target.shape)}")


def _reduced(each, reduction):
    return each if reduction == "none" else getattr(each, reduction)()


@huber.starter
def huber(prediction, target, delta=1.0, reduction="mean"):
    """The Huber loss of tensors of one shape; ValueError where the shapes differ."""
    ...


@huber.reference
def huber(prediction, target, delta=1.0, reduction="mean"):
    if prediction.shape != target.shape:
        raise ValueError(f"shapes differ: {tuple(prediction.shape)}, {tuple(target.shape)}")
    size = (prediction - target).abs()
    each = torch.where(size <= delta, size**2 / 2, delta * size - delta**2 / 2)
    return {"mean": each.mean, "sum": each.sum, "none": lambda: each}[reduction]()


@huber.also_right
def with_a_clamp(prediction, target, delta=1.0, reduction="mean"):
    _shut(prediction, target)
    size = (prediction - target).abs()
    inside = size.clamp(max=delta)
    return _reduced(inside * (size - inside / 2), reduction)


@huber.mistake(
    "The formula is right and the trap is open: `(3, 1)` against `(3,)` still becomes nine errors. "
    "Compare the shapes first, and raise a `ValueError` if they differ."
)
def broadcasts(prediction, target, delta=1.0, reduction="mean"):
    size = (prediction - target).abs()
    inside = size.clamp(max=delta)
    return _reduced(inside * (size - inside / 2), reduction)


@huber.mistake(
    "You bring the target into the shape of the prediction yourself. That hides the caller's "
    "mistake, and with `(2, 3)` against `(3, 2)` it pairs the wrong numbers. Refuse instead."
)
def reshapes(prediction, target, delta=1.0, reduction="mean"):
    return broadcasts(prediction, target.reshape(prediction.shape), delta, reduction)


@huber.mistake(
    "The two pieces do not meet: your line lies `delta² / 2` above the parabola. It must continue "
    "it."
)
def line_without_offset(prediction, target, delta=1.0, reduction="mean"):
    _shut(prediction, target)
    size = (prediction - target).abs()
    return _reduced(torch.where(size <= delta, size**2 / 2, delta * size), reduction)


@huber.mistake(
    "The parabola lacks its half: `e² / 2` has the slope `e`, which is `delta` where the line "
    "begins. `e²` is twice as steep."
)
def parabola_without_half(prediction, target, delta=1.0, reduction="mean"):
    _shut(prediction, target)
    size = (prediction - target).abs()
    return _reduced(torch.where(size <= delta, size**2, delta * size - delta**2 / 2), reduction)


@huber.mistake(
    "That is `SmoothL1Loss`: the same shape, divided by `delta`. The two agree for `delta = 1` "
    "and nowhere else."
)
def smooth_l1(prediction, target, delta=1.0, reduction="mean"):
    _shut(prediction, target)
    return F.smooth_l1_loss(prediction, target, beta=delta, reduction=reduction)


@huber.mistake(
    "Errors below zero count as they are: without `abs()` a prediction far too low has a negative "
    "loss, and the model is drawn there."
)
def keeps_the_sign(prediction, target, delta=1.0, reduction="mean"):
    _shut(prediction, target)
    e = prediction - target
    return _reduced(torch.where(e <= delta, e**2 / 2, delta * e - delta**2 / 2), reduction)


@huber.mistake(
    "Your guard compares the number of dimensions, and `(3, 1)` against `(3, 2)` has two of each. "
    "Compare the whole shapes."
)
def compares_dimensions_only(prediction, target, delta=1.0, reduction="mean"):
    if prediction.dim() != target.dim():
        raise ValueError("other dimensions")
    return broadcasts(prediction, target, delta, reduction)


@huber.mistake(
    "It always averages: `reduction` is an argument, with `'sum'` and `'none'` as other values."
)
def always_the_mean(prediction, target, delta=1.0, reduction="mean"):
    _shut(prediction, target)
    return broadcasts(prediction, target, delta)


@huber.mistake(
    "An `if` wants one answer, and your comparison gives one for each element. `torch.where` "
    "chooses for each."
)
def chooses_once(prediction, target, delta=1.0, reduction="mean"):
    _shut(prediction, target)
    size = (prediction - target).abs()
    if size <= delta:
        return size**2 / 2
    return delta * size - delta**2 / 2


# The number and the slope ------------------------------------------------------------------------

slopes = Prediction(
    "losses.slopes",
    title="Who still pulls?",
    stars=2,
    minutes=4,
    ask="""
    A positive example (target 1), and the model is badly wrong: its logit is **−40**. On paper all
    three losses below are functions of the same logit. On paper the first two are even the same
    function, and its value is 40.

    - `F.binary_cross_entropy(logit.sigmoid(), target)`
    - `F.binary_cross_entropy_with_logits(logit, target)`
    - `F.mse_loss(logit.sigmoid(), target)`

    In float32: which of the first two *says* 40 (within 0.1)? Which of the three *pulls*, that is,
    has a slope with respect to the logit of more than 0.001 in size?
    """,
    blank="""{
    "BCELoss says 40": ...,
    "BCELoss pulls": ...,
    "BCEWithLogitsLoss says 40": ...,
    "BCEWithLogitsLoss pulls": ...,
    "MSE pulls": ...,
}""",
    hints=(
        "`torch.tensor(-40.0).sigmoid()` is about 4e-18. Can float32 hold that? And its logarithm?",
        "The slope goes through two factors: that of the loss with respect to the probability, and "
        "that of the sigmoid, which is `p · (1 - p)`.",
        "You may run it: a logit with `requires_grad=True`, `backward()`, `.grad`.",
    ),
    takeaway="The number and the slope are computed separately, and one may be right where the "
    "other is dead. Only the loss on the logit gets both right.",
)


@slopes.reference
def slopes():
    losses = {
        "BCELoss": lambda z, t: nn.functional.binary_cross_entropy(z.sigmoid(), t),
        "BCEWithLogitsLoss": nn.functional.binary_cross_entropy_with_logits,
        "MSE": lambda z, t: nn.functional.mse_loss(z.sigmoid(), t),
    }
    seen = {}
    for name, loss in losses.items():
        logit = torch.tensor([-40.0], requires_grad=True)
        value = loss(logit, torch.ones(1))
        value.backward()
        seen[f"{name} says 40"] = abs(value.item() - 40) < 0.1
        seen[f"{name} pulls"] = abs(logit.grad.item()) > 0.001
    del seen["MSE says 40"]
    return seen


@slopes.mistake(
    "The number of `BCELoss` is 40, and a large number feels like a strong pull. Its slope is "
    "computed apart, as a quotient by `p · (1 - p)`, which torch keeps away from zero: for a "
    "probability this small the quotient comes out near 0. Run it and look at `.grad`."
)
def large_means_steep():
    loss = F.binary_cross_entropy(torch.tensor(-40.0).sigmoid(), torch.ones(()))
    return {"BCELoss pulls": loss.item() > 1}


@slopes.mistake(
    "Squared error of a probability is nearly flat there: the error is almost 1 for every logit "
    "below -10, so a small change of the logit changes nothing. The sigmoid's slope is 4e-18."
)
def a_large_error_pulls():
    return {"MSE pulls": bool((torch.tensor(-40.0).sigmoid() - 1).abs() > 0.5)}


@slopes.mistake(
    "float32 holds 4e-18 well: it has small numbers down to 1e-38. So the logarithm is right, and "
    "so is the number. It is near *one* that float32 runs out of numbers first."
)
def small_numbers_are_lost():
    return {"BCELoss says 40": bool(1 + torch.tensor(-40.0).sigmoid() != 1)}


@slopes.mistake(
    "`BCEWithLogitsLoss` never computes the probability: for a logit far below zero the loss is "
    "the distance to zero, a straight line with the slope -1."
)
def logits_saturate_too():
    return {"BCEWithLogitsLoss pulls": bool(torch.tensor(-40.0).sigmoid() > 0.001)}


@slopes.mistake(
    "With the logit itself nothing has to be cut off: the loss at -40 is 40, to the last digit."
)
def logits_are_clamped_too():
    return {"BCEWithLogitsLoss says 40": bool(torch.tensor(-40.0).sigmoid() > 0.001)}


# The stable form ---------------------------------------------------------------------------------

bce_with_logits = Exercise(
    "losses.bce_with_logits",
    title="Build the stable form",
    stars=2,
    minutes=12,
    ask="""
    Write `bce_with_logits(logits, targets, pos_weight=None)`. It gives one loss per element:

    `-(pos_weight · t · log σ(z) + (1 - t) · log(1 - σ(z)))`, and without a `pos_weight` that factor
    is 1.

    Loss *and* slope must be right for every logit, −200 and 200 included, and for targets that are
    fractions (0.9 for "rather yes"). Do not call torch's.
    """,
    hints=(
        "Write `-log σ(z)` with one exponential: it is `log(1 + exp(-z))`. And `-log(1 - σ(z))`?",
        "For z = -200 that exponential overflows. Which function of the last cells is this very "
        "expression, done safely?",
        "`F.softplus(-z)` and `F.softplus(z)` are the two terms.",
    ),
    help=(
        (
            "The details say <code>nan</code> or <code>inf</code>",
            "Somewhere a number became 0 or infinite before the logarithm was taken. Go without "
            "the probability.",
        ),
    ),
    cases=lambda: [
        Case("moderate logits, targets 0 and 1", torch.linspace(-4, 4, 8), _zero_one(8)),
        Case("soft targets of shape (2, 3)", _grid().T.contiguous(), torch.rand(2, 3)),
        Case("logits of ±40 and ±200", _far(), _zero_one(8)),
        Case("pos_weight = 3", _far() / 20, _zero_one(8), torch.tensor(3.0)),
    ],
    takeaway="Two softplus: one of z, one of -z. The probability is never computed, so nothing is "
    "rounded to 0 or 1, and the slope is `σ(z) - t` wherever you are.",
)


def _zero_one(n):
    return (torch.arange(n) % 2).float()


def _far():
    return torch.tensor([-200.0, -200.0, -40.0, -40.0, 40.0, 40.0, 200.0, 200.0])


@bce_with_logits.observe
def _loss_and_slope(answer, logits, targets, pos_weight=None):
    logits = logits.clone().requires_grad_()
    loss = answer(logits, targets) if pos_weight is None else answer(logits, targets, pos_weight)
    loss.sum().backward()
    return {"loss": loss.detach(), "slope": logits.grad}


@bce_with_logits.starter
def bce_with_logits(logits, targets, pos_weight=None):
    """Binary cross-entropy of each element, of `logits` and `targets` of one shape."""
    ...


@bce_with_logits.reference
def bce_with_logits(logits, targets, pos_weight=None):
    if_positive, if_negative = nn.functional.softplus(-logits), nn.functional.softplus(logits)
    if pos_weight is not None:
        if_positive = pos_weight * if_positive
    return targets * if_positive + (1 - targets) * if_negative


@bce_with_logits.also_right
def with_the_largest_taken_out(logits, targets, pos_weight=None):
    log_weight = 1 if pos_weight is None else 1 + (pos_weight - 1) * targets
    small = torch.log1p(torch.exp(-logits.abs())) + torch.relu(-logits)
    return (1 - targets) * logits + log_weight * small


@bce_with_logits.mistake(
    "It is the formula of the book, and at the far logits the probability is rounded to 0 or 1: "
    "its logarithm is infinite, and 0 · ∞ is nan. Do without the probability."
)
def of_the_book(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    p = logits.sigmoid()
    return -(weight * targets * p.log() + (1 - targets) * (1 - p).log())


@bce_with_logits.mistake(
    "A small number inside the logarithm keeps it finite and makes it wrong: the loss stops rising "
    "at about 18, and where it stops, the slope is gone. Do without the probability."
)
def with_an_epsilon(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    p = logits.sigmoid()
    return -(weight * targets * (p + 1e-8).log() + (1 - targets) * (1 - p + 1e-8).log())


@bce_with_logits.mistake(
    "You clamp the probability. What is clamped has no slope: the examples that are most wrong no "
    "longer pull. Do without the probability."
)
def with_a_clamped_probability(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    p = logits.sigmoid().clamp(1e-7, 1 - 1e-7)
    return -(weight * targets * p.log() + (1 - targets) * (1 - p).log())


@bce_with_logits.mistake(
    "`binary_cross_entropy` on the sigmoid is the curve with the dead slope. It has to start from "
    "the logits."
)
def torchs_on_the_sigmoid(logits, targets, pos_weight=None):
    each = F.binary_cross_entropy(logits.sigmoid(), targets, reduction="none")
    return each if pos_weight is None else (1 + (pos_weight - 1) * targets) * each


@bce_with_logits.mistake(
    "You went without the sigmoid, and now `exp` overflows: `exp(200)` is infinite in float32. "
    "`F.softplus(x)` is `log(1 + exp(x))`, done safely."
)
def overflowing_exponential(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    if_positive, if_negative = (1 + (-logits).exp()).log(), (1 + logits.exp()).log()
    return weight * targets * if_positive + (1 - targets) * if_negative


@bce_with_logits.mistake(
    "Your `pos_weight` multiplies negatives too. That is what `weight` does: the balance between "
    "the two kinds stays as it was."
)
def weighs_everything(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    return weight * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


@bce_with_logits.mistake("`pos_weight` sits on the wrong term: it belongs to the positives.")
def weighs_the_negatives(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    return targets * F.softplus(-logits) + weight * (1 - targets) * F.softplus(logits)


@bce_with_logits.mistake(
    "The numbers are right, and you have averaged them. Asked for is one loss per element."
)
def averages(logits, targets, pos_weight=None):
    return bce_with_logits.answer_right(logits, targets, pos_weight).mean()


@bce_with_logits.mistake(
    "Only the positives have a loss in your formula. With `t = 0` the model must pay for "
    "`log(1 - σ(z))`."
)
def positives_only(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else pos_weight
    return weight * targets * F.softplus(-logits)


# Sequences ---------------------------------------------------------------------------------------

sequence_loss = Exercise(
    "losses.sequence_loss",
    title="The loss of a language model",
    stars=2,
    minutes=10,
    ask="""
    You have not seen this model. For a batch of padded sentences it gives logits of shape
    `(batch, length, classes)`; the targets have shape `(batch, length)` and hold the class `pad`
    where a sentence has ended.

    Write `sequence_loss(logits, targets, pad)`: the mean cross-entropy over all *real* positions of
    the batch. Each real position counts the same, whether its sentence is long or short.
    """,
    hints=(
        "Where does `F.cross_entropy` want the classes? And which of its arguments leaves targets "
        "out of the sum *and* of the divisor?",
        "`transpose` exchanges two dimensions. `reshape` and `view` keep the numbers in their "
        "order and only write another shape on them.",
    ),
    help=(
        (
            "<code>Expected target size [2, 7], got [2, 5]</code>",
            "torch takes dimension 1 for the classes. In your logits it is the length.",
        ),
        (
            "<code>Target -1 is out of bounds</code>",
            "A padding value reached the loss as if it were a class.",
        ),
    ),
    cases=lambda: [
        Case("2 sentences, length 5, 7 classes, pad = 0", *_sentences(2, 5, 7, 0)),
        Case("4 sentences, length 6, 6 classes, pad = -1", *_sentences(4, 6, 6, -1)),
        Case("3 sentences, length 8, 5 classes, pad = 4", *_sentences(3, 8, 5, 4)),
    ],
    takeaway="Classes go to dimension 1, or everything is flattened to (positions, classes). "
    "`ignore_index` takes padding out of the sum and out of the divisor.",
)


def _sentences(batch, length, classes, pad):
    logits = 3 * torch.randn(batch, length, classes)
    targets = torch.randint(0, classes, (batch, length))
    targets = torch.where(targets == pad, (targets + 1) % classes, targets)
    for row in range(1, batch):
        targets[row, length - row - 1 :] = pad
    return logits, targets, pad


@sequence_loss.observe
def _loss_and_slope(answer, logits, targets, pad):
    logits = logits.clone().requires_grad_()
    loss = answer(logits, targets, pad)
    loss.backward()
    return {"loss": loss.detach(), "slope": logits.grad}


@sequence_loss.starter
def sequence_loss(logits, targets, pad):
    """Mean cross-entropy over the positions whose target is not `pad`, a tensor of shape ()."""
    ...


@sequence_loss.reference
def sequence_loss(logits, targets, pad):
    return nn.functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=pad)


@sequence_loss.also_right
def flattened_and_gathered(logits, targets, pad):
    real = targets != pad
    log_probabilities = logits[real].log_softmax(dim=1)
    return -log_probabilities.gather(1, targets[real].unsqueeze(1)).mean()


@sequence_loss.mistake(
    "The logits go in as they are. Where length and number of classes differ, torch complains; "
    "where they happen to be equal it says nothing and takes the positions for classes."
)
def classes_last(logits, targets, pad):
    return F.cross_entropy(logits, targets, ignore_index=pad)


@sequence_loss.mistake(
    "The shape is right and the numbers are not: `reshape` (or `view`) does not exchange "
    "dimensions, it deals the same numbers out anew. A position's logits are now scattered."
)
def reshaped(logits, targets, pad):
    batch, length, classes = logits.shape
    logits = logits.reshape(batch, classes, length)
    return F.cross_entropy(logits, targets, ignore_index=pad)


@sequence_loss.mistake(
    "Padding counts as a class. Where `pad` is a real index your model is trained to predict it; "
    "where it is not, torch raises."
)
def padding_counts(logits, targets, pad):
    return F.cross_entropy(logits.transpose(1, 2), targets)


@sequence_loss.mistake(
    "Padding is out of the sum and still in the divisor: the more padding a batch has, the smaller "
    "your loss. Divide by the number of real positions."
)
def divides_by_all(logits, targets, pad):
    total = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=pad, reduction="sum")
    return total / targets.numel()


@sequence_loss.mistake(
    "You average each sentence first, and then the sentences: a word of a short sentence counts "
    "for more than one of a long sentence."
)
def mean_of_sentences(logits, targets, pad):
    each = [F.cross_entropy(z, t, ignore_index=pad) for z, t in zip(logits, targets, strict=True)]
    return torch.stack(each).mean()


@sequence_loss.mistake(
    "You sum over the positions. Asked for is their mean, so that batches of different length can "
    "be compared."
)
def sums(logits, targets, pad):
    return F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=pad, reduction="sum")


@sequence_loss.mistake(
    "There are two softmaxes: yours, and the one inside `cross_entropy`. Hand in the logits "
    "as they are."
)
def softmax_twice(logits, targets, pad):
    return F.cross_entropy(logits.softmax(dim=2).transpose(1, 2), targets, ignore_index=pad)


# A reader that reads only in company -------------------------------------------------------------

train_reader = Exercise(
    "losses.train_reader",
    title="Bug hunt: right in a batch, lost alone",
    stars=3,
    minutes=15,
    ask="""
    The program below raises nothing, and its loss goes down. Ask the model that it returns for 200
    new digits in *one* batch, and it gets more than nine of ten right. Ask it for the same digits
    one at a time, as a user would, and it guesses. One thing is wrong. Find it by a number, mend
    it, change as little as you can.

    You are judged by what the returned model does with single digits it has not seen, and by the
    cross-entropy of its answers.
    """,
    start="This is still the program as it was given. Print the loss of the very first batch. What "
    "must it be for ten classes, and of what number is this the logarithm?",
    hints=(
        "Before training, ten classes are about equally likely: the loss should be near log 10 = "
        "2.3. Print what it is in the first step.",
        "It is near 4.16. `math.exp(4.16)` is about 64. What is there 64 of?",
        "A model whose answer for one row depends on the other rows mixes over dimension 0. "
        "Which layer here has a dimension to choose?",
    ),
    seconds=30,
    cases=lambda: [Case("640 digits for training, 200 others to judge", *_digits())],
    takeaway="Softmax over dimension 0 makes the 64 images of a batch compete for each class. The "
    "number that gives it away is the loss at the start: log 64, where ten classes make log 10.",
)


def _digits():
    split = data.digits()
    return split.x_train[:640], split.y_train[:640], split.x_test[:200], split.y_test[:200]


@train_reader.observe
def _asked_one_at_a_time(answer, x, y, x_new, y_new):
    model = answer(x, y)
    if not issubclass(type(model), nn.Module):
        return model
    model.eval()
    with torch.no_grad():
        alone = torch.cat([model(image) for image in x_new.split(1)])
        together = model(x_new)
    accuracy = (alone.argmax(dim=1) == y_new).float().mean().item()
    return {
        "gets more than 8 of 10 single digits right": accuracy > 0.8,
        "gives a digit the same scores alone and in a batch": torch.allclose(
            alone, together, atol=1e-3
        ),
        "has a cross-entropy below 1 on them": F.cross_entropy(alone, y_new).item() < 1,
    }


@train_reader.starter
def train_reader(x, y):
    """Train a classifier on images `x` with labels `y` and return it."""
    torch.manual_seed(0)
    batches = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)

    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
        nn.LogSoftmax(dim=0),
    )
    loss_fn = nn.NLLLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)

    model.train()
    for _ in range(10):
        for images, labels in batches:
            loss = loss_fn(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@train_reader.reference
def train_reader(x, y):
    torch.manual_seed(0)
    batches = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)

    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
        nn.LogSoftmax(dim=1),
    )
    loss_fn = nn.NLLLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)

    model.train()
    for _ in range(10):
        for images, labels in batches:
            loss = loss_fn(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@train_reader.also_right
def with_logits(x, y):
    return _trained(x, y, nn.Identity(), nn.CrossEntropyLoss())


def _trained(x, y, last, loss_fn):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10), last)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(10):
        for rows in torch.randperm(len(x)).split(64):
            loss = loss_fn(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@train_reader.mistake(
    "It still answers a single digit by a guess, and otherwise in a batch: the rows of a batch "
    "still have to do with each other. Another loss, more epochs or another rate do not change "
    "that. What in the model looks across the rows?"
)
def another_loss(x, y):
    return _trained(x, y, nn.LogSoftmax(dim=0), nn.CrossEntropyLoss())


@train_reader.mistake(
    "Rows no longer mix, and now nothing is normalised: `NLLLoss` on bare logits can be lowered "
    "without end by raising every logit. It wants log-probabilities, or take the loss that has the "
    "softmax inside."
)
def nll_on_logits(x, y):
    return _trained(x, y, nn.Identity(), nn.NLLLoss())


@train_reader.mistake(
    "It reads single digits now, and its loss on new ones stays above 1.46, the floor for "
    "probabilities that are taken for logits. Your last layer gives probabilities; this loss wants "
    "something else."
)
def probabilities(x, y):
    return _trained(x, y, nn.Softmax(dim=1), nn.NLLLoss())


@train_reader.mistake(
    "Your program returns nothing. Give the trained model back with `return model` at the end."
)
def forgets_the_model(x, y):
    train_reader.answer_right(x, y)


# From batches to the data set --------------------------------------------------------------------

dataset_loss = Exercise(
    "losses.dataset_loss",
    title="From batches to the data set",
    stars=2,
    minutes=10,
    ask="""
    Write `dataset_loss(model, batches, weight=None)`: the cross-entropy of a whole data set as one
    float, the same number that `F.cross_entropy` would give for all rows in a single batch, with
    the same class weights. The batches `(x, y)` may have different sizes, and you may not join
    them: in earnest they would not fit into memory.

    The model has a Dropout inside; measure it in eval mode and without gradients.
    """,
    hints=(
        "A mean of means is the mean only if every mean had the same divisor. What does torch "
        "divide a batch's weighted loss by?",
        'Keep two totals: of the losses (`reduction="sum"`) and of the divisors.',
        "The divisor of a batch is `weight[y].sum()`; without weights it is `len(y)`.",
    ),
    cases=lambda: [
        Case("batches of 8, 8 and 3 rows, no weights", _dropout_net(), _batches(8, 8, 3)),
        Case("the same with weights 1, 5, 20", _dropout_net(), _batches(8, 8, 3), _weights()),
        Case("equal batches, weights 1, 5, 20", _dropout_net(), _batches(6, 6), _weights()),
    ],
    takeaway="Add up sums and divisors, and divide once. With class weights (and with "
    "`ignore_index`) the divisor is not the number of rows, so weighting by batch size is wrong "
    "as well.",
)


def _dropout_net():
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def _batches(*sizes):
    torch.manual_seed(5)
    return [(3 * torch.randn(size, 4), torch.randint(0, 3, (size,))) for size in sizes]


def _weights():
    return torch.tensor([1.0, 5.0, 20.0])


@dataset_loss.observe
def _measured(answer, model, batches, weight=None):
    model.train()
    return answer(model, batches) if weight is None else answer(model, batches, weight)


@dataset_loss.starter
def dataset_loss(model, batches, weight=None):
    """Cross-entropy of all rows of all batches, as a float."""
    ...


@dataset_loss.reference
def dataset_loss(model, batches, weight=None):
    model.eval()
    total, divisor = 0.0, 0.0
    for x, y in batches:
        with torch.no_grad():
            total += nn.functional.cross_entropy(model(x), y, weight=weight, reduction="sum").item()
        divisor += len(y) if weight is None else weight[y].sum().item()
    return total / divisor


@dataset_loss.also_right
def by_weighing_the_means(model, batches, weight=None):
    model.eval()
    means, divisors = [], []
    with torch.no_grad():
        for x, y in batches:
            means.append(F.cross_entropy(model(x), y, weight=weight))
            divisors.append(torch.ones(3)[y].sum() if weight is None else weight[y].sum())
    means, divisors = torch.stack(means), torch.stack(divisors)
    return (means * divisors / divisors.sum()).sum().item()


def _means(model, batches, weight):
    model.eval()
    with torch.no_grad():
        return [F.cross_entropy(model(x), y, weight=weight).item() for x, y in batches]


@dataset_loss.mistake(
    "You average the means of the batches. The three rows of the last batch then count as much as "
    "the eight of another, and each for more than twice as much."
)
def mean_of_means(model, batches, weight=None):
    means = _means(model, batches, weight)
    return sum(means) / len(means)


@dataset_loss.mistake(
    "Right without class weights, wrong with them: you weigh each mean by its number of rows, and "
    "torch divided it by the *sum of the weights of its targets*."
)
def weighed_by_rows(model, batches, weight=None):
    sizes = [len(y) for _, y in batches]
    means = _means(model, batches, weight)
    return sum(mean * n for mean, n in zip(means, sizes, strict=True)) / sum(sizes)


@dataset_loss.mistake(
    "The sum is right; you divide it by the number of rows. A weighted mean is divided by the sum "
    "of the weights: `weight[y].sum()` over all batches."
)
def divided_by_rows(model, batches, weight=None):
    model.eval()
    with torch.no_grad():
        total = sum(
            F.cross_entropy(model(x), y, weight=weight, reduction="sum") for x, y in batches
        )
    return total.item() / sum(len(y) for _, y in batches)


@dataset_loss.mistake(
    "The Dropout is on while you measure, so the loss is that of a thinned network and changes "
    "from call to call. `model.eval()` comes first."
)
def measured_in_train_mode(model, batches, weight=None):
    total, divisor = 0.0, 0.0
    for x, y in batches:
        total += F.cross_entropy(model(x), y, weight=weight, reduction="sum").item()
        divisor += len(y) if weight is None else weight[y].sum().item()
    return total / divisor


@dataset_loss.mistake(
    "The class weights are not used: hand `weight` to `F.cross_entropy`, and mind the divisor."
)
def ignores_the_weights(model, batches, weight=None):
    return dataset_loss.answer_right(model, batches)


@dataset_loss.mistake(
    "The value is right, but it is a tensor. If gradients were on, it would keep the graph of "
    "every batch alive. Asked for is a float: `.item()`."
)
def returns_a_tensor(model, batches, weight=None):
    return torch.tensor(dataset_loss.answer_right(model, batches, weight))


# A loss of one's own -----------------------------------------------------------------------------

QuantileLoss = Exercise(
    "losses.QuantileLoss",
    title="A loss of your own",
    stars=3,
    minutes=15,
    ask="""
    You want a model that says: *nine patients of ten stay below this*. Write the module
    `QuantileLoss(q, reduction="mean")`, called as `loss_fn(prediction, target)`. With
    `e = target - prediction`, the loss of an element is

    - `q · e` where the prediction was too low (`e > 0`),
    - `(1 - q) · -e` where it was too high.

    `reduction` is `"mean"`, `"sum"` or `"none"`; shapes that differ raise a `ValueError`. The check
    runs `torch.autograd.gradcheck` on your loss, and looks which single number it would choose for
    101 patients.
    """,
    hints=(
        "Being too low costs `q` a unit, being too high `1 - q`. With q = 0.9, which of the two "
        "will the model avoid?",
        "`torch.where(e > 0, …, …)`, or the larger of two straight lines: `torch.maximum`.",
        "Whatever goes through `.item()`, `.detach()` or Python's `float` has left the graph.",
    ),
    help=(
        (
            "<code>GradcheckError: Jacobian mismatch</code>",
            "The slope that autograd finds is not the slope of your numbers: a part of the formula "
            "was computed outside the graph.",
        ),
        (
            "<code>cannot assign module before Module.__init__() call</code>, or a missing "
            "attribute",
            "Call <code>super().__init__()</code> first, then keep <code>q</code> and "
            "<code>reduction</code> as attributes.",
        ),
    ),
    cases=lambda: [
        Case("q = 0.9, mean", 0.9, "mean", _patients(101)),
        Case("q = 0.25, sum", 0.25, "sum", _patients(101)),
        Case("q = 0.5, none", 0.5, "none", _patients(101)),
    ],
    takeaway="Squares ask for the mean, absolute values for the median, tilted absolute values for "
    "a quantile. You choose the question; gradcheck makes sure that the slope belongs to it.",
)


def _patients(n):
    return torch.linspace(-1, 1, n, dtype=torch.float64) ** 3 * 7


@QuantileLoss.observe
def _asked_for_one_number(answer, q, reduction, targets):
    loss_fn = answer(q, reduction=reduction)
    torch.manual_seed(0)
    prediction = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    target = torch.randn(5, 2, dtype=torch.float64)
    loss = loss_fn(prediction, target)
    choices = torch.linspace(-7, 7, 141, dtype=torch.float64)
    costs = torch.stack([loss_fn(c.expand_as(targets), targets).detach().sum() for c in choices])
    return {
        "loss": loss.detach(),
        "is a module": issubclass(type(loss_fn), nn.Module),
        "gradcheck": _gradcheck(loss_fn, prediction, target),
        "number chosen for 101 patients": round(choices[costs.argmin()].item(), 1),
        "shapes that differ": _refusal(loss_fn),
    }


def _gradcheck(loss_fn, prediction, target):
    if not loss_fn(prediction, target).requires_grad:
        return "the loss has no gradient"
    try:
        torch.autograd.gradcheck(loss_fn, (prediction, target))
    except GradcheckError:
        return "the slope is not that of the numbers"
    return "passed"


def _refusal(loss_fn):
    for other in (torch.zeros(5), torch.zeros(5, 3), torch.zeros(1, 1)):
        try:
            loss_fn(torch.zeros(5, 1), other)
        except ValueError:
            continue
        return f"(5, 1) and {tuple(other.shape)} are accepted"
    return "refused with a ValueError"


@QuantileLoss.starter
class QuantileLoss(nn.Module):
    def __init__(self, q, reduction="mean"):
        super().__init__()
        ...

    def forward(self, prediction, target):
        """The quantile loss of two tensors of one shape."""
        ...


@QuantileLoss.reference
class QuantileLoss(nn.Module):
    def __init__(self, q, reduction="mean"):
        super().__init__()
        self.q, self.reduction = q, reduction

    def forward(self, prediction, target):
        if prediction.shape != target.shape:
            raise ValueError(f"shapes differ: {tuple(prediction.shape)}, {tuple(target.shape)}")
        e = target - prediction
        each = torch.where(e > 0, self.q * e, (1 - self.q) * -e)
        return {"mean": each.mean, "sum": each.sum, "none": lambda: each}[self.reduction]()


class _Attempt(nn.Module):
    """The parts that every attempt at the exercise has in common; ``each`` differs."""

    def __init__(self, q, reduction="mean"):
        super().__init__()
        self.q, self.reduction = q, reduction

    def forward(self, prediction, target):
        _shut(prediction, target)
        return _reduced(self.each(target - prediction), self.reduction)

    def each(self, e):
        return torch.maximum(self.q * e, (self.q - 1) * e)


@QuantileLoss.also_right
class LargerOfTwoLines(_Attempt):
    """The larger of the two straight lines is the right one everywhere."""


@QuantileLoss.mistake(
    "The two sides are exchanged: your loss chooses the number that one patient of ten stays below "
    "where nine are asked for. With `e = target - prediction`, `e > 0` means *too low*, and that "
    "must cost `q`."
)
class SidesExchanged(_Attempt):
    def each(self, e):
        return torch.maximum((1 - self.q) * e, -self.q * e)


@QuantileLoss.mistake(
    "On one side your loss is negative: there a worse prediction is a cheaper one. A loss is never "
    "below zero here; the sign of `e` has to be turned round where `e < 0`."
)
class NegativeOnOneSide(_Attempt):
    def each(self, e):
        return torch.where(e > 0, self.q * e, (1 - self.q) * e)


@QuantileLoss.mistake(
    "`q` makes the whole loss larger or smaller and does not tilt it: your model still answers "
    "with the median."
)
class ScaledNotTilted(_Attempt):
    def each(self, e):
        return self.q * e.abs()


@QuantileLoss.mistake(
    "The numbers are right, and there is no gradient: the error was detached (or turned into a "
    "number) before the formula. Nothing could learn from this loss."
)
class Detached(_Attempt):
    def each(self, e):
        return super().each(e.detach())


@QuantileLoss.mistake(
    "You square the errors. Then large errors count for more, and the answer is an *expectile*, "
    "pulled by the few far patients, not the quantile."
)
class Squared(_Attempt):
    def each(self, e):
        return torch.where(e > 0, self.q * e**2, (1 - self.q) * e**2)


@QuantileLoss.mistake(
    "The formula is right, and `(5, 1)` against `(5,)` is accepted: in your own loss not even a "
    "warning tells you. Compare the shapes, and raise a `ValueError`."
)
class Broadcasts(_Attempt):
    def forward(self, prediction, target):
        return _reduced(self.each(target - prediction), self.reduction)


@QuantileLoss.mistake(
    "It always averages. Keep `reduction` in `__init__`, and follow it in `forward`."
)
class AlwaysTheMean(_Attempt):
    def forward(self, prediction, target):
        _shut(prediction, target)
        return self.each(target - prediction).mean()


@QuantileLoss.mistake(
    "An `if` wants one answer, and `e > 0` has one for each element. `torch.where` chooses for "
    "each."
)
class ChoosesOnce(_Attempt):
    def each(self, e):
        if e > 0:
            return self.q * e
        return (1 - self.q) * -e
