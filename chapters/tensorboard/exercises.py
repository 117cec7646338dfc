"""The exercises of chapter 06: what a run writes down, and what can be read from it."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from helpers import boards, data
from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # An answer may leave a writer open. On Windows its file can't be deleted then.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


def _event_files(folder: Path) -> int:
    return len(list(folder.rglob("*tfevents*")))


# on_disk


@chapter.prediction
def on_disk():
    import tempfile

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        servers = sum(server.ours for server in boards.running())
        writer = SummaryWriter(folder)
        files = list(folder.iterdir())
        for loss in (3.0, 2.0, 1.0):
            writer.add_scalar("loss", loss)
        writer.flush()
        points = boards.scalars(folder)
        answer = {
            "len(files)": len(files),
            "len(points)": len(points),
            "[point.step for point in points]": [point.step for point in points],
            "TensorBoard servers started": sum(s.ours for s in boards.running()) - servers,
        }
        writer.close()
    return answer


def no_step_is_none():
    return {"[point.step for point in points]": [None, None, None]}


# look


class HalfTrained(nn.Module):
    """BatchNorm has seen batches, dropout draws, gradients wait for their step.

    With ``frozen`` 1 the first block is in eval mode and asks for no gradient; with 2, only the
    BatchNorm in it, two levels down.
    """

    def __init__(self, frozen=0):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, 10))
        for _ in range(3):
            self(torch.rand(8, 1, 8, 8)).square().mean().backward()
        if frozen:
            part = self.first if frozen == 1 else self.first[2]
            part.eval().requires_grad_(False)

    def forward(self, images):
        return 5 * self.last(self.dropout(self.first(images)))


def _images(n):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(n))


def _looking(answer, model, images, recording=True):
    before, asked = _state(model), _asking(model)
    modes = {name or "itself": module.training for name, module in model.named_modules()}
    next_random = torch.rand(3, generator=torch.default_generator.clone_state()).tolist()
    with torch.set_grad_enabled(recording):
        classes, probabilities = answer(model, images)
        still_recording = torch.is_grad_enabled()
    after = {name or "itself": module.training for name, module in model.named_modules()}
    changed = [name for name, value in _state(model).items() if not _same(value, before[name])]
    return {
        "classes": classes,
        "probabilities": getattr(probabilities, "detach", lambda: probabilities)(),
        "a result asks for a gradient": getattr(probabilities, "requires_grad", False),
        "gradients are recorded afterwards": still_recording,
        "modules whose mode has changed": [name for name in modes if modes[name] != after[name]],
        "tensors of the model that have changed": changed,
        "parameters whose requires_grad has changed": sorted(asked ^ _asking(model)),
        "the next random numbers are the same": torch.rand(3).tolist() == next_random,
    }


def _state(model):
    """Copies of all that a training changes: parameters, buffers, gradients."""
    gradients = {f"{name}.grad": p.grad for name, p in model.named_parameters()}
    return copy.deepcopy(dict(model.state_dict()) | gradients)


def _same(value, other):
    return value is other if value is None or other is None else torch.equal(value, other)


def _asking(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@chapter.exercise(
    cases=lambda: [
        Case("8 images, in the midst of a training", HalfTrained(), _images(8)),
        Case("8 images, the first BatchNorm frozen in eval mode", HalfTrained(2), _images(8)),
        Case("4 images, the whole first block frozen in eval mode", HalfTrained(1), _images(4)),
        Case("called under torch.no_grad()", HalfTrained(), _images(4), False),
        Case("a batch of one image", HalfTrained(), _images(1)),
        Case("5 images, a model already in eval mode", HalfTrained().eval(), _images(5)),
    ],
    observe=_looking,
)
def look(model, images):
    """Return the predicted classes `(n,)` and their probabilities `(n,)`."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    for module, mode in modes.items():
        module.training = mode
    return classes, probabilities


# train_epoch


def _trainings():
    _first_step()
    return [
        Case("one epoch of 4 batches of 16", _small_net(), _batches(16, 16, 16, 16), [0]),
        Case(
            "two epochs of 3 batches, the last one smaller",
            _small_net(),
            _batches(24, 24, 16),
            [0, 1],
        ),
        Case("epochs 4 and 5, after a resume", _small_net(), _batches(30, 34), [4, 5]),
        Case("a network with a frozen layer", _small_net("frozen"), _batches(30, 30, 4), [0]),
        Case("a network with a dead layer", _small_net("dead"), _batches(32, 32), [0]),
        Case("BatchNorm set to eval mode by the caller", _small_net("eval"), _batches(32, 32), [0]),
    ]


@functools.cache
def _first_step():
    """The first step of a process loads much of torch; it is made where no time limit holds."""
    net = _small_net()
    net(_digits().x_train).sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()


def _small_net(kind=""):
    """A network with BatchNorm, for which train and eval mode are not the same.

    Its first layer is "frozen", or gets no gradient from a "dead" ReLU, or its BatchNorm is in
    "eval" mode.
    """
    torch.manual_seed(0)
    first = nn.Linear(64, 8, bias=False)
    net = nn.Sequential(nn.Flatten(), first, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
    if kind == "frozen":
        first.requires_grad_(False)
    elif kind == "dead":
        nn.init.constant_(net[2].bias, -10.0)
    elif kind == "eval":
        net[2].eval()
    return net


def _batches(*sizes):
    images, labels = _digits().x_train[: sum(sizes)], _digits().y_train[: sum(sizes)]
    return list(zip(images.split(sizes), labels.split(sizes), strict=True))


@functools.cache
def _digits():
    return data.digits()


def _epochs_logged(answer, model, batches, epochs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with _folder() as folder:
        with SummaryWriter(folder) as writer:
            for epoch in epochs:
                answer(model, batches, optimizer, writer, epoch)
        points, histograms = boards.scalars(folder), boards.histograms(folder)
        files = _event_files(folder)
    return {
        "steps of the scalars": _by_tag(points, lambda point: point.step),
        "scalars": _by_tag(points, lambda point: point.value),
        "steps of the histograms": _by_tag(histograms, lambda row: row.step),
        "mean size of what is in the histograms": _by_tag(histograms, _mean_size),
        "values below 0 in the histograms": _by_tag(histograms, _below_zero),
        "event files": files,
        "the model is trained": {name: p.detach() for name, p in model.named_parameters()},
        "modules in train mode": [name for name, part in model.named_modules() if part.training],
        # This tells why there is no histogram. Where there is one, the answer may empty them.
        "gradients left for a histogram": bool(histograms)
        or any(parameter.grad is not None for parameter in model.parameters()),
    }


def _by_tag(rows, value_of):
    values = {}
    for row in rows:
        values.setdefault(row.tag, []).append(value_of(row))
    return values


def _mean_size(row):
    """About the mean of the absolute values, from the middles of the bins."""
    centres = [(low + high) / 2 for low, high in zip(row.edges[:-1], row.edges[1:], strict=True)]
    total = sum(abs(c) * n for c, n in zip(centres, row.counts, strict=True))
    return float(total / max(sum(row.counts), 1))


def _below_zero(row):
    return int(sum(n for high, n in zip(row.edges[1:], row.counts, strict=True) if high <= 0))


@chapter.exercise(cases=_trainings, observe=_epochs_logged)
def train_epoch(model, batches, optimizer, writer, epoch):
    """Train on each of `batches` once; log to `writer`."""
    total, count = 0.0, 0
    for i, (images, labels) in enumerate(batches):
        step = epoch * len(batches) + i
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        writer.add_scalar("loss/batch", loss.item(), step)
        total, count = total + loss.item() * len(labels), count + len(labels)
    writer.add_scalar("loss/epoch", total / count, step)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            writer.add_histogram(f"gradient/{name}", parameter.grad, step)


# smooth


@chapter.exercise(
    cases=lambda: [
        Case("a constant curve, weight 0.9", [5.0] * 6, 0.9),
        Case("one spike, weight 0.6", [1.0, 0.0, 0.0, 8.0, 0.0, 0.0], 0.6),
        Case("a falling loss, weight 0.99", [2.0 / (1 + n) for n in range(30)], 0.99),
        Case("weight 0", [3.0, 1.0, 2.0], 0.0),
        Case("no values yet", [], 0.5),
    ],
)
def smooth(values, weight):
    """The smoothed values, as many as `values`."""
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        smoothed.append(average / (1 - weight**n))
    return smoothed


# sweep


def _runs_logged(answer, rates):
    with _folder() as folder, _working_in(folder):
        logs, other = folder / "logs", "yesterday"
        with SummaryWriter(logs / other) as writer:
            writer.add_scalar("loss", 1.0, 0)
        with _flushed_writers():
            returned = answer(logs, rates)
        points = [p for p in boards.scalars(logs) if p.run != other] if _event_files(logs) else []
        survives = _event_files(logs / other)
        files = {
            "under the folder": _event_files(logs) - survives,
            "in a folder of the writer's own": _event_files(folder / "runs"),
        }
        files["elsewhere"] = _event_files(folder) - survives - sum(files.values())
    runs = {point.run for point in points}
    if len(set(rates)) < len(rates):  # how to name the second of a kind is left open
        return {"returned": list(returned)}
    return {
        "runs": len(runs),
        "runs directly under the folder": sum(
            run != "." and len(Path(run).parts) == 1 for run in runs
        ),
        "the rate in a run's name": {str(rate): _in_a_name(rate, runs) for rate in rates},
        "steps in each run": sorted([p.step for p in points if p.run == run] for run in runs),
        "last losses in the log": [
            round(next(p.value for p in reversed(points) if p.run == run), 4)
            for rate in rates
            for run in sorted(runs)
            if _names(run, rate)
        ],
        "event files": files,
        "the run of yesterday is still there": bool(survives),
        "returned": list(returned),
    }


def _in_a_name(rate, runs):
    """How the rate stands in the name of a run: as Python writes it, rounded, or not at all."""
    count = sum(_names(run, rate) for run in runs)
    if count:
        return f"in {count}"
    numbers = [float(n) for run in runs for n in re.findall(r"\d+\.\d+(?:e-?\d+)?|\de-\d+", run)]
    return "rounded" if any(abs(number - rate) < 0.005 for number in numbers) else "not there"


def _names(run, rate):
    """Whether ``str(rate)`` stands in the name, and not as a part of another number."""
    before, found, after = run.partition(str(rate))
    return bool(found) and not before[-1:].isdigit() and not after[:1].isdigit()


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    # A writer without a log_dir makes `runs` in the working directory, which is the reader's.
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _flushed_writers() -> Iterator[None]:
    """At the end, every writer made meanwhile has written what it was given, closed or not."""
    writers = []
    make = SummaryWriter.__init__

    def make_and_note(self, *arguments, **options):
        make(self, *arguments, **options)
        writers.append(self)

    with mock.patch.object(SummaryWriter, "__init__", make_and_note):
        yield
    for writer in writers:
        writer.flush()


@chapter.exercise(
    cases=lambda: [
        Case("rates 0.5 and 0.05", [0.5, 0.05]),
        Case("rates 0.1, 0.001 and 0.004", [0.1, 0.001, 0.004]),
        Case("a single rate, 1e-05", [1e-05]),
        Case("a rate of many digits", [0.00123456789, 0.1]),
        Case("the same rate twice", [0.1, 0.5, 0.1]),
    ],
    observe=_runs_logged,
)
def sweep(folder, rates):
    """Take 20 steps with each learning rate; return the last loss of each."""
    losses = []
    for rate in rates:
        with SummaryWriter(Path(folder, f"rate={rate}")) as writer:
            weight = torch.tensor(4.0, requires_grad=True)
            optimizer = torch.optim.SGD([weight], lr=rate)
            for step in range(20):
                loss = (weight - 1) ** 2
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                writer.add_scalar("loss", loss.item(), step)
        losses.append(loss.item())
    return losses


# log_pr_curves


def _labels():
    return torch.arange(90) % 3


def _logits(knowledge, never=None):
    """Random logits, higher by ``knowledge`` for the true class; one class is ``never`` chosen."""
    noise = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    logits = 1.5 * noise + knowledge * F.one_hot(_labels(), 3)
    if never is not None:
        logits[:, never] -= 20
    return logits


def _curves_logged(answer, logits, labels, step):
    before = logits.clone(), labels.clone()
    with _folder() as folder:
        with SummaryWriter(folder) as writer:
            answer(writer, logits, labels, step)
            writer.add_scalar("the caller goes on", 1.0)
        rows, files = boards.pr_curves(folder), _event_files(folder)
    return {
        "tags and steps": [(row.tag, row.step) for row in rows],
        "precision": {row.tag: row.precision.tolist() for row in rows},
        "recall": {row.tag: row.recall.tolist() for row in rows},
        "event files": files,
        "logits and labels as before": [torch.equal(logits, before[0]), labels.equal(before[1])],
    }


@chapter.exercise(
    cases=lambda: [
        Case("an untrained network", _logits(0.0), _labels(), 0),
        Case("a network that has learned something", _logits(2.0), _labels(), 30),
        Case("a class that the network never predicts", _logits(1.0, never=2), _labels(), 7),
        Case("a class that these labels do not hold", _logits(1.0), _labels() % 2, 9),
    ],
    observe=_curves_logged,
)
def log_pr_curves(writer, logits, labels, step):
    """Log a precision-recall curve for each class."""
    probabilities = logits.softmax(dim=1)
    for c in range(logits.shape[1]):
        writer.add_pr_curve(f"pr/{c}", labels == c, probabilities[:, c], step)


# which


def five_runs(folder: Path) -> None:
    """Train five networks on digits, each for six epochs, and log them as the runs A to E.

    One is healthy. In one the two hidden layers are frozen, in one a hidden layer is dead from the
    start, one has far too small a learning rate, one far too large a one. The tags are ``loss``,
    and ``weight/<layer>`` and ``gradient/<layer>`` for the layers ``first``, ``second`` and
    ``last``. Weights are logged before the first epoch, too, as step 0.
    """
    rates = {"A": 1e-6, "B": 0.4, "C": 5.0, "D": 0.4, "E": 0.4}
    for name, rate in rates.items():
        model = _three_layers()
        if name == "B":
            nn.init.constant_(model.second.bias, -10.0)
        if name == "E":
            model.first.requires_grad_(False)
            model.second.requires_grad_(False)
        with SummaryWriter(Path(folder, name)) as writer:
            _train_and_log(model, rate, writer)


def _three_layers():
    torch.manual_seed(0)
    model = nn.Sequential()
    for name, layer in (
        ("flat", nn.Flatten()),
        ("first", nn.Linear(64, 32)),
        ("relu", nn.ReLU()),
        ("second", nn.Linear(32, 32)),
        ("again", nn.ReLU()),
        ("last", nn.Linear(32, 10)),
    ):
        model.add_module(name, layer)
    return model


def _train_and_log(model, rate, writer):
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    batches = _batches(*[32] * 16)
    _log_layers(model, writer, 0)
    for epoch in range(1, 7):
        total = 0.0
        for images, labels in batches:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() / len(batches)
        writer.add_scalar("loss", total, epoch)
        _log_layers(model, writer, epoch)


def _log_layers(model, writer, step):
    for name in ("first", "second", "last"):
        weight = getattr(model, name).weight
        writer.add_histogram(f"weight/{name}", weight, step)
        if weight.grad is not None:
            writer.add_histogram(f"gradient/{name}", weight.grad, step)


@chapter.prediction
def which():
    import tempfile

    from chapters.tensorboard.exercises import five_runs

    def reach(row):
        """How far from zero the outermost bin lies that holds a value."""
        edges = zip(row.edges[:-1], row.edges[1:], row.counts, strict=True)
        return max(max(abs(low), abs(high)) for low, high, count in edges if count)

    found = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        five_runs(folder)
        for run in boards.runs(folder):
            rows = boards.histograms(folder, run=run)
            weights = [reach(row) for row in rows if row.tag == "weight/second"]
            gradients = [reach(row) for row in rows if row.tag == "gradient/second"]
            losses = [point.value for point in boards.scalars(folder, "loss", run)]
            if losses[-1] < losses[0] / 2:
                found[run] = "healthy"
            elif not gradients:
                found[run] = "frozen"
            elif weights[-1] > 3 * weights[0]:
                found[run] = "too large"
            else:
                found[run] = "dead" if max(gradients) < 1e-11 else "too small"
    return found


# diagnose


@functools.cache
def _unseen_runs() -> dict[str, dict[str, bytes]]:
    """The event files of each case by name: written once, and where no time limit holds."""
    learning = _trained("learning")
    programs = {
        "a network that learns": {"body": learning, "head": learning},
        "a frozen body": {"conv": _trained("frozen"), "fc": learning},
        "a dead layer": {"encoder": _trained("dead"), "decoder": learning},
        "far too small a rate": {"a": _trained("stuck"), "b": _trained("stuck")},
        "a dead layer under weight decay": {"a": _trained("dead", decay=True), "b": learning},
        "gradients of about 1e-8": {"deep": _trained("stuck", size=1e-08), "top": learning},
        "a gradient that is zero at first": {"rare": _trained("learning", rests=(0, 1))},
        "a gradient that is zero at the end": {"rare": _trained("learning", rests=(2,))},
        "a gradient whose values are all alike": {"even": _standing("even gradient")},
        "gradients of about 1e-11": {"deep": _trained("stuck", size=1e-11), "top": learning},
        "2 in 100 weights have moved": {"few": _standing("few move")},
        "1 in 100 weights have moved": {"fewer": _standing("fewer move")},
        "weights that move at first and then no more": {"early": _standing("early")},
        "the weights spread out evenly": {"wide": _standing("spread")},
        "one weight of 400 runs away": {"last": _standing("one runs away")},
        "a layer with a / in its name": {"block/conv": learning},
        "a layer whose name holds weight/": {"cell/weight/input": learning},
        "all four at once": {
            "blocks.0": _trained("frozen"),
            "blocks.1": _trained("dead"),
            "blocks.2": _trained("stuck"),
            "head": learning,
        },
    }
    return {label: _event_files_of(layers) for label, layers in programs.items()}


def _event_files_of(layers):
    with _folder() as folder:
        with SummaryWriter(folder) as writer:
            for name, rows in layers.items():
                for number, (weight, gradient) in enumerate(rows):
                    writer.add_histogram(f"weight/{name}", weight, 300 * number)
                    if gradient is not None:
                        writer.add_histogram(f"gradient/{name}", gradient, 300 * number)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def _trained(state, decay=False, size=0.1, rests=()):
    """A layer's weights and gradients at three steps; None where there is no gradient.

    ``rests`` are the steps at which the gradient of a living layer is zero. Values beyond 2 do not
    move, so that the range of the weights says nothing.
    """
    generator = torch.Generator().manual_seed(len(state))

    def noise():
        return torch.randn(20, 20, generator=generator)

    weight, rows = noise(), []
    for step in range(3):
        gradient = size * noise()
        if state == "dead" or step in rests:
            gradient = torch.zeros_like(gradient)
        rows.append((weight, None if state == "frozen" else gradient))
        moves = {"learning": 0.2, "stuck": 1e-4}.get(state, 0.0)
        change = torch.where(weight.abs() < 2, moves * noise(), 0.0)
        weight = (0.7 if decay else 1.0) * weight + change
    return rows


def _standing(kind):
    """A layer of 400 weights that stand still but for what ``kind`` says, with a gradient."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(200, generator=generator)
    weight, gradient = torch.cat([half, -half]), torch.randn(400, generator=generator)
    moved = weight.clone()
    if kind == "even gradient":  # one bin holds it all
        moved, gradient = 2 * weight, torch.full((400,), 0.05)
    elif kind == "few move":
        moved[:8] = 5.0
    elif kind == "fewer move":
        moved[:4] = 5.0
    elif kind in ("spread", "early"):  # the mean stays
        moved = 1.5 * weight
    elif kind == "one runs away":  # the mean moves, and so does the first bin that is stored
        moved[0] = -1000.0
    between = moved if kind == "early" else weight
    return [(weight, gradient), (between, gradient), (moved, gradient)]


def _of_a_logged_run(answer, files):
    with _folder() as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return answer(folder)


@chapter.exercise(
    cases=lambda: [Case(label, files) for label, files in _unseen_runs().items()],
    observe=_of_a_logged_run,
)
def diagnose(folder):
    """Return a dict from the name of each layer to its state."""

    def all_zero(row):
        edges = zip(row.edges[:-1], row.edges[1:], row.counts, strict=True)
        return not any(count for low, high, count in edges if max(abs(low), abs(high)) > 1e-12)

    def share_moved(one, other):
        before, after = (dict(zip(row.edges[1:], row.counts, strict=True)) for row in (one, other))
        leavers = [abs(before.get(edge, 0) - after.get(edge, 0)) for edge in before | after]
        return sum(leavers) / 2 / sum(one.counts)

    rows = {}
    for row in boards.histograms(folder):
        rows.setdefault(row.tag, []).append(row)
    states = {}
    for tag, weights in rows.items():
        kind, _, layer = tag.partition("/")
        if kind == "gradient":
            continue
        gradients = rows.get(f"gradient/{layer}")
        moved = share_moved(weights[0], weights[-1])
        if gradients is None:
            states[layer] = "frozen"
        elif all(map(all_zero, gradients)):
            states[layer] = "dead"
        elif moved < 0.01:
            states[layer] = "stuck"
        else:
            states[layer] = "learning"
    return states


# best


def _logged(values, purge=None, first=None):
    """What one program logs, from step ``first`` on (without it, from ``purge`` or from 0)."""
    first = (purge or 0) if first is None else first
    train = [min(1.0, v + 0.05) for v in values]
    return {"validation": values, "train": train, "purge": purge, "first": first}


def _of_logged_runs(answer, runs):
    with _folder() as folder:
        for name, programs in runs.items():
            for number, logged in enumerate(programs):
                _log_accuracy(folder / name, logged, clock=1_700_000_000 + 1000 * number)
        found = answer(folder)
    return tuple(found) if isinstance(found, (tuple, list)) else found


def _log_accuracy(folder, logged, clock):
    purge = logged.get("purge")
    with SummaryWriter(folder, purge_step=purge, filename_suffix=f".{clock}") as writer:
        for split in ("train", "validation"):
            for step, value in enumerate(logged.get(split, []), logged.get("first", 0)):
                writer.add_scalar(f"accuracy/{split}", value, step, walltime=clock + step)
    # Every reader takes a run's files in the order of their names, which begin with the time.
    (file,) = folder.glob(f"*.{clock}")
    file.rename(folder / f"events.out.tfevents.{clock}.host")


@chapter.exercise(
    cases=lambda: [
        Case("two runs", {"a": [_logged([0.5, 0.8437, 0.7])], "b": [_logged([0.4, 0.6])]}),
        Case(
            "a run that only logs the training",
            {"a": [_logged([0.5, 0.6])], "b": [{"train": [0.9]}]},
        ),
        Case(
            "a run that diverges",
            {"a": [_logged([math.nan, math.nan])], "b": [_logged([0.3, 0.2])]},
        ),
        Case(
            "a run that crashed at step 4 and was resumed from step 2",
            {
                "a": [_logged([0.2, 0.5, 0.9, 0.95]), _logged([0.6, 0.7, 0.8], purge=2)],
                "b": [_logged([0.75])],
            },
        ),
        Case(
            "a run that crashed at step 5 and, resumed from step 2, has not come so far",
            {
                "a": [_logged([0.2, 0.5, 0.6, 0.7, 0.95]), _logged([0.6, 0.7], purge=2)],
                "b": [_logged([0.75])],
            },
        ),
        Case(
            "a run resumed from step 2 that validates from step 4 on",
            {
                "a": [_logged([0.2, 0.5, 0.9, 0.8]), _logged([0.6, 0.7], purge=2, first=4)],
                "b": [_logged([0.75])],
            },
        ),
        Case(
            "a run that diverges after its best step",
            {"a": [_logged([0.5, 0.9, math.nan])], "b": [_logged([0.3, 0.6])]},
        ),
        Case(
            "a run that diverges and comes back",
            {"a": [_logged([0.5, 0.9, math.nan, 0.8])], "b": [_logged([0.7, 0.4])]},
        ),
        Case(
            "runs in folders of folders",
            {"cnn/1": [_logged([0.5])], "mlp/2": [_logged([0.1, 0.7])]},
        ),
    ],
    observe=_of_logged_runs,
)
def best(folder):
    """Return `(run, step, value)`."""
    points = boards.scalars(folder, "accuracy/validation")
    known = [point for point in points if point.value == point.value]  # nan is unlike itself
    top = max(known, key=lambda point: point.value)
    return top.run, top.step, top.value
