"""Answers to the exercises of chapter 05."""

from __future__ import annotations

import copy
import io
import math
import os
import shutil
import tempfile
import uuid
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn

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


def says_it_with_numpy(model, state):
    own = model.state_dict()
    fits = own.keys() == state.keys() and np.all([own[k].shape == state[k].shape for k in own])
    if fits:
        model.load_state_dict(state)
    return fits


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
    model.load_state_dict(state, strict=False)
    return sorted(set(own) - set(state))


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


def syncs_all_files(state, path):
    temporary = path.with_name(uuid.uuid4().hex)
    try:
        torch.save(state, temporary)
        os.sync()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


def shares_memory(model, state):
    if not ex.load_or_leave.reference(model, state):
        return False
    for name, parameter in model.named_parameters():
        parameter.data = state[name].to(parameter.dtype)
    return True


def draws_the_rest_anew(model, state):
    kept = ex.warm_start.reference(model, state)
    for name in {name.rpartition(".")[0] for name in kept}:
        layer = model.get_submodule(name)
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return kept


class WithNewNetworks(ex.Trainer.reference):
    def load_state_dict(self, state):
        self.maker, self.critic, self.average = nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(2, 2)
        super().load_state_dict(state)


class CountsInNumpy(ex.Trainer.reference):
    def state_dict(self):
        return super().state_dict() | {"steps": np.int64(self.steps)}


def named_by_process(state, path):
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.touch(exist_ok=False)
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
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


def syncs_after_renaming(state, path):
    beside = path.with_name(uuid.uuid4().hex)
    try:
        torch.save(state, beside)
        os.replace(beside, path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    finally:
        beside.unlink(missing_ok=True)


def copies_the_old_file_aside(state, path):
    if path.exists():
        shutil.copy(path, path.with_suffix(".bak"))
    torch.save(state, path)


RIGHT = {
    "train_keeping_best": [
        best_through_a_file,
        keeps_all_epochs,
        validates_at_the_end,
    ],
    "load_or_leave": [
        looks_before_it_loads,
        takes_a_failed_load_back,
        says_it_with_numpy,
    ],
    "warm_start": [
        copies_each_tensor,
        fills_up_with_its_own,
        with_torchs_helper,
    ],
    "Trainer": [SavesAllAttributes, SavesAList, SavesAFileInTheFile],
    "save_safely": [
        without_a_flush_of_its_own,
        in_a_folder_of_its_own,
        in_memory_first,
        named_by_process,
        *([syncs_all_files] if hasattr(os, "sync") else []),
    ],
}
WRONG = {
    "train_keeping_best": [
        (
            "    model.load_state_dict(best)",
            "        else:\n            break\n    model.load_state_dict(best)",
            "the weights of its best epoch",
        ),
        ("return best_loss", "return loss", "The loss of the best epoch comes back."),
        ("range(epochs)", "range(epochs + 1)", "has `epochs` epochs"),
        (
            "copy.deepcopy(model.state_dict())",
            "copy.deepcopy(model).float().state_dict()",
            "to the last bit",
        ),
    ],
    "load_or_leave": [
        (compares_shapes_by_position, "it was before"),
        (reshapes, "it was before"),
        (
            "    try:",
            "    if list(model.state_dict()) != list(state):\n        return False\n    try:",
            "in another order",
        ),
        (shares_memory, "`state` stays as it is, then and later"),
        ("    try:", "    model.requires_grad_(False)\n    try:", "go on being trained"),
        (
            "    return True",
            "    state.clear()\n    return True",
            "`state` stays as it is, then and later",
        ),
    ],
    "warm_start": [
        (
            "own[name].shape == tensor.shape",
            "own[name].numel() == tensor.numel()",
            "fitting[name] = tensor",
            "fitting[name] = tensor.reshape(own[name].shape)",
            "keep their values",
        ),
        (
            'if name.startswith(("module.", "_orig_mod.")):',
            "if name not in own:",
            "another word in front",
        ),
        ("if name.startswith(", "while name.startswith(", "One prefix is taken off, not two"),
        (
            "own[name].shape == tensor.shape",
            "(own[name].shape, own[name].dtype) == (tensor.shape, tensor.dtype)",
            "also if its dtype is another",
        ),
        (draws_the_rest_anew, "is taken over"),
    ],
    "Trainer": [
        (
            '"average", ',
            "",
            ' "noise": self.noise.get_state(),',
            "",
            "the average of the maker's weights is what it was",
        ),
        (
            "fake = self",
            "self.noise.manual_seed(self.steps)\n        fake = self",
            "`__init__` and `step` stay as they are",
        ),
        (WithNewNetworks, "other parameters than those that the optimizers move"),
        (CountsInNumpy, "with their defaults"),
        (
            "{**state,",
            '{**state, "maker": copy.deepcopy(self.maker).half().state_dict(),',
            "both networks have the values",
        ),
    ],
    "save_safely": [
        (
            "finally:",
            "except BaseException:",
            "        temporary.unlink(missing_ok=True)",
            '        [file.unlink() for file in path.parent.glob("*.tmp")]\n        raise',
            "neither overwritten nor removed",
        ),
        ("uuid.uuid4().hex", "os.getpid()", "A file of this name that somebody else keeps there"),
        (copies_over_the_old_file, "nothing is written into it"),
        (moves_from_elsewhere, "in the folder of `path`"),
        (syncs_after_renaming, "Only when all bytes of the new file are on the disk"),
        (copies_the_old_file_aside, "At every moment, `path` is a whole checkpoint"),
        ("torch.save(state,", 'torch.save({"step": state["step"]},', "gives it back"),
        (
            "    try:\n        with",
            "    if True:\n        with",
            "        os.replace",
            "    try:\n        os.replace",
            "No new file is left",
        ),
    ],
}
