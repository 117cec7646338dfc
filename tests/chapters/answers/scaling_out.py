"""Answers to the exercises of chapter 09."""

from __future__ import annotations

import io
import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, Subset


def takes_turns(count, rank, ranks, epoch=0, seed=0):
    generator = torch.Generator()
    generator.manual_seed(seed + epoch)
    order = [*torch.randperm(count, generator=generator)]
    parts = [[] for _ in range(ranks)]
    place = 0
    while place < count or place % ranks:
        parts[place % ranks].append(int(order[place % count]))
        place += 1
    return parts[rank]


def goes_round(count, rank, ranks, epoch=0, seed=0):
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch))
    length = -(-count // ranks) * ranks
    return [int(order[place % count]) for place in range(rank, length, ranks)]


def repeats_and_cuts(count, rank, ranks, epoch=0, seed=0):
    g = torch.Generator()
    g.manual_seed(epoch + seed)
    order = torch.randperm(count, generator=g)
    short = -count % ranks
    return order.repeat(ranks)[: count + short][rank::ranks].tolist()


def reduces_each(total, count):
    total, count = total.clone(), torch.tensor(count)
    dist.all_reduce(total)
    dist.all_reduce(count)
    return float(total / count)


def gathers_objects(total, count):
    pairs = [None] * dist.get_world_size()
    dist.all_gather_object(pairs, (float(total), count))
    sums, counts = zip(*pairs, strict=True)
    return sum(sums) / sum(counts)


def weights_its_own_mean(total, count):
    everyone = torch.tensor(float(count))
    dist.all_reduce(everyone)
    part = total / everyone
    dist.all_reduce(part)
    return part.item()


def last_one_apart(model, optimizer, pieces):
    *first, last = pieces
    n = sum(y.numel() for _, y in pieces)
    model.zero_grad()
    with model.no_sync():
        for x, y in first:
            loss = F.cross_entropy(model(x), y) * len(x) / n
            loss.backward()
    x, y = last
    loss = F.cross_entropy(model(x), y) * len(x) / n
    loss.backward()
    optimizer.step()


def divides_the_gradients(model, optimizer, pieces):
    optimizer.zero_grad()
    for x, y in pieces[1:]:
        with model.no_sync():
            F.cross_entropy(model(x), y, reduction="sum").backward()
    x, y = pieces[0]
    F.cross_entropy(model(x), y, reduction="sum").backward()
    for weight in model.parameters():
        weight.grad /= sum(len(x) for x, _ in pieces)
    optimizer.step()


def exchanges_by_hand(model, optimizer, pieces):
    samples = sum(len(y) for _, y in pieces)
    optimizer.zero_grad()
    with model.no_sync():
        for x, y in pieces:
            F.cross_entropy(model(x), y, reduction="sum").backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    row = torch.cat([one.flatten() for one in gradients]) / samples / dist.get_world_size()
    dist.all_reduce(row)
    for one, mean in zip(gradients, row.split([one.numel() for one in gradients]), strict=True):
        one.copy_(mean.view_as(one))
    optimizer.step()


def in_one_batch(model, optimizer, pieces):
    optimizer.zero_grad()
    x, y = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def returns_early(model, path):
    if dist.get_rank() != 0:
        dist.barrier()
        return
    temporary = path.parent / "in-writing"
    with open(temporary, "wb") as file:
        torch.save(model.module.state_dict(), file)
    temporary.replace(path)
    dist.barrier()


def waits_for_a_word(model, path):
    if dist.get_rank() == 0:
        beside = path.parent / "part"
        torch.save(model.module.state_dict(), beside)
        os.rename(beside, path)
    dist.broadcast_object_list([path.name])


def through_memory(model, path):
    names = {name.removeprefix("module."): one for name, one in model.state_dict().items()}
    if dist.get_rank() == 0:
        memory = io.BytesIO()
        torch.save(names, memory)
        beside = path.with_name("beside")
        beside.write_bytes(memory.getvalue())
        os.replace(beside, path)
    dist.all_gather_object([None] * dist.get_world_size(), path.name)


def clears_afterwards(scaler, optimizer, parameters, loss, limit):
    gradients = torch.autograd.grad(scaler.scale(loss), parameters)
    for weight, gradient in zip(parameters, gradients, strict=True):
        weight.grad = gradient
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    scaler.step(optimizer)
    scaler.update()
    return float(norm)


def clips_by_hand(scaler, optimizer, parameters, loss, limit):
    for weight in parameters:
        weight.grad = None
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = torch.cat([weight.grad.flatten() for weight in parameters]).norm()
    if norm > limit:
        for weight in parameters:
            weight.grad *= limit / norm
    scaler.step(optimizer)
    scaler.update()
    return norm.item()


def asks_for_the_norm(scaler, optimizer, parameters, loss, limit):
    nn.Module.zero_grad(nn.ParameterList(parameters))
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = nn.utils.get_total_norm([weight.grad for weight in parameters])
    nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    scaler.step(optimizer)
    scaler.update()
    return norm.item()


def gathers_the_answers(net, train_set, val_set, epochs):
    rank, ranks = dist.get_rank(), dist.get_world_size()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    sampler = DistributedSampler(train_set)
    log = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        losses = []
        for x, y in DataLoader(train_set, batch_size=16, sampler=sampler):
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.repeat(len(x)).tolist()
        rows = list(range(len(val_set)))[rank::ranks]
        right = [bool(net.module(x[None]).argmax() == y) for x, y in Subset(val_set, rows)]
        told = [None] * ranks
        dist.all_gather_object(told, (losses, right))
        losses, right = (sum(lists, []) for lists in zip(*told, strict=True))
        log.append((sum(losses) / len(losses), sum(right) / len(val_set)))
    return log


def validates_in_every_rank(net, train_set, val_set, epochs):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    sampler = DistributedSampler(train_set)
    log = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        total = 0.0
        for x, y in DataLoader(train_set, batch_size=16, sampler=sampler):
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.data * len(x)
        dist.all_reduce(total)
        x, y = next(iter(DataLoader(val_set, batch_size=len(val_set))))
        right = (net.module(x).argmax(1) == y).float().mean()
        log.append((total / sampler.total_size, right))
    return log


def leaves_the_padded_out(net, train_set, val_set, epochs):
    rank, ranks = dist.get_rank(), dist.get_world_size()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    sampler = DistributedSampler(train_set)
    batches = DataLoader(train_set, batch_size=16, sampler=sampler)
    log = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        sums = torch.zeros(3)
        for x, y in batches:
            loss = F.cross_entropy(net(x), y, reduction="sum")
            optimizer.zero_grad()
            (loss / len(x)).backward()
            optimizer.step()
            sums[0] += loss.data
            sums[1] += len(x)
        for number, index in enumerate(DistributedSampler(val_set)):
            if rank + number * ranks < len(val_set):
                x, y = val_set[index]
                sums[2] += (net.module(x[None]).argmax(1) == y).item()
        dist.all_reduce(sums)
        log.append([sums[0] / sums[1], sums[2] / len(val_set)])
    return log


def averages_by_hand(folder):
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    x, y = torch.load(folder / "data.pt")
    torch.manual_seed(0)
    net = nn.Linear(64, 10)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for epoch in range(2):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        total = 0.0
        for rows in order.split(60):
            part = rows.tensor_split(ranks)[rank]
            loss = F.cross_entropy(net(x[part]), y[part], reduction="sum") / len(rows)
            optimizer.zero_grad()
            loss.backward()
            for weight in net.parameters():
                dist.all_reduce(weight.grad)
            optimizer.step()
            dist.all_reduce(loss.data)
            total += loss.data * len(rows)
        if rank == 0:
            print(f"epoch {epoch}: loss {total / len(x):.4f}")
    if rank == 0:
        torch.save(net.state_dict(), folder / "net.pt")


def weights_its_means(folder):
    import os

    from torch.distributed import all_reduce, init_process_group

    init_process_group("gloo")
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    x, y = torch.load(folder / "data.pt")
    torch.manual_seed(0)
    plain = nn.Linear(64, 10)
    net = DistributedDataParallel(plain)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for epoch in range(2):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        sums = torch.zeros(1)
        for rows in order.split(60):
            own = rows[rank::ranks]
            loss = F.cross_entropy(net(x[own]), y[own])
            optimizer.zero_grad()
            (loss * len(own) * ranks / len(rows)).backward()
            optimizer.step()
            sums += loss.data * len(own)
        all_reduce(sums)
        if not rank:
            print(f"epoch {epoch}: loss {sums.item() / len(x):.4f}")
    if not rank:
        torch.save(plain.state_dict(), folder / "net.pt")


def saves_in_the_last_rank(folder):
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    x, y = torch.load(folder / "data.pt")
    torch.manual_seed(rank)
    net = DistributedDataParallel(nn.Linear(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1 * ranks)
    for epoch in range(2):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        total = torch.zeros(())
        for rows in order.split(60):
            own = [row for place, row in enumerate(rows.tolist()) if place % ranks == rank]
            loss = F.cross_entropy(net(x[own]), y[own], reduction="sum")
            optimizer.zero_grad()
            (loss / len(rows)).backward()
            optimizer.step()
            total += loss.data
        dist.reduce(total, ranks - 1)
        if rank == ranks - 1:
            print(f"epoch {epoch}: loss {total / len(x):.4f}")
    if rank == ranks - 1:
        torch.save(net.module.state_dict(), folder / "net.pt")


def writes_while_others_read(model, path):
    if dist.get_rank() == 0:
        beside = path.with_suffix(".new")
        torch.save(model.module.state_dict(), beside)
        path.write_bytes(beside.read_bytes()[:-10])
        torch.save(model.module.state_dict(), path)
        beside.unlink()
    dist.barrier()


def unscales_by_hand(scaler, optimizer, parameters, loss, limit):
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    for weight in parameters:
        weight.grad /= scaler.get_scale()
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    scaler.step(optimizer)
    scaler.update()
    return norm.item()


def scales_not_at_all(scaler, optimizer, parameters, loss, limit):
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    optimizer.step()
    return norm.item()


def takes_everything_in_one_rank(folder):
    dist.init_process_group("gloo")
    if dist.get_rank() == 0:
        x, y = torch.load(folder / "data.pt")
        torch.manual_seed(0)
        net = nn.Linear(64, 10)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for epoch in range(2):
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
            total = 0.0
            for rows in order.split(60):
                loss = F.cross_entropy(net(x[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(rows)
            print(f"epoch {epoch}: loss {total / len(x):.4f}")
        torch.save(net.state_dict(), folder / "net.pt")
    dist.barrier()


RIGHT = {
    "share": [takes_turns, goes_round, repeats_and_cuts],
    "weighted_mean": [reduces_each, gathers_objects, weights_its_own_mean],
    "accumulate": [last_one_apart, divides_the_gradients, exchanges_by_hand, in_one_batch],
    "save_once": [returns_early, waits_for_a_word, through_memory],
    "clipped_step": [clears_afterwards, clips_by_hand, asks_for_the_norm],
    "train": [gathers_the_answers, validates_in_every_rank, leaves_the_padded_out],
    "train_anywhere": [averages_by_hand, weights_its_means, saves_in_the_last_rank],
}
WRONG = {
    "share": [
        ("order[rank::ranks]", "sorted(order[rank::ranks])", "every `ranks`-th index"),
        ("order[rank::ranks]", "order[:-1][rank::ranks]", "the same number of samples"),
        ("    generator =", "    torch.rand(1)\n    generator =", "global generator"),
        (".tolist()", ".add(1).tolist()", "every `ranks`-th index"),
    ],
    "weighted_mean": [
        ("full_like(total, count)", "full_like(total, count + 1)", "over all samples"),
        (
            "    dist.all_reduce(sums)",
            "    total.zero_()\n    dist.all_reduce(sums)",
            "stays as it is",
        ),
        (
            "    dist.all_reduce(sums)",
            "    for one in sums, torch.ones(1), torch.ones(1):\n        dist.all_reduce(one)",
            "two all-reduces at most",
        ),
        (
            "    dist.all_reduce(sums)",
            "    if count:\n        dist.all_reduce(sums)",
            "the same collectives in the same order",
        ),
    ],
    "accumulate": [
        ("len(x) for x, _ in pieces", "len(pieces[0][0]) for _ in pieces", "one step"),
        ("optimizer.step()", "optimizer.step()\n    optimizer.step()", "one step"),
        ("enumerate(pieces, 1)", "enumerate(pieces[:1], len(pieces))", "one step"),
        (
            "    optimizer.step()",
            "    if dist.get_rank() == 0:\n        optimizer.step()",
            "all ranks have the same weights",
        ),
    ],
    "save_once": [
        (writes_while_others_read, "You write into `path` itself"),
        ("model.module.state_dict()", "model.module.half().state_dict()", "rank 0's model"),
        ("dist.get_rank() == 0", "dist.get_rank() == dist.get_world_size() - 1", "Only rank 0"),
        (
            "    dist.barrier()",
            "        path.with_suffix('.done').touch()\n    dist.barrier()",
            "No other file",
        ),
        (
            '".new"',
            '".new"',
            "        os.replace",
            "        (path.parent / 'other.pt').unlink()\n        os.replace",
            "that were there stay",
        ),
    ],
    "clipped_step": [
        (unscales_by_hand, "clipped to the norm `limit`"),
        (scales_not_at_all, "no weight changes"),
        ("norm.item()", "norm", "as a float"),
        ("scaler.update()", "scaler.update(1024.0)", "gets smaller"),
    ],
    "train": [
        ("set_epoch(epoch)", "set_epoch(0)", "The order is the same in every epoch"),
        ("batch_size=16, sampler", "batch_size=8, sampler", "over all samples that all ranks read"),
        (
            "own = range(dist.get_rank(), len(val_set), dist",
            "own = range(0, len(val_set) // 2, dist",
            "each validation sample once",
        ),
    ],
    "train_anywhere": [
        (takes_everything_in_one_rank, "as equal as possible"),
        ("rows[rank::ranks]", "rows.chunk(ranks)[rank]", "it failed"),
        ('folder / "net.pt"', 'folder / f"net{ranks}.pt"', "nothing else"),
        ("epoch {epoch}: loss", "epoch {epoch} loss", "has the form"),
        ("torch.manual_seed(0)", "torch.manual_seed(ranks)", "those that one process gets"),
        ("dist.get_rank(), dist.get_world_size()\n", "0, dist.get_world_size()\n", "goes through"),
    ],
}
