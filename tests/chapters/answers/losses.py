"""Answers to the exercises of chapter 02."""

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


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


def huber_by_a_mask(prediction, target, delta=1.0, reduction="mean"):
    if prediction.shape != target.shape:
        raise ValueError(prediction.shape, target.shape)
    error = prediction - target
    far = error.detach().abs() > delta
    each = (~far) * error.square() / 2 + far * delta * (error * error.sign() - delta / 2)
    if reduction == "mean":
        return each.mean()
    return each.sum() if reduction == "sum" else each


def huber_with_another_message(prediction, target, delta=1.0, reduction="mean"):
    if prediction.shape != target.shape:
        raise ValueError(f"{tuple(prediction.shape)} against {tuple(target.shape)}")
    size = (prediction - target).abs()
    each = torch.where(size <= delta, size**2, delta * size - delta**2 / 2)
    return each if reduction == "none" else getattr(each, reduction)()


def huber_that_counts_elements(prediction, target, delta=1.0, reduction="mean"):
    if prediction.numel() != target.numel():
        raise ValueError("other sizes")
    size = (prediction - target).abs()
    each = torch.where(size <= delta, size**2 / 2, delta * size - delta**2 / 2)
    return each if reduction == "none" else getattr(each, reduction)()


def huber_that_sums_by_default(prediction, target, delta=1.0, reduction="sum"):
    return huber_of_torch(prediction, target, delta, reduction)


def huber_with_a_line_of_slope_1(prediction, target, delta=1.0, reduction="mean"):
    if prediction.shape != target.shape:
        raise ValueError(prediction.shape, target.shape)
    e = (prediction - target).abs()
    each = torch.where(e > delta, e - 0.5 * delta, 0.5 * e * e)
    return each if reduction == "none" else getattr(each, reduction)()


def huber_averaged_over_rows(prediction, target, delta=1.0, reduction="mean"):
    each = huber_of_torch(prediction, target, delta, "none")
    return {"none": each, "sum": each.sum(), "mean": each.sum() / len(each)}[reduction]


def huber_without_a_graph(prediction, target, delta=1.0, reduction="mean"):
    return huber_of_torch(prediction.detach(), target, delta, reduction)


def bce_by_logsigmoid(logits, targets, pos_weight=None):
    positive, negative = F.logsigmoid(logits), F.logsigmoid(-logits)
    if pos_weight is not None:
        positive = positive * pos_weight
    return -torch.lerp(negative, positive, targets)


def bce_by_logaddexp(logits, targets, pos_weight=None):
    w = 1.0 if pos_weight is None else pos_weight
    zero = torch.zeros_like(logits)
    core = torch.logaddexp(zero, -logits)
    return (1 - targets) * logits + (1 + (w - 1) * targets) * core


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


def bce_that_takes_0_for_none(logits, targets, pos_weight=None):
    weight = 1.0 if pos_weight is None or not pos_weight.any() else pos_weight
    return weight * targets * F.softplus(-logits) + (1 - targets) * F.softplus(logits)


def bce_of_two_sigmoids(logits, targets, pos_weight=None):
    if pos_weight is None:
        pos_weight = torch.ones(1)
    positive = pos_weight * targets * torch.log(torch.sigmoid(logits))
    return -(positive + (1 - targets) * torch.log(torch.sigmoid(-logits)))


def bce_with_a_number_inside(small):
    def bce_with_logits(logits, targets, pos_weight=None):
        p = torch.sigmoid(logits)
        w = 1 if pos_weight is None else pos_weight
        return -(w * targets * torch.log(p + small) + (1 - targets) * torch.log(1 - p + small))

    return bce_with_logits


def bce_with_clamped_probabilities(logits, targets, pos_weight=None):
    p = torch.sigmoid(logits).clamp(1e-6, 1 - 1e-6)
    w = 1 if pos_weight is None else pos_weight
    return -(w * targets * p.log() + (1 - targets) * (1 - p).log())


def bce_with_clamped_logarithms(logits, targets, pos_weight=None):
    p = torch.sigmoid(logits)
    w = 1 if pos_weight is None else pos_weight
    yes, no = p.log().clamp(min=-100), (1 - p).log().clamp(min=-100)
    return -(w * targets * yes + (1 - targets) * no)


def bce_in_float64(logits, targets, pos_weight=None):
    p = logits.double().exp() / (1 + logits.double().exp())
    w = 1 if pos_weight is None else pos_weight
    return -(w * targets * p.log() + (1 - targets) * torch.log1p(-p)).float()


def sequence_loss_flattened_and_gathered(logits, targets, pad):
    real = targets != pad
    log_probabilities = logits[real].log_softmax(dim=1)
    return -log_probabilities.gather(1, targets[real].unsqueeze(1)).mean()


def sequence_loss_flattened(logits, targets, pad):
    return nn.CrossEntropyLoss(ignore_index=pad)(logits.flatten(0, 1), targets.flatten())


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


def sequence_loss_squeezed(logits, targets, pad):
    scores, classes = logits.squeeze(0), targets.squeeze(0)
    return F.cross_entropy(scores.transpose(1, 2), classes, ignore_index=pad)


def sequence_loss_by_masked_sentences(logits, targets, pad):
    losses = [
        F.cross_entropy(scores[classes != pad], classes[classes != pad])
        for scores, classes in zip(logits, targets, strict=True)
    ]
    return torch.stack(losses).mean()


def sequence_loss_masked_and_averaged(logits, targets, pad):
    each = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    mask = (targets != pad).float()
    return (each * mask).mean()


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


def train_reader_without_a_step(x, y):
    return _train(_reader(nn.LogSoftmax(dim=1)), x, y, nn.NLLLoss(), epochs=0)


def train_reader_for_one_epoch(x, y):
    return _train(_reader(nn.LogSoftmax(dim=1)), x, y, nn.NLLLoss(), epochs=1)


def train_reader_with_a_low_rate(x, y):
    return _train(_reader(nn.LogSoftmax(dim=1)), x, y, nn.NLLLoss(), lr=1e-4)


def train_reader_with_probabilities(x, y):
    return _train(_reader(nn.Softmax(dim=1)), x, y, nn.CrossEntropyLoss(), seed=5)


def train_reader_across_the_rows(x, y):
    return _train(_reader(nn.LogSoftmax(dim=0)), x, y, nn.NLLLoss(), epochs=20)


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


def dataset_loss_of_joined_answers(model, batches, weight=None):
    answers, labels = [], []
    model.eval()
    for x, y in batches:
        with torch.no_grad():
            answers.append(model(x))
        labels.append(y)
    return F.cross_entropy(torch.cat(answers), torch.cat(labels), weight=weight).item()


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


def dataset_loss_with_a_lost_no_grad(model, batches, weight=None):
    model.eval()
    torch.no_grad()
    total = count = 0.0
    for x, y in batches:
        total += F.cross_entropy(model(x), y, weight=weight, reduction="sum").item()
        count += len(y) if weight is None else weight[y].sum().item()
    return total / count


def dataset_loss_with_no_grad_around_the_loss(model, batches, weight=None):
    model.eval()
    total = count = 0.0
    for x, y in batches:
        scores = model(x)
        with torch.no_grad():
            total += F.cross_entropy(scores, y, weight=weight, reduction="sum").item()
        count += len(y) if weight is None else weight[y].sum().item()
    return total / count


def dataset_loss_that_freezes_the_model(model, batches, weight=None):
    model.eval().requires_grad_(False)
    return dataset_loss_with_a_lost_no_grad(model, batches, weight)


def dataset_loss_of_a_list(model, batches, weight=None):
    model.eval()
    total = count = 0.0
    with torch.no_grad():
        for i in range(len(batches)):
            x, y = batches[i]
            total += F.cross_entropy(model(x), y, weight=weight, reduction="sum").item()
            count += len(y) if weight is None else weight[y].sum().item()
    return total / count


def dataset_loss_with_a_late_eval(model, batches, weight=None):
    total = count = 0.0
    with torch.no_grad():
        for x, y in batches:
            total += F.cross_entropy(model(x), y, weight=weight, reduction="sum").item()
            count += len(y) if weight is None else weight[y].sum().item()
            model.eval()
    return total / count


class LargerOfTwoLines(nn.Module):
    def __init__(self, q, reduction="mean"):
        super().__init__()
        self.q, self.reduction = q, reduction

    def forward(self, prediction, target):
        if prediction.size() != target.size():
            raise ValueError("give two tensors of one shape")
        e = target - prediction
        each = torch.maximum(self.q * e, (self.q - 1) * e)
        return each if self.reduction == "none" else getattr(each, self.reduction)()


class TwoRelus(nn.Module):
    def __init__(self, q, reduction="mean"):
        super().__init__()
        self.q, self.how = q, reduction

    def forward(self, prediction, target):
        if prediction.shape != target.shape:
            raise ShapesDiffer
        each = self.q * F.relu(target - prediction) + (1 - self.q) * F.relu(prediction - target)
        if self.how == "mean":
            return each.sum() / each.numel()
        return each.sum() if self.how == "sum" else each


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


class Doubled(LargerOfTwoLines):
    def forward(self, prediction, target):
        return 2 * super().forward(prediction, target)


class InFloat32(LargerOfTwoLines):
    def forward(self, prediction, target):
        return super().forward(prediction.float(), target.float())


class HalfDetached(LargerOfTwoLines):
    def forward(self, prediction, target):
        LargerOfTwoLines.forward(self, prediction, target)
        e = target - prediction
        each = torch.where(e > 0, self.q * e, (1 - self.q) * -e.detach())
        return each if self.reduction == "none" else getattr(each, self.reduction)()


class ComparesDimensions(nn.Module):
    def __init__(self, q, reduction="mean"):
        super().__init__()
        self.q, self.reduction = q, reduction

    def forward(self, prediction, target):
        if prediction.dim() != target.dim():
            raise ValueError("give two tensors of one shape")
        e = target - prediction
        each = torch.maximum(self.q * e, (self.q - 1) * e)
        return each if self.reduction == "none" else getattr(each, self.reduction)()


RIGHT = {
    "divisor": [
        {"mse (4, 10)": 40, "ce (4, 10)": 4, "ce (4, 10, 6)": 24},
        {"mse (4, 10)": 40.0, "ce (4, 10)": np.int64(4), "ce (4, 10, 6)": torch.tensor(24)},
        dict(
            zip(["mse (4, 10)", "ce (4, 10)", "ce (4, 10, 6)"], np.array([40, 4, 24]), strict=True)
        ),
    ],
    "huber": [huber_of_torch, huber_with_a_clamp, huber_from_smooth_l1, huber_by_a_mask],
    "slopes": [
        {
            "BCELoss says 40": says,
            "BCELoss pulls": no,
            "BCEWithLogitsLoss says 40": says,
            "BCEWithLogitsLoss pulls": says,
            "MSE pulls": no,
        }
        for says, no in [(True, False), (np.True_, np.False_), (torch.tensor(1) > 0, False)]
    ],
    "bce_with_logits": [
        bce_by_logsigmoid,
        bce_by_logaddexp,
        bce_as_cross_entropy_of_two_classes,
        bce_with_a_slope_of_its_own,
    ],
    "sequence_loss": [
        sequence_loss_flattened_and_gathered,
        sequence_loss_flattened,
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
        dataset_loss_of_joined_answers,
        dataset_loss_row_by_row,
    ],
    "QuantileLoss": [LargerOfTwoLines, TwoRelus, TiltedL1, HalfOfAbsolutePlusTilt],
}
WRONG = {
    "huber": [
        (huber_with_another_message, "The parabola lacks its half"),
        (huber_that_counts_elements, "it raises a `ValueError`"),
        (huber_that_sums_by_default, "with these defaults"),
        (huber_with_a_line_of_slope_1, "Your line has the slope 1"),
        (huber_averaged_over_rows, "the mean over all elements"),
        (huber_without_a_graph, "The loss is a function of the prediction for autograd"),
    ],
    "bce_with_logits": [
        (bce_of_torch, "The loss is your own"),
        (bce_of_torchs_module, "The loss is your own"),
        (bce_of_an_operator, "The loss is your own"),
        (bce_of_the_textbooks, "At a logit of exactly 0"),
        (bce_with_the_largest_taken_out, "At a logit of exactly 0"),
        (bce_that_weighs_whole_elements, "and nothing else"),
        (bce_that_takes_0_for_none, "It may be 0"),
        (bce_of_two_sigmoids, "`σ(-200)` is rounded to 0"),
        *(
            (bce_with_a_number_inside(small), "A small number inside the logarithm")
            for small in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15)
        ),
        (bce_with_clamped_probabilities, "You clamp the probability, or its logarithm"),
        (bce_with_clamped_logarithms, "You clamp the probability, or its logarithm"),
        (bce_in_float64, "for every logit"),
    ],
    "sequence_loss": [
        (sequence_loss_squeezed, "A batch may hold one sentence"),
        (sequence_loss_by_masked_sentences, "You average each sentence first"),
        (sequence_loss_masked_and_averaged, "still in the divisor"),
        (sequence_loss_of_positive_classes, "over all real positions"),
    ],
    "train_reader": [
        (train_reader_without_a_step, "more than 8 of 10 single digits"),
        (train_reader_for_one_epoch, "more than 8 of 10 single digits"),
        (train_reader_with_a_low_rate, "more than 8 of 10 single digits"),
        (train_reader_with_probabilities, "Here they are probabilities"),
        (train_reader_across_the_rows, "What in the model looks across the rows"),
    ],
    "dataset_loss": [
        (dataset_loss_of_joined_batches, "The batches are not joined"),
        (dataset_loss_with_a_lost_no_grad, "The model is asked without gradients"),
        (dataset_loss_with_no_grad_around_the_loss, "The model is asked without gradients"),
        (dataset_loss_that_freezes_the_model, "so does their `requires_grad`"),
        (dataset_loss_of_a_list, "'DataLoader' object is not subscriptable"),
        (dataset_loss_with_a_late_eval, "for all rows in a single batch"),
    ],
    "QuantileLoss": [
        (Doubled, "an element costs `q · e`"),
        (InFloat32, "float64 stays float64"),
        (HalfDetached, "The slope belongs to the loss"),
        (ComparesDimensions, "it raises a `ValueError`"),
    ],
}
