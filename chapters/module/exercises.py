"""The exercises of chapter 01: what a module registers, and what follows from it."""

from __future__ import annotations

import torch
from torch import nn

from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)


def _numbers(*shape):
    """Fixed, unequal numbers around zero."""
    size = torch.Size(shape).numel()
    return torch.sin(torch.arange(size, dtype=torch.float32)).reshape(shape)


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


def _as_a_linear_layer(answer, in_features, out_features, bias, x):
    layer = answer(in_features, out_features, bias=bias)
    largest = max((p.abs().max().item() for p in layer.parameters()), default=0.0)
    # A few values may lie on one side by chance; forty do not.
    many = [p for p in layer.parameters() if p.numel() >= 40]
    seen = {
        "parameters": {name: tuple(p.shape) for name, p in layer.named_parameters()},
        "self.bias is None": layer.bias is None,
        "first values stay within 1/√in_features": largest <= in_features**-0.5 + 1e-6,
        "first values lie on both sides of zero": all(p.min() < 0 < p.max() for p in many),
    }
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(_numbers(*parameter.shape))
    return seen | {"output": layer(x)}


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


def _net_with_its_own_parameter():
    net = _plain_net()
    net.temperature = nn.Parameter(torch.ones(3))
    return net


@chapter.exercise(
    cases=lambda: [
        Case("Linear(10, 5) → ReLU → Linear(5, 2)", _plain_net()),
        Case("the same with the first layer frozen", _frozen_net()),
        Case("two layers that share one weight", _tied_net()),
        Case(
            "a network with BatchNorm, which has buffers",
            nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)),
        ),
        Case("modules inside modules inside modules", nn.Sequential(_plain_net(), _plain_net())),
        Case("a model without parameters", nn.Sequential(nn.ReLU(), nn.Flatten())),
        Case(
            "a module with a parameter of its own beside its layers",
            _net_with_its_own_parameter(),
        ),
    ],
)
def count_trainable(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _size(module):
    return sum(p.numel() for p in module.parameters())


def _picture_passes_silent_blocks(net, picture):
    """Whether the picture still matters to the outputs when every block gives zeros."""
    with torch.no_grad():
        for parameter in net.parameters():
            inside_a_block = parameter.shape in [(32, 32), (32,)]
            parameter.copy_(_numbers(*parameter.shape) * (not inside_a_block))
        return not net(picture)["digit"].equal(net(2 * picture)["digit"])


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
        "each block adds to what came before": _picture_passes_silent_blocks(large, picture),
    }


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
            [
                nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2))
                for _ in range(depth)
            ]
        )
        self.heads = nn.ModuleDict({"digit": nn.Linear(width, 10), "even": nn.Linear(width, 2)})

    def forward(self, images):
        h = self.stem(images.flatten(start_dim=1))
        for block in self.blocks:
            h = h + block(h)
        return {name: head(h) for name, head in self.heads.items()}


def _used_saved_and_moved(answer, x, new):
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
    observe=_used_saved_and_moved,
)
class Standardize(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean(dim=0))
        self.register_buffer("std", x.std(dim=0))

    def forward(self, x):
        return (x - self.mean) / self.std


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
        if self.training:
            mean, var = x.mean(dim=0), x.var(dim=0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(x.var(dim=0, correction=1), self.momentum)
        else:
            mean, var = self.running_mean, self.running_var
        return (x - mean) / torch.sqrt(var + self.eps) * self.weight + self.bias


def _pretrained(dropout):
    backbone = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 6)
    )
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 2))
    return backbone, head, torch.randn(32, 4) * 2 + 5


def _gives_the_same_twice(backbone, x):
    statistics = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with torch.no_grad():
        same = backbone(x).equal(backbone(x))
    backbone.load_state_dict(statistics)
    return same


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
    stays = {name: tensor.equal(after[name]) for name, tensor in before.items()}
    weights = [stays[name] for name, _ in backbone.named_parameters()]
    statistics = [stays[name] for name, _ in backbone.named_buffers()]
    seen = {
        "the backbone's weights stay": all(weights),
        "the backbone's running statistics stay": all(statistics),
        "the backbone is random in training": not _gives_the_same_twice(backbone, x),
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


@chapter.exercise(
    cases=lambda: [
        Case("a small backbone with BatchNorm and Dropout", *_pretrained(dropout=0.5)),
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
