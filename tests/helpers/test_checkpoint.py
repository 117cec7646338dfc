"""Checkpoints: what comes back, what is refused, and what a damaged or hostile file can't do.

What happens when a save is stopped half-way is in `test_checkpoint_faults.py`.
"""

import contextlib
import copy
import io
import itertools
import math
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from helpers import checkpoint, loading
from helpers.checkpoint import CheckpointError, Checkpoints, DamagedError, ShuffledBatches
from tests.notebooks import definitions


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pt"


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_the_disk():
    """What these tests look at does not depend on it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


@contextlib.contextmanager
def nothing_changes(folder):
    before = contents(folder)
    yield
    assert contents(folder) == before


def contents(folder):
    return {name.name: name.read_bytes() for name in folder.iterdir() if name.is_file()}


# States to save

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64]
DTYPES += [torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool]

shapes = st.lists(st.integers(0, 3), max_size=3)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def tensors(draw):
    """A tensor of any bits: NaNs of every kind, both zeros and both infinities among them."""
    shape, dtype = draw(shapes), draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(seeds))
    size = math.prod(shape)
    if dtype == torch.bool:
        return torch.randint(2, shape, generator=generator).bool()
    raw = torch.randint(256, (size * dtype.itemsize,), generator=generator, dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)


def containers(inside):
    keys = st.one_of(st.text(max_size=5), st.integers(), st.tuples(st.integers(), st.booleans()))
    return st.one_of(
        st.lists(inside, max_size=3),
        st.lists(inside, max_size=3).map(tuple),
        st.dictionaries(keys, inside, max_size=3),
        st.dictionaries(keys, inside, max_size=3).map(OrderedDict),
    )


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=20),
    st.binary(min_size=1, max_size=20),  # torch.load refuses b""
    tensors(),
)
states = st.recursive(leaves, containers, max_leaves=8)

# Things with a state


def linear(seed=0, inputs=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(inputs, 2, bias=False)


def norm():
    return nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3), nn.PReLU(3))


MODULES = {
    "Linear": (linear, torch.ones(1, 3)),
    "BatchNorm": (norm, torch.randn(4, 2, 5, generator=torch.Generator().manual_seed(0))),
    "LSTM": (lambda: nn.LSTM(3, 2, num_layers=2), torch.ones(1, 1, 3)),
    "Embedding": (lambda: nn.Embedding(4, 2), torch.tensor([1, 2])),
    "Transformer": (lambda: nn.TransformerEncoderLayer(4, 2, 4), torch.ones(1, 1, 4)),
}

OPTIMIZERS = sorted(
    name
    for name, found in vars(torch.optim).items()
    if isinstance(found, type) and issubclass(found, torch.optim.Optimizer)
    if found is not torch.optim.Optimizer
)
MOMENTUM = {"SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.9, "centered": True}}


def stepped(name, parameter, steps=3, **options):
    """An optimizer of that name, which has moved the parameter so many times."""
    options = {"lr": 0.01, **MOMENTUM.get(name, {}), **options}
    optimizer = getattr(torch.optim, name)([parameter], **options)

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
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [1, 3]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.StepLR(o, 2)], [2]
    ),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 10),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.StepLR(o, 2), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, 5),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=10),
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


@given(state=states)
@settings(max_examples=60)
def test_what_is_saved_comes_back_to_the_bit_and_torch_can_read_it(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "checkpoint.pt"
    checkpoint.save(path, state=state, again={"state": [state]})
    saved = {"state": state, "again": {"state": [state]}}
    for found in (checkpoint.load(path), checkpoint.read(path), torch.load(path)):
        assert checkpoint.differences(found, saved) == []
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_comes_back(path, name):
    build, x = MODULES[name]
    module, fresh = build(), build()
    module(x)  # moves running statistics
    checkpoint.save(path, module=module)
    assert checkpoint.load(path, module=fresh) == {}
    assert checkpoint.differences(fresh.state_dict(), module.state_dict()) == []
    assert torch.load(path)["module"].keys() == module.state_dict().keys()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_comes_back(path, name):
    model, copied = linear(), linear()
    optimizer = stepped(name, model.weight)
    fresh = stepped(name, copied.weight, steps=0)
    checkpoint.save(path, model=model, optimizer=optimizer)
    checkpoint.load(path, model=copied, optimizer=fresh)
    assert checkpoint.differences(fresh.state_dict(), optimizer.state_dict()) == []
    assert fresh.state_dict()["state"]


def test_every_scheduler_of_torch_is_tried():
    found = {
        name
        for name, cls in vars(lr_scheduler).items()
        if isinstance(cls, type) and issubclass(cls, lr_scheduler.LRScheduler)
    }
    assert {name for name in found if not name.startswith("_")} - {"LRScheduler"} == set(SCHEDULERS)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_comes_back_and_goes_on(path, name):
    scheduler, optimizer = scheduled(name, steps=3)
    fresh, other = scheduled(name, steps=1)
    checkpoint.save(path, scheduler=scheduler, optimizer=optimizer)
    checkpoint.load(path, scheduler=fresh, optimizer=other)
    for _ in range(4):
        assert checkpoint.differences(fresh.state_dict(), scheduler.state_dict()) == []
        assert checkpoint.differences(other.state_dict(), optimizer.state_dict()) == []
        for one in (optimizer, other):
            one.step()
        for one in (scheduler, fresh):
            one.step(*[1.0] if name == "ReduceLROnPlateau" else [])


def test_a_generator_comes_back(path):
    generator, fresh = torch.Generator().manual_seed(5), torch.Generator()
    torch.rand(3, generator=generator)
    checkpoint.save(path, noise=generator)
    checkpoint.load(path, noise=fresh)
    assert torch.equal(torch.rand(9, generator=generator), torch.rand(9, generator=fresh))


def test_what_was_not_asked_for_is_returned(path):
    checkpoint.save(path, model=linear(), step=3, log=[1.5, 2.5])
    assert checkpoint.load(path, model=linear(1)) == {"step": 3, "log": [1.5, 2.5]}


def test_missing_folders_are_made_and_the_file_is_as_open_as_any_other(tmp_path):
    path = tmp_path / "a" / "b" / "checkpoint.pt"
    checkpoint.save(path, step=1)
    (tmp_path / "other").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_relative_path_and_a_string_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint.save("checkpoint.pt", step=1)
    assert checkpoint.load("checkpoint.pt") == {"step": 1}


# What is refused


class OwnClass:
    pass


class OwnDict(dict):
    pass


class Opaque:
    def __reduce__(self):
        raise ValueError("I am not for files")


REFUSED = {
    "numpy.float64": np.float64(0.5),
    "numpy.int64": np.int64(3),
    "numpy.ndarray": np.ones(2),
    "pathlib.": Path("here"),
    "function": lambda: 0,
    f"{__name__}.OwnClass": OwnClass(),
    f"{__name__}.OwnDict": OwnDict(a=1),
    f"{__name__}.Opaque": Opaque(),
    "range": range(3),
    "builtin_function_or_method": os.getcwd,
    "types.SimpleNamespace": SimpleNamespace(),
    "torch._C.Generator": torch.Generator(),
}


@given(
    kind=st.sampled_from(sorted(REFUSED)),
    way=st.lists(st.one_of(st.integers(0, 3), st.text("abc", min_size=1)), min_size=1, max_size=5),
)
@settings(max_examples=60)
def test_what_torch_load_refuses_is_refused_at_once_and_by_its_place(kind, way, tmp_path_factory):
    path = tmp_path_factory.mktemp("refused") / "checkpoint.pt"
    checkpoint.save(path, state=1)
    value = REFUSED[kind]
    for step in reversed(way):
        value = [0] * step + [value] if isinstance(step, int) else {"other": 1, step: value}
    place = ".".join(map(str, ("state", *way)))
    with nothing_changes(path.parent), pytest.raises(CheckpointError) as caught:
        checkpoint.save(path, model=linear(), state=value)
    assert str(path) in str(caught.value)
    assert f": {place} is a {kind}" in str(caught.value)


@pytest.mark.parametrize("key", [np.int64(3), Path("here")])
def test_a_key_that_torch_load_refuses_is_named(path, key):
    checkpoint.save(path, step=1)
    with nothing_changes(path.parent), pytest.raises(CheckpointError) as caught:
        checkpoint.save(path, seen={"count": {1: 1, key: 2}})
    assert f"the key {key!r} of seen.count is a {type(key).__module__}" in str(caught.value)


@pytest.mark.parametrize("refused", [False, True])
def test_what_is_too_deep_for_a_pickle_is_refused(path, refused):
    checkpoint.save(path, step=1)
    deep = [np.ones(2)] if refused else []
    for _ in range(100_000):
        deep = [deep]
    with nothing_changes(path.parent), pytest.raises(CheckpointError, match="nested too deep"):
        checkpoint.save(path, deep=deep)
    while isinstance(deep, list) and deep:  # freed one by one: at once it takes as deep a stack
        deep = deep[0]


def test_a_refused_value_is_not_blamed_on_an_error_of_the_system_before(path):
    try:
        raise OSError("something else")
    except OSError:
        with pytest.raises(CheckpointError, match="wrong is a .*Opaque"):
            checkpoint.save(path, wrong=Opaque())


def test_what_is_refused_for_no_single_value_is_told_in_torchs_words(path, monkeypatch):
    def refuse(*_):
        raise ValueError("odd\nindeed")

    monkeypatch.setattr(torch, "save", refuse)
    monkeypatch.setattr(checkpoint, "_survives", lambda leaf: True)
    with pytest.raises(CheckpointError, match="odd$"):
        checkpoint.save(path, a=1)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("taken", ["folder", "file"])
def test_a_place_that_can_not_be_written_to_is_named(tmp_path, taken):
    path = tmp_path / "taken"
    path.mkdir() if taken == "folder" else path.write_text("mine")
    target = path if taken == "folder" else path / "checkpoint.pt"
    with nothing_changes(tmp_path), pytest.raises(CheckpointError) as caught:
        checkpoint.save(target, step=1)
    assert str(target) in str(caught.value) and "choose another folder" in str(caught.value)


# Damage


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """What a file holds, and its bytes."""
    path = tmp_path_factory.mktemp("good") / "checkpoint.pt"
    state = {"weights": torch.arange(1.0, 41.0), "more": torch.ones(3, 3), "log": [1, 2.5, "a"]}
    checkpoint.save(path, **state)
    return state, path.read_bytes()


def is_refused_or_right(path, content, state):
    """Read what was damaged: the error that came, or None if every value is right."""
    path.write_bytes(content)
    try:
        found = checkpoint.load(path)
    except CheckpointError as error:
        assert str(path) in str(error)
        return error
    assert checkpoint.differences(found, state) == []
    return None


def test_a_file_that_is_cut_off_anywhere_is_damaged(path, good):
    state, content = good
    for length in {*range(0, len(content), 3), *range(len(content) - 100, len(content))}:
        error = is_refused_or_right(path, content[:length], state)
        assert type(error) is DamagedError, length
        assert f"({length} bytes)" in str(error)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_a_flipped_bit_never_gives_wrong_values(place, bit, good, tmp_path_factory):
    state, content = good
    changed = bytearray(content)
    changed[int(place * len(content))] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.pt"
    is_refused_or_right(path, bytes(changed), state)


def test_every_flipped_bit_of_a_tensor_is_found_and_torch_load_finds_none(path, good):
    state, content = good
    raw = state["weights"].numpy().tobytes()
    start = content.index(raw)
    for at, bit in itertools.product(range(0, len(raw), 5), range(8)):
        changed = bytearray(content)
        changed[start + at] ^= 1 << bit
        error = is_refused_or_right(path, bytes(changed), state)
        assert type(error) is DamagedError and "checksum" in str(error)
        assert checkpoint.differences(torch.load(path), state) == ["weights"]


@pytest.mark.parametrize("record", ["data.pkl", "data/0", "data/1"])
def test_no_flipped_bit_in_what_is_listed_of_a_record_gives_wrong_values(path, good, record):
    """torch itself fails here: some of them make it read memory that was never written to."""
    state, content = good
    directory = content.index(b"PK\x01\x02")
    name = content.index(f"/{record}".encode(), directory)
    start = content.rindex(b"PK\x01\x02", 0, name)
    errors = Counter()
    for at, bit in itertools.product(range(start, name), range(8)):
        changed = bytearray(content)
        changed[at] ^= 1 << bit
        error = is_refused_or_right(path, bytes(changed), state)
        errors[str(error).partition("damaged: ")[2]] += 1
    assert errors[f"its record 'archive/{record}' is listed as a folder"] == 1


@given(data=st.data())
@settings(max_examples=150)
def test_other_damage_never_gives_wrong_values(data, good, tmp_path_factory):
    """A stretch is overwritten, lost, or doubled: as by a bad block or a copy that went wrong."""
    state, content = good
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(start + 1, len(content)))
    stretch = content[start:end]
    damaged = [b"", bytes(len(stretch)), stretch * 2, stretch[::-1], stretch.swapcase()]
    other = data.draw(st.sampled_from(damaged))
    path = tmp_path_factory.getbasetemp() / "changed.pt"
    is_refused_or_right(path, content[:start] + other + content[end:], state)


@given(extra=st.binary(min_size=1, max_size=100), before=st.booleans())
@settings(max_examples=50)
def test_bytes_before_or_after_a_file_never_give_wrong_values(
    extra, before, good, tmp_path_factory
):
    state, content = good
    path = tmp_path_factory.getbasetemp() / "longer.pt"
    error = is_refused_or_right(path, extra + content if before else content + extra, state)
    assert not before or type(error) is DamagedError


def test_two_files_in_one_are_neither_of_them(path, good, tmp_path):
    """zipfile checks the second, from Python 3.14 on both; torch goes by numbers of the first."""
    _, content = good
    other = tmp_path / "other.pt"
    checkpoint.save(other, weights=torch.zeros(40), more=torch.zeros(3, 3), log=[1, 2.5, "a"])
    path.write_bytes(other.read_bytes() + content)
    with pytest.raises(DamagedError, match="none of torch.save|Corrupt zip64"):
        checkpoint.load(path)


def of_torch(state, **options):
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


def a_zip(**records):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def a_packed_zip():
    """What torch.save could have written, packed: ten million bytes in ten thousand."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        with zipfile.ZipFile(io.BytesIO(of_torch({"a": 1}))) as plain:
            for name in plain.namelist():
                archive.writestr(name, plain.read(name))
        archive.writestr("archive/data/0", bytes(10**7))
    return buffer.getvalue()


def a_tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("data.pkl"), io.BytesIO())
    return buffer.getvalue()


def a_script():
    """An archive of torch.jit, made by hand: making one with torch is deprecated."""
    whole = io.BytesIO(of_torch({"a": 1}))
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr("archive/constants.pkl", b"")
    return whole.getvalue()


FOREIGN = {
    "empty": b"",
    "one byte": b"P",
    "zeros": bytes(5000),
    "a text": b"# A diary\n",
    "a table": b"step,loss\n1,0.5\n",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4,
    "a tar": a_tar(),
    "an empty zip": a_zip(),
    "a foreign zip": a_zip(notes="hello", **{"more/notes": "x" * 100}),
    "a packed zip": a_packed_zip(),
    "a zip with a data.pkl at its root": a_zip(**{"data.pkl": b"not a pickle"}),
    "a pickle": pickle.dumps({"a": 1}, protocol=2),
    "torch's format before 1.6": of_torch({"a": 1}, _use_new_zipfile_serialization=False),
    "an archive of torch.jit": a_script(),
    "a zip with a pickle and no more": a_zip(**{"archive/data.pkl": b"\x80\x02}q\x00."}),
    "safetensors": struct.pack("<Q", 2) + b"{}",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused_by_name(path, kind):
    path.write_bytes(FOREIGN[kind])
    with nothing_changes(path.parent), pytest.raises(CheckpointError) as caught:
        checkpoint.load(path, model=linear())
    assert str(path) in str(caught.value)
    if "data.pkl" not in kind and "and no more" not in kind:
        assert type(caught.value) is DamagedError


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


def test_a_missing_file_is_told_what_is_there_instead(path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*: its folder holds none"):
        checkpoint.load(path)
    checkpoint.save(path, step=1)
    with pytest.raises(FileNotFoundError, match=r"its folder holds checkpoint.pt"):
        checkpoint.load(path.with_name("chekpoint.pt"))
    with pytest.raises(FileNotFoundError, match="its folder holds none"):
        checkpoint.load(path.parent / "nowhere" / "checkpoint.pt")


def test_what_can_not_be_opened_is_not_called_damaged(tmp_path, path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    checkpoint.save(path, step=1)
    monkeypatch.setattr(checkpoint, "open", refuse, raising=False)
    with pytest.raises(CheckpointError, match="can't be read: Permission denied") as caught:
        checkpoint.load(path)
    assert not isinstance(caught.value, DamagedError) and str(path) in str(caught.value)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="can't be read") as caught:
        checkpoint.load(tmp_path)
    assert not isinstance(caught.value, DamagedError)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_a_file_without_permission_can_not_be_read(path):
    checkpoint.save(path, step=1)
    path.chmod(0)
    with pytest.raises(CheckpointError, match="Permission denied"):
        checkpoint.load(path)


# Hostile files

WITNESS = "COURSE_TEST_WITNESS"


class Runs:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class RunsInState(OrderedDict):
    """Hidden in an innocent type: the call stands in what rebuilds it."""

    def __init__(self, attack):
        super().__init__(weight=torch.ones(2))
        self.hidden = attack


def attacks(witness):
    """Pickles that would leave a file behind, in several ways."""
    code = f"import pathlib; pathlib.Path({str(witness)!r}).write_text('it ran')"
    return {
        "exec": Runs(exec, code),
        "eval": Runs(eval, f"open({str(witness)!r}, 'w').close()"),
        "open": Runs(open, str(witness), "w"),
        "system": Runs(os.system, f'echo it ran > "{witness}"'),
        "mkdir": Runs(os.mkdir, str(witness)),
    }


@pytest.fixture
def witness(tmp_path_factory):
    return tmp_path_factory.mktemp("witness") / "it_ran"


HIDING = {
    "alone": lambda attack: attack,
    "in a part": lambda attack: {"model": attack},
    "deep": lambda attack: {"model": {"a": [1, (2, {"b": [attack]})]}},
    "as a key": lambda attack: {"model": {frozenset([1]): attack}},
    "in a state dict": lambda attack: {"model": RunsInState(attack)},
    "after tensors": lambda attack: {
        "model": linear().state_dict(),
        "x": torch.ones(9),
        "y": attack,
    },
}


@pytest.mark.parametrize("hidden", HIDING)
@pytest.mark.parametrize("attack", ["exec", "eval", "open", "system", "mkdir"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(path, witness, attack, hidden):
    torch.save(HIDING[hidden](attacks(witness)[attack]), path)  # its checksums are right
    model = linear()
    before = copy.deepcopy(model.state_dict())
    with nothing_changes(path.parent), pytest.raises(pickle.UnpicklingError) as caught:
        checkpoint.load(path, model=model)
    assert str(path) in str(caught.value) and "was not done" in str(caught.value)
    assert not witness.exists()
    assert checkpoint.differences(model.state_dict(), before) == []


@pytest.mark.parametrize("attack", ["exec", "eval", "open", "mkdir"])
def test_the_attacks_are_real(path, witness, attack):
    torch.save(HIDING["deep"](attacks(witness)[attack]), path)
    with contextlib.suppress(AttributeError):
        found = torch.load(path, weights_only=False)
        found["model"]["a"][1][1]["b"][0].close()  # the file of `open`
    assert witness.exists()


@pytest.mark.parametrize("form", ["pickle", "before 1.6", "before an archive", "in a zip"])
def test_a_pickle_in_disguise_is_not_even_opened(path, witness, form, good):
    attack = {"model": attacks(witness)["exec"]}
    alone = pickle.dumps(attack, protocol=2)
    path.write_bytes(
        {
            "pickle": alone,
            "before 1.6": of_torch(attack, _use_new_zipfile_serialization=False),
            "before an archive": alone + good[1],
            "in a zip": a_zip(**{"model/weights": alone}),
        }[form]
    )
    with pytest.raises(DamagedError):
        checkpoint.load(path, model=linear())
    assert not witness.exists()


def test_checkpoints_do_not_go_back_past_a_hostile_file(tmp_path, witness):
    kept = Checkpoints(tmp_path)
    kept.save(1, a=1)
    torch.save(attacks(witness)["exec"], tmp_path / "step=00000002.pt")
    with nothing_changes(tmp_path), pytest.raises(pickle.UnpicklingError):
        kept.load()
    assert not witness.exists()


# All or nothing


class Everything:
    """A model, its optimizer, its scheduler, a generator and a place in the data."""

    def __init__(self, seed=0, steps=2, width=4):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout())
        self.model[1].eval()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.scheduler = lr_scheduler.StepLR(self.optimizer, 2)
        self.noise = torch.Generator().manual_seed(seed)
        self.batches = ShuffledBatches(10, 3, seed)
        for _ in itertools.islice(self.batches, steps):
            self.model(torch.rand(5, 3, generator=self.noise)).sum().backward()
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


def test_everything_comes_back_together(path):
    saved, fresh = Everything(0), Everything(1, steps=1)
    checkpoint.save(path, **saved.parts())
    assert checkpoint.load(path, **fresh.parts()) == {}
    found = checkpoint.differences(fresh.state(), saved.state())
    assert [name for name in found if not name.startswith("places")] == []


def broken_states():
    """Changes to one part of a saved state that make it unfit, and a word of the message."""

    def without(name, key):
        return lambda state: state[name].pop(key)

    def replaced(name, value):
        return lambda state: state.update({name: value})

    other = Everything(2, width=5)
    adam = torch.optim.Adam(linear().parameters())
    return {
        "model: a missing key": (without("model", "1.running_mean"), "model", "1.running_mean"),
        "model: one too many": (lambda s: s["model"].update(a=1), "model", "Unexpected key"),
        "model: another shape": (replaced("model", other.model.state_dict()), "model", "size"),
        "model: no state": (replaced("model", 3), "model", "dict"),
        "optimizer: of other parameters": (
            replaced("optimizer", adam.state_dict()),
            "optimizer",
            "parameter group",
        ),
        "optimizer: other shapes": (
            replaced("optimizer", other.optimizer.state_dict()),
            "optimizer",
            "give them to the optimizer in the order",
        ),
        "optimizer: of another kind": (
            replaced("optimizer", torch.optim.SGD(Everything().model.parameters()).state_dict()),
            "optimizer",
            "options lack betas, eps",
        ),
        "optimizer: no state": (replaced("optimizer", 0.01), "optimizer", "float"),
        "scheduler: a missing key": (without("scheduler", "last_epoch"), "scheduler", "last_epoch"),
        "scheduler: empty": (replaced("scheduler", {}), "scheduler", "has nothing"),
        "scheduler: no state": (replaced("scheduler", None), "scheduler", "NoneType"),
        "scheduler: of another kind": (
            replaced("scheduler", scheduled("CyclicLR", 1)[0].state_dict()),
            "scheduler",
            "step_size",
        ),
        "generator: too short": (lambda s: s.update(noise=torch.zeros(3).byte()), "noise", "RNG"),
        "generator: none": (replaced("noise", None), "noise", "NoneType"),
        "batches: of other data": (
            replaced("batches", ShuffledBatches(11, 3).state_dict()),
            "batches",
            "these are 10 in batches of 3",
        ),
    }


@pytest.mark.parametrize("order", [1, -1], ids=["model first", "model last"])
@pytest.mark.parametrize("broken", broken_states())
def test_if_one_part_does_not_fit_all_are_as_they_were(path, broken, order):
    change, name, word = broken_states()[broken]
    checkpoint.save(path, **Everything(0).parts())
    state = checkpoint.read(path)
    change(state)
    checkpoint.save(path, **state)
    ours = Everything(1, steps=1)
    before = ours.state()
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path, **dict(list(ours.parts().items())[::order]))
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


def test_an_interrupt_in_mid_load_passes_and_gives_everything_back(path):
    class Interrupted(nn.Linear):
        interrupts = 1

        def load_state_dict(self, *arguments, **options):
            super().load_state_dict(*arguments, **options)
            if self.interrupts:
                self.interrupts -= 1
                raise KeyboardInterrupt

    checkpoint.save(path, one=linear(0), two=nn.Linear(2, 2))
    one, two = linear(1), Interrupted(2, 2)
    before = copy.deepcopy([one.state_dict(), two.state_dict()])
    with pytest.raises(KeyboardInterrupt):
        checkpoint.load(path, one=one, two=two)
    assert checkpoint.differences([one.state_dict(), two.state_dict()], before) == []


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"Adafactor", "LBFGS"}))
def test_a_memory_of_other_shapes_is_refused_though_torch_takes_it(path, name):
    wide, square = linear(inputs=3), linear(inputs=2)
    checkpoint.save(path, optimizer=stepped(name, wide.weight))
    ours = stepped(name, square.weight)
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(
        CheckpointError, match=r"has the shape \(2, 3\), the parameter has \(2, 2\)"
    ):
        checkpoint.load(path, optimizer=ours)
    assert checkpoint.differences(ours.state_dict(), before) == []
    ours.load_state_dict(torch.load(path)["optimizer"])  # no error


@pytest.mark.parametrize("name", [*OPTIMIZERS, "Adam with amsgrad"])
def test_each_memory_that_is_like_the_parameter_has_to_have_its_shape(path, name):
    weight = linear().weight
    name, _, option = name.partition(" with ")
    ours = stepped(name, weight, **{option: True} if option else {})
    like_it = [
        key
        for key, memory in ours.state[weight].items()
        if isinstance(memory, torch.Tensor) and memory.shape == weight.shape
    ]
    assert like_it or name in ("Adafactor", "LBFGS"), "those two keep sums and flat vectors"
    for key in like_it:
        state = copy.deepcopy(ours.state_dict())
        state["state"][0][key] = torch.zeros(5, 7)
        checkpoint.save(path, optimizer=state)
        with pytest.raises(CheckpointError, match=f"{key} of parameter 0 has the shape"):
            checkpoint.load(path, optimizer=ours)


def test_a_memory_is_counted_through_all_groups(path):
    first, second, third = linear().weight, linear(1).weight, linear(2).weight
    optimizer = torch.optim.SGD([{"params": [first, second]}, {"params": [third]}], momentum=0.9)
    third.grad = torch.ones_like(third)
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][2]["momentum_buffer"] = torch.zeros(1)
    checkpoint.save(path, optimizer=state)
    with pytest.raises(CheckpointError, match="momentum_buffer of parameter 2 has"):
        checkpoint.load(path, optimizer=optimizer)


def test_an_option_that_a_later_torch_added_is_filled_in(path):
    weight = linear().weight
    state = stepped("Adam", weight).state_dict()
    del state["param_groups"][0]["maximize"], state["param_groups"][0]["foreach"]
    checkpoint.save(path, optimizer=state)
    fresh = stepped("Adam", weight, steps=0)
    checkpoint.load(path, optimizer=fresh)
    assert fresh.param_groups[0]["maximize"] is False


def test_a_learning_rate_that_a_scheduler_has_noted_need_not_be_saved(path):
    """Two ways to begin: the scheduler before the loading, or after."""
    checkpoint.save(path, optimizer=stepped("SGD", linear().weight))
    _, optimizer = scheduled("StepLR", 0)
    checkpoint.load(path, optimizer=optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.01


@pytest.mark.parametrize("name", ["SequentialLR", "ChainedScheduler"])
def test_the_schedulers_inside_another_have_to_fit_too(path, name):
    for change in (
        lambda inside: inside.pop(),
        lambda inside: inside[0].clear(),
        lambda inside: inside.reverse(),
    ):
        state = copy.deepcopy(scheduled(name, 3)[0].state_dict())
        change(state["_schedulers"])
        checkpoint.save(path, scheduler=state)
        ours, _ = scheduled(name, 1)
        before = copy.deepcopy(ours.state_dict())
        with pytest.raises(CheckpointError, match="does not fit 'scheduler'"):
            checkpoint.load(path, scheduler=ours)
        assert checkpoint.differences(ours.state_dict(), before) == []


def test_a_scheduler_of_another_version_of_torch_is_taken(path):
    scheduler, _ = scheduled("StepLR", 3)
    state = {**scheduler.state_dict(), "_of_tomorrow": 1}
    del state["_get_lr_called_within_step"]
    checkpoint.save(path, scheduler=state)
    fresh, _ = scheduled("StepLR", 0)
    checkpoint.load(path, scheduler=fresh)
    assert fresh.last_epoch == 3


# Devices


def test_tensors_go_where_map_location_says(path):
    checkpoint.save(path, weights=torch.ones(2, 3), log=[1])
    assert checkpoint.load(path)["weights"].device.type == "cpu"
    for where in ("meta", torch.device("meta"), {"cpu": "meta"}):
        found = checkpoint.load(path, map_location=where)
        assert found["weights"].device.type == "meta" and found["weights"].shape == (2, 3)
        assert found["log"] == [1]
    assert checkpoint.load(path, map_location=lambda storage, _: storage)["weights"].sum() == 6


def test_what_was_saved_elsewhere_comes_to_the_cpu_unless_told_otherwise(path, monkeypatch):
    asked, load = [], torch.load

    def watched(*arguments, **options):
        asked.append(options["map_location"])
        return load(*arguments, **options)

    checkpoint.save(path, weights=torch.ones(2))
    monkeypatch.setattr(torch, "load", watched)
    checkpoint.read(path), checkpoint.load(path), checkpoint.load(path, map_location=None)
    assert asked == ["cpu", "cpu", None]


def test_a_map_location_that_fails_is_an_error_with_the_path(path):
    def nowhere(storage, location):
        raise ValueError(f"where is {location}?")

    checkpoint.save(path, weights=torch.ones(2))
    with pytest.raises(CheckpointError, match="can't be loaded: where is cpu") as caught:
        checkpoint.load(path, map_location=nowhere)
    assert str(path) in str(caught.value)


def test_a_model_without_memory_can_not_be_loaded_into(path):
    """torch only warns, and does nothing."""
    checkpoint.save(path, first=linear(), model=linear())
    first = linear(1)
    before = copy.deepcopy(first.state_dict())
    model = nn.Linear(3, 2, bias=False, device="meta")
    with pytest.raises(CheckpointError, match="does not fit 'model' .*no-op"):
        checkpoint.load(path, first=first, model=model)
    assert checkpoint.differences(first.state_dict(), before) == []


# Random states


@pytest.fixture
def generators():
    """The global generators, which get back the state they had before the test."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    yield
    torch.set_rng_state(before[0]), np.random.set_state(before[1]), random.setstate(before[2])


def draws():
    return [torch.rand(1).item(), torch.randn(1).item(), np.random.rand(), np.random.randn()] + [
        random.random(),
        random.gauss(0, 1),
    ]


@given(seed=seeds, drawn=st.integers(0, 5))
@example(seed=0, drawn=1)
@settings(max_examples=25)
def test_all_generators_go_on_where_they_were_also_from_a_file(seed, drawn, tmp_path_factory):
    path = tmp_path_factory.mktemp("random") / "checkpoint.pt"
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        for _ in range(drawn):
            draws()  # normal numbers are made in pairs: an odd number leaves one in store
        state = checkpoint.random_state()
        first = draws()
        checkpoint.save(path, random=state)
        for found in (state, checkpoint.load(path)["random"]):
            checkpoint.set_random_state(found)
            assert draws() == first
    finally:
        torch.set_rng_state(before[0]), np.random.set_state(before[1]), random.setstate(before[2])


@pytest.mark.parametrize("saved_on, loaded_on", [(0, 0), (2, 2), (2, 1), (1, 2), (2, 0), (0, 2)])
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


@given(epochs=st.integers(1, 3), **sizes)
def test_each_epoch_holds_each_sample_once(batches_class, n, batch_size, seed, epochs):
    batches = batches_class(n, batch_size, seed)
    for _ in range(epochs):
        epoch = list(batches)
        assert sorted(itertools.chain(*epoch)) == list(range(n))
        assert len(epoch) == math.ceil(n / batch_size)
        assert {len(batch) for batch in epoch[:-1]} <= {batch_size}


@given(**sizes)
def test_their_length_is_that_of_an_epoch(n, batch_size, seed):
    batches = ShuffledBatches(n, batch_size, seed)
    assert len(batches) == len(list(batches))


def endless(batches):
    while True:
        yield from batches


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


@given(taken=st.integers(0, 40), **sizes)
def test_an_iteration_goes_on_where_the_last_one_stopped(batches_class, n, batch_size, seed, taken):
    batches, whole = (batches_class(n, batch_size, seed) for _ in range(2))
    epoch = list(whole)
    taken %= len(epoch) + 1
    assert list(itertools.islice(batches, taken)) + list(batches) == epoch
    assert list(batches) == list(whole)


def test_the_end_of_an_epoch_that_was_not_reached_is_an_empty_iteration(batches_class):
    batches, fresh = batches_class(4, 2), batches_class(4, 2)
    list(itertools.islice(batches, 2))
    fresh.load_state_dict(batches.state_dict())
    assert list(fresh) == [] and fresh.epoch == 1
    assert list(batches) == [] and list(batches) == list(fresh) != []


def test_epochs_and_seeds_are_shuffled_differently(batches_class):
    batches = batches_class(40, 40)
    orders = [tuple(next(iter(batches_class(40, 40, seed)))) for seed in range(20)]
    assert len(set(orders)) == 20 and tuple(range(40)) not in orders
    # Seed s begins with what is epoch s of seed 0.
    assert [tuple(order) for _ in range(20) for order in batches] == orders


def test_the_notebook_and_the_module_take_each_others_places():
    ours, theirs = ShuffledBatches(10, 3), definitions.load("05_serialization", "ShuffledBatches")
    walked = theirs(10, 3, seed=4)
    list(itertools.islice(walked, 2))
    ours.load_state_dict(walked.state_dict())
    assert ours.state_dict() == walked.state_dict()
    assert list(ours) == list(walked) and list(ours) == list(walked)


@pytest.mark.parametrize("n, batch_size", [(1, 1), (3, 8), (8, 8), (16, 8), (17, 8)])
def test_a_data_loader_takes_them_as_batch_sampler(n, batch_size):
    batches, same = ShuffledBatches(n, batch_size), ShuffledBatches(n, batch_size)
    loader = DataLoader(TensorDataset(torch.arange(n)), batch_sampler=batches)
    assert len(loader) == len(batches)
    for _ in range(2):
        for (loaded,), rows in zip(loader, same, strict=True):
            assert loaded.tolist() == rows
            assert batches.state_dict() == same.state_dict()


def test_with_workers_the_place_runs_ahead_of_the_batches_that_were_given():
    dataset, batches = TensorDataset(torch.arange(40)), ShuffledBatches(40, 4)
    loader = DataLoader(dataset, batch_sampler=batches, **loading.workers(dataset, 1))
    next(iter(loader))
    assert batches.batch == 1 + loader.num_workers * loader.prefetch_factor


@pytest.mark.parametrize("n, batch_size", [(0, 1), (-1, 1), (1, 0), (1, -1)])
def test_there_are_no_batches_of_nothing(n, batch_size):
    with pytest.raises(ValueError, match=f"n is {n} and batch_size is {batch_size}: both must"):
        ShuffledBatches(n, batch_size)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch": 5}, "epoch 0, batch 5 is no place.*each has 4 batches"),
        ({"batch": -1}, "batch -1 is no place"),
        ({"epoch": -1}, "epoch -1"),
        ({"n": 11}, "a place among 11 samples in batches of 3; these are 10 in batches of 3"),
        ({"batch_size": 2}, "a place among 10 samples in batches of 2"),
        ({"position": 4}, "a place has n, batch_size, seed, epoch, batch; got .*position"),
        (None, "got epoch, batch"),
    ],
)
def test_what_is_no_place_among_the_batches_is_refused(change, message):
    batches = ShuffledBatches(10, 3)
    place = batches.state_dict()
    state = {"epoch": 0, "batch": 0} if change is None else {**place, **change}
    with pytest.raises(ValueError, match=message):
        batches.load_state_dict(state)
    assert batches.state_dict() == place


# The checkpoints of a folder

scores = st.one_of(st.none(), st.integers(-3, 3).map(float), st.floats())
NO_CHECKPOINTS = [
    *("notes.txt", "step=1.pt", "step=00000001.pth", "step=00000001.pt.damaged", "model.pt"),
    *("step=00000001_score=e.pt", "step=00000001_score=1.pt", "step=00000001_score=1-2.pt"),
    *("step=-0000001.pt", "step=00000001_score=0.50.pt", ".step=note.tmp"),
]


@given(
    history=st.lists(st.tuples(st.integers(1, 10**9), scores), min_size=1, max_size=12),
    keep=st.integers(1, 4),
    best=st.sampled_from(["min", "max"]),
)
@settings(max_examples=40)
def test_the_last_and_the_best_are_kept_and_no_others(history, keep, best, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    for name in NO_CHECKPOINTS:
        (folder / name).write_text(name)
    steps = list(itertools.accumulate(step for step, _ in history))
    seen, champion = [], None
    for step, (_, score) in zip(steps, history, strict=True):
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
        assert kept.load() == {"step": step}
    assert {name for name in NO_CHECKPOINTS if (folder / name).read_text() != name} == set()
    assert len(os.listdir(folder)) == len(NO_CHECKPOINTS) + len(kept.all())


@given(step=st.integers(0, 10**12), score=scores)
def test_a_name_says_the_step_and_the_score(step, score):
    name = checkpoint._Name(step, score)
    found = checkpoint._Name.of(Path(name.text))
    assert found.step == step and repr(found.score) == repr(score)


@pytest.mark.parametrize("score", [1, np.float32(0.5), np.float64(1e-05), True])
def test_a_score_may_be_any_kind_of_number(tmp_path, score):
    kept = Checkpoints(tmp_path)
    unchecked = getattr(Checkpoints.save, "__wrapped__", Checkpoints.save)
    path = unchecked(kept, 1, score)
    assert kept.best() == path and checkpoint._Name.of(path).score == float(score)


def test_a_small_score_and_a_large_one_are_read_from_their_names(tmp_path):
    kept = Checkpoints(tmp_path, keep=1)
    names = [
        kept.save(step, score).name for step, score in enumerate([1e-05, 3e-06, 1e16, -1e-300])
    ]
    assert names[0] == "step=00000000_score=1e-05.pt"
    assert [path.name for path in kept.all()] == [names[3]]


@pytest.mark.parametrize("best", ["min", "max"])
def test_what_is_no_number_is_never_the_best(tmp_path, best):
    kept = Checkpoints(tmp_path, keep=1, best=best)
    kept.save(1, math.nan)
    assert kept.best() is None
    champion = kept.save(2, 0.5)
    kept.save(3, math.nan)
    assert kept.best() == champion and champion.exists()


def test_an_empty_folder_and_a_missing_one_hold_none(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        kept = Checkpoints(folder)
        assert kept.all() == [] and kept.latest() is kept.best() is kept.load() is None
    assert not (tmp_path / "nowhere").exists()
    Checkpoints(tmp_path / "nowhere").save(1)
    assert Checkpoints(tmp_path / "nowhere").load() == {"step": 1}


@pytest.mark.parametrize("damaged", [1, 2, 3])
def test_a_load_goes_back_past_damaged_ones(tmp_path, capsys, damaged):
    kept = Checkpoints(tmp_path, keep=3)
    paths = [kept.save(step, model=linear(step)) for step in range(3)]
    for path in paths[3 - damaged :]:
        path.write_bytes(path.read_bytes()[:-9])
    left = paths[: 3 - damaged]
    model = linear(9)
    found = kept.load(model=model)
    assert kept.all() == left
    said = capsys.readouterr().out.splitlines()
    assert len(said) == damaged
    for line, path in zip(said, reversed(paths), strict=False):
        assert str(path) in line and f"It is {path.name}.damaged now" in line
        assert Path(f"{path}.damaged").exists()
    if not left:
        assert found is None
        return
    assert found == {"step": len(left) - 1}
    expected = linear(len(left) - 1)
    assert checkpoint.differences(model.state_dict(), expected.state_dict()) == []
    # The steps after it are taken again, and may be damaged again.
    path = kept.save(2, model=model)
    path.write_bytes(b"")
    assert kept.load(model=model) == found


def test_a_checkpoint_that_does_not_fit_is_not_gone_past(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.save(1, model=linear(inputs=3))
    kept.save(2, model=linear(inputs=2))
    with nothing_changes(tmp_path), pytest.raises(CheckpointError, match="step=00000002.pt"):
        kept.load(model=linear(inputs=3))


def test_a_step_that_goes_back_is_refused(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.save(5, 0.5)
    for step in (5, 4, 0):
        with nothing_changes(tmp_path), pytest.raises(ValueError, match=f"step {step} comes after"):
            kept.save(step)
    with nothing_changes(tmp_path), pytest.raises(ValueError, match="step is -1: count"):
        kept.save(-1)


def test_a_save_that_fails_removes_no_checkpoint(tmp_path):
    kept = Checkpoints(tmp_path, keep=1)
    kept.save(1)
    with nothing_changes(tmp_path), pytest.raises(CheckpointError, match="bad is a numpy"):
        kept.save(2, bad=np.ones(1))


def test_what_a_killed_process_left_goes_with_the_next_save(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.save(1)
    with checkpoint._beside(tmp_path / "step=00000002.pt") as unfinished:
        unfinished.write_bytes(b"half of")
        with checkpoint._beside(tmp_path / "mine.pt") as other:
            other.write_bytes(b"half of another one")
            assert kept.load() == {"step": 1} and len(kept.all()) == 1
            kept.save(2)
            assert not unfinished.exists() and other.exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"best": "low"}, "best is 'low': it must be 'min' or 'max'"),
        ({"keep": 0}, "keep is 0: at least the last"),
        ({"keep": -1}, "keep is -1"),
    ],
)
def test_what_could_keep_nothing_is_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        Checkpoints(tmp_path, **arguments)


# Differences


@given(state=states)
@example(state=[math.nan, complex(0, math.nan)])
def test_a_state_has_no_differences_from_its_copy(state):
    assert checkpoint.differences(state, copy.deepcopy(state)) == []


@given(ours=states, theirs=states)
def test_differences_do_not_depend_on_which_comes_first(ours, theirs):
    found = checkpoint.differences(ours, theirs)
    assert sorted(found) == sorted(checkpoint.differences(theirs, ours))


@given(tensor=tensors(), at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_single_bit_of_a_tensor_is_a_difference(tensor, at, bit):
    assume(tensor.numel() and tensor.dtype != torch.bool)
    other = tensor.clone()
    raw = other.view(-1).view(torch.uint8)
    raw[at % len(raw)] ^= 1 << bit
    state = {"model": [1, {"weight": tensor}]}
    changed = {"model": [1, {"weight": other}]}
    assert checkpoint.differences(state, changed) == ["model.1.weight"]


@given(number=st.floats(), bit=st.integers(0, 63))
def test_any_single_bit_of_a_number_is_a_difference(number, bit):
    (bits,) = struct.unpack("Q", struct.pack("d", number))
    (other,) = struct.unpack("d", struct.pack("Q", bits ^ 1 << bit))
    assert checkpoint.differences([number], [other]) == ["0"]


@pytest.mark.parametrize(
    "ours, theirs, found",
    [
        (torch.ones(2), torch.ones(2, dtype=torch.float64), [""]),
        (torch.ones(2), torch.ones(1, 2), [""]),
        (torch.ones(()), torch.ones(1), [""]),
        ({"a": torch.zeros(1)}, {"a": -torch.zeros(1)}, ["a"]),
        ({"a": 0.0}, {"a": -0.0}, ["a"]),
        ({"a": 1}, {"a": 1.0}, ["a"]),
        ({"a": 1}, {"a": True}, ["a"]),
        ({"a": torch.ones(1)}, {"a": 1.0}, ["a"]),
        ({"a": [1]}, {"a": (1,)}, ["a"]),
        ({"a": {}}, {"a": OrderedDict()}, ["a"]),
        ({"a": 1, "b": 2}, {"a": 1}, ["b"]),
        ({"a": None}, {}, ["a"]),
        (Counter(a=-1, b=2), Counter(b=2), ["a"]),
        (complex(1, 0.0), complex(1, -0.0), [""]),
        ({1: "x"}, {"1": "x"}, ["1", "1"]),
        ({"a": {"b": [1, 2, {"c": 3}]}}, {"a": {"b": [1, 2, {"c": 4}]}}, ["a.b.2.c"]),
        ({"a": [torch.ones(2)]}, {"a": [torch.ones(2), torch.ones(2)]}, ["a"]),
        ((torch.ones(2),), (torch.zeros(2), torch.ones(2)), [""]),
        ({"a": 1, "b": 2, "c": 3}, {"a": 0, "b": 2, "c": 0}, ["a", "c"]),
    ],
)
def test_a_difference_is_told_by_its_place(ours, theirs, found):
    assert checkpoint.differences(ours, theirs) == found


def test_how_a_tensor_is_stored_makes_no_difference():
    tensor = torch.arange(12.0).reshape(3, 4)
    complex_ones = torch.randn(3, dtype=torch.complex64)
    for ours, theirs in [
        (tensor.t(), tensor.t().contiguous()),
        (tensor[:, ::2], tensor[:, ::2].clone()),
        (tensor.expand(2, 3, 4), tensor.repeat(2, 1, 1)),
        (nn.Parameter(tensor), tensor),
        (complex_ones.conj(), complex_ones.conj().resolve_conj()),
        (complex_ones.conj().imag, complex_ones.conj().imag.resolve_neg()),
        (torch._neg_view(tensor), -tensor),
    ]:
        assert checkpoint.differences(ours, theirs) == []
