"""Answers to chapter 05: right in another way, or wrong in one thing that is easy to overlook."""

from __future__ import annotations

import copy
import io
import os
import tempfile
from pathlib import Path

import pytest
import torch

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


def unbuffered_with_mkstemp(state, path):
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            torch.save(state, file)
            os.fsync(file)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def in_a_folder_of_its_own(state, path):
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder, "new")
        torch.save(state, temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)


def syncs_all_files(state, path):
    temporary = path.with_name("temporary.tmp")
    try:
        torch.save(state, temporary)
        os.sync()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.train_keeping_best, best_through_a_file),
        (ex.load_or_leave, looks_before_it_loads),
        (ex.load_or_leave, takes_a_failed_load_back),
        (ex.warm_start, copies_each_tensor),
        (ex.Trainer, SavesAllAttributes),
        (ex.save_safely, unbuffered_with_mkstemp),
        (ex.save_safely, in_a_folder_of_its_own),
        pytest.param(
            ex.save_safely,
            syncs_all_files,
            marks=pytest.mark.skipif(not hasattr(os, "sync"), reason="this system has no os.sync"),
        ),
    ],
)
def test_another_right_way_is_right(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card


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


def without_prefix(state):
    return {n.removeprefix("module.").removeprefix("_orig_mod."): t for n, t in state.items()}


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
    return ex.warm_start.reference(
        model, {n if n in own else n.partition(".")[2]: t for n, t in state.items()}
    )


def removes_all_temporary_files(state, path):
    try:
        ex.save_safely.reference(state, path)
    except BaseException:
        for file in path.parent.glob("*.tmp"):
            file.unlink()
        raise


def copies_over_the_old_file(state, path):
    temporary = path.with_name("temporary.tmp")
    torch.save(state, temporary)
    path.write_bytes(temporary.read_bytes())
    temporary.unlink()


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.load_or_leave, compares_shapes_by_position),
        (ex.load_or_leave, reshapes),
        (ex.load_or_leave, wants_the_same_order),
        (ex.load_or_leave, shares_memory),
        (ex.load_or_leave, freezes),
        (ex.warm_start, assigns_what_fits),
        (ex.warm_start, compares_the_number_of_elements),
        (ex.warm_start, compares_the_end_of_the_name),
        (ex.warm_start, removes_any_first_word),
        (ex.save_safely, removes_all_temporary_files),
        (ex.save_safely, copies_over_the_old_file),
    ],
)
def test_an_answer_that_breaks_one_demand_is_wrong(exercise, answer):
    assert exercise.check(answer).state == "wrong"
