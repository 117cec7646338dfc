"""Second right answers to the exercises of data_loading."""

import pytest

from chapters.data_loading import exercises as ex


# Windows
class ByCumulativeCounts(Dataset):
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


# Windows
class EachThenAll(ConcatDataset):
    def __init__(self, recordings, width):
        unfolded = (r.unfold(0, width + 1, 1) for r in recordings if len(r) > width)
        super().__init__([TensorDataset(rows[:, :-1], rows[:, -1]) for rows in unfolded])

    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError(i)
        return super().__getitem__(i)


# pad
def by_writing_into_zeros(samples):
    longest = max(len(codes) for codes, _ in samples)
    filled = torch.zeros(len(samples), longest, dtype=torch.int64)
    mask = torch.zeros(len(samples), longest, dtype=torch.bool)
    for row, (codes, _) in enumerate(samples):
        filled[row, : len(codes)] = codes
        mask[row, : len(codes)] = True
    labels = torch.tensor([label for _, label in samples])
    return {"codes": filled, "lengths": mask.sum(dim=1), "mask": mask, "labels": labels}


# LengthBatches
class SplitTensors:
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


# my_share
def by_counting(stream, info):
    for i, sample in enumerate(stream):
        if info is None or i % info.num_workers == info.id:
            yield sample


# make_loaders
def by_a_permutation_and_collate(images, labels, augment, batch_size=32, seed=0):
    def augmented(samples):
        return default_collate([(augment(image), label) for image, label in samples])

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    train, test = order[: round(0.75 * len(order))], order[round(0.75 * len(order)) :]
    both = TensorDataset(images, labels)
    loader = DataLoader(Subset(both, train), batch_size, shuffle=True, collate_fn=augmented)
    return loader, DataLoader(Subset(both, test), batch_size)


# train_steps
def with_a_new_iterator(dataset, steps=200, batch_size=32):
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True)

    def batches():
        iterator = iter(loader)
        for _ in range(steps):
            try:
                batch = next(iterator)
            except StopIteration:
                iterator = iter(loader)
                batch = next(iterator)
            yield batch

    return _trained_on(batches())


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.Windows, ByCumulativeCounts),
        (ex.Windows, EachThenAll),
        (ex.pad, by_writing_into_zeros),
        (ex.LengthBatches, SplitTensors),
        (ex.my_share, by_counting),
        (ex.make_loaders, by_a_permutation_and_collate),
        (ex.train_steps, with_a_new_iterator),
    ],
)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card
