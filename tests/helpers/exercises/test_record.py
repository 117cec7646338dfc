"""Progress is never lost in the intact part of its file, and never raises."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers.exercises import record


def test_the_best_state_is_kept():
    assert record.note("module.Linear", "tried") == ""
    record.note("module.Linear", "right")
    record.note("module.Linear", "tried")
    assert record.states() == {"module.Linear": "right"}


def test_noting_the_same_again_writes_nothing():
    record.note("module.Linear", "right")
    before = record.path().read_bytes()
    assert record.note("module.Linear", "right") == record.note("module.Linear", "tried") == ""
    assert record.path().read_bytes() == before


@pytest.mark.parametrize(
    ("prefix", "left"),
    [
        ("module.Linear", {"module.listed": "right", "start_here.slope": "tried"}),
        ("module", {"start_here.slope": "tried"}),
        ("", {}),
    ],
)
def test_one_exercise_one_chapter_or_all_can_be_forgotten(prefix, left):
    record.note("module.Linear", "right")
    record.note("module.listed", "right")
    record.note("start_here.slope", "tried")
    assert record.forget(prefix) == ""
    assert record.states() == left


def test_progress_after_a_reset_counts():
    record.note("module.Linear", "right")
    record.forget()
    record.note("module.Linear", "tried")
    assert record.states() == {"module.Linear": "tried"}


@pytest.mark.parametrize(
    "damage",
    [
        b'{"exercise": "module.listed", "sta',
        b"\xff\xfe\x00 not text",
        b"[1, 2]",
        b"null",
        b'{"exercise": 3, "state": "right"}',
        b'{"exercise": "module.listed", "state": "perfect"}',
        b'{"reset": 7}',
        b"[" * 5000,
    ],
)
def test_a_damaged_line_costs_no_other(damage):
    record.note("module.Linear", "right")
    with open(record.path(), "ab") as file:
        file.write(damage)  # and no line end
    assert record.states() == {"module.Linear": "right"}
    assert record.note("start_here.slope", "tried") == ""
    assert record.states() == {"module.Linear": "right", "start_here.slope": "tried"}


def test_a_file_that_cannot_be_written_is_said_and_not_raised():
    record.path().mkdir()
    trouble = record.note("module.Linear", "right")
    assert "could not be saved" in trouble and str(record.path()) in trouble
    assert record.states() == {}


def test_kernels_writing_at_once_lose_nothing():
    def write(name):
        return [record.note(f"{name}.{n}", "right") for n in range(25)]

    with ThreadPoolExecutor(8) as kernels:
        assert {trouble for said in kernels.map(write, "abcdefgh") for trouble in said} == {""}
    assert len(record.states()) == 200
