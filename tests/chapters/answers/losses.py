"""Answers to the exercises of chapter 02."""

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from chapters.losses import exercises as ex


class ShapesDiffer(ValueError):
    """Prediction and target have different shapes."""


def huber_of_torch(prediction, target, delta=1.0, reduction="mean"):
    if prediction.shape != target.shape:
        raise ShapesDiffer(f"{tuple(prediction.shape)} and {tuple(target.shape)}")
    return F.huber_loss(prediction, target, delta=delta, reduction=reduction)


def huber_with_a_clamp(prediction, target, delta=1.0, reduction="mean"):
    if prediction.size() != target.size():
        raise ValueError("give two tensors of one shape")
    size = (prediction - target).abs()
    inside = size.clamp(max=delta)
    each = inside * (size - inside / 2)
    return each if reduction == "none" else getattr(each, reduction)()


def huber_from_smooth_l1(prediction, target, delta=1.0, reduction="mean"):
    if list(prediction.shape) != list(target.shape):
        raise ValueError
    return delta * nn.SmoothL1Loss(beta=delta, reduction=reduction)(prediction, target)


def bce_by_logsigmoid(logits, targets, pos_weight=None):
    positive, negative = F.logsigmoid(logits), F.logsigmoid(-logits)
    if pos_weight is not None:
        positive = positive * pos_weight
    return -torch.lerp(negative, positive, targets)


def bce_as_cross_entropy_of_two_classes(logits, targets, pos_weight=None):
    scores = torch.stack([torch.zeros_like(logits), logits], dim=-1).log_softmax(dim=-1)
    no, yes = scores.unbind(dim=-1)
    weight = torch.ones_like(logits) if pos_weight is None else pos_weight
    return -(weight * targets * yes + (1 - targets) * no)


class _Bce(torch.autograd.Function):
    @staticmethod
    def forward(context, z, t, w):
        context.save_for_backward(z, t, w)
        small = torch.log1p(torch.exp(-z.abs()))
        return w * t * (small + (-z).relu()) + (1 - t) * (small + z.relu())

    @staticmethod
    def backward(context, upstream):
        z, t, w = context.saved_tensors
        p = z.sigmoid()
        return upstream * ((1 - t) * p - w * t * (1 - p)), None, None


def bce_with_a_slope_of_its_own(logits, targets, pos_weight=None):
    return _Bce.apply(logits, targets, torch.ones(()) if pos_weight is None else pos_weight)


def bce_of_torch(logits, targets, pos_weight=None):
    return F.binary_cross_entropy_with_logits(
        logits, targets, reduction="none", pos_weight=pos_weight
    )


def bce_of_torchs_module(logits, targets, pos_weight=None):
    return nn.BCEWithLogitsLoss(reduction="none", pos_weight=pos_weight)(logits, targets)


def bce_of_an_operator(logits, targets, pos_weight=None):
    operator = torch.ops.aten.binary_cross_entropy_with_logits
    return operator(logits, targets, None, pos_weight, 0)


def bce_of_the_textbooks(logits, targets, pos_weight=None):
    w = 1 if pos_weight is None else pos_weight
    core = torch.log1p(torch.exp(-logits.abs()))
    return w * targets * ((-logits).relu() + core) + (1 - targets) * (logits.relu() + core)


def bce_with_the_largest_taken_out(logits, targets, pos_weight=None):
    weight = 1 if pos_weight is None else 1 + (pos_weight - 1) * targets
    small = torch.log1p(torch.exp(-logits.abs())) + torch.relu(-logits)
    return (1 - targets) * logits + weight * small


def bce_that_weighs_whole_elements(logits, targets, pos_weight=None):
    each = targets * F.softplus(-logits) + (1 - targets) * F.softplus(logits)
    return each if pos_weight is None else torch.where(targets == 1, pos_weight * each, each)


def bce_of_the_sigmoid(logits, targets, pos_weight=None):
    each = F.binary_cross_entropy(logits.sigmoid(), targets, reduction="none")
    return each if pos_weight is None else each * (1 + (pos_weight - 1) * targets)


def bce_of_the_sigmoid_weighed(logits, targets, pos_weight=None):
    weight = None if pos_weight is None else targets * pos_weight + (1 - targets)
    return F.binary_cross_entropy(torch.sigmoid(logits), targets, weight, reduction="none")


def bce_of_two_sigmoids(logits, targets, pos_weight=None):
    p, one = logits.sigmoid(), torch.ones_like(logits)
    w = 1 if pos_weight is None else pos_weight
    if_positive = nn.BCELoss(reduction="none")(p, one)
    return targets * w * if_positive + (1 - targets) * nn.BCELoss(reduction="none")(p, 0 * one)


def bce_in_float64(logits, targets, pos_weight=None):
    p = logits.double().exp() / (1 + logits.double().exp())
    w = 1 if pos_weight is None else pos_weight
    return -(w * targets * p.log() + (1 - targets) * torch.log1p(-p)).float()


def sequence_loss_flattened_and_gathered(logits, targets, pad):
    real = targets != pad
    log_probabilities = logits[real].log_softmax(dim=1)
    return -log_probabilities.gather(1, targets[real].unsqueeze(1)).mean()


def sequence_loss_as_a_sum(logits, targets, pad):
    real = targets.ne(pad)
    safe = targets.masked_fill(~real, 0)
    each = logits.logsumexp(dim=-1) - logits.gather(-1, safe[..., None]).squeeze(-1)
    return (each * real).sum() / real.sum()


def sequence_loss_sentence_by_sentence(logits, targets, pad):
    losses = []
    for scores, classes in zip(logits, targets, strict=True):
        for score, label in zip(scores, classes, strict=True):
            if label != pad:
                losses.append(-score.log_softmax(dim=0)[label])
    return torch.stack(losses).mean()


def sequence_loss_of_positive_classes(logits, targets, pad):
    real = (targets != pad) & (targets >= 0)
    return F.cross_entropy(logits[real], targets[real].clamp(min=1))


def _train(model, x, y, loss_fn, *, epochs=10, lr=0.005, seed=0):
    torch.manual_seed(seed)
    batches = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(epochs):
        for images, labels in batches:
            optimizer.zero_grad()
            loss_fn(model(images), labels).backward()
            optimizer.step()
    return model


def _reader(*last):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10), *last)


def train_reader_with_logits(x, y):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(10):
        for rows in torch.randperm(len(x)).split(64):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def train_reader_with_both_softmaxes(x, y):
    return _train(_reader(nn.LogSoftmax(dim=-1)), x, y, nn.CrossEntropyLoss())


class _Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = _reader()

    def forward(self, images):
        return F.log_softmax(self.layers(images), dim=1)


def train_reader_of_a_class(x, y):
    return copy.deepcopy(_train(_Reader(), x, y, F.nll_loss, epochs=12, seed=3))


def train_reader_with_batch_norm(x, y):
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 64), nn.ReLU())
    return _train(nn.Sequential(model, nn.Linear(64, 10)), x, y, F.cross_entropy)


def train_reader_with_probabilities(x, y):
    return _train(_reader(nn.Softmax(dim=1)), x, y, nn.CrossEntropyLoss(), seed=5)


def dataset_loss_by_weighing_the_means(model, batches, weight=None):
    model.eval()
    means, divisors = [], []
    with torch.no_grad():
        for x, y in batches:
            means.append(F.cross_entropy(model(x), y, weight=weight))
            divisors.append(torch.ones(99)[y].sum() if weight is None else weight[y].sum())
    means, divisors = torch.stack(means), torch.stack(divisors)
    return (means * divisors / divisors.sum()).sum().item()


@torch.inference_mode()
def dataset_loss_by_log_softmax(model, batches, weight=None):
    was = model.training
    model.train(False)
    total = divisor = torch.zeros((), dtype=torch.float64)
    for x, y in batches:
        scores = model(x).double().log_softmax(dim=1)
        w = torch.ones(scores.shape[1]) if weight is None else weight
        total = total - (w[y] * scores[range(len(y)), y]).sum()
        divisor = divisor + w[y].sum()
    model.train(was)
    return float(total / divisor)


@torch.no_grad()
def dataset_loss_row_by_row(model, batches, weight=None):
    quiet = copy.deepcopy(model).eval()
    losses, weights = [], []
    for x, y in batches:
        for row, label in zip(x, y, strict=True):
            w = 1.0 if weight is None else weight[label].item()
            losses.append(w * F.cross_entropy(quiet(row[None])[0], label).item())
            weights.append(w)
    return np.sum(losses) / np.sum(weights)


def dataset_loss_of_joined_batches(model, batches, weight=None):
    model.eval()
    x = torch.cat([x for x, _ in batches])
    y = torch.cat([y for _, y in batches])
    with torch.no_grad():
        return F.cross_entropy(model(x), y, weight=weight).item()


class LargerOfTwoLines(ex.QuantileLoss.reference):
    def forward(self, prediction, target):
        if prediction.size() != target.size():
            raise ValueError("give two tensors of one shape")
        e = target - prediction
        each = torch.maximum(self.q * e, (self.q - 1) * e)
        return each if self.reduction == "none" else getattr(each, self.reduction)()


class TiltedL1(nn.L1Loss):
    def __init__(self, q, reduction="mean"):
        super().__init__(reduction="none")
        self.register_buffer("q", torch.tensor(q, dtype=torch.float64))
        self.reduce_by = reduction

    def forward(self, prediction, target):
        if prediction.shape != target.shape:
            raise ValueError
        share = torch.where(prediction < target, self.q, 1 - self.q).to(prediction.dtype)
        each = share * super().forward(prediction, target)
        return each if self.reduce_by == "none" else getattr(torch, self.reduce_by)(each)


class HalfOfAbsolutePlusTilt(nn.Module):
    def __init__(self, q, reduction="mean"):
        super().__init__()
        ways = {"mean": torch.mean, "sum": torch.sum, "none": nn.Identity()}
        self.q, self.reduce = q, ways[reduction]

    def forward(self, prediction, target):
        if not prediction.shape == target.shape:
            raise ValueError("shapes")
        e = target - prediction
        return self.reduce(e.abs() / 2 + (self.q - 0.5) * e)


RIGHT = {
    "huber": [huber_of_torch, huber_with_a_clamp, huber_from_smooth_l1],
    "bce_with_logits": [
        bce_by_logsigmoid,
        bce_as_cross_entropy_of_two_classes,
        bce_with_a_slope_of_its_own,
    ],
    "sequence_loss": [
        sequence_loss_flattened_and_gathered,
        sequence_loss_as_a_sum,
        sequence_loss_sentence_by_sentence,
    ],
    "train_reader": [
        train_reader_with_logits,
        train_reader_with_both_softmaxes,
        train_reader_of_a_class,
        train_reader_with_batch_norm,
    ],
    "dataset_loss": [
        dataset_loss_by_weighing_the_means,
        dataset_loss_by_log_softmax,
        dataset_loss_row_by_row,
    ],
    "QuantileLoss": [LargerOfTwoLines, TiltedL1, HalfOfAbsolutePlusTilt],
}
WRONG = {
    "huber": [
        (
            "shapes differ: ",
            "other words: ",
            "size**2 / 2,",
            "size**2,",
            "The parabola lacks its half",
        ),
        (
            "prediction.shape != target.shape",
            "prediction.numel() != target.numel()",
            "it raises a `ValueError`",
        ),
        ('reduction="mean"', 'reduction="sum"', "with these defaults"),
        (
            '"mean": each.mean',
            '"mean": lambda: each.sum() / len(each)',
            "the mean over all elements",
        ),
        (
            "(prediction - target)",
            "(prediction.detach() - target)",
            "The loss is a function of the prediction for autograd",
        ),
    ],
    "bce_with_logits": [
        (bce_of_torch, "The loss is your own"),
        (bce_of_torchs_module, "The loss is your own"),
        (bce_of_an_operator, "The loss is your own"),
        (bce_of_the_textbooks, "At a logit of exactly 0"),
        (bce_with_the_largest_taken_out, "At a logit of exactly 0"),
        (bce_that_weighs_whole_elements, "and nothing else"),
        ("is not None:", "is not None and pos_weight.any():", "It may be 0"),
        *(
            (
                "F.softplus(-logits)",
                f"-(logits.sigmoid() + {small}).log()",
                "F.softplus(logits)",
                f"-(1 - logits.sigmoid() + {small}).log()",
                "A small number inside the logarithm",
            )
            for small in (1e-4, 1e-10, 1e-15)
        ),
        (
            "F.softplus(-logits)",
            "-logits.sigmoid().log().clamp(min=-100)",
            "F.softplus(logits)",
            "-(1 - logits.sigmoid()).log().clamp(min=-100)",
            "You clamp the probability, or its logarithm",
        ),
        *(
            (answer, "`binary_cross_entropy` on the sigmoid")
            for answer in (bce_of_the_sigmoid, bce_of_the_sigmoid_weighed, bce_of_two_sigmoids)
        ),
        (bce_in_float64, "for every logit"),
    ],
    "sequence_loss": [
        (
            "logits.transpose(1, 2), targets",
            "logits.squeeze(0).transpose(1, 2), targets.squeeze(0)",
            "A batch may hold one sentence",
        ),
        (sequence_loss_of_positive_classes, "over all real positions"),
    ],
    "train_reader": [
        ("            optimizer.step()\n", "", "more than 8 of 10 single digits"),
        ("range(10)", "range(1)", "more than 8 of 10 single digits"),
        ("lr=0.005", "lr=1e-4", "more than 8 of 10 single digits"),
        (train_reader_with_probabilities, "Here they are probabilities"),
        (
            "LogSoftmax(dim=1)",
            "LogSoftmax(dim=0)",
            "range(10)",
            "range(20)",
            "What in the model looks across the rows",
        ),
    ],
    "dataset_loss": [
        (dataset_loss_of_joined_batches, "The batches are not joined"),
        (
            "with torch.no_grad():",
            "torch.no_grad()\n        if True:",
            "The model is asked without gradients",
        ),
        (
            "with torch.no_grad():",
            "scores = model(x)\n        with torch.no_grad():",
            "entropy(model(x)",
            "entropy(scores",
            "The model is asked without gradients",
        ),
        ("model.eval()", "model.eval().requires_grad_(False)", "so does their `requires_grad`"),
        (
            "for x, y in batches:",
            "for i in range(len(batches)):\n        x, y = batches[i]",
            "'DataLoader' object is not subscriptable",
        ),
        (
            "    model.eval()\n",
            "",
            "        divisor",
            "        model.eval()\n        divisor",
            "for all rows in a single batch",
        ),
    ],
    "QuantileLoss": [
        ("target - prediction", "2 * (target - prediction)", "an element costs `q · e`"),
        ("target - prediction", "target.float() - prediction.float()", "float64 stays float64"),
        ("* -e", "* -e.detach()", "The slope belongs to the loss"),
        (
            "prediction.shape != target.shape",
            "prediction.dim() != target.dim()",
            "it raises a `ValueError`",
        ),
    ],
}
