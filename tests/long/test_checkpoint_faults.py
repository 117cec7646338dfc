"""Checkpoints when the process is killed at any moment, or any bit of the file is wrong."""

import itertools
import json
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from helpers import checkout, checkpoint, loading
from tests.helpers.test_checkpoint import GOOD_FILE, is_refused_or_right
from tests.long import checkpoint_writer as writer

forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="only a POSIX system forks processes")


def run_writer(command, folder):
    """What the script prints."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.root()), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, writer.__file__, command, folder],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@forking
def test_a_kill_at_any_moment_leaves_the_last_good_checkpoint(tmp_path):
    seen = run_writer("kill", tmp_path)
    print(seen)
    kept = seen["Checkpoints"]
    assert kept["kills"] >= 100 and kept["survived"] == kept["kills"]
    # The moments are spread: while a file is written, after that, and between two saves.
    assert 0 < kept["in mid-write"] < kept["in mid-save"] < kept["kills"]
    assert kept["after a save"] > 0
    assert seen["torch.save"]["lost"] > 0, "the kills can harm nothing"

    folder = checkpoint.Checkpoints(tmp_path / "Checkpoints", keep=2)
    assert len(list(folder.folder.glob(".*"))) <= 1, "unfinished files pile up"
    path = folder.save(10**6)
    assert not list(folder.folder.glob(".*")) and folder.latest() == path


@forking
def test_the_end_of_the_process_at_any_step_leaves_the_old_checkpoint_or_the_new_one(tmp_path):
    crashes = run_writer("crash", tmp_path)["crashes"]
    names = [name for name, _ in crashes]
    assert names.count("write") > 5
    renamed = names.index("replace") + 1
    assert [step for _, step in crashes] == [0] * renamed + [1] * (len(names) - renamed)


def test_with_workers_the_place_runs_ahead_of_the_batches_that_were_given():
    dataset, batches = TensorDataset(torch.arange(40)), checkpoint.ShuffledBatches(40, 4)
    loader = DataLoader(dataset, batch_sampler=batches, **loading.workers(dataset, 1))
    next(iter(loader))
    assert batches.batch == 1 + loader.num_workers * loader.prefetch_factor


def test_a_file_that_is_cut_off_anywhere_is_damaged(tmp_path):
    for length in {*range(0, len(GOOD_FILE), 3), *range(len(GOOD_FILE) - 100, len(GOOD_FILE))}:
        error = is_refused_or_right(tmp_path / "cut.pt", GOOD_FILE[:length])
        assert type(error) is checkpoint.DamagedError, length


@pytest.mark.parametrize("record", ["data.pkl", "data/0", "data/1"])
def test_no_flipped_bit_in_the_list_of_records_gives_wrong_values(tmp_path, record):
    """torch itself fails here: some of them make it read memory that was never written to."""
    name = GOOD_FILE.rindex(f"/{record}".encode())
    start = GOOD_FILE.rindex(b"PK\x01\x02", 0, name)
    for at, bit in itertools.product(range(start, name), range(8)):
        changed = bytearray(GOOD_FILE)
        changed[at] ^= 1 << bit
        is_refused_or_right(tmp_path / "flipped.pt", bytes(changed))


@given(data=st.data())
@settings(max_examples=300)
def test_other_damage_never_gives_wrong_values(data, tmp_path_factory):
    """A stretch is overwritten, lost, doubled or added: a bad block, a copy that went wrong."""
    start = data.draw(st.integers(0, len(GOOD_FILE)))
    end = data.draw(st.integers(start, len(GOOD_FILE)))
    stretch = GOOD_FILE[start:end]
    damaged = [b"", bytes(len(stretch)), stretch * 2, stretch[::-1], stretch.swapcase()]
    other = data.draw(st.one_of(st.sampled_from(damaged), st.binary(max_size=100)))
    path = tmp_path_factory.getbasetemp() / "changed.pt"
    is_refused_or_right(path, GOOD_FILE[:start] + other + GOOD_FILE[end:])
