"""The exercises of chapter 01: what a module registers, and what follows from it."""

from __future__ import annotations

import torch
from torch import nn

from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)


# Which attributes become parameters -------------------------------------------------------------


@chapter.prediction
def listed():
    class Inventory(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))
            self.shift = torch.zeros(2, requires_grad=True)
            self.head = nn.Linear(2, 1)
            self.extra = [nn.Linear(2, 1)]

    names = [name for name, _ in Inventory().named_parameters()]
    return {name: name in names for name in ("scale", "shift", "head.weight", "extra.0.weight")}


# nn.Linear by hand ------------------------------------------------------------------------------


def _numbers(*shape):
    """Fixed, unequal numbers around zero."""
    size = torch.Size(shape).numel()
    return torch.sin(torch.arange(size, dtype=torch.float32)).reshape(shape)


def _fill(module):
    """Give every parameter fixed, unequal numbers, so that outputs can be compared."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(_numbers(*parameter.shape))


def _as_a_linear_layer(answer, in_features, out_features, bias, x):
    layer = answer(in_features, out_features, bias=bias)
    largest = max((p.abs().max().item() for p in layer.parameters()), default=0.0)
    bound = in_features**-0.5
    seen = {
        "parameters": {name: tuple(p.shape) for name, p in layer.named_parameters()},
        "self.bias is None": layer.bias is None,
        "first values stay within 1/√in_features": largest <= bound + 1e-6,
        "first values lie on both sides of zero": all(
            p.min() < 0 < p.max() for p in layer.parameters() if p.numel() >= 40
        ),
    }
    _fill(layer)
    return {**seen, "output": layer(x)}


@chapter.exercise(
    cases=lambda: [
        Case("3 → 2 features, a batch (4, 3)", 3, 2, True, _numbers(4, 3)),
        Case("3 → 2 features without bias", 3, 2, False, _numbers(4, 3)),
        Case("5 → 1 features, a batch of sequences (2, 7, 5)", 5, 1, True, _numbers(2, 7, 5)),
        Case("50 → 40 features, a single sample (50,)", 50, 40, True, _numbers(50)),
    ],
    observe=_as_a_linear_layer,
)
class Linear(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        bound = in_features**-0.5
        weight = torch.empty(out_features, in_features).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)
        self.bias = None
        if bias:
            self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))

    def forward(self, x):
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class StoredInByOut(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        bound = in_features**-0.5
        self.weight = nn.Parameter(torch.empty(in_features, out_features).uniform_(-bound, bound))
        self.bias = (
            nn.Parameter(torch.empty(out_features).uniform_(-bound, bound)) if bias else None
        )

    def forward(self, x):
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


class PlainTensors(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        bound = in_features**-0.5
        self.weight = torch.zeros(out_features, in_features).uniform_(-bound, bound)
        self.weight.requires_grad_()
        self.bias = torch.zeros(out_features).uniform_(-bound, bound) if bias else None

    def forward(self, x):
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class WithoutSuper(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))


class DrawnFromANormal(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.randn(out_features)) if bias else None

    def forward(self, x):
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class DrawnAboveZero(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        bound = in_features**-0.5
        self.weight = nn.Parameter(torch.rand(out_features, in_features) * bound)
        self.bias = nn.Parameter(torch.rand(out_features) * bound) if bias else None

    def forward(self, x):
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class KeepsAZeroBias(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        bound = in_features**-0.5
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        first = torch.empty(out_features).uniform_(-bound, bound)
        self.bias = nn.Parameter(first if bias else torch.zeros(out_features))

    def forward(self, x):
        return x @ self.weight.T + self.bias


class MatricesOnly(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        bound = in_features**-0.5
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.bias = (
            nn.Parameter(torch.empty(out_features).uniform_(-bound, bound)) if bias else None
        )

    def forward(self, x):
        y = x.mm(self.weight.T)
        return y if self.bias is None else y + self.bias


# Counting ---------------------------------------------------------------------------------------


def _plain_net():
    return nn.Sequential(nn.Linear(10, 5), nn.ReLU(), nn.Linear(5, 2))


def _frozen_net():
    net = _plain_net()
    net[0].requires_grad_(False)
    return net


def _tied_net():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 4, bias=False))
    net[2].weight = net[0].weight
    return net


def _normalised_net():
    return nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))


def _own_and_childs():
    net = _plain_net()
    net.temperature = nn.Parameter(torch.ones(3))
    return net


@chapter.exercise(
    cases=lambda: [
        Case("Linear(10, 5) → ReLU → Linear(5, 2)", _plain_net()),
        Case("the same with the first layer frozen", _frozen_net()),
        Case("two layers that share one weight", _tied_net()),
        Case("a network with BatchNorm, which has buffers", _normalised_net()),
        Case("modules inside modules inside modules", nn.Sequential(_plain_net(), _plain_net())),
        Case("a model without parameters", nn.Sequential(nn.ReLU(), nn.Flatten())),
        Case("a module with a parameter of its own beside its layers", _own_and_childs()),
    ],
)
def count_trainable(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def counts_tensors(model):
    return len([p for p in model.parameters() if p.requires_grad])


def counts_all_tensors(model):
    return len(list(model.parameters()))


def returns_in_the_loop(model):
    total = 0
    for p in model.parameters():
        total += p.numel() if p.requires_grad else 0
        return total
    return total


def counts_frozen(model):
    return sum(p.numel() for p in model.parameters())


def counts_what_is_saved(model):
    return sum(tensor.numel() for tensor in model.state_dict().values())


def counts_shared_twice(model):
    parts = (part for part in model.modules())
    own = (p for part in parts for p in part.parameters(recurse=False))
    return sum(p.numel() for p in own if p.requires_grad)


def counts_what_has_a_gradient(model):
    return sum(p.numel() for p in model.parameters() if p.grad is not None)


def walks_twice(model):
    parts = model.modules()
    return sum(p.numel() for part in parts for p in part.parameters() if p.requires_grad)


def leaves_out_its_own(model):
    found = {id(p): p for part in model.children() for p in part.parameters()}
    return sum(p.numel() for p in found.values() if p.requires_grad)


def looks_one_level_down(model):
    found = {id(p): p for part in model.children() for p in part.parameters(recurse=False)}
    return sum(p.numel() for p in found.values() if p.requires_grad)


# A network that half exists ---------------------------------------------------------------------


def _the_three_complaints(answer, shallow, deep):
    small, large, loaded = answer(shallow), answer(deep), answer(deep)
    picture = _numbers(1, 1, 8, 8)
    in_training = [large.train()(picture)["digit"] for _ in range(2)]
    loaded.load_state_dict(large.state_dict())
    first, again, reloaded = (
        {name: out.detach() for name, out in net.eval()(picture).items()}
        for net in (large, large, loaded)
    )
    return {
        "numbers more in the deeper network": _size(large) - _size(small),
        "numbers in the deeper network": _size(large),
        "two calls in evaluation mode agree": all(first[k].equal(again[k]) for k in first),
        "a loaded copy agrees": all(first[k].equal(reloaded[k]) for k in first),
        "outputs": {name: tuple(out.shape) for name, out in first.items()},
        "two calls in train mode agree": in_training[0].equal(in_training[1]),
        "each block adds to what came before": _passes_through_silent_blocks(large, picture),
    }


def _size(module):
    return sum(p.numel() for p in module.parameters())


def _passes_through_silent_blocks(net, picture):
    """Whether the picture still matters to the outputs when every block gives zeros."""
    with torch.no_grad():
        for parameter in net.parameters():
            inside_a_block = parameter.shape in [(32, 32), (32,)]
            parameter.copy_(
                torch.zeros(parameter.shape) if inside_a_block else _numbers(*parameter.shape)
            )
        return not net(picture)["digit"].equal(net(2 * picture)["digit"])


@chapter.exercise(
    cases=lambda: [
        Case("networks with 2 and 5 blocks", 2, 5),
        Case("networks with 0 and 1 blocks", 0, 1),
    ],
    observe=_the_three_complaints,
)
class DeepNet(nn.Module):
    """Residual blocks and two heads: which digit is it, and is it even?"""

    def __init__(self, depth, width=32):
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2)) for _ in range(depth)
        )
        self.heads = nn.ModuleDict({"digit": nn.Linear(width, 10), "even": nn.Linear(width, 2)})

    def forward(self, images):
        h = self.stem(images.flatten(start_dim=1))
        for block in self.blocks:
            h = h + block(h)
        return {name: head(h) for name, head in self.heads.items()}


class _WithParts(nn.Module):
    """The given network with its blocks and heads in containers of the caller's choice."""

    def __init__(self, depth, container_of_blocks, container_of_heads, width=32):
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = container_of_blocks(
            [
                nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2))
                for _ in range(depth)
            ]
        )
        self.heads = container_of_heads(
            {"digit": nn.Linear(width, 10), "even": nn.Linear(width, 2)}
        )

    def forward(self, images):
        h = self.stem(images.flatten(start_dim=1))
        for block in self.blocks:
            h = h + block(h)
        return {name: head(h) for name, head in self.heads.items()}


class HeadsForgotten(_WithParts):
    def __init__(self, depth):
        super().__init__(depth, nn.ModuleList, dict)


class BlocksForgotten(_WithParts):
    def __init__(self, depth):
        super().__init__(depth, list, nn.ModuleDict)


class NeverDrops(_WithParts):
    def __init__(self, depth):
        super().__init__(depth, nn.ModuleList, nn.ModuleDict)

    def forward(self, images):
        self.eval()
        return super().forward(images)


class OneBlockManyTimes(_WithParts):
    def __init__(self, depth):
        super().__init__(
            depth, lambda blocks: nn.ModuleList(blocks[:1] * len(blocks)), nn.ModuleDict
        )


class BlocksInARow(_WithParts):
    def __init__(self, depth):
        super().__init__(depth, lambda blocks: nn.Sequential(*blocks), nn.ModuleDict)

    def forward(self, images):
        h = self.blocks(self.stem(images.flatten(start_dim=1)))
        return {name: head(h) for name, head in self.heads.items()}


# Buffers ----------------------------------------------------------------------------------------


def _through_its_life(answer, x, new):
    layer, handed_in = answer(x.clone()), new.clone()
    seen = {
        "output": layer(handed_in),
        "the input is left as it was": handed_in.equal(new),
        "parameters": [name for name, _ in layer.named_parameters()],
        "state_dict": sorted(layer.state_dict()),
    }
    other = answer(7 - 3 * x)
    other.load_state_dict(layer.state_dict())
    seen["output of a loaded copy"] = other(new)
    layer.to(torch.float64)
    return seen | {"dtype of `mean` after .to(torch.float64)": layer.mean.dtype}


@chapter.exercise(
    cases=lambda: [
        Case("20 rows of 3 features", 3 + 2 * _numbers(20, 3), _numbers(5, 3)),
        Case("one new row, far from the training data", _numbers(8, 2), 100 + _numbers(1, 2)),
    ],
    observe=_through_its_life,
)
class Standardize(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean(dim=0))
        self.register_buffer("std", x.std(dim=0))

    def forward(self, x):
        return (x - self.mean) / self.std


class TrainsItsStatistics(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.mean, self.std = nn.Parameter(x.mean(dim=0)), nn.Parameter(x.std(dim=0))

    def forward(self, x):
        return (x - self.mean) / self.std


class ForgetsItsStatistics(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.mean, self.std = x.mean(dim=0), x.std(dim=0)

    def forward(self, x):
        return (x - self.mean) / self.std


class LeavesThemOut(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean(dim=0), persistent=False)
        self.register_buffer("std", x.std(dim=0), persistent=False)

    def forward(self, x):
        return (x - self.mean) / self.std


class MixesTheFeatures(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean())
        self.register_buffer("std", x.std())

    def forward(self, x):
        return (x - self.mean) / self.std


class WritesIntoTheInput(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean(dim=0))
        self.register_buffer("std", x.std(dim=0))

    def forward(self, x):
        return x.sub_(self.mean).div_(self.std)


class UsesTheNewBatch(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean(dim=0))
        self.register_buffer("std", x.std(dim=0))

    def forward(self, x):
        return (x - x.mean(dim=0)) / x.std(dim=0)


# Two switches that people take for one ----------------------------------------------------------


@chapter.prediction
def modes():
    x = torch.randn(64, 4) * 3 + 10
    dropout, norm, linear = nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 1)
    norm(x)
    with torch.no_grad():
        dropped = dropout(x)
    frozen = nn.BatchNorm1d(4).requires_grad_(False)
    before = frozen.running_mean.clone()
    frozen(x)
    return {
        "a": torch.equal(dropout.eval()(x), x),
        "b": torch.equal(norm.eval()(x), x),
        "c": not linear.eval()(x).requires_grad,
        "d": torch.equal(dropped, x),
        "e": torch.equal(frozen.running_mean, before),
    }


# BatchNorm by hand ------------------------------------------------------------------------------


def _over_several_batches(answer, features, options, batches):
    layer = answer(features, **options)
    seen = {
        "parameters": sorted(name for name, _ in layer.named_parameters()),
        "buffers": sorted({name for name, _ in layer.named_buffers()} - {"num_batches_tracked"}),
    }
    with torch.no_grad():
        layer.weight.copy_(1 + _numbers(features))
        layer.bias.copy_(_numbers(features) - 1)
    for batch in batches:
        rows = batch.clone().requires_grad_()
        output = layer(rows)
        output.square().sum().backward()
    layer.eval()
    in_eval = layer(batches[0])
    return seen | {
        "output in train mode": output.detach(),
        "running_mean": layer.running_mean.detach().clone(),
        "running_var": layer.running_var.detach().clone(),
        "running statistics carry a gradient": layer.running_mean.requires_grad,
        "gradient of the input": rows.grad,
        "output in eval mode": in_eval.detach(),
        "output in eval mode, once more": layer(batches[0]).detach(),
    }


@chapter.exercise(
    cases=lambda: [
        Case("two features, three batches of five rows", 2, {}, 5 * _numbers(3, 5, 2) + 20),
        Case("one feature, two batches of two rows", 1, {}, _numbers(2, 2, 1)),
        Case(
            "the same with eps=0.1 and momentum=0.5",
            1,
            {"eps": 0.1, "momentum": 0.5},
            _numbers(2, 2, 1),
        ),
    ],
    observe=_over_several_batches,
)
class BatchNorm(nn.Module):
    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(dim=0), x.var(dim=0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(x.var(dim=0, correction=1), self.momentum)
        return (x - mean) / torch.sqrt(var + self.eps) * self.weight + self.bias


class _Attempt(nn.Module):
    """The parts that every attempt at the exercise has in common; what differs is a method each."""

    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def remember(self, x):
        with torch.no_grad():
            self.running_mean.lerp_(x.mean(dim=0), self.momentum)
            self.running_var.lerp_(x.var(dim=0), self.momentum)

    def statistics(self, x):
        if not self.training:
            return self.running_mean, self.running_var
        self.remember(x)
        return x.mean(dim=0), x.var(dim=0, correction=0)

    def forward(self, x):
        mean, var = self.statistics(x)
        return (x - mean) / torch.sqrt(var + self.eps) * self.weight + self.bias


class TakesTheNewAlmostWhole(_Attempt):
    def remember(self, x):
        with torch.no_grad():
            self.running_mean.lerp_(x.mean(dim=0), 1 - self.momentum)
            self.running_var.lerp_(x.var(dim=0), 1 - self.momentum)


class RemembersTheBiasedVariance(_Attempt):
    def remember(self, x):
        with torch.no_grad():
            self.running_mean.lerp_(x.mean(dim=0), self.momentum)
            self.running_var.lerp_(x.var(dim=0, correction=0), self.momentum)


class NormalisesWithTheUnbiased(_Attempt):
    def statistics(self, x):
        mean, var = super().statistics(x)
        return mean, (x.var(dim=0) if self.training else var)


class AlwaysUsesTheBatch(_Attempt):
    def statistics(self, x):
        if self.training:
            self.remember(x)
        return x.mean(dim=0), x.var(dim=0, correction=0)


class RemembersInEvalToo(_Attempt):
    def statistics(self, x):
        self.remember(x)
        if self.training:
            return x.mean(dim=0), x.var(dim=0, correction=0)
        return self.running_mean, self.running_var


class UsesTheAverageAtOnce(_Attempt):
    def statistics(self, x):
        if self.training:
            self.remember(x)
        return self.running_mean.clone(), self.running_var.clone()


class NeverRemembers(_Attempt):
    def remember(self, x):
        pass


class DragsTheRecordAlong(_Attempt):
    def remember(self, x):
        self.running_mean = self.running_mean.lerp(x.mean(dim=0), self.momentum)
        self.running_var = self.running_var.lerp(x.var(dim=0), self.momentum)


class CutsTheStatisticsOff(_Attempt):
    def statistics(self, x):
        return super().statistics(x.detach())


class EpsOutsideTheRoot(_Attempt):
    def forward(self, x):
        mean, var = self.statistics(x)
        return (x - mean) / (torch.sqrt(var) + self.eps) * self.weight + self.bias


class IgnoresItsArguments(_Attempt):
    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__(features)


class WithoutWeightAndBias(_Attempt):
    def forward(self, x):
        mean, var = self.statistics(x)
        return (x - mean) / torch.sqrt(var + self.eps) + 0 * (self.weight + self.bias)


# Fine-tuning ------------------------------------------------------------------------------------


def _pretrained(dropout=0.5):
    torch.manual_seed(3)
    backbone = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 6)
    )
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 2))
    return backbone, head, torch.randn(32, 4) * 2 + 5


def _trained_by_somebody_else(answer, backbone, head, x):
    head_before = head[1].weight.detach().clone()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    model = answer(backbone, head)
    gives_itself_back = model.train() is model
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    after = backbone.state_dict()
    statistics = [name for name in before if "running" in name or "batches" in name]
    weights = [name for name in before if name not in statistics]
    seen = {
        "the backbone's weights stay": all(before[k].equal(after[k]) for k in weights),
        "the backbone's running statistics stay": all(
            before[k].equal(after[k]) for k in statistics
        ),
        "the backbone is random in training": _repeats(backbone, x) is False,
        "the head learns": not head_before.equal(head[1].weight),
        "the head's Dropout is on in training": head[0].training,
        "model.train() gives the model back": gives_itself_back,
        "the backbone is saved with the model": backbone in list(model.modules()),
    }
    model.eval()
    return seen | {
        "the head's Dropout is off after model.eval()": not head[0].training,
        "output after model.eval() is head(backbone(x))": model(x).equal(head(backbone.eval()(x))),
    }


def _repeats(backbone, x):
    statistics = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with torch.no_grad():
        same = backbone(x).equal(backbone(x))
    backbone.load_state_dict(statistics)
    return same


@chapter.exercise(
    cases=lambda: [
        Case("a small backbone with BatchNorm and Dropout", *_pretrained()),
        Case("a backbone without Dropout", *_pretrained(dropout=0.0)),
    ],
    observe=_trained_by_somebody_else,
)
class FineTuned(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.head = head

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x):
        return self.head(self.backbone(x))


class _Joined(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x):
        return self.head(self.backbone(x))


class TrainsEverything(_Joined):
    """Backbone and head, joined and left as they are."""


class FreezesWeightsOnly(_Joined):
    def __init__(self, backbone, head):
        super().__init__(backbone.requires_grad_(False), head)


class StaysInEvalAndTrains(_Joined):
    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self


class EverythingInEval(_Joined):
    def __init__(self, backbone, head):
        super().__init__(backbone.requires_grad_(False), head)

    def train(self, mode=True):
        return super().train(False)


class ReturnsNothing(_Joined):
    def __init__(self, backbone, head):
        super().__init__(backbone.requires_grad_(False), head)

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()


class TakesNoMode(_Joined):
    def __init__(self, backbone, head):
        super().__init__(backbone.requires_grad_(False), head)

    def train(self):
        super().train()
        self.backbone.eval()
        return self


class HidesTheBackbone(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.hidden, self.head = [backbone.requires_grad_(False).eval()], head

    def forward(self, x):
        return self.head(self.hidden[0](x))


class FreezesTheHeadToo(_Joined):
    def __init__(self, backbone, head):
        super().__init__(backbone, head)
        self.requires_grad_(False)
