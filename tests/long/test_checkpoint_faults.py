"""Checkpoints when the process ends in mid-save, and with workers."""

import io
import os
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from helpers import checkpoint, loading


def parts(step):
    """Tensors and a number that agree with each other. They are so small that torch needs no
    threads, which a forked process does not have."""
    return {"weights": [torch.full((3000,), float(step))] * 4, "number": step}


class Steps:
    """The steps of a save that reach the system; the process ends before the ``last`` of them.

    Each writing is two steps: before it, and when half of it is done.
    """

    def __init__(self, last):
        self.taken, self.last = 0, last

    def take(self):
        if self.taken == self.last:
            os._exit(3)
        self.taken += 1

    def watch(self):
        """From now on, in this process."""
        steps = self

        class Raw(io.FileIO):
            def write(self, data):
                steps.take()
                if steps.taken == steps.last:
                    super().write(data[: len(data) // 2])
                steps.take()
                return super().write(data)

        def watched(function):
            def call(*arguments, **options):
                steps.take()
                return function(*arguments, **options)

            return call

        def opened(path, mode):
            steps.take()
            return io.BufferedWriter(Raw(path, mode)) if mode == "xb" else open(path, mode)

        checkpoint.open = opened
        for name in ("mkdir", "fsync", "replace", "open", "close", "unlink"):
            setattr(os, name, watched(getattr(os, name)))


def exit_code_of_a_save(kept, last):
    """Save step 1 in a process that ends before the step ``last`` to the system."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fork.* may lead to deadlocks", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            Steps(last).watch()
            kept.save(1, **parts(1))
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only a POSIX system forks processes")
def test_the_end_of_the_process_at_any_step_leaves_the_old_checkpoint_or_the_new_one(tmp_path):
    """What a kill leaves, too: between two steps nothing changes on the disk."""
    found, ended = [], True
    while ended:
        kept = checkpoint.Checkpoints(tmp_path / str(len(found)))
        kept.save(0, **parts(0))
        ended = exit_code_of_a_save(kept, len(found)) == 3
        state = kept.load()
        assert not checkpoint.differences(state, {**parts(state["step"]), "step": state["step"]})
        found.append(state["step"])
        kept.save(2)
        assert not list(kept.folder.glob(".*")), "an unfinished file stays"
    assert found == sorted(found) and found.count(0) > 10 and found.count(1) > 2


def test_with_workers_the_place_runs_ahead_of_the_batches_that_were_given():
    dataset, batches = TensorDataset(torch.arange(40)), checkpoint.ShuffledBatches(40, 4)
    loader = DataLoader(dataset, batch_sampler=batches, **loading.workers(dataset, 1))
    next(iter(loader))
    assert batches.batch == 1 + loader.num_workers * loader.prefetch_factor
