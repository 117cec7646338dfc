"""The exercises of chapter 06: what a run writes down, and what can be read from it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from helpers import boards, data
from helpers.boards.events import by_number, events
from helpers.exercises import Case, Exercises, Shortfall, Words, require

chapter = Exercises(__file__)
report = chapter.report


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # An answer may leave a writer open. On Windows its file can't be deleted then.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


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

    ``frozen`` names what is in eval mode and asks for no gradient: "block", the whole first block,
    or "inside", only the BatchNorm in it, two levels down.
    """

    def __init__(self, frozen="", classes=10, scale=5.0):
        super().__init__()
        torch.manual_seed(classes)
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Sequential(nn.BatchNorm1d(16), nn.Linear(16, classes))
        self.scale = scale
        for _ in range(3):
            self(torch.rand(8, 1, 8, 8)).square().mean().backward()
        if frozen:
            part = self.first if frozen == "block" else self.first[2]
            part.eval().requires_grad_(False)

    def forward(self, images):
        return self.scale * self.last(self.dropout(self.first(images)))


def _with_dropout_on():
    """As for drawing many predictions: all is in eval mode but the dropout."""
    model = HalfTrained().eval()
    model.dropout.train()
    return model


class _OwnDropout(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, self.training)


def _with_a_dropout_of_its_own():
    model = HalfTrained()
    model.dropout = _OwnDropout()
    return model


def _with_a_shared_part():
    """Two blocks of different modes hold the same dropout."""
    model = HalfTrained()
    block = nn.Sequential(model.last, model.dropout).eval()
    model.add_module("second", block)
    model.dropout.train()
    return model


def _images(n):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(n))


def _looking(answer, model, images, recording=True):
    with torch.set_grad_enabled(recording):
        found = require(answer(model, images), (tuple, list), "what `look` returns")
        still_recording = torch.is_grad_enabled()
    if len(found) != 2:
        raise Shortfall(f"Two tensors are expected, {len(found)} came.")
    classes, probabilities = (require(one, torch.Tensor, "each of the two") for one in found)
    yield "shape", [tuple(classes.shape), tuple(probabilities.shape)]
    yield "classes", classes.detach() if classes.is_floating_point() else classes.detach().long()
    yield "probabilities", probabilities.detach().float()
    yield "modes", _modes(model)
    yield "statistics", _copies(model.named_buffers())
    yield "parameters", _copies(model.named_parameters())
    yield "gradients", _copies((name, p.grad) for name, p in model.named_parameters())
    yield "requires_grad", {name: p.requires_grad for name, p in model.named_parameters()}
    yield "images", images.clone()
    yield "random", torch.rand(3)
    yield "recording", still_recording
    yield "no gradient", not (classes.requires_grad or probabilities.requires_grad)


def _modes(model):
    return {name or "itself": module.training for name, module in model.named_modules()}


def _copies(tensors):
    return {name: Words("none") if one is None else one.detach().clone() for name, one in tensors}


@chapter.exercise(
    cases=lambda: [
        Case("8 images, in the midst of a training", HalfTrained(), _images(8)),
        Case("8 images, a BatchNorm deep inside in eval mode", HalfTrained("inside"), _images(8)),
        Case("4 images, the whole first block in eval mode", HalfTrained("block"), _images(4)),
        Case("called under torch.no_grad()", HalfTrained(), _images(4), False),
        Case("a batch of one image", HalfTrained(), _images(1)),
        Case("5 images, a model already in eval mode", HalfTrained().eval(), _images(5)),
        Case("only the dropout in train mode", _with_dropout_on(), _images(3)),
        Case("a dropout of the author's own class", _with_a_dropout_of_its_own(), _images(3)),
        Case("a dropout that two blocks share", _with_a_shared_part(), _images(3)),
        Case("2 classes", HalfTrained(classes=2), _images(6)),
        Case("logits beyond 1000", HalfTrained(classes=3, scale=5000.0), _images(7)),
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
            0.9,
        ),
        Case("epochs 4 and 5, in eval mode", _small_net().eval(), _batches(30, 34), [4, 5]),
        Case("a frozen layer and one that is not used", _small_net("frozen"), _batches(30, 4), [0]),
        Case("a dead layer, and gradients from before", _small_net("dead"), _batches(9, 17), [0]),
        Case("BatchNorm set to eval mode by the caller", _small_net("eval"), _batches(32, 32), [0]),
    ]


@functools.cache
def _first_step():
    """The first step of a process loads much of torch; it is made where no time limit holds."""
    net = _small_net()
    net(_digits().x_train).sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()


class SmallNet(nn.Sequential):
    """With BatchNorm, for which train and eval mode are not the same."""

    def __init__(self):
        first = nn.Linear(64, 8, bias=False)
        super().__init__(nn.Flatten(), first, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))


def _small_net(kind=""):
    """A network whose first layer is "frozen", or gets no gradient from a "dead" ReLU.

    Or its BatchNorm is in "eval" mode. Beside the frozen layer there is one that is not used. That
    one has gradients already, as all parameters beside the dead layer have.
    """
    torch.manual_seed(0)
    net = SmallNet()
    if kind == "frozen":
        net[1].requires_grad_(False)
        net[0].spare = nn.Linear(2, 2)
        for parameter in net[0].spare.parameters():
            parameter.grad = torch.ones_like(parameter)
    elif kind == "dead":
        nn.init.constant_(net[2].bias, -10.0)
        for parameter in net.parameters():
            parameter.grad = torch.ones_like(parameter)
    elif kind == "eval":
        net[2].eval()
    return net


def _batches(*sizes):
    n = sum(sizes)
    images, labels = _digits().x_train[:n].clone(), _digits().y_train[:n].clone()
    return list(zip(images.split(sizes), labels.split(sizes), strict=True))


@functools.cache
def _digits():
    return data.digits()


def _epochs_logged(answer, model, batches, epochs, momentum=0.0):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=momentum)
    with _folder() as folder:
        with SummaryWriter(folder) as writer:
            for epoch in epochs:
                answer(model, batches, optimizer, writer, epoch)
                writer.add_scalar("the caller goes on", 0.0, epoch)
            usual_ends = set(writer.default_bins)
        files = _files(folder)
        logged = [
            (value, event.step) for event in events(files, True) for value in event.summary.value
        ]
    for what in ("batch", "epoch"):
        those = [(value, step) for value, step in logged if value.tag == f"loss/{what}"]
        yield f"{what} steps", [step for _, step in those]
        yield f"{what} loss", [value.simple_value for value, _ in those]
    histograms = sorted(
        (value.tag, step, number, value.histo)
        for number, (value, step) in enumerate(logged)
        if value.WhichOneof("value") == "histo" and value.tag.startswith("gradient/")
    )
    yield "histograms", sorted({tag for tag, *_ in histograms})
    yield "histogram steps", [(tag, step) for tag, step, *_ in histograms]
    yield "histogram values", _by_tag(histograms)
    ends = {end for *_, one in histograms for end in one.bucket_limit}
    yield "bins", ends <= usual_ends
    yield "weights", _copies(model.named_parameters())
    yield "one pass", _copies(model.named_buffers())
    yield "modes", _modes(model)
    yield "open", len(files)


def _files(folder):
    return sorted(folder.rglob("*tfevents*"), key=lambda path: by_number(str(path)))


def _by_tag(histograms):
    """The sum and the sum of squares, which do not depend on the bins."""
    values = {}
    for tag, *_, one in histograms:
        facts = {"number": one.num, "sum": one.sum, "sum of squares": one.sum_squares}
        values.setdefault(tag, []).append(facts)
    return values


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


# read_board and wrong_runs


def six_runs(folder: Path) -> None:
    """Log six made-up runs, ``run-a`` to ``run-f``, as a program would: every 10 steps.

    The tags are ``loss/train``, ``loss/validation`` and ``rate``. One run has a bad batch, one a
    rate that never falls, one overfits, and one measures its validation on the training data.
    """
    for number, letter in enumerate("abcdef"):
        with SummaryWriter(Path(folder, f"run-{letter}")) as writer:
            for step in range(0, 400, 10):
                for tag, value in _made_up(letter, number, step).items():
                    writer.add_scalar(tag, value, step)


def _made_up(letter, number, step):
    noise = 0.03 * math.sin(2.1 * step + number)
    loss = 0.2 + 2.1 * math.exp(-step / (70 + 5 * number)) + noise
    validation = loss + 0.15 + 0.03 * math.cos(1.3 * step + number)
    if letter == "b":
        validation += 0.004 * max(0, step - 120)
    if letter == "f":
        validation = loss
    if letter == "d" and step == 230:
        loss = 40.0
    rate = 0.003 if letter == "c" else 0.0015 * (1 + math.cos(math.pi * step / 400))
    return {"loss/train": loss, "loss/validation": validation, "rate": rate}


@chapter.prediction
def read_board():
    import tempfile

    from chapters.tensorboard.exercises import six_runs

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        six_runs(folder)
        top = max(boards.scalars(folder, "loss/train"), key=lambda point: point.value)
    return {"run": top.run, "step": top.step, "value": top.value}


@chapter.prediction
def wrong_runs():
    import tempfile

    from chapters.tensorboard.exercises import six_runs

    found = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        six_runs(folder)
        for run in boards.runs(folder):
            tags = ("loss/train", "loss/validation", "rate")
            train, validation, rate = (
                [point.value for point in boards.scalars(folder, tag, run)] for tag in tags
            )
            if rate[0] == rate[-1]:
                found["the rate never falls"] = run
            if validation == train:
                found["validation is the training data"] = run
            if validation[-1] > 1.5 * min(validation):
                found["it overfits"] = run
    return found


# smooth


def _smoothed(answer, values, weight, about="average"):
    before = [*values]
    smoothed = require(answer(values, weight), (list, tuple), "the smoothed values")
    yield "length", len(smoothed)
    yield about, [_number(one) for one in smoothed]
    yield "values", [*values] == before


def _number(one):
    return one.item() if issubclass(type(one), torch.Tensor) and one.dim() == 0 else one


def _curves_to_smooth():
    torch.manual_seed(0)
    drawn = [
        Case(f"{n} values, weight {weight}", torch.randn(n).tolist(), weight)
        for n in (2, 3, 7, 60)
        for weight in (0.2, 0.6, 0.95)
    ]
    return [
        Case("a constant curve, weight 0.9", [5.0] * 6, 0.9, "constant"),
        Case("a constant curve, weight 0.98", [-0.5] * 80, 0.98, "constant"),
        Case("a constant curve, weight 0.9999999", [16777217.0] * 3, 0.9999999, "constant"),
        Case("a single value, weight 0.7", [-1.5], 0.7, "constant"),
        Case("one spike, weight 0.6", [1.0, 0.0, 0.0, 8.0, 0.0, 0.0], 0.6),
        Case("a falling loss, weight 0.98", [2.0 / (1 + n) for n in range(30)], 0.98),
        Case("whole numbers, weight 0.5", [3, 1, 2, 2, 5], 0.5),
        Case("weight 0", [3.0, 1.0, 2.0], 0.0, "nothing"),
        Case("no values yet", [], 0.5),
        *drawn,
    ]


@chapter.exercise(cases=_curves_to_smooth, observe=_smoothed)
def smooth(values, weight):
    """The smoothed values, as many as `values`."""
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        smoothed.append(average / (1 - weight**n))
    return smoothed


# sweep

SECONDS = re.compile(r"\d\d\D\d\d\D\d\d|(?<!\d)\d{6,14}(?!\d)")  # a name with the time in it


def _runs_logged(answer, rates):
    with _swept(answer, [rates]) as (logs, before, returned):
        after = _contents(logs)
        new = [path for path in _files(logs) if path.relative_to(logs) not in before]
        runs = sorted({path.parent.relative_to(logs).as_posix() for path in new})
        points = [p for p in boards.scalars(logs) if p.run in runs] if runs else []
        elsewhere = [path for path in _files(logs.parent) if logs not in path.parents]
        places = sorted({_place(path, logs) for path in [*new, *elsewhere]})
        untouched = all(after.get(path) == content for path, content in before.items())
    points = [point for point in points if point.tag == "loss"]
    steps = [[point.step for point in points if point.run == run] for run in runs]
    curves = {run: [point.value for point in points if point.run == run] for run in runs}
    yield "runs", len(runs)
    yield "directly under", places
    of_rate = _pairs(rates, curves)
    yield "names", {str(rate): _rate_in(run, rate) for rate, run in of_rate.items()}
    yield "steps", steps
    yield "losses", {str(rate): curves[run] for rate, run in of_rate.items()}
    yield "returned", [*returned]
    yield "others", untouched


@contextlib.contextmanager
def _swept(answer, calls):
    """The folder, what lay there before the last call, and what that call returned."""
    with _folder() as folder, _working_in(folder):
        logs = folder / "logs"
        with SummaryWriter(logs / "yesterday") as writer:
            writer.add_scalar("loss", 1.0, 0)
        (logs / "notes.txt").write_text("0.5 is too high", "utf-8")
        for number, rates in enumerate(calls):
            before = _contents(logs)
            if number and any(SECONDS.search(path.parts[0]) for path in before):
                time.sleep(1.1)  # the prompt says a second; some clocks lag by a few ms
            with _flushed_writers():
                returned = answer(logs, [*rates])
        yield logs, before, require(returned, (list, tuple), "what `sweep` returns")


def _place(path, folder):
    if folder not in path.parents:
        return "in `runs`" if "runs" in path.parts else "beside `folder`"
    depth = len(path.relative_to(folder).parts) - 2
    return {-1: "in `folder` itself", 0: "directly under it"}.get(depth, "in folders of folders")


def _contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    return {path.relative_to(folder): path.read_bytes() for path in files}


def _pairs(rates, curves):
    """The run of each rate: the losses are near to what they should be, and the name holds it."""

    def strangeness(runs):
        pairs = [(rate, run) for rate, run in zip(rates, runs, strict=False)]
        return [
            sum(str(rate) not in run for rate, run in pairs),
            sum(abs(9 * (1 - 2 * r) ** 38 - (curves[run] or [math.inf])[-1]) for r, run in pairs),
        ]

    number = min(len(curves), len(rates))
    ways = itertools.permutations(curves, number) if number < 5 else [tuple(curves)]
    return dict(zip(rates, min(ways, key=strangeness), strict=False))


def _rate_in(run, rate):
    """The rate as it stands in the name of a run, or the number there that is nearest to it."""
    numbers = re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", run)
    if str(rate) in run or not numbers:
        return str(rate) if str(rate) in run else "no number"
    # The time may stand in the name, too: of two numbers that are as near, take the longer one.
    return min(numbers, key=lambda number: (abs(float(number) - rate), -len(number)))


def _only_returned(answer, rates):
    with _swept(answer, [rates]) as (*_, returned):
        yield "returned", [*returned]


def _twice(answer, rates):
    with _swept(answer, [rates, rates]) as (logs, before, _):
        after = _contents(logs)
        old, new = ({path.parent for path in paths} for paths in (before, after.keys() - before))
        yield "runs", len(new)
        yield "new folders", not old & new
        yield "others", all(after.get(path) == content for path, content in before.items())


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
        Case("rates 1.0, 0.001 and 0.004", [1.0, 0.001, 0.004]),
        Case("1e-05 and a rate of many digits", [0.00123456789, 1e-05]),
        Case("no rates", []),
        # How to name the second of a kind is left open.
        Case("the same rate twice", [0.1, 0.5, 0.1], observe=_only_returned),
        Case("called twice with the rates 0.2 and 0.4", [0.2, 0.4], observe=_twice),
    ],
    observe=_runs_logged,
)
def sweep(folder, rates):
    """Take 20 steps with each learning rate; return the last loss of each."""
    losses = []
    for rate in rates:
        run = f"{time.time_ns()}_rate={rate}"
        with SummaryWriter(Path(folder, run)) as writer:
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


# which


def five_runs(folder: Path) -> None:
    """Train five networks on digits, each for six epochs, and log them as the runs A to E.

    One is healthy. In one the two hidden layers are frozen, in one a hidden layer is dead from the
    start, one has far too small a learning rate, one far too large a one. The tags are ``loss``,
    ``weight/second`` and ``gradient/second``. Weights are logged before the first epoch, too, as
    step 0.
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
    _log_second(model, writer, 0)
    for epoch in range(1, 7):
        total = 0.0
        for images, labels in batches:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() / len(batches)
        writer.add_scalar("loss", total, epoch)
        _log_second(model, writer, epoch)


def _log_second(model, writer, step):
    weight = model.second.weight
    writer.add_histogram("weight/second", weight, step)
    if weight.grad is not None:
        writer.add_histogram("gradient/second", weight.grad, step)


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
def _unseen_runs() -> dict[str, tuple[dict[str, bytes], dict[str, list[str]]]]:
    """The event files of each case by name, and the layers by the demand that they try.

    They are written once, and where no time limit holds.
    """
    kinds = {
        "learning": {"conv": _layer(move=60), "head": _layer(move=400, n=1000)},
        "frozen": {"body": _layer(sizes=None), "moves": _layer(move=50, sizes=None)},
        "dead": {"encoder": _layer(sizes=(0, 0, 0)), "shrinks": _layer(0.7, sizes=(0, 0, 0))},
        "stuck": {"decoder": _layer(), "small": _layer(n=10)},
    }
    sizes = {
        "dead": {
            "5e-13": _layer(sizes=(5e-13, 0, 5e-13)),
            "-5e-13": _layer(sizes=(-5e-13, 0, -5e-13)),
            "zero": _layer(sizes=(0, 0, 0)),
        },
        "stuck": {
            "1e-8": _layer(sizes=(1e-8, 1e-8, 1e-8)),
            "1e-11": _layer(sizes=(1e-11, 1e-11, 1e-11)),
            "all below 0": _layer(sizes=(-1e-3, -1e-3, -1e-3)),
            "1.05e-12": _layer(sizes=("least", "least", "least")),
            "all alike": _layer(sizes=("alike", "alike", "alike")),
            "a single one": _layer(sizes=("single", "single", "single")),
            "only at first": _layer(sizes=(0.1, 0, 0)),
            "only in between": _layer(sizes=(0, 0.1, 0)),
            "only at the end": _layer(sizes=(0, 0, 0.1)),
        },
        "learning": {
            "rests at first": _layer(move=60, sizes=(0, 0, 0.1)),
            "rests at the end": _layer(move=60, sizes=(0.1, 0, 0)),
        },
    }
    moves = {
        "stuck": {
            "3 of 400": _layer(move=3),
            "1 of 101": _layer(move=1, n=101),
            "one of 400 runs away": _layer(move=1, to=-1000.0),
            "away and back": _layer(move=(100, 0)),
        },
        "learning": {
            "8 of 400": _layer(move=8),
            "4 of 400": _layer(move=4),
            "the largest of 100": _layer(move=1, n=100, to=1.0),
            "1 of 100": _layer(move=1, n=100),
            "1 of 30 runs away": _layer(move=1, n=30, to=-1000.0),
            "at first, then no more": _layer(move=(100, 100)),
            "spread out evenly": _layer(1.5, n=1000),
        },
    }
    names = {
        "block/conv": _layer(),
        "weight": _layer(move=60),
        "cell/weight/input": _layer(sizes=None),
        "gradient/gradient/x": _layer(sizes=(0, 0, 0)),
    }
    return {
        "a run with layers of each kind": _logged_run(kinds),
        "gradients of other sizes": _logged_run(sizes),
        "weights of which some move": _logged_run(moves),
        "layers with a / in their names": _logged_run({"names": names}),
    }


def _logged_run(demands):
    tried_by = {demand: [*layers] for demand, layers in demands.items()}
    with _folder() as folder:
        with SummaryWriter(folder) as writer:
            for layers in demands.values():
                for name, (weights, gradients) in layers.items():
                    for number, weight in enumerate(weights):
                        writer.add_histogram(f"weight/{name}", weight, 300 * number)
                    for number, gradient in enumerate(gradients, 1):
                        writer.add_histogram(f"gradient/{name}", gradient, 300 * number)
        return {path.name: path.read_bytes() for path in folder.iterdir()}, tried_by


def _layer(scale=1.0, *, move=0, n=400, to=5.0, sizes=(0.1, 0.1, 0.1)):
    """A layer's weights at four steps, the first before the training, and its three gradients.

    At the end, ``move`` of ``n`` weights have moved ``to`` a value, and all are ``scale`` times as
    large; a pair says how many in the second and third histogram and how many at the end.
    ``sizes`` are those of the gradients; None is a layer without.
    """
    generator = torch.Generator().manual_seed(n)
    start = 0.05 + 3 * torch.rand(n, generator=generator)
    start[0] = 9.0  # where it leaves, fewer bins are stored
    if n >= 1000:
        start *= torch.randn(n, generator=generator).sign()
    between, end = move if type(move) is tuple else (0, move)
    weights = [start, _moved(start, between, to), _moved(start, between, to)]
    weights.append(scale * _moved(start, end, to))
    return weights, [_gradient(size, n, generator) for size in sizes or ()]


def _moved(weight, number, to):
    return torch.where(torch.arange(len(weight)) < number, to, weight)


def _gradient(size, n, generator):
    if size in ("alike", "least"):
        return torch.full((n,), 0.05 if size == "alike" else 1.05e-12)
    if size == "single":
        return F.one_hot(torch.tensor(n // 2), n) * 0.05
    return size * torch.rand(n, generator=generator)


def _diagnosed(answer, files, layers):
    with _folder() as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        states = require(answer(folder), dict, "what `diagnose` returns")
    yield "layers", sorted(map(str, states))
    for demand, names in layers.items():
        yield demand, {name: states.get(name, Words("no word")) for name in names}


@chapter.exercise(
    cases=lambda: [Case(label, *files) for label, files in _unseen_runs().items()],
    observe=_diagnosed,
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

    rows = {"weight": {}, "gradient": {}}
    for row in boards.histograms(folder):
        kind, _, layer = row.tag.partition("/")
        rows[kind].setdefault(layer, []).append(row)
    states = {}
    for layer, weights in rows["weight"].items():
        gradients = rows["gradient"].get(layer)
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


def _resumed(*values):
    """A run that crashed and was resumed from step 2, beside another one."""
    programs = [_logged(values[0]), *(_logged(more, purge=2) for more in values[1:])]
    return {"a": programs, "b": [_logged([0.75])]}


@functools.cache
def _accuracies() -> list[tuple[str, str, dict[str, bytes]]]:
    """Label, demand and event files of each case: written once, and where no time limit holds."""
    nan = math.nan
    later = _logged([0.6, 0.7], purge=2, first=4)
    cases = [
        ("two runs", "highest", {"a": [_logged([0.5, 0.8437, 0.7])], "b": [_logged([0.4, 0.6])]}),
        ("the folder itself is a run", "highest", {".": [_logged([0.5, 0.6, 0.2])]}),
        (
            "runs in folders of folders",
            "run",
            {"cnn/1": [_logged([0.5])], "mlp/2": [_logged([0.1, 0.7])], "mlp/3": [_logged([0.6])]},
        ),
        (
            "a run in the folder of another one",
            "run",
            {".": [_logged([0.1])], "a": [_logged([0.5])], "a/fine": [_logged([0.9])]},
        ),
        ("a validation that never gets anything right", "highest", {"a": [_logged([0.0])]}),
        (
            "a run that only logs the training",
            "tag",
            {"a": [_logged([0.5, 0.6])], "b": [{"train": [0.9]}]},
        ),
        (
            "a run that diverges",
            "nan",
            {"a": [_logged([nan, nan])], "b": [_logged([0.3, 0.2])]},
        ),
        (
            "a run that diverges after its best step",
            "nan",
            {"a": [_logged([0.5, 0.9, nan])], "b": [_logged([0.3, 0.6])]},
        ),
        (
            "a run that diverges and comes back",
            "nan",
            {"a": [_logged([0.5, 0.9, nan, 0.8])], "b": [_logged([0.7, 0.4])]},
        ),
        (
            "a run that crashed at step 4 and was resumed from step 2",
            "resumed",
            _resumed([0.2, 0.5, 0.9, 0.95], [0.6, 0.7, 0.8]),
        ),
        (
            "a run that crashed at step 5 and, resumed from step 2, has not come so far",
            "resumed",
            _resumed([0.2, 0.5, 0.6, 0.7, 0.95], [0.6, 0.7]),
        ),
        (
            "a run resumed from step 2 that validates from step 4 on",
            "resumed",
            {"a": [_logged([0.2, 0.5, 0.9, 0.8]), later], "b": [_logged([0.75])]},
        ),
        (
            "a run whose best step is before that from which it was resumed",
            "before",
            _resumed([0.5, 0.9, 0.6], [0.6, 0.7]),
        ),
        (
            "a run resumed from step 2 that has not validated since",
            "resumed",
            _resumed([0.2, 0.8, 0.9], []),
        ),
        (
            "a run resumed from step 2 twice",
            "resumed",
            _resumed([0.2, 0.5, 0.9], [0.6, 0.95, 0.85], [0.8]),
        ),
    ]
    return [(label, about, _files_of(runs)) for label, about, runs in cases]


def _files_of(runs):
    with _folder() as folder:
        for name, programs in runs.items():
            for number, logged in enumerate(programs):
                _log_accuracy(folder / name, logged, clock=1_700_000_000 + 1000 * number)
        return {path.relative_to(folder): path.read_bytes() for path in _files(folder)}


def _log_accuracy(folder, logged, clock):
    purge = logged.get("purge")
    with SummaryWriter(folder, purge_step=purge, filename_suffix=f".{clock}") as writer:
        for split in ("train", "validation"):
            for step, value in enumerate(logged.get(split, []), logged.get("first", 0)):
                writer.add_scalar(f"accuracy/{split}", value, step, walltime=clock + step)
    # Every reader takes a run's files in the order of their names, which begin with the time.
    (file,) = folder.glob(f"*.{clock}")
    file.rename(folder / f"events.out.tfevents.{clock}.host")


def _best_of(answer, about, files):
    with _folder() as folder:
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        found = require(answer(folder), (tuple, list), "what `best` returns")
    yield about, tuple(map(_number, found))


@chapter.exercise(
    cases=lambda: [Case(label, about, files) for label, about, files in _accuracies()],
    observe=_best_of,
)
def best(folder):
    """Return `(run, step, value)`."""
    points = boards.scalars(folder, "accuracy/validation")
    known = [point for point in points if point.value == point.value]  # nan is unlike itself
    top = max(known, key=lambda point: point.value)
    return top.run, top.step, top.value


# log_pr_curves


def _logits(n, classes, knowledge, never=None):
    """Random logits, higher by ``knowledge`` for the true class; one class is ``never`` chosen."""
    noise = torch.randn(n, classes, generator=torch.Generator().manual_seed(classes))
    logits = 1.5 * noise + knowledge * F.one_hot(_labels(n, classes), classes)
    if never is not None:
        logits[:, never] -= 20
    return logits


def _labels(n, classes):
    return torch.arange(n) % classes


def _curves_logged(answer, logits, labels, step):
    with _folder() as folder:
        with SummaryWriter(folder) as writer:
            writer.add_scalar("the caller goes on", 1.0, 0)
            answer(writer, logits, labels, step)
            writer.add_scalar("the caller goes on", 1.0, 1)
        rows, files = boards.pr_curves(folder), _files(folder)
    yield "tags", sorted(row.tag for row in rows)
    yield "steps", [row.step for row in rows]
    yield "thresholds", sorted({len(row.precision) for row in rows})
    counts = ("true_positives", "false_positives", "precision", "recall")
    yield "curves", {row.tag: {n: getattr(row, n).tolist() for n in counts} for row in rows}
    yield "open", len(files)
    yield "as it was", [logits.clone(), labels.clone()]


@chapter.exercise(
    cases=lambda: [
        Case("an untrained network", _logits(90, 3, 0.0), _labels(90, 3), 0),
        Case("a network that has learned something", _logits(90, 3, 2.0), _labels(90, 3), 30),
        Case("a class that is never predicted", _logits(90, 3, 1.0, never=2), _labels(90, 3), 7),
        Case("a class that these labels do not hold", _logits(90, 3, 1.0), _labels(90, 2), 9),
        Case("2 classes, 7 samples", _logits(7, 2, 1.0), _labels(7, 2), 4),
        Case("12 classes", _logits(50, 12, 2.0), _labels(50, 12), 1),
        Case("a single sample", _logits(1, 4, 1.0), _labels(1, 4), 2),
        Case("logits about 1000", _logits(60, 3, 1.0) + 1000, _labels(60, 3), 3),
        Case("logits between 0 and 1", _logits(60, 3, 1.0).sigmoid(), _labels(60, 3), 5),
    ],
    observe=_curves_logged,
)
def log_pr_curves(writer, logits, labels, step):
    """Log a precision-recall curve for each class."""
    probabilities = logits.softmax(dim=1)
    for c in range(logits.shape[1]):
        writer.add_pr_curve(f"pr/{c}", labels == c, probabilities[:, c], step)
