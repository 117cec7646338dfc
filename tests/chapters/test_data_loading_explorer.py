"""What the picture of workers and batches shows is what a DataLoader does."""

import matplotlib.pyplot as plt
import pytest
import torch
from torch.utils.data import DataLoader

from chapters.data_loading import datasets
from chapters.data_loading.explorer import SOURCES, TWICE, draw, plan
from helpers import loading


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def by_torch(dataset, batch_size, drop_last, **options):
    loader = DataLoader(dataset, batch_size, drop_last=drop_last, **options)
    return [(max(b["worker"][0].item(), 0), b["sample"].tolist()) for b in loader]


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("samples", [8, 9])
def test_a_data_sets_batches_go_to_the_workers_in_turn(samples, drop_last, workers):
    dataset = datasets.Draws(samples)
    expected = by_torch(dataset, 2, drop_last, **loading.workers(dataset, workers))
    assert plan(samples, 2, workers, "data set", False, drop_last) == expected


@pytest.mark.parametrize("source", ["stream", "sharded stream"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("samples", [7, 12])
def test_each_worker_batches_the_stream_it_reads(samples, drop_last, workers, source):
    dataset = datasets.Rows(samples) if source == "stream" else datasets.ShardedRows(samples)
    numbers = {image.numpy().tobytes(): i for i, (image, _) in enumerate(datasets.Rows(samples))}
    assert len(numbers) == samples
    loader = DataLoader(dataset, 3, drop_last=drop_last, **loading.workers(dataset, workers))
    seen = [[numbers[image.numpy().tobytes()] for image in images] for images, _ in loader]
    assert [batch for _, batch in plan(samples, 3, workers, source, False, drop_last)] == seen


def test_a_shuffled_data_set_gives_each_sample_once_and_in_another_order():
    batches = [batch for _, batch in plan(20, 4, 2, "data set", True, False)]
    order = sum(batches, [])
    assert sorted(order) == list(range(20)) != order
    assert order == torch.randperm(20, generator=torch.Generator().manual_seed(0)).tolist()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_sample_of_the_plan_is_drawn_in_its_workers_row(source, workers):
    batches = plan(11, 3, workers, source, True, False)
    (axes,) = draw(11, 3, workers, source, True).axes
    wanted = [
        (place, worker, sample)
        for place, (worker, batch) in enumerate(batches, 1)
        for sample in batch
    ]
    drawn = [
        (int(t.get_position()[0]), int(t.get_position()[1] // 4), int(t.get_text()))
        for t in axes.texts
    ]
    assert drawn == wanted


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        ({}, "Each sample comes once"),
        ({"source": "stream"}, "22 of 22 samples come 2 times"),
        ({"source": "sharded stream"}, "Each sample comes once"),
        ({"drop_last": True}, "2 of 22 samples never come"),
        ({"source": "sharded stream", "drop_last": True}, "6 of 22 samples never come"),
    ],
)
def test_the_title_counts(arguments, title):
    (axes,) = draw(**arguments).axes
    assert title in (axes.get_title(loc="left"), axes.get_title(loc="center"))


def test_what_comes_twice_is_framed_in_another_colour():
    (axes,) = draw(source="stream").axes
    frames = {patch.get_edgecolor() for patch in axes.patches}
    assert frames == {(*plt.matplotlib.colors.to_rgb(TWICE), 1.0)}
