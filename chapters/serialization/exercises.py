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
from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)


@chapter.prediction
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


@chapter.exercise(
    cases=lambda: [
        Case("the second of four epochs is the best", [0.9, 0.4, 0.6, 0.5]),
        Case("the first is the best", [0.3, 0.4, 0.5]),
        Case("the last is the best", [0.5, 0.4, 0.3]),
        Case("two equal ones: the earlier counts", [0.5, 0.2, 0.2, 0.9]),
        Case("the losses get worse and better", [0.9, 0.4, 0.6, 0.2, 0.7]),
    ],
    observe=_with_scripted_losses,
)
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


@chapter.exercise(
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
    observe=_what_changed,
)
def load_or_leave(model, state):
    """Load `state` whole and return True, or leave `model` alone and return False."""
    try:
        copy.deepcopy(model).load_state_dict(state)
    except RuntimeError:
        return False
    model.load_state_dict(state)
    return True


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


@chapter.exercise(
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
    observe=_what_it_took,
)
def warm_start(model, state):
    """Take over what fits; return the names of what did not."""
    own = model.state_dict()
    fitting = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.").removeprefix("_orig_mod.")
        if name in own and own[name].shape == tensor.shape:
            fitting[name] = tensor
    return sorted(model.load_state_dict(fitting, strict=False).missing_keys)


@chapter.prediction
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


_STEPS = 6


def mystery_runs() -> dict[str, dict[str, int | None]]:
    """Five trainings, A to E, that were resumed without one piece each.

    For each run and each of the four things logged: the first step after the interruption at which
    the run differs from one that was not interrupted, or None if it never does.
    """
    true = _Run(seed=0)
    true.train(_STEPS)
    saved = copy.deepcopy(true.state())
    wanted = true.train(_STEPS)
    runs = {}
    left_out = {"A": "order", "B": "buffers", "C": "scheduler", "D": "random", "E": "optimizer"}
    for letter, piece in left_out.items():
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


@chapter.prediction
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


def _resumed(answer, steps):
    def same(*names):
        pairs = {name: (getattr(first, name), getattr(second, name)) for name in names}
        return [
            name
            for name, (ours, theirs) in pairs.items()
            if not checkpoint.differences(ours.state_dict(), theirs.state_dict())
        ]

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
        "the same networks": same("maker", "critic", "average"),
        "the same optimizers": same("maker_optimizer", "critic_optimizer"),
        "steps counted": second.steps,
    }


def _parameters(optimizer):
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@chapter.exercise(
    cases=lambda: [
        Case("interrupted after 5 steps", 5),
        Case("interrupted after 4 steps", 4),
    ],
    observe=_resumed,
)
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
        names = ("maker", "critic", "average", "maker_optimizer", "critic_optimizer")
        state = {name: getattr(self, name).state_dict() for name in names}
        return {**state, "noise": self.noise.get_state(), "steps": self.steps}

    def load_state_dict(self, state):
        for name, part in state.items():
            if name == "noise":
                self.noise.set_state(part)
            elif name == "steps":
                self.steps = part
            else:
                getattr(self, name).load_state_dict(part)


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


@chapter.exercise(
    cases=lambda: [
        Case("a good save over an old checkpoint", "nothing"),
        Case("the disk is full in the middle of writing", "writing"),
        Case("an interrupt in the middle of writing", "interrupt"),
        Case("renaming fails", "renaming"),
        Case("a first save, into an empty folder", "first"),
    ],
    observe=_with_faults,
)
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


def straight_into_it(state, path):
    torch.save(state, path)
