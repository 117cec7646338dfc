"""Answers to chapter 05 that are wrong in ways that a check could overlook.

Each does most of what its prompt asks, and each leaves out one thing that matters.
"""

from __future__ import annotations

import copy
import os

import pytest
import torch

from chapters.serialization import exercises as ex


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
    try:
        copy.deepcopy(model).load_state_dict(state)
    except RuntimeError:
        return False
    for name, parameter in model.named_parameters():
        parameter.data = state[name].to(parameter.dtype)
    return True


def freezes(model, state):
    try:
        copy.deepcopy(model).load_state_dict(state)
    except RuntimeError:
        return False
    model.load_state_dict(state)
    model.requires_grad_(False)
    return True


@pytest.mark.parametrize(
    "answer",
    [compares_shapes_by_position, reshapes, wants_the_same_order, shares_memory, freezes],
)
def test_half_a_load_or_leave_is_not_right(answer):
    assert ex.load_or_leave.check(answer).state == "wrong"


def without_prefix(state):
    names = {name: name.removeprefix("module.").removeprefix("_orig_mod.") for name in state}
    return {names[name]: tensor for name, tensor in state.items()}


def warm_and_assigned(model, state):
    own, given = model.state_dict(), without_prefix(state)
    fitting = {n: t for n, t in given.items() if n in own and own[n].shape == t.shape}
    return sorted(model.load_state_dict(fitting, strict=False, assign=True).missing_keys)


def warm_by_number_of_elements(model, state):
    own, given, kept = model.state_dict(), without_prefix(state), []
    for name in own:
        if name in given and given[name].numel() == own[name].numel():
            own[name].copy_(given[name].reshape(own[name].shape))
        else:
            kept.append(name)
    return sorted(kept)


def warm_by_the_end_of_the_name(model, state):
    own, kept = model.state_dict(), []
    for name in own:
        found = [other for other in state if other.endswith(name)]
        if found and state[found[0]].shape == own[name].shape:
            own[name].copy_(state[found[0]])
        else:
            kept.append(name)
    return sorted(kept)


def warm_whatever_the_first_word(model, state):
    own = model.state_dict()
    given = {n if n in own else n.partition(".")[2]: t for n, t in state.items()}
    fitting = {n: t for n, t in given.items() if n in own and own[n].shape == t.shape}
    model.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())


@pytest.mark.parametrize(
    "answer",
    [
        warm_and_assigned,
        warm_by_number_of_elements,
        warm_by_the_end_of_the_name,
        warm_whatever_the_first_word,
    ],
)
def test_half_a_warm_start_is_not_right(answer):
    assert ex.warm_start.check(answer).state == "wrong"


def saving(state, path, *, cleaned_after, clean):
    temporary = path.with_name("temporary.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except cleaned_after:
        clean(temporary)
        raise


def cleans_by_pattern(state, path):
    def clean(temporary):
        for file in path.parent.glob("*.tmp"):
            file.unlink()

    saving(state, path, cleaned_after=BaseException, clean=clean)


def cleans_after_system_errors(state, path):
    saving(state, path, cleaned_after=OSError, clean=lambda temporary: temporary.unlink())


def copies_over_the_old(state, path):
    temporary = path.with_name("temporary.tmp")
    torch.save(state, temporary)
    path.write_bytes(temporary.read_bytes())
    temporary.unlink()


@pytest.mark.parametrize(
    "answer", [cleans_by_pattern, cleans_after_system_errors, copies_over_the_old]
)
def test_half_a_safe_save_is_not_right(answer):
    assert ex.save_safely.check(answer).state == "wrong"


def syncs_everything(state, path):
    temporary = path.with_name("temporary.tmp")
    try:
        torch.save(state, temporary)
        os.sync()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@pytest.mark.skipif(not hasattr(os, "sync"), reason="this system has no os.sync")
def test_a_sync_of_everything_is_a_sync():
    assert ex.save_safely.check(syncs_everything).state == "right"
