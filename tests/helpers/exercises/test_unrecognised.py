"""The answers that a reader may send: what is kept, and where it is written."""

from __future__ import annotations

import pathlib

import pytest

from helpers.exercises import unrecognised
from tests.helpers.exercises.test_engine import double, made, predicted, squares


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(unrecognised, "_kept", [])


def trebles(x):
    return 3 * x  # who would think of that?


def written(card):
    return pathlib.Path(dict(card.rows)["file"]).read_text("utf-8")


def test_what_no_mistake_explains_is_written_with_what_was_said():
    exercise = made()
    said = exercise.check(trebles)
    exercise.check(trebles)
    predicted().check({"a": 2, "b": 77})
    text = written(unrecognised.report("chapter"))
    assert text.count("return 3 * x  # who would think of that?") == 1
    assert str(said) in text
    assert "chapter.sizes" in text and "{'a': 2, 'b': 77}" in text


def test_right_and_recognised_answers_are_not_kept():
    for answer in (double, squares, ...):
        made().check(answer)
    card = unrecognised.report("chapter")
    assert card.state == "report"
    assert card.text == "There are none since this notebook was started." and not card.rows


def test_a_chapter_reports_its_own_answers_only():
    made().check(trebles)
    assert not unrecognised.report("another").rows


def test_nothing_is_written_before_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTORIAL_SCRATCH", str(tmp_path / "scratch"))
    made().check(trebles)
    assert not list(tmp_path.glob("scratch/reports*"))


def test_a_file_that_cannot_be_written_is_said(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    made().check(trebles)
    monkeypatch.setattr(pathlib.Path, "write_text", full)
    assert "could not be written: No space left on device" in unrecognised.report("chapter").text


def test_an_answer_without_a_source_is_described():
    made().check(len)
    assert "<built-in function len>" in written(unrecognised.report("chapter"))
