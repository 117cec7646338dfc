"""The exercises of chapter 06: what a run writes down, and what can be read from it."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from helpers import boards, data
from helpers.exercises.engine import Case, Exercise, Prediction


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # An answer may leave a writer open, whose file Windows then does not let go.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


def _event_files(folder: Path) -> int:
    return len(list(folder.rglob("*tfevents*")))


# What a writer does -----------------------------------------------------------------------------

on_disk = Prediction(
    "tensorboard.on_disk",
    title="What a writer does",
    stars=1,
    minutes=3,
    ask="""
    ```python
    writer = SummaryWriter(folder)
    files = list(folder.iterdir())
    for loss in (3.0, 2.0, 1.0):
        writer.add_scalar("loss", loss)
    writer.flush()
    points = boards.scalars(folder)
    ```

    The writer is still open. Write numbers for the first two and the last, a list for the steps.
    """,
    blank="""{
    "len(files)": ...,
    "len(points)": ...,
    "[point.step for point in points]": ...,
    "TensorBoard servers started": ...,
}""",
    hints=(
        "What a writer makes is a file. When does a program that is careful with your data make "
        "it?",
        "Who could know that the second call of `add_scalar` is the second step? Nobody told.",
        "The board in the browser is another program. Who would have started it?",
    ),
    takeaway="A `SummaryWriter` appends to a file and does nothing else; `flush()` waits until all "
    "of it is there. The server is another program, which reads. And the step is yours to give: "
    "without it, all points lie on step 0.",
)


@on_disk.reference
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


@on_disk.mistake(
    "The file does not wait for something to write: making the writer makes it. So a typing "
    "mistake in the folder's name leaves a run without points in the board."
)
def a_file_when_needed():
    with _folder() as folder:
        return {"len(files)": len(list(folder.iterdir()))}


@on_disk.mistake(
    "An open writer hides nothing. A thread takes the events out of a queue and appends them to "
    "the file, and `flush()` waits until they are there, so that you can read while a training "
    "goes on. What `close()` saves is the rest of the queue when a program ends."
)
def kept_until_closed():
    with _folder() as folder:
        SummaryWriter(folder).close()
        return {"len(points)": _event_files(folder) - 1}


@on_disk.mistake(
    "Nothing counts for you. Without `global_step` every point is of step 0, and the board has no "
    "curve to draw."
)
def it_counts():
    return {"[point.step for point in points]": [step for step, _ in enumerate((3.0, 2.0, 1.0))]}


@on_disk.mistake(
    "A step is always a whole number. Without `global_step` the writer stores none, and a number "
    "that is not in the file is read as 0, never as `None`."
)
def no_step_is_none():
    return {"[point.step for point in points]": [None for _ in (3.0, 2.0, 1.0)]}


@on_disk.mistake(
    "No server was started. The writer knows of none: it writes, and whoever wants to look starts "
    "a TensorBoard, now or next week, here or where the files have been copied to."
)
def a_writer_is_a_server():
    with _folder() as folder, SummaryWriter(folder) as writer:
        return {"TensorBoard servers started": len([writer])}


# Looking without touching -----------------------------------------------------------------------

look = Exercise(
    "tensorboard.look",
    title="Look at predictions without touching the training",
    stars=2,
    minutes=8,
    ask="""
    Write `look(model, images)` for use in the midst of a training. It returns two tensors of shape
    `(n,)`: the predicted classes, and the model's probability for each of them.

    The training must not notice. Every submodule, however deep, is left in the mode it was in (some
    are frozen in eval mode). Statistics, gradients, `requires_grad` and the random numbers that
    come after are as if you had not looked, and whether gradients are recorded, too: `look` may be
    called under `torch.no_grad()`. What you return asks for no gradient. A batch of one image is a
    batch.
    """,
    hints=(
        "Two things decide what a forward pass does besides computing: the modes, and whether "
        "gradients are recorded.",
        "`model.train()` reaches every submodule, those too that were frozen in eval mode. Note "
        "each one's mode first: `{module: module.training for module in model.modules()}`.",
        "`logits.softmax(dim=1).max(dim=1)` gives both results at once, as `(values, indices)`, "
        "also for one image.",
    ),
    help=(
        (
            "<code>iteration over a 0-d tensor</code>",
            "<code>squeeze()</code> removes the batch dimension of a batch of one.",
        ),
        (
            "<code>Expected more than 1 value per channel when training</code>",
            "BatchNorm refuses a batch of one in train mode. In which mode should you look?",
        ),
    ),
    cases=lambda: [
        Case("8 images, in the midst of a training", _Half(), _images(8)),
        Case("8 images, the first BatchNorm frozen in eval mode", _Half(frozen=2), _images(8)),
        Case("4 images, the whole first block frozen in eval mode", _Half(frozen=1), _images(4)),
        Case("called under torch.no_grad()", _Half(), _images(4), False),
        Case("a batch of one image", _Half(), _images(1)),
        Case("5 images, a model already in eval mode", _Half().eval(), _images(5)),
    ],
    takeaway="A look at the model is a measurement, and a measurement must not change what it "
    "measures: eval mode, no gradients, every module's own mode back, whatever the batch's size.",
)


class _Half(nn.Module):
    """Half trained: BatchNorm has seen batches, dropout draws, gradients wait for their step.

    With ``frozen`` 1 the first block, with 2 only the BatchNorm in it (two levels down) is in eval
    mode and asks for no gradient.
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


@look.observe
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


@look.starter
def look(model, images):
    """Return the predicted classes `(n,)` and their probabilities `(n,)`."""
    ...


@look.reference
def look(model, images):
    """Return the predicted classes `(n,)` and their probabilities `(n,)`."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    for module, mode in modes.items():
        module.training = mode
    return classes, probabilities


@look.also_right
def at_a_copy(model, images):
    with torch.inference_mode():
        logits = copy.deepcopy(model).eval()(images)
    classes = logits.argmax(dim=-1).clone()
    chosen = logits.log_softmax(dim=-1).exp()[torch.arange(len(images)), classes]
    return classes, chosen.clone()


@look.mistake(
    "You look in train mode. Dropout draws, so the answer is another one each time, and BatchNorm "
    "takes your images into its statistics: the training does notice."
)
def in_train_mode(model, images):
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    return classes, probabilities


@look.mistake(
    "This is the forward pass of a training: in train mode, so that BatchNorm takes your images in "
    "and dropout draws, and with a graph, which you return along with the numbers. A look needs "
    "eval mode *and* `torch.no_grad()`."
)
def like_a_training_step(model, images):
    probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    return classes, probabilities


@look.mistake(
    "The model stays in eval mode: from here on, the training goes on without dropout, and "
    "BatchNorm's statistics stand still."
)
def stays_in_eval_mode(model, images):
    model.eval()
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    return classes, probabilities


@look.mistake(
    "`model.train()` at the end puts *everything* into train mode: what was frozen in eval mode, "
    "and a model that was not being trained at all. Give each module the mode it had."
)
def all_to_train_mode(model, images):
    model.eval()
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    model.train()
    return classes, probabilities


@look.mistake(
    "You noted the mode of the model, not those of its parts. `model.train(mode)` sets them all "
    "alike, and a BatchNorm that was frozen in eval mode trains again."
)
def one_mode_for_all(model, images):
    mode = model.training
    model.eval()
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    model.train(mode)
    return classes, probabilities


@look.mistake(
    "You gave the model's direct children their modes back, and each with `train(mode)`, which "
    "reaches what lies deeper: a BatchNorm inside a block that was frozen in eval mode trains "
    "again. `model.modules()` goes through all levels."
)
def modes_of_the_children(model, images):
    modes = {child: child.training for child in model.children()}
    mode = model.training
    model.eval()
    with torch.no_grad():
        probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    model.training = mode
    for child, mode in modes.items():
        child.train(mode)
    return classes, probabilities


@look.mistake(
    "What you return holds on to the graph of the forward pass and asks for gradients. Log it for "
    "a thousand steps and a thousand graphs stay in memory. Compute it under `torch.no_grad()`."
)
def keeps_the_graph(model, images):
    modes = {module: module.training for module in model.modules()}
    model.eval()
    probabilities, classes = model(images).softmax(dim=1).max(dim=1)
    for module, mode in modes.items():
        module.training = mode
    return classes, probabilities


@look.mistake(
    "`squeeze()` also removes the batch dimension of a batch of one. A model's output has a batch "
    "dimension whatever its size: reduce over `dim=1` and leave it alone."
)
def squeezes(model, images):
    classes, probabilities = at_a_copy(model, images)
    return classes.squeeze(), probabilities.squeeze()


@look.mistake(
    "You return the two the other way round: `max(dim=1)` gives `(values, indices)`, asked for are "
    "the classes first, then their probabilities."
)
def the_other_pair(model, images):
    classes, probabilities = at_a_copy(model, images)
    return probabilities, classes


@look.mistake(
    "What you give are not probabilities, it is the largest logit. `softmax` over the classes "
    "makes probabilities of logits."
)
def logits_for_probabilities(model, images):
    with torch.no_grad():
        logits = copy.deepcopy(model).eval()(images)
    return logits.argmax(dim=1), logits.max(dim=1).values


# Logging an epoch -------------------------------------------------------------------------------

train_epoch = Exercise(
    "tensorboard.train_epoch",
    title="Train an epoch and write it down",
    stars=2,
    minutes=10,
    ask="""
    Write `train_epoch(model, batches, optimizer, writer, epoch)`. It trains for one pass over
    `batches`, a list of pairs `(images, labels)`, with cross-entropy. Epochs count from 0, and each
    has the same batches. The modes are the caller's choice: leave them as they are. Log three
    things:

    - `"loss/batch"`: each batch's loss, at the number of batches trained on before it, since the
      start of the whole training;
    - `"loss/epoch"`: the mean loss per *sample* of this epoch, at the step of its last batch;
    - `"gradient/<name>"`: a histogram of each parameter's gradient for the last batch, at the same
      step, with the default bins. Frozen parameters have none and get no histogram; a gradient of
      zeros is one.

    The writer belongs to the caller, who goes on using it.
    """,
    hints=(
        "The step of a batch is `epoch * len(batches) + i`. It holds after a resume too, when the "
        "first epoch that you see is the fourth.",
        "The last batch may be smaller than the others: weight each loss with its `len(labels)`.",
        "Gradients exist from `backward()` to the next `zero_grad()`. Where in the loop do you "
        "empty them?",
    ),
    help=(
        (
            "<code>Got &lt;class 'NoneType'&gt;, but numpy array or torch tensor are "
            "expected</code>",
            "A frozen parameter's <code>.grad</code> is <code>None</code>. Leave it out.",
        ),
    ),
    cases=lambda: _trainings(),
    takeaway="The step is a position on an axis that all tags and all restarts share: count "
    "batches from the start of the training. And log a gradient while it is there.",
)


def _batches(*sizes):
    digits = _digits()
    return list(
        zip(digits.x_train.split(list(sizes)), digits.y_train.split(list(sizes)), strict=False)
    )


@functools.cache
def _digits():
    digits = data.digits()
    return digits._replace(x_train=digits.x_train[:64], y_train=digits.y_train[:64])


def _trainings():
    _first_step()  # here, where no time limit holds
    return [
        Case("one epoch of 4 batches of 16", _small_net(), _batches(16, 16, 16, 16), [0]),
        Case(
            "two epochs of 3 batches, the last one smaller",
            _small_net(),
            _batches(24, 24, 16),
            [0, 1],
        ),
        Case("epochs 4 and 5, after a resume", _small_net(), _batches(30, 34), [4, 5]),
        Case("a network with a frozen layer", _small_net(frozen=True), _batches(30, 30, 4), [0]),
        Case("a network with a dead layer", _small_net(dead=True), _batches(32, 32), [0]),
        Case(
            "BatchNorm set to eval mode by the caller",
            _small_net(still=True),
            _batches(32, 32),
            [0],
        ),
    ]


@functools.cache
def _first_step():
    """The first step of a process loads much of torch."""
    net = _small_net()
    net(_digits().x_train).sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()


def _small_net(frozen=False, dead=False, still=False):
    """A network with BatchNorm, for which train and eval mode are not the same.

    Its first layer is ``frozen``, or gets no gradient from a ``dead`` ReLU, or BatchNorm stands
    ``still`` in eval mode.
    """
    torch.manual_seed(0)
    first = nn.Linear(64, 8, bias=False)
    net = nn.Sequential(nn.Flatten(), first, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
    if frozen:
        first.requires_grad_(False)
    if dead:
        nn.init.constant_(net[2].bias, -10.0)
    if still:
        net[2].eval()
    return net


@train_epoch.observe
def _epochs_logged(answer, model, batches, epochs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with _folder() as folder:
        with SummaryWriter(folder) as writer:
            for epoch in epochs:
                answer(model, batches, optimizer, writer, epoch)
        points, histograms = boards.scalars(folder), boards.histograms(folder)
        files = _event_files(folder)
    return {
        "steps of the scalars": {tag: _steps(points, tag) for tag in _tags(points)},
        "scalars": {tag: [p.value for p in points if p.tag == tag] for tag in _tags(points)},
        "steps of the histograms": {tag: _steps(histograms, tag) for tag in _tags(histograms)},
        "mean size of what is in the histograms": {
            tag: [_mean_size(row) for row in histograms if row.tag == tag]
            for tag in _tags(histograms)
        },
        "values below 0 in the histograms": {
            tag: [_below_zero(row) for row in histograms if row.tag == tag]
            for tag in _tags(histograms)
        },
        "event files": files,
        "the model is trained": {name: p.detach() for name, p in model.named_parameters()},
        "modules in train mode": [name for name, part in model.named_modules() if part.training],
        # Where there is no histogram this tells why; where there is, it is nobody's business.
        "gradients left for a histogram": bool(histograms)
        or any(parameter.grad is not None for parameter in model.parameters()),
    }


def _tags(rows):
    return sorted({row.tag for row in rows})


def _steps(rows, tag):
    return [row.step for row in rows if row.tag == tag]


def _mean_size(row):
    """About the mean of the absolute values, from the middles of the bins."""
    centres = [(low + high) / 2 for low, high in zip(row.edges[:-1], row.edges[1:], strict=True)]
    total = sum(abs(c) * n for c, n in zip(centres, row.counts, strict=True))
    return float(total / max(sum(row.counts), 1))


def _below_zero(row):
    return int(sum(n for high, n in zip(row.edges[1:], row.counts, strict=True) if high <= 0))


@train_epoch.starter
def train_epoch(model, batches, optimizer, writer, epoch):
    """Train on each of `batches` once; log to `writer`."""
    ...


@train_epoch.reference
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


@train_epoch.also_right
def with_a_running_count(model, batches, optimizer, writer, epoch):
    step, losses, sizes = epoch * len(batches), [], []
    for images, labels in batches:
        model.zero_grad()
        loss = nn.CrossEntropyLoss()(model(images), labels)
        loss.backward()
        writer.add_scalar("loss/batch", loss, global_step=step)
        if len(losses) == len(batches) - 1:
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    writer.add_histogram(f"gradient/{name}", parameter.grad, step)
        optimizer.step()
        losses.append(loss.detach())
        sizes.append(len(labels))
        step += 1
    mean = (torch.stack(losses) * torch.tensor(sizes)).sum() / sum(sizes)
    writer.add_scalar("loss/epoch", mean, step - 1)


def _epoch(model, batches, optimizer, writer, epoch, **do):
    """The reference with some of its decisions taken in another way."""
    losses, sizes, grads = [], [], {}
    step_of = do.get("step", lambda i: epoch * len(batches) + i)
    for i, (images, labels) in enumerate(batches):
        loss = F.cross_entropy(model(images), labels)
        if not do.get("piles_up"):
            optimizer.zero_grad()
        loss.backward()
        grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        writer.add_scalar("loss/batch", loss.item(), step_of(i))
        losses.append(loss.item())
        sizes.append(len(labels))
    weights = do.get("weights", sizes)
    mean = sum(map(math.prod, zip(losses, weights, strict=False))) / sum(weights[: len(losses)])
    last = do.get("last", step_of(len(batches) - 1))
    writer.add_scalar("loss/epoch", mean, do.get("epoch_step", last))
    for name, grad in {} if do.get("silent") else grads.items():
        writer.add_histogram(f"gradient/{name}", do.get("logged", torch.clone)(grad), last)


@train_epoch.mistake(
    "Your steps begin at 0 in every epoch, so the second epoch lies on top of the first: the curve "
    "runs back and forth, or the board drops the points that were there before. Add the batches of "
    "the epochs that have passed."
)
def begins_anew_each_epoch(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, step=lambda i: i)


@train_epoch.mistake("You give no step, and a writer does not count: all points lie on step 0.")
def without_a_step(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, step=lambda i: None)


@train_epoch.mistake(
    "Your steps are one too high. The first batch of a training has none before it: it is step 0."
)
def counts_from_one(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, step=lambda i: epoch * len(batches) + i + 1)


@train_epoch.mistake(
    "The batches lie where they should, the values of the epoch one step too far: on the first "
    "batch of the *next* epoch. The step of the last batch is one less than the number of batches "
    "so far."
)
def epoch_one_too_late(model, batches, optimizer, writer, epoch):
    end = (epoch + 1) * len(batches)
    _epoch(model, batches, optimizer, writer, epoch, last=end)


@train_epoch.mistake(
    "You never empty the gradients. `backward()` adds to what is there, so each step goes along "
    "the sum of all gradients so far, and your histograms grow with it. Call "
    "`optimizer.zero_grad()` before `backward()`."
)
def gradients_pile_up(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, piles_up=True)


@train_epoch.mistake(
    "You put the model into eval mode, and train it in that: BatchNorm uses old statistics and "
    "takes in nothing. The caller has chosen the modes; leave them."
)
def in_eval_mode(model, batches, optimizer, writer, epoch):
    model.eval()
    _epoch(model, batches, optimizer, writer, epoch)


@train_epoch.mistake(
    "You call `model.train()`, which reaches every part. The caller may have put some into eval "
    "mode (a frozen BatchNorm, say), and now they train. Leave the modes as they are."
)
def all_in_train_mode(model, batches, optimizer, writer, epoch):
    model.train()
    _epoch(model, batches, optimizer, writer, epoch)


@train_epoch.mistake(
    "You train as asked, and then call `model.train()`: parts that the caller had put into eval "
    "mode are in train mode from here on. Leave the modes as they are."
)
def ends_in_train_mode(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch)
    model.train()


@train_epoch.mistake(
    "Your histograms hold the sizes of the gradients, without their signs. Log `parameter.grad` as "
    "it is: whether it lies to one side of zero is a thing to see."
)
def of_the_sizes(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, logged=torch.abs)


@train_epoch.mistake(
    "Your histograms hold the gradients with the opposite sign, the directions in which the "
    "weights go. Log `parameter.grad` as it is."
)
def of_the_steps(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, logged=torch.neg)


@train_epoch.mistake(
    "The epoch's loss is the mean of the batches' means, in which a sample of a small last batch "
    "counts for more than any other. Weight each batch with its size."
)
def mean_of_means(model, batches, optimizer, writer, epoch):
    ones = [1] * len(batches)
    _epoch(model, batches, optimizer, writer, epoch, weights=ones)


@train_epoch.mistake(
    "Your loss of the epoch is measured when the epoch is over, with the weights that it has led "
    "to. Asked for is the mean of the losses that were met on the way."
)
def measured_afterwards(model, batches, optimizer, writer, epoch):
    last = (epoch + 1) * len(batches) - 1
    quiet = _Renaming(writer, "loss/batch", only="loss/batch")
    _epoch(model, batches, optimizer, quiet, epoch)
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    with torch.no_grad():
        writer.add_scalar("loss/epoch", F.cross_entropy(model(images), labels), last)


@train_epoch.mistake(
    "`loss/epoch` is logged at the number of the epoch, `loss/batch` at the number of the batch. "
    "In the board both share one axis, and the epochs' curve ends where the batches' has hardly "
    "begun."
)
def epochs_as_steps(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, epoch_step=epoch)


@train_epoch.mistake(
    "There are no gradients in your log, nor are there any at the end: `zero_grad()` has thrown "
    "them away (it sets `.grad` to `None`). Empty them at the start of a step, and log those of "
    "the last batch after the loop."
)
def gradients_are_gone(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, silent=True)
    optimizer.zero_grad()


@train_epoch.mistake(
    "The losses are right, and no histogram is there, though the gradients of the last batch are: "
    'give each `parameter.grad` that is not `None` to `add_histogram`, as `"gradient/<name>"`.'
)
def without_histograms(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch, silent=True)


@train_epoch.mistake(
    "You close the writer, which is not yours. Nothing raises, and the next `add_scalar` opens "
    "another file: one for every epoch."
)
def closes(model, batches, optimizer, writer, epoch):
    _epoch(model, batches, optimizer, writer, epoch)
    writer.close()


# The smoothing slider ---------------------------------------------------------------------------

smooth = Exercise(
    "tensorboard.smooth",
    title="What the smoothing slider does",
    stars=2,
    minutes=6,
    ask="""
    Write `smooth(values, weight)`, which gives the list of smoothed values that TensorBoard draws
    when its slider stands at `weight`, from 0 (nothing) to just below 1.

    It is an **exponential moving average**: each new value enters with `1 - weight`, and what was
    there before is multiplied by `weight`. Nothing was there before the first value. So the sum of
    all these factors is less than 1 at the beginning, and the average would be too small there.
    TensorBoard divides by that sum. A constant curve stays what it is, for every weight.
    """,
    hints=(
        "By hand for `weight=0.5` and values 4, 4: the averages are 2 and 3. Which sums of factors "
        "belong to them?",
        "After `n` values the factors sum up to `1 - weight**n`.",
        "What you divide is what you show. The average that goes on to the next value is the one "
        "before the division.",
    ),
    cases=lambda: [
        Case("a constant curve, weight 0.9", [5.0] * 6, 0.9),
        Case("one spike, weight 0.6", [1.0, 0.0, 0.0, 8.0, 0.0, 0.0], 0.6),
        Case("a falling loss, weight 0.99", [2.0 / (1 + n) for n in range(30)], 0.99),
        Case("weight 0", [3.0, 1.0, 2.0], 0.0),
        Case("no values yet", [], 0.5),
    ],
    takeaway="Smoothing changes the drawing, not the data. It is a memory that fades: `weight` 0.9 "
    "remembers about 10 points, 0.99 about 100, and the more it remembers, the later it shows a "
    "turn of the curve.",
)


@smooth.starter
def smooth(values, weight):
    """The smoothed values, as many as `values`."""
    ...


@smooth.reference
def smooth(values, weight):
    """The smoothed values, as many as `values`."""
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        smoothed.append(average / (1 - weight**n))
    return smoothed


@smooth.also_right
def as_weighted_means(values, weight):
    smoothed = []
    for n in range(1, len(values) + 1):
        factors = [weight**age for age in reversed(range(n))]
        products = [factor * value for factor, value in zip(factors, values, strict=False)]
        smoothed.append(sum(products) / sum(factors))
    return smoothed


@smooth.mistake(
    "The average begins at 0 and you show it as it is: the curve starts far too low and climbs, "
    "even where nothing changes. Divide by the sum of the factors so far."
)
def not_divided(values, weight):
    average, smoothed = 0.0, []
    for value in values:
        average = weight * average + (1 - weight) * value
        smoothed.append(average)
    return smoothed


@smooth.mistake(
    "You begin with the first value instead of with nothing. Many scripts do, and a constant curve "
    "does stay constant, but the first value then weighs far more than its share: a bad first "
    "batch bends the curve for long. TensorBoard begins at 0 and divides."
)
def begins_with_the_first(values, weight):
    smoothed = []
    for value in values:
        last = smoothed[-1] if smoothed else value
        smoothed.append(weight * last + (1 - weight) * value)
    return smoothed


@smooth.mistake(
    "You begin with `values[0]`, which an empty curve does not have. Boards of some years ago did "
    "so too; the first value then weighs far more than its share. Begin at 0 and divide, and a "
    "curve without points needs no care of its own."
)
def begins_as_older_boards(values, weight):
    last, smoothed = values[0], []
    for value in values:
        last = weight * last + (1 - weight) * value
        smoothed.append(last)
    return smoothed


@smooth.mistake(
    "`weight` and `1 - weight` are exchanged in the average, and the divisor is the one for the "
    "right order. `weight` belongs to what was there before, so that a slider far to the right "
    "remembers much."
)
def exchanged_in_the_average(values, weight):
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = weight * value + (1 - weight) * average
        smoothed.append(average / (1 - weight**n))
    return smoothed


@smooth.mistake(
    "Two things: `weight` and `1 - weight` are exchanged, and the division by the sum of the "
    "factors is missing. `weight` belongs to what was there before."
)
def exchanged_and_not_divided(values, weight):
    average, smoothed = 0.0, []
    for value in values:
        average = weight * value + (1 - weight) * average
        smoothed.append(average)
    return smoothed


@smooth.mistake(
    "`weight` and `1 - weight` are exchanged throughout. At `weight=0` no value ever enters, and "
    "you divide by a sum of 0; right is that the curve then stays as it is."
)
def exchanged_throughout(values, weight):
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = weight * value + (1 - weight) * average
        smoothed.append(average / (1 - (1 - weight) ** n))
    return smoothed


@smooth.mistake(
    "The average is right, the divisor is not: the factors of `n` values sum up to "
    "`1 - weight**n`; you have put `1 - weight` where `weight` belongs."
)
def exchanged_in_the_divisor(values, weight):
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        smoothed.append(average / (1 - (1 - weight) ** n))
    return smoothed


@smooth.mistake(
    "You took the factors the other way round: with `weight` for the new value, a slider at 0.99 "
    "would smooth next to nothing."
)
def the_other_way_round(values, weight):
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = weight * value + (1 - weight) * average
        rest = 1 - (1 - weight) ** n
        smoothed.append(average / rest if rest else math.nan)
    return smoothed


@smooth.mistake(
    "The divided average goes on to the next step in your loop. Divide what you show, and carry on "
    "with what you had."
)
def divides_what_it_keeps(values, weight):
    average, smoothed = 0.0, []
    for n, value in enumerate(values, 1):
        average = (weight * average + (1 - weight) * value) / (1 - weight**n)
        smoothed.append(average)
    return smoothed


@smooth.mistake(
    "That is a window: the mean of the last few values, all alike, and older ones not at all. "
    "TensorBoard's average has no window: every value counts, the older the less."
)
def a_window(values, weight):
    width = max(1, round(1 / (1 - weight)))
    parts = [values[max(0, n - width) : n] for n in range(1, len(values) + 1)]
    return [sum(part) / len(part) for part in parts]


# Precision and recall ---------------------------------------------------------------------------

log_pr_curves = Exercise(
    "tensorboard.log_pr_curves",
    title="Bug hunt: curves that are too good",
    stars=2,
    minutes=6,
    ask="""
    Functions like this one go from tutorial to tutorial. A colleague runs it on a network that has
    never been trained, and the board shows curves that are far too good. A folder full of event
    files makes them wonder, too.

    `logits` has shape `(n, classes)`, `labels` holds the true classes `(n,)`. Mend the function:
    for each class, whether or not these labels hold it, the curve of the model's *probability* for
    it, against the truth, at `step`, under the tag `"pr/<class>"`, with the thresholds that
    `add_pr_curve` takes by itself. The writer stays open for the caller, and what the caller handed
    in stays as it was.
    """,
    start="This is still the function as it was given. What does the second argument of "
    "`add_pr_curve` have to be: what the model says, or what is true?",
    hints=(
        "`add_pr_curve(tag, labels, predictions, step)`: `labels` says for each sample whether it "
        "really is of this class.",
        "Its thresholds run from 0 to 1. What do logits do with that? `logits.softmax(dim=1)` "
        "gives each sample's probabilities.",
        "Count the event files in the folder. Which call begins a new one?",
    ),
    cases=lambda: [
        Case("an untrained network", _logits(0.0), _labels(), 0),
        Case("a network that has learned something", _logits(2.0), _labels(), 30),
        Case("a class that the network never predicts", _logits(1.0, shy=2), _labels(), 7),
        Case("a class that these labels do not hold", _logits(1.0), _labels() % 2, 9),
    ],
    takeaway="A curve of the model against its own predictions measures how sure it is, not how "
    "right. If an untrained network looks good, the fault is in the measurement.",
)


def _labels():
    return torch.arange(90) % 3


def _logits(knowledge, shy=None):
    noise = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    logits = 1.5 * noise + knowledge * F.one_hot(_labels(), 3)
    if shy is not None:
        logits[:, shy] -= 20
    return logits


@log_pr_curves.observe
def _curves_logged(answer, logits, labels, step):
    before = logits.clone(), labels.clone()
    with _folder() as folder:
        with SummaryWriter(folder) as writer:
            answer(writer, logits, labels, step)
            writer.add_scalar("the caller goes on", 1.0)
        rows, files = boards.pr_curves(folder), _event_files(folder)
    return {
        "tags and steps": [(row.tag, row.step) for row in rows],
        "precision": {row.tag: _floats(row.precision) for row in rows},
        "recall": {row.tag: _floats(row.recall) for row in rows},
        "event files": files,
        "logits and labels as before": [torch.equal(logits, before[0]), labels.equal(before[1])],
    }


def _floats(values):
    return [float(value) for value in values]


@log_pr_curves.starter
def log_pr_curves(writer, logits, labels, step):
    """Log a precision-recall curve for each class."""
    predictions = logits.argmax(dim=1)
    for c in range(logits.shape[1]):
        writer.add_pr_curve(f"pr/{c}", predictions == c, logits[:, c], step)
        writer.close()


@log_pr_curves.reference
def log_pr_curves(writer, logits, labels, step):
    """Log a precision-recall curve for each class."""
    probabilities = logits.softmax(dim=1)
    for c in range(logits.shape[1]):
        writer.add_pr_curve(f"pr/{c}", labels == c, probabilities[:, c], step)


@log_pr_curves.also_right
def column_by_column(writer, logits, labels, step):
    truth = F.one_hot(labels, logits.shape[1])
    scores = logits.double().exp()
    columns = (scores / scores.sum(dim=1, keepdim=True)).T
    for c, (is_class, column) in enumerate(zip(truth.T, columns, strict=True)):
        writer.add_pr_curve(f"pr/{c}", is_class, column.float(), global_step=step)


def _curves(writer, truth, scores, step):
    for c in range(scores.shape[1]):
        writer.add_pr_curve(f"pr/{c}", truth == c, scores[:, c], step)


@log_pr_curves.mistake(
    "The curves are still against `predictions`, the model's own answers. Agreeing with oneself is "
    "easy: an untrained network does it very well. Compare with `labels`."
)
def against_itself(writer, logits, labels, step):
    _curves(writer, logits.argmax(dim=1), logits.softmax(dim=1), step)


@log_pr_curves.mistake(
    "The truth is right now, and the scores are still logits. The thresholds run from 0 to 1, and "
    "nothing complains about values outside: they are left out of all counts. Make probabilities "
    "of them."
)
def of_logits(writer, logits, labels, step):
    _curves(writer, labels, logits, step)


@log_pr_curves.mistake(
    "The files are mended, the curves are not. Look at the two arguments in the middle: what is "
    "true, and a number between 0 and 1."
)
def only_the_files(writer, logits, labels, step):
    _curves(writer, logits.argmax(dim=1), logits, step)


@log_pr_curves.mistake(
    "The truth is right now. The scores are still logits, and the thresholds run from 0 to 1. And "
    "count the event files: `close()` in the loop begins another with each class."
)
def only_the_truth(writer, logits, labels, step):
    for c in range(logits.shape[1]):
        writer.add_pr_curve(f"pr/{c}", labels == c, logits[:, c], step)
        writer.close()


@log_pr_curves.mistake(
    "You hand the labels over as they are. The question of a curve is yes or no, and a label of 2 "
    "counts like two times yes, for every class alike: `labels == c`."
)
def labels_whole(writer, logits, labels, step):
    for c in range(logits.shape[1]):
        writer.add_pr_curve(f"pr/{c}", labels, logits.softmax(dim=1)[:, c], step)


@log_pr_curves.mistake(
    "A class that these labels do not hold gets no curve. In the board it is missing at this step, "
    "and nobody sees why. Go through the columns of `logits`."
)
def only_classes_seen(writer, logits, labels, step):
    for c in labels.unique().tolist():
        writer.add_pr_curve(f"pr/{c}", labels == c, logits.softmax(dim=1)[:, c], step)


@log_pr_curves.mistake(
    "The curves are right. But you write the probabilities into `logits`, which is the caller's "
    "tensor: the loss that is computed from it next is another one."
)
def in_place(writer, logits, labels, step):
    logits.copy_(logits.softmax(dim=1))
    _curves(writer, labels, logits, step)


@log_pr_curves.mistake(
    "The scores are right now. The curves are still against the model's own answers, with which it "
    "agrees, of course. And count the event files."
)
def only_the_scores(writer, logits, labels, step):
    for c in range(logits.shape[1]):
        writer.add_pr_curve(f"pr/{c}", logits.argmax(dim=1) == c, logits.softmax(dim=1)[:, c], step)
        writer.close()


@log_pr_curves.mistake(
    "A sigmoid makes a number between 0 and 1 of each logit on its own. This model's probability "
    "for a class depends on the other logits too: `softmax(dim=1)`."
)
def by_sigmoid(writer, logits, labels, step):
    _curves(writer, labels, logits.sigmoid(), step)


@log_pr_curves.mistake(
    "`softmax(dim=0)` runs over the samples: it makes each *class* sum up to 1 over the batch. The "
    "probabilities of one sample lie along `dim=1`."
)
def over_the_samples(writer, logits, labels, step):
    _curves(writer, labels, logits.softmax(dim=0), step)


@log_pr_curves.mistake(
    "The curves are right. But `writer.close()` in the loop begins a new event file with each "
    "class, and closing is the caller's business: take it out."
)
def closes_each_time(writer, logits, labels, step):
    for c in range(logits.shape[1]):
        writer.add_pr_curve(f"pr/{c}", labels == c, logits.softmax(dim=1)[:, c], step)
        writer.close()


@log_pr_curves.mistake(
    "The curves are right. But you close the writer, and it is the caller's: what they log next "
    "opens a second file."
)
def closes_at_the_end(writer, logits, labels, step):
    _curves(writer, labels, logits.softmax(dim=1), step)
    writer.close()


@log_pr_curves.mistake(
    "`step` never reaches the writer: all curves lie on step 0, whenever they were made."
)
def without_step(writer, logits, labels, step):
    _curves(writer, labels, logits.softmax(dim=1), None)


# Which run is which -----------------------------------------------------------------------------


def five_runs(folder: Path) -> None:
    """Train five networks on digits, each for six epochs, and log them as the runs A to E.

    One is healthy. In one the two hidden layers are frozen, in one a hidden layer is dead from the
    start, one has far too small a learning rate, one far too large a one. The tags are ``loss``,
    and ``weight/<layer>`` and ``gradient/<layer>`` for the layers ``first``, ``second`` and
    ``last``. Weights are logged before the first epoch, too, as step 0.
    """
    for name, (rate, spoil) in _five().items():
        model = _three_layers()
        spoil(model)
        with SummaryWriter(Path(folder, name)) as writer:
            _train_and_log(model, rate, writer)


def _five():
    """Learning rate and what is done to the fresh network, by the name of the run."""

    def nothing(model):
        pass

    def freeze(model):
        model.first.requires_grad_(False)
        model.second.requires_grad_(False)

    def kill(model):
        nn.init.constant_(model.second.bias, -10.0)

    return {
        "A": (1e-6, nothing),
        "B": (0.4, kill),
        "C": (5.0, nothing),
        "D": (0.4, nothing),
        "E": (0.4, freeze),
    }


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
    digits = data.digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    batches = list(zip(digits.x_train[:512].split(32), digits.y_train[:512].split(32), strict=True))
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


which = Prediction(
    "tensorboard.which",
    title="Which run is which?",
    stars=2,
    minutes=5,
    ask="""
    Five runs, five letters. Write beside each what its *hidden layers* are, as text:

    - `"healthy"`;
    - `"frozen"`: someone forgot to set `requires_grad` back to true;
    - `"dead"`: no gradient comes through, and that was so from the start;
    - `"too small"`: far too small a learning rate;
    - `"too large"`: far too large a one.
    """,
    blank='{"A": ..., "B": ..., "C": ..., "D": ..., "E": ...}',
    hints=(
        "First the gradients: in which run are there none at all? In which are they zero at the "
        "end?",
        "Two runs have gradients that do not fade. What do their weights do?",
        "A network can die on the way. In which run do the weights reach far beyond where they "
        "began? Look at the numbers below the outlines.",
    ),
    takeaway="Constant weights have many causes. The gradient tells them apart: not there, zero, "
    "or there and without effect. And a layer can be killed by one step that was too long.",
)


@which.reference
def which():
    import tempfile

    from helpers.exercises.tensorboard import five_runs

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


def _swapped(one, other):
    """The truth with two names exchanged, and of it only these two."""
    exchanged = {one: other, other: one}
    truth = which.answer_right
    return {run: exchanged[name] for run, name in truth.items() if name in exchanged}


@which.mistake(
    "Two are taken for each other. Where `requires_grad` is off there is *no* gradient, so nothing "
    "could be logged. In a dead layer there is one: zero, epoch after epoch."
)
def frozen_is_dead():
    return _swapped("frozen", "dead")


@which.mistake(
    "Two are taken for each other. Both have weights that stand still. Of one, the gradient is "
    "zero; of the other it is as large as in the healthy run, and the step that is made of it is "
    "too short to see."
)
def small_is_dead():
    return _swapped("too small", "dead")


@which.mistake(
    "Two are taken for each other. In both the gradients are zero at the end. Compare the weights "
    "before the first step with those of the end: in one of them they jumped far before it died."
)
def large_is_dead():
    return _swapped("too large", "dead")


@which.mistake(
    "Two are taken for each other. Both have weights that stand still; only where nothing is "
    "frozen is there a gradient to log."
)
def small_is_frozen():
    return _swapped("too small", "frozen")


@which.mistake(
    "Two are taken for each other. Weights that move are no sign of health by themselves: how far "
    "do they go, and what is left of the gradient?"
)
def large_is_healthy():
    return _swapped("too large", "healthy")


# A diagnosis from the log -----------------------------------------------------------------------

diagnose = Exercise(
    "tensorboard.diagnose",
    title="Write the diagnosis down",
    stars=3,
    minutes=12,
    ask="""
    A program that you have never seen logs, every few hundred steps, histograms `weight/<layer>`
    and, where the weight has a gradient, `gradient/<layer>`. Write `diagnose(folder)`, which reads
    the run back and returns a dict from each layer to one of four words:

    - `"frozen"`: its `requires_grad` is off;
    - `"dead"`: its gradient is zero every time, as far as a histogram can tell: the bins next to 0
      end at 1e-12, and what lies in them cannot be told from 0;
    - `"stuck"`: it has a larger gradient than that, if only once, and from the first histogram of
      its weights to the last, fewer than 1 in 100 weights have left their bin, as `moved` counts;
    - `"learning"`: anything else.

    Names of layers may have a `/` in them. `boards.histograms(folder)` gives rows with `tag`,
    `step`, `edges` and `counts`; bin `i` holds `counts[i]` values from `edges[i]` to
    `edges[i + 1]`.
    """,
    hints=(
        "The order of the questions matters. Is there a gradient? Is it ever different from zero? "
        "Only then: do the weights move?",
        "Bins end at 1e-12, then a tenth further out each time. A tensor of zeros fills only bins "
        "next to 0. So look for a bin that holds something and ends further out: "
        "`max(abs(low), abs(high)) > 1e-12`.",
        "Weight decay makes the weights of a dead layer shrink. They move, and it is dead.",
        "Only bins that hold something are stored, so two histograms may have different ones. Bins "
        "with the same edges are the same: make a dict of each, as `moved` above does.",
    ),
    help=(
        (
            "<code>operands could not be broadcast together</code>",
            "Two histograms may have different numbers of bins. Bring them together by their "
            "edges.",
        ),
    ),
    cases=lambda: [Case(label, files) for label, files in _unseen_runs().items()],
    takeaway="Three questions in this order: is there a gradient, is it ever not zero, do the "
    "weights move? Weights alone answer none of them.",
)


@functools.cache
def _unseen_runs() -> dict[str, dict[str, bytes]]:
    """The event files of each case by name: written once, and where no time limit holds."""
    programs = {
        "a network that learns": {"body": _layer("learning"), "head": _layer("learning")},
        "a frozen body": {"conv": _layer("frozen"), "fc": _layer("learning")},
        "a dead layer": {"encoder": _layer("dead"), "decoder": _layer("learning")},
        "far too small a rate": {"a": _layer("stuck"), "b": _layer("stuck")},
        "a dead layer under weight decay": {
            "a": _layer("dead", decay=True),
            "b": _layer("learning"),
        },
        "gradients of about 1e-8": {"deep": _layer("stuck", size=1e-08), "top": _layer("learning")},
        "a gradient that is zero at first": {"rare": _layer("learning", rests=(0, 1))},
        "a gradient that is zero at the end": {"rare": _layer("learning", rests=(2,))},
        "a gradient whose values are all alike": {"even": _steady("even gradient")},
        "gradients of about 1e-11": {
            "deep": _layer("stuck", size=1e-11),
            "top": _layer("learning"),
        },
        "2 in 100 weights have moved": {"few": _steady("few move")},
        "1 in 100 weights have moved": {"fewer": _steady("fewer move")},
        "weights that move at first and then no more": {"early": _steady("early")},
        "the weights spread out evenly": {"wide": _steady("spread")},
        "one weight of 400 runs away": {"last": _steady("one runs away")},
        "a layer with a / in its name": {"block/conv": _layer("learning")},
        "a layer whose name holds weight/": {"cell/weight/input": _layer("learning")},
        "all four at once": {
            "blocks.0": _layer("frozen"),
            "blocks.1": _layer("dead"),
            "blocks.2": _layer("stuck"),
            "head": _layer("learning"),
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


def _layer(state, decay=False, size=0.1, rests=()):
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
        step_of_it = torch.where(weight.abs() < 2, moves * noise(), 0.0)
        weight = (0.7 if decay else 1.0) * weight + step_of_it
    return rows


def _steady(kind):
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


@diagnose.observe
def _of_a_logged_run(answer, files):
    with _folder() as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return answer(folder)


@diagnose.starter
def diagnose(folder):
    """Return a dict from the name of each layer to its state."""
    ...


@diagnose.reference
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
        gradients = rows.get(f"gradient/{layer}")
        if kind == "gradient":
            continue
        elif gradients is None:
            states[layer] = "frozen"
        elif all(map(all_zero, gradients)):
            states[layer] = "dead"
        else:
            stuck = share_moved(weights[0], weights[-1]) < 0.01
            states[layer] = "stuck" if stuck else "learning"
    return states


def _read(folder):
    """The rows of each layer: those of its weights, and those of its gradients."""
    layers = {}
    for row in boards.histograms(folder):
        kind, _, layer = row.tag.partition("/")
        layers.setdefault(layer, {"weight": [], "gradient": []})[kind].append(row)
    return layers


def _largest(row):
    """The outermost edge of a bin that holds values: no value is larger than that."""
    edges = zip(row.edges[:-1], row.edges[1:], strict=True)
    ends = [max(map(abs, ends)) for ends, n in zip(edges, row.counts, strict=True) if n]
    return max(ends, default=0.0)


def _moved(rows, least=0.01):
    """Whether so large a share of the values lies in other bins at the end."""
    first, last = rows[0], rows[-1]
    edges = np.union1d(first.edges, last.edges)
    counts = [_between(row, edges) for row in (first, last)]
    return bool(np.abs(counts[0] - counts[1]).sum() / 2 >= least * sum(first.counts))


def _between(row, edges):
    """The counts of a histogram between more edges than its own, the new ones outside of it."""
    below = np.concatenate([[0], np.cumsum(row.counts)])
    return np.diff(np.interp(edges, row.edges, below))


@diagnose.also_right
def by_the_largest_value(folder):
    states = {}
    for layer, rows in _read(folder).items():
        reach = [_largest(row) for row in rows["gradient"]]
        if not reach:
            states[layer] = "frozen"
        elif max(reach) <= 1e-12:
            states[layer] = "dead"
        elif _moved(rows["weight"]):
            states[layer] = "learning"
        else:
            states[layer] = "stuck"
    return states


@diagnose.mistake(
    "You judge by the weights alone and call dead whatever does not move. Frozen layers and far "
    "too small rates look the same; the gradients tell them apart."
)
def by_weights_alone(folder):
    return {
        layer: "learning" if _moved(rows["weight"]) else "dead"
        for layer, rows in _read(folder).items()
    }


@diagnose.mistake(
    "You ask first whether the weights move. Under weight decay those of a dead layer do: they "
    "shrink. Ask the gradient first."
)
def weights_first(folder):
    states = {}
    for layer, rows in _read(folder).items():
        if _moved(rows["weight"]):
            states[layer] = "learning"
        elif not rows["gradient"]:
            states[layer] = "frozen"
        else:
            zero = all(_largest(row) <= 1e-12 for row in rows["gradient"])
            states[layer] = "dead" if zero else "stuck"
    return states


@diagnose.mistake(
    "Small is not zero. Gradients of about 1e-8 are those of a layer that could learn, with "
    "another rate or optimizer; in a dead layer they are zero to the last bit."
)
def small_is_zero(folder):
    return _by_gradient(folder, dead=lambda sizes: max(sizes) < 1e-5)


@diagnose.mistake(
    "Your bound for zero is too high. Zeros lie in the bins next to 0, which end at 1e-12; a bin "
    "that ends further out holds something else, however small."
)
def tiny_is_zero(folder):
    return _by_gradient(folder, dead=lambda sizes: max(sizes) < 1e-9)


@diagnose.mistake(
    "One gradient of zeros does not make a layer dead: a rarely used part may rest for a while. "
    "Dead is what has zeros every time."
)
def once_zero_is_dead(folder):
    return _by_gradient(folder, dead=lambda sizes: min(sizes) <= 1e-12)


@diagnose.mistake(
    "You look at the last gradient only. It may be zero by chance: a rarely used part rests for a "
    "while. Dead is what has zeros every time."
)
def only_the_last(folder):
    return _by_gradient(folder, dead=lambda sizes: sizes[-1] <= 1e-12)


@diagnose.mistake(
    'Where no gradient was logged you say `"dead"`. A dead layer has a gradient, of zeros. One '
    "without any is frozen: nobody asked for its gradient."
)
def no_gradient_is_dead(folder):
    states = by_the_largest_value(folder)
    return {layer: "dead" if state == "frozen" else state for layer, state in states.items()}


@diagnose.mistake(
    "You ask whether *any* weight has moved. The smallest rate moves them all a little, and here "
    "and there one crosses the edge of its bin. Stuck is where that is fewer than 1 in 100."
)
def any_move_is_learning(folder):
    return _by_gradient(folder, dead=_always_zero, least=1e-6)


@diagnose.mistake(
    "You pair the bins by their place. Only bins from the first that holds something to the last "
    "are stored, so a single weight far out shifts them all, and everything seems to have moved. "
    "Pair them by their edges."
)
def bins_by_place(folder):
    def moved(rows):
        first, last = rows[0], rows[-1]
        leavers = [abs(a - b) for a, b in zip(first.counts, last.counts, strict=False)]
        return sum(leavers) / 2 >= 0.01 * sum(first.counts)

    return _by_gradient(folder, dead=_always_zero, moved=moved)


@diagnose.mistake(
    "You compare the last histogram of the weights with the one before it. A layer that has "
    "learned at first and then rests is no stuck one: compare the first with the last."
)
def the_last_two(folder):
    def moved(rows):
        return _moved(rows[-2:])

    return _by_gradient(folder, dead=_always_zero, moved=moved)


@diagnose.mistake(
    "1 in 100 is not fewer than 1 in 100. Where exactly so many have left, the layer is learning."
)
def one_in_a_hundred_is_stuck(folder):
    return _by_gradient(folder, dead=_always_zero, least=0.011)


@diagnose.mistake(
    "You count a layer as learning only when many weights have left their bin. Asked for is 1 in "
    "100; in a large layer that is a lot of learning."
)
def many_must_move(folder):
    return _by_gradient(folder, dead=_always_zero, least=0.05)


@diagnose.mistake(
    "You take every gradient that fits into one bin for a dead one. Look at where the bin lies: "
    "values that are all alike share a bin, too."
)
def one_bin_is_dead(folder):
    states = by_the_largest_value(folder)
    for layer, rows in _read(folder).items():
        if rows["gradient"] and all(np.count_nonzero(row.counts) == 1 for row in rows["gradient"]):
            states[layer] = "dead"
    return states


@diagnose.mistake(
    'The layer\'s name is all that follows the first `/` of the tag: `tag.split("/")[1]` loses '
    'what comes after a second one. `tag.partition("/")` cuts once.'
)
def up_to_the_next_slash(folder):
    return {layer.split("/")[0]: state for layer, state in by_the_largest_value(folder).items()}


@diagnose.mistake(
    "You take the word `weight/` out of the tag wherever it stands, and a layer may have it in its "
    'name. Cut the kind off in front: `tag.partition("/")`.'
)
def removes_the_word(folder):
    states = by_the_largest_value(folder)
    return {layer.replace("weight/", ""): state for layer, state in states.items()}


def _always_zero(sizes):
    return max(sizes) <= 1e-12


def _by_gradient(folder, dead, least=0.01, moved=None):
    states = {}
    for layer, rows in _read(folder).items():
        sizes = [_largest(row) for row in rows["gradient"]]
        if not sizes:
            states[layer] = "frozen"
        elif dead(sizes):
            states[layer] = "dead"
        else:
            weights = rows["weight"]
            learns = moved(weights) if moved else _moved(weights, least)
            states[layer] = "learning" if learns else "stuck"
    return states


# One directory a run ----------------------------------------------------------------------------

sweep = Exercise(
    "tensorboard.sweep",
    title="Bug hunt: one run, and it zigzags",
    stars=2,
    minutes=6,
    ask="""
    A colleague tries some learning rates. The board shows one run instead of one for each rate. Its
    curve jumps back to the start again and again, or only the last rate is there. Of the comment
    there is no trace.

    Mend the function: a run for each rate, in a folder of its own directly under `folder`, whose
    name holds `str(rate)`. What is trained, and what is returned, stays, and so does whatever else
    lies under `folder`.
    """,
    start="This is still the function as it was given. What is a run, for TensorBoard? And when "
    "does `SummaryWriter` look at `comment`?",
    hints=(
        "All event files of one directory are one run. So where must the files of the second rate "
        "go?",
        "`comment` is part of the name that the writer invents when it gets no `log_dir`.",
        '`Path(folder, f"rate={rate}")`, and a `with` statement to close each writer.',
    ),
    cases=lambda: [
        Case("rates 0.5 and 0.05", [0.5, 0.05]),
        Case("rates 0.1, 0.001 and 0.004", [0.1, 0.001, 0.004]),
        Case("a single rate, 1e-05", [1e-05]),
        Case("a rate of many digits", [0.00123456789, 0.1]),
        Case("the same rate twice", [0.1, 0.5, 0.1]),
    ],
    takeaway="A run is a directory. Give each run its own, with what makes it different in its "
    "name, unrounded; in a program that is started more than once, the time as well.",
)


@sweep.observe
def _runs_logged(answer, rates):
    with _folder() as folder, _working_in(folder):
        logs, other = folder / "logs", "yesterday"
        with SummaryWriter(logs / other) as writer:
            writer.add_scalar("loss", 1.0, 0)
        returned = answer(logs, rates)
        if any(type(thread).__name__ == "_AsyncWriterThread" for thread in threading.enumerate()):
            time.sleep(0.2)  # a writer that was not closed is still writing
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
    """Whether the rate, written as Python writes it, stands in the name, and not as a part of
    another number."""
    before, found, after = run.partition(str(rate))
    return bool(found) and not before[-1:].isdigit() and not after[:1].isdigit()


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    # A writer without a log_dir makes `runs` where it is; that is not to be the reader's folder.
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@sweep.starter
def sweep(folder, rates):
    """Take 20 steps with each learning rate; return the last loss of each."""
    losses = []
    for rate in rates:
        writer = SummaryWriter(folder, comment=f"_rate={rate}")
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


@sweep.reference
def sweep(folder, rates):
    """Take 20 steps with each learning rate; return the last loss of each."""
    losses = []
    for rate in rates:
        weight = torch.tensor(4.0, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=rate)
        with SummaryWriter(Path(folder, f"rate={rate}")) as writer:
            for step in range(20):
                loss = (weight - 1) ** 2
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                writer.add_scalar("loss", loss.item(), step)
        losses.append(loss.item())
    return losses


def _descent(rate, writer):
    """The given training, by its formula: a step multiplies the distance by `1 - 2 * rate`."""
    weight = torch.tensor(4.0)
    for step in range(20):
        loss = ((weight - 1) ** 2).item()
        writer.add_scalar("loss", loss, step)
        weight = weight - rate * 2 * (weight - 1)
    return loss


def _in_folders(folder, rates, name):
    """A run for each rate; ``name`` is a format for its folder's name."""
    losses = []
    for rate in rates:
        with SummaryWriter(Path(folder, name.format(rate))) as writer:
            losses.append(_descent(rate, writer))
    return losses


@sweep.also_right
def named_by_time_too(folder, rates):
    losses = []
    for rate in rates:
        name = f"{time.strftime('%Y-%m-%dT%H-%M-%S')}_lr={rate}"
        writer = SummaryWriter(os.path.join(folder, name))
        losses.append(_descent(rate, writer))
        writer.close()
    return losses


@sweep.mistake(
    "All event files still lie in one directory, and a directory is one run, however many writers "
    "wrote into it. Closing them or naming the files changes nothing about that."
)
def one_folder(folder, rates):
    losses = []
    for rate in rates:
        with SummaryWriter(folder, filename_suffix=f"_rate={rate}") as writer:
            losses.append(_descent(rate, writer))
    return losses


@sweep.mistake(
    "Without `log_dir`, the writer invents a place of its own: `runs/` in the working directory. "
    "`comment` is in the name there, and nothing is under `folder`."
)
def by_comment(folder, rates):
    losses = []
    for rate in rates:
        with SummaryWriter(comment=f"_rate={rate}") as writer:
            losses.append(_descent(rate, writer))
    return losses


@sweep.mistake(
    "The runs lie *beside* the folder, not in it: `folder` is a path, and what you add to its text "
    "becomes the end of its name. A slash between makes it a folder below: "
    '`Path(folder, f"rate={rate}")`.'
)
def beside_the_folder(folder, rates):
    losses = []
    for rate in rates:
        with SummaryWriter(f"{folder}_rate={rate}") as writer:
            losses.append(_descent(rate, writer))
    return losses


@sweep.mistake(
    "`:g` keeps six digits. Of a rate with more, the name says another number than the one that "
    "was used, and two such rates can share a folder. Write `{rate}`."
)
def six_digits(folder, rates):
    return _in_folders(folder, rates, "rate={:g}")


@sweep.mistake(
    "You empty `folder` first, and the runs of others that lie in it are gone. A sweep adds runs; "
    "it is not the owner of what is there."
)
def empties_the_folder(folder, rates):
    shutil.rmtree(folder)
    return named_by_time_too(folder, rates)


@sweep.mistake(
    "A rate that is given twice is trained once, so the list that you return is shorter than "
    "`rates`, and its losses stand at other places."
)
def each_rate_once(folder, rates):
    return named_by_time_too(folder, dict.fromkeys(rates))


@sweep.mistake(
    "The rate is rounded in the name, so two small rates get the same name: one directory, one run "
    "again. Write the rate as it is."
)
def rounded_names(folder, rates):
    return _in_folders(folder, rates, "rate={:.2f}")


@sweep.mistake(
    "Every rate has a run of its own. But which is which? Put the rate into the name of its "
    "folder; a number says nothing next week."
)
def numbered(folder, rates):
    losses = []
    for number, rate in enumerate(rates):
        with SummaryWriter(Path(folder, f"run_{number}")) as writer:
            losses.append(_descent(rate, writer))
    return losses


@sweep.mistake(
    "You give each rate a tag: one run still, with as many curves as rates. Nothing of the board's "
    "comparison of runs works on tags. Give each rate a directory."
)
def as_tags(folder, rates):
    with SummaryWriter(folder) as writer:
        losses = []
        for rate in rates:
            renamed = _Renaming(writer, f"loss/rate={rate}")
            losses.append(_descent(rate, renamed))
    return losses


@sweep.mistake(
    "`add_scalars` makes a directory and a writer for each key, named by the tag and the key, so "
    "that runs do come about. But `folder` itself becomes a run as well, an empty one, and "
    "whatever else you log of a rate goes there. Give each rate a `SummaryWriter`."
)
def by_add_scalars(folder, rates):
    with SummaryWriter(folder) as writer:
        return [_descent(rate, _Sorting(writer, f"rate={rate}")) for rate in rates]


@sweep.mistake(
    "The rate stands in the name with fewer digits than it has: of 0.00123456789, `:.0e` leaves "
    "1e-03. Write `{rate}`."
)
def one_digit(folder, rates):
    return _in_folders(folder, rates, "rate={:.0e}")


class _Sorting:
    """A writer that gives scalars to ``add_scalars``, under a key."""

    def __init__(self, writer, key):
        self.writer, self.key = writer, key

    def add_scalar(self, tag, value, step):
        self.writer.add_scalars(tag, {self.key: value}, step)


class _Renaming:
    """A writer that gives scalars another tag, and lets only those of one tag pass."""

    def __init__(self, writer, tag, only="loss"):
        self.writer, self.tag, self.only = writer, tag, only

    def add_scalar(self, tag, value, step):
        if tag == self.only:
            self.writer.add_scalar(self.tag, value, step)

    def add_histogram(self, tag, values, step):
        self.writer.add_histogram(tag, values, step)


# Reading a stranger's log -----------------------------------------------------------------------

best = Exercise(
    "tensorboard.best",
    title="The best checkpoint of somebody's runs",
    stars=2,
    minutes=6,
    ask="""
    You get a folder with event files, and no program. Write `best(folder)`: of all runs under it,
    the highest `"accuracy/validation"`, as a tuple `(run, step, value)`.

    Runs without that tag are left out. A diverged run logs `nan`: that is not high. Some runs
    crashed and were resumed from an earlier step with `purge_step`. Everything that was logged
    before, from that step on, does not count: its checkpoints are gone, also those of steps that
    the resumed run has not reached.
    """,
    hints=(
        '`boards.scalars(folder, "accuracy/validation")` gives all points of all runs, as rows '
        "with `run`, `step` and `value`.",
        "`nan > 0.5` and `0.5 > nan` are both false, so where `nan` stands first, `max` keeps it.",
        "`boards.scalars` hides what was purged, unless you ask for it with `purge=False`.",
    ),
    cases=lambda: [
        Case("two runs", {"a": [_tries([0.5, 0.8437, 0.7])], "b": [_tries([0.4, 0.6])]}),
        Case(
            "a run that only logs the training",
            {"a": [_tries([0.5, 0.6])], "b": [{"train": [0.9]}]},
        ),
        Case(
            "a run that diverges", {"a": [_tries([math.nan, math.nan])], "b": [_tries([0.3, 0.2])]}
        ),
        Case(
            "a run that crashed at step 4 and was resumed from step 2",
            {
                "a": [_tries([0.2, 0.5, 0.9, 0.95]), _tries([0.6, 0.7, 0.8], purge=2)],
                "b": [_tries([0.75])],
            },
        ),
        Case(
            "a run that crashed at step 5 and, resumed from step 2, has not come so far",
            {
                "a": [_tries([0.2, 0.5, 0.6, 0.7, 0.95]), _tries([0.6, 0.7], purge=2)],
                "b": [_tries([0.75])],
            },
        ),
        Case(
            "a run resumed from step 2 that validates from step 4 on",
            {
                "a": [_tries([0.2, 0.5, 0.9, 0.8]), _tries([0.6, 0.7], purge=2, first=4)],
                "b": [_tries([0.75])],
            },
        ),
        Case(
            "a run that diverges after its best step",
            {"a": [_tries([0.5, 0.9, math.nan])], "b": [_tries([0.3, 0.6])]},
        ),
        Case(
            "a run that diverges and comes back",
            {"a": [_tries([0.5, 0.9, math.nan, 0.8])], "b": [_tries([0.7, 0.4])]},
        ),
        Case(
            "runs in folders of folders", {"cnn/1": [_tries([0.5])], "mlp/2": [_tries([0.1, 0.7])]}
        ),
    ],
    help=(
        (
            "<code>KeyError: no scalar has the tag</code>",
            "Not every run logs a validation. Ask for the tag in all runs at once, without naming "
            "one, or look through the points of a run for it.",
        ),
    ),
    takeaway="What was logged can be asked, without a browser: the same files that the board draws "
    "are a table. Ask it what the board would show, orphaned points left out.",
)


def _tries(values, purge=None, first=None):
    """What one program logs, from step ``first`` on (without it, from ``purge`` or from 0)."""
    first = (purge or 0) if first is None else first
    train = [min(1.0, v + 0.05) for v in values]
    return {"validation": values, "train": train, "purge": purge, "first": first}


@best.observe
def _of_logged_runs(answer, runs):
    with _folder() as folder:
        for name, writers in runs.items():
            for number, logged in enumerate(writers):
                _log_tries(folder / name, logged, clock=1_700_000_000 + 1000 * number)
        found = answer(folder)
    return tuple(found) if isinstance(found, (tuple, list)) else found


def _log_tries(folder, logged, clock):
    purge = logged.get("purge")
    with SummaryWriter(folder, purge_step=purge, filename_suffix=f".{clock}") as writer:
        for split in ("train", "validation"):
            for n, value in enumerate(logged.get(split, []), logged.get("first", 0)):
                writer.add_scalar(f"accuracy/{split}", value, n, walltime=clock + n)
    # Readers take a run's files in the order of their names, which begin with the second.
    for file in folder.glob("events.out.tfevents.*"):
        if file.name.endswith(f".{clock}"):
            file.rename(folder / f"events.out.tfevents.{clock}.host")


@best.starter
def best(folder):
    """Return `(run, step, value)`."""
    ...


@best.reference
def best(folder):
    """Return `(run, step, value)`."""
    points = boards.scalars(folder, "accuracy/validation")
    known = [point for point in points if point.value == point.value]  # nan is unlike itself
    top = max(known, key=lambda point: point.value)
    return top.run, top.step, top.value


@best.also_right
def run_by_run(folder):
    top = ("", 0, -math.inf)
    for run in boards.runs(folder):
        for point in boards.scalars(folder, run=run):
            if point.tag == "accuracy/validation" and point.value > top[2]:
                top = (run, point.step, point.value)
    return top


def _top(points):
    point = max(points, key=lambda point: -math.inf if math.isnan(point.value) else point.value)
    return point.run, point.step, point.value


@best.mistake(
    "You take points that the resumed run has replaced. They are still on disk, for nothing in an "
    "event file is ever deleted; the board hides them, and their checkpoint is gone."
)
def with_orphans(folder):
    return _top(boards.scalars(folder, "accuracy/validation", purge=False))


@best.mistake(
    "You let the later value of a step replace the earlier one. But a resumed run voids *all* that "
    "came before from its step on, also steps that it has not reached itself. `boards.scalars` "
    "knows; leave out `purge=False`."
)
def the_last_of_each_step(folder):
    points = boards.scalars(folder, "accuracy/validation", purge=False)
    return _top({(point.run, point.step): point for point in points}.values())


@best.mistake(
    "You leave a whole run out because it holds a `nan`. It may have been the best before it "
    "diverged, and that checkpoint is there: leave out the values only."
)
def runs_without_nan(folder):
    points = boards.scalars(folder, "accuracy/validation")
    diverged = {point.run for point in points if math.isnan(point.value)}
    return _top([point for point in points if point.run not in diverged])


@best.mistake(
    "You take a step that goes back for the place where a run was resumed. It is the first step "
    "that was *logged* again; the checkpoint may be older. The file says which step it was, and "
    "`boards.scalars` goes by that."
)
def from_where_steps_go_back(folder):
    kept = []
    for point in boards.scalars(folder, "accuracy/validation", purge=False):
        kept = [p for p in kept if p.run != point.run or p.step < point.step]
        kept.append(point)
    return _top(kept)


@best.mistake(
    "You take the highest value of *any* tag, and the training's accuracy is nearly always the "
    'higher one. Ask for `"accuracy/validation"`.'
)
def of_any_tag(folder):
    return _top(boards.scalars(folder))


@best.mistake(
    "`max` keeps a `nan` that stands first, since nothing is larger than it. Leave such values out."
)
def keeps_nan(folder):
    point = max(boards.scalars(folder, "accuracy/validation"), key=lambda point: point.value)
    return point.run, point.step, point.value


@best.mistake(
    "You sort with a `nan` among the values. Nothing is larger or smaller than it, so what comes "
    "out depends on where it stood. Leave such values out first."
)
def sorts_nan(folder):
    points = boards.scalars(folder, "accuracy/validation")
    point = sorted(points, key=lambda point: point.value)[-1]
    return point.run, point.step, point.value


@best.mistake("You round the value. It is what was logged, as `point.value` has it.")
def rounds(folder):
    run, step, value = _top(boards.scalars(folder, "accuracy/validation"))
    return run, step, round(value, 2)


@best.mistake(
    "You compare the runs by their last value. The best one may come earlier: that is what "
    "checkpoints are for."
)
def by_the_last(folder):
    return _top({p.run: p for p in boards.scalars(folder, "accuracy/validation")}.values())


@best.mistake(
    "You return the row itself. It holds the tag and the time as well; asked for is "
    "`(point.run, point.step, point.value)`."
)
def the_whole_row(folder):
    points = boards.scalars(folder, "accuracy/validation")
    return max((p for p in points if not math.isnan(p.value)), key=lambda point: point.value)
