"""The exercises of chapter 05: what a file brings back, and what a crash leaves."""

from __future__ import annotations

import contextlib
import copy
import errno
import io
import math
import os
import pickle
import tempfile
from collections import OrderedDict
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn

from helpers import checkpoint
from helpers.exercises.engine import Case, Exercise, Prediction

# What a state dict holds -------------------------------------------------------------------------

travels = Prediction(
    "serialization.travels",
    title="What does the copy have?",
    stars=1,
    minutes=4,
    ask="""
    ```python
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
            self.register_buffer("mean", torch.zeros(4))
            self.register_buffer("cache", torch.zeros(4), persistent=False)
            self.limit = 1.0

    trained, copy_ = Scaled(), Scaled()
    trained.layers(torch.randn(16, 4) + 5)      # BatchNorm counts along
    trained.mean += 1
    trained.cache += 1
    trained.limit = 2.0
    trained.layers[0].requires_grad_(False)     # frozen
    trained.eval()

    copy_.load_state_dict(trained.state_dict())
    ```

    For each of the six: does `copy_` have it as `trained` has it? Write `True` or `False`.
    """,
    blank="""{
    "BatchNorm's running mean": ...,
    "mean": ...,
    "cache": ...,
    "limit": ...,
    "that layers[0] is frozen": ...,
    "eval mode": ...,
}""",
    hints=(
        "`trained.state_dict()` is a dictionary of tensors. Which of the six are tensors in it?",
        "Parameters are in it, and buffers, unless they were registered with `persistent=False`.",
        "Whether a tensor wants a gradient is a property of the tensor in the model that loads. "
        "Values are copied into it; nothing else is.",
    ),
    takeaway="A state dict holds values: of parameters and of persistent buffers. Settings do not "
    "travel: no mode, no freezing, no plain attribute. The program has to set them again.",
)


@travels.reference
def travels():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
            self.register_buffer("mean", torch.zeros(4))
            self.register_buffer("cache", torch.zeros(4), persistent=False)
            self.limit = 1.0

    trained, copy_ = Scaled(), Scaled()
    trained.layers(torch.randn(16, 4) + 5)
    trained.mean += 1
    trained.cache += 1
    trained.limit = 2.0
    trained.layers[0].requires_grad_(False)
    trained.eval()

    copy_.load_state_dict(trained.state_dict())
    (_, ours), (_, theirs) = copy_.layers, trained.layers
    return {
        "BatchNorm's running mean": torch.equal(ours.running_mean, theirs.running_mean),
        "mean": torch.equal(copy_.mean, trained.mean),
        "cache": torch.equal(copy_.cache, trained.cache),
        "limit": copy_.limit == trained.limit,
        "that layers[0] is frozen": not copy_.layers[0].weight.requires_grad,
        "eval mode": not copy_.training,
    }


@travels.mistake(
    "BatchNorm's running mean is no parameter, and it is saved all the same: it is a buffer. "
    "Without it, the copy would answer differently in eval mode."
)
def only_what_is_learned():
    names = [name for name, _ in nn.BatchNorm1d(8).named_parameters()]
    return {"BatchNorm's running mean": "running_mean" in names}


@travels.mistake(
    "`register_buffer` makes `mean` part of the model's state, so it is saved and loaded. A plain "
    "tensor attribute would not be."
)
def a_buffer_is_an_attribute():
    plain = nn.Module()
    plain.mean = torch.zeros(4)
    return {"mean": "mean" in plain.state_dict()}


@travels.mistake(
    "`cache` is a buffer that was registered with `persistent=False`. It moves with the model and "
    "is left out of its state dict."
)
def every_buffer_is_saved():
    model = nn.Module()
    model.register_buffer("cache", torch.zeros(4), persistent=False)
    return {"cache": "cache" in dict(model.named_buffers())}


@travels.mistake(
    "`limit` is a plain number. A state dict holds tensors that were registered; the copy keeps "
    "the limit that its own `__init__` gave it."
)
def attributes_are_saved():
    whole = nn.Module()
    whole.limit = 2.0
    return {"limit": copy.deepcopy(whole).limit == 2.0}


@travels.mistake(
    "Loading copies values into the tensors of the copy. Whether those want a gradient stays as it "
    "was: a model that was frozen when it was saved trains again after loading."
)
def freezing_travels():
    frozen = nn.Linear(4, 8).requires_grad_(False)
    return {"that layers[0] is frozen": not copy.deepcopy(frozen).weight.requires_grad}


@travels.mistake(
    "The mode is no tensor and is not saved. A new model is in train mode, whatever was saved: "
    "call `eval()` after loading, or Dropout drops and BatchNorm counts."
)
def the_mode_travels():
    return {"eval mode": not copy.deepcopy(nn.Linear(4, 8).eval()).training}


train_keeping_best = Exercise(
    "serialization.train_keeping_best",
    title="Bug hunt: the best model is always the last one",
    stars=2,
    minutes=8,
    ask="""
    After training, the model should have the weights of its best epoch: the one with the lowest
    validation loss (the first of them, if two are equal). A colleague finds that it always has
    those of the last. Nothing is raised, and the loss that comes back is right.

    Mend the function. Whoever holds the model goes on training it afterwards, with the same
    optimizer.
    """,
    start="This is still the function as it was given. After the loop, compare `best` with "
    "`model.state_dict()`, tensor by tensor.",
    hints=(
        "`state_dict()` gives names and tensors. Whose memory do these tensors lie in?",
        "A copy of the dictionary is not a copy of what it holds.",
        "`copy.deepcopy(model.state_dict())` copies both; so does a dict of `.clone()`s.",
    ),
    cases=lambda: [
        Case("the second of four epochs is the best", [0.9, 0.4, 0.6, 0.5]),
        Case("the first is the best", [0.3, 0.4, 0.5]),
        Case("the last is the best", [0.5, 0.4, 0.3]),
        Case("two equal ones: the earlier counts", [0.5, 0.2, 0.2, 0.9]),
        Case("the losses get worse and better", [0.9, 0.4, 0.6, 0.2, 0.7]),
    ],
    takeaway="`state_dict()` is a view on the living model. To remember a moment, copy the tensors "
    "(`copy.deepcopy`) or write them to a file.",
)


@train_keeping_best.observe
def _with_scripted_losses(answer, losses):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    before, trained = list(model.parameters()), []

    def train_epoch(model):
        trained.append(model)
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.add_(1)

    def validate(model):
        return losses[int(model[0].weight.max()) - 1]

    returned = answer(model, train_epoch, validate, len(losses))
    after = list(model.parameters())
    return {
        "returned": returned,
        "the weights are those of epoch": model[0].weight.max().item(),
        "BatchNorm's statistics are those of epoch": model[1].running_mean.max().item(),
        "BatchNorm's counter is that of epoch": model[1].num_batches_tracked.item(),
        "the optimizer's parameters are still the model's": all(
            theirs is ours and ours.requires_grad
            for theirs, ours in zip(before, after, strict=True)
        ),
        "epochs trained": len(trained),
    }


@train_keeping_best.starter
def train_keeping_best(model, train_epoch, validate, epochs):
    """Train for `epochs` epochs, then put the best epoch's weights back; return its loss."""
    best_loss, best = math.inf, None
    for _ in range(epochs):
        train_epoch(model)
        loss = validate(model)
        if loss < best_loss:
            best_loss, best = loss, model.state_dict()
    model.load_state_dict(best)
    return best_loss


@train_keeping_best.reference
def train_keeping_best(model, train_epoch, validate, epochs):
    """Train for `epochs` epochs, then put the best epoch's weights back; return its loss."""
    best_loss, best = math.inf, None
    for _ in range(epochs):
        train_epoch(model)
        loss = validate(model)
        if loss < best_loss:
            best_loss, best = loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    return best_loss


@train_keeping_best.also_right
def through_a_file(model, train_epoch, validate, epochs):
    losses, files = [], []
    for _ in range(epochs):
        train_epoch(model)
        losses.append(validate(model))
        files.append(io.BytesIO())
        torch.save(model.state_dict(), files[-1])
    best = files[losses.index(min(losses))]
    best.seek(0)
    model.load_state_dict(torch.load(best))
    return min(losses)


def _keeping(model, train_epoch, validate, epochs, remember, put_back=None, better=None):
    """The given program with another way to remember."""
    better = better or (lambda loss, best: loss < best)
    best_loss, best = math.inf, None
    for _ in range(epochs):
        train_epoch(model)
        loss = validate(model)
        if better(loss, best_loss):
            best_loss, best = loss, remember(model)
    (put_back or nn.Module.load_state_dict)(model, best)
    return best_loss


@train_keeping_best.mistake(
    "The model still ends with the last epoch. `dict(…)`, `.copy()` and `copy.copy` make a new "
    "list of names that lead to the same living weights: copy the tensors, and put them back in "
    "the end."
)
def copies_the_dictionary(model, train_epoch, validate, epochs):
    return _keeping(model, train_epoch, validate, epochs, lambda model: dict(model.state_dict()))


@train_keeping_best.mistake(
    "The weights are the best epoch's, and BatchNorm's statistics are the last one's: you remember "
    "the parameters only. `state_dict()` has the buffers too."
)
def parameters_only(model, train_epoch, validate, epochs):
    def remember(model):
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    def put_back(model, best):
        model.load_state_dict(best, strict=False)

    return _keeping(model, train_epoch, validate, epochs, remember, put_back)


@train_keeping_best.mistake(
    "The values are right, but the model's parameters are other objects now (that is what "
    "`assign=True` does): the optimizer goes on moving the old ones. Copy the values *into* the "
    "model's own tensors."
)
def assigns(model, train_epoch, validate, epochs):
    def put_back(model, best):
        model.load_state_dict(best, assign=True)

    return _keeping(
        model, train_epoch, validate, epochs, lambda m: copy.deepcopy(m.state_dict()), put_back
    )


@train_keeping_best.mistake(
    "Of two equally good epochs you keep the later one; `<` keeps the first of them."
)
def keeps_the_later(model, train_epoch, validate, epochs):
    return _keeping(
        model,
        train_epoch,
        validate,
        epochs,
        lambda model: copy.deepcopy(model.state_dict()),
        better=lambda loss, best: loss <= best,
    )


# Loading -----------------------------------------------------------------------------------------

load_or_leave = Exercise(
    "serialization.load_or_leave",
    title="All of it, or nothing",
    stars=2,
    minutes=8,
    ask="""
    Write `load_or_leave(model, state)`. If `state` fits the model (the same names, the same
    shapes; order and dtypes may differ), the model takes over its values, and the function returns
    `True`. If it does not, the
    function returns `False`, and the model is in every value what it was before.

    The parameters stay the same objects and go on being trained; `state` stays as it is, then and
    later.
    """,
    hints=(
        "You can look first (names and shapes), or try and take it back, or try on somebody else.",
        "To take it back, you need the old values. Which copy of them is not changed by the "
        "loading?",
        "`copy.deepcopy(model)` is somebody else.",
    ),
    help=(
        (
            "<code>Error(s) in loading state_dict</code>",
            "The state does not fit. By the time this is raised, which tensors were copied?",
        ),
    ),
    cases=lambda: [
        Case("a state that fits", _net(), _net_state()),
        Case("the last layer has another shape", _net(), _net_state(last=3)),
        Case("a name is missing", _net(), _net_state(without="2.bias")),
        Case("a name is too many", _net(), {**_net_state(), "3.weight": torch.ones(2, 2)}),
        Case("BatchNorm's statistics are missing", _net(), _net_state(without="1.running_var")),
        Case("the first layer has another shape", _net(), _net_state(first=5)),
        Case("the same values in float64", _net(), _in_float64(_net_state())),
        Case("the same names in another order", _net(), dict(reversed(_net_state().items()))),
        Case("a name is another one", _net(), _renamed(_net_state(), "0.weight", "0.wieght")),
        Case("a weight is transposed", _net(), {**_net_state(), "0.weight": torch.ones(3, 4)}),
        Case("a statistic is too long", _net(), {**_net_state(), "1.running_mean": torch.ones(5)}),
    ],
    takeaway="`load_state_dict` copies as it goes and complains at the end. What was tried and "
    "failed has changed the model; make a copy first, or try on a copy.",
)


def _net(first=3, last=2):
    return nn.Sequential(nn.Linear(first, 4), nn.BatchNorm1d(4), nn.Linear(4, last))


def _net_state(first=3, last=2, without=""):
    state = _net(first, last).state_dict()
    filled = {name: torch.full_like(tensor, 7) for name, tensor in state.items()}
    return {name: tensor for name, tensor in filled.items() if name != without}


def _renamed(state, old, new):
    return {new if name == old else name: tensor for name, tensor in state.items()}


def _in_float64(state):
    return {name: t.double() if t.is_floating_point() else t for name, t in state.items()}


@load_or_leave.observe
def _what_changed(answer, model, state):
    before, parameters = copy.deepcopy(model.state_dict()), list(model.parameters())
    given = {name: tensor.clone() for name, tensor in state.items()}
    returned = answer(model, state)
    now = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)  # the training goes on
    return {
        "returned": returned,
        "tensors that are no longer what they were": [
            name for name in before if not torch.equal(now[name], before[name])
        ],
        "dtype": str(model[0].weight.dtype),
        "the same parameters, to be trained": all(
            mine is old and mine.requires_grad
            for mine, old in zip(model.parameters(), parameters, strict=True)
        ),
        "in train mode": model.training,
        "`state` is as it was": not checkpoint.differences(dict(state), given),
    }


@load_or_leave.starter
def load_or_leave(model, state):
    """Load `state` whole and return True, or leave `model` alone and return False."""
    ...


@load_or_leave.reference
def load_or_leave(model, state):
    """Load `state` whole and return True, or leave `model` alone and return False."""
    try:
        copy.deepcopy(model).load_state_dict(state)
    except RuntimeError:
        return False
    model.load_state_dict(state)
    return True


@load_or_leave.also_right
def looks_first(model, state):
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    fits = wanted == {name: tensor.shape for name, tensor in state.items()}
    if fits:
        model.load_state_dict(state)
    return fits


@load_or_leave.also_right
def takes_it_back(model, state):
    before = copy.deepcopy(model.state_dict())
    try:
        model.load_state_dict(state)
    except RuntimeError:
        model.load_state_dict(before)
        return False
    return True


@load_or_leave.mistake(
    "When it is raised, the error has done its damage: everything that did fit has been copied. "
    "Going back to a `model.state_dict()` does not help, since its tensors are the model's own: "
    "copy them first."
)
def catches_only(model, state):
    try:
        model.load_state_dict(state)
    except RuntimeError:
        return False
    return True


@load_or_leave.mistake(
    "You compare the names only. Where a shape differs, `load_state_dict` still raises, with part "
    "of the model changed."
)
def compares_names(model, state):
    if model.state_dict().keys() != state.keys():
        return False
    model.load_state_dict(state)
    return True


@load_or_leave.mistake(
    "`strict=False` takes a state in which names are missing or too many. Half a state is loaded, "
    "and you say `True`."
)
def is_not_strict(model, state):
    try:
        copy.deepcopy(model).load_state_dict(state, strict=False)
    except RuntimeError:
        return False
    model.load_state_dict(state, strict=False)
    return True


@load_or_leave.mistake(
    "You look at what the model has and the state has not, not at the reverse: a state with a name "
    "too many is refused, too."
)
def one_direction(model, state):
    for name, tensor in model.state_dict().items():
        if name not in state or state[name].shape != tensor.shape:
            return False
    model.load_state_dict(state, strict=False)
    return True


@load_or_leave.mistake(
    "With `assign=True` the tensors of `state` take the place of the model's: the parameters are "
    "other objects, of another dtype, perhaps, and an optimizer would go on moving the old ones."
)
def assigns_them(model, state):
    try:
        copy.deepcopy(model).load_state_dict(state)
    except RuntimeError:
        return False
    model.load_state_dict(state, assign=True)
    return True


warm_start = Exercise(
    "serialization.warm_start",
    title="Start from somebody else's weights",
    stars=2,
    minutes=10,
    ask="""
    You get the state dict of a model like yours. It was saved from inside a wrapper, which puts
    `module.` (of `DataParallel`) or `_orig_mod.` (of `torch.compile`) before every name, and its
    last layer may have another number of classes. No name of your own begins with such a word.

    Write `warm_start(model, state)`. Every tensor that has the same name (but for one such prefix)
    and the same shape is taken over; all others of the model keep their values. Return the sorted
    list of the names in `model` that were *not* taken over. The parameters stay the same objects,
    and `state` stays as it is.
    """,
    hints=(
        "`name.removeprefix(prefix)` removes a word at the front; `lstrip` removes *letters*.",
        "`strict=False` forgives missing and unexpected names. It does not forgive another shape: "
        "leave those tensors out yourself.",
        "What `load_state_dict(..., strict=False)` returns has `missing_keys`.",
    ),
    help=(
        (
            "<code>size mismatch for …</code>",
            "<code>strict=False</code> is about names. Choose what fits before you load.",
        ),
    ),
    cases=lambda: [
        Case("saved from inside DataParallel", *_pair("module.")),
        Case("saved from a compiled model", *_pair("_orig_mod.")),
        Case("no wrapper", *_pair("")),
        Case("no wrapper, and three classes in place of two", *_pair("", classes=3)),
        Case("DataParallel, and three classes", *_pair("module.", classes=3)),
        Case("a part of the model is called submodule", *_pair("module.", part="submodule")),
        Case("one weight is transposed", *_pair("", transposed=True)),
        Case("an unknown word is in front", *_pair("teacher.")),
    ],
    takeaway="Names and shapes are all that a state dict can be matched by. Whatever was not taken "
    "over starts from scratch, and only a report tells you.",
)


class _Classifier(nn.Module):
    def __init__(self, part, classes):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.model = nn.Linear(3, 4)
        self.add_module(part, nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)))
        self.head = nn.Linear(4, classes)


def _pair(prefix, part="body", classes=2, transposed=False):
    """A model of two classes, and a state to start it from."""
    state = _Classifier(part, classes).state_dict()
    filled = {f"{prefix}{name}": torch.full_like(t, 7) for name, t in state.items()}
    if transposed:
        filled["model.weight"] = filled["model.weight"].T
    return _Classifier(part, 2), filled


@warm_start.observe
def _what_it_took(answer, model, state):
    given, parameters = list(state), list(model.parameters())
    returned = answer(model, state)
    taken = [name for name, t in model.state_dict().items() if bool((t == 7).all())]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)  # the training goes on
    return {
        "returned": returned,
        "taken over": taken,
        "the same parameters": all(
            mine is old for mine, old in zip(model.parameters(), parameters, strict=True)
        ),
        "`state` is as it was": list(state) == given
        and all(bool((tensor == 7).all()) for tensor in state.values()),
    }


@warm_start.starter
def warm_start(model, state):
    """Take over what fits; return the names of what did not."""
    ...


@warm_start.reference
def warm_start(model, state):
    """Take over what fits; return the names of what did not."""
    own = model.state_dict()
    fitting = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.").removeprefix("_orig_mod.")
        if name in own and own[name].shape == tensor.shape:
            fitting[name] = tensor
    return sorted(model.load_state_dict(fitting, strict=False).missing_keys)


@warm_start.also_right
def copies_by_hand(model, state):
    kept = []
    for name, own in model.state_dict().items():
        names = [
            prefix + name for prefix in ("", "module.", "_orig_mod.") if prefix + name in state
        ]
        if names and state[names[0]].shape == own.shape:
            own.copy_(state[names[0]])
        else:
            kept.append(name)
    return sorted(kept)


def _warm(model, state, rename):
    """The solution, with another way to rename."""
    own = model.state_dict()
    renamed = {rename(name): tensor for name, tensor in state.items()}
    fitting = {n: t for n, t in renamed.items() if n in own and own[n].shape == t.shape}
    return sorted(model.load_state_dict(fitting, strict=False).missing_keys)


@warm_start.mistake(
    "`lstrip('module.')` strips *letters*: any of m, o, d, u, l, e and the dot, as many as come. "
    "Of `module.model.weight` only `weight` is left. `removeprefix` removes the word."
)
def strips_letters(model, state):
    return _warm(model, state, lambda name: name.lstrip("module.").removeprefix("_orig_mod."))


@warm_start.mistake(
    "`lstrip('module.')` strips *letters*, any of m, o, d, u, l, e and the dot: of "
    "`module.model.weight` only `weight` is left. Use `removeprefix`, and think of the compiled "
    "model's `_orig_mod.`, too."
)
def strips_letters_only(model, state):
    return _warm(model, state, lambda name: name.lstrip("module."))


@warm_start.mistake(
    "You take the parameters and forget the buffers: `mean` is part of the state like any weight, "
    "and it is neither taken over nor in your list."
)
def parameters_alone(model, state):
    own = dict(model.named_parameters())
    renamed = {n.removeprefix("module.").removeprefix("_orig_mod."): t for n, t in state.items()}
    fitting = {n: t for n, t in renamed.items() if n in own and own[n].shape == t.shape}
    model.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())


@warm_start.mistake(
    "You remove `module.` wherever it stands, in `submodule.0.weight` too. It is a prefix: only "
    "the front of the name is meant."
)
def replaces_everywhere(model, state):
    return _warm(model, state, lambda name: name.replace("module.", "").replace("_orig_mod.", ""))


@warm_start.mistake(
    "You always cut the name after the first dot. Where there was no wrapper, that takes away a "
    "part of the real name."
)
def cuts_always(model, state):
    return _warm(model, state, lambda name: name.partition(".")[2])


@warm_start.mistake(
    "A compiled model has another prefix, `_orig_mod.`: nothing of it was taken over."
)
def knows_one_wrapper(model, state):
    return _warm(model, state, lambda name: name.removeprefix("module."))


@warm_start.mistake(
    "`strict=False` forgives names, not shapes: the head with three classes still raises. Leave "
    "out what does not fit before you load."
)
def trusts_strict(model, state):
    renamed = {n.removeprefix("module.").removeprefix("_orig_mod."): t for n, t in state.items()}
    return sorted(model.load_state_dict(renamed, strict=False).missing_keys)


@warm_start.mistake(
    "You return the names that the *state* has and the model can't use. Asked for are the model's "
    "own names that keep their first values: those are what you still have to train."
)
def reports_the_others(model, state):
    own = model.state_dict()
    renamed = {n.removeprefix("module.").removeprefix("_orig_mod."): t for n, t in state.items()}
    fitting = {n: t for n, t in renamed.items() if n in own and own[n].shape == t.shape}
    model.load_state_dict(fitting, strict=False)
    return sorted(renamed.keys() - fitting.keys())


# What may be in a file -------------------------------------------------------------------------

accepted = Prediction(
    "serialization.accepted",
    title="Which of these can you load again?",
    stars=1,
    minutes=4,
    ask="""
    ```python
    losses = np.array([0.5, 0.25])
    ```

    Each of these values was saved with `torch.save({"value": …}, file)`, without a complaint. Which
    does `torch.load(file)` give back? Write `True` or `False`.
    """,
    blank="""{
    "losses.mean()": ...,
    "losses.mean().item()": ...,
    "torch.from_numpy(losses)": ...,
    "Path('digits.csv')": ...,
    "torch.float32": ...,
    "OrderedDict(lr=0.1)": ...,
}""",
    hints=(
        "The default loader builds tensors and the plain things that Python is made of. To build "
        "anything else, it would have to call a function that the file names.",
        "What is the type of `losses.mean()`? Try `type(...)` in a new cell.",
    ),
    takeaway="Tensors, numbers, strings, lists, tuples, dicts, torch's own dtypes and shapes come "
    "back. NumPy's numbers look like Python's and are refused, and you learn that only when you "
    "load. `.item()` first.",
)


@accepted.reference
def accepted():
    losses = np.array([0.5, 0.25])
    values = {
        "losses.mean()": losses.mean(),
        "losses.mean().item()": losses.mean().item(),
        "torch.from_numpy(losses)": torch.from_numpy(losses),
        "Path('digits.csv')": Path("digits.csv"),
        "torch.float32": torch.float32,
        "OrderedDict(lr=0.1)": OrderedDict(lr=0.1),
    }

    def comes_back(value):
        file = io.BytesIO()
        torch.save({"value": value}, file)
        file.seek(0)
        try:
            torch.load(file)
        except pickle.UnpicklingError:
            return False
        return True

    return {name: comes_back(value) for name, value in values.items()}


@accepted.mistake(
    "`losses.mean()` is a `np.float64`. It prints like a number and is none of Python's: to make "
    "one again, NumPy's own function would have to be called, and the loader refuses."
)
def a_number_is_a_number():
    return {"losses.mean()": isinstance(np.array([0.5, 0.25]).mean(), float)}


@accepted.mistake(
    "`.item()` turns NumPy's number into a Python float, and floats are among what is always taken."
)
def nothing_from_numpy():
    return {"losses.mean().item()": isinstance(np.float64(0.375).item(), np.float64)}


@accepted.mistake(
    "A tensor is a tensor, whoever made its memory: `torch.from_numpy` gives one, and it is saved "
    "like any other."
)
def a_tensor_of_numpy_is_numpys():
    return {"torch.from_numpy(losses)": not hasattr(torch.from_numpy(np.ones(2)), "numpy")}


@accepted.mistake(
    "A `Path` is an object of a class of its own, and the loader builds no objects. Save "
    "`str(path)`."
)
def a_path_is_text():
    return {"Path('digits.csv')": str(Path("digits.csv")) == "digits.csv"}


@accepted.mistake("torch's own small types, such as dtypes, shapes and devices, are taken.")
def a_dtype_is_an_object():
    return {"torch.float32": isinstance(torch.float32, (int, str))}


@accepted.mistake(
    "`OrderedDict` is what every `state_dict()` is made of, so the loader must take it, and does."
)
def only_plain_dicts():
    return {"OrderedDict(lr=0.1)": type(OrderedDict(lr=0.1)) is dict}


# Resuming ----------------------------------------------------------------------------------------

PIECES = ("order", "buffers", "scheduler", "random", "optimizer")
_STEPS = 6


def mystery_runs() -> dict[str, dict[str, int | None]]:
    """Five resumed trainings, A to E, each without one of ``PIECES``, beside one never interrupted.

    For each run and each of the four things logged: the first step after the interruption at which
    the two differ, or None if they never do.
    """
    true = _Run(seed=0)
    true.train(_STEPS)
    saved = copy.deepcopy(true.state())
    wanted = true.train(_STEPS)
    runs = {}
    for letter, piece in zip("ABCDE", PIECES, strict=True):
        resumed = _Run(seed=1)
        resumed.restore(copy.deepcopy(saved), without=piece)
        runs[letter] = _first_differences(wanted, resumed.train(_STEPS))
    return runs


def _first_differences(wanted, got):
    pairs = list(enumerate(zip(wanted, got, strict=True)))
    return {
        name: next((step for step, (ours, theirs) in pairs if ours[name] != theirs[name]), None)
        for name in wanted[0]
    }


class _Run:
    """A small training with everything that can be forgotten in a checkpoint."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(80, 5, generator=generator)
        self.y = torch.randint(3, (80,), generator=generator)
        torch.manual_seed(seed)
        self.model = nn.Sequential(
            nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=_STEPS + 2)
        self.order = checkpoint.ShuffledBatches(len(self.x), 10)

    def train(self, steps):
        log = []
        while True:
            for rows in self.order:
                log.append({"learning rate": self.optimizer.param_groups[0]["lr"]})
                log[-1]["batch"] = rows
                log[-1]["validation loss"] = self.validation_loss()
                loss = nn.functional.cross_entropy(self.model(self.x[rows]), self.y[rows])
                log[-1]["training loss"] = loss.item()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.scheduler.step()
                if len(log) == steps:
                    return log

    @torch.no_grad()
    def validation_loss(self):
        self.model.eval()
        loss = nn.functional.cross_entropy(self.model(self.x), self.y).item()
        self.model.train()
        return loss

    def state(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "order": self.order.state_dict(),
            "random": torch.get_rng_state(),
        }

    def restore(self, state, without=""):
        model = state["model"]
        if without == "buffers":
            names = {name for name, _ in self.model.named_parameters()}
            model = {name: tensor for name, tensor in model.items() if name in names}
        self.model.load_state_dict(model, strict=False)
        for name in ("optimizer", "scheduler", "order"):
            if name != without:
                getattr(self, name).load_state_dict(state[name])
        if without != "random":
            torch.set_rng_state(state["random"])


missing_piece = Prediction(
    "serialization.missing_piece",
    title="Which piece was not in the checkpoint?",
    stars=2,
    minutes=8,
    ask="""
    Each row of the table above is a training that was resumed without one piece. Which one? Write
    one of `"order"` (the place in the shuffled data), `"buffers"` (BatchNorm's statistics),
    `"scheduler"`, `"random"` (the generator that Dropout draws from), `"optimizer"` (its momentum;
    the learning rate was set again by hand) for each letter.
    """,
    blank='{"A": ..., "B": ..., "C": ..., "D": ..., "E": ...}',
    hints=(
        "Two columns accuse one piece each: a learning rate can only be wrong by the scheduler, a "
        "batch only by the order.",
        "Step 0 uses the weights as they were loaded. Momentum changes weights only *in* that "
        "step, so the first loss that can show it is the next one.",
        "In train mode, BatchNorm uses the batch's statistics. Who uses the running ones?",
    ),
    takeaway="The first step at which a log differs, and the column it differs in, tell what was "
    "missing. A training loss that is equal to the bit proves nothing about what eval mode uses.",
)


@missing_piece.reference
def missing_piece():
    def piece(first):
        if first["learning rate"] is not None:
            return "scheduler"
        if first["batch"] is not None:
            return "order"
        if first["training loss"] is None:
            return "buffers"
        return "random" if first["training loss"] == 0 else "optimizer"

    return {letter: piece(first) for letter, first in mystery_runs().items()}


def _confuse(**swapped):
    """The right answer with two pieces taken for one another."""
    right = missing_piece.answer_right
    return {letter: swapped.get(piece, piece) for letter, piece in right.items()}


@missing_piece.mistake(
    "Two are swapped: the optimizer and the random state. Without the right random numbers, "
    "Dropout drops others in the very first forward pass, so the first training loss is another "
    "one. The optimizer acts only after that pass."
)
def optimizer_for_random():
    return _confuse(optimizer="random", random="optimizer")


@missing_piece.mistake(
    "Two are swapped: the order and the random state. Both change the first training loss; but "
    "only a wrong place in the data gives another *batch*."
)
def order_for_random():
    return _confuse(order="random", random="order")


@missing_piece.mistake(
    "Two are swapped: the buffers and the optimizer. A run whose training loss never differs has "
    "its momentum. What differs is what eval mode uses, and from the start: BatchNorm's running "
    "statistics."
)
def buffers_for_optimizer():
    return _confuse(buffers="optimizer", optimizer="buffers")


@missing_piece.mistake(
    "Two are swapped: the scheduler and the optimizer. Only the scheduler sets the learning rate; "
    "the run without momentum has the right rate at every step."
)
def scheduler_for_optimizer():
    return _confuse(scheduler="optimizer", optimizer="scheduler")


@missing_piece.mistake(
    "Two are swapped: the buffers and the scheduler. The learning rate is a column of its own: the "
    "run in which it differs lacks its scheduler."
)
def buffers_for_scheduler():
    return _confuse(buffers="scheduler", scheduler="buffers")


Trainer = Exercise(
    "serialization.Trainer",
    title="Bug hunt: two networks, one file",
    stars=3,
    minutes=15,
    ask="""
    A GAN has two networks that are trained against each other. This trainer saves and loads both,
    and the resumed training is not the one that was interrupted. Nothing is raised.

    Mend `state_dict` and `load_state_dict`, so that a new trainer goes on as if nothing had
    happened, to the bit. What `state_dict` returns is written by `torch.save` and read by
    `torch.load`, with their defaults. Leave `__init__` and `step` as they are.
    """,
    start="This is still the trainer as it was given. Go through `step` line by line, and ask of "
    "everything it reads: is that the same after loading?",
    hints=(
        "List every attribute that `step` reads *and* changes. How many of them are saved?",
        "A `torch.Generator` has `get_state()` and `set_state()`; the state is a tensor.",
        "`self.average` is a module like the others, and `self.steps` decides when the generator "
        "is trained.",
    ),
    help=(
        (
            "<code>Weights only load failed</code>",
            "Save tensors, numbers and dicts of them: the <em>state</em> of an object.",
        ),
    ),
    cases=lambda: [
        Case("interrupted after 5 steps", 5),
        Case("interrupted after 4 steps", 4),
    ],
    takeaway="Whatever a step reads and changes belongs in the checkpoint: every network, every "
    "optimizer, every generator, every average and every counter.",
)


@Trainer.observe
def _goes_on(answer, steps):
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(8, 2, generator=generator) + 3 for _ in range(2 * steps)]
    first = answer(seed=0)
    for real in batches[:steps]:
        first.step(real)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = answer(seed=1)
    second.load_state_dict(torch.load(file))
    wanted, got = ([one.step(real) for real in batches[steps:]] for one in (first, second))
    own = [*second.maker.parameters(), *second.critic.parameters()]
    moved = [*_parameters(second.maker_optimizer), *_parameters(second.critic_optimizer)]
    same_losses = [ours == theirs for ours, theirs in zip(wanted, got, strict=True)]
    return {
        "the optimizers move the networks": [id(p) for p in own] == [id(p) for p in moved],
        "steps with the right loss": sum(same_losses),
        "the same networks": [
            name
            for name in ("maker", "critic", "average")
            if not checkpoint.differences(
                getattr(first, name).state_dict(), getattr(second, name).state_dict()
            )
        ],
        "the same optimizers": [
            name
            for name in ("maker_optimizer", "critic_optimizer")
            if not checkpoint.differences(
                getattr(first, name).state_dict(), getattr(second, name).state_dict()
            )
        ],
        "steps counted": second.steps,
    }


def _parameters(optimizer):
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@Trainer.starter
class Trainer:
    def __init__(self, seed):
        torch.manual_seed(seed)
        self.maker, self.critic = nn.Linear(2, 2), nn.Linear(2, 1)
        self.average = copy.deepcopy(self.maker)
        self.maker_optimizer = torch.optim.Adam(self.maker.parameters(), lr=0.05)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=0.05)
        self.noise = torch.Generator().manual_seed(seed)
        self.steps = 0

    def step(self, real):
        """One step of the critic; every third time, also one of the maker."""
        fake = self.maker(torch.randn(len(real), 2, generator=self.noise))
        loss = self.critic(fake.detach()).mean() - self.critic(real).mean()
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        self.steps += 1
        if self.steps % 3 == 0:
            self.maker_optimizer.zero_grad()
            (-self.critic(fake).mean()).backward()
            self.maker_optimizer.step()
        self.average.weight.data.lerp_(self.maker.weight.data, 0.1)
        return loss.item()

    def state_dict(self):
        names = ("maker", "critic", "maker_optimizer")
        return {name: getattr(self, name).state_dict() for name in names}

    def load_state_dict(self, state):
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)


@Trainer.reference
class Trainer:
    def __init__(self, seed):
        torch.manual_seed(seed)
        self.maker, self.critic = nn.Linear(2, 2), nn.Linear(2, 1)
        self.average = copy.deepcopy(self.maker)
        self.maker_optimizer = torch.optim.Adam(self.maker.parameters(), lr=0.05)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=0.05)
        self.noise = torch.Generator().manual_seed(seed)
        self.steps = 0

    def step(self, real):
        """One step of the critic; every third time, also one of the maker."""
        fake = self.maker(torch.randn(len(real), 2, generator=self.noise))
        loss = self.critic(fake.detach()).mean() - self.critic(real).mean()
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        self.steps += 1
        if self.steps % 3 == 0:
            self.maker_optimizer.zero_grad()
            (-self.critic(fake).mean()).backward()
            self.maker_optimizer.step()
        self.average.weight.data.lerp_(self.maker.weight.data, 0.1)
        return loss.item()

    parts = ("maker", "critic", "average", "maker_optimizer", "critic_optimizer")

    def state_dict(self):
        state = {name: getattr(self, name).state_dict() for name in self.parts}
        return {**state, "noise": self.noise.get_state(), "steps": self.steps}

    def load_state_dict(self, state):
        for name in self.parts:
            getattr(self, name).load_state_dict(state[name])
        self.noise.set_state(state["noise"])
        self.steps = state["steps"]


_Gan = Trainer.answer_right


@Trainer.also_right
class SavesWhateverHasAState(_Gan):
    def state_dict(self):
        return {name: self._state_of(part) for name, part in vars(self).items()}

    def _state_of(self, part):
        if isinstance(part, torch.Generator):
            return part.get_state()
        return part.state_dict() if hasattr(part, "state_dict") else part

    def load_state_dict(self, state):
        for name, saved in state.items():
            part = getattr(self, name)
            if isinstance(part, torch.Generator):
                part.set_state(saved)
            elif hasattr(part, "load_state_dict"):
                part.load_state_dict(saved)
            else:
                setattr(self, name, saved)


class _Forgetful(_Gan):
    """A trainer that saves all but what ``left_out`` names."""

    left_out: tuple[str, ...] = ()

    def state_dict(self):
        names = ("maker", "critic", "average", "maker_optimizer", "critic_optimizer")
        state = {n: getattr(self, n).state_dict() for n in names if n not in self.left_out}
        own = {"noise": self.noise.get_state(), "steps": self.steps}
        return state | {name: value for name, value in own.items() if name not in self.left_out}

    def load_state_dict(self, state):
        for name, value in state.items():
            if name == "noise":
                self.noise.set_state(value)
            elif name == "steps":
                self.steps = value
            else:
                getattr(self, name).load_state_dict(value)


@Trainer.mistake(
    "One optimizer is still missing: the critic's. Each has its own memory, and one of them starts "
    "with none."
)
class WithoutTheCriticsOptimizer(_Forgetful):
    left_out = ("critic_optimizer",)


@Trainer.mistake(
    "One thing is left: the noise. `self.noise` is a generator of its own, which the new trainer "
    "seeds anew: the maker gets other noise than it would have got. Save its state."
)
class WithoutTheNoise(_Forgetful):
    left_out = ("noise",)


@Trainer.mistake(
    "One thing is left: the counter. It decides in which steps the maker is trained, and the new "
    "trainer counts from 0."
)
class WithoutTheCounter(_Forgetful):
    left_out = ("steps",)


@Trainer.mistake(
    "One thing is left: the average of the maker's weights. No loss depends on it, so no loss "
    "betrays it; but it is the network that would be used in the end."
)
class WithoutTheAverage(_Forgetful):
    left_out = ("average",)


@Trainer.mistake(
    "Left are the noise and the counter (and the average, if you did not save it): they are easily "
    "forgotten. `get_state()` gives a generator's state, a number is saved as it is."
)
class NoNoiseNoCounter(_Forgetful):
    left_out = ("noise", "steps")


@Trainer.mistake(
    "You save the generator itself. `torch.load` builds tensors and plain values and refuses the "
    "object. Save what describes it: `self.noise.get_state()`, a tensor; `set_state` puts it back."
)
class SavesTheGenerator(_Forgetful):
    def state_dict(self):
        return {**super().state_dict(), "noise": self.noise}


@Trainer.mistake(
    "With `assign=True` the networks get new parameters, and the optimizers go on moving the old "
    "ones: nothing learns any more. Copy the values into the parameters that are there."
)
class AssignsTheNetworks(_Forgetful):
    def load_state_dict(self, state):
        networks = ("maker", "critic", "average")
        for name in networks:
            getattr(self, name).load_state_dict(state[name], assign=True)
        super().load_state_dict({name: state[name] for name in state if name not in networks})


# Writing -----------------------------------------------------------------------------------------

save_safely = Exercise(
    "serialization.save_safely",
    title="Never lose the last good checkpoint",
    stars=3,
    minutes=15,
    ask="""
    Write `save_safely(state, path)`. It saves `state` with `torch.save`, so that at every moment
    `path` is a whole checkpoint: the old one, or the new one.

    - While it writes, the old file stays untouched.
    - Only when all bytes of the new one are on the disk does it take the old one's place.
    - If something fails, or somebody interrupts, the error comes through, the old file is there,
      and no new file is left in the folder. (Other people keep files there, too.)
    - A folder on another disk is of no help: between two disks, renaming is copying.
    """,
    hints=(
        "Write to another name in the *same folder*, then `os.replace(temporary, path)`: within "
        "one file system that is a single step.",
        "`torch.save(state, file)` takes an open file. Python and the system both keep what was "
        "written in memory for a while: `file.flush()` hands it to the system, "
        "`os.fsync(file.fileno())` makes the system write it.",
        "`try: … except BaseException: temporary.unlink(missing_ok=True); raise` cleans up and "
        "lets the error through.",
    ),
    cases=lambda: [
        Case("a good save over an old checkpoint", "nothing"),
        Case("the disk is full in the middle of writing", "writing"),
        Case("an interrupt in the middle of writing", "interrupt"),
        Case("renaming fails", "renaming"),
        Case("a first save, into an empty folder", "first"),
    ],
    takeaway="Write beside it, flush, fsync, replace. In that order, and in the same folder: then "
    "there is no moment at which a crash can cost you more than the newest checkpoint.",
)


@save_safely.observe
def _with_faults(answer, fault):
    with tempfile.TemporaryDirectory() as folder:
        path, neighbour = Path(folder, "last.pt"), Path(folder, "neighbour.tmp")
        neighbour.touch()
        if fault != "first":
            torch.save({"step": 1}, path)
        disk = _Disk(path, fault)
        with disk.watched():
            try:
                answer({"step": 2, "weights": torch.arange(5000.0)}, path)
                ended = "no error"
            except OSError as error:
                ended = f"OSError: {error.strerror}"
            except KeyboardInterrupt:
                ended = "KeyboardInterrupt"
        return {
            "the call ended with": ended,
            "in the file": _step_in(path),
            "in the file during the writing": disk.while_writing,
            "new files left": len(set(Path(folder).iterdir()) - {path, neighbour}),
            "the neighbour's file is there": neighbour.exists(),
            "on the disk before it got its name": disk.on_the_disk,
            "written in the folder of the checkpoint": disk.within_the_folder,
        }


def _step_in(path):
    try:
        return f"step {torch.load(path)['step']}"
    except FileNotFoundError:
        return "no file"
    except Exception:
        return "half a checkpoint"


class _Disk:
    """Watches how a file comes to its name, and fails on request."""

    def __init__(self, path, fault):
        self.path, self.fault = path, fault
        self.while_writing = "never written"
        self.synced: dict[int, int] = {}  # how many bytes of each file were synced
        self.on_the_disk = "nothing"  # of the file, when it got its name
        self.within_the_folder = True

    @contextlib.contextmanager
    def watched(self):
        replaced = {
            "replace": self._watched(os.replace),
            "rename": self._watched(os.rename),
            "fsync": self._fsync,
            "fdatasync": self._fsync,
            "sync": self._sync,
        }
        replaced = {name: new for name, new in replaced.items() if hasattr(os, name)}
        with (
            mock.patch.multiple(os, **replaced),
            # up to Python 3.10, pathlib keeps functions that it took from os when it was imported
            mock.patch.multiple(Path, replace=_by_os("replace"), rename=_by_os("rename")),
            mock.patch.object(torch, "save", self._save),
        ):
            yield

    def _save(self, state, file, *arguments, **options):
        buffer = io.BytesIO()
        _torch_save(state, buffer, *arguments, **options)
        content = buffer.getvalue()
        half = len(content) // 2
        by_name = isinstance(file, (str, os.PathLike))
        with open(file, "wb") if by_name else contextlib.nullcontext(file) as opened:
            for part in (content[:half], content[half:-100], content[-100:]):
                opened.write(part)
                self.while_writing = _step_in(self.path)
                if self.fault == "writing":
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if self.fault == "interrupt":
                    raise KeyboardInterrupt

    def _fsync(self, handle):
        handle = handle if isinstance(handle, int) else handle.fileno()
        self._note(os.fstat(handle))
        return _os_fsync(handle)

    def _sync(self):
        for file in self.path.parent.iterdir():
            self._note(file.stat())

    def _note(self, facts):
        self.synced[facts.st_ino] = facts.st_size

    def _watched(self, rename):
        def renamed(source, target, **options):
            facts = os.stat(source)
            if Path(target).name == self.path.name:
                parts = {None: "nothing", facts.st_size: "all of it"}
                self.on_the_disk = parts.get(self.synced.get(facts.st_ino), "a part of it")
                folders = Path(source).resolve().parents
                self.within_the_folder &= self.path.resolve().parent in folders
            if self.fault == "renaming":
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            return rename(source, target, **options)

        return renamed


def _by_os(name):
    """A method of ``Path`` that asks the function of this name in ``os`` whenever it is called."""

    def method(self, target):
        getattr(os, name)(self, target)
        return type(self)(target)

    return method


_torch_save, _os_fsync = torch.save, os.fsync


@save_safely.starter
def save_safely(state, path):
    """Save `state` to `path` (a `Path`), so that a crash never costs the old file."""
    ...


@save_safely.reference
def save_safely(state, path):
    """Save `state` to `path` (a `Path`), so that a crash never costs the old file."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@save_safely.also_right
def with_tempfile(state, path):
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            torch.save(state, file)
            os.fsync(file)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


@save_safely.also_right
def in_a_folder_of_its_own(state, path):
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder, "new")
        torch.save(state, temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)


@save_safely.mistake(
    "You write into the old checkpoint itself. From the first byte until the last, there is no "
    "whole checkpoint on the disk: a crash then costs both."
)
def straight_into_it(state, path):
    torch.save(state, path)


@save_safely.mistake(
    "The new file gets its name before its bytes are on the disk: the system still holds them in "
    "memory, and a power cut leaves an empty file under the good name. `flush()`, then "
    "`os.fsync(file.fileno())`, before you replace."
)
def without_fsync(state, path):
    temporary = path.with_name("temporary")
    try:
        torch.save(state, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@save_safely.mistake(
    "`os.fsync` writes what the system has. The last bytes are not there yet: Python keeps them in "
    "the file object's buffer. `file.flush()` first."
)
def without_flush(state, path):
    temporary = path.with_name("temporary")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@save_safely.mistake(
    "When the writing or the renaming fails, half a file stays behind in the folder. Remove it, "
    "and let the error through."
)
def leaves_a_half(state, path):
    temporary = path.with_name("temporary")
    with open(temporary, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


@save_safely.mistake(
    "You remove the old checkpoint before the new one has its name. Between the two there is none; "
    "and if the renaming fails, it is gone. `os.replace` needs no free place."
)
def removes_the_old_first(state, path):
    temporary = path.with_name("temporary")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        path.unlink(missing_ok=True)
        os.rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@save_safely.mistake(
    "Your temporary file lies in another folder, as `tempfile` puts it if nobody says otherwise. "
    "That may be another disk, and from there `os.replace` fails: give `dir=path.parent`."
)
def in_another_folder(state, path):
    handle, name = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


@save_safely.mistake(
    "The old file stays untouched while you write: that is the first half. But when something "
    "fails, half a file is left; and the new one gets its name before its bytes are on the disk, "
    "where a power cut leaves nothing under the good name. `flush()` and `os.fsync(…)` before you "
    "replace, and clean up."
)
def writes_beside_and_renames(state, path):
    temporary = path.with_name("temporary")
    torch.save(state, temporary)
    os.replace(temporary, path)


@save_safely.mistake(
    "Two things are missing. When something fails, half a file is left. And `os.fsync` writes what "
    "the system has: Python keeps the last bytes in the file object's buffer until `file.flush()`."
)
def without_flush_or_cleaning(state, path):
    temporary = path.with_name("temporary")
    with open(temporary, "wb") as file:
        torch.save(state, file)
        os.fsync(file.fileno())
    os.replace(temporary, path)


@save_safely.mistake(
    "You clean up after an `OSError`, not after an interrupt: Ctrl-C is no `Exception`. "
    "`except BaseException`, or a `finally`."
)
def cleans_up_after_errors_only(state, path):
    temporary = path.with_name("temporary")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception:
        temporary.unlink(missing_ok=True)
        raise


@save_safely.mistake(
    "You clean the whole folder. What others keep there is gone, too: remove the one file that you "
    "made."
)
def cleans_everything(state, path):
    temporary = path.with_name("temporary")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        for other in path.parent.iterdir():
            if other != path:
                other.unlink()


@save_safely.mistake(
    "You swallow the error. The old checkpoint is there, and nobody knows that it is the old one: "
    "clean up, then `raise`."
)
def says_nothing(state, path):
    temporary = path.with_name("temporary")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
