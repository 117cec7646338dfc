"""The observations of the chapter on TensorBoard."""

from __future__ import annotations

from tensorboard.summary.writer import event_file_writer

import chapters

TRAIN_EPOCH = chapters.catalogue()["tensorboard.train_epoch"]


def test_the_files_of_a_run_are_read_in_the_order_in_which_they_were_made(monkeypatch):
    """A closed writer goes on in a second file; their names end in a number of the process."""
    closes = next(one for one in TRAIN_EPOCH.mistakes if "close the writer" in one.says)
    for number in (100, *range(10)):  # from 9 to 10, the names' order is another
        counter = event_file_writer.AtomicCounter(number)
        monkeypatch.setattr(event_file_writer, "_global_uid", counter)
        card = TRAIN_EPOCH.check(TRAIN_EPOCH.answer_of(closes.make))
        assert card.text == closes.says, (number, card)
