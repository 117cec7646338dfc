"""The exercises of chapter 04: which samples a model sees, in what order, made by whom."""

from __future__ import annotations

import functools
import itertools
from bisect import bisect_right
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Sampler,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)

from helpers import data
from helpers.exercises.engine import Case, Exercise, Prediction

# A data set of one's own ------------------------------------------------------------------------

Windows = Exercise(
    "data_loading.Windows",
    title="A data set of windows",
    stars=2,
    minutes=10,
    ask="""
    A sensor was read in several sittings. `recordings` is a list of tensors `(length,)`, one for
    each. A model is to look at `width` readings and predict the next one.

    Write the data set `Windows(recordings, width)`. Sample `i` is a pair `(window, following)`:
    `width` readings in a row, and the reading after them, a tensor without dimensions. Windows come
    in order and overlap: each begins one reading after the last. No window reaches from one
    recording into the next. An index past the end raises `IndexError`.
    """,
    hints=(
        "How many windows does a recording of 5 readings give for `width=2`? Each window needs one "
        "reading after it.",
        "Turn the problem round: in `__init__`, make a list of all pairs (recording, first "
        "reading). Then `__len__` and `__getitem__` are one line each.",
        "`range(len(recording) - width)` is empty when the recording is too short.",
    ),
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
    takeaway="A map-style data set is a numbering: sample `i` is whatever `__getitem__` makes of "
    "`i`. Decide in `__init__` what the numbers mean, and the rest is short.",
)


def _readings(n):
    return torch.arange(float(n))


@Windows.observe
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


@Windows.starter
class Windows(Dataset):
    def __init__(self, recordings, width): ...

    def __len__(self): ...

    def __getitem__(self, i):
        """Returns `(window, following)`."""
        ...


@Windows.reference
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


@Windows.also_right
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


@Windows.also_right
class EachThenAll(ConcatDataset):
    def __init__(self, recordings, width):
        unfolded = (r.unfold(0, width + 1, 1) for r in recordings if len(r) > width)
        super().__init__([TensorDataset(rows[:, :-1], rows[:, -1]) for rows in unfolded])

    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError(i)
        return super().__getitem__(i)


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


@Windows.mistake(
    "Some of your windows reach from one recording into the next: half of one day's readings and "
    "half of another's. Number the windows of each recording on their own."
)
class AcrossTheSeam(_FromPairs):
    def __init__(self, recordings, width):
        super().__init__([torch.cat(recordings)], width)


@Windows.mistake(
    "The last window of a recording has no reading after it, so there is nothing to predict. A "
    "recording of `n` readings has `n - width` windows, not one more."
)
class OneTooMany(_FromPairs):
    def starts_in(self, length, width):
        return range(length - width + 1)


@Windows.mistake(
    "You leave out the last window of each recording: it ends one reading before the end, and that "
    "reading is what follows it."
)
class OneTooFew(_FromPairs):
    def starts_in(self, length, width):
        return range(length - width - 1)


@Windows.mistake(
    "Your windows lie side by side. They should overlap: each begins one reading after the last."
)
class SideBySide(_FromPairs):
    def starts_in(self, length, width):
        return range(0, length - width, width)


@Windows.mistake(
    "What you give as the following reading is the last one of the window. A model would learn to "
    "copy it, with a loss near zero and no use."
)
class PredictsWhatItSees(_FromPairs):
    def __getitem__(self, i):
        window, _ = super().__getitem__(i)
        return window, window[-1]


@Windows.mistake(
    "The samples are right, but a `for` loop over your data set does not stop at its end: Python "
    "asks for 0, 1, 2, … until `IndexError`. Raise it for an index past the end."
)
class NeverEnds(_FromPairs):
    def __getitem__(self, i):
        return super().__getitem__(i % len(self))


# Order ------------------------------------------------------------------------------------------

epochs = Prediction(
    "data_loading.epochs",
    title="What a seed fixes",
    stars=1,
    minutes=4,
    ask="""
    ```python
    def run():
        generator = torch.Generator().manual_seed(0)
        loader = DataLoader(range(10), batch_size=4, shuffle=True, generator=generator)
        return loader, [torch.cat(list(loader)).tolist() for epoch in range(2)]

    loader, (epoch_1, epoch_2) = run()
    ```

    Write `True` or `False` for the first three, a number for the last.
    """,
    blank="""{
    "epoch_1 == epoch_2": ...,
    "a second run() gives the same two epochs": ...,
    "next(iter(loader)) gives the same batch twice": ...,
    "len(loader)": ...,
}""",
    hints=(
        "A generator is a stream of numbers. Seeding sets where the stream begins; every epoch "
        "reads on from where the last one stopped.",
        "`iter(loader)` begins an epoch, also when only one batch of it is taken.",
    ),
    takeaway="A seed fixes the whole sequence of epochs, not one order for all of them. Every "
    "`iter(loader)` is a new epoch, and `len(loader)` counts batches.",
)


@epochs.reference
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


@epochs.mistake(
    "The generator is seeded once. The second epoch reads on where the first one stopped, so its "
    "order is another one. That is what you want: every epoch a new order, every run the same ones."
)
def a_seed_repeats_the_epoch():
    orders = [
        torch.randperm(10, generator=torch.Generator().manual_seed(0)).tolist() for _ in range(2)
    ]
    return {"epoch_1 == epoch_2": orders[0] == orders[1]}


@epochs.mistake(
    "Each run makes its own generator with the same seed, and the whole sequence of epochs follows "
    "from that: a second run repeats the first, epoch for epoch."
)
def a_run_is_never_repeated():
    orders = [torch.randperm(10).tolist() for _ in range(2)]
    return {"a second run() gives the same two epochs": orders[0] == orders[1]}


@epochs.mistake(
    "`next(iter(loader))` begins a new epoch at each call: with `shuffle=True` that is a new order "
    "and another first batch. (Without shuffling it is the same batch for ever.)"
)
def the_first_batch_stays():
    loader = DataLoader(range(10), batch_size=4)
    return {
        "next(iter(loader)) gives the same batch twice": (
            next(iter(loader)).tolist() == next(iter(loader)).tolist()
        )
    }


@epochs.mistake("`len(loader)` counts batches. The samples are `len(loader.dataset)`.")
def the_length_is_of_the_data():
    return {"len(loader)": len(range(10))}


@epochs.mistake(
    "Two batches are full; the third holds the two samples that are left. Only `drop_last=True` "
    "leaves it out."
)
def only_full_batches_count():
    return {"len(loader)": len(DataLoader(range(10), batch_size=4, drop_last=True))}


# Batching ---------------------------------------------------------------------------------------

collated = Prediction(
    "data_loading.collated",
    title="What a batch is made of",
    stars=1,
    minutes=4,
    ask="""
    ```python
    samples = [
        {"image": torch.zeros(1, 8, 8), "score": 0.5, "pair": (3, "three")},
        {"image": torch.ones(1, 8, 8), "score": 1.5, "pair": (7, "seven")},
    ]
    batch = default_collate(samples)
    ```

    Write shapes as tuples, dtypes and types as text, such as `"torch.float16"` and `"set"`.
    """,
    blank='{"type(batch)": ..., "image shape": ..., "score dtype": ..., "type of pair": ...}',
    hints=(
        "A new first dimension is made; what is already there stays as it is.",
        "A Python float has 64 bits, and `torch.tensor` is not what makes the batch.",
        "The pairs are turned round: first all first members, then all second members. What holds "
        "the two results is not what held the pair.",
    ),
    takeaway="Structure is kept, leaves are stacked, with two surprises: a tuple comes back as a "
    "list, and a Python float as float64, which no float32 layer takes.",
)


@collated.reference
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


@collated.mistake(
    "It is not a list of the samples: a batch of dicts is one dict, with a batch under each key."
)
def a_list_of_samples():
    return {"type(batch)": "list"}


@collated.mistake(
    "Images are stacked along a *new* first dimension, not joined along the one they have: "
    "`(1, 8, 8)` each, `(2, 1, 8, 8)` together."
)
def joined_along_the_channel():
    return {"image shape": tuple(torch.cat([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)]).shape)}


@collated.mistake(
    "`torch.tensor(0.5)` is float32, and here it differs: Python floats are collated with "
    "`dtype=torch.float64`. Give tensors from `__getitem__` when you want float32."
)
def floats_are_single():
    return {"score dtype": str(torch.tensor([0.5, 1.5]).dtype)}


@collated.mistake(
    "Tuples come back as lists, for the sake of old code. Dicts and namedtuples keep their type."
)
def tuples_stay_tuples():
    return {"type of pair": type((3, "three")).__name__}


pad = Exercise(
    "data_loading.pad",
    title="Pad, and remember what is padding",
    stars=2,
    minutes=10,
    ask="""
    Write the `collate_fn` for samples `(codes, label)`, where `codes` is an int64 tensor
    `(length,)` of any length and `label` an int. `pad(samples)` returns a dict:

    - `"codes"`: `(batch, longest)`, shorter ones filled up with 0 at the end;
    - `"lengths"`: int64 `(batch,)`, how long each one was;
    - `"mask"`: bool `(batch, longest)`, true where there is a real code;
    - `"labels"`: int64 `(batch,)`.

    Samples keep their order. In this data set 0 is a code like any other.
    """,
    hints=(
        "`zip(*samples)` turns a list of pairs into all codes and all labels.",
        "`pad_sequence(list_of_tensors, batch_first=True)` fills up with zeros.",
        "For the mask, compare positions with lengths: `torch.arange(longest)` is a row, "
        "`lengths[:, None]` a column.",
    ),
    cases=lambda: [
        Case("lengths 3, 1, 2", _texts(3, 1, 2)),
        Case("codes that hold 0", [(torch.tensor([0, 4, 0]), 1), (torch.tensor([5]), 0)]),
        Case("one sample", _texts(4)),
        Case("equal lengths", _texts(2, 2)),
        Case("rising lengths", _texts(1, 2, 5)),
    ],
    takeaway="The mask comes from the lengths, never from the values. Whatever averages, attends "
    "or counts over the padded dimension needs one of the two.",
)


def _texts(*lengths):
    return [(torch.arange(1, n + 1) * 10 + i, i % 3) for i, n in enumerate(lengths)]


@pad.starter
def pad(samples):
    """Returns a dict with `codes`, `lengths`, `mask` and `labels`."""
    ...


@pad.reference
def pad(samples):
    codes, labels = zip(*samples, strict=True)
    lengths = torch.tensor([len(c) for c in codes])
    return {
        "codes": pad_sequence(codes, batch_first=True),
        "lengths": lengths,
        "mask": torch.arange(lengths.max()) < lengths[:, None],
        "labels": torch.tensor(labels),
    }


@pad.also_right
def by_writing_into_zeros(samples):
    longest = max(len(codes) for codes, _ in samples)
    filled = torch.zeros(len(samples), longest, dtype=torch.int64)
    mask = torch.zeros(len(samples), longest, dtype=torch.bool)
    for row, (codes, _) in enumerate(samples):
        filled[row, : len(codes)] = codes
        mask[row, : len(codes)] = True
    labels = torch.tensor([label for _, label in samples])
    return {"codes": filled, "lengths": mask.sum(dim=1), "mask": mask, "labels": labels}


def _padded(samples):
    return by_writing_into_zeros(samples)


@pad.mistake(
    "Your mask asks which codes are not 0. Here 0 is a code like any other, so a real one is taken "
    "for padding. Compare positions with lengths."
)
def mask_from_the_values(samples):
    batch = _padded(samples)
    return batch | {"mask": batch["codes"] != 0}


@pad.mistake(
    "Your mask is the wrong way round: it should be true where there is a real code. (Beware: "
    "`nn.MultiheadAttention` wants the opposite, true at the padding.)"
)
def mask_of_the_padding(samples):
    batch = _padded(samples)
    return batch | {"mask": ~batch["mask"]}


@pad.mistake(
    "Your codes are `(longest, batch)`: that is `pad_sequence` without `batch_first=True`."
)
def time_first(samples):
    batch = _padded(samples)
    return batch | {"codes": batch["codes"].T.contiguous()}


@pad.mistake(
    "Your lengths are those after padding, all the same. Take them from the samples as they came."
)
def lengths_after_padding(samples):
    batch = _padded(samples)
    return batch | {"lengths": torch.full_like(batch["lengths"], batch["codes"].shape[1])}


@pad.mistake(
    "You return the labels as a list or tuple of ints. A loss wants an int64 tensor: "
    "`torch.tensor(labels)`."
)
def labels_left_alone(samples):
    return _padded(samples) | {"labels": tuple(label for _, label in samples)}


@pad.mistake("Your mask holds numbers. A mask that is to select is of dtype `torch.bool`.")
def mask_of_numbers(samples):
    batch = _padded(samples)
    return batch | {"mask": batch["mask"].long()}


@pad.mistake(
    "You put the samples in order of length. Their order is the caller's: whoever looks up sample "
    "`i` of this batch would get another. (Packing them needs no sorting any more.)"
)
def sorted_by_length(samples):
    return _padded(sorted(samples, key=lambda sample: -len(sample[0])))


LengthBatches = Exercise(
    "data_loading.LengthBatches",
    title="Batches of equal length, in a new order each epoch",
    stars=3,
    minutes=15,
    ask="""
    Write a batch sampler `LengthBatches(lengths, batch_size, generator)`. Iterating over it gives
    lists of indices:

    - each index once an epoch, in full batches but for at most one;
    - samples of one batch are neighbours in length, so that next to nothing is padded;
    - the order of the batches is drawn from `generator`, anew in each epoch;
    - `len()` is the number of batches.
    """,
    hints=(
        "First all indices in order of their length, then cut into pieces, then the pieces in a "
        "random order.",
        "`sorted(range(n), key=lambda i: lengths[i])` or `torch.tensor(lengths).argsort()`.",
        "Draw the order with `torch.randperm(len(pieces), generator=self.generator)` in "
        "`__iter__`, not in `__init__`.",
    ),
    cases=lambda: [
        Case("40 lengths, batches of 4", _lengths(40), 4),
        Case("43 lengths, batches of 5", _lengths(43), 5),
        Case("30 lengths that come sorted, batches of 3", sorted(_lengths(30)), 3),
    ],
    takeaway="A batch sampler decides everything about order and grouping, and knows nothing about "
    "the samples but what you give it. Sort, cut, shuffle the pieces.",
)


def _lengths(n):
    return [1 + (i * 37) % 23 for i in range(n)]


def _padding(batches, lengths):
    return sum(max(lengths[i] for i in batch) * len(batch) for batch in batches) - sum(lengths)


@LengthBatches.observe
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


@LengthBatches.starter
class LengthBatches(Sampler):
    def __init__(self, lengths, batch_size, generator): ...

    def __len__(self): ...

    def __iter__(self):
        """Yields lists of indices."""
        ...


@LengthBatches.reference
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


@LengthBatches.also_right
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


@LengthBatches.mistake(
    "The padding is small, and the order is the same in every epoch, short texts first: the model "
    "ends each epoch on long ones only. Shuffle the batches in `__iter__`."
)
class AlwaysShortToLong(_Attempt):
    def shuffled(self, things):
        return things


@LengthBatches.mistake(
    "Your batches come in one random order and repeat it in every epoch. Draw in `__iter__`, which "
    "is called for each epoch, from a generator that goes on: neither once in `__init__`, nor "
    "seeded anew each time."
)
class ShuffledOnce(_Attempt):
    def __init__(self, lengths, batch_size, generator):
        super().__init__(lengths, batch_size, generator)
        self.kept = super().shuffled(self.batches())

    def shuffled(self, things):
        return self.kept


@LengthBatches.mistake(
    "You shuffle the *indices*, so long and short samples meet in one batch and most of it is "
    "padding. Sort first, cut into batches, then shuffle the batches."
)
class ShuffledBeforeCutting(_Attempt):
    def order(self):
        return self.shuffled(list(range(len(self.lengths))))


@LengthBatches.mistake(
    "You drop the samples of the last batch when it is not full. They are the longest ones, in "
    "every epoch, and no epoch would ever show them."
)
class LosesTheRest(_Attempt):
    def batches(self):
        return [batch for batch in super().batches() if len(batch) == self.batch_size]


@LengthBatches.mistake(
    "The order does not come from `generator`: the same generator gives another epoch. Pass "
    "`generator=self.generator` to `torch.randperm`."
)
class IgnoresTheGenerator(_Attempt):
    def shuffled(self, things):
        return [things[i] for i in torch.randperm(len(things)).tolist()]


@LengthBatches.mistake("`len()` of a batch sampler counts batches; yours counts samples.")
class CountsSamples(_Attempt):
    def __len__(self):
        return len(self.lengths)


# Streams ----------------------------------------------------------------------------------------

my_share = Exercise(
    "data_loading.my_share",
    title="A worker's share of a stream",
    stars=2,
    minutes=8,
    ask="""
    Every worker holds a copy of the stream and would read all of it. Write
    `my_share(stream, info)`: from the iterable `stream`, the samples that *this* worker gives.
    `info` is what `get_worker_info()` returns: an object with `id` (0, 1, …) and `num_workers`, or
    `None` in the main process, which gives everything.

    All workers together must give each sample once. The stream may be too long for memory, its
    length is unknown, and `my_share` must not read further ahead than it needs.
    """,
    hints=(
        "Deal the samples like cards: the first to worker 0, the second to worker 1, and round "
        "again.",
        "Sample number `i` belongs to worker `i % info.num_workers`. `enumerate` gives the number.",
        "`itertools.islice(stream, start, None, step)` does the same in one line.",
    ),
    cases=lambda: [
        Case("10 samples, 2 workers", 10, 2),
        Case("11 samples, 3 workers", 11, 3),
        Case("7 samples, 1 worker", 7, 1),
        Case("1 sample, 2 workers", 1, 2),
        Case("100,000 samples, 2 workers", 100_000, 2),
    ],
    takeaway="Each worker reads the whole stream and keeps every `num_workers`-th sample. That "
    "shares the work on samples, not the reading; to share that too, deal out files.",
)


@my_share.observe
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


@my_share.starter
def my_share(stream, info):
    """An iterable of this worker's samples."""
    ...


@my_share.reference
def my_share(stream, info):
    if info is None:
        return stream
    return islice(stream, info.id, None, info.num_workers)


@my_share.also_right
def by_counting(stream, info):
    for i, sample in enumerate(stream):
        if info is None or i % info.num_workers == info.id:
            yield sample


@my_share.mistake(
    "Every worker gives the whole stream: each sample comes `num_workers` times, and an epoch is "
    "`num_workers` epochs. Look at `info.id`."
)
def everything(stream, info):
    return iter(stream)


@my_share.mistake(
    "In the main process `info` is `None`, which has no `id`. Give the whole stream there."
)
def without_the_main_process(stream, info):
    return islice(stream, info.id, None, info.num_workers)


@my_share.mistake(
    "You read the whole stream into a list before you give the first sample. It may not fit into "
    "memory, and with a live stream the first sample would never come. Read on demand: "
    "`enumerate` or `islice`."
)
def all_at_once(stream, info):
    samples = list(stream)
    return iter(samples if info is None else samples[info.id :: info.num_workers])


@my_share.mistake(
    "You cut the stream into blocks of equal size, rounded down, so the rest of the division is "
    "given by nobody, and for the size you read it all. Deal samples out one by one."
)
def blocks(stream, info):
    samples = list(stream)
    if info is None:
        return iter(samples)
    size = len(samples) // info.num_workers
    return iter(samples[info.id * size : (info.id + 1) * size])


@my_share.mistake(
    "Workers are counted from 0: yours skip the first sample, or lose one each round."
)
def counted_from_one(stream, info):
    if info is None:
        return stream
    return islice(stream, info.id + 1, None, info.num_workers)


# Bug hunts --------------------------------------------------------------------------------------

make_loaders = Exercise(
    "data_loading.make_loaders",
    title="Bug hunt: two loaders, four bugs",
    stars=3,
    minutes=15,
    ask="""
    This function should give a loader for training (three quarters of the samples, augmented, in a
    new order each epoch) and one for testing (the rest, every sample of it, as it is). `augment`
    takes an image and returns it changed at random. It raises nothing, and the test accuracy it
    leads to is worth nothing.

    Four things are wrong. Mend them. The same `seed` must go on giving the same split.
    """,
    start="This is still the function as it was given. Read it with four questions. Can a sample "
    "be in both halves? Which images are augmented? How, in the second epoch? Does every test "
    "sample arrive?",
    hints=(
        "Give every sample a number for a label and compare what the two loaders give.",
        "`random_split` gives two views of *one* data set: what you set on it is seen by both.",
        "A generator that is seeded before each draw gives one number.",
        "Make two data sets of the same tensors, one with the transform and one without, and take "
        "a `Subset` of each, with the indices of one single split.",
    ),
    cases=lambda: [
        Case("42 samples, batches of 4", 42, 4, 0),
        Case("100 samples, batches of 8", 100, 8, 3),
    ],
    takeaway="One split, made once. One data set for each transform. No seeding where samples are "
    "made. No `drop_last` where you count.",
)


@make_loaders.observe
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


@make_loaders.starter
def make_loaders(images, labels, augment, batch_size=32, seed=0):
    class Images(Dataset):
        def __init__(self, images, labels, transform=None):
            self.images, self.labels, self.transform = images, labels, transform

        def __len__(self):
            return len(self.images)

        def __getitem__(self, i):
            image = self.images[i]
            if self.transform is not None:
                torch.manual_seed(seed)  # reproducible
                image = self.transform(image)
            return image, self.labels[i]

    generator = torch.Generator().manual_seed(seed)
    dataset = Images(images, labels)
    train, _ = random_split(dataset, [0.75, 0.25], generator=generator)
    _, test = random_split(dataset, [0.75, 0.25], generator=generator)
    train.dataset.transform = augment

    train_loader = DataLoader(train, batch_size, shuffle=True, drop_last=True, generator=generator)
    test_loader = DataLoader(test, batch_size, drop_last=True)
    return train_loader, test_loader


@make_loaders.reference
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


@make_loaders.also_right
def by_a_permutation_and_collate(images, labels, augment, batch_size=32, seed=0):
    def augmented(samples):
        return default_collate([(augment(image), label) for image, label in samples])

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    train, test = order[: round(0.75 * len(order))], order[round(0.75 * len(order)) :]
    both = TensorDataset(images, labels)
    loader = DataLoader(Subset(both, train), batch_size, shuffle=True, collate_fn=augmented)
    return loader, DataLoader(Subset(both, test), batch_size)


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


@make_loaders.mistake(
    "The halves still overlap: the data are split twice, and the second split draws another "
    "permutation. Split once and keep both parts."
)
def still_leaks(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, augment, batch_size, seed, left=["leaks", "drops"])


@make_loaders.mistake(
    "One thing is left: the halves overlap. The data are split twice, and each split draws its own "
    "permutation."
)
def only_leaks(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, augment, batch_size, seed, left=["leaks"])


@make_loaders.mistake(
    "One thing is left: the test images are augmented. Both halves are views of one data set, and "
    "a data set has one `transform`. Make two data sets."
)
def only_shares(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, augment, batch_size, seed, left=["shares"])


@make_loaders.mistake(
    "One thing is left: every sample gets the same noise, in every epoch. Seeding inside "
    "`__getitem__` restarts the generator for each sample. Seed once, where the program begins."
)
def only_reseeds(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, augment, batch_size, seed, left=["reseeds"])


@make_loaders.mistake(
    "One thing is left: the last test samples never arrive. `drop_last=True` is for training; in a "
    "test loader it leaves samples out of the count."
)
def only_drops(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, augment, batch_size, seed, left=["drops"])


@make_loaders.mistake(
    "Nothing is augmented any more. The test images were to stay as they are; the training images "
    "still need `augment`."
)
def augments_nothing(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, lambda image: image, batch_size, seed)


@make_loaders.mistake(
    "The training order is the same in every epoch: `shuffle=True` went missing in the repair."
)
def forgets_to_shuffle(images, labels, augment, batch_size=32, seed=0):
    return _loaders(images, labels, augment, batch_size, seed, left=["ordered"])


train_steps = Exercise(
    "data_loading.train_steps",
    title="Bug hunt: the loss falls to nothing",
    stars=2,
    minutes=8,
    ask="""
    A colleague counts steps, not epochs. After a hundred steps the loss is as good as zero, and on
    new digits the model is poor. Nothing is raised. The samples of `dataset` are already in random
    order, so the colleague saw no need to shuffle.

    Mend the function. It must still take exactly `steps` steps with batches of `batch_size` (the
    last of an epoch may be smaller), and no sample may be seen more than once more often than
    another.
    """,
    start="This is still the function as it was given. Which samples are in the batch of step 2? "
    "Count how many different ones the model ever sees.",
    hints=(
        "Put a `print(labels[:5])` into the loop.",
        "`iter(loader)` begins a new epoch. Where in this program does an epoch end?",
        "Make the iterator before the loop, and a new one when it is used up; or write a generator "
        "that goes over the loader for ever: `while True: yield from loader`.",
    ),
    help=(
        (
            "<code>StopIteration</code>",
            "The iterator is used up after one epoch: begin another.",
        ),
    ),
    cases=lambda: _programs(),
    takeaway="`next(iter(loader))` is the first batch of a new epoch, each time. A training loss "
    "that falls too well is a reason to count the samples that were seen.",
)


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


@train_steps.observe
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


@train_steps.starter
def train_steps(dataset, steps=200, batch_size=32):
    """Take `steps` steps on `dataset`; return the model and the loss of each step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loader = DataLoader(dataset, batch_size=batch_size)

    losses = []
    model.train()
    for _ in range(steps):
        images, labels = next(iter(loader))
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@train_steps.reference
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


@train_steps.also_right
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


@train_steps.mistake(
    "The model learns, and it sees some samples often, others hardly or never. Nothing may be "
    "drawn anew before every sample was there once: that is what an epoch promises. "
    "`next(iter(loader))` draws at each step; replacement and `drop_last` break the promise, too."
)
def shuffles_at_each_step(dataset, steps=200, batch_size=32):
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True)
    return _trained_on(next(iter(loader)) for _ in range(steps))


@train_steps.mistake(
    "Your training stops at the end of the first epoch. The iterator is used up there: begin "
    "another until `steps` steps are taken."
)
def one_epoch_only(dataset, steps=200, batch_size=32):
    return _trained_on(islice(DataLoader(dataset, batch_size=batch_size), steps))


@train_steps.mistake(
    "The last samples are never seen: `drop_last=True` without shuffling drops the same ones in "
    "every epoch."
)
def drops_the_same_ones(dataset, steps=200, batch_size=32):
    loader = DataLoader(dataset, batch_size=batch_size, drop_last=True)
    return _trained_on(islice(_for_ever(loader), steps))


@train_steps.mistake(
    "`next` on an iterator that is used up raises `StopIteration`. Make a new iterator there; that "
    "is the beginning of the next epoch."
)
def runs_out(dataset, steps=200, batch_size=32):
    iterator = iter(DataLoader(dataset, batch_size=batch_size))
    model, losses = nn.Linear(1, 1), []
    for _ in range(steps):
        losses.append(next(iterator))
    return model, losses
