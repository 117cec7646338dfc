"""The exercises of chapter 01: what a module registers, and what follows from it."""

from __future__ import annotations

import torch
from torch import nn

from helpers.exercises.engine import Case, Exercise, Prediction

# Which attributes become parameters -------------------------------------------------------------

listed = Prediction(
    "module.listed",
    title="What does the module list?",
    stars=1,
    minutes=3,
    ask="""
    ```python
    class Inventory(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(2))
            self.shift = torch.zeros(2, requires_grad=True)
            self.head = nn.Linear(2, 1)
            self.extra = [nn.Linear(2, 1)]
    ```

    Which of these names does `Inventory().named_parameters()` give? Write `True` or `False` beside
    each.
    """,
    blank='{"scale": ..., "shift": ..., "head.weight": ..., "extra.0.weight": ...}',
    hints=(
        "`Module.__setattr__` looks at the *type* of what you assign. Which of the four values has "
        "a type that it knows?",
        "It knows `nn.Parameter`, `nn.Module` and `nn.Buffer`. A list is a list, whatever lies in "
        "it.",
    ),
    takeaway="A module lists what it registered: parameters, and the parameters of registered "
    "modules. `requires_grad=True` makes a tensor trainable, not known.",
)


@listed.reference
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


@listed.mistake(
    "`shift` can be trained, since it asks for a gradient; the module does not know of it. Only an "
    "`nn.Parameter` is put on the list by an assignment."
)
def trainable_is_listed():
    return {"shift": torch.zeros(2, requires_grad=True).requires_grad}


@listed.mistake(
    "`extra` is a Python list. The assignment looks at the type of the list, not into it: the "
    "layer inside is invisible to the module. `nn.ModuleList` is the remedy."
)
def lists_are_looked_into():
    return {"extra.0.weight": isinstance([nn.Linear(2, 1)][0], nn.Module)}


@listed.mistake(
    "`head` is a module in a module. It becomes a child, and the parameters of a child are listed "
    "under its name: `head.weight`."
)
def children_are_left_out():
    return {"head.weight": "head.weight" in vars(nn.Linear(2, 1))}


@listed.mistake(
    "`scale` is an `nn.Parameter` and an attribute: that is all the registration there is."
)
def parameters_need_more():
    return {"scale": "scale" in nn.Module().state_dict()}


# nn.Linear by hand ------------------------------------------------------------------------------

Linear = Exercise(
    "module.Linear",
    title="Build `nn.Linear`",
    stars=2,
    minutes=12,
    ask="""
    Write `Linear(in_features, out_features, bias=True)` so that it can stand in for `nn.Linear`:

    - a parameter `weight` of shape `(out_features, in_features)` and a parameter `bias` of shape
      `(out_features,)`, both drawn uniformly between `-1/√in_features` and `1/√in_features`;
    - with `bias=False` there is no bias parameter, and `self.bias` is `None`;
    - the input may have any number of leading dimensions: `(in,)`, `(batch, in)`,
      `(batch, time, in)`.
    """,
    hints=(
        "`torch.empty(3, 2).uniform_(-0.1, 0.1)` draws a tensor; `nn.Parameter(...)` around it "
        "makes the assignment register it.",
        "`x @ self.weight.T` works for any leading dimensions; `x.mm(...)` wants exactly two.",
    ),
    help=(
        (
            "<code>cannot assign parameters before Module.__init__() call</code>",
            "The three dictionaries that a module registers into are made by "
            "<code>super().__init__()</code>.",
        ),
        (
            "<code>mat1 and mat2 shapes cannot be multiplied</code>",
            "The weight is stored as (out, in). Which of its sides must meet the features of "
            "<code>x</code>?",
        ),
    ),
    cases=lambda: [
        Case("3 → 2 features, a batch (4, 3)", 3, 2, True, _numbers(4, 3)),
        Case("3 → 2 features without bias", 3, 2, False, _numbers(4, 3)),
        Case("5 → 1 features, a batch of sequences (2, 7, 5)", 5, 1, True, _numbers(2, 7, 5)),
        Case("50 → 40 features, a single sample (50,)", 50, 40, True, _numbers(50)),
    ],
    takeaway="A layer is two registered tensors and one line of arithmetic. The weight is stored "
    "as (out, in), so that a row holds what one output looks at.",
)


def _numbers(*shape):
    """Fixed, unequal numbers around zero."""
    size = torch.Size(shape).numel()
    return torch.sin(torch.arange(size, dtype=torch.float32)).reshape(shape)


def _fill(module):
    """Give every parameter fixed, unequal numbers, so that outputs can be compared."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(_numbers(*parameter.shape))


@Linear.observe
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


@Linear.starter
class Linear(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        ...

    def forward(self, x):
        """`x` has shape (..., in_features); returns shape (..., out_features)."""
        ...


@Linear.reference
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


@Linear.also_right
class TorchsOwn(nn.Linear):
    """The layer it must agree with."""


@Linear.mistake(
    "Your weight lies the other way round: (in, out). The arithmetic works, but no saved "
    "`nn.Linear` can be loaded into it. Store (out, in) and use `self.weight.T`."
)
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


@Linear.mistake(
    "The module lists no parameters: your tensors are plain attributes, so no optimizer would ever "
    "get them. Wrap them in `nn.Parameter`."
)
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


@Linear.mistake(
    "`super().__init__()` is missing. It makes the dictionaries into which the first assignment "
    "of a parameter is registered."
)
class WithoutSuper(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))


@Linear.mistake(
    "The shapes are right; the first values are not: a standard normal is far wider than "
    "±1/√in_features. The section on initialisation shows what that does to a deep network."
)
class DrawnFromANormal(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.randn(out_features)) if bias else None

    def forward(self, x):
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


@Linear.mistake(
    "All your first values are positive: `torch.rand` draws from 0 to 1. Uniform between -b and b "
    "is `uniform_(-b, b)`, or `(2 * torch.rand(...) - 1) * b`."
)
class DrawnAboveZero(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        bound = in_features**-0.5
        self.weight = nn.Parameter(torch.rand(out_features, in_features) * bound)
        self.bias = nn.Parameter(torch.rand(out_features) * bound) if bias else None

    def forward(self, x):
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


@Linear.mistake(
    "With `bias=False` your module still has a bias. Zeros in a parameter are a start, not a "
    "promise: the optimizer moves them. Set `self.bias = None` instead."
)
class KeepsAZeroBias(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        bound = in_features**-0.5
        self.weight = nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        first = torch.empty(out_features).uniform_(-bound, bound)
        self.bias = nn.Parameter(first if bias else torch.zeros(out_features))

    def forward(self, x):
        return x @ self.weight.T + self.bias


@Linear.mistake(
    "It works for a batch and fails for other inputs: `mm` (and `addmm`) want exactly two "
    "dimensions. `@` takes any number of leading ones."
)
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

count_trainable = Exercise(
    "module.count_trainable",
    title="How many numbers will training change?",
    stars=2,
    minutes=6,
    ask="""
    Write `count_trainable(model)`: how many single numbers training would change. Not how many
    tensors. Not those that are **frozen**, whose `requires_grad` was set to `False`. And where two
    layers share one weight (`second.weight = first.weight`), it is one weight.
    """,
    hints=(
        "`p.numel()` is the number of values in a tensor; `p.requires_grad` says whether it "
        "trains.",
        "`model.parameters()` goes through the whole tree and gives a shared weight once. "
        "`state_dict()` does neither leave out buffers nor join what is shared.",
    ),
    cases=lambda: [
        Case("Linear(10, 5) → ReLU → Linear(5, 2)", _plain_net()),
        Case("the same with the first layer frozen", _frozen_net()),
        Case("two layers that share one weight", _tied_net()),
        Case("a network with BatchNorm, which has buffers", _normalised_net()),
        Case("modules inside modules inside modules", nn.Sequential(_plain_net(), _plain_net())),
        Case("a model without parameters", nn.Sequential(nn.ReLU(), nn.Flatten())),
        Case("a module with a parameter of its own beside its layers", _own_and_childs()),
    ],
    takeaway="`parameters()` walks the tree of modules, gives every parameter once, frozen or not. "
    "What trains is up to `requires_grad`.",
)


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


@count_trainable.starter
def count_trainable(model):
    """The number of single values in `model` that training changes."""
    ...


@count_trainable.reference
def count_trainable(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@count_trainable.also_right
def by_walking_the_modules(model):
    seen, total = set(), 0
    for part in model.modules():
        for parameter in part._parameters.values():
            if parameter is not None and parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                total += parameter.numel()
    return total


@count_trainable.mistake(
    "You count tensors. A weight of shape (5, 10) is one tensor and fifty numbers: sum `p.numel()`."
)
def counts_tensors(model):
    return len([p for p in model.parameters() if p.requires_grad])


@count_trainable.mistake(
    "You count tensors, and the frozen ones with them. A weight of shape (5, 10) is one tensor and "
    "fifty numbers; `p.requires_grad` says whether they train."
)
def counts_all_tensors(model):
    return len(list(model.parameters()))


@count_trainable.mistake(
    "Your function is done after the first parameter: the `return` stands inside the loop. Move it "
    "to the left, below the loop."
)
def returns_in_the_loop(model):
    total = 0
    for p in model.parameters():
        total += p.numel() if p.requires_grad else 0
        return total
    return total


@count_trainable.mistake(
    "You count frozen parameters too. They are still parameters, and listed; `p.requires_grad` "
    "tells them apart."
)
def counts_frozen(model):
    return sum(p.numel() for p in model.parameters())


@count_trainable.mistake(
    "You count what is saved. The state dict also holds buffers, frozen weights, and a shared "
    "weight under each of its names."
)
def counts_what_is_saved(model):
    return sum(tensor.numel() for tensor in model.state_dict().values())


@count_trainable.mistake(
    "You count a shared weight once for each layer that uses it. It is one tensor: the optimizer "
    "moves it once."
)
def counts_shared_twice(model):
    parts = (part for part in model.modules())
    own = (p for part in parts for p in part.parameters(recurse=False))
    return sum(p.numel() for p in own if p.requires_grad)


@count_trainable.mistake(
    "You count what has a gradient. No `backward()` has run on these models yet, so nothing has "
    "one. What *asks* for a gradient is what will be trained."
)
def counts_what_has_a_gradient(model):
    return sum(p.numel() for p in model.parameters() if p.grad is not None)


@count_trainable.mistake(
    "You count everything more than once: `modules()` gives every node of the tree, and "
    "`parameters()` of a node goes all the way down again. One of the two walks is enough."
)
def walks_twice(model):
    parts = model.modules()
    return sum(p.numel() for part in parts for p in part.parameters() if p.requires_grad)


@count_trainable.mistake(
    "You go through the children and leave out the parameters that the model itself holds. "
    "`model.parameters()` has both."
)
def leaves_out_its_own(model):
    found = {id(p): p for part in model.children() for p in part.parameters()}
    return sum(p.numel() for p in found.values() if p.requires_grad)


@count_trainable.mistake(
    "You look at the children of the model only, not at theirs. `model.parameters()` goes all the "
    "way down."
)
def looks_one_level_down(model):
    found = {id(p): p for part in model.children() for p in part.parameters(recurse=False)}
    return sum(p.numel() for p in found.values() if p.requires_grad)


# A network that half exists ---------------------------------------------------------------------

DeepNet = Exercise(
    "module.DeepNet",
    title="Bug hunt: the network that half exists",
    stars=2,
    minutes=12,
    ask="""
    A colleague's network trains, a little. They report: a deeper one has no more parameters than a
    shallow one. After `load_state_dict` the same picture gets other answers. And even in evaluation
    mode, two calls on one picture differ. Nothing is ever raised.

    Mend the class. You are judged by those three complaints, and by the network still doing what it
    did: each block adds to what came before, and drops values while training.
    """,
    start="This is still the class as it was given. `dict(DeepNet(3).named_modules())` shows what "
    "the network knows of itself. What is missing?",
    hints=(
        "Two attributes hold layers in plain Python containers.",
        "`nn.ModuleList` for the one, `nn.ModuleDict` for the other; the `forward` stays as it is.",
    ),
    help=(
        (
            "<code>'ModuleDict' object has no attribute …</code> or a missing key",
            "<code>nn.ModuleDict({...})</code> takes the dictionary as it is and is read in the "
            "same way: <code>.items()</code>, <code>[name]</code>.",
        ),
    ),
    cases=lambda: [
        Case("networks with 2 and 5 blocks", 2, 5),
        Case("networks with 0 and 1 blocks", 0, 1),
    ],
    takeaway="What is not registered is not trained, not saved, not moved and not switched to "
    "evaluation, and nothing complains. The parameter count is the quickest way to see it.",
)


@DeepNet.observe
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


@DeepNet.starter
class DeepNet(nn.Module):
    """Residual blocks and two heads: which digit is it, and is it even?"""

    def __init__(self, depth, width=32):
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = [
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2)) for _ in range(depth)
        ]
        self.heads = {"digit": nn.Linear(width, 10), "even": nn.Linear(width, 2)}

    def forward(self, images):
        h = self.stem(images.flatten(start_dim=1))
        for block in self.blocks:
            h = h + block(h)
        return {name: head(h) for name, head in self.heads.items()}


@DeepNet.reference
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


@DeepNet.also_right
class RegisteredOneByOne(nn.Module):
    def __init__(self, depth, width=32):
        super().__init__()
        self.depth = depth
        self.stem = nn.Linear(64, width)
        for index in range(depth):
            block = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2))
            self.add_module(f"block_{index}", block)
        self.digit, self.even = nn.Linear(width, 10), nn.Linear(width, 2)

    def forward(self, images):
        h = self.stem(images.flatten(start_dim=1))
        for index in range(self.depth):
            h = h + self.get_submodule(f"block_{index}")(h)
        return {"digit": self.digit(h), "even": self.even(h)}


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


@DeepNet.mistake(
    "The blocks are known now, the heads are not: they still lie in a plain `dict`. A loaded "
    "network keeps heads of its own."
)
class HeadsForgotten(_WithParts):
    def __init__(self, depth):
        super().__init__(depth, nn.ModuleList, dict)


@DeepNet.mistake(
    "The heads are known now, the blocks are not: they still lie in a plain `list`. Their dropout "
    "never hears of `eval()`, and no optimizer gets their weights."
)
class BlocksForgotten(_WithParts):
    def __init__(self, depth):
        super().__init__(depth, list, nn.ModuleDict)


@DeepNet.mistake(
    "The complaint about evaluation is gone because the Dropout is: it no longer drops anything in "
    "training either. Keep it, and let `eval()` reach it."
)
class NeverDrops(_WithParts):
    def __init__(self, depth):
        super().__init__(depth, nn.ModuleList, nn.ModuleDict)

    def forward(self, images):
        self.eval()
        return super().forward(images)


@DeepNet.mistake(
    "All your blocks are one and the same: `[block] * depth` puts one object into the list several "
    "times, so a deeper network has no more parameters. Make a new block for each place."
)
class OneBlockManyTimes(_WithParts):
    def __init__(self, depth):
        super().__init__(
            depth, lambda blocks: nn.ModuleList(blocks[:1] * len(blocks)), nn.ModuleDict
        )


@DeepNet.mistake(
    "Everything is registered, and the network computes something else: each block must *add* to "
    "`h` (`h = h + block(h)`). In an `nn.Sequential` that is called as a whole, it replaces it."
)
class BlocksInARow(_WithParts):
    def __init__(self, depth):
        super().__init__(depth, lambda blocks: nn.Sequential(*blocks), nn.ModuleDict)

    def forward(self, images):
        h = self.blocks(self.stem(images.flatten(start_dim=1)))
        return {name: head(h) for name, head in self.heads.items()}


# Buffers ----------------------------------------------------------------------------------------

Standardize = Exercise(
    "module.Standardize",
    title="A layer that carries its statistics",
    stars=2,
    minutes=8,
    ask="""
    Write `Standardize(x)`. It is made from the training features `x` of shape `(n, features)`,
    remembers their mean and standard deviation per feature (as `x.mean` and `x.std` give them)
    under the names `mean` and `std`, and its `forward` standardises any input with *those*.

    The statistics must be saved with the model, move and change dtype with it, and never be
    trained.
    """,
    hints=(
        "Saved, moved and not trained: that is what a buffer is.",
        '`self.register_buffer("mean", …)`, and afterwards `self.mean` is the tensor.',
    ),
    cases=lambda: [
        Case("20 rows of 3 features", 3 + 2 * _numbers(20, 3), _numbers(5, 3)),
        Case("one new row, far from the training data", _numbers(8, 2), 100 + _numbers(1, 2)),
    ],
    takeaway="A buffer is state without a gradient. Preprocessing that lives in the model cannot "
    "be forgotten when the model is deployed.",
)


@Standardize.observe
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


@Standardize.starter
class Standardize(nn.Module):
    def __init__(self, x):
        super().__init__()
        ...

    def forward(self, x):
        """`x` has shape (n, features); so has the result."""
        ...


@Standardize.reference
class Standardize(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean(dim=0))
        self.register_buffer("std", x.std(dim=0))

    def forward(self, x):
        return (x - self.mean) / self.std


@Standardize.also_right
class WithBufferObjects(nn.Module):
    def __init__(self, x):
        super().__init__()
        std, mean = torch.std_mean(x, dim=0, keepdim=True)
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)

    def forward(self, x):
        return x.sub(self.mean).div(self.std)


@Standardize.mistake(
    "Your statistics are parameters: they are counted among what is trained, and handed to every "
    "optimizer. Register them as buffers."
)
class TrainsItsStatistics(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.mean, self.std = nn.Parameter(x.mean(dim=0)), nn.Parameter(x.std(dim=0))

    def forward(self, x):
        return (x - self.mean) / self.std


@Standardize.mistake(
    "Right arithmetic, no memory: your statistics are plain attributes, so the state dict is "
    "empty, and a loaded copy goes on with its own. Register them as buffers."
)
class ForgetsItsStatistics(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.mean, self.std = x.mean(dim=0), x.std(dim=0)

    def forward(self, x):
        return (x - self.mean) / self.std


@Standardize.mistake(
    "`persistent=False` leaves a buffer out of the state dict: it moves with the model and is not "
    "saved with it."
)
class LeavesThemOut(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean(dim=0), persistent=False)
        self.register_buffer("std", x.std(dim=0), persistent=False)

    def forward(self, x):
        return (x - self.mean) / self.std


@Standardize.mistake(
    "One mean for all features: `x.mean()` without `dim=0` runs over everything. Each feature has "
    "its own unit, and needs its own mean and deviation."
)
class MixesTheFeatures(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean())
        self.register_buffer("std", x.std())

    def forward(self, x):
        return (x - self.mean) / self.std


@Standardize.mistake(
    "The result is right, and the input is gone: `sub_` and `div_` (or `-=`, `/=`) write into the "
    "tensor that somebody handed you. Without the underscore they make a new one."
)
class WritesIntoTheInput(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean(dim=0))
        self.register_buffer("std", x.std(dim=0))

    def forward(self, x):
        return x.sub_(self.mean).div_(self.std)


@Standardize.mistake(
    "You standardise each input with its own statistics. Then one row alone becomes zeros or NaN, "
    "and a whole batch that is far from the training data looks ordinary. Use what you stored."
)
class UsesTheNewBatch(nn.Module):
    def __init__(self, x):
        super().__init__()
        self.register_buffer("mean", x.mean(dim=0))
        self.register_buffer("std", x.std(dim=0))

    def forward(self, x):
        return (x - x.mean(dim=0)) / x.std(dim=0)


# Two switches that people take for one ----------------------------------------------------------

modes = Prediction(
    "module.modes",
    title="Which switch does what?",
    stars=1,
    minutes=4,
    ask="""
    True or false? Commit yourself; the cell after this one runs all five.

    | | statement |
    |---|---|
    | a | after `model.eval()`, Dropout lets everything through unchanged |
    | b | after `model.eval()`, BatchNorm lets everything through unchanged |
    | c | after `model.eval()`, no gradients are computed |
    | d | inside `torch.no_grad()`, Dropout drops nothing |
    | e | after `bn.requires_grad_(False)`, a BatchNorm layer stays as it is |
    """,
    blank='{"a": ..., "b": ..., "c": ..., "d": ..., "e": ...}',
    hints=(
        "`eval()` sets one flag, `training`, on every module of the tree. Who reads that flag?",
        "`no_grad()` and `requires_grad` speak to autograd. Who computes the running statistics?",
    ),
    takeaway="`eval()` speaks to layers, `no_grad()` to autograd, `requires_grad` to one tensor. "
    "None does the work of another.",
)


@modes.reference
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


@modes.mistake(
    "a: Dropout is the one layer that eval mode switches off altogether. During training it "
    "already scales what survives, so nothing is left to correct."
)
def dropout_scales_in_eval():
    return {"a": nn.Dropout(0.5).training is False}


@modes.mistake(
    "b: in eval mode BatchNorm still normalises, with its running statistics instead of the "
    "batch's. Only Dropout becomes the identity."
)
def batchnorm_is_off():
    return {"b": torch.equal(nn.Dropout(0.5).eval()(torch.ones(3)), torch.ones(3))}


@modes.mistake(
    "c: `eval()` sets a flag that layers read. Autograd does not read it: gradients are computed "
    "as before. `no_grad()` or `inference_mode()` switch them off."
)
def eval_stops_gradients():
    with torch.no_grad():
        return {"c": not nn.Linear(4, 1)(torch.ones(4)).requires_grad}


@modes.mistake(
    "d: `no_grad()` stops the recording of operations, not the operations. A layer in train mode "
    "goes on dropping."
)
def no_grad_stops_dropout():
    return {"d": torch.equal(nn.Dropout(0.5).eval()(torch.ones(3)), torch.ones(3))}


@modes.mistake(
    "e: `requires_grad_(False)` keeps weight and bias as they are. The running statistics are no "
    "parameters: in train mode, each batch moves them on."
)
def frozen_statistics():
    bn = nn.BatchNorm1d(4).requires_grad_(False)
    return {"e": not any(p.requires_grad for p in bn.parameters())}


# BatchNorm by hand ------------------------------------------------------------------------------

BatchNorm = Exercise(
    "module.BatchNorm",
    title="Build BatchNorm",
    stars=3,
    minutes=20,
    ask="""
    Write `BatchNorm(features, eps=1e-5, momentum=0.1)` for inputs of shape `(n, features)`, so that
    it does what `nn.BatchNorm1d` does:

    - parameters `weight` (ones) and `bias` (zeros), buffers `running_mean` (zeros) and
    `running_var`
      (ones), each of shape `(features,)`;
    - in train mode: normalise with the mean and the *biased* variance of the batch, and move the
      running statistics a tenth of the way (`momentum`) towards the batch's mean and *unbiased*
      variance;
    - in eval mode: normalise with the running statistics, and leave them alone;
    - in both: `(x - mean) / √(var + eps) * weight + bias`.
    """,
    hints=(
        "`self.training` tells the mode. `x.var(dim=0, correction=0)` is the biased variance, "
        "`correction=1` the unbiased one.",
        "`running = (1 - momentum) * running + momentum * batch`; in place, "
        "`self.running_mean.lerp_(mean, self.momentum)` does it.",
        "The statistics must not remember how they were made: update them under `torch.no_grad()`, "
        "or from `mean.detach()`.",
    ),
    help=(
        (
            "<code>a leaf Variable that requires grad is being used in an in-place "
            "operation</code>",
            "A running statistic is a buffer, not a parameter.",
        ),
    ),
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
    takeaway="Two variances in one layer: the biased one normalises, the unbiased one is "
    "remembered. What eval mode uses is a moving average over recent batches, no "
    "statistic of the data set.",
)


@BatchNorm.observe
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


@BatchNorm.starter
class BatchNorm(nn.Module):
    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__()
        ...

    def forward(self, x):
        """`x` has shape (n, features); so has the result."""
        ...


@BatchNorm.reference
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


@BatchNorm.also_right
class TorchsBatchNorm(nn.BatchNorm1d):
    """The layer it must agree with."""


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


@BatchNorm.mistake(
    "You keep a tenth of the old statistics and take nine tenths of the new. torch's `momentum` is "
    "the weight of the *new* batch: `0.9 * running + 0.1 * batch`."
)
class TakesTheNewAlmostWhole(_Attempt):
    def remember(self, x):
        with torch.no_grad():
            self.running_mean.lerp_(x.mean(dim=0), 1 - self.momentum)
            self.running_var.lerp_(x.var(dim=0), 1 - self.momentum)


@BatchNorm.mistake(
    "You remember the biased variance. What normalises the batch is biased (divided by n); what "
    "goes into `running_var` is unbiased (divided by n - 1)."
)
class RemembersTheBiasedVariance(_Attempt):
    def remember(self, x):
        with torch.no_grad():
            self.running_mean.lerp_(x.mean(dim=0), self.momentum)
            self.running_var.lerp_(x.var(dim=0, correction=0), self.momentum)


@BatchNorm.mistake(
    "You normalise with the unbiased variance, which is what `x.var(dim=0)` gives. The batch "
    "itself is normalised with the biased one: `correction=0`."
)
class NormalisesWithTheUnbiased(_Attempt):
    def statistics(self, x):
        mean, var = super().statistics(x)
        return mean, (x.var(dim=0) if self.training else var)


@BatchNorm.mistake(
    "In eval mode your layer still uses the statistics of the batch, so that the answer for one "
    "row depends on its neighbours. Use the running statistics there."
)
class AlwaysUsesTheBatch(_Attempt):
    def statistics(self, x):
        if self.training:
            self.remember(x)
        return x.mean(dim=0), x.var(dim=0, correction=0)


@BatchNorm.mistake(
    "Your running statistics go on moving in eval mode: two calls on the same input differ. Update "
    "them only while `self.training` is true."
)
class RemembersInEvalToo(_Attempt):
    def statistics(self, x):
        self.remember(x)
        if self.training:
            return x.mean(dim=0), x.var(dim=0, correction=0)
        return self.running_mean, self.running_var


@BatchNorm.mistake(
    "You already normalise with the running statistics while training. In train mode the batch's "
    "own mean and variance do it; the running ones are for later."
)
class UsesTheAverageAtOnce(_Attempt):
    def statistics(self, x):
        if self.training:
            self.remember(x)
        return self.running_mean.clone(), self.running_var.clone()


@BatchNorm.mistake(
    "The running statistics never move: in eval mode your layer normalises with zeros and ones. "
    "Update them in each forward pass in train mode."
)
class NeverRemembers(_Attempt):
    def remember(self, x):
        pass


@BatchNorm.mistake(
    "Every value is right, and your running statistics ask for a gradient: computed with gradients "
    "on, they drag the record of every batch along. Update them under `torch.no_grad()`, or from "
    "`mean.detach()`."
)
class DragsTheRecordAlong(_Attempt):
    def remember(self, x):
        self.running_mean = self.running_mean.lerp(x.mean(dim=0), self.momentum)
        self.running_var = self.running_var.lerp(x.var(dim=0), self.momentum)


@BatchNorm.mistake(
    "What comes out is right, what goes back is not: you compute the batch's mean and variance "
    "under `no_grad()`, so the gradient knows nothing of them. Only the *update* belongs there."
)
class CutsTheStatisticsOff(_Attempt):
    def statistics(self, x):
        return super().statistics(x.detach())


@BatchNorm.mistake(
    "`eps` stands outside the root: it is `√(var + eps)`, not `√var + eps`. With a small variance "
    "the two are far apart."
)
class EpsOutsideTheRoot(_Attempt):
    def forward(self, x):
        mean, var = self.statistics(x)
        return (x - mean) / (torch.sqrt(var) + self.eps) * self.weight + self.bias


@BatchNorm.mistake(
    "The numbers 0.1 and 1e-5 stand in your code: the last case asks for others. Use the arguments "
    "`momentum` and `eps`."
)
class IgnoresItsArguments(_Attempt):
    def __init__(self, features, eps=1e-5, momentum=0.1):
        super().__init__(features)


@BatchNorm.mistake(
    "The layer normalises and stops there: multiply by `self.weight` and add `self.bias` at the "
    "end."
)
class WithoutWeightAndBias(_Attempt):
    def forward(self, x):
        mean, var = self.statistics(x)
        return (x - mean) / torch.sqrt(var + self.eps) + 0 * (self.weight + self.bias)


# Fine-tuning ------------------------------------------------------------------------------------

FineTuned = Exercise(
    "module.FineTuned",
    title="A frozen backbone that stays frozen",
    stars=3,
    minutes=15,
    ask="""
    You have not seen this program. A pretrained `backbone` (with BatchNorm and Dropout inside)
    gets a new `head`. Write `FineTuned(backbone, head)`, a module that computes
    `head(backbone(x))` and in which *only the head* trains.

    The training loop belongs to somebody else: it calls `model.train()` before each epoch and hands
    every parameter that requires a gradient to an optimizer. Whatever it does, nothing in the
    backbone may change, its features must not be random, and the head must train as usual (it has a
    Dropout of its own). Backbone and head are both saved with the model.
    """,
    hints=(
        "Three things could move in the backbone: parameters, running statistics, and the random "
        "choice of Dropout. Which switch holds which?",
        "`model.train()` calls `train()` on every child, after whatever you did in `__init__`. A "
        "module may have a `train` method of its own.",
        "`def train(self, mode=True):` … call `super().train(mode)`, put the backbone back into "
        "eval mode, return `self`.",
    ),
    cases=lambda: [
        Case("a small backbone with BatchNorm and Dropout", *_pretrained()),
        Case("a backbone without Dropout", *_pretrained(dropout=0.0)),
    ],
    takeaway="Frozen means two things at once: no gradient for the parameters, eval mode for the "
    "statistics. The next `model.train()` ends eval mode, so it has to be put back each time.",
)


def _pretrained(dropout=0.5):
    torch.manual_seed(3)
    backbone = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 6)
    )
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 2))
    return backbone, head, torch.randn(32, 4) * 2 + 5


@FineTuned.observe
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


@FineTuned.starter
class FineTuned(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        ...

    def forward(self, x):
        """`head(backbone(x))`"""
        ...


@FineTuned.reference
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


@FineTuned.also_right
class SwitchedOffInForward(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x):
        self.backbone.eval()
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(features)


class _Joined(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x):
        return self.head(self.backbone(x))


@FineTuned.mistake("Nothing is frozen: the loop trains the backbone along with the head.")
class TrainsEverything(_Joined):
    """Backbone and head, joined and left as they are."""


@FineTuned.mistake(
    "The weights are frozen, the BatchNorm statistics and the Dropout are not: for them the "
    "backbone must be in eval mode *while the head trains*. An `eval()` in `__init__`, or before "
    "`super().train(mode)`, is undone by the next `model.train()`."
)
class FreezesWeightsOnly(_Joined):
    def __init__(self, backbone, head):
        super().__init__(backbone.requires_grad_(False), head)


@FineTuned.mistake(
    "The statistics hold and the weights do not: eval mode stops no gradient. Add "
    "`requires_grad_(False)` for the backbone."
)
class StaysInEvalAndTrains(_Joined):
    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self


@FineTuned.mistake(
    "The backbone is kept still, and the head with it: its Dropout never comes on. Let "
    "`super().train(mode)` do its work first, then put the backbone alone back into eval mode."
)
class EverythingInEval(_Joined):
    def __init__(self, backbone, head):
        super().__init__(backbone.requires_grad_(False), head)

    def train(self, mode=True):
        return super().train(False)


@FineTuned.mistake(
    "It all holds, but your `train` gives back `None`: `model.train()` must give back the model, "
    "because people write `model = model.train()`. End with `return self`."
)
class ReturnsNothing(_Joined):
    def __init__(self, backbone, head):
        super().__init__(backbone.requires_grad_(False), head)

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()


@FineTuned.mistake(
    "Your `train` takes no argument. `model.eval()` is `model.train(False)`, so it must: "
    "`def train(self, mode=True)`."
)
class TakesNoMode(_Joined):
    def __init__(self, backbone, head):
        super().__init__(backbone.requires_grad_(False), head)

    def train(self):
        super().train()
        self.backbone.eval()
        return self


@FineTuned.mistake(
    "The backbone stays still because the model does not know of it: in a list, it is neither "
    "moved nor saved. Keep it as an attribute of its own."
)
class HidesTheBackbone(nn.Module):
    def __init__(self, backbone, head):
        super().__init__()
        self.hidden, self.head = [backbone.requires_grad_(False).eval()], head

    def forward(self, x):
        return self.head(self.hidden[0](x))


@FineTuned.mistake(
    "The head does not learn: you froze the whole model. Freeze the backbone's parameters only."
)
class FreezesTheHeadToo(_Joined):
    def __init__(self, backbone, head):
        super().__init__(backbone, head)
        self.requires_grad_(False)
