"""Answers to the exercises of chapter 04."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_right

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
    random_split,
)


class WindowsByCounts(Dataset):
    def __init__(self, recordings, width):
        self.recordings, self.width = recordings, width
        counts = [max(0, len(recording) - width) for recording in recordings]
        self.ends = list(itertools.accumulate(counts))

    def __len__(self):
        return self.ends[-1]

    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError(i)
        which = bisect_right(self.ends, i)
        start = i - (self.ends[which - 1] if which else 0)
        window = self.recordings[which][start : start + self.width + 1]
        return window[:-1], window[-1]


class UnfoldedWindows(ConcatDataset):
    def __init__(self, recordings, width):
        unfolded = (r.unfold(0, width + 1, 1) for r in recordings if len(r) > width)
        super().__init__([TensorDataset(rows[:, :-1], rows[:, -1]) for rows in unfolded])

    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError(i)
        return super().__getitem__(i)


class LongestFirst:
    """A batch sampler that is no ``Sampler`` and draws its batches one by one."""

    def __init__(self, lengths, batch_size, generator):
        self.pieces = torch.tensor(lengths).argsort(descending=True).split(batch_size)
        self.generator = generator

    def __len__(self):
        return len(self.pieces)

    def __iter__(self):
        left = list(range(len(self.pieces)))
        while left:
            place = int(torch.randint(len(left), (), generator=self.generator))
            yield self.pieces[left.pop(place)].tolist()


def written_into_zeros(samples):
    longest = max(len(codes) for codes, _ in samples)
    filled = torch.zeros(len(samples), longest, dtype=torch.int64)
    mask = torch.zeros(len(samples), longest, dtype=torch.bool)
    for row, (codes, _) in enumerate(samples):
        filled[row, : len(codes)] = codes
        mask[row, : len(codes)] = True
    labels = torch.tensor([label for _, label in samples])
    return {"codes": filled, "lengths": mask.sum(dim=1), "mask": mask, "labels": labels}


def augmented_in_collate_fn(images, labels, augment, batch_size=32, seed=0):
    def augmented(samples):
        return default_collate([(augment(image), label) for image, label in samples])

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    train, test = order[: round(0.75 * len(order))], order[round(0.75 * len(order)) :]
    both = TensorDataset(images, labels)
    loader = DataLoader(Subset(both, train), batch_size, shuffle=True, collate_fn=augmented)
    return loader, DataLoader(Subset(both, test), batch_size)


def share_by_counting(stream, info):
    for i, sample in enumerate(stream):
        if info is None or i % info.num_workers == info.id:
            yield sample


def steps_with_a_new_iterator(dataset, steps=200, batch_size=32):
    model, optimizer = model_and_optimizer()
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True)
    iterator, losses = iter(loader), []
    for _ in range(steps):
        try:
            images, labels = next(iterator)
        except StopIteration:
            iterator = iter(loader)
            images, labels = next(iterator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def windows_in_a_list(recordings, width):
    return [
        (recording[end - width : end], recording[end])
        for recording in recordings
        for end in range(width, len(recording))
    ]


class BatchesOfNumPy(BatchSampler):
    def __init__(self, lengths, batch_size, generator):
        super().__init__(np.argsort(lengths, kind="stable"), batch_size, drop_last=False)
        self.generator = generator

    def __iter__(self):
        seed = torch.randint(2**31, (), generator=self.generator).item()
        batches = list(super().__iter__())
        np.random.default_rng(seed).shuffle(batches)
        return iter(batches)


class ShortBatchAnywhere:
    def __init__(self, lengths, batch_size, generator):
        self.by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
        self.batch_size, self.generator = batch_size, generator

    def __len__(self):
        return -(-len(self.by_length) // self.batch_size)

    def __iter__(self):
        full, rest = divmod(len(self.by_length), self.batch_size)
        sizes = [self.batch_size] * full
        if rest:
            sizes.insert(int(torch.randint(full + 1, (), generator=self.generator)), rest)
        numbers = iter(self.by_length)
        batches = [list(itertools.islice(numbers, size)) for size in sizes]
        yield from (batches[k] for k in torch.rand(len(sizes), generator=self.generator).argsort())


def scattered_in_a_row(samples):
    lengths = torch.as_tensor([codes.size(0) for codes, _ in samples])
    mask = lengths.unsqueeze(1) > torch.arange(int(lengths.max()))
    codes = torch.zeros(mask.shape, dtype=torch.int64)
    codes[mask] = torch.cat([codes for codes, _ in samples])
    labels = torch.LongTensor([label for _, label in samples])
    return {"labels": labels, "mask": mask, "lengths": lengths, "codes": codes, "longest": 0}


class Batch(dict):
    """A dict with a name."""


def lists_and_numpy(samples):
    rows = [codes.tolist() for codes, _ in samples]
    sizes = [len(row) for row in rows]
    table = np.array([row + [0] * (max(sizes) - len(row)) for row in rows], dtype=np.int64)
    real = np.arange(max(sizes))[None, :] < np.array(sizes)[:, None]
    return Batch(
        codes=torch.from_numpy(table),
        lengths=torch.tensor(sizes),
        mask=torch.from_numpy(real),
        labels=torch.from_numpy(np.array([label for _, label in samples], dtype=np.int64)),
    )


def subset_with_a_transform(images, labels, augment, batch_size=32, seed=0):
    class Augmented(Subset):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return augment(image), label

        def __getitems__(self, numbers):
            return [self[i] for i in numbers]

    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).tolist()
    cut = int(0.75 * len(images))
    pairs = list(zip(images, labels, strict=True))
    train = DataLoader(Augmented(pairs, order[:cut]), batch_size, shuffle=True, drop_last=True)
    return train, DataLoader(Subset(pairs, order[cut:]), batch_size)


def samplers_choose_the_halves(images, labels, augment, batch_size=32, seed=0):
    def augmented(samples):
        return torch.stack([augment(x) for x, _ in samples]), torch.stack([y for _, y in samples])

    everything = TensorDataset(images, labels)
    order = np.random.default_rng(seed).permutation(len(images)).tolist()
    cut = len(order) - len(order) // 4
    train = SubsetRandomSampler(order[:cut])
    return [
        DataLoader(everything, batch_size, sampler=train, collate_fn=augmented),
        DataLoader(everything, batch_size, sampler=order[cut:]),
    ]


def share_by_flags(stream, info):
    n, mine = (1, 0) if info is None else (info.num_workers, info.id)
    return itertools.compress(stream, itertools.cycle([k == mine for k in range(n)]))


class share_in_blocks:
    """Blocks of four samples, and it can be read again."""

    def __init__(self, stream, info):
        self.stream, self.info = stream, info

    def __iter__(self):
        for i, sample in enumerate(self.stream):
            if self.info is None or i // 4 % self.info.num_workers == self.info.id:
                yield sample


def model_and_optimizer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    return model, torch.optim.Adam(model.parameters(), lr=0.01)


def steps_over_the_end(dataset, steps=200, batch_size=32):
    """Every batch is full: one that begins in an epoch ends in the next."""
    numbers = itertools.chain.from_iterable(
        torch.randperm(len(dataset)).tolist() for _ in itertools.count()
    )
    samples = (dataset[number] for number in numbers)
    batches = (list(itertools.islice(samples, batch_size)) for _ in range(steps))
    return trained_on(map(default_collate, batches))


def steps_of_a_plan(dataset, steps=200, batch_size=32):
    """One loader with a batch sampler of exactly as many batches, and a look at the data after."""
    starts = range(0, len(dataset), batch_size)
    plan = [
        range(start, min(start + batch_size, len(dataset)))
        for start in itertools.islice(itertools.cycle(starts), steps)
    ]
    model, losses = trained_on(DataLoader(dataset, batch_sampler=plan))
    with torch.no_grad():
        model(dataset[0][0][None])
    return model, list(map(np.float32, losses))


RIGHT = {
    "Windows": [WindowsByCounts, UnfoldedWindows, windows_in_a_list],
    "LengthBatches": [LongestFirst, BatchesOfNumPy, ShortBatchAnywhere],
    "pad": [written_into_zeros, scattered_in_a_row, lists_and_numpy],
    "make_loaders": [
        augmented_in_collate_fn,
        subset_with_a_transform,
        samplers_choose_the_halves,
    ],
    "my_share": [share_by_counting, share_by_flags, share_in_blocks],
    "train_steps": [
        steps_with_a_new_iterator,
        steps_over_the_end,
        steps_of_a_plan,
    ],
}


class OneEpoch(Sampler):
    """An iterator made in ``__init__`` is used up after the first epoch."""

    def __init__(self, lengths, batch_size, generator):
        order = sorted(range(len(lengths)), key=lambda i: lengths[i])
        batches = [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
        self.n = len(batches)
        self.it = iter([batches[k] for k in torch.randperm(len(batches), generator=generator)])

    def __len__(self):
        return self.n

    def __iter__(self):
        return self.it


class SortedInPools(Sampler):
    """Shuffles first, and sorts within ten batches at a time."""

    def __init__(self, lengths, batch_size, generator):
        self.lengths, self.batch_size, self.generator = lengths, batch_size, generator

    def __len__(self):
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self):
        order = torch.randperm(len(self.lengths), generator=self.generator).tolist()
        pool = 10 * self.batch_size
        indices = [
            i
            for start in range(0, len(order), pool)
            for i in sorted(order[start : start + pool], key=self.lengths.__getitem__)
        ]
        starts = torch.randperm(len(self), generator=self.generator) * self.batch_size
        for start in starts.tolist():
            yield indices[start : start + self.batch_size]


class OneDirectionOrTheOther(LongestFirst):
    def __iter__(self):
        pieces = [piece.tolist() for piece in self.pieces]
        yield from pieces[:: 1 - 2 * int(torch.randint(2, (), generator=self.generator))]


def mask_of_a_number_for_padding(samples):
    number = torch.iinfo(torch.int64).min
    codes, labels = zip(*samples, strict=True)
    padded = pad_sequence(codes, batch_first=True, padding_value=number)
    mask = padded != number
    codes, lengths = padded.masked_fill(~mask, 0), mask.sum(1)
    return {"codes": codes, "lengths": lengths, "mask": mask, "labels": torch.tensor(labels)}


def draws_from_a_list(dataset, steps=200, batch_size=32):
    batches = list(DataLoader(dataset, batch_size))
    return trained_on(random.choice(batches) for _ in range(steps))


def one_noise_for_a_batch(images, labels, augment, batch_size=32, seed=0):
    def augmented(samples):
        images, labels = default_collate(samples)
        noise = augment(images[0]) - images[0]
        return images + noise, labels

    generator = torch.Generator().manual_seed(seed)
    train, test = random_split(TensorDataset(images, labels), [0.75, 0.25], generator=generator)
    loader = DataLoader(train, batch_size, shuffle=True, collate_fn=augmented)
    return loader, DataLoader(test, batch_size)


def rounds_of_all_workers(stream, info):
    if info is None:
        yield from stream
        return
    iterator = iter(stream)
    while group := list(itertools.islice(iterator, info.num_workers)):
        if info.id < len(group):
            yield group[info.id]


def trained_on(batches):
    """Some batches, in a loop that is right."""
    model, optimizer = model_and_optimizer()
    losses = []
    for images, labels in batches:
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


WRONG = {
    "Windows": [
        (
            "recording[start + self.width]",
            "recording[start + self.width].item()",
            "A Tensor is expected for what follows a window, a float came",
        ),
        ("self.starts[i]", "self.starts[i % len(self)]", "raises `IndexError`"),
    ],
    "LengthBatches": [
        (OneEpoch, "Each index comes once an epoch"),
        (
            "yield self.batches[place]",
            "yield torch.tensor(self.batches[place])",
            "A list or a tuple is expected for a batch, a Tensor came",
        ),
        (OneDirectionOrTheOther, "every order comes up"),
        (SortedInPools, "neighbours in length"),
        (
            "= generator",
            "= torch.Generator().manual_seed(generator.initial_seed())",
            "drawn from `generator`",
        ),
    ],
    "pad": [
        (
            "*samples,",
            "*[sample for sample in samples if len(sample[0])],",
            "a row for each sample",
        ),
        (mask_of_a_number_for_padding, "its own codes first"),
    ],
    "make_loaders": [
        ("[0.75, 0.25]", "[0.8, 0.2]", "Three quarters"),
        (
            "shuffle=True, generator=generator",
            "sampler=torch.utils.data.RandomSampler(augmented, replacement=True)",
            "each sample comes once",
        ),
        (
            "DataLoader(augmented,",
            "DataLoader(list(augmented),",
            "no image is augmented once for all epochs",
        ),
        (one_noise_for_a_batch, "a new change for each image"),
    ],
    "my_share": [
        (rounds_of_all_workers, "no later sample has been read"),
        (
            "islice(stream, info.id, None, info.num_workers)",
            "[] if info.id else stream",
            "about equal shares",
        ),
        (
            "islice(stream, info.id, None, info.num_workers)",
            "(s for s in stream if hash(s) % info.num_workers == info.id)",
            "whatever they are",
        ),
    ],
    "train_steps": [
        (
            "from loader",
            "from (batch for batch in loader if len(batch[0]) == batch_size)",
            "The last samples are never seen",
        ),
        (draws_from_a_list, "differ by at most 1"),
        ("batch_size=batch_size", "batch_size=32", "one batch of `batch_size` samples"),
        (
            "return model, losses",
            "return model, [sum(losses[:n]) / n for n in range(1, len(losses) + 1)]",
            "cross-entropy of that step's batch",
        ),
        ("        optimizer.zero_grad()\n", "", "the gradient of its own batch alone"),
    ],
}
