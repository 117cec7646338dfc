"""The exercises of chapter 01: what a module registers, and what follows from it."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from helpers.exercises import Case, Exercises, Shortfall, Words, require
from helpers.exercises.observe import gradients, made, numbers

chapter = Exercises(__file__)
report = chapter.report


def _copied(value):
    """A snapshot of a tensor; anything else as it is."""
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _shapes_of(module):
    return {name: tuple(p.shape) for name, p in module.named_parameters()}


@torch.no_grad()
def _fill(tensors, seed=10):
    for number, tensor in enumerate(tensors):
        tensor.copy_(numbers(*tensor.shape, seed=seed + number))


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


def _linear_output(answer, in_features, out_features, bias, x, name):
    layer = made(answer, in_features, out_features, bias=bias)
    yield "parameters", _shapes_of(layer)
    if not bias:
        yield "no bias", "None" if layer.bias is None else Words("self.bias is not None")
    shapes = {"weight": (out_features, in_features), "bias": (out_features,)}
    if _shapes_of(layer) != {name: shapes[name] for name in shapes if bias or name == "weight"}:
        yield name, Words("the parameters are others")
        yield "slope", Words("the parameters are others")
        return
    _fill(layer.parameters())
    given = x.clone().requires_grad_()
    output = require(layer(given), torch.Tensor, "the result of `forward`")
    yield name, _copied(output)
    yield "slope", gradients(output, given, layer.weight, *([layer.bias] if bias else []))


def _linear_options(answer):
    layers = answer(5, 3), answer(5, 3, False), answer(in_features=5, out_features=3)
    yield "default", [_shapes_of(layer) for layer in layers]


def _first_values(answer, in_features, out_features):
    layers = [made(answer, in_features, out_features) for _ in range(2)]
    bound = in_features**-0.5
    for name in ("weight", "bias"):
        first, second = (require(getattr(layer, name), torch.Tensor, name) for layer in layers)
        same = first.equal(second) and first.any()
        yield f"first {name}", Words("the same in each layer") if same else _spread(first, bound)


def _spread(values, bound):
    """In words: how the values are distributed."""
    values = values.detach().double().flatten().sort().values
    if not values.any():
        return Words("all are zero")
    lowest, highest = values[0].item(), values[-1].item()
    most = len(values) * 0.9 < len(values.unique())
    ranks = (torch.arange(len(values)) + 0.5) / len(values)
    # The distance of Kolmogorov and Smirnov. By chance, fewer than one draw in 10⁶ is as far.
    far = 3 * len(values) ** -0.5
    for text, shares in {
        "uniform between -1/√in_features and 1/√in_features": values / bound / 2 + 0.5,
        "uniform between 0 and 1/√in_features": values / bound,
        "uniform between 0 and 1": values,
        "uniform between -1/in_features and 1/in_features": values / bound**2 / 2 + 0.5,
        "normal, with a standard deviation of 1": torch.special.ndtr(values),
        "normal, with a standard deviation of 1/√in_features": torch.special.ndtr(values / bound),
    }.items():
        if most and (shares.clamp(0, 1) - ranks).abs().max() < far:
            inside = "normal" in text or (shares.min() > -1e-5 and shares.max() < 1 + 1e-5)
            if inside:
                return Words(text)
    if not most:
        return Words("the same number many times")
    return Words(f"between {lowest:.2g} and {highest:.2g}, with 1/√in_features = {bound:.2g}")


@chapter.exercise(
    cases=lambda: [
        *(
            Case(
                f"{inside} → {outside} features{'' if bias else ' without bias'}, "
                f"an input of shape {(*leading, inside)}",
                *(inside, outside, bias, numbers(*leading, inside, seed=seed)),
                "output" if len(leading) == 1 else "leading",
            )
            for seed, (inside, outside, bias, leading) in enumerate(
                (
                    (3, 2, True, (4,)),
                    (3, 2, False, (4,)),
                    (5, 1, True, (2, 7)),
                    (4, 6, True, ()),
                    (4, 4, False, ()),
                    (1, 5, True, (1,)),
                    (2, 3, False, (2, 1, 3, 2)),
                    (6, 3, True, (0,)),
                )
            )
        ),
        Case(
            "5 → 3 features, an input whose first two dimensions were swapped",
            *(5, 3, True, numbers(7, 4, 5).transpose(0, 1), "leading"),
        ),
        Case("the default of `bias`, and `bias` as third argument", observe=_linear_options),
        Case("first values, 15 → 1000 features", 15, 1000, observe=_first_values),
        Case("first values, 110 → 500 features", 110, 500, observe=_first_values),
    ],
    observe=_linear_output,
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


def _net(*widths, bias=True):
    layers = [nn.Linear(a, b, bias=bias) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))


def _drawn_net(seed):
    widths = torch.randint(1, 9, (4,), generator=torch.Generator().manual_seed(seed)).tolist()
    return _net(*widths, bias=seed % 3 != 0)


def _with(model, change):
    change(model)
    return model


def _freeze(*names):
    def change(model):
        for name in names:
            model.get_parameter(name).requires_grad_(False)

    return change


def _share(first, second):
    def change(model):
        parent, _, name = second.rpartition(".")
        setattr(model.get_submodule(parent), name, model.get_parameter(first))

    return change


def _set(name, value):
    return lambda model: setattr(model, name, value)


def _trained_once(model):
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return model


def _one_layer_twice():
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.ReLU(), nn.Sequential(layer, nn.Linear(3, 2)))


@torch.no_grad()
def _zero(net):
    for parameter in net.parameters():
        parameter.zero_()


def _equal_layers():
    net = _net(4, 4, 4)
    return _with(net, lambda net: net[2].load_state_dict(net[0].state_dict()))


def _collections():
    net = _net(3, 2)
    net.scales = nn.ParameterList([torch.ones(2), torch.ones(()), torch.ones(0, 3)])
    net.named = nn.ParameterDict({"shift": torch.ones(1, 4)})
    return net


def _deep():
    inner = _with(_net(3, 5, 2), _set("gate", nn.Parameter(torch.ones(7))))
    return nn.ModuleDict({"trunk": nn.Sequential(nn.Sequential(inner), _net(2, 2)), "top": _net(2)})


def _is_int(answer, model):
    return issubclass(type(answer(model)), (int, np.integer))


def _gradients_after(answer, model):
    answer(model)
    return [_copied(parameter.grad) for parameter in model.parameters()]


@chapter.exercise(
    cases=lambda: [
        *(
            Case(label, model, about=about)
            for about, label, model in (
                ("numbers", "Linear(10, 5) → ReLU → Linear(5, 2)", _net(10, 5, 2)),
                *(("numbers", f"a drawn network, number {n}", _drawn_net(n)) for n in range(4)),
                ("tree", "a convolution", nn.Sequential(nn.Conv2d(3, 4, 5), nn.PReLU())),
                ("tree", "a single Linear(6, 3)", nn.Linear(6, 3)),
                (
                    "frozen",
                    "the first layer is frozen",
                    _with(_net(10, 5, 2), _freeze("0.weight", "0.bias")),
                ),
                (
                    "frozen",
                    "one weight is frozen, its bias is not",
                    _with(_net(4, 3, 2), _freeze("0.weight")),
                ),
                ("frozen", "one bias is frozen", _with(_net(4, 3, 2), _freeze("2.bias"))),
                ("nothing", "everything is frozen", _net(4, 3).requires_grad_(False)),
                (
                    "frozen",
                    "frozen deep inside",
                    _with(_deep(), _freeze("trunk.0.0.gate", "trunk.1.0.bias")),
                ),
                (
                    "frozen",
                    "in eval mode, with Dropout",
                    nn.Sequential(_net(3, 3), nn.Dropout()).eval(),
                ),
                (
                    "frozen",
                    "gradients are left from earlier, and one weight is frozen now",
                    _with(_trained_once(_net(4, 3, 2)), _freeze("2.weight")),
                ),
                (
                    "shared",
                    "two layers share one weight",
                    _with(_net(4, 4, 4), _share("0.weight", "2.weight")),
                ),
                (
                    "shared",
                    "two layers without biases share one weight",
                    _with(_net(4, 4, 4, bias=False), _share("0.weight", "2.weight")),
                ),
                ("shared", "one layer is used in two places", _one_layer_twice()),
                (
                    "shared",
                    "a weight is shared, and frozen",
                    _with(
                        _with(_net(3, 3, 3, 3), _share("0.weight", "4.weight")), _freeze("0.weight")
                    ),
                ),
                (
                    "shared",
                    "the model itself holds the weight of one of its layers",
                    _with(_net(4, 3), lambda net: setattr(net, "same", net[0].weight)),
                ),
                ("equal", "two layers with equal values", _equal_layers()),
                ("equal", "two layers of zeros", _with(_net(3, 3, 3), _zero)),
                (
                    "buffers",
                    "BatchNorm, which has buffers",
                    nn.Sequential(_net(6, 3), nn.BatchNorm1d(3)),
                ),
                ("buffers", "BatchNorm without parameters", nn.BatchNorm1d(3, affine=False)),
                ("tree", "modules inside modules", nn.Sequential(_net(10, 5, 2), _net(2, 5, 2))),
                ("tree", "modules deep inside modules", _deep()),
                (
                    "tree",
                    "a parameter beside the layers",
                    _with(_net(10, 5), _set("t", nn.Parameter(torch.ones(3)))),
                ),
                ("tree", "a ParameterList and a ParameterDict", _collections()),
                ("nothing", "a model without parameters", nn.Sequential(nn.ReLU(), nn.Flatten())),
            )
        ),
        Case("the type of the number", _net(4, 3), about="int", observe=_is_int),
        Case("a new network", _net(4, 3), about="no gradients", observe=_gradients_after),
    ],
)
def count_trainable(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _linear_layers(net):
    """Its stem, its blocks and its heads, in any order of registration."""
    parts = [part for part in net.modules() if isinstance(part, nn.Linear)]
    return sorted(parts, key=lambda part: (part.in_features != 64, -part.out_features))


def _is_whole(net, depth, width):
    sizes = [(part.in_features, part.out_features) for part in _linear_layers(net)]
    known = [(64, width), *[(width, width)] * depth, (width, 10), (width, 2)]
    return sizes == known


_NOT_WHOLE = Words("some layers are not among the network's modules")


def _agree(first, second):
    """Whether two outputs are the same; only dicts are looked into."""
    parts = [list(out.values()) if isinstance(out, dict) else out for out in (first, second)]
    return all(torch.equal(one, other) for one, other in zip(*parts, strict=True))


def _complaints(answer, depth, widths, pictures):
    net, copied = made(answer, depth, *widths), made(answer, depth, *widths)
    width = widths[0] if widths else 32
    yield "parameters", sorted(tuple(p.shape) for p in net.parameters())
    net.train()(pictures)
    net.eval()
    copied.eval()
    yield "evaluation", _agree(net(pictures), net(pictures))
    copied.load_state_dict(net.state_dict())
    yield "reloaded", _agree(net(pictures), copied(pictures))
    whole = _is_whole(net, depth, width)
    parameters = [p for part in _linear_layers(net) for p in (part.weight, part.bias)]
    _fill(parameters)
    outputs = net(pictures)
    seen = outputs
    if isinstance(outputs, dict):
        seen = {name: _copied(out) for name, out in outputs.items()}
    yield "output", seen if whole else _NOT_WHOLE
    if not whole:
        yield "slope", _NOT_WHOLE
        return
    yield "slope", gradients(torch.cat([outputs["digit"], outputs["even"]], dim=1), *parameters)


def _dropped(answer, depth, n):
    """In words: what becomes of values ``h = 1`` where each block adds ``h + 1``."""
    net = made(answer, depth, 12).eval().train()
    if not _is_whole(net, depth, 12):
        yield "dropout", _NOT_WHOLE
        return
    *parts, digit, even = _linear_layers(net)
    with torch.no_grad():
        for part in parts:
            part.weight.copy_(torch.eye(*part.weight.shape))
            part.bias.fill_(part.in_features == 12)
        for head, rows in (digit, slice(10)), (even, slice(10, 12)):
            head.weight.copy_(torch.eye(12)[rows])
            head.bias.zero_()
    outputs = net(torch.ones(n, 1, 8, 8))
    units = torch.cat([outputs["digit"], outputs["even"]], dim=1)
    values, counts = units.round(decimals=3).unique(return_counts=True)
    shares = counts / units.numel()
    kept = torch.tensor([[0.2, 0.8], [0.04, 0.32, 0.64]][depth - 1])
    # With this many values, chance moves no share by half as much.
    if shares.shape == kept.shape and (shares - kept).abs().max() < 0.04:
        shares = kept
    found = [f"{v:g} ({s:.0%})" for v, s in zip(values.tolist(), shares.tolist(), strict=True)]
    yield "dropout", Words(", ".join(found[:4]))


@chapter.exercise(
    cases=lambda: [
        *(
            Case(
                f"{depth} blocks{f' of width {widths[0]}' if widths else ''}, {n} pictures",
                *(depth, widths, numbers(n, 1, 8, 8, seed=depth)),
            )
            for depth, widths, n in (
                (2, (), 3),
                (5, (), 1),
                (0, (), 2),
                (1, (20,), 4),
                (3, (7,), 2),
            )
        ),
        *(
            Case(
                f"values h = 1, {depth} blocks that add h + 1 each, in train mode",
                *(depth, 600),
                observe=_dropped,
            )
            for depth in (1, 2)
        ),
    ],
    observe=_complaints,
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


def _statistics(layer):
    found = [require(getattr(layer, name), torch.Tensor, f"`{name}`") for name in ("mean", "std")]
    return {name: _copied(one).flatten() for name, one in zip(("mean", "std"), found, strict=True)}


def _used_saved_and_moved(answer, x, new, name):
    given, handed_in = x.clone(), new.clone()
    layer = made(answer, given)
    yield "statistics", _statistics(layer)
    in_training = _copied(layer(handed_in))
    layer.eval()
    yield name, (in_training, _copied(layer(new.clone())))
    yield "input", (given, handed_in)
    saved = torch.cat([torch.zeros(0), *map(torch.flatten, layer.state_dict().values())])
    found = _statistics(layer).items()
    yield "saved", [name for name, one in found if torch.isin(one, saved).all()]
    other, moved = answer(7 - 3 * x), answer(7 - 3 * x).to(torch.float64)
    for one in (other, moved):
        one.load_state_dict(layer.state_dict())
    yield "loaded", [_copied(other(new.clone())), _copied(moved(new.double())).float()]
    trained = [name for name in ("mean", "std") if getattr(layer, name).requires_grad]
    yield "trained", {"parameters": len(list(layer.parameters())), "ask for a gradient": trained}
    layer.to(torch.float64)
    moved = [str(getattr(layer, name).dtype) for name in ("mean", "std")]
    moved.append(str(layer(new.double()).dtype))
    layer.to("meta")  # a device that every machine has
    yield "moved", moved + [str(getattr(layer, name).device) for name in ("mean", "std")]


@chapter.exercise(
    cases=lambda: [
        Case(label, x, new, name)
        for label, x, new, name in (
            ("20 rows of 3 features", 3 + 2 * numbers(20, 3), numbers(5, 3, seed=1), "output"),
            (
                "50 rows of 4 features in different units",
                torch.tensor([1.0, 5.0, 30.0, 900.0]) * (numbers(50, 4) + 2),
                torch.tensor([1.0, 5.0, 30.0, 900.0]) * numbers(6, 4, seed=1),
                "output",
            ),
            ("9 rows of 1 feature", 4 - numbers(9, 1), numbers(9, 1, seed=1), "other"),
            ("as many features as rows", 5 * numbers(3, 3), numbers(3, 3, seed=1), "output"),
            ("one new row, far away", numbers(8, 2), 100 + numbers(1, 2, seed=1), "other"),
            ("no new row", numbers(8, 2), torch.ones(0, 2), "other"),
            ("very small numbers", 1e-6 * numbers(9, 2), 1e-6 * numbers(4, 2, seed=1), "output"),
            (
                "float64, far from 0",
                1e6 + numbers(9, 2).double() / 100,
                1e6 + numbers(4, 2, seed=1).double() / 100,
                "output",
            ),
        )
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


class _Trunk(nn.Module):
    """A backbone that asks for its mode itself, with modules inside modules."""

    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleDict({"norm": nn.BatchNorm1d(8), "last": nn.Linear(8, 6)})
        self.first = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Dropout(0.2), nn.ELU()))

    def forward(self, x):
        h = self.inner["norm"](self.first(x))
        return self.inner["last"](F.dropout(h, 0.3, training=self.training))


def _flat(dropout=0.5):
    layers = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 6)
    return nn.Sequential(*layers)


def _pretrained(backbone):
    """With weights and running statistics that no other network has."""
    _fill([*backbone.parameters()], seed=40)
    with torch.no_grad():
        for seed in range(3):
            backbone.train()(2 * numbers(16, 4, seed=seed) + 1)
    return backbone


def _small_head():
    return nn.Linear(6, 2)


def _head():
    return nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 2))


def _large_head():
    layers = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.2), nn.Linear(5, 2)
    return nn.Sequential(*layers)


def _trainable(model):
    return sorted(tuple(p.shape) for p in model.parameters() if p.requires_grad)


def _is_among(tensor, others):
    return any(tensor.shape == other.shape and tensor.equal(other) for other in others)


def _state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def _train(model, make_optimizer, x, epochs=2):
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise Shortfall("No parameter of the model requires a gradient: nothing would be trained.")
    optimizer = make_optimizer(trained)
    torch.manual_seed(1)
    for _ in range(epochs):
        model.train()
        for batch in x.split(8):
            loss = model(batch).square().mean()
            if not loss.requires_grad:
                raise Shortfall("The output of the model has no gradient in train mode.")
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            optimizer.step()
        model.eval()
        model(x)


def _trained_by_somebody_else(answer, backbone, head, x, make_optimizer):
    before, fresh = _state(backbone), copy.deepcopy([backbone, head])
    model = made(answer, backbone, head)
    model.eval()
    yield "output", _copied(model(x))
    # The model may hold a copy of the backbone, under names of its own.
    state = list(_state(model).values())
    known = {name for name, tensor in before.items() if _is_among(tensor, state)}
    model = answer(backbone, head)
    _train(model, make_optimizer, x)
    yield "learns", _copied(model(x))
    after, own = list(model.state_dict().values()), backbone.state_dict()
    changed = {name for name, tensor in before.items() if not own[name].equal(tensor)}
    changed |= {name for name in known if not _is_among(before[name], after)}
    yield "still", [name for name in before if name in changed]
    _fill(fresh[0].parameters(), seed=70)
    other = answer(*fresh)
    other.load_state_dict(model.state_dict())
    other.eval()
    yield "saved", _copied(other(x))


def _in_both_modes(answer, backbone, head, x):
    model = answer(backbone, head)
    first = _trainable(model)
    given_back = model.train() is model
    yield "trainable", (first, _trainable(model))
    model.eval()
    given_back = model.train() is model and given_back
    yield "features", [_copied(model(x)) for _ in range(2)]
    yield "given back", model.eval() is model and given_back


def _with_dropout_in_the_head(answer, backbone, head, x):
    model = answer(backbone, head)
    model.train()
    yield "head in train mode", not model(x).equal(model(x))
    model.eval()
    yield "head in eval mode", model(x).equal(model(x))


def _sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.5)


def _adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)


@chapter.exercise(
    cases=lambda: [
        *(
            Case(label, _pretrained(backbone), head, numbers(16, 4, seed=9) * 2 + 3, optimizer)
            for label, backbone, head, optimizer in (
                ("a backbone with BatchNorm and Dropout, trained with SGD", _flat(), _head(), _sgd),
                ("the same, trained with AdamW", _flat(), _large_head(), _adamw),
                ("a backbone of modules inside modules", _Trunk(), _head(), _sgd),
                ("a backbone without Dropout", _flat(dropout=0.0), _small_head(), _sgd),
            )
        ),
        *(
            Case(
                f"{label}, in train mode",
                *(_pretrained(backbone), _small_head(), numbers(6, 4, seed=9) + 2),
                observe=_in_both_modes,
            )
            for label, backbone in (
                ("a backbone with BatchNorm and Dropout", _flat()),
                ("a backbone of modules inside modules", _Trunk()),
                ("a backbone without Dropout", _flat(dropout=0.0)),
            )
        ),
        Case(
            "a backbone in eval mode",
            _pretrained(_flat()).eval(),
            _small_head(),
            numbers(6, 4),
            observe=_in_both_modes,
        ),
        Case(
            "a head with Dropout",
            *(_pretrained(_flat()), _head(), numbers(16, 4)),
            observe=_with_dropout_in_the_head,
        ),
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


_STATISTICS = ("running_mean", "running_var")


def _running(layer):
    found = [require(getattr(layer, name), torch.Tensor, f"`{name}`") for name in _STATISTICS]
    return tuple(map(_copied, found))


def _at_first(answer, features):
    layer = made(answer, features)
    buffers = {name: b for name, b in layer.named_buffers() if name in _STATISTICS}
    yield (
        "start",
        {
            "parameters": {name: _copied(p) for name, p in layer.named_parameters()},
            "buffers": {name: _copied(b) for name, b in buffers.items()},
        },
    )
    saved = layer.state_dict()
    yield "saved", [name for name in ("weight", "bias", *_STATISTICS) if name in saved]


def _over_several_batches(answer, batches):
    layer = made(answer, batches[0].shape[1])
    _fill([layer.weight, layer.bias])
    given = batches[0].clone()
    in_training, moved, in_evaluation, left = [], [], [], []
    for number, batch in enumerate([given, *batches[1:]]):
        in_training.append(_copied(layer.train()(batch)))
        moved.append(_running(layer))
        if number != 1:
            rows = batches[number - 1]
            layer.eval()
            in_evaluation += [_copied(layer(rows)), _copied(layer(rows[:1]))]
            left.append(_running(layer))
    yield "train", in_training
    for name, values in zip(_STATISTICS, zip(*moved, strict=True), strict=True):
        yield name, list(values)
    yield "eval", in_evaluation
    yield "left alone", left
    yield "graph", any(getattr(layer, name).requires_grad for name in _STATISTICS)
    yield "input", given


def _slopes_of_both_modes(answer, x):
    layer = made(answer, x.shape[1])
    _fill([layer.weight, layer.bias])
    given = x.clone().requires_grad_()
    yield "slope", gradients(layer(given), given, layer.weight, layer.bias)
    yield "slope in eval mode", gradients(layer.eval()(given), given, layer.weight, layer.bias)


def _with_options(answer, batches, arguments, options):
    layer = made(answer, batches[0].shape[1], *arguments, **options)
    outputs = [_copied(layer(batch)) for batch in batches]
    yield "options", (outputs, _running(layer), _copied(layer.eval()(batches[0])))


def _batches(number, n, features, scale=1.0, shift=0.0):
    return list(scale * numbers(number, n, features, seed=n) + shift)


def _with_a_constant_column():
    batches = _batches(2, 4, 3)
    for batch in batches:
        batch[:, 1] = 2
    return batches


@chapter.exercise(
    cases=lambda: [
        *(Case(f"a new layer of {n} features", n, observe=_at_first) for n in (1, 4)),
        Case("three batches of five rows, two features around 20", _batches(3, 5, 2, 5, 20)),
        Case("two batches of two rows, one feature", _batches(2, 2, 1)),
        Case("three batches of three rows, three features", _batches(3, 3, 3)),
        Case("three batches of 16 rows, eight features near zero", _batches(3, 16, 8, 0.005)),
        Case("a column with equal numbers", _with_a_constant_column()),
        *(
            Case(label, x, observe=_slopes_of_both_modes)
            for label, x in (
                ("gradients, five rows, three features", 3 * numbers(5, 3) - 2),
                ("gradients, four rows, two features near zero", 0.01 * numbers(4, 2)),
            )
        ),
        *(
            Case(
                f"with {', '.join([*map(str, arguments), *(f'{k}={v}' for k, v in more.items())])}",
                *(_batches(2, 4, 2, 2, 1), arguments, more),
                observe=_with_options,
            )
            for arguments, more in (
                ((), {"eps": 0.1, "momentum": 0.5}),
                ((0.5,), {}),
                ((0.2, 0.7), {}),
                ((), {"momentum": 1.0}),
                ((), {"momentum": 0.0}),
            )
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
