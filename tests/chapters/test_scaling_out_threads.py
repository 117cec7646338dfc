"""Ranks in threads: each has its own group, and whatever one does, the call ends."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest
import torch
import torch.distributed as dist

from chapters.scaling_out import threads
from chapters.scaling_out.threads import together
from helpers.exercises import Shortfall
from helpers.exercises.sandbox import TookTooLong, run


def number_of_threads():
    return sum(type(thread).__name__ == "_Rank" for thread in threading.enumerate())


def wait_for_all_to_end():
    until = time.monotonic() + 5
    while number_of_threads():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_each_thread_is_a_rank_and_nothing_of_it_is_left(ranks):
    def work(rank):
        numbers = [torch.zeros(1) for _ in range(ranks)]
        dist.all_gather(numbers, torch.tensor([float(rank)]))
        pair = dist.new_group([0])
        return dist.get_rank(), dist.get_world_size(), numbers, dist.get_rank(pair)

    before = sys.excepthook, {**os.environ}
    numbers = [torch.tensor([float(rank)]) for rank in range(ranks)]
    wanted = [(rank, ranks, numbers, 0 if rank == 0 else -1) for rank in range(ranks)]
    assert together(ranks, work) == wanted
    assert (sys.excepthook, {**os.environ}) == before
    assert not dist.is_initialized()


def test_the_readers_own_group_is_there_again():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        group = dist.group.WORLD
        assert together(2, lambda rank: dist.get_world_size()) == [2, 2]
        assert dist.group.WORLD is group and dist.get_world_size() == 1
    finally:
        dist.destroy_process_group()


def test_a_ranks_own_error_is_raised_and_not_that_of_those_that_wait():
    def work(rank):
        if rank == 1:
            raise ValueError("mine")
        dist.barrier()

    with pytest.raises(ValueError, match="mine"):
        together(3, work)


@pytest.mark.parametrize(
    "work",
    [
        lambda rank: rank or dist.barrier(),
        lambda rank: dist.broadcast(torch.ones(1), 0) if rank else dist.all_reduce(torch.ones(3)),
    ],
    ids=["one has left", "one calls another"],
)
def test_ranks_that_wait_for_ever_are_told_so(work, monkeypatch):
    monkeypatch.setattr(threads, "SECONDS", 1.0)
    with pytest.raises(Shortfall, match="same collectives in the same order"):
        together(2, work)


def test_a_time_limit_ends_ranks_that_never_end():
    def work(rank):
        while True:
            time.sleep(0.01)

    outcome = run(lambda: together(2, work), seed=0, seconds=0.5)
    assert isinstance(outcome.error, TookTooLong)
    wait_for_all_to_end()


def test_a_rank_that_is_ended_while_it_leaves_says_nothing(monkeypatch):
    said = []
    monkeypatch.setattr(threading, "excepthook", said.append)

    def leave():
        for _ in range(99):
            time.sleep(0.01)

    monkeypatch.setattr(dist, "destroy_process_group", leave)
    outcome = run(lambda: together(2, lambda rank: rank), seed=0, seconds=0.5)
    assert isinstance(outcome.error, TookTooLong)
    wait_for_all_to_end()
    assert said == []
