"""The exercises of chapter 09: what must be the same when many do the work of one."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import math
import os
import re
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from types import FunctionType
from unittest import mock

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, Subset, TensorDataset

from chapters.scaling_out.threads import together
from helpers import ranks as processes
from helpers.exercises import Case, Exercises
from helpers.exercises.engine import source_of
from helpers.exercises.trial import Shortfall, require

chapter = Exercises(__file__)
report = chapter.report


@chapter.prediction
def same_step():
    import copy

    from chapters.scaling_out.threads import together

    x, y = torch.randn(64, 5), torch.randint(3, (64,))
    plain = nn.Linear(5, 3)
    normed = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3))
    whole = [slice(0, 64)]
    halves = [slice(0, 32), slice(32, 64)]
    unequal = [slice(0, 48), slice(48, 64)]

    def weights_after(parts, start=plain, reduction="mean", scales=(1.0, 1.0), lr=0.1):
        """The weights of each rank after one step; each rank reads one of the parts."""

        def work(rank):
            net = copy.deepcopy(start)
            for weight in net.parameters():
                weight.data *= scales[rank]
            ddp = DistributedDataParallel(net) if len(parts) > 1 else net
            optimizer = torch.optim.SGD(ddp.parameters(), lr=lr)
            part = parts[rank]
            F.cross_entropy(ddp(x[part]), y[part], reduction=reduction).backward()
            optimizer.step()
            return nn.utils.parameters_to_vector(net.parameters()).detach()

        return together(len(parts), work)

    def agree(parts, lr=0.1, **options):
        one = weights_after(whole, **{**options, "scales": (1.0,)})[0]
        after = weights_after(parts, lr=lr, **options)
        return all(torch.allclose(one, each, atol=1e-5) for each in after)

    return {
        "sum loss": agree(halves, reduction="sum"),
        "sum loss, twice the rate in the ranks": agree(halves, reduction="sum", lr=0.2),
        "mean loss, halves of 48 and 16": agree(unequal),
        "BatchNorm in train mode": agree(halves, start=normed),
        "each rank its own initial weights": agree(halves, scales=(1.0, 2.0)),
    }


@chapter.prediction
def validation_counts():
    count, ranks, wrong = 10, 4, {0, 1}
    sampler = [
        DistributedSampler(range(count), num_replicas=ranks, rank=rank, shuffle=False)
        for rank in range(ranks)
    ]
    read = [index for rank in range(ranks) for index in sampler[rank]]
    return {
        "samples that each rank reads": len(sampler[0]),
        "samples that are read twice": len(read) - count,
        "right answers counted": sum(index not in wrong for index in read),
        "wrong answers counted": sum(index in wrong for index in read),
    }


def _small_net():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def _numbers(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _vector(module):
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def _saving(answer, ranks, with_old=True, net=None):
    nets = [(net or _small_net)() for _ in range(ranks)]
    names = list(nets[0].state_dict())
    with tempfile.TemporaryDirectory() as outer, _SlowDisk(Path(outer, "run", "net.pt")) as disk:
        folder, linked = disk.path.parent, Path(outer, "the old file")
        folder.mkdir()
        if with_old:
            disk.save({"old": torch.zeros(1)}, disk.path)
            with contextlib.suppress(OSError):  # not every file system has links
                os.link(disk.path, linked)
        (folder / "other.pt").touch()

        def work(rank):
            model = DistributedDataParallel(copy.deepcopy(nets[0]))
            model.module.load_state_dict(nets[rank].state_dict())
            answer(model, disk.path)
            return disk.look()

        seen = [*map(list, together(ranks, work))]
        after, writers = disk.look(), sorted(disk.writers)
        yield "writers", writers
        yield "names", list(after)
        yield "content", after if writers == [0] else f"written by {len(writers)} ranks"
        yield "waited", seen == [list(after)] * ranks
        whole = [names, [f"module.{name}" for name in names], ["old"] if with_old else []]
        yield (
            "whole",
            all(list(moment) in whole for moment in disk.moments)
            and (
                not with_old or list(disk.look(linked)) == ["old"]  # nobody wrote into it
            ),
        )
        yield "left", sorted(file.name for file in folder.iterdir())


def _net_with_a_module():
    return nn.Sequential(OrderedDict(first=nn.Linear(2, 2), module=nn.Linear(2, 1)))


class _SlowDisk:
    """Takes its time over ``torch.save`` and over a renaming, and looks what is in a file then."""

    def __init__(self, path):
        self.path = path
        self.writers, self.moments = set(), []
        self.save, self._patches = torch.save, []

    def __enter__(self):
        for owner, name, new in [
            (torch, "save", self._save),
            (os, "replace", self._slowly(os.replace)),
            (os, "rename", self._slowly(os.rename)),
        ]:
            self._patches.append(mock.patch.object(owner, name, new))
            self._patches[-1].start()
        return self

    def __exit__(self, *_):
        for patch in self._patches:
            patch.stop()

    def look(self, path=None):
        """The tensors in the file; a name that no net has, if it is not whole."""
        try:
            return dict(torch.load(path or self.path))
        except FileNotFoundError:
            return {}
        except Exception:
            return {"half a file": True}

    def _save(self, state, file, *arguments, **options):
        self.writers.add(dist.get_rank())
        buffer = io.BytesIO()
        self.save(state, buffer, *arguments, **options)
        content = buffer.getvalue()
        by_name = isinstance(file, (str, os.PathLike))
        with open(file, "wb") if by_name else contextlib.nullcontext(file) as opened:
            opened.write(content[:-100])
            opened.flush()
            self._wait()
            opened.write(content[-100:])

    def _wait(self):
        time.sleep(0.03)
        self.moments.append(self.look())

    def _slowly(self, rename):
        def renamed(*arguments, **options):
            self._wait()
            return rename(*arguments, **options)

        return renamed


@chapter.exercise(
    cases=lambda: [
        Case("two ranks, and an old file", 2),
        Case("three ranks, and an old file", 3),
        Case("two ranks, and no file", 2, False),
        Case("a single rank", 1),
        Case("two ranks, a net with a part called `module`", 2, True, _net_with_a_module),
    ],
    observe=_saving,
)
def save_once(model, path):
    """Called by every rank: save the DDP model `model` to `path`."""
    if dist.get_rank() == 0:
        beside = path.with_suffix(".new")
        torch.save(model.module.state_dict(), beside)
        os.replace(beside, path)
    dist.barrier()


class _Calls:
    """How often a function of ``torch.distributed`` is called."""

    def __init__(self, name):
        self.number, self._real = 0, getattr(dist, name)
        self._patch = mock.patch.object(dist, name, self._count)

    def _count(self, *arguments, **options):
        self.number += 1
        return self._real(*arguments, **options)

    def __enter__(self):
        self._patch.start()
        return self

    def __exit__(self, *_):
        self._patch.stop()


def _averaging(answer, shares):
    """``shares`` has the losses of each rank; an answer gets their sum and their number."""

    def work(rank):
        total = torch.tensor(shares[rank]).sum()
        before = total.clone()
        mean = answer(total, len(shares[rank]))
        return mean, torch.equal(total, before)

    with _Calls("all_reduce") as calls:
        means, untouched = zip(*together(len(shares), work), strict=True)
    yield "mean", means[0]
    yield "everywhere", list(means)
    yield "untouched", all(untouched)
    yield "messages", calls.number <= 2 * len(shares)


@chapter.exercise(
    cases=lambda: [
        Case("two ranks with 3 and 3 losses", [[0.5, 1.0, 3.0], [2.0, 2.5, 3.5]]),
        Case("two ranks with 3 and 1 losses", [[0.5, 1.0, 1.75], [4.0]]),
        Case("three ranks with 2, 1 and 4 losses", [[2.0, 1.5], [7.0], [0.5, 0.25, 1.0, 2.0]]),
        Case("a single rank", [[1.5, 2.0, 2.25]]),
        Case("the second of two ranks has no losses", [[1.5, 2.0], []]),
        Case("the first of two ranks has no losses", [[], [1.5, 2.0, 0.25]]),
    ],
    observe=_averaging,
)
def weighted_mean(total, count):
    """The mean loss over all samples of all ranks."""
    sums = torch.stack([total, torch.full_like(total, count)])
    dist.all_reduce(sums)
    return (sums[0] / sums[1]).item()


class _Recorded(TensorDataset):
    """Notes which sample each rank reads."""

    def __init__(self, count, seed):
        x = _numbers(count, 8, seed=seed)
        super().__init__(x, (x.sum(1) > 0).long() + (x[:, 0] > 0.5).long())
        self.read = {}

    def __getitem__(self, index):
        self.read.setdefault(dist.get_rank(), []).append(index)
        return super().__getitem__(index)


def _training(answer, ranks, count, val_count, epochs):
    train_set, val_set = _Recorded(count, seed=1), _Recorded(val_count, seed=2)
    net = nn.Linear(8, 3)

    def work(rank):
        model = DistributedDataParallel(copy.deepcopy(net))
        return [(float(a), float(b)) for a, b in answer(model, train_set, val_set, epochs)]

    logs = together(ranks, work)
    yield "order", [train_set.read.get(rank) for rank in range(ranks)]
    yield "loss", [[loss for loss, _ in log] for log in logs]
    yield "accuracy", [[accuracy for _, accuracy in log] for log in logs]


@chapter.exercise(
    cases=lambda: [
        Case("two ranks, 48 and 9 samples", 2, 48, 9, 3),
        Case("three ranks, 75 and 10 samples", 3, 75, 10, 2),
        Case("three ranks, 50 and 2 samples", 3, 50, 2, 1),
        Case("a single rank", 1, 20, 5, 2),
    ],
    observe=_training,
)
def train(net, train_set, val_set, epochs):
    """Called by every rank: train, and return the log, a list of (training loss, accuracy)."""
    device = next(net.parameters()).device
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    sampler = DistributedSampler(train_set)
    batches = DataLoader(train_set, batch_size=16, sampler=sampler)
    own = range(dist.get_rank(), len(val_set), dist.get_world_size())
    val_batches = DataLoader(Subset(val_set, own), batch_size=16)
    log = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        total = torch.zeros(2, device=device)  # the sum of the losses, and their number
        for x, y in batches:
            loss = F.cross_entropy(net(x.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total[0] += loss.detach() * len(x)
            total[1] += len(x)
        dist.all_reduce(total)
        right = torch.zeros(2, device=device)
        for x, y in val_batches:
            right[0] += (net.module(x.to(device)).argmax(1) == y.to(device)).sum()
            right[1] += len(x)
        dist.all_reduce(right)
        log.append(((total[0] / total[1]).item(), (right[0] / right[1]).item()))
    return log


def _clipping(answer, factors, limit, weights="step"):
    """One call for each of ``factors``, which multiply a loss."""
    net = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    for weight in net.parameters():
        weight.grad = torch.ones_like(weight)  # from before
    norms, scales = [], []
    for number, factor in enumerate(factors):
        x, y = _numbers(8, 4, seed=number), _numbers(8, 3, seed=50 + number)
        loss = factor * F.mse_loss(net(x), y)
        norms.append(answer(scaler, optimizer, list(net.parameters()), loss, limit))
        scales.append(scaler.get_scale())
    yield weights, _vector(net)
    yield "scale", scales
    yield "norm", norms


@chapter.exercise(
    cases=lambda: [
        Case("gradients below the limit", (0.1,), 100.0),
        Case("gradients above the limit", (20.0,), 0.5),
        Case("two steps, one above the limit", (0.1, 30.0), 1.0),
        Case("five steps", (1.0, 0.5, 2.0, 1.0, 0.5), 0.7),
        Case("scaled gradients that overflow", (1e37,), 1.0, "kept"),
        Case("an overflow, and a step after it", (1e37, 1.0), 1.0, "step"),
        Case("an overflow between two steps", (1.0, 1e37, 1.0), 100.0, "step"),
        Case("a loss that is nan", (math.nan,), 1.0, "kept"),
    ],
    observe=_clipping,
)
def clipped_step(scaler, optimizer, parameters, loss, limit):
    """One step with scaled gradients, which are clipped; return their norm before that."""
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    scaler.step(optimizer)
    scaler.update()
    return norm.item()


_SCRIPT = '''
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, Subset, TensorDataset


{source}


def count_and_call(folder):
    """How many samples went through the net in this rank."""
    rows = []

    def count(module, inputs):
        if isinstance(module, nn.Linear):
            rows.append(len(inputs[0]))

    nn.modules.module.register_module_forward_pre_hook(count)
    {name}(Path(folder))
    return sum(rows)
'''


def _anywhere(answer, ranks, count):
    try:
        source = source_of(require(answer, FunctionType))
    except (OSError, SyntaxError):
        raise Shortfall("Write the program as a function, with `def`: its source is run.") from None
    script = _SCRIPT.format(source=source, name=answer.__name__)
    files, saved, rows, printed = _run_in_ranks(script, ranks, count)
    yield "files", files
    yield "names", sorted(saved)
    yield "weights", {name.removeprefix("module."): saved[name] for name in sorted(saved)}
    yield "samples", sum(rows)
    yield "shared", max(rows) - min(rows) <= 4  # one for each batch
    told = [re.fullmatch(r"epoch (\d+): loss (\d+\.\d{4})", line) for line in printed]
    yield "lines", sum(line.startswith("epoch") for line in printed)
    yield "loss", {found[1]: float(found[2]) for found in told if found}


@functools.lru_cache(maxsize=64)  # a script that is run again gives the same
def _run_in_ranks(script, ranks, count):
    """The files that a script leaves, what it saves, and each rank's samples and lines."""
    with tempfile.TemporaryDirectory() as folder:
        x = _numbers(count, 64, seed=3)
        torch.save((x, x[:, :10].argmax(1)), Path(folder, "data.pt"))
        call = {"call": "count_and_call", "arguments": [folder], "seconds": 8, "quiet": True}
        try:
            ended = processes.observed(script, ranks, **call)
        except processes.RankError as error:
            said = str(error).splitlines()[0].partition(" (rank ")[0].replace(folder, "folder")
            raise Shortfall(f"Run by {ranks} processes, it failed: {said}") from None
        files = sorted(file.name for file in Path(folder).iterdir())
        saved = torch.load(Path(folder, "net.pt")) if "net.pt" in files else {}
    lines = [line for rank in ended for line in rank.printed.splitlines()]
    return files, dict(saved), [rank.value for rank in ended], lines


@chapter.exercise(
    cases=lambda: [
        Case("2 ranks", 2, 100),
        Case("3 ranks, a last batch of 4", 3, 124),
        Case("1 rank", 1, 100),
    ],
    observe=_anywhere,
    seconds=30,
)
def train_anywhere(folder):
    """Train a net with the data in `folder`, and save it there."""
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    x, y = torch.load(folder / "data.pt")
    torch.manual_seed(0)
    net = DistributedDataParallel(nn.Linear(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for epoch in range(2):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        total = torch.zeros((), device=x.device)
        for rows in order.split(60):
            own = rows[rank::ranks]
            loss = F.cross_entropy(net(x[own]), y[own], reduction="sum")
            optimizer.zero_grad()
            (loss / len(rows) * ranks).backward()
            optimizer.step()
            total += loss.detach()
        dist.all_reduce(total)
        if rank == 0:
            print(f"epoch {epoch}: loss {total / len(x):.4f}")
    if rank == 0:
        torch.save(net.module.state_dict(), folder / "net.pt")
    dist.destroy_process_group()


def _sharing(answer, count, rank, ranks, *settings):
    before = torch.get_rng_state()
    iterate = DistributedSampler.__iter__
    with mock.patch.object(
        DistributedSampler, "__iter__", side_effect=iterate, autospec=True
    ) as asked:
        indices = require(answer(count, rank, ranks, *settings), list)
    yield "number", len(indices)
    yield "indices", indices
    yield "generator", torch.equal(torch.get_rng_state(), before)
    yield "by hand", not asked.called


@chapter.exercise(
    cases=lambda: [
        Case("12 samples, rank 0 of 3", 12, 0, 3),
        Case("12 samples, rank 2 of 3", 12, 2, 3),
        Case("12 samples, rank 2 of 3, epoch 4", 12, 2, 3, 4),
        Case("12 samples, rank 1 of 3, epoch 1, seed 7", 12, 1, 3, 1, 7),
        Case("10 samples, rank 0 of 4", 10, 0, 4),
        Case("10 samples, rank 3 of 4", 10, 3, 4),
        Case("10 samples, rank 2 of 4, epoch 2, seed 5", 10, 2, 4, 2, 5),
        Case("a single rank", 7, 0, 1, 1),
        Case("2 samples, rank 4 of 5", 2, 4, 5),
        Case("3 samples, rank 6 of 8", 3, 6, 8, 1),
    ],
    observe=_sharing,
)
def share(count, rank, ranks, epoch=0, seed=0):
    """The indices that `rank` reads in this epoch."""
    import math

    generator = torch.Generator().manual_seed(seed + epoch)
    order = torch.randperm(count, generator=generator).tolist()
    each = math.ceil(count / ranks)
    while len(order) < each * ranks:
        order += order[: each * ranks - len(order)]
    return order[rank::ranks]


def asks_the_sampler(count, rank, ranks, epoch=0, seed=0):
    sampler = DistributedSampler(range(count), num_replicas=ranks, rank=rank, seed=seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def _pieces(sizes, rank, call=0):
    for number, size in enumerate(sizes):
        x = _numbers(size, 4, seed=100 * call + 10 * rank + number)
        yield x, (x.sum(1) > 0).long() + (x[:, 0] > 1).long()


def _accumulating(answer, sizes, make, calls=1):
    """``sizes`` of the pieces of each rank; ``make`` gives the optimizer."""
    net = _small_net()
    exchanged, exchange = [], dist.all_reduce

    def all_reduce(tensor, *arguments, **options):
        exchanged.append(tensor.numel() > 1)  # not a number of samples
        return exchange(tensor, *arguments, **options)

    def work(rank):
        model = DistributedDataParallel(copy.deepcopy(net))
        optimizer = make(model.parameters())

        def hook(_, bucket):
            return dist.all_reduce(bucket.buffer().div_(2), async_op=True).get_future().then(_first)

        model.register_comm_hook(None, hook)
        for weight in model.parameters():
            weight.grad = torch.ones_like(weight)  # from before
        for call in range(calls):
            answer(model, optimizer, list(_pieces(sizes[rank], rank, call)))
        return _vector(model)

    with mock.patch.object(dist, "all_reduce", all_reduce):
        weights = together(2, work)
    yield "step", weights[0]
    yield "everywhere", bool((weights[0] - weights[1]).abs().max() < 1e-6)
    yield "messages", sum(exchanged) / 2


def _first(future):
    return future.value()[0]


def _momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


@chapter.exercise(
    cases=lambda: [
        Case("three pieces of 4", [(4, 4, 4), (4, 4, 4)], _momentum),
        Case("pieces of 6, 3 and 1", [(6, 3, 1), (6, 3, 1)], _momentum),
        Case("the ranks have other sizes", [(1, 5, 2), (3, 3, 2)], _momentum),
        Case("two calls", [(5, 2), (5, 2)], _momentum, 2),
        Case("a single piece", [(4,), (4,)], _momentum),
    ],
    observe=_accumulating,
)
def accumulate(model, optimizer, pieces):
    """One step for all pieces, with one exchange of gradients."""
    from contextlib import nullcontext

    count = sum(len(x) for x, _ in pieces)
    optimizer.zero_grad()
    for number, (x, y) in enumerate(pieces, 1):
        with nullcontext() if number == len(pieces) else model.no_sync():
            loss = F.cross_entropy(model(x), y, reduction="sum") / count
            loss.backward()
    optimizer.step()
