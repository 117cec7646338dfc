"""The exercises of chapter 05: what a file brings back, and what a crash leaves."""

from __future__ import annotations

import contextlib
import copy
import errno
import inspect
import io
import math
import os
import pickle
import re
import tempfile
import types
from collections import OrderedDict
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from helpers import checkpoint
from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)
report = chapter.report


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


def _model(dtype=torch.float32, tied=False, frozen=False):
    layers = [nn.Linear(3, 3), nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()), nn.Linear(3, 3)]
    if tied:
        layers[2].weight = layers[0].weight
    layers[0].requires_grad_(not frozen)
    return nn.Sequential(*layers).to(dtype)


def _values(tensors):
    return {name: tensor.detach().clone() for name, tensor in dict(tensors).items()}


def _bits(model):
    return tuple(tensor.detach().numpy().tobytes() for tensor in model.state_dict().values())


def _training(answer, model, losses, best="weights"):
    """A real training; the losses of its epochs are given."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = torch.randn(2, 8, 3, dtype=model[0].weight.dtype)
    epochs = []
    known = {}

    def train_epoch(model):
        model.train()
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
        epochs.append(_values(model.state_dict()))
        if len(epochs) <= len(losses):
            known.setdefault(_bits(model), losses[len(epochs) - 1])

    def validate(model):
        model.eval()
        return known.get(_bits(model), math.inf)

    loss = answer(model, train_epoch, validate, len(losses))
    state = _values(model.state_dict())
    yield best, _values(model.named_parameters())
    yield "statistics", _values(model.named_buffers())
    yield "loss", loss
    yield "epochs", len(epochs)
    number = losses.index(min(losses))
    yield "exact", number < len(epochs) and not checkpoint.differences(state, epochs[number])
    train_epoch(model)
    yield "onward", _values(model.named_parameters())


def _drawn_losses():
    for epochs, scale, shift in [(7, 0.01, 0), (5, 1, -2), (4, 9000, 2e6)]:
        losses = (scale * torch.rand(epochs) + shift).tolist()
        yield f"{epochs} epochs with losses about {losses[0]:.3g}", losses


@chapter.exercise(
    cases=lambda: [
        Case("the second of four epochs is the best", _model(), [0.9, 0.4, 0.6, 0.5]),
        Case("the first is the best", _model(), [0.3, 0.4, 0.5]),
        Case("the last is the best", _model(), [0.5, 0.4, 0.3]),
        Case("the losses get worse and better", _model(), [0.9, 0.4, 0.6, 0.2, 0.7]),
        Case("two equal ones", _model(), [0.5, 0.2, 0.2, 0.9], "first"),
        Case("all are equal", _model(), [-0.5, -0.5, -0.5], "first"),
        Case("a single epoch", _model(), [0.7]),
        Case("each loss is hardly lower", _model(), [0.5, 0.49999, 0.49998]),
        Case("a model in float64", _model(torch.float64), [0.9, 0.4, 0.6]),
        Case("two layers share a weight", _model(tied=True), [0.9, 0.4, 0.6]),
        Case("a layer is frozen", _model(frozen=True), [0.9, 0.4, 0.6]),
        *(Case(label, _model(), losses) for label, losses in _drawn_losses()),
    ],
    observe=_training,
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


def _drawn(state, prefix=""):
    """New values for the names of a state."""
    return {
        prefix + name: torch.randn(t.shape) if t.is_floating_point() else torch.tensor(7)
        for name, t in state.items()
    }


_COUNT = "1.num_batches_tracked"


def _fitting(model=None, **changed):
    """A model and a state for it; of the state, tensors may be changed (None leaves one out)."""
    model = model or _net()
    state = {**_drawn(model.state_dict()), **changed}
    return model, {name: tensor for name, tensor in state.items() if tensor is not None}


def _converted(dtype):
    return {name: (10 * tensor).to(dtype) for name, tensor in _fitting()[1].items()}


def _moved(model, optimizer):
    """How far the optimizer that was there before moves the parameters in a step."""
    before = _values(model.named_parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    return {name: (p.detach() - before[name]).float() for name, p in model.named_parameters()}


def _loading(answer, model, state, taken="taken"):
    optimizer = torch.optim.SGD([*model.parameters(), nn.Parameter(torch.ones(1))], lr=0.5)
    returned = answer(model, state)
    yield "false" if taken == "kept" else "true", returned
    yield taken, _values(model.state_dict())
    yield "onward", _moved(model, optimizer)
    yield "state", _values(state)


def _unfitting():
    """Changes of a state that fits, after which it does not."""
    for name in ("0.weight", "1.running_var", "2.bias"):
        yield f"{name} is missing", {name: None}
    for name in ("3.weight", "0.extra"):
        yield f"there is a {name} too many", {name: torch.ones(2, 2)}
    yield "2.bias has another name", {"2.bias": None, "2.bais": torch.ones(2)}
    for name, *shapes in [
        ("0.weight", (4, 5), (3, 4), (12,), (1, 3), (4, 1), (5, 3), (0, 3)),
        ("0.bias", (1,), (4, 1), ()),
        ("1.running_mean", (5,), (1,)),
        ("2.weight", (3, 4), (1, 4), (8,)),
        ("2.bias", (1,), (1, 2)),
    ]:
        for shape in shapes:
            yield f"{name} has the shape {shape}", {name: torch.randn(shape)}


def _reversed(state):
    return dict(reversed(state.items()))


def _fitting_tied():
    model, state = _fitting(_model(tied=True))
    return model, {**state, "2.weight": state["0.weight"]}


class _Classifier(nn.Module):
    def __init__(self, part="body", classes=2):
        super().__init__()
        self.register_buffer("mean", torch.randn(3))
        self.model = nn.Linear(3, 4)
        self.add_module(part, nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)))
        self.head = nn.Linear(4, classes)


def _pair(prefix="", other=None, part="body", **changed):
    """A model of two classes, a state to start it from, and the names that do not fit."""
    model = _Classifier(part)
    own = model.state_dict()
    state = {**_drawn((other or model).state_dict()), **changed}
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    fitting = {n for n, t in state.items() if n in own and own[n].shape == t.shape}
    return model, _prefixed(prefix, state), sorted(own.keys() - fitting)


def _prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def _none_of(prefix):
    model = _Classifier()
    return model, _drawn(model.state_dict(), prefix), sorted(model.state_dict())


def _other_dtype(prefix, dtype):
    model, state, left = _pair(prefix)
    return model, {name: (9 * tensor).to(dtype) for name, tensor in state.items()}, left


def _starting(answer, model, state, left, taken="taken", kept="kept"):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    returned = answer(model, state)
    buffers = {name for name, _ in model.named_buffers()}
    now = _values(model.state_dict())
    fitting = now.keys() - {*left}
    apart = buffers if taken == "taken" else set()
    yield taken, {name: now[name] for name in fitting - apart}
    if apart:
        yield "buffers", {name: now[name] for name in fitting & apart}
    yield kept, {name: now[name] for name in left}
    yield "left", returned
    yield "onward", _moved(model, optimizer)
    yield "state", _values(state)


@chapter.exercise(
    cases=lambda: [
        *(
            Case(f"{says}, {classes} classes", *_pair(prefix, _Classifier("body", classes)))
            for says, prefix in _WRAPPERS.items()
            for classes in (2, 3)
        ),
        Case("no wrapper, 1 class", *_pair(other=_Classifier("body", 1))),
        Case("no wrapper, a part is called submodule", *_pair(part="submodule")),
        Case("DataParallel, a part is called submodule", *_pair("module.", part="submodule")),
        Case("one weight is transposed", *_pair(**{"model.weight": torch.randn(3, 4)})),
        Case("one weight is flat", *_pair("module.", **{"model.weight": torch.randn(12)})),
        Case("a buffer is missing", *_pair("module.", mean=None)),
        Case("the state has more names", *_pair("_orig_mod.", extra=torch.ones(2))),
        Case("the state in float16", *_other_dtype("module.", torch.float16), "dtype"),
        Case("a model with BatchNorm", *_fitting(_net()), []),
        Case("BatchNorm's count is missing", *_fitting(**{_COUNT: None}), [_COUNT]),
        Case("an empty state", _Classifier(), {}, sorted(_Classifier().state_dict())),
        *(
            Case(f"`{prefix}` in front", *_none_of(prefix), "taken", "one prefix")
            for prefix in ("module.module.", "module._orig_mod.", "_orig_mod.module.")
        ),
        *(
            Case(f"`{prefix}` in front", *_none_of(prefix), "taken", "no prefix")
            for prefix in ("teacher.", "module")
        ),
    ],
    observe=_starting,
)
def warm_start(model, state):
    """Take over what fits; return the names of what did not."""
    own = model.state_dict()
    fitting = {}
    for name, tensor in state.items():
        if name.startswith(("module.", "_orig_mod.")):
            name = name.partition(".")[2]
        if name in own and own[name].shape == tensor.shape:
            fitting[name] = tensor
    model.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting)


_WRAPPERS = {"no wrapper": "", "DataParallel": "module.", "compiled": "_orig_mod."}


@chapter.prediction
def accepted():
    import io
    from pathlib import Path

    import numpy as np

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
    from chapters.serialization.exercises import mystery_runs

    def piece(first):
        if first["learning rate"] is not None:
            return "scheduler"
        if first["batch"] is not None:
            return "order"
        if first["training loss"] is None:
            return "buffers"
        return "random" if first["training loss"] == 0 else "optimizer"

    return {letter: piece(first) for letter, first in mystery_runs().items()}


def _resumed(answer, steps, rate=0.05):
    batches = [torch.randn(rows, 2) + 3 for rows in torch.randint(1, 9, (steps + 6,)).tolist()]
    first = answer(seed=0)
    losses = [first.step(real) for real in batches[:steps]]
    for optimizer in (first.maker_optimizer, first.critic_optimizer):
        optimizer.param_groups[0]["lr"] = rate
    yield "as given", (losses, _parts(first))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    state = torch.load(file)
    yield "file", True
    second = answer(seed=1)
    second.load_state_dict(state)
    now = _parts(second)
    yield "networks", (now["maker"], now["critic"])
    yield "optimizers", (now["maker_optimizer"], now["critic_optimizer"])
    for name in ("average", "noise", "steps"):
        yield name, now[name]
    same = [not checkpoint.differences(_parts(first), now)]
    wanted = [first.step(real) for real in batches[steps:]]
    yield "first", (wanted, _parts(first))
    got = [second.step(real) for real in batches[steps:]]
    yield "onward", (got, _parts(second))
    same += [wanted == got, not checkpoint.differences(_parts(first), _parts(second))]
    yield "exact", all(same)


def _parts(trainer):
    names = ("maker", "critic", "average", "maker_optimizer", "critic_optimizer")
    parts = {name: copy.deepcopy(dict(getattr(trainer, name).state_dict())) for name in names}
    return {**parts, "noise": trainer.noise.get_state().clone(), "steps": int(trainer.steps)}


@chapter.exercise(
    cases=lambda: [
        *(Case(f"interrupted after {steps} steps", steps) for steps in (5, 4, 0, 1, 9)),
        Case("interrupted after 5 steps, when the rate was lowered", 5, 0.01),
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
        for name, average in self.average.named_parameters():
            average.data.lerp_(self.maker.get_parameter(name).data, 0.1)
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


def _saving(answer, fault=""):
    """One call, in a folder with other people's files; ``fault`` says what fails."""
    with _a_folder() as path:
        state = {"step": 2, "weights": torch.arange(500.0)}
        if fault == "a lambda":
            state["model"] = lambda x: x
        disk = _Disk(path, fault)
        ended = disk.save(answer, state)
        if fault:
            yield "error", ended
            yield "old", _step_in(path)
        else:
            yield "saved", torch.load(path)
        yield "whole", disk.moments_without_it()
        yield "untouched", disk.old()
        if not fault:
            yield "on the disk", disk.on_the_disk
            yield "own folder", disk.within_the_folder
        yield "left", disk.new_names()
        yield "others", disk.others_are_as_before()


def _first(answer):
    with _a_folder(with_old=False) as path:
        disk = _Disk(path)
        disk.save(answer, {"step": 2})
        yield "saved", torch.load(path)
        yield "whole", disk.moments_without_it()
        yield "on the disk", disk.on_the_disk
        yield "left", disk.new_names()


def _relative(answer):
    with _a_folder("run 1.best") as path:
        os.chdir(path.parent)
        answer({"step": 2}, Path("run 1.best"))
        yield "saved", torch.load(path)


def _where_names_are_taken(answer):
    """A second save, after somebody has made files of the names that the first one used."""
    with _a_folder() as path:
        disk = _Disk(path)
        disk.save(answer, {"step": 2})
        (path.parent / "other notes").write_text("somebody else's")
        number = str(os.getpid())
        by_process = any(number in name for name in disk.names_used)
        for name in disk.names_used:
            # A random number is not found twice; that of the process is.
            if number in name or not re.search(r"\d{6}", name):
                (path.parent / name).write_text("somebody else's")
        disk = _Disk(path)
        state, refused = {"step": 3}, True
        with contextlib.suppress(OSError):
            disk.save(answer, state)
            refused = False
        yield "others", disk.others_are_as_before()
        # No other process has this number now, so to refuse the name is enough.
        yield "saved", state if refused and by_process else torch.load(path)


@contextlib.contextmanager
def _a_folder(name="last.pt", with_old=True):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a run", name)
        path.parent.mkdir()
        for other in ("other.tmp", "other.pt", f"{path.stem}.old"):
            (path.parent / other).write_text(other)
        if with_old:
            torch.save({"step": 1}, path)
        here = os.getcwd()
        os.chdir(folder)  # for what an answer writes beside the program
        try:
            yield path
        finally:
            os.chdir(here)


def _step_in(path):
    try:
        return f"step {torch.load(path)['step']}"
    except FileNotFoundError:
        return "no file"
    except Exception:
        return "half a checkpoint"


class _Disk:
    """Watches how a file comes to its name, and fails on request."""

    def __init__(self, path, fault=""):
        self.path, self.fault = path, fault
        self.before = self._files()
        self.names_used: set[str] = set()
        self.seen = [_step_in(path)]  # what was in the file, one after the other
        self.content = path.read_bytes() if path.exists() else b""
        self.synced: dict[int, int] = {}  # how many bytes of each file were synced
        self.on_the_disk = "nothing"  # of the file, when it got its name
        self.within_the_folder = True
        self.linked = path.parent.with_name("the old file")
        # not every file system has links
        with contextlib.suppress(OSError):
            os.link(path, self.linked)

    def save(self, answer, state):
        """How the call ended."""
        with self._watched(getattr(inspect.unwrap(answer), "__globals__", {})):
            try:
                answer(state, self.path)
                ended = "no error"
            except (OSError, KeyboardInterrupt, pickle.PicklingError, AttributeError) as error:
                if not self.fault:
                    raise
                interrupted = isinstance(error, KeyboardInterrupt)
                ended = "an interrupt" if interrupted else "an error"
        self._look()
        return ended

    def old(self):
        """What is in the old file, under whatever name."""
        return _step_in(self.linked) if self.linked.exists() else "step 1"

    def moments_without_it(self):
        """What was in the file at moments when no whole checkpoint was."""
        moments = [seen for seen in self.seen[1:] if not seen.startswith("step")]
        return ", then ".join(moments) or "always a whole checkpoint"

    def new_names(self):
        return len(self._files().keys() - self.before.keys() - {self.path.name})

    def others_are_as_before(self):
        now = self._files()
        return all(now.get(name) == self.before[name] for name in {*self.before} - {self.path.name})

    def _files(self):
        files = self.path.parent.iterdir()
        return {file.name: file.read_bytes() if file.is_file() else b"" for file in files}

    def _look(self):
        self.names_used |= {file.name for file in self.path.parent.iterdir()} - {*self.before}
        self.names_used.discard(self.path.name)
        content = self.path.read_bytes() if self.path.exists() else b""
        if content != self.content:
            self.content = content
            self.seen.append(_step_in(self.path))
            self.seen[-2:] = dict.fromkeys(self.seen[-2:])

    @contextlib.contextmanager
    def _watched(self, names):
        """``names`` are those that the answer sees: ``save`` may be among them."""
        watched = {
            (torch, "save"): self._save,
            (os, "replace"): self._renaming(os.replace),
            (os, "rename"): self._renaming(os.rename),
            (os, "fsync"): self._fsync,
            (os, "fdatasync"): self._fsync,
            (os, "sync"): self._sync,
        }
        watched = {place: new for place, new in watched.items() if hasattr(*place)}
        known = {getattr(*place): new for place, new in watched.items()}
        imported = {
            name: one
            for name, one in names.items()
            if _is_function(one) and one in known and not name.startswith("_")
        }
        with contextlib.ExitStack() as stack:
            for place, new in watched.items():
                stack.enter_context(mock.patch.object(*place, new))
            # up to Python 3.10, pathlib keeps functions that it took from os when it was imported
            stack.enter_context(
                mock.patch.multiple(Path, replace=_by_os("replace"), rename=_by_os("rename"))
            )
            stack.callback(names.update, imported)
            names.update({name: known[one] for name, one in imported.items()})
            yield

    def _save(self, state, file, *arguments, **options):
        if self.fault == "a lambda":
            return _torch_save(state, file, *arguments, **options)
        buffer = io.BytesIO()
        _torch_save(state, buffer, *arguments, **options)
        content = buffer.getvalue()
        half = len(content) // 2
        by_name = isinstance(file, (str, os.PathLike))
        with open(file, "wb") if by_name else contextlib.nullcontext(file) as opened:
            for part in (content[:half], content[half:-100], content[-100:]):
                opened.write(part)
                self._look()
                self._fail("writing", errno.ENOSPC)
            opened.flush()  # as torch.save does

    def _fail(self, where, number):
        if self.fault == where:
            raise OSError(number, os.strerror(number))
        if self.fault == f"interrupt {where}":
            raise KeyboardInterrupt

    def _fsync(self, handle):
        handle = handle if isinstance(handle, int) else handle.fileno()
        self._fail("syncing", errno.EIO)
        self._note(os.fstat(handle))

    def _sync(self):
        self._fail("syncing", errno.EIO)
        for file in self.path.parent.rglob("*"):
            self._note(file.stat())

    def _note(self, facts):
        self._look()
        self.synced[facts.st_ino] = facts.st_size

    def _renaming(self, rename):
        def renamed(source, target, **options):
            self._look()
            facts = os.stat(source)
            if Path(target).resolve() == self.path.resolve():
                parts = {None: "nothing", facts.st_size: "all of it"}
                self.on_the_disk = parts.get(self.synced.get(facts.st_ino), "a part of it")
                folders = Path(source).resolve().parents
                self.within_the_folder &= self.path.resolve().parent in folders
            self._fail("renaming", errno.EACCES)
            return rename(source, target, **options)

        return renamed


def _is_function(thing):
    return type(thing) in (types.FunctionType, types.BuiltinFunctionType)


def _by_os(name):
    """A method of ``Path`` that asks the function of this name in ``os`` whenever it is called."""

    def method(self, target):
        getattr(os, name)(self, target)
        return type(self)(target)

    return method


_torch_save = torch.save


@chapter.exercise(
    cases=lambda: [
        Case("a good save over an old checkpoint"),
        Case("the disk is full in the middle of writing", "writing"),
        Case("an interrupt in the middle of writing", "interrupt writing"),
        Case("the disk fails in `fsync`", "syncing"),
        Case("an interrupt in `fsync`", "interrupt syncing"),
        Case("renaming fails", "renaming"),
        Case("an interrupt before the renaming", "interrupt renaming"),
        Case("the state holds a lambda, which can't be saved", "a lambda"),
        Case("a first save", observe=_first),
        Case("a path without a folder, with a blank and a dot in its name", observe=_relative),
        Case("your temporary name is somebody else's", observe=_where_names_are_taken),
    ],
    observe=_saving,
)
def save_safely(state, path):
    """Save `state` to `path` (a `Path`), so that a crash never costs the old file."""
    import os
    import uuid

    temporary = path.with_name(f"{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def straight_into_it(state, path):
    torch.save(state, path)


@chapter.exercise(
    cases=lambda: [
        Case("a state that fits", *_fitting()),
        *(Case(label, *_fitting(**changed), "kept") for label, changed in _unfitting()),
        Case("an empty state", _net(), {}, "kept"),
        Case("the same names in another order", _net(), _reversed(_fitting()[1]), "order"),
        *(
            Case(f"the state in {dtype}", _net(), _converted(dtype), "dtypes")
            for dtype in (torch.float64, torch.float16, torch.int64)
        ),
        Case("the model in float64", *_fitting(_net().double()), "dtypes"),
        Case("a state from `state_dict()`", _net(), _net().state_dict()),
        Case("two layers share a weight", *_fitting_tied()),
        Case("a layer is frozen", *_fitting(_model(frozen=True))),
        Case("other widths", *_fitting(_net(1, 7))),
        Case("a model without tensors", nn.Sequential(nn.ReLU()), {}),
        Case("a model without tensors, and a name", nn.ReLU(), {"a": torch.ones(1)}, "kept"),
    ],
    observe=_loading,
)
def load_or_leave(model, state):
    """Load `state` whole and return True, or leave `model` alone and return False."""
    try:
        copy.deepcopy(model).load_state_dict(state)
    except RuntimeError:
        return False
    model.load_state_dict(state)
    return True
