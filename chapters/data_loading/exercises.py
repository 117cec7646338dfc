"""The exercises of chapter 04: which samples a model sees, in what order, made by whom."""

from __future__ import annotations

import random
from collections import Counter
from itertools import chain, count, islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.nn.utils.rnn import pad_sequence
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import (
    DataLoader,
    Dataset,
    Sampler,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)
from torch.utils.data._utils.worker import WorkerInfo

from helpers import data
from helpers.exercises import Case, Exercises
from helpers.exercises.trial import Shortfall, require

chapter = Exercises(__file__)
report = chapter.report


def _pair_of(value, what, names):
    """Both parts of a pair, or what is told where something else came."""
    if not issubclass(type(value), (tuple, list)) or len(value) != 2:
        raise Shortfall(f"{what} is no pair `({names})`.")
    return value


def _recordings(*lengths, dtype=torch.float32):
    # Not whole, so that no two readings are equal; 100 apart from one recording to the next.
    readings = [100.1 * day + 1.3 * torch.arange(length) for day, length in enumerate(lengths, 1)]
    return [one.to(dtype) for one in readings]


def _samples(dataset, recordings, width):
    """Windows and what follows them, read in a mixed order, as a loader does."""
    n = sum(max(0, len(recording) - width) for recording in recordings)
    windows, followings = [None] * n, [None] * n
    for i in torch.randperm(n).tolist():
        sample = _pair_of(dataset[i], f"Sample {i}", "window, following")
        windows[i], followings[i] = sample
    return windows, followings


def _numbers(tensors, what):
    return [require(one, Tensor, what).detach().clone().float() for one in tensors]


def _after_the_end(dataset, past):
    try:
        dataset[len(dataset) + past]
    except IndexError:
        return "IndexError"
    except Exception as error:
        return type(error).__name__
    return "no error"


def _all_windows(answer, recordings, width):
    dataset = answer(recordings, width)
    windows, followings = _samples(dataset, recordings, width)
    yield "windows", _numbers(windows, "a window")
    yield "following", _numbers(followings, "what follows a window")
    yield "length", len(dataset)
    yield "end", [_after_the_end(dataset, past) for past in (0, 1, 40)]


def _short_recordings(answer, recordings, width):
    dataset = answer(recordings, width)
    windows = []
    for i in range(sum(max(0, len(recording) - width) for recording in recordings)):
        try:
            window, _ = _pair_of(dataset[i], f"Sample {i}", "window, following")
        except IndexError:
            break
        windows.append(window)
    yield "short", [len(dataset), *_numbers(windows, "a window")]


@chapter.exercise(
    cases=lambda: [
        Case("one recording of 6 readings, width 2", _recordings(6), 2),
        Case("recordings of 5 and 4 readings, width 3", _recordings(5, 4), 3),
        Case("recordings of 4, 7 and 5 readings, width 1", _recordings(4, 7, 5), 1),
        Case("recordings of 9 and 6 readings, width 5", _recordings(9, 6), 5),
        Case("recordings in float64", _recordings(5, 8, dtype=torch.float64), 4),
        Case("recordings of whole numbers", _recordings(7, 4, dtype=torch.int64), 2),
        *(
            Case(
                f"recordings of {lengths} readings, width {width}",
                *(_recordings(*lengths), width),
                observe=_short_recordings,
            )
            for lengths, width in [((4, 2, 5), 2), ((7, 1, 8), 4), ((0, 3, 2, 8), 3)]
        ),
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


class counted_below_zero(Dataset):
    def __init__(self, recordings, width):
        self.recordings, self.width = recordings, width

    def __len__(self):
        return sum(len(recording) - self.width for recording in self.recordings)

    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError(i)
        for recording in self.recordings:
            if i < len(recording) - self.width:
                return recording[i : i + self.width], recording[i + self.width]
            i -= len(recording) - self.width


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
    """Samples whose codes and labels are drawn; 0 is among both."""
    return [(torch.randint(0, 4, (n,)), int(torch.randint(0, 3, ()))) for n in lengths]


def _padded(answer, samples):
    batch = require(answer(samples), dict, "the batch")
    missing = [key for key in ("codes", "lengths", "mask", "labels") if key not in batch]
    if missing:
        raise Shortfall(f"The batch has no key `{missing[0]!r}`.")
    yield "codes", batch["codes"]
    yield "lengths", batch["lengths"]
    yield "mask", batch["mask"]
    yield "labels", batch["labels"]


@chapter.exercise(
    cases=lambda: [
        Case("codes that hold 0", [(torch.tensor([0, 4, 0]), 1), (torch.tensor([5]), 0)]),
        *(
            Case(f"lengths {', '.join(map(str, lengths))}", _texts(*lengths))
            for lengths in [(3, 1, 2), (1, 2, 5), (4, 6, 2, 6, 1), (9, 3), (2, 5, 70)]
        ),
        Case("codes below 0", [(torch.tensor([-1, 5, -100]), 1), (torch.tensor([-1]), 2)]),
        Case(
            "the smallest and the largest codes",
            [(torch.tensor([2**63 - 1, -(2**63)]), 0), (torch.tensor([-(2**63), 1, -1]), 1)],
        ),
        Case("one sample", _texts(4)),
        Case("equal lengths", _texts(2, 2)),
        Case("a sample without codes: lengths 3, 0, 1", _texts(3, 0, 1)),
        Case("two samples without codes", _texts(0, 0)),
    ],
    observe=_padded,
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


def _augment(image):
    # Every pixel gets noise of its own, so that no two draws are equal by chance.
    return image + 1 + torch.rand(image.shape)


def _pictures(n):
    return torch.rand(n, 1, 2, 2), torch.arange(n)


def _read(loader):
    """The batches' sizes, and (label, image) of all that a loader gives in one epoch."""
    sizes, samples = [], []
    for images, labels in loader:
        sizes.append(len(labels))
        samples += [(int(label), image) for image, label in zip(images, labels, strict=True)]
    return sizes, samples


def _labels(samples):
    return [label for label, _ in samples]


def _kind_of_change(noises):
    """What ``augment`` did to the training images, by what it added."""
    if all(noise.min() > 0.99 and noise.max() < 2.01 for noise in noises):
        return "by augment"
    return "not at all" if all(noise.abs().max() < 1e-5 for noise in noises) else "otherwise"


def _kind_of_noise(noises):
    different = len({tuple(noise.flatten().round(decimals=4).tolist()) for noise in noises})
    if different == len(noises):
        return "new each time"
    return "always the same" if different == 1 else "sometimes the same"


def _both_halves(answer, n, batch_size, seed):
    images, labels = _pictures(n)

    shapes = set()

    def augment(image):
        shapes.add(tuple(image.shape))
        return _augment(image)

    def halves():
        loaders = answer(images.clone(), labels.clone(), augment, batch_size, seed)
        return _pair_of(loaders, "The result", "train_loader, test_loader")

    train, test = halves()
    epochs, tests = [_read(train) for _ in range(3)], [_read(test) for _ in range(2)]
    tested = _labels(tests[0][1])
    trained = set().union(*(_labels(samples) for _, samples in epochs))
    for _ in range(7):  # a training loader may drop its last batch, another one each time
        if len(trained | {*tested}) < n:
            trained |= {*_labels(_read(train)[1])}
    noises = [image - images[label] for _, samples in epochs for label, image in samples]

    yield "apart", sorted(trained & set(tested))
    yield "test", all(torch.equal(i, images[k]) for _, samples in tests for k, i in samples)
    yield "augmented", _kind_of_change(noises)
    yield "noise", _kind_of_noise(noises)
    yield "alone", shapes <= {tuple(images[0].shape)}
    yield "rest", [sorted({*range(n)} - trained - {*_labels(samples)}) for _, samples in tests]
    yield "share", abs(len(trained) - 0.75 * n) < 1
    yield "order", len({tuple(_labels(samples)) for _, samples in epochs}) == 3
    once = all(len(set(_labels(samples))) == len(samples) for _, samples in [*epochs, *tests])
    yield "once", once and all(len(trained) - len(s) < batch_size for _, s in epochs)
    yield (
        "batch",
        all({*sizes[:-1]} <= {batch_size} for sizes, _ in [*epochs, *tests])
        and all(0 < sizes[-1] <= batch_size for sizes, _ in [*epochs, *tests] if sizes),
    )
    torch.rand(7)  # so that a split by the global generator is another one now
    yield "split", set(_labels(_read(halves()[1])[1])) == set(tested)


def _defaults(answer, n):
    images, labels = _pictures(n)
    seeds = [(), (32, 0), (32, 1), (32, 2)]
    tests = [answer(images, labels, _augment, *seed)[1] for seed in seeds]
    tested = [set(_labels(_read(test)[1])) for test in tests]
    yield "seed", tested[1] not in tested[2:] and tested[2] != tested[3]
    train, test = answer(images, labels, _augment)
    largest = [max(_read(loader)[0], default=0) for loader in (train, test)]
    yield "defaults", largest == [32, 32] and tested[0] == tested[1]


@chapter.exercise(
    cases=lambda: [
        Case("42 samples, batches of 4", 42, 4, 0),
        Case("100 samples, batches of 8", 100, 8, 3),
        Case("60 samples, batches of 5", 60, 5, 1),
        Case("140 samples, other seeds and the defaults", 140, observe=_defaults),
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


def _infos(workers):
    return [WorkerInfo(id=i, num_workers=workers, seed=i, dataset=None) for i in range(workers)]


def _rows(n):
    return [{"row": i} for i in range(n)]


class _Stream:
    """An iterable that is no iterator and has no length."""

    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return iter(self.samples)


_KINDS = {"generator": lambda samples: (one for one in samples), "list": list, "stream": _Stream}


def _all_shares(answer, n, workers, kind):
    make = _KINDS[kind]
    given = Counter()
    sizes = []
    for info in _infos(workers):
        share = [sample["row"] for sample in answer(make(_rows(n)), info)]
        sizes.append(len(share))
        given.update(share)
    yield "never", [row for row in range(n) if row not in given]
    yield "once", [row for row in given if given[row] > 1]
    if n >= 100:
        yield "even", max(sizes) <= 1.5 * min(sizes)
    yield "main", [sample["row"] for sample in answer(make(_rows(n)), None)]


def _odd_samples(answer, *samples):
    given = [sample for info in _infos(2) for sample in answer(list(samples), info)]
    yield "kinds", sorted(map(repr, given))


def _read_ahead(answer, n, *infos):
    def ahead(info):
        """How far an answer had read when it gave a sample, at the worst."""
        read = []
        stream = (read.append(row) or {"row": row} for row in range(n))
        behind = [len(read) - 1 - sample["row"] for sample in answer(stream, info)]
        if behind and behind[0] > n // 2:
            return "all read before the first is given"
        return f"{max(behind, default=0)} later samples read"

    yield "ahead", [ahead(info) for info in infos]


def _endless(answer, workers):
    def first(info):
        stream = ({"row": row} for row in _limited(count()))
        return [sample["row"] for sample in islice(answer(stream, info), 600)]

    given = Counter(chain.from_iterable(map(first, _infos(workers))))
    yield "endless", all(given[row] == 1 for row in range(1_000))


def _limited(rows):
    for row in rows:
        if row > 50_000:
            raise Shortfall("Of a stream without an end, 50,000 samples were read for 600.")
        yield row


@chapter.exercise(
    cases=lambda: [
        *(
            Case(f"{n} samples, {workers} workers, from a {kind}", n, workers, kind)
            for n, workers, kind in [
                *[(10, 2, "generator"), (11, 3, "list"), (7, 1, "stream"), (1, 2, "generator")],
                *[(0, 3, "generator"), (4, 4, "list"), (3, 8, "stream"), (1_203, 5, "generator")],
                *[(301, 2, "stream"), (1_500, 4, "generator"), (200, 3, "list")],
            ]
        ),
        Case("samples that are None, 0, text, 0 again", None, 0, "", 0, observe=_odd_samples),
        Case("200 samples, 3 workers", 200, *_infos(3), observe=_read_ahead),
        Case("2,000 samples, 4 workers", 2_000, *_infos(4), observe=_read_ahead),
        Case("200 samples, in the main process", 200, None, observe=_read_ahead),
        Case("a stream without an end, 2 workers", 2, observe=_endless),
    ],
    observe=_all_shares,
)
def my_share(stream, info):
    if info is None:
        return stream
    return islice(stream, info.id, None, info.num_workers)


class _Steps:
    """What a model was trained on, step by step, seen by hooks that are torch's own."""

    def __init__(self, images, labels, most):
        self.labels, self.most = labels, most
        self.numbers = {image.numpy().tobytes(): i for i, image in enumerate(images)}
        self.batches, self.losses, self.slopes = [], [], []
        self._open, self._inside, self._silent = [], [], False

    def __enter__(self):
        self._hooks = [
            register_module_forward_pre_hook(self._before),
            register_module_forward_hook(self._after, always_call=True),
            register_optimizer_step_post_hook(self._stepped),
        ]
        return self

    def __exit__(self, *error):
        for hook in self._hooks:
            hook.remove()

    def _before(self, module, inputs):
        if self._silent:
            return
        if not self._inside and self._counts(inputs) and len(self.batches) < _LOOKED_AT:
            self._weights = {k: p.detach().clone() for k, p in module.named_parameters()}
        self._inside.append(module)

    def _after(self, module, inputs, output):
        if self._silent:
            return
        self._inside.pop()
        if not self._inside and self._counts(inputs):
            self._open.append((module, inputs[0].detach(), output))

    def _counts(self, inputs):
        # Losses are modules too; evaluation records no gradient.
        return torch.is_grad_enabled() and len(inputs) == 1 and inputs[0].shape[-2:] == (8, 8)

    def _stepped(self, optimizer, *arguments):
        numbers = [
            self.numbers.get(image.numpy().tobytes(), -1)
            for _, images, _ in self._open
            for image in images
        ]
        if len(self._open) == 1:
            ((model, images, output),) = self._open
            labels = self.labels[numbers]
            if len(output) == len(labels):
                self.losses.append(F.cross_entropy(output.detach(), labels).item())
                if len(self.batches) < _LOOKED_AT:
                    self.slopes.append(self._follows(model, images, labels))
        self.batches.append(numbers)
        self._open = []
        if len(self.batches) > self.most:
            raise Shortfall(f"It was stopped in step {len(self.batches)}.")

    def _follows(self, model, images, labels):
        """Whether the gradients are those of this batch alone."""
        weights = {k: p.requires_grad_() for k, p in self._weights.items()}
        self._silent = True
        try:
            output = torch.func.functional_call(model, weights, images)
        finally:
            self._silent = False
        wanted = torch.autograd.grad(F.cross_entropy(output, labels), list(weights.values()))
        got = [p.grad for p in model.parameters()]
        return all(
            one is not None and torch.allclose(one, other, rtol=1e-3, atol=1e-5)
            for one, other in zip(got, wanted, strict=True)
        )


_LOOKED_AT = 3


def _unseen_or_seen_too_often(batches, n):
    """What broke the promise of an epoch, or that nothing did."""
    times = torch.zeros(n, dtype=torch.int64)
    even = True
    for batch in batches:
        times += torch.bincount(torch.tensor(batch, dtype=torch.int64) + 1, minlength=n + 1)[1:]
        even &= int(times.max() - times.min()) <= 1
    if even:
        return "at most once more often"
    never = (times == 0).nonzero().flatten().tolist()
    return f"{int(times.min())} to {int(times.max())} times; never seen: {never or 'none'}"


def _of_right_size(batches, n, batch_size):
    taken = 0
    for batch in batches:
        taken += len(batch)
        if len(batch) != batch_size and not (0 < len(batch) < batch_size and taken % n == 0):
            return False
    return True


def _trained(answer, n, *arguments):
    digits = data.digits()
    images, labels = digits.x_train[:n], digits.y_train[:n]
    steps, batch_size = (*arguments, 200, 32)[:2] if len(arguments) != 1 else (*arguments, 32)
    with _Steps(images, labels, most=2 * steps + 60) as seen:
        result = answer(TensorDataset(images, labels), *arguments)
    model, losses = _pair_of(result, "The result", "model, losses")
    require(model, nn.Module, "the model")
    losses = [float(loss) for loss in require(losses, (list, tuple, Tensor), "the losses")]
    yield "steps", len(seen.batches)
    yield "once", _unseen_or_seen_too_often(seen.batches, n)
    yield "batch", _of_right_size(seen.batches, n, batch_size)
    yield "losses", len(losses)
    same = len(losses) == len(seen.losses) and np.allclose(losses, seen.losses, 1e-3, 1e-5)
    yield "loss", bool(same)
    yield "slope", len(seen.slopes) == min(_LOOKED_AT, steps) and all(seen.slopes)
    if steps >= 200:
        with torch.no_grad():
            right = model.eval()(digits.x_test).argmax(dim=1) == digits.y_test
        yield "learns", right.float().mean().item() > 0.8


def _training_runs():
    # The first optimizer of a process imports much of torch. No time limit runs here.
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    return [
        Case("130 digits, 20 steps of 20", 130, 20, 20),
        Case("50 digits, 31 steps of 8", 50, 31, 8),
        Case("40 digits, 10 steps of 20", 40, 10, 20),
        Case("200 digits, 3 steps of 16", 200, 3, 16),
        Case("30 digits, 5 steps of 20", 30, 5, 20),
        # Few epochs, because workers may be started for each.
        Case("500 digits, and nothing else said", 500),
    ]


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


def _lengths(n, largest=23):
    return torch.randint(1, largest, (n,)).tolist()


def _epoch(sampler):
    return [[int(i) for i in require(batch, (list, tuple), "a batch")] for batch in sampler]


def _neighbours(batches, lengths):
    """Whether no sample of another batch has a length between those of a batch."""
    drawn = sorted(sorted(lengths[i] for i in batch) for batch in batches if batch)
    return all(one[-1] <= other[0] for one, other in zip(drawn, drawn[1:], strict=False))


def _three_epochs(answer, lengths, batch_size):
    sampler = answer([*lengths], batch_size, torch.Generator().manual_seed(1))
    before = len(sampler)
    first = _epoch(sampler)
    next(iter(sampler), None)  # an epoch that is begun and left
    epochs = [first, _epoch(sampler), _epoch(sampler)]
    yield "all", [sorted(chain(*epoch)) for epoch in epochs]
    yield "full", [sorted(map(len, epoch), reverse=True) for epoch in epochs]
    in_range = [[[i for i in b if 0 <= i < len(lengths)] for b in epoch] for epoch in epochs]
    yield "neighbours", all(_neighbours(epoch, lengths) for epoch in in_range)
    yield "length", [before, len(sampler)]


def _by_rank(batches):
    """The order of an epoch's batches, each told by its smallest index."""
    smallest = [min(batch, default=-1) for batch in batches]
    return tuple(sorted(range(len(smallest)), key=smallest.__getitem__))


def _orders(answer, n, batch_size):
    sampler = answer([*range(1, n + 1)], batch_size, torch.Generator().manual_seed(2))
    epochs = [_epoch(sampler) for _ in range(150)]
    yield "anew", len({_by_rank(epoch) for epoch in epochs})


def _generators(answer, n, batch_size):
    def two_epochs(seed, used=0):
        generator = torch.Generator().manual_seed(seed)
        torch.rand(used, generator=generator)
        sampler = answer([*range(1, n + 1)], batch_size, generator)
        return [_epoch(sampler) for _ in range(2)]

    first = two_epochs(1)
    torch.rand(3), random.random(), np.random.rand()
    same = first == two_epochs(1)
    others = [two_epochs(2), two_epochs(3), two_epochs(1, used=64)]
    yield "generator", same and first not in others


@chapter.exercise(
    cases=lambda: [
        *(
            Case(f"{n} lengths, batches of {batch_size}", _lengths(n), batch_size)
            for n, batch_size in [(40, 4), (43, 5), (61, 1), (34, 8)]
        ),
        Case("60 lengths, many of them equal, batches of 7", _lengths(60, 5), 7),
        Case("30 lengths that come sorted, batches of 3", sorted(_lengths(30)), 3),
        Case("3 lengths, batches of 8", [5, 1, 3], 8),
        Case("one length, batches of 2", [4], 2),
        Case("150 epochs of 6 samples in batches of 2", 6, 2, observe=_orders),
        Case("150 epochs of 5 samples in batches of 2", 5, 2, observe=_orders),
        Case("two generators, 60 lengths, batches of 4", 60, 4, observe=_generators),
        Case("two generators, 58 lengths, batches of 4", 58, 4, observe=_generators),
        Case("90 lengths, batches of 4", _lengths(90), 4),
    ],
    observe=_three_epochs,
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
