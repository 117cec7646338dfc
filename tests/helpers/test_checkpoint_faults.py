"""What a save leaves behind when something stops it, and what a new process makes of that."""

import errno
import io
import json
import os
import stat
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import checkout, checkpoint
from tests.helpers import checkpoint_writer as writer

WRITER = checkout.root() / "tests" / "checkpoint_writer.py"
forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="only a POSIX system forks processes")


def run_writer(command, folder):
    """What the script prints."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.root()), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, WRITER, command, folder],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def saved(tmp_path):
    """A checkpoint with which a later save must do no harm, alone in its folder."""
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, **writer.parts(0, n=4000))
    return path


def unharmed(path):
    """Whether there is the checkpoint of ``saved`` and nothing else."""
    alone = os.listdir(path.parent) == [path.name]
    return alone and not checkpoint.differences(checkpoint.load(path), writer.parts(0, n=4000))


# Stopped from outside


@forking
def test_a_kill_at_any_moment_leaves_the_last_good_checkpoint(tmp_path, record_property):
    seen = run_writer("kill", tmp_path)
    for name, counts in seen.items():
        for what, count in counts.items():
            record_property(f"{name}: {what}", count)
    print(seen)
    for counts in (seen["save"], seen["Checkpoints"]):
        assert counts["kills"] >= 100 and counts["survived"] == counts["kills"]
        # The moments are spread: while a file is written, after that, and between two saves.
        assert 0 < counts["in mid-write"] < counts["in mid-save"] < counts["kills"]
        assert counts["after a save"] > 0
    assert seen["torch.save"]["lost"] > 0, "the kills can harm nothing"

    kept = checkpoint.Checkpoints(tmp_path / "Checkpoints", keep=2)
    assert len(list(kept.folder.glob(".*"))) <= 1, "unfinished files pile up"
    path = kept.save(10**6)
    assert not list(kept.folder.glob(".*")) and kept.latest() == path


@forking
def test_the_end_of_the_process_at_any_step_leaves_the_old_checkpoint_or_the_new_one(tmp_path):
    crashes = run_writer("crash", tmp_path)["crashes"]
    names = [name for name, _ in crashes]
    assert names.count("write") > 5
    renamed = names.index("replace") + 1
    assert [step for _, step in crashes] == [0] * renamed + [1] * (len(names) - renamed)


@forking
def test_a_file_that_may_not_grow_is_given_up_and_the_old_one_kept(tmp_path):
    seen = run_writer("limit", tmp_path)
    assert seen["limits"] > 500 and seen["harmed"] == []
    (message,) = seen["messages"]
    assert "File too large. Free some space or choose another folder" in message


# Stopped from inside


class FullDisk(io.FileIO):
    """A file that takes ``room`` bytes; then each write ends with ``error``."""

    def __init__(self, path, room, error):
        super().__init__(path, "x")
        self.room, self.error = room, error

    def write(self, data):
        if self.room == 0:
            raise self.error
        taken = super().write(data[: self.room])
        self.room -= taken
        return taken


@pytest.fixture
def fill(monkeypatch):
    """Call it: from now on, a checkpoint that is written meets a full disk."""

    def fill(room, error, buffer=io.DEFAULT_BUFFER_SIZE):
        def opened(path, mode):
            if mode == "rb":
                return open(path, mode)
            return io.BufferedWriter(FullDisk(path, room, error), buffer)

        monkeypatch.setattr(checkpoint, "open", opened, raising=False)

    return fill


@pytest.mark.parametrize("buffer", [1, 100, io.DEFAULT_BUFFER_SIZE])
@pytest.mark.parametrize("room", [0, 1, 63, 64, 100, 1000, 4000, 8192, 16000])
def test_a_disk_that_fills_up_during_a_save_loses_nothing(saved, fill, room, buffer):
    fill(room, OSError(errno.ENOSPC, "No space left on device"), buffer)
    with pytest.raises(checkpoint.CheckpointError) as caught:
        checkpoint.save(saved, **writer.parts(1, n=4000))
    assert str(saved) in str(caught.value)
    assert "No space left on device. Free some space" in str(caught.value)
    assert unharmed(saved)


@pytest.mark.parametrize("room", [0, 100, 8192])
def test_an_interrupt_during_a_save_passes_and_loses_nothing(saved, fill, room):
    fill(room, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(saved, **writer.parts(1, n=4000))
    assert unharmed(saved)


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), PermissionError(errno.EACCES, "Not yours")]
)
def test_a_call_that_fails_loses_nothing(saved, monkeypatch, function, error):
    def fail(*_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(os, function, fail)
        with pytest.raises(checkpoint.CheckpointError, match=error.strerror):
            checkpoint.save(saved, **writer.parts(1))
    assert unharmed(saved)


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_an_interrupt_in_a_call_passes_and_loses_nothing(saved, monkeypatch, function):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, function, interrupt)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(saved, **writer.parts(1))
    assert unharmed(saved)


@pytest.mark.skipif(os.name != "posix", reason="a folder can't be opened there")
def test_a_file_system_that_flushes_no_folders_is_good_enough(saved, monkeypatch):
    flush = os.fsync

    def files_only(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(handle)

    monkeypatch.setattr(os, "fsync", files_only)
    checkpoint.save(saved, **writer.parts(1))
    assert writer.whole(checkpoint.load(saved)) and checkpoint.load(saved)["step"] == 1


@given(at=st.integers(700, 16_000), bit=st.integers(0, 7))
@settings(max_examples=30)
def test_what_comes_back_changed_from_the_disk_does_not_take_the_name(at, bit, tmp_path_factory):
    path = tmp_path_factory.mktemp("changed") / "checkpoint.pt"
    checkpoint.save(path, **writer.parts(0, n=4000))

    def flush_of_a_bad_disk(_):
        for unfinished in path.parent.glob(".*.tmp"):
            content = bytearray(unfinished.read_bytes())
            content[at] ^= 1 << bit
            unfinished.write_bytes(content)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", flush_of_a_bad_disk)
        try:
            checkpoint.save(path, **writer.parts(1, n=4000))
        except checkpoint.CheckpointError as error:
            assert str(path) in str(error) and unharmed(path)
            return
    # That bit means nothing: it fills the room between two records.
    assert not checkpoint.differences(checkpoint.load(path), writer.parts(1, n=4000))


def test_a_file_is_written_flushed_checked_and_then_renamed(saved, monkeypatch):
    seen = []

    def watch(room, name, size):
        function = getattr(room, name)

        def call(*arguments, **options):
            before = size(arguments)
            result = function(*arguments, **options)
            seen.append((name, before, size(arguments)))
            return result

        monkeypatch.setattr(room, name, call)

    def of_the_unfinished(_):
        return sum(path.stat().st_size for path in saved.parent.glob(".*.tmp"))

    watch(torch, "save", of_the_unfinished)
    watch(os, "fsync", of_the_unfinished)
    watch(checkpoint, "read", of_the_unfinished)
    watch(os, "replace", of_the_unfinished)
    checkpoint.save(saved, **writer.parts(1))
    size = saved.stat().st_size
    names = [name for name, *_ in seen]
    assert names[:4] == ["save", "fsync", "read", "replace"]
    assert seen[0][1] == 0
    # Each but the writing finds all bytes outside of this process.
    assert [before for _, before, _ in seen[1:4]] == [size] * 3
    assert seen[3][2] == 0


def test_what_torch_has_not_flushed_is_flushed(saved, monkeypatch):
    """It does so itself, but does not say so."""

    def unflushed(state, file):
        buffer = io.BytesIO()
        save(state, buffer)
        file.write(buffer.getvalue())

    def size_at_the_fsync(handle):
        sizes.append(os.fstat(handle).st_size)

    save, sizes = torch.save, []
    monkeypatch.setattr(torch, "save", unflushed)
    monkeypatch.setattr(os, "fsync", size_at_the_fsync)
    checkpoint.save(saved, step=1)
    assert sizes[0] == saved.stat().st_size > 0


def test_two_files_of_one_name_are_never_the_same_unfinished_file(saved):
    with checkpoint._beside(saved) as one, checkpoint._beside(saved) as other:
        assert one != other and one.parent == other.parent == saved.parent


# Resumed


def test_a_training_goes_on_in_a_new_process_to_the_bit_if_no_piece_is_missing(tmp_path):
    # Two processes of their own: in this one, the enforcing of signatures draws from `random`.
    assert run_writer("train", tmp_path) != run_writer("resume", tmp_path)
    for optimizer in writer.OPTIMIZERS:
        true = checkpoint.load(tmp_path / f"{optimizer} true.pt")
        assert len(set(true["losses"])) == 2 * writer.N
        for without in (None, *writer.PIECES):
            resumed = checkpoint.load(tmp_path / f"{optimizer} without {without}.pt")
            found = checkpoint.differences(true, resumed)
            if without is None:
                assert found == [], optimizer
            elif without == "buffers":  # the training itself does not use them
                assert {name.rpartition(".")[0] for name in found} == {"model.1"}, optimizer
            else:
                assert any(name.startswith("model") for name in found), (optimizer, without)
