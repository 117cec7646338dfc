"""The exercises of chapter 04: which samples a model sees, in what order, made by whom."""

from __future__ import annotations

import functools
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import (
    DataLoader,
    Dataset,
    Sampler,
    Subset,
    default_collate,
    random_split,
)

from helpers import data
from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)


# A data set of one's own ------------------------------------------------------------------------


def _readings(n):
    return torch.arange(float(n))


def _as_a_data_set(answer, recordings, width):
    dataset = answer(recordings, width)
    n = len(dataset)
    walked = sum(1 for _ in islice(dataset, n + 3))
    loader = DataLoader(dataset, batch_size=max(n, 1))
    return {
        "len(dataset)": n,
        "windows": [window.tolist() for window, _ in (dataset[i] for i in range(n))],
        "what follows": [
            torch.as_tensor(following) for _, following in map(dataset.__getitem__, range(n))
        ],
        "samples in `for sample in dataset`": walked,
        "shapes in one batch of all": [tuple(part.shape) for part in next(iter(loader))],
    }


@chapter.exercise(
    cases=lambda: [
        Case("one recording of 6 readings, width 2", [_readings(6)], 2),
        Case("recordings of 5 and 4 readings, width 3", [_readings(5), 100 + _readings(4)], 3),
        Case(
            "recordings of 4, 2 and 5 readings, width 2",
            [_readings(4), 100 + _readings(2), 200 + _readings(5)],
            2,
        ),
        Case(
            "recordings of 6, 1 and 7 readings, width 4",
            [_readings(6), 100 + _readings(1), 200 + _readings(7)],
            4,
        ),
    ],
    observe=_as_a_data_set,
)
class Windows(Dataset):
    def __init__(self, recordings, width):
        self.width = width
        self.starts = [
            (recording, start)
            for recording in recordings
            for start in range(len(recording) - width)
        ]

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, i):
        recording, start = self.starts[i]
        return recording[start : start + self.width], recording[start + self.width]


class _FromPairs(Dataset):
    """Windows whose places are given by a subclass."""

    def __init__(self, recordings, width):
        self.width = width
        self.starts = [(r, s) for r in recordings for s in self.starts_in(len(r), width)]

    def starts_in(self, length, width):
        return range(length - width)

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, i):
        recording, start = self.starts[i]
        return recording[start : start + self.width], recording[start + self.width]


class AcrossTheSeam(_FromPairs):
    def __init__(self, recordings, width):
        super().__init__([torch.cat(recordings)], width)


class OneTooMany(_FromPairs):
    def starts_in(self, length, width):
        return range(length - width + 1)


class OneTooFew(_FromPairs):
    def starts_in(self, length, width):
        return range(length - width - 1)


class SideBySide(_FromPairs):
    def starts_in(self, length, width):
        return range(0, length - width, width)


class PredictsWhatItSees(_FromPairs):
    def __getitem__(self, i):
        window, _ = super().__getitem__(i)
        return window, window[-1]


class NeverEnds(_FromPairs):
    def __getitem__(self, i):
        return super().__getitem__(i % len(self))


# Order ------------------------------------------------------------------------------------------


@chapter.prediction
def epochs():
    def run():
        generator = torch.Generator().manual_seed(0)
        loader = DataLoader(range(10), batch_size=4, shuffle=True, generator=generator)
        return loader, [torch.cat(list(loader)).tolist() for epoch in range(2)]

    loader, (epoch_1, epoch_2) = run()
    return {
        "epoch_1 == epoch_2": epoch_1 == epoch_2,
        "a second run() gives the same two epochs": run()[1] == [epoch_1, epoch_2],
        "next(iter(loader)) gives the same batch twice": (
            next(iter(loader)).tolist() == next(iter(loader)).tolist()
        ),
        "len(loader)": len(loader),
    }


# Batching ---------------------------------------------------------------------------------------


@chapter.prediction
def collated():
    samples = [
        {"image": torch.zeros(1, 8, 8), "score": 0.5, "pair": (3, "three")},
        {"image": torch.ones(1, 8, 8), "score": 1.5, "pair": (7, "seven")},
    ]
    batch = default_collate(samples)
    return {
        "type(batch)": type(batch).__name__,
        "image shape": tuple(batch["image"].shape),
        "score dtype": str(batch["score"].dtype),
        "type of pair": type(batch["pair"]).__name__,
    }


def _texts(*lengths):
    return [(torch.arange(1, n + 1) * 10 + i, i % 3) for i, n in enumerate(lengths)]


@chapter.exercise(
    cases=lambda: [
        Case("lengths 3, 1, 2", _texts(3, 1, 2)),
        Case("codes that hold 0", [(torch.tensor([0, 4, 0]), 1), (torch.tensor([5]), 0)]),
        Case("one sample", _texts(4)),
        Case("equal lengths", _texts(2, 2)),
        Case("rising lengths", _texts(1, 2, 5)),
    ],
)
def pad(samples):
    codes, labels = zip(*samples, strict=True)
    lengths = torch.tensor([len(c) for c in codes])
    return {
        "codes": pad_sequence(codes, batch_first=True),
        "lengths": lengths,
        "mask": torch.arange(lengths.max()) < lengths[:, None],
        "labels": torch.tensor(labels),
    }


def _padded(samples):
    return by_writing_into_zeros(samples)


def mask_from_the_values(samples):
    batch = _padded(samples)
    return batch | {"mask": batch["codes"] != 0}


def mask_of_the_padding(samples):
    batch = _padded(samples)
    return batch | {"mask": ~batch["mask"]}


def time_first(samples):
    batch = _padded(samples)
    return batch | {"codes": batch["codes"].T.contiguous()}


def lengths_after_padding(samples):
    batch = _padded(samples)
    return batch | {"lengths": torch.full_like(batch["lengths"], batch["codes"].shape[1])}


def labels_left_alone(samples):
    return _padded(samples) | {"labels": tuple(label for _, label in samples)}


def mask_of_numbers(samples):
    batch = _padded(samples)
    return batch | {"mask": batch["mask"].long()}


def sorted_by_length(samples):
    return _padded(sorted(samples, key=lambda sample: -len(sample[0])))


def _lengths(n):
    return [1 + (i * 37) % 23 for i in range(n)]


def _padding(batches, lengths):
    return sum(max(lengths[i] for i in batch) * len(batch) for batch in batches) - sum(lengths)


def _over_two_epochs(answer, lengths, batch_size):
    def make():
        return answer(lengths, batch_size, torch.Generator().manual_seed(1))

    sampler, again = make(), make()
    (first, second), repeated = ([list(map(_as_ints, s)) for s in (sampler, sampler)]), list(again)
    wanted = sorted(lengths)
    pieces = [range(s, min(s + batch_size, len(wanted))) for s in range(0, len(wanted), batch_size)]
    return {
        "each index once": sorted(i for batch in first for i in batch) == list(range(len(lengths))),
        "batches that are not full": sum(len(batch) != batch_size for batch in first),
        "len(sampler)": len(sampler),
        "little padding": _padding(first, lengths) <= 1.5 * _padding(pieces, wanted) + batch_size,
        "two epochs in the same order": first == second,
        "the same generator gives the same epoch": first == list(map(_as_ints, repeated)),
        "an epoch goes from short to long": _rises([_longest(b, lengths) for b in first]),
        "works as batch_sampler": len(list(DataLoader(lengths, batch_sampler=make()))),
    }


def _as_ints(batch):
    return [int(i) for i in batch]


def _longest(batch, lengths):
    return max(lengths[i] for i in batch)


def _rises(values):
    return values == sorted(values)


@chapter.exercise(
    cases=lambda: [
        Case("40 lengths, batches of 4", _lengths(40), 4),
        Case("43 lengths, batches of 5", _lengths(43), 5),
        Case("30 lengths that come sorted, batches of 3", sorted(_lengths(30)), 3),
    ],
    observe=_over_two_epochs,
)
class LengthBatches(Sampler):
    def __init__(self, lengths, batch_size, generator):
        by_length = sorted(range(len(lengths)), key=lambda i: lengths[i])
        self.batches = [by_length[s : s + batch_size] for s in range(0, len(lengths), batch_size)]
        self.generator = generator

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for place in torch.randperm(len(self), generator=self.generator).tolist():
            yield self.batches[place]


class _Attempt(Sampler):
    """What attempts have in common; a subclass changes one step."""

    def __init__(self, lengths, batch_size, generator):
        self.lengths, self.batch_size, self.generator = lengths, batch_size, generator

    def order(self):
        return sorted(range(len(self.lengths)), key=lambda i: self.lengths[i])

    def batches(self):
        order = self.order()
        return [
            order[s : s + self.batch_size] for s in range(0, len(self.lengths), self.batch_size)
        ]

    def shuffled(self, things):
        return [things[i] for i in torch.randperm(len(things), generator=self.generator).tolist()]

    def __len__(self):
        return len(self.batches())

    def __iter__(self):
        yield from self.shuffled(self.batches())


class AlwaysShortToLong(_Attempt):
    def shuffled(self, things):
        return things


class ShuffledOnce(_Attempt):
    def __init__(self, lengths, batch_size, generator):
        super().__init__(lengths, batch_size, generator)
        self.kept = super().shuffled(self.batches())

    def shuffled(self, things):
        return self.kept


class ShuffledBeforeCutting(_Attempt):
    def order(self):
        return self.shuffled(list(range(len(self.lengths))))


class LosesTheRest(_Attempt):
    def batches(self):
        return [batch for batch in super().batches() if len(batch) == self.batch_size]


class IgnoresTheGenerator(_Attempt):
    def shuffled(self, things):
        return [things[i] for i in torch.randperm(len(things)).tolist()]


class CountsSamples(_Attempt):
    def __len__(self):
        return len(self.lengths)


# Streams ----------------------------------------------------------------------------------------


def _by_all_workers(answer, n, workers):
    shares = [
        list(answer(iter(range(n)), SimpleNamespace(id=i, num_workers=workers)))
        for i in range(workers)
    ]
    times = Counter(sample for share in shares for sample in share)
    read = []
    stream = (read.append(i) or i for i in range(n))
    first = answer(stream, SimpleNamespace(id=0, num_workers=workers))
    list(islice(first, 1))
    return {
        "samples that no worker gives": sum(times[i] == 0 for i in range(n)),
        "samples that come more than once": sum(times[i] > 1 for i in range(n)),
        "largest share less smallest": max(map(len, shares)) - min(map(len, shares)),
        "given by the main process": len(list(answer(iter(range(n)), None))),
        "reads on demand": len(read) <= 2 * workers,
    }


@chapter.exercise(
    cases=lambda: [
        Case("10 samples, 2 workers", 10, 2),
        Case("11 samples, 3 workers", 11, 3),
        Case("7 samples, 1 worker", 7, 1),
        Case("1 sample, 2 workers", 1, 2),
        Case("100,000 samples, 2 workers", 100_000, 2),
    ],
    observe=_by_all_workers,
)
def my_share(stream, info):
    if info is None:
        return stream
    return islice(stream, info.id, None, info.num_workers)


def everything(stream, info):
    return iter(stream)


def without_the_main_process(stream, info):
    return islice(stream, info.id, None, info.num_workers)


def all_at_once(stream, info):
    samples = list(stream)
    return iter(samples if info is None else samples[info.id :: info.num_workers])


def blocks(stream, info):
    samples = list(stream)
    if info is None:
        return iter(samples)
    size = len(samples) // info.num_workers
    return iter(samples[info.id * size : (info.id + 1) * size])


def counted_from_one(stream, info):
    if info is None:
        return stream
    return islice(stream, info.id + 1, None, info.num_workers)


# Bug hunts --------------------------------------------------------------------------------------


def _over_two_epochs_each(answer, n, batch_size, seed):
    images, labels = torch.zeros(n, 1, 2, 2), torch.arange(n)

    def augment(image):
        return image + 1 + torch.rand(())

    def epoch(loader):
        x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
        return {int(label): float(image.mean()) for image, label in zip(x, y, strict=True)}

    train, test = answer(images, labels, augment, batch_size, seed)
    first, second, tested = epoch(train), epoch(train), epoch(test)
    trained = set().union(first, second, *(epoch(train) for _ in range(6)))
    torch.rand(7)  # whoever splits by the global generator gives another split now
    again = epoch(answer(images, labels, augment, batch_size, seed)[1])
    return {
        "samples that are in both halves": len(first.keys() & tested.keys()),
        "samples that never arrive": n - len(trained | tested.keys()),
        "share of the samples to train on": round(len(trained) / n, 1),
        "training images are augmented": all(value > 0 for value in first.values()),
        "test images are augmented": any(value > 0 for value in tested.values()),
        "two samples get the same noise": len(set(first.values())) < len(first),
        "a sample has the same noise in both epochs": any(
            first[i] == second[i] for i in first.keys() & second.keys()
        ),
        "the second epoch has the order of the first": list(first) == list(second),
        "the same seed gives the same test half": set(again) == set(tested),
    }


@chapter.exercise(
    cases=lambda: [
        Case("42 samples, batches of 4", 42, 4, 0),
        Case("100 samples, batches of 8", 100, 8, 3),
    ],
    observe=_over_two_epochs_each,
)
def make_loaders(images, labels, augment, batch_size=32, seed=0):
    class Images(Dataset):
        def __init__(self, images, labels, transform=None):
            self.images, self.labels, self.transform = images, labels, transform

        def __len__(self):
            return len(self.images)

        def __getitem__(self, i):
            image = self.images[i]
            if self.transform is not None:
                image = self.transform(image)
            return image, self.labels[i]

    generator = torch.Generator().manual_seed(seed)
    train, test = random_split(range(len(images)), [0.75, 0.25], generator=generator)
    augmented = Subset(Images(images, labels, augment), train.indices)
    plain = Subset(Images(images, labels), test.indices)

    train_loader = DataLoader(augmented, batch_size, shuffle=True, generator=generator)
    test_loader = DataLoader(plain, batch_size)
    return train_loader, test_loader


class _Images(Dataset):
    def __init__(self, images, labels, transform=None, before=lambda: None):
        self.images, self.labels, self.transform = images, labels, transform
        self.before = before

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = self.images[i]
        if self.transform is not None:
            self.before()
            image = self.transform(image)
        return image, self.labels[i]


def _loaders(images, labels, augment, batch_size, seed, left=(), **options):
    """Loaders in which the bugs named in ``left`` are left."""

    def reseed():
        if "reseeds" in left:
            torch.manual_seed(seed)

    generator = torch.Generator().manual_seed(seed)
    augmented = _Images(images, labels, augment, reseed)
    plain = augmented if "shares" in left else _Images(images, labels)
    train, test = random_split(range(len(images)), [0.75, 0.25], generator=generator)
    if "leaks" in left:
        _, test = random_split(range(len(images)), [0.75, 0.25], generator=generator)
    return (
        DataLoader(Subset(augmented, train.indices), batch_size, shuffle="ordered" not in left),
        DataLoader(Subset(plain, test.indices), batch_size, drop_last="drops" in left),
    )


def still_leaks(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, augment, batch_size, seed, left=["leaks", "drops"])


def only_leaks(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, augment, batch_size, seed, left=["leaks"])


def only_shares(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, augment, batch_size, seed, left=["shares"])


def only_reseeds(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, augment, batch_size, seed, left=["reseeds"])


def only_drops(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, augment, batch_size, seed, left=["drops"])


def augments_nothing(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, lambda image: image, batch_size, seed)


def forgets_to_shuffle(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, augment, batch_size, seed, left=["ordered"])


@functools.cache
def _digits():
    digits = data.digits()
    _trained_on([digits[:2]])  # the first step of a process loads much of torch
    return digits


def _programs():
    _digits()  # here, where no time limit holds
    return [
        Case("300 digits, 70 steps of 40", 300, 70, 40),
        Case("130 digits, 80 steps of 20", 130, 80, 20),
    ]


class _Counting(Dataset):
    """Digits that count how often each was asked for."""

    def __init__(self, n):
        digits = _digits()
        self.x, self.y = list(digits.x_train[:n]), digits.y_train[:n].tolist()
        self.test, self.times = digits[2:], [0] * n

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        self.times[i] += 1
        return self.x[i], self.y[i]


def _counting_samples(answer, n, steps, batch_size):
    dataset = _Counting(n)
    model, losses = answer(dataset, steps, batch_size)
    x, y = dataset.test
    with torch.no_grad():
        accuracy = (model.eval()(x).argmax(dim=1) == y).float().mean().item()
    times = dataset.times
    return {
        "steps taken": len(losses),
        "samples never seen": times.count(0),
        "each sample about as often as any other": max(times) - min(times) <= 1,
        "above 80 % on new digits": accuracy > 0.8,
    }


@chapter.exercise(
    cases=lambda: _programs(),
    observe=_counting_samples,
)
def train_steps(dataset, steps=200, batch_size=32):
    """Take `steps` steps on `dataset`; return the model and the loss of each step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loader = DataLoader(dataset, batch_size=batch_size)

    def batches():
        while True:
            yield from loader

    losses = []
    model.train()
    for _, (images, labels) in zip(range(steps), batches(), strict=False):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def _trained_on(batches):
    """The given program on other batches."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for images, labels in batches:
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def _for_ever(loader):
    while True:
        yield from loader


def shuffles_at_each_step(dataset, steps=200, batch_size=32):
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True)
    return _trained_on(next(iter(loader)) for _ in range(steps))


def one_epoch_only(dataset, steps=200, batch_size=32):
    return _trained_on(islice(DataLoader(dataset, batch_size=batch_size), steps))


def drops_the_same_ones(dataset, steps=200, batch_size=32):
    loader = DataLoader(dataset, batch_size=batch_size, drop_last=True)
    return _trained_on(islice(_for_ever(loader), steps))


def runs_out(dataset, steps=200, batch_size=32):
    iterator = iter(DataLoader(dataset, batch_size=batch_size))
    model, losses = nn.Linear(1, 1), []
    for _ in range(steps):
        losses.append(next(iterator))
    return model, losses
