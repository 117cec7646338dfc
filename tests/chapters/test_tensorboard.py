"""The observations of the chapter on TensorBoard."""

from __future__ import annotations

import pytest
from tensorboard.summary.writer import event_file_writer
from torch.utils.tensorboard import SummaryWriter

from chapters.tensorboard import exercises as ex


@pytest.mark.parametrize("number", [0, 9, 99])  # from 9 to 10, the names' order is another
def test_the_files_of_a_run_are_read_in_the_order_in_which_they_were_made(
    number, tmp_path, monkeypatch
):
    counter = event_file_writer.AtomicCounter(number)
    monkeypatch.setattr(event_file_writer, "_global_uid", counter)
    made = []
    for _ in range(3):
        SummaryWriter(tmp_path).close()
        made += [path for path in tmp_path.iterdir() if path not in made]
    assert len(made) == 3 and ex._files(tmp_path) == made
