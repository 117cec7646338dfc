"""The exercises of chapter 04: which samples a model sees, in what order, made by whom."""

from __future__ import annotations

from collections import Counter
from itertools import chain, islice
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


def _recordings(*lengths):
    return [100 * day + torch.arange(float(length)) for day, length in enumerate(lengths)]


def _all_windows(answer, recordings, width):
    dataset = answer(recordings, width)
    n = len(dataset)
    samples = [dataset[i] for i in range(n)]
    loader = DataLoader(dataset, batch_size=max(n, 1))
    return {
        "len(dataset)": n,
        "windows": [window.tolist() for window, _ in samples],
        "what follows": [torch.as_tensor(following) for _, following in samples],
        "samples in `for sample in dataset`": sum(1 for _ in islice(dataset, n + 3)),
        "shapes in one batch of all": [tuple(part.shape) for part in next(iter(loader))],
    }


@chapter.exercise(
    cases=lambda: [
        Case("one recording of 6 readings, width 2", _recordings(6), 2),
        Case("recordings of 5 and 4 readings, width 3", _recordings(5, 4), 3),
        Case("recordings of 4, 2 and 5 readings, width 2", _recordings(4, 2, 5), 2),
        Case("recordings of 6, 1 and 7 readings, width 4", _recordings(6, 1, 7), 4),
    ],
    observe=_all_windows,
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


def _lengths(n):
    return [1 + (i * 37) % 23 for i in range(n)]


def _padding(batches):
    """The places that stay empty when each batch of lengths is padded to its longest."""
    return sum(len(batch) * max(batch) - sum(batch) for batch in batches)


def _epoch(sampler):
    return [[int(i) for i in batch] for batch in sampler]


def _two_epochs(answer, lengths, batch_size):
    def make():
        return answer(lengths, batch_size, torch.Generator().manual_seed(1))

    sampler = make()
    first, second = _epoch(sampler), _epoch(sampler)
    drawn = [[lengths[i] for i in batch] for batch in first]
    ordered = sorted(lengths)
    best = [ordered[s : s + batch_size] for s in range(0, len(lengths), batch_size)]
    longest = [max(batch) for batch in drawn]
    return {
        "each index once": sorted(chain(*first)) == list(range(len(lengths))),
        "batches that are not full": sum(len(batch) != batch_size for batch in first),
        "len(sampler)": len(sampler),
        "little padding": _padding(drawn) <= 1.5 * _padding(best) + batch_size,
        "two epochs in the same order": first == second,
        "the same generator gives the same epoch": first == _epoch(make()),
        "an epoch goes from short to long": longest == sorted(longest),
        "works as batch_sampler": len(list(DataLoader(lengths, batch_sampler=make()))),
    }


@chapter.exercise(
    cases=lambda: [
        Case("40 lengths, batches of 4", _lengths(40), 4),
        Case("43 lengths, batches of 5", _lengths(43), 5),
        Case("30 lengths that come sorted, batches of 3", sorted(_lengths(30)), 3),
    ],
    observe=_two_epochs,
)
class LengthBatches(Sampler):
    def __init__(self, lengths, batch_size, generator):
        by_length = sorted(range(len(lengths)), key=lambda i: lengths[i])
        self.batches = [by_length[s : s + batch_size] for s in range(0, len(lengths), batch_size)]
        self.generator = generator

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        order = torch.randperm(len(self.batches), generator=self.generator).tolist()
        for place in order:
            yield self.batches[place]


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


def _both_halves(answer, n, batch_size, seed):
    images, labels = torch.zeros(n, 1, 2, 2), torch.arange(n)

    def augment(image):
        return image + 1 + torch.rand(())

    def epoch(loader):
        x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
        return {int(label): float(image.mean()) for image, label in zip(x, y, strict=True)}

    train, test = answer(images, labels, augment, batch_size, seed)
    first, second, tested = epoch(train), epoch(train), epoch(test)
    # A training loader may drop its last batch: over several epochs every sample arrives.
    trained = set().union(first, second, *(epoch(train) for _ in range(6)))
    torch.rand(7)  # so that a split by the global generator is another one now
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
    observe=_both_halves,
    seconds=30,
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


def _all_shares(answer, n, workers):
    infos = [SimpleNamespace(id=i, num_workers=workers) for i in range(workers)]
    shares = [list(answer(iter(range(n)), info)) for info in infos]
    times = Counter(chain(*shares))
    read = []
    stream = (read.append(i) or i for i in range(n))
    next(iter(answer(stream, infos[0])), None)
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
    observe=_all_shares,
)
def my_share(stream, info):
    if info is None:
        return stream
    return islice(stream, info.id, None, info.num_workers)


class _CountedDigits(Dataset):
    """The first ``n`` digits to train on; ``times`` counts how often each was asked for."""

    def __init__(self, n):
        digits = data.digits()
        self.samples = list(zip(digits.x_train[:n], digits.y_train[:n].tolist(), strict=True))
        self.times = [0] * n

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        self.times[i] += 1
        return self.samples[i]


def _training_runs():
    # The first optimizer of a process imports much of torch. No time limit runs here.
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    return [
        Case("300 digits, 70 steps of 40", 300, 70, 40),
        Case("130 digits, 80 steps of 20", 130, 80, 20),
    ]


def _trained(answer, n, steps, batch_size):
    dataset = _CountedDigits(n)
    model, losses = answer(dataset, steps, batch_size)
    x, y = data.digits()[2:]
    with torch.no_grad():
        accuracy = (model.eval()(x).argmax(dim=1) == y).float().mean().item()
    return {
        "steps taken": len(losses),
        "samples never seen": dataset.times.count(0),
        "each sample about as often as any other": max(dataset.times) - min(dataset.times) <= 1,
        "above 80 % on new digits": accuracy > 0.8,
    }


@chapter.exercise(cases=_training_runs, observe=_trained, seconds=30)
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
    for images, labels in islice(batches(), steps):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses
