"""Second right answers to the exercises of chapter 04, and the loader that it writes."""

from __future__ import annotations

import itertools
from bisect import bisect_right

import pytest
import torch
from torch import nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    TensorDataset,
    default_collate,
)

from chapters.data_loading import exercises as ex
from tests.notebooks import definitions


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
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
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


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.Windows, WindowsByCounts),
        (ex.Windows, UnfoldedWindows),
        (ex.LengthBatches, LongestFirst),
        (ex.pad, written_into_zeros),
        (ex.make_loaders, augmented_in_collate_fn),
        (ex.my_share, share_by_counting),
        (ex.train_steps, steps_with_a_new_iterator),
    ],
)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("own_generator", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 13, 20])
def test_the_chapters_loader_gives_torchs_batches(batch_size, own_generator, shuffle, drop_last):
    def epochs(kind):
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(5) if own_generator else None
        loader = kind(range(13), batch_size, shuffle, drop_last=drop_last, generator=generator)
        seen = [[batch.tolist() for batch in loader] for _ in range(3)]
        return seen, torch.rand(1), generator and generator.get_state()

    ours, theirs = epochs(definitions.load("04_data_loading", "Loader")), epochs(DataLoader)
    assert ours[0] == theirs[0] and torch.equal(ours[1], theirs[1])
    assert not own_generator or torch.equal(ours[2], theirs[2])
