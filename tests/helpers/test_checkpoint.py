"""Checkpoints: what comes back, what is refused, and what a damaged or hostile file can't do.

Processes that end in mid-save are in `tests/long/test_checkpoint_faults.py`.
"""

import contextlib
import copy
import errno
import io
import itertools
import math
import os
import pickle
import random
import stat
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from helpers import checkpoint
from helpers.checkpoint import CheckpointError, Checkpoints, DamagedError, ShuffledBatches
from tests.notebooks import definitions


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pt"


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


@contextlib.contextmanager
def nothing_changes(folder):
    def contents():
        return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    before = contents()
    yield
    assert contents() == before


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64]
DTYPES += [torch.int64, torch.int8, torch.uint8, torch.bool]
STATE = {
    "tensors": [torch.tensor([[0, 1], [1, 1]]).to(dtype) for dtype in DTYPES],
    "odd": torch.tensor([0.0, -0.0, math.nan, -math.nan, math.inf, 1e-45]),
    "empty": [torch.ones(0, 3), torch.ones(()), [], (), {}, ""],
    "plain": (None, True, -(2**70), 0.1, -0.0, math.nan, math.inf, "é\n\0", b"\0"),
    "keys": {1: "a", "1": "b", (1, False): "c", None: OrderedDict(a=1)},
}


def linear(seed=0, inputs=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(inputs, 2, bias=False)


OPTIMIZERS = sorted(
    name
    for name, found in vars(torch.optim).items()
    if isinstance(found, type) and issubclass(found, torch.optim.Optimizer)
    if found is not torch.optim.Optimizer
)
OPTIONS = {
    "Adam": {"amsgrad": True},
    "SGD": {"momentum": 0.9},
    "RMSprop": {"momentum": 0.9, "centered": True},
}


def stepped(name, parameter, steps=3):
    """An optimizer of that name, which has moved the parameter so many times."""
    optimizer = getattr(torch.optim, name)([parameter], lr=0.01, **OPTIONS.get(name, {}))

    def closure():
        optimizer.zero_grad()
        loss = (parameter - 1).pow(2).sum()
        loss.backward()
        if name == "SparseAdam":
            parameter.grad = parameter.grad.to_sparse()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return optimizer


SCHEDULERS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.StepLR(o, 2)], [2]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.StepLR(o, 2), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, 5),
}


def scheduled(name, steps):
    """A scheduler of that name that has taken so many steps, and its optimizer."""
    optimizer = torch.optim.SGD(linear().parameters(), lr=1.0, momentum=0.9)
    scheduler = SCHEDULERS[name](optimizer)
    for _ in range(steps):
        optimizer.step()
        scheduler.step(*[1.0] if name == "ReduceLROnPlateau" else [])
    return scheduler, optimizer


# Saved and loaded


def test_what_is_saved_comes_back_to_the_bit_and_torch_can_read_it(path):
    checkpoint.save(path, **STATE)
    for found in (checkpoint.load(path), torch.load(path)):
        assert checkpoint.differences(found, STATE) == []
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_comes_back_and_memory_of_another_shape_is_refused(path, name):
    model, copied = linear(), linear()
    optimizer = stepped(name, model.weight)
    fresh = stepped(name, copied.weight, steps=0)
    checkpoint.save(path, model=model, optimizer=optimizer)
    checkpoint.load(path, model=copied, optimizer=fresh)
    state = optimizer.state_dict()
    assert state["state"] and checkpoint.differences(fresh.state_dict(), state) == []

    memory = {key: value for key, value in state["state"][0].items() if hasattr(value, "shape")}
    like_it = [key for key, value in memory.items() if value.shape == model.weight.shape]
    assert like_it or name in ("Adafactor", "LBFGS"), "those two keep sums and flat vectors"
    for key in like_it:
        broken = copy.deepcopy(state)
        broken["state"][0][key] = torch.zeros(5, 7)
        checkpoint.save(path, optimizer=broken)
        with pytest.raises(CheckpointError, match=rf"{key} of parameter 0 has the shape \(5, 7\)"):
            checkpoint.load(path, optimizer=fresh)
        assert checkpoint.differences(fresh.state_dict(), state) == []


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_comes_back(path, name):
    scheduler, optimizer = scheduled(name, steps=3)
    fresh, other = scheduled(name, steps=1)
    checkpoint.save(path, scheduler=scheduler, optimizer=optimizer)
    checkpoint.load(path, scheduler=fresh, optimizer=other)
    assert checkpoint.differences(fresh.state_dict(), scheduler.state_dict()) == []
    assert checkpoint.differences(other.state_dict(), optimizer.state_dict()) == []


def test_missing_folders_are_made_and_a_relative_path_or_a_tilde_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    checkpoint.save("a/b/checkpoint.pt", model=linear(), step=3, log=[1.5, 2.5])
    assert checkpoint.load("a/b/checkpoint.pt", model=linear(1)) == {"step": 3, "log": [1.5, 2.5]}
    checkpoint.save("~/run/a.pt", step=1)
    assert checkpoint.load("~/run/a.pt") == checkpoint.load(tmp_path / "run" / "a.pt")
    assert Checkpoints("~/run").folder == tmp_path / "run"


# What is refused


class OwnDict(dict):
    pass


class Opaque:
    def __reduce__(self):
        raise ValueError("I am not for files")


@pytest.mark.parametrize(
    "value, sentence",
    [
        (np.ones(2), "log.0 is a numpy.ndarray, which torch.load refuses by default"),
        ({"loss": (1, np.float64(0.5))}, "log.0.loss.1 is a numpy.float64"),
        ({"seen": {np.int64(3): 1}}, f"the key {np.int64(3)!r} of log.0.seen is a numpy.int64"),
        (Path("here"), "log.0 is a pathlib."),
        (lambda: 0, "log.0 is a function"),
        (OwnDict(a=1), f"log.0 is a {__name__}.OwnDict"),
        (Opaque(), f"log.0 is a {__name__}.Opaque"),
        (torch.Generator(), "log.0 is a torch._C.Generator"),
        (torch.ones((), requires_grad=True) * 2, "log.0 is a tensor with the graph"),
    ],
)
def test_what_torch_load_refuses_is_refused_at_once_and_by_its_place(path, value, sentence):
    checkpoint.save(path, step=1)
    with nothing_changes(path.parent), pytest.raises(CheckpointError) as caught:
        try:
            raise OSError("an error that is being handled has nothing to do with it")
        except OSError:
            checkpoint.save(path, model=linear(), log=[value])
    assert f"{path} was not written" in str(caught.value)
    assert f": {sentence}" in str(caught.value)


def test_what_is_too_deep_for_a_pickle_is_refused(path):
    checkpoint.save(path, step=1)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with nothing_changes(path.parent), pytest.raises(CheckpointError, match="nested too deep"):
        checkpoint.save(path, deep=deep)
    while deep:  # freed one by one: at once it takes as deep a stack
        deep = deep[0]


@pytest.mark.parametrize(
    "name, advice",
    [
        ("folder", "A folder has this name"),
        ("file/checkpoint.pt", "A file has the name of a folder"),
        (f"{'ä' * 130}.pt", "Choose a shorter name"),
    ],
)
def test_a_place_that_can_not_be_written_to_is_named(tmp_path, name, advice):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with nothing_changes(tmp_path), pytest.raises(CheckpointError) as caught:
        checkpoint.save(tmp_path / name, step=1)
    assert str(tmp_path / name) in str(caught.value) and advice in str(caught.value)


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    checkpoint.save(tmp_path / f"{'ä' * 125}.pt", step=1)
    assert len(list(tmp_path.iterdir())) == 1


# A save that is stopped


@pytest.fixture
def saved(path):
    """A checkpoint with which a later save must do no harm, alone in its folder."""
    checkpoint.save(path, weights=torch.zeros(4000), step=0)
    return path


class FullDisk(io.FileIO):
    """A file that takes ``room`` bytes; then each write ends with ``error``."""

    def __init__(self, path, room, error):
        super().__init__(path, "x")
        self.room, self.error = room, error

    def write(self, data):
        if self.room == 0:
            raise self.error
        taken = super().write(data[: self.room])
        self.room -= taken
        return taken


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", [0, 64, 16_000, "fsync", "replace"])
def test_a_save_that_is_stopped_loses_nothing(saved, monkeypatch, place, error):
    def opened(path, mode):
        return open(path, mode) if mode == "rb" else io.BufferedWriter(FullDisk(path, place, error))

    def fail(*_):
        raise error

    if isinstance(place, int):
        monkeypatch.setattr(checkpoint, "open", opened, raising=False)
    else:
        monkeypatch.setattr(os, place, fail)
    expected = CheckpointError if isinstance(error, OSError) else KeyboardInterrupt
    with nothing_changes(saved.parent), pytest.raises(expected) as caught:
        checkpoint.save(saved, weights=torch.ones(4000), step=1)
    if expected is CheckpointError:
        assert str(saved) in str(caught.value)
        assert "No space left. Free some space" in str(caught.value)


def test_an_interrupt_at_the_end_of_a_call_leaves_no_unfinished_file(saved, monkeypatch):
    """Python raises when the system call returns."""

    def interrupted(path, mode):
        open(path, mode).close()
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "open", interrupted, raising=False)
    with nothing_changes(saved.parent), pytest.raises(KeyboardInterrupt):
        checkpoint.save(saved, step=1)


@pytest.mark.skipif(os.name != "posix", reason="the permissions are those of POSIX")
def test_the_new_file_has_the_permissions_of_the_old_one_or_else_of_any_new_file(path):
    plain = path.with_name("plain")
    plain.write_bytes(b"")
    checkpoint.save(path, a=1)
    assert path.stat().st_mode == plain.stat().st_mode
    for mode in (0o640, 0o604, 0o444):
        path.chmod(mode)
        checkpoint.save(path, a=mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_behind_a_link_the_file_is_replaced_and_the_link_stays(tmp_path):
    real, link = tmp_path / "disk" / "real.pt", tmp_path / "link.pt"
    checkpoint.save(real, a=1)
    try:
        link.symlink_to(real)
    except OSError:
        pytest.skip("this system makes no links")
    checkpoint.save(link, a=2)
    assert link.is_symlink() and checkpoint.load(real) == {"a": 2}


def test_what_comes_back_changed_from_the_disk_does_not_take_the_name(saved, monkeypatch):
    def flush_of_a_bad_disk(_):
        (unfinished,) = saved.parent.glob(".*.tmp")
        content = bytearray(unfinished.read_bytes())
        content[len(content) // 2] ^= 1
        unfinished.write_bytes(content)

    monkeypatch.setattr(os, "fsync", flush_of_a_bad_disk)
    with nothing_changes(saved.parent), pytest.raises(CheckpointError, match="checksum"):
        checkpoint.save(saved, weights=torch.ones(4000), step=1)


def test_a_file_is_written_flushed_checked_and_then_renamed(saved, monkeypatch):
    """Also where the system does not flush folders."""

    def watch(module, name):
        function = getattr(module, name)

        def call(*arguments, **options):
            result = function(*arguments, **options)
            seen.append((name, [file.stat().st_size for file in saved.parent.glob(".*.tmp")]))
            return result

        monkeypatch.setattr(module, name, call)

    def files_only(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            seen.append("folder")
            raise OSError(errno.EINVAL, "Invalid argument")

    seen, content = [], of_torch({"step": 1})
    # torch.save flushes, and does not promise it
    monkeypatch.setattr(torch, "save", lambda state, file: file.write(content))
    monkeypatch.setattr(os, "fsync", files_only)
    watch(os, "fsync"), watch(checkpoint, "read"), watch(os, "replace")
    checkpoint.save(saved, step=1)
    size = len(content)
    assert seen[:3] == [("fsync", [size]), ("read", [size]), ("replace", [])]
    assert seen[3:] == ["folder"] * (os.name == "posix")


# Damage


def of_torch(state, **options):
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


GOOD = {"weights": torch.arange(1.0, 41.0), "more": torch.ones(3, 3), "log": [1, 2.5, "a"]}
GOOD_FILE = of_torch(GOOD)


def is_refused_or_right(path, content):
    """Read what was damaged: the error that came, or None if every value is right."""
    path.write_bytes(content)
    try:
        found = checkpoint.load(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        return error
    assert checkpoint.differences(found, GOOD) == []
    return None


def flipped(at, bit=0):
    changed = bytearray(GOOD_FILE)
    changed[at] ^= 1 << bit
    return bytes(changed)


def test_a_file_that_is_cut_off_anywhere_is_damaged(path):
    for length in {*range(0, len(GOOD_FILE), 12), *range(len(GOOD_FILE) - 30, len(GOOD_FILE))}:
        error = is_refused_or_right(path, GOOD_FILE[:length])
        assert type(error) is DamagedError and f"({length} bytes)" in str(error)


def test_no_flipped_bit_in_the_list_of_records_gives_wrong_values(path):
    """torch itself fails here: some of them make it read memory that was never written to."""
    name = GOOD_FILE.rindex(b"/data/0")
    start = GOOD_FILE.rindex(b"PK\x01\x02", 0, name)
    for at, bit in itertools.product(range(start, name), range(8)):
        is_refused_or_right(path, flipped(at, bit))


@given(data=st.data())
def test_other_damage_never_gives_wrong_values(data, tmp_path_factory):
    """A stretch is overwritten, lost, doubled or added: a bad block, a copy that went wrong."""
    start = data.draw(st.integers(0, len(GOOD_FILE)))
    end = data.draw(st.integers(start, len(GOOD_FILE)))
    stretch = GOOD_FILE[start:end]
    damaged = [b"", bytes(len(stretch)), stretch * 2, stretch[::-1], stretch.swapcase()]
    other = data.draw(st.one_of(st.sampled_from(damaged), st.binary(max_size=100)))
    path = tmp_path_factory.getbasetemp() / "changed.pt"
    is_refused_or_right(path, GOOD_FILE[:start] + other + GOOD_FILE[end:])


def test_a_flipped_bit_of_a_tensor_is_found_though_torch_load_finds_none(path):
    error = is_refused_or_right(path, flipped(GOOD_FILE.index(GOOD["weights"].numpy().tobytes())))
    assert type(error) is DamagedError and "checksum" in str(error)
    assert checkpoint.differences(torch.load(path), GOOD) == ["weights"]


def test_a_file_that_was_saved_without_checksums_is_not_damaged(path):
    torch.serialization.set_crc32_options(False)
    try:
        checkpoint.save(path, **GOOD)
    finally:
        torch.serialization.set_crc32_options(True)
    assert checkpoint.differences(checkpoint.load(path), GOOD) == []
    content = path.read_bytes()
    assert type(is_refused_or_right(path, content[:-1])) is DamagedError


def a_zip(compression=zipfile.ZIP_STORED, **records):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Runs:
    """Runs Python code when it is unpickled."""

    def __reduce__(self):
        return exec, (f"import {__name__} as module; module.RAN.append(1)",)


RAN = []


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()


PICKLE = pickle.dumps({"model": Runs()}, protocol=2)
FOREIGN = {
    "empty": b"",
    "a text": b"# A diary\n",
    "an empty zip": a_zip(),
    "a pickle in a zip": a_zip(**{"model/weights": PICKLE}),
    "a packed zip": a_zip(zipfile.ZIP_DEFLATED, **{"archive/data.pkl": bytes(10**6)}),
    "a pickle": PICKLE,
    "a pickle before an archive": PICKLE + GOOD_FILE,
    "torch's format before 1.6": of_torch(Runs(), _use_new_zipfile_serialization=False),
    "safetensors": struct.pack("<Q", 2) + b"{}",
    "two files in one": of_torch({"a": 1}) + of_torch({"a": 2}),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_torch_save_did_not_write_is_refused_by_name_and_runs_nothing(path, kind):
    path.write_bytes(FOREIGN[kind])
    with nothing_changes(path.parent), pytest.raises(DamagedError) as caught:
        checkpoint.load(path, model=linear())
    assert str(path) in str(caught.value) and not RAN


def test_a_file_of_another_torch_save_is_told_what_is_missing(path):
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds a list, not a dict of parts"):
        checkpoint.load(path)
    torch.save(linear().state_dict(), path)
    with pytest.raises(CheckpointError, match=r"holds no 'model': it holds 'weight'. If that is"):
        checkpoint.load(path, model=linear())
    torch.save({}, path)
    with pytest.raises(CheckpointError, match="no 'a' and no 'b': it holds nothing"):
        checkpoint.load(path, a=linear(), b=linear())


def test_what_can_not_be_opened_is_not_called_damaged(path):
    for missing_or_folder in (path, path.parent):
        with pytest.raises(OSError) as caught:
            checkpoint.load(missing_or_folder)
        assert str(missing_or_folder) in str(caught.value)


# Hostile files


class RunsInState(OrderedDict):
    """Looks like a state dict: the call stands in what rebuilds it."""

    def __init__(self, attack=None):
        super().__init__(weight=torch.ones(2))
        self.hidden = attack


HIDDEN = {
    "alone": Runs(),
    "deep": {"model": {"a": [1, (2, {"b": [Runs()]})]}},
    "as a key": {"model": {Runs(): 1}},
    "in a state dict": {"model": RunsInState(Runs())},
    "after tensors": {"model": linear().state_dict(), "x": Runs()},
}


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_file_that_would_run_code_is_refused_and_runs_none(path, hidden):
    torch.save(HIDDEN[hidden], path)  # its checksums are right
    model = linear()
    before = copy.deepcopy(model.state_dict())
    with nothing_changes(path.parent), pytest.raises(pickle.UnpicklingError) as caught:
        checkpoint.load(path, model=model)
    assert str(path) in str(caught.value) and "nothing in it was run" in str(caught.value)
    assert not RAN and checkpoint.differences(model.state_dict(), before) == []
    torch.load(path, weights_only=False)
    assert RAN, "the attack is not real"


# All or nothing


class Everything:
    """A model, its optimizer, its scheduler, a generator and a place in the data."""

    def __init__(self, seed=0, steps=2, width=4):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.scheduler = lr_scheduler.StepLR(self.optimizer, 2)
        self.noise = torch.Generator().manual_seed(seed)
        self.batches = ShuffledBatches(10, 4, seed)
        self.train(steps)
        self.model[1].eval()

    def train(self, steps):
        for rows in itertools.islice(endless(self.batches), steps):
            self.optimizer.zero_grad()
            self.model(torch.rand(len(rows), 3, generator=self.noise)).sum().backward()
            self.optimizer.step()
            self.scheduler.step()

    def parts(self):
        return dict(vars(self))

    def state(self):
        """All of it, with what no file holds: the modes, and which tensors the parameters are."""
        states = {
            name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict()
            for name, part in self.parts().items()
        }
        modes = [module.training for module in self.model.modules()]
        places = [parameter.data_ptr() for parameter in self.model.parameters()]
        return copy.deepcopy({**states, "modes": modes, "places": places})


def endless(batches):
    while True:
        yield from batches


def test_a_training_goes_on_to_the_bit(path, generators):
    saved, resumed = Everything(0), Everything(1, steps=1)
    checkpoint.save(path, **saved.parts(), random=checkpoint.random_state())
    saved.train(7)
    torch.manual_seed(9)
    checkpoint.set_random_state(checkpoint.load(path, **resumed.parts())["random"])
    resumed.train(7)
    found = checkpoint.differences(resumed.state(), saved.state())
    assert [name for name in found if not name.startswith("places")] == []


def broken_states():
    """Changes to one part of a saved state that make it unfit, and a word of the message."""

    def without(name, key):
        return lambda state: state[name].pop(key)

    def replaced(name, value):
        return lambda state: state.update({name: value})

    others = Everything(2, width=5).optimizer.state_dict()
    sgd = torch.optim.SGD(Everything().model.parameters()).state_dict()
    cyclic = scheduled("CyclicLR", 1)[0].state_dict()
    place = ShuffledBatches(11, 3).state_dict()
    return {
        "model: a missing key": (without("model", "1.running_mean"), "1.running_mean"),
        "optimizer: other shapes": (replaced("optimizer", others), "in the order in which"),
        "optimizer: of another kind": (replaced("optimizer", sgd), "options lack betas, eps"),
        "scheduler: a missing key": (without("scheduler", "last_epoch"), "last_epoch"),
        "scheduler: no state": (replaced("scheduler", None), "NoneType"),
        "scheduler: of another kind": (replaced("scheduler", cyclic), "step_size"),
        "noise: too short": (replaced("noise", torch.zeros(3).byte()), "RNG"),
        "batches: of other data": (replaced("batches", place), "these are 10 in batches of 4"),
    }


@pytest.mark.parametrize("broken", broken_states())
def test_if_one_part_does_not_fit_all_are_as_they_were(path, broken):
    name = broken.partition(":")[0]
    change, word = broken_states()[broken]
    checkpoint.save(path, **Everything(0).parts())
    state = checkpoint.read(path)
    change(state)
    checkpoint.save(path, **state)
    ours = Everything(1, steps=1)
    before = ours.state()
    with pytest.raises(CheckpointError) as caught:
        parts = ours.parts()
        parts[name] = parts.pop(name)  # the last one that is loaded
        checkpoint.load(path, **parts)
    assert checkpoint.differences(ours.state(), before) == []
    message = str(caught.value)
    assert str(path) in message and f"does not fit {name!r}" in message and word in message
    assert message.endswith("All parts are as they were")


def test_a_missing_part_and_what_takes_no_state_are_told_before_anything_is_loaded(path):
    checkpoint.save(path, model=linear(0), step=1)
    model = linear(1)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointError, match=r"holds no 'optimizer': it holds 'model', 'step'"):
        checkpoint.load(path, model=model, optimizer=stepped("SGD", model.weight, 0))
    with pytest.raises(TypeError, match="step is 0, which can't be given a state"):
        checkpoint.load(path, model=model, step=0)
    assert checkpoint.differences(model.state_dict(), before) == []


def test_an_interrupt_in_mid_load_passes_and_gives_everything_back(path, monkeypatch):
    def interrupted(state):
        monkeypatch.undo()
        ours.batches.load_state_dict(state)
        raise KeyboardInterrupt

    checkpoint.save(path, **Everything(0).parts())
    ours = Everything(1, steps=1)
    before = ours.state()
    monkeypatch.setattr(ours.batches, "load_state_dict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.load(path, **ours.parts())
    assert checkpoint.differences(ours.state(), before) == []


def test_an_optimizer_of_an_earlier_torch_or_without_its_scheduler_is_taken(path):
    state = stepped("SGD", linear().weight).state_dict()
    del state["param_groups"][0]["maximize"], state["param_groups"][0]["foreach"]
    checkpoint.save(path, optimizer=state)
    _, optimizer = scheduled("StepLR", 0)  # has noted the first learning rate in the optimizer
    checkpoint.load(path, optimizer=optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert optimizer.param_groups[0]["maximize"] is False


@pytest.mark.parametrize("name", ["SequentialLR", "ChainedScheduler"])
@pytest.mark.parametrize("change", [list.pop, list.reverse, lambda inside: inside[0].clear()])
def test_the_schedulers_inside_another_have_to_fit_too(path, name, change):
    state = copy.deepcopy(scheduled(name, 3)[0].state_dict())
    change(state["_schedulers"])
    checkpoint.save(path, scheduler=state)
    with pytest.raises(CheckpointError, match="does not fit 'scheduler'"):
        checkpoint.load(path, scheduler=scheduled(name, 1)[0])


def test_a_scheduler_of_another_version_of_torch_is_taken(path):
    scheduler, _ = scheduled("StepLR", 3)
    state = {**scheduler.state_dict(), "_of_tomorrow": 1}
    del state["_get_lr_called_within_step"]
    checkpoint.save(path, scheduler=state)
    fresh, _ = scheduled("StepLR", 0)
    checkpoint.load(path, scheduler=fresh)
    assert fresh.last_epoch == 3


# Devices and random states


def test_tensors_go_to_the_cpu_or_where_map_location_says(path, monkeypatch):
    def nowhere(storage, location):
        raise ValueError(f"where is {location}?")

    checkpoint.save(path, weights=torch.ones(2, 3), log=[1])
    found = checkpoint.load(path, map_location="meta")
    assert found["weights"].device.type == "meta" and found["log"] == [1]
    with pytest.raises(CheckpointError, match="checkpoint.pt can't be loaded: where is cpu"):
        checkpoint.load(path, map_location=nowhere)
    monkeypatch.setattr(torch, "load", lambda *_, map_location, **__: {"asked": map_location})
    assert checkpoint.load(path) == checkpoint.read(path) == {"asked": "cpu"}
    assert checkpoint.load(path, map_location=None) == {"asked": None}


@pytest.mark.filterwarnings("ignore:.*no-op:UserWarning")
def test_a_model_without_memory_can_not_be_loaded_into(path):
    """torch only warns, and does nothing."""
    checkpoint.save(path, model=linear())
    with pytest.raises(CheckpointError, match="does not fit 'model' .*no-op"):
        checkpoint.load(path, model=nn.Linear(3, 2, bias=False, device="meta"))


@pytest.fixture
def generators():
    """The global generators, which get back the state they had before the test."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    yield
    torch.set_rng_state(before[0]), np.random.set_state(before[1]), random.setstate(before[2])


@pytest.mark.parametrize("drawn", [0, 1, 2])
def test_all_generators_go_on_where_they_were_also_from_a_file(path, generators, drawn):
    def draws():
        ours = torch.rand(1).item(), torch.randn(1).item(), np.random.rand(), np.random.randn()
        return [*ours, random.random(), random.gauss(0, 1)]

    for _ in range(drawn):
        draws()  # normal numbers are made in pairs: an odd number leaves one in store
    state = checkpoint.random_state()
    first = draws()
    checkpoint.save(path, random=state)
    for found in (state, checkpoint.load(path)["random"]):
        checkpoint.set_random_state(found)
        assert draws() == first


@pytest.mark.parametrize("saved_on, loaded_on", [(2, 2), (2, 1), (1, 2), (2, 0), (0, 2)])
def test_each_accelerator_has_a_generator_of_its_own(
    saved_on, loaded_on, monkeypatch, path, generators
):
    accelerators = []
    module = SimpleNamespace(
        get_rng_state=lambda i: accelerators[i].get_state(),
        set_rng_state=lambda state, i: accelerators[i].set_state(state),
    )
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: len(accelerators))
    monkeypatch.setattr(
        torch.accelerator,
        "current_accelerator",
        lambda check_available: torch.device("meta") if accelerators else None,
    )
    accelerators[:] = [torch.Generator().manual_seed(i) for i in range(saved_on)]
    checkpoint.save(path, random=checkpoint.random_state())
    accelerators[:] = [torch.Generator().manual_seed(9 + i) for i in range(loaded_on)]
    checkpoint.set_random_state(checkpoint.load(path)["random"])
    seeds_now = [generator.initial_seed() for generator in accelerators]
    assert seeds_now == [i if i < saved_on else 9 + i for i in range(loaded_on)]


# Shuffled batches

sizes = {"n": st.integers(1, 40), "batch_size": st.integers(1, 45), "seed": st.integers(0, 999)}


@pytest.fixture(scope="module", params=["helpers", "notebook"])
def batches_class(request):
    """``ShuffledBatches`` as it ships, and as chapter 05 writes it."""
    if request.param == "helpers":
        return ShuffledBatches
    return definitions.load("05_serialization", "ShuffledBatches")


@given(**sizes)
def test_each_epoch_holds_each_sample_once(batches_class, n, batch_size, seed):
    batches = batches_class(n, batch_size, seed)
    for _ in range(2):
        epoch = list(batches)
        assert sorted(itertools.chain(*epoch)) == list(range(n))
        assert len(epoch) == math.ceil(n / batch_size) == len(ShuffledBatches(n, batch_size))
        assert {len(batch) for batch in epoch[:-1]} <= {batch_size}


@given(taken=st.integers(0, 30), **sizes)
def test_a_place_is_all_that_a_fresh_one_needs_to_go_on(batches_class, n, batch_size, seed, taken):
    walked = batches_class(n, batch_size, seed)
    walk = endless(walked)
    for _ in range(taken):
        next(walk)
    place = walked.state_dict()
    fresh = batches_class(n, batch_size, seed + 1)
    fresh.load_state_dict(place)
    assert fresh.state_dict() == place
    rest = list(itertools.islice(walk, 2 * math.ceil(n / batch_size) + 1))
    assert list(itertools.islice(endless(fresh), len(rest))) == rest


def test_epochs_and_seeds_are_shuffled_differently(batches_class):
    batches = batches_class(40, 40)
    orders = [tuple(next(iter(batches_class(40, 40, seed)))) for seed in range(20)]
    assert len(set(orders)) == 20 and tuple(range(40)) not in orders
    # Seed s begins with what is epoch s of seed 0.
    assert [tuple(order) for _ in range(20) for order in batches] == orders


@pytest.mark.parametrize("n, batch_size", [(1, 1), (16, 8), (17, 8)])
def test_a_data_loader_takes_them_as_batch_sampler(n, batch_size):
    batches, same = ShuffledBatches(n, batch_size), ShuffledBatches(n, batch_size)
    loader = DataLoader(TensorDataset(torch.arange(n)), batch_sampler=batches)
    assert len(loader) == len(batches)
    for _ in range(2):
        for (loaded,), rows in zip(loader, same, strict=True):
            assert loaded.tolist() == rows
            assert batches.state_dict() == same.state_dict()


@pytest.mark.parametrize("n, batch_size", [(0, 1), (1, 0)])
def test_there_are_no_batches_of_nothing(n, batch_size):
    with pytest.raises(ValueError, match=f"n is {n} and batch_size is {batch_size}: both must"):
        ShuffledBatches(n, batch_size)


@pytest.mark.parametrize(
    "state, message",
    [
        ({"n": 11}, "a place among 11 samples in batches of 3; these are 10 in batches of 3"),
        ({"batch_size": 2}, "a place among 10 samples in batches of 2"),
        ({"position": 4}, "a place has n, batch_size, seed, epoch, batch; got .*position"),
    ],
)
def test_a_place_in_other_batches_is_refused(state, message):
    batches = ShuffledBatches(10, 3)
    place = batches.state_dict()
    with pytest.raises(ValueError, match=message):
        batches.load_state_dict({**place, **state})
    assert batches.state_dict() == place


# The checkpoints of a folder

scores = st.one_of(st.none(), st.integers(-3, 3).map(float), st.floats())
NO_CHECKPOINTS = [
    *("notes.txt", "step=1.pt", "step=00000001.pth", "step=00000001.pt.damaged", "model.pt"),
    *(
        "step=000000001.pt",
        "step=00000001_score=0.50.pt",
        "step=00000001_score=1-2.pt",
        ".step=note.tmp",
    ),
]


@given(
    history=st.lists(scores, min_size=1, max_size=6),
    keep=st.integers(1, 3),
    best=st.sampled_from(["min", "max"]),
)
@example(history=[math.nan, 1e-05, math.nan, 1e16], keep=1, best="min")
@settings(max_examples=15)
def test_the_last_and_the_best_are_kept_and_no_others(history, keep, best, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    for name in NO_CHECKPOINTS:
        (folder / name).write_text(name)
    seen, champion = [], None
    for step, score in enumerate(history):
        made = Checkpoints(folder, keep, best).save(step, score)  # each as of a new process
        seen.append(step)
        # The first of the best; what is no number never is.
        if score is not None and not math.isnan(score):
            value = score if best == "min" else -score
            champion = champion if champion and champion[1] <= value else (step, value)
        kept = Checkpoints(folder, keep, best)
        wanted = {*seen[-keep:], *([champion[0]] if champion else [])}
        assert [checkpoint.load(path)["step"] for path in kept.all()] == sorted(wanted)
        assert kept.latest() == made == kept.all()[-1]
        assert (kept.best() and checkpoint.load(kept.best())["step"]) == (champion and champion[0])
    assert {name for name in NO_CHECKPOINTS if (folder / name).read_text() != name} == set()
    assert len(os.listdir(folder)) == len(NO_CHECKPOINTS) + len(kept.all())


@pytest.mark.parametrize("score", [1, np.float32(0.5), np.float64(1e-05)])
def test_a_score_may_be_any_kind_of_number(tmp_path, score):
    unchecked = getattr(Checkpoints.save, "__wrapped__", Checkpoints.save)
    path = unchecked(Checkpoints(tmp_path), 1, score)
    assert path.name == f"step=00000001_score={float(score)!r}.pt"
    assert Checkpoints(tmp_path).best() == path


def test_an_empty_folder_and_a_missing_one_hold_none(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        kept = Checkpoints(folder)
        assert kept.all() == [] and kept.latest() is kept.best() is kept.load() is None
    assert not (tmp_path / "nowhere").exists()


def test_a_load_goes_back_past_damaged_ones(tmp_path, capsys):
    kept, model = Checkpoints(tmp_path), linear(9)
    first, *damaged = [kept.save(step, model=linear(step)) for step in range(3)]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-9])
    assert kept.load(model=model) == {"step": 0} and kept.all() == [first]
    assert checkpoint.differences(model.state_dict(), linear(0).state_dict()) == []
    for line, path in zip(capsys.readouterr().out.splitlines(), damaged[::-1], strict=True):
        assert str(path) in line and f"It is {path.name}.damaged now" in line
        assert Path(f"{path}.damaged").exists()
    # A step after it is taken again, and may be damaged again.
    kept.save(2).write_bytes(b"")
    assert kept.load(model=model) == {"step": 0}
    first.write_bytes(b"")
    assert kept.load() is None


def test_a_load_does_not_go_back_past_a_misfit_or_a_hostile_file(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.save(1, model=linear(inputs=3))
    kept.save(2, model=linear(inputs=2))
    with nothing_changes(tmp_path), pytest.raises(CheckpointError, match="step=00000002.pt"):
        kept.load(model=linear(inputs=3))
    torch.save(Runs(), tmp_path / "step=00000003.pt")
    with nothing_changes(tmp_path), pytest.raises(pickle.UnpicklingError):
        kept.load()


def test_a_step_that_goes_back_or_a_save_that_fails_changes_nothing(tmp_path):
    kept = Checkpoints(tmp_path, keep=1)
    kept.save(5, 0.5)
    for step in (5, 4, 0):
        with nothing_changes(tmp_path), pytest.raises(ValueError, match=f"step {step} comes after"):
            kept.save(step)
    with nothing_changes(tmp_path), pytest.raises(ValueError, match="step is -1: count"):
        kept.save(-1)
    with nothing_changes(tmp_path), pytest.raises(CheckpointError, match="bad is a numpy"):
        kept.save(6, bad=np.ones(1))


def test_what_a_killed_process_left_goes_with_the_next_save(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.save(1)
    left, other = tmp_path / ".step=00000002.pt.0a.tmp", tmp_path / ".mine.pt.0b.tmp"
    left.write_bytes(b"half of")
    other.write_bytes(b"half of another one")
    assert kept.load() == {"step": 1} and len(kept.all()) == 1
    kept.save(2)
    assert not left.exists() and other.exists()


@pytest.mark.skipif(os.name != "posix", reason="an open file can't be removed there anyway")
def test_what_another_process_writes_stays_until_it_is_renamed(tmp_path, monkeypatch):
    kept, replace = Checkpoints(tmp_path), os.replace

    def replace_after_another_save(unfinished, path):
        monkeypatch.undo()
        kept.save(1)
        replace(unfinished, path)

    monkeypatch.setattr(os, "replace", replace_after_another_save)
    Checkpoints(tmp_path).save(2)
    assert kept.load() == {"step": 2}


@pytest.mark.skipif(os.name != "posix", reason="an open file can't be removed there anyway")
def test_a_file_that_was_taken_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    def taken(file, _):
        Path(file.name).unlink()
        monkeypatch.undo()

    monkeypatch.setattr(checkpoint.fcntl, "flock", taken)
    checkpoint.save(tmp_path / "a.pt", step=1)
    assert checkpoint.load(tmp_path / "a.pt") == {"step": 1}


def test_a_folder_that_can_not_be_changed_is_gone_back_in(tmp_path, monkeypatch, capsys):
    kept = Checkpoints(tmp_path)
    kept.save(1)
    kept.save(2).write_bytes(b"cut off")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    assert kept.load() == {"step": 1}
    assert "It can't be renamed; going back" in capsys.readouterr().out


def test_what_could_keep_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="best is 'low': it must be 'min' or 'max'"):
        Checkpoints(tmp_path, best="low")
    with pytest.raises(ValueError, match="keep is 0: at least the last"):
        Checkpoints(tmp_path, keep=0)


# Differences


def test_a_state_differs_from_its_copy_in_nothing_and_if_one_bit_is_flipped_there():
    for position, tensor in enumerate(STATE["tensors"]):
        changed = copy.deepcopy(STATE)
        assert checkpoint.differences(STATE, changed) == []
        changed["tensors"][position].view(-1).view(torch.uint8)[-1] ^= 1
        assert checkpoint.differences(STATE, changed) == [f"tensors.{position}"], tensor.dtype


@pytest.mark.parametrize(
    "ours, theirs, found",
    [
        (torch.ones(2), torch.ones(2, dtype=torch.float64), [""]),
        (torch.ones(2), torch.ones(1, 2), [""]),
        ({"a": torch.zeros(1)}, {"a": -torch.zeros(1)}, ["a"]),
        ({"a": 0.0}, {"a": -0.0}, ["a"]),
        ({"a": 1}, {"a": True}, ["a"]),
        ({"a": [1]}, {"a": (1,)}, ["a"]),
        ({"a": {}}, {"a": OrderedDict()}, ["a"]),
        ({"a": None}, {}, ["a"]),
        ({1: "x"}, {"1": "x"}, ["1", "1"]),
        ({"a": {"b": [1, 2, {"c": 3}]}}, {"a": {"b": [1, 2, {"c": 4}]}}, ["a.b.2.c"]),
        ((torch.ones(2),), (torch.zeros(2), torch.ones(2)), [""]),
    ],
)
def test_a_difference_is_told_by_its_place(ours, theirs, found):
    assert checkpoint.differences(ours, theirs) == found
    assert checkpoint.differences(theirs, ours) == found


def test_how_a_tensor_is_stored_makes_no_difference():
    tensor = torch.arange(12.0).reshape(3, 4)
    complex_ones = torch.randn(3, dtype=torch.complex64)
    for ours, theirs in [
        (tensor.t(), tensor.t().contiguous()),
        (nn.Parameter(tensor), tensor),
        (complex_ones.conj(), complex_ones.conj().resolve_conj()),
        (torch._neg_view(tensor), -tensor),
    ]:
        assert checkpoint.differences(ours, theirs) == []


@pytest.mark.parametrize("step", [1.0, True])
def test_a_whole_step_of_any_kind_is_found_again(tmp_path, step):
    kept = Checkpoints(tmp_path)
    assert kept.latest() is None and kept.save(step) == kept.latest()
    assert kept.load() == {"step": 1}


def test_a_step_that_is_not_whole_is_refused(tmp_path):
    with pytest.raises(ValueError, match="step is 0.5: count"):
        Checkpoints(tmp_path).save(0.5)


def test_a_file_that_the_system_cannot_read_is_not_called_damaged(tmp_path, monkeypatch):
    class Stale(io.FileIO):
        def readinto(self, *_):
            raise OSError(errno.ESTALE, "Stale file handle")

        readall = read = readinto

    kept = Checkpoints(tmp_path)
    for step in range(3):
        kept.save(step)
    with monkeypatch.context() as patch:
        patch.setattr(
            checkpoint, "open", lambda path, _: io.BufferedReader(Stale(path)), raising=False
        )
        with pytest.raises(OSError, match="Stale file handle"):
            kept.load()
    assert kept.load() == {"step": 2}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_memory_of_an_optimizer_comes_back_to_the_bit_in_every_dtype(dtype, path):
    class WithMaster(torch.optim.Optimizer):
        def step(self):
            for parameter in self.param_groups[0]["params"]:
                state = self.state[parameter]
                state.setdefault("master", parameter.detach().float().clone())
                state["master"] -= 1e-3 * parameter.grad
                parameter.data.copy_(state["master"])

    for make in (torch.optim.NAdam, lambda parameters: WithMaster(parameters, {})):
        parameter = nn.Parameter(torch.linspace(-3, 3, 50).to(dtype))
        optimizer, fresh = make([parameter]), make([parameter])
        parameter.square().sum().backward()
        for _ in range(3):
            optimizer.step()
        checkpoint.save(path, optimizer=optimizer)
        checkpoint.load(path, optimizer=fresh)
        assert checkpoint.differences(fresh.state_dict(), optimizer.state_dict()) == []


def test_an_optimizer_of_your_own_may_use_a_known_name_for_another_shape(path):
    class OneForAll(torch.optim.Optimizer):
        def step(self):
            for parameter in self.param_groups[0]["params"]:
                self.state[parameter]["exp_avg_sq"] = parameter.grad.square().sum()

    parameter = nn.Parameter(torch.ones(3))
    optimizer = OneForAll([parameter], {})
    parameter.sum().backward()
    optimizer.step()
    checkpoint.save(path, optimizer=optimizer)
    checkpoint.load(path, optimizer=optimizer)


@pytest.mark.parametrize(
    ("saved", "given", "said"),
    [
        (torch.optim.Adam, torch.optim.Adamax, "of another kind"),
        (torch.optim.Adamax, torch.optim.Adam, "no exp_avg_sq"),
        (torch.optim.AdamW, torch.optim.Adam, "decoupled_weight_decay=True"),
    ],
)
def test_an_optimizer_of_a_related_kind_is_refused(saved, given, said, path):
    parameter = nn.Parameter(torch.ones(2))
    theirs, ours = saved([parameter]), given([parameter])
    parameter.sum().backward()
    theirs.step()
    ours.step()
    before = copy.deepcopy(ours.state_dict())
    checkpoint.save(path, optimizer=theirs)
    with pytest.raises(CheckpointError, match=said):
        checkpoint.load(path, optimizer=ours)
    assert checkpoint.differences(ours.state_dict(), before) == []


def test_a_scheduler_of_your_own_may_get_an_attribute_on_its_way(path):
    class Warming(lr_scheduler.LRScheduler):
        def get_lr(self):
            if self.last_epoch == 2:
                self.warm = True
            return [1.0]

    def make():
        return Warming(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0))

    scheduler = make()
    for _ in range(3):
        scheduler.optimizer.step()
        scheduler.step()
    checkpoint.save(path, scheduler=scheduler)
    resumed = make()
    checkpoint.load(path, scheduler=resumed)
    assert resumed.warm


def test_batches_are_made_on_the_cpu_whatever_the_default_device():
    wanted = list(ShuffledBatches(5, 2))
    with torch.device("meta"):
        assert list(ShuffledBatches(5, 2)) == wanted


def test_a_checkpoint_that_somebody_reads_may_stay(tmp_path, monkeypatch):
    kept = Checkpoints(tmp_path, keep=1)
    kept.save(0)

    unlink = Path.unlink

    def refuse(self, **options):
        if self.name == "step=00000000.pt":
            raise PermissionError(13, "being used by another process")
        unlink(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        kept.save(1)
    assert len(kept.all()) == 2
    kept.save(2)
    assert [path.name for path in kept.all()] == ["step=00000002.pt"]


def test_a_switch_of_torch_for_mapped_files_is_no_hindrance(path):
    before = torch.utils.serialization.config.load.mmap
    torch.utils.serialization.config.load.mmap = True
    try:
        checkpoint.save(path, number=1)
        assert checkpoint.load(path) == {"number": 1}
    finally:
        torch.utils.serialization.config.load.mmap = before


def test_random_state_of_another_kind_of_accelerator_is_not_used(monkeypatch):
    device = SimpleNamespace(get_rng_state=lambda _: torch.zeros(36, dtype=torch.uint8))
    device.set_rng_state = lambda *_: pytest.fail("it has another size")
    monkeypatch.setattr(checkpoint, "_accelerators", lambda: [(device, 0)])
    state = checkpoint.random_state()
    state["accelerators"] = [torch.zeros(16, dtype=torch.uint8)]
    checkpoint.set_random_state(state)


def test_an_optimizer_with_a_state_dict_of_its_own_form_comes_back(path):
    class Outer(torch.optim.SGD):
        def state_dict(self):
            return {"base": super().state_dict()}

        def load_state_dict(self, state):
            super().load_state_dict(state["base"])

    optimizer = Outer([nn.Parameter(torch.ones(2))], lr=0.1)
    checkpoint.save(path, optimizer=optimizer)
    checkpoint.load(path, optimizer=optimizer)


def test_an_option_of_one_group_is_no_other_kind_of_optimizer(path):
    first, second = (nn.Parameter(torch.ones(2)) for _ in range(2))
    groups = [{"params": [first], "decoupled_weight_decay": True}, {"params": [second]}]
    optimizer = torch.optim.Adam(groups)
    checkpoint.save(path, optimizer=optimizer)
    checkpoint.load(path, optimizer=optimizer)
