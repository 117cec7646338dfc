"""Checkpoints that survive a crash, refuse to run code, and bring a training back to the bit.

::

    checkpoint.save(path, model=model, optimizer=optimizer, random=checkpoint.random_state())
    rest = checkpoint.load(path, model=model, optimizer=optimizer)
    checkpoint.set_random_state(rest["random"])

A file holds one dict, name -> state, and ``torch.load(path)`` reads it without this module.
"""

import contextlib
import copy
import errno
import io
import math
import os
import pickle
import random
import re
import secrets
import shutil
import struct
import warnings
import zipfile
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

try:
    import fcntl
except ImportError:  # Windows, where no open file can be removed or renamed
    fcntl = None

LONGEST = 200  # bytes of a name that a temporary name begins with; most systems allow 255


class CheckpointError(RuntimeError):
    """A checkpoint can't be written, read or applied. What was there before is as it was."""


class DamagedError(CheckpointError):
    """The file was cut off or changed after it was written, or it never was a checkpoint."""


def save(path: str | os.PathLike[str], **parts: Any) -> None:
    """Write ``parts`` to ``path``, all of it or nothing.

    A part with a ``state_dict()`` is saved by it, a ``torch.Generator`` by its state, anything else
    as it is. Save the plain model: one that ``torch.compile`` has wrapped has other names. Save the
    ``clone()`` of a slice: the slice itself brings the whole tensor.

    The file is written beside ``path``, flushed to the disk, read back as ``load`` reads
    it, and only then put in the place of ``path``: at every moment ``path`` is the old checkpoint
    or the new one, whole. The new file has the permissions of the old one; if ``path`` is a link,
    the file that it leads to is replaced. Missing folders are made. If the process is killed in
    here, the unfinished file stays behind: hidden beside the old one, with a name that ends in
    ``.tmp``.

    Raises ``CheckpointError`` if the system does not let it write (a full disk, a missing
    permission), for what is nested too deep for a pickle, and, naming the place, for a
    tensor that brings its graph and for what ``torch.load`` refuses by default: NumPy's scalars and
    arrays, paths, objects of own classes.
    """
    path = Path(path).expanduser()
    state = {name: _state_of(part) for name, part in parts.items()}
    try:
        for where, value in _leaves(state):
            if isinstance(value, Tensor) and not value.is_leaf:
                raise ValueError(
                    f"{where} is a tensor with the graph that computed it: save its detach(), or "
                    "item() of a single number"
                ) from None
        target = path.resolve()
        with _beside(target) as (file, unfinished):
            if os.name == "posix":  # elsewhere, what must not be written can't be replaced, either
                with contextlib.suppress(OSError):  # a first file; a system without permissions
                    shutil.copymode(target, unfinished)
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()
            read(unfinished)
            os.replace(unfinished, target)
    except Exception as error:  # pickling runs the values' own code
        raise CheckpointError(
            f"{path} was not written, and what was there before is as it was: "
            f"{_why_not_written(error, state)}"
        ) from error
    # Bring the renaming to the disk. Where no folder can be flushed, as on Windows, a crash of the
    # machine may bring the old checkpoint back, whole.
    with contextlib.suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load(path: str | os.PathLike[str], *, map_location: Any = "cpu", **parts: Any) -> dict:
    """Give each of ``parts`` its saved state back; return what else is in the file.

    Nothing in the file is run (``weights_only=True``). Either every part gets its state, or all of
    them stay as they were. Optimizers and modules keep their own devices; ``map_location``, as in
    ``torch.load``, is for what is returned. An optimizer's parameters are matched by their order.

    Raises ``OSError``, such as ``FileNotFoundError``, if the system does not let it be read;
    ``DamagedError`` if a checksum is wrong or ``torch.save`` did not write the file;
    ``pickle.UnpicklingError`` if the file asks for code to be run; ``CheckpointError``, saying what
    is missing, unexpected or of another shape, if a part is not in the file or its state does not
    fit; ``TypeError`` for a part that can't be given a state.
    """
    state = read(path, map_location=map_location)
    absent = [name for name in parts if name not in state]
    if absent:
        raise CheckpointError(
            f"{path} holds no {' and no '.join(map(repr, absent))}: it holds "
            f"{', '.join(map(repr, state)) or 'nothing'}. If that is the state dict of one model, "
            "use model.load_state_dict(torch.load(path))"
        )
    for name, part in parts.items():
        if not (isinstance(part, torch.Generator) or hasattr(part, "load_state_dict")):
            raise TypeError(
                f"{name} is {part!r}, which can't be given a state: pass what has a "
                "load_state_dict(), and take the rest from what load returns"
            )
    _restore({name: (part, state[name]) for name, part in parts.items()}, path)
    return {name: value for name, value in state.items() if name not in parts}


def read(path: str | os.PathLike[str], *, map_location: Any = "cpu") -> dict:
    """The dict in a file, its checksums compared first: ``torch.load`` does not look at them.

    A file that was saved under ``torch.serialization.set_crc32_options(False)`` has none.

    Raises what ``load`` raises.
    """
    # What is checked is what is loaded, even if another file takes the name in between.
    with open(Path(path).expanduser(), "rb") as file:
        damage = _damage(file)
        if damage:
            # zipfile hides an error of the system: here it is raised, and what is read now counts.
            file.seek(0)
            while file.read(1 << 20):
                pass
            damage = _damage(file)
        if damage:
            raise DamagedError(f"{path} ({file.seek(0, 2)} bytes) is damaged: {damage}")
        file.seek(0)
        try:
            state = torch.load(file, map_location=map_location, weights_only=True, mmap=False)
        except pickle.UnpicklingError as error:
            reason = _first_line(str(error).partition("WeightsUnpickler error: ")[2] or error)
            raise pickle.UnpicklingError(
                f"{path} was not loaded, and nothing in it was run: {reason}"
            ) from error
        except Exception as error:  # of torch, and of a map_location that is a function
            raise CheckpointError(f"{path} can't be loaded: {_first_line(error)}") from error
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path} holds a {type(state).__name__}, not a dict of parts: write it with "
            "checkpoint.save(path, model=model, …)"
        )
    return state


class Checkpoints:
    """The checkpoints of one training in one folder: the last ``keep``, and the best.

    A file is called ``step=00000120.pt``, or ``step=00000120_score=0.25.pt`` if a score was given.
    Which is the best is read from the names, so it outlives the process. ``best`` is ``"min"`` or
    ``"max"``; a NaN is never the best. Other files in the folder are left alone. Raises
    ``ValueError`` for another word and for ``keep < 1``.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3, best: str = "min"):
        if best not in ("min", "max"):
            raise ValueError(f"best is {best!r}: it must be 'min' or 'max', of the score")
        if keep < 1:
            raise ValueError(f"keep is {keep}: at least the last checkpoint has to be kept")
        self.folder, self.keep = Path(folder).expanduser(), keep
        self.prefer = min if best == "min" else max

    def save(self, step: float, score: float | None = None, **parts: Any) -> Path:
        """Save a checkpoint, then remove those that are neither among the last nor the best.

        ``step`` is saved with the parts. What a killed process left unfinished goes first. Raises
        ``ValueError`` if ``step`` is negative, not whole or not beyond the latest one in the
        folder, and what ``checkpoint.save`` raises.
        """
        if step < 0 or step != int(step):
            raise ValueError(f"step is {step}: count the steps from 0, in whole numbers")
        step = int(step)  # 1.0 would make a name that is not found again
        for before, _, latest in self._found()[-1:]:
            if step <= before:
                raise ValueError(
                    f"step {step} comes after {latest.name} is there: load that one and go on from "
                    "it, or use another folder"
                )
        for unfinished in self.folder.glob(".step=*.pt.*.tmp"):
            _remove_left_over(unfinished)
        path = self.folder / _file_name(step, None if score is None else float(score))
        save(path, **parts, step=step)
        for old in set(self.all()[: -self.keep]) - {self.best()}:
            with contextlib.suppress(OSError):  # somebody may be reading it; the next save tries
                old.unlink()
        return path

    def load(self, *, map_location: Any = "cpu", **parts: Any) -> dict | None:
        """Go back to the latest checkpoint that is whole; None if there is none.

        A damaged one is set aside as ``….pt.damaged``, if the folder can be written, and a printed
        line says so. Returns and raises what ``checkpoint.load`` returns and raises.
        """
        for path in reversed(self.all()):
            try:
                return load(path, map_location=map_location, **parts)
            except DamagedError as error:
                try:
                    path.replace(f"{path}.damaged")
                    now = f"is {path.name}.damaged now"
                except OSError:
                    now = "can't be renamed"
                print(f"{error}. It {now}; going back to the one before it.")
        return None

    def all(self) -> list[Path]:
        """The checkpoints in the folder, the earliest step first."""
        return [path for _, _, path in self._found()]

    def latest(self) -> Path | None:
        """The checkpoint of the last step, if there is one."""
        return next(reversed(self.all()), None)

    def best(self) -> Path | None:
        """The checkpoint with the best score; the earliest of equals; None if none has a score."""
        scores = {path: score for _, score, path in self._found() if not math.isnan(score)}
        return self.prefer(scores, key=scores.get, default=None)

    def _found(self) -> list[tuple[int, float, Path]]:
        """What the names say, by step: the step, the score, NaN if there is none, and the path."""
        found = []
        for path in self.folder.glob("step=*.pt"):
            name = re.fullmatch(r"step=(\d{8,})(?:_score=(.+))?\.pt", path.name)
            if name and path.is_file():
                with contextlib.suppress(ValueError):  # what is no number: it is another file
                    step, score = int(name[1]), name[2] and float(name[2])
                    if path.name == _file_name(step, score):
                        found.append((step, math.nan if score is None else score, path))
        return sorted(found)


def _file_name(step: int, score: float | None) -> str:
    return f"step={step:08}.pt" if score is None else f"step={step:08}_score={score!r}.pt"


class ShuffledBatches:
    """A batch sampler that knows its place: ``DataLoader(dataset, batch_sampler=batches)``.

    Each epoch is a permutation of ``n`` samples, cut into lists of ``batch_size`` numbers. It
    follows from ``seed + epoch``, as in torch's ``DistributedSampler``: seed 1 begins with the
    second epoch of seed 0. ``state_dict()`` gives the place between two batches; an iteration
    begins where the last one stopped. After the last batch of an epoch, that is an empty iteration
    that ends the epoch. With worker processes the loader reads ahead, and the place runs ahead
    with it. Raises ``ValueError`` unless ``n`` and ``batch_size`` are at least 1.
    """

    _PLACE = ("n", "batch_size", "seed", "epoch", "batch")

    def __init__(self, n: int, batch_size: int, seed: int = 0):
        if n < 1 or batch_size < 1:
            raise ValueError(f"n is {n} and batch_size is {batch_size}: both must be at least 1")
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.epoch = self.batch = 0

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.n, generator=generator, device="cpu")
        batches = order.split(self.batch_size)
        while self.batch < len(batches):
            self.batch += 1
            yield batches[self.batch - 1].tolist()
        self.epoch, self.batch = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self._PLACE}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to the place that ``state_dict`` gave.

        Raises ``ValueError`` if it is a place in other batches: another ``n`` or ``batch_size``.
        """
        if set(state) != set(self._PLACE):
            raise ValueError(f"a place has {', '.join(self._PLACE)}; got {', '.join(state)}")
        if (state["n"], state["batch_size"]) != (self.n, self.batch_size):
            raise ValueError(
                f"a place among {state['n']} samples in batches of {state['batch_size']}; these "
                f"are {self.n} in batches of {self.batch_size}, and their batches are others"
            )
        self.seed, self.epoch, self.batch = state["seed"], state["epoch"], state["batch"]


def random_state() -> dict[str, Any]:
    """Where all global random generators stand, in a form that ``torch.load`` takes by default.

    Those of torch on the CPU and on each accelerator, of NumPy and of Python.
    """
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "accelerators": [module.get_rng_state(i) for module, i in _accelerators()],
        "numpy": (kind, keys.tolist(), *rest),
        "python": random.getstate(),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put all global generators where ``random_state`` found them.

    If this machine has fewer accelerators than the one that saved, the other states are not used.
    If it has more, the generators of the others stay as they are, and so do those of another kind
    of accelerator.
    """
    torch.set_rng_state(state["torch"].cpu())
    for (module, i), saved in zip(_accelerators(), state["accelerators"], strict=False):
        if saved.shape == module.get_rng_state(i).shape:
            module.set_rng_state(saved.cpu(), i)
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])


def differences(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Where two states differ in a single bit: the paths, such as ``"model.0.weight"``.

    Dicts, lists, tuples, tensors (their dtypes, shapes and bits; not their devices), and anything
    that can be compared with ``==``. A NaN is equal to a NaN of the same bits, and 0.0 is not equal
    to -0.0. An empty list means that the states are the same.
    """
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        same = (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        return [] if same and torch.equal(_bits(ours), _bits(theirs)) else [where]
    if type(ours) is not type(theirs):
        return [where]
    if isinstance(ours, list | tuple):
        if len(ours) != len(theirs):
            return [where]
        ours, theirs = dict(enumerate(ours)), dict(enumerate(theirs))
    if isinstance(ours, Mapping):
        absent = object()
        return [
            found
            for key in {**ours, **theirs}
            for found in differences(
                ours.get(key, absent), theirs.get(key, absent), f"{where}.{key}".lstrip(".")
            )
        ]
    if isinstance(ours, float):
        ours, theirs = struct.pack("d", ours), struct.pack("d", theirs)
    return [] if ours == theirs else [where]


def _bits(tensor: Tensor) -> Tensor:
    """The bytes of its values in their order, on the CPU."""
    values = tensor.detach().cpu().resolve_conj().resolve_neg()
    return values.reshape(-1).contiguous().view(torch.uint8)


# Writing


def _state_of(part: Any) -> Any:
    if isinstance(part, torch.Generator):
        return part.get_state()
    return part.state_dict() if hasattr(part, "state_dict") else part


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file to write in the folder of ``path``, removed in the end unless it was renamed.

    Only within one file system is a renaming a single step.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    begins = path.name.encode(errors="ignore")[:LONGEST].decode(errors="ignore")
    unfinished = path.with_name(f".{begins}.{secrets.token_hex(4)}.tmp")
    try:
        with _locked(unfinished) as file:
            yield file, unfinished
    finally:
        unfinished.unlink(missing_ok=True)


def _locked(path: Path) -> IO[bytes]:
    """A new file to write, locked, so that no other process takes it for left over.

    The system frees the lock if the process ends.
    """
    while True:
        file = open(path, "xb")  # noqa: SIM115
        with contextlib.suppress(OSError):  # some network drives have no locks
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            return file
        file.close()  # somebody took it for left over before it was locked


def _remove_left_over(unfinished: Path) -> None:
    """Remove a file that no process writes any more."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as until_removed:
        if fcntl is not None:  # without it, an open file can't be removed
            file = until_removed.enter_context(open(unfinished, "r+b"))  # or NFS gives no lock
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unfinished.unlink()


_ADVICE = {
    errno.ENOSPC: "Free some space or choose another folder",
    errno.EDQUOT: "Free some space or choose another folder",
    errno.EFBIG: "Save less or choose another folder",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.EISDIR: "A folder has this name: choose another one",
    errno.EEXIST: "A file has the name of a folder on the way: choose another path",
    errno.ENOTDIR: "A file has the name of a folder on the way: choose another path",
}


def _why_not_written(error: BaseException, state: Mapping[str, Any]) -> str:
    if isinstance(error, RecursionError):
        return "a part is nested too deep for a pickle. Save flatter lists and dicts"
    for where, value in _leaves(state):
        if not _survives(value):
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            return (
                f"{where} is a {kind}, which torch.load refuses by default. Save plain numbers "
                "(.item()), tensors (torch.as_tensor), strings (str), lists and dicts"
            )
    cause: BaseException | None = error
    while cause is not None:  # torch raises an error of its own after the system's
        if isinstance(cause, OSError):
            return f"{_first_line(cause)}. {_ADVICE.get(cause.errno, 'Choose another folder')}"
        cause = None if cause.__suppress_context__ else cause.__context__
    return _first_line(error)


_PLAIN = (bool, int, float, str)  # what torch.load always takes


def _leaves(state: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What stands in nested dicts, lists and tuples, keys too, and where; not in plain lists."""
    places = deque([("", state)])
    while places:
        where, value = places.popleft()
        if type(value) in (list, tuple):
            if all(type(one) in _PLAIN for one in value):  # such as a log of 100,000 numbers
                continue
            value = dict(enumerate(value))
        if type(value) in (dict, OrderedDict):
            for key, inside in value.items():
                places.append((f"the key {key!r} of {where}", key))
                places.append((f"{where}.{key}".lstrip("."), inside))
        else:
            yield where, value


def _survives(leaf: Any) -> bool:
    """Whether a value can be saved and, by default, loaded."""
    if type(leaf) in (Tensor, *_PLAIN):
        return True
    buffer = io.BytesIO()
    try:
        torch.save(leaf, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception:  # pickling runs the value's own code
        return False
    return True


# Reading


def _damage(file: IO[bytes]) -> str:
    """Why the bytes of a file can't be what ``torch.save`` once wrote, or ""."""
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            # torch.save packs nothing; what another program has packed may unfold without end.
            packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
            # torch writes zeros for checksums that somebody has switched off.
            summed = any(record.CRC for record in records)
            wrong = archive.testzip() if summed and not packed else None
    except Exception as error:  # zipfile raises whatever the damaged bytes lead it into
        return (
            f"it is not the archive that torch.save writes, or not all of it ({_first_line(error)})"
        )
    if wrong is not None:
        return f"the checksum of its record {wrong!r} is wrong"
    # torch takes a record with this bit for a folder, and gives memory that was never written to.
    folders = [record.filename for record in records if record.external_attr & 0x10]
    if folders:
        return f"its record {folders[0]!r} is listed as a folder"
    # torch takes a file that does not begin as an archive for a pickle, which has no checksum.
    begins = bool(records) and records[0].header_offset == 0
    if packed or not begins or not any(name.endswith("data.pkl") for name in archive.namelist()):
        return "it is an archive that torch.save did not write"
    return ""


def _restore(parts: Mapping[str, tuple[Any, Any]], path: Any) -> None:
    """Give each part its state; if one does not take it, give all the former one back."""
    with contextlib.ExitStack() as undo:
        for name, (part, state) in parts.items():
            try:
                undo.callback(_put, part, copy.deepcopy(_state_of(part)))
                _give(part, state)
            except Exception as error:
                raise CheckpointError(
                    f"{path} does not fit {name!r} ({type(part).__name__}): "
                    f"{' '.join(str(error).split()).rstrip('.')}. All parts are as they were"
                ) from error
        undo.pop_all()


def _give(part: Any, state: Any) -> None:
    """Give a part its state; raises also where torch would take it and go wrong later."""
    if isinstance(part, LRScheduler) and not _is_its_kind(state, part):
        raise ValueError(
            f"its state has {', '.join(part.state_dict())}; the saved one has "
            f"{', '.join(state) or 'nothing'}: another kind of scheduler has saved it"
        )
    options = [dict(group) for group in getattr(part, "param_groups", ())]
    with warnings.catch_warnings():
        # torch only warns about a load that does nothing, such as one into a meta tensor.
        warnings.filterwarnings("error", message=".*which is a no-op", category=UserWarning)
        _put(part, state)
    if isinstance(part, Optimizer):
        _check_optimizer(part, options)


def _put(part: Any, state: Any) -> None:
    if isinstance(part, torch.Generator):
        part.set_state(state.cpu())
        return
    part.load_state_dict(state)
    if getattr(type(part), "load_state_dict", None) is Optimizer.load_state_dict:
        _keep_dtypes(part, state)


def _keep_dtypes(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Undo torch's cast of all memory to the parameter's dtype, but for what is like it."""
    ours = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    theirs = [number for group in state["param_groups"] for number in group["params"]]
    for parameter, number in zip(ours, theirs, strict=True):
        for name, saved in state["state"].get(number, {}).items():
            memory = optimizer.state[parameter]
            kept = name in memory and name not in {"step", *_LIKE_THE_PARAMETER}
            if kept and isinstance(saved, Tensor):
                memory[name] = saved.to(memory[name].device)


def _is_its_kind(state: Any, scheduler: LRScheduler) -> bool:
    theirs, ours = _names(state), _names(scheduler.state_dict())
    if _is_torchs(scheduler):
        return theirs == ours
    return theirs[0] >= ours[0]  # one of your own may get attributes on its way


def _is_torchs(part: Any) -> bool:
    return f"{type(part).__module__}.".startswith("torch.optim.")


def _names(state: Any) -> tuple[set[str], list]:
    """The names in a scheduler's state, and those of the schedulers inside it.

    Without names that begin with an underscore: they change with torch's versions.
    """
    inside = [_names(other) for other in state.get("_schedulers", ())]
    return {name for name in state if not name.startswith("_")}, inside


#: what the classes of torch.optim that torch confuses with each other need in their memory
_NEEDED = {"Adamax": "exp_inf"} | dict.fromkeys(
    ("Adam", "AdamW", "NAdam", "RAdam", "SparseAdam"), "exp_avg_sq"
)
#: the parts of an optimizer's memory that it combines with the gradient, element by element
_LIKE_THE_PARAMETER = {
    *("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf"),
    *("square_avg", "grad_avg", "acc_delta", "sum", "prev", "step_size", "ax"),
}


def _check_optimizer(optimizer: Optimizer, options: list[dict[str, Any]]) -> None:
    """torch takes the options of any other kind of optimizer, and memory of any shape.

    It fails at the next step. The options that its saving version did not have yet it fills in.
    """
    for group, before in zip(optimizer.param_groups, options, strict=True):
        missing = sorted(optimizer.defaults.keys() & before.keys() - group.keys())
        if missing:
            raise ValueError(
                f"the saved options lack {', '.join(missing)}: an optimizer of another kind has "
                "saved them"
            )
        decoupled = group.get("decoupled_weight_decay")
        if decoupled != before.get("decoupled_weight_decay"):
            raise ValueError(
                f"the saved options have decoupled_weight_decay={decoupled}: an optimizer of "
                "another kind has saved them, such as AdamW for Adam"
            )
    if not _is_torchs(optimizer):
        return
    needed = _NEEDED.get(type(optimizer).__name__)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for position, parameter in enumerate(parameters):
        memory = optimizer.state.get(parameter, {})
        if memory and needed and needed not in memory:
            raise ValueError(
                f"the saved memory has no {needed}: an optimizer of another kind has saved it"
            )
        for name in sorted(_LIKE_THE_PARAMETER & memory.keys()):
            shape = getattr(memory[name], "shape", parameter.shape)
            if shape != parameter.shape:
                raise ValueError(
                    f"{name} of parameter {position} has the shape {tuple(shape)}, the parameter "
                    f"has {tuple(parameter.shape)}: parameters are matched by their order, so give "
                    "them to the optimizer in the order in which they were saved"
                )


def _accelerators() -> list[tuple[Any, int]]:
    """torch's module for the accelerator and a number, for each one that is really there."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return []
    module = torch.get_device_module(accelerator)
    return [(module, i) for i in range(torch.accelerator.device_count())]


def _first_line(error: Any) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
