"""Answers to the exercises of chapter 05."""

from __future__ import annotations

import contextlib
import copy
import io
import math
import os
import re
import shutil
import tempfile
import uuid
from collections import OrderedDict
from os import fsync, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn, save

from chapters.serialization import exercises as ex


def best_through_a_file(model, train_epoch, validate, epochs):
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


def keeps_all_epochs(model, train_epoch, validate, epochs):
    history = []
    for _ in range(epochs):
        train_epoch(model)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        history.append((validate(model), state))
    score, state = min(history, key=lambda entry: entry[0])
    model.load_state_dict(state)
    return score


def writes_over_one_copy(model, train_epoch, validate, epochs):
    shelf, best = copy.deepcopy(model.state_dict()), None
    for _ in range(epochs):
        train_epoch(model)
        loss = validate(model)
        if best is None or loss < best:
            best = loss
            for name, tensor in model.state_dict().items():
                shelf[name].copy_(tensor)
    for name, tensor in model.state_dict().items():
        tensor.copy_(shelf[name])
    return best


def keeps_a_whole_model(model, train_epoch, validate, epochs):
    kept = None
    for _ in range(epochs):
        train_epoch(model)
        loss = validate(model)
        if kept is None or kept[0] > loss:
            kept = loss, copy.deepcopy(model)
    loss, best = kept
    model.load_state_dict(best.state_dict())
    return loss


def validates_at_the_end(model, train_epoch, validate, epochs):
    with tempfile.TemporaryDirectory() as folder:
        file, lowest = Path(folder, "best.pt"), math.inf
        for _ in range(epochs):
            train_epoch(model)
            if validate(model) < lowest:
                lowest = validate(model)
                torch.save(model.state_dict(), file)
        model.load_state_dict(torch.load(file))
    return np.float64(validate(model))


def looks_before_it_loads(model, state):
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    fits = wanted == {name: tensor.shape for name, tensor in state.items()}
    if fits:
        model.load_state_dict(state)
    return fits


def takes_a_failed_load_back(model, state):
    before = copy.deepcopy(model.state_dict())
    try:
        model.load_state_dict(state)
    except RuntimeError:
        model.load_state_dict(before)
        return False
    return True


def compares_sorted_lists(model, state):
    own, new = sorted(model.state_dict()), sorted(state)
    if own != new:
        return False
    pairs = [(model.state_dict()[name], state[name]) for name in own]
    if any(tuple(ours.shape) != tuple(theirs.shape) for ours, theirs in pairs):
        return False
    for ours, theirs in pairs:
        ours.data[...] = theirs
    return True


def says_it_with_numpy(model, state):
    own = model.state_dict()
    fits = own.keys() == state.keys() and np.all([own[k].shape == state[k].shape for k in own])
    if fits:
        model.load_state_dict(state)
    return fits


class DoesNotFit(ValueError):
    pass


def raises_within(model, state):
    own = model.state_dict()
    try:
        if {(n, *t.shape) for n, t in own.items()} != {(n, *t.shape) for n, t in state.items()}:
            raise DoesNotFit
    except DoesNotFit:
        return False
    for name in own:
        own[name].copy_(state[name])
    return True


def copies_each_tensor(model, state):
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


def by_a_regular_expression(model, state):
    own = model.state_dict()
    left = set(own)
    for key, value in state.items():
        key = re.sub(r"\A(?:module|_orig_mod)\.", "", key)
        if key in own and own[key].shape == value.shape:
            own[key].copy_(value)
            left.remove(key)
    return sorted(left)


def asks_from_the_models_side(model, state):
    untouched = []
    for name, target in model.state_dict().items():
        for wrapper in ("module", "_orig_mod", None):
            key = name if wrapper is None else f"{wrapper}.{name}"
            if key in state and state[key].size() == target.size():
                target.copy_(state[key])
                break
        else:
            untouched.append(name)
    untouched.sort()
    return untouched


def fills_up_with_its_own(model, state):
    PREFIXES = "module.", "_orig_mod."

    def bare(name):
        return name.partition(".")[2] if name.startswith(PREFIXES) else name

    mine = model.state_dict()
    theirs = {bare(k): v for k, v in state.items()}
    good = {k for k in mine.keys() & theirs if mine[k].shape == theirs[k].shape}
    model.load_state_dict({k: theirs[k] if k in good else mine[k] for k in mine})
    return sorted(mine.keys() - good)


def with_torchs_helper(model, state):
    state = OrderedDict(state)
    first = next(iter(state), "")
    prefix = next((p for p in ("module.", "_orig_mod.") if first.startswith(p)), "")
    if prefix:
        nn.modules.utils.consume_prefix_in_state_dict_if_present(state, prefix)
    own = model.state_dict()
    bad = [k for k, v in state.items() if k not in own or own[k].shape != v.shape]
    for k in bad:
        del state[k]
    missing, _ = model.load_state_dict(state, strict=False)
    return sorted(missing)


class SavesAllAttributes(ex.Trainer.reference):
    def state_dict(self):
        return {name: self.state_of(part) for name, part in vars(self).items()}

    def state_of(self, part):
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


PARTS = ("maker", "critic", "average", "maker_optimizer", "critic_optimizer")


class NamesEverything(ex.Trainer.reference):
    def state_dict(self):
        state = {name: getattr(self, name).state_dict() for name in PARTS}
        state["noise"] = self.noise.get_state()
        state["steps"] = torch.tensor(self.steps)
        return state

    def load_state_dict(self, state):
        for name in PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.noise.set_state(state["noise"])
        self.steps = int(state["steps"])


class SavesAList(ex.Trainer.reference):
    def state_dict(self):
        parts = [getattr(self, name).state_dict() for name in PARTS]
        return {"all": (*copy.deepcopy(parts), self.noise.get_state().tolist(), self.steps)}

    def load_state_dict(self, state):
        *parts, noise, self.steps = state["all"]
        for name, part in zip(PARTS, parts, strict=True):
            getattr(self, name).load_state_dict(part)
        self.noise.set_state(torch.tensor(noise, dtype=torch.uint8))


class SavesAFileInTheFile(ex.Trainer.reference):
    def state_dict(self):
        file = io.BytesIO()
        state = {name: getattr(self, name).state_dict() for name in PARTS}
        torch.save((state, self.noise.get_state(), self.steps), file)
        return {"bytes": torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)}

    def load_state_dict(self, state):
        parts, noise, steps = torch.load(io.BytesIO(state["bytes"].numpy()))
        for name, part in parts.items():
            getattr(self, name).load_state_dict(part)
        self.noise.set_state(noise)
        self.steps = steps


def unbuffered_with_mkstemp(state, path):
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            torch.save(state, file)
            os.fsync(file)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def with_imported_names(state, path):
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            save(state, file)
            file.flush()
            fsync(file)
        replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def without_a_flush_of_its_own(state, path):
    number, name = tempfile.mkstemp(dir=path.parent)
    file = os.fdopen(number, "wb")
    try:
        torch.save(state, file)
        os.fsync(file.fileno())
        file.close()
        os.replace(name, path)
    except BaseException:
        file.close()
        os.unlink(name)
        raise


def named_by_the_process(state, path):
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file)
        os.rename(temporary, path)
    except BaseException:
        os.remove(temporary)
        raise


def in_a_folder_of_its_own(state, path):
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder, "new")
        torch.save(state, temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file)
        os.replace(temporary, path)


def in_memory_first(state, path):
    memory = io.BytesIO()
    torch.save(state, memory)
    beside = path.parent / f".{uuid.uuid4().hex}"
    try:
        with open(beside, "xb", buffering=0) as raw:
            rest = memory.getbuffer()
            while len(rest):
                rest = rest[raw.write(rest) :]
            os.fsync(raw)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def written_by_name(state, path):
    fresh = path.parent / (uuid.uuid4().hex + path.suffix)
    with contextlib.ExitStack() as stack:
        stack.callback(fresh.unlink, missing_ok=True)
        torch.save(state, fresh)
        with open(fresh, "r+b") as file:
            os.fsync(file)
        os.replace(fresh, path)


def syncs_all_files(state, path):
    temporary = path.with_name(uuid.uuid4().hex)
    try:
        torch.save(state, temporary)
        os.sync()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class Replacing:
    """A file that gets its name when it is whole."""

    def __init__(self, path):
        self.path = path
        self.beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")

    def __enter__(self):
        self.file = open(self.beside, "xb")
        return self.file

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self.file.flush()
                os.fsync(self.file.fileno())
            self.file.close()
            if kind is None:
                os.replace(self.beside, self.path)
        finally:
            self.beside.unlink(missing_ok=True)


def in_a_context(state, path):
    with Replacing(path) as file:
        torch.save(state, file)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def stops_early(model, train_epoch, validate, epochs):
    best_loss, best = math.inf, None
    for _ in range(epochs):
        train_epoch(model)
        loss = validate(model)
        if loss >= best_loss:
            break
        best_loss, best = loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    return best_loss


def only_names_the_copy(model, train_epoch, validate, epochs):
    lowest = math.inf
    for _ in range(epochs):
        train_epoch(model)
        loss = validate(model)
        if loss < lowest:
            lowest, best = loss, copy.deepcopy(model)
    model = best
    return lowest


def copies_the_names_only(model, train_epoch, validate, epochs):
    lowest = math.inf
    for _ in range(epochs):
        train_epoch(model)
        loss = validate(model)
        if loss < lowest:
            lowest, best = loss, copy.copy(model.state_dict())
    model.load_state_dict(best)
    return lowest


def returns_the_last_loss(model, train_epoch, validate, epochs):
    lowest, best = math.inf, None
    for _ in range(epochs):
        train_epoch(model)
        loss = validate(model)
        if loss < lowest:
            lowest, best = loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    return loss


def trains_once_more(model, train_epoch, validate, epochs):
    return ex.train_keeping_best.reference(model, train_epoch, validate, epochs + 1)


def keeps_float32(model, train_epoch, validate, epochs):
    lowest = math.inf
    for _ in range(epochs):
        train_epoch(model)
        loss = validate(model)
        if loss < lowest:
            lowest = loss
            best = {k: v.to(torch.float32, copy=True) for k, v in model.state_dict().items()}
    model.load_state_dict(best)
    return lowest


def compares_shapes_by_position(model, state):
    own = model.state_dict()
    fits = [t.shape for t in own.values()] == [t.shape for t in state.values()]
    if fits:
        model.load_state_dict(state, strict=False)
    return fits


def reshapes(model, state):
    own = model.state_dict()
    if own.keys() != state.keys() or any(own[n].numel() != state[n].numel() for n in own):
        return False
    for name in own:
        own[name].copy_(state[name].reshape(own[name].shape))
    return True


def wants_the_same_order(model, state):
    own = model.state_dict()
    if list(own) != list(state) or any(own[n].shape != state[n].shape for n in own):
        return False
    model.load_state_dict(state)
    return True


def shares_memory(model, state):
    if not ex.load_or_leave.reference(model, state):
        return False
    for name, parameter in model.named_parameters():
        parameter.data = state[name].to(parameter.dtype)
    return True


def freezes(model, state):
    model.requires_grad_(False)
    return ex.load_or_leave.reference(model, state)


def broadcasts(model, state):
    own, backup = model.state_dict(), copy.deepcopy(model.state_dict())
    if own.keys() != state.keys():
        return False
    try:
        for name in own:
            own[name].copy_(state[name])
    except RuntimeError:
        for name in own:
            own[name].copy_(backup[name])
        return False
    return True


def empties_the_state(model, state):
    own = model.state_dict()
    if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in state.items()}:
        return False
    for name in own:
        own[name].copy_(state.pop(name))
    return True


def without_prefix(state):
    return {re.sub(r"^(module|_orig_mod)\.", "", name): t for name, t in state.items()}


def assigns_what_fits(model, state):
    own, given = model.state_dict(), without_prefix(state)
    fitting = {n: t for n, t in given.items() if n in own and own[n].shape == t.shape}
    return sorted(model.load_state_dict(fitting, strict=False, assign=True).missing_keys)


def compares_the_number_of_elements(model, state):
    own, given, kept = model.state_dict(), without_prefix(state), []
    for name in own:
        if name in given and given[name].numel() == own[name].numel():
            own[name].copy_(given[name].reshape(own[name].shape))
        else:
            kept.append(name)
    return sorted(kept)


def compares_the_end_of_the_name(model, state):
    own, kept = model.state_dict(), []
    for name in own:
        found = [other for other in state if other.endswith(name)]
        if found and state[found[0]].shape == own[name].shape:
            own[name].copy_(state[found[0]])
        else:
            kept.append(name)
    return sorted(kept)


def removes_any_first_word(model, state):
    own = model.state_dict()
    given = {n if n in own else n.partition(".")[2]: t for n, t in state.items()}
    fitting = {n: t for n, t in given.items() if n in own and own[n].shape == t.shape}
    return sorted(model.load_state_dict(fitting, strict=False).missing_keys)


def removes_every_prefix(model, state):
    names = {name: re.sub(r"^(module\.|_orig_mod\.)+", "", name) for name in state}
    return ex.warm_start.reference(model, {names[n]: t for n, t in state.items()})


def wants_the_same_dtype(model, state):
    own = {(n, t.shape, t.dtype) for n, t in model.state_dict().items()}
    fitting = {n: t for n, t in without_prefix(state).items() if (n, t.shape, t.dtype) in own}
    return sorted(model.load_state_dict(fitting, strict=False).missing_keys)


def draws_the_rest_anew(model, state):
    kept = ex.warm_start.reference(model, state)
    for name in {name.rpartition(".")[0] for name in kept}:
        layer = model.get_submodule(name)
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return kept


def removes_one_of_each(model, state):
    return ex.warm_start.reference(
        model, {n.removeprefix("_orig_mod.").removeprefix("module."): t for n, t in state.items()}
    )


def in_the_models_order(model, state):
    kept = ex.warm_start.reference(model, state)
    return [name for name in model.state_dict() if name in kept]


class WithoutAverageAndNoise(ex.Trainer.reference):
    NAMES = ("maker", "critic", "maker_optimizer", "critic_optimizer")

    def state_dict(self):
        return {n: getattr(self, n).state_dict() for n in self.NAMES} | {"steps": self.steps}

    def load_state_dict(self, state):
        for name in self.NAMES:
            getattr(self, name).load_state_dict(state[name])
        self.steps = state["steps"]


class WithAnotherStep(ex.Trainer.reference):
    def step(self, real):
        self.noise.manual_seed(self.steps)
        return super().step(real)


class WithNewNetworks(ex.Trainer.reference):
    def load_state_dict(self, state):
        self.maker, self.critic, self.average = nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(2, 2)
        super().load_state_dict(state)


class CountsInNumpy(ex.Trainer.reference):
    def state_dict(self):
        return super().state_dict() | {"steps": np.int64(self.steps)}


class InHalfPrecision(ex.Trainer.reference):
    def state_dict(self):
        state = super().state_dict()
        return state | {"maker": {n: t.half() for n, t in state["maker"].items()}}


def removes_all_temporary_files(state, path):
    try:
        ex.save_safely.reference(state, path)
    except BaseException:
        for file in path.parent.glob("*.tmp"):
            file.unlink()
        raise


def copies_over_the_old_file(state, path):
    with tempfile.NamedTemporaryFile(dir=path.parent) as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
        shutil.copyfile(file.name, path)


def moves_from_elsewhere(state, path):
    with tempfile.TemporaryDirectory() as elsewhere:
        new = Path(elsewhere, path.name)
        with open(new, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        shutil.move(new, path)


def with_a_fixed_name(state, path):
    beside = path.with_suffix(".new")
    try:
        with open(beside, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def syncs_after_renaming(state, path):
    beside = path.with_name(uuid.uuid4().hex)
    try:
        torch.save(state, beside)
        os.replace(beside, path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    finally:
        beside.unlink(missing_ok=True)


def puts_the_old_file_aside(state, path):
    aside = path.with_name(uuid.uuid4().hex)
    if path.exists():
        os.replace(path, aside)
    try:
        torch.save(state, path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    except BaseException:
        os.replace(aside, path)
        raise
    aside.unlink(missing_ok=True)


def copies_the_old_file_aside(state, path):
    if path.exists():
        shutil.copy(path, path.with_suffix(".bak"))
    torch.save(state, path)


def saves_a_part(state, path):
    ex.save_safely.reference({"step": state["step"]}, path)


def prints_the_error(state, path):
    try:
        ex.save_safely.reference(state, path)
    except OSError as error:
        print(error)


def only_writes_beside_it(state, path):
    beside = path.with_name(uuid.uuid4().hex)
    torch.save(state, beside)
    os.replace(beside, path)


def only_writes_beside_it_under_a_fixed_name(state, path):
    beside = path.with_suffix(".tmp")
    torch.save(state, beside)
    os.replace(beside, path)


def leaves_it_when_syncing_fails(state, path):
    beside = path.with_name(uuid.uuid4().hex)
    with open(beside, "wb") as file:
        try:
            torch.save(state, file)
        except BaseException:
            beside.unlink()
            raise
        file.flush()
        os.fsync(file.fileno())
    try:
        os.replace(beside, path)
    except BaseException:
        beside.unlink()
        raise


_TRAVELS = {
    "BatchNorm's running mean": True,
    "mean": True,
    "cache": False,
    "limit": False,
    "that layers[0] is frozen": False,
    "eval mode": False,
}
_ACCEPTED = {
    "losses.mean()": False,
    "losses.mean().item()": True,
    "torch.from_numpy(losses)": True,
    "Path('digits.csv')": False,
    "torch.float32": True,
    "OrderedDict(lr=0.1)": True,
}
_PIECES = dict(zip("ABCDE", ("order", "buffers", "scheduler", "random", "optimizer"), strict=True))


def _as(form, answer):
    return {name: form(value) for name, value in answer.items()}


RIGHT = {
    "travels": [_TRAVELS, _as(np.bool_, _TRAVELS), OrderedDict(_as(torch.tensor, _TRAVELS))],
    "accepted": [_ACCEPTED, _as(np.bool_, _ACCEPTED), _as(torch.tensor, _ACCEPTED)],
    "missing_piece": [_PIECES, _as(np.str_, _PIECES), _as(str.upper, _PIECES)],
    "train_keeping_best": [
        best_through_a_file,
        keeps_all_epochs,
        writes_over_one_copy,
        keeps_a_whole_model,
        validates_at_the_end,
    ],
    "load_or_leave": [
        looks_before_it_loads,
        takes_a_failed_load_back,
        compares_sorted_lists,
        says_it_with_numpy,
        raises_within,
    ],
    "warm_start": [
        copies_each_tensor,
        by_a_regular_expression,
        asks_from_the_models_side,
        fills_up_with_its_own,
        with_torchs_helper,
    ],
    "Trainer": [SavesAllAttributes, NamesEverything, SavesAList, SavesAFileInTheFile],
    "save_safely": [
        without_a_flush_of_its_own,
        unbuffered_with_mkstemp,
        with_imported_names,
        named_by_the_process,
        in_a_folder_of_its_own,
        in_memory_first,
        written_by_name,
        in_a_context,
        *([syncs_all_files] if hasattr(os, "sync") else []),
    ],
}
WRONG = {
    "travels": [
        ({**_TRAVELS, "limit": True, "eval mode": True}, "The mode is no tensor"),
        (_as(str, _TRAVELS), "a bool is expected, a str came"),
    ],
    "accepted": [({**_ACCEPTED, "losses.mean()": True}, "asks for a function of NumPy")],
    "missing_piece": [
        ({**_PIECES, "D": "optimizer", "E": "random"}, "Run E does not lack the random state"),
        (dict.fromkeys("ABCDE", "optimizer"), "Run A does not lack the optimizer"),
        ({**_PIECES, "B": "buffer"}, "is none of the five words"),
        ({**_PIECES, "C": "learning rate"}, "Which of the five sets the learning rate"),
        ({**_PIECES, "D": "generator"}, 'the list calls it `"random"`'),
        ({**_PIECES, "E": "momentum"}, "Which of the five keeps the momentum"),
        ({**_PIECES, "E": "Optimiser"}, "with a z"),
    ],
    "train_keeping_best": [
        (stops_early, "the weights of its best epoch"),
        (only_names_the_copy, "`model = best` changes only"),
        (copies_the_names_only, "the same living weights"),
        (returns_the_last_loss, "The loss of the best epoch comes back."),
        (trains_once_more, "has `epochs` epochs"),
        (keeps_float32, "to the last bit"),
    ],
    "load_or_leave": [
        (compares_shapes_by_position, "it was before"),
        (reshapes, "it was before"),
        (wants_the_same_order, "in another order"),
        (shares_memory, "`state` stays as it is, then and later"),
        (freezes, "go on being trained"),
        (broadcasts, "it was before"),
        (empties_the_state, "`state` stays as it is, then and later"),
    ],
    "warm_start": [
        (assigns_what_fits, "With `assign=True`"),
        (compares_the_number_of_elements, "keep their values"),
        (compares_the_end_of_the_name, "One prefix is taken off, not two"),
        (removes_any_first_word, "another word in front"),
        (removes_one_of_each, "One prefix is taken off, not two"),
        (removes_every_prefix, "One prefix is taken off, not two"),
        (wants_the_same_dtype, "also if its dtype is another"),
        (draws_the_rest_anew, "is taken over"),
        (in_the_models_order, "in the order of the model"),
    ],
    "Trainer": [
        (WithoutAverageAndNoise, "the average of the maker's weights is what it was"),
        (WithAnotherStep, "`__init__` and `step` stay as they are"),
        (WithNewNetworks, "other parameters than those that the optimizers move"),
        (CountsInNumpy, "with their defaults"),
        (InHalfPrecision, "both networks have the values"),
    ],
    "save_safely": [
        (removes_all_temporary_files, "neither overwritten nor removed"),
        (copies_over_the_old_file, "nothing is written into it"),
        (moves_from_elsewhere, "in the folder of `path`"),
        (with_a_fixed_name, "always has the same name"),
        (syncs_after_renaming, "Only when all bytes of the new file are on the disk"),
        (puts_the_old_file_aside, "At every moment, `path` is a whole checkpoint"),
        (copies_the_old_file_aside, "At every moment, `path` is a whole checkpoint"),
        (saves_a_part, "gives it back"),
        (prints_the_error, "You swallow the error"),
        (leaves_it_when_syncing_fails, "No new file is left"),
        (only_writes_beside_it, "Two things are missing"),
        (only_writes_beside_it_under_a_fixed_name, "Three things are missing"),
    ],
}
