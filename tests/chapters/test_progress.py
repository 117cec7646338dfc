"""A reader finds an exercise, sees their progress and forgets it by the names of the course."""

import pytest

import chapters
from helpers.exercises import record


def test_a_check_says_that_progress_could_not_be_saved():
    record.path().mkdir()
    listed = chapters.find("module.listed")
    card = listed.check(listed.right)
    assert card.state == "right"
    assert any("could not be saved" in text for _, text in card.rows)


def test_the_overview_counts_and_shows():
    record.note("module.listed", "right")
    record.note("module.Linear", "tried")
    overview = chapters.progress()
    assert "01 Module: 1 of" in str(overview)
    assert "● What does the module list?" in str(overview)
    assert "◐ Build <code>nn.Linear</code>" in overview._repr_html_()
    assert "○" in overview._repr_html_()


def test_reset_forgets_and_shows_what_is_left():
    record.note("module.listed", "right")
    record.note("start_here.slope", "right")
    assert "00 Start here: 1 of" in str(chapters.reset("module"))
    assert record.states() == {"start_here.slope": "right"}


@pytest.mark.parametrize("name", ["modul", "module.nothing", "01", 3])
def test_resetting_what_is_unknown_lists_what_is_known(name):
    record.note("module.listed", "right")
    with pytest.raises(KeyError, match=r"module.*module\.Linear"):
        chapters.reset(name)
    assert record.states() == {"module.listed": "right"}


def test_an_unknown_exercise_lists_the_known_ones():
    with pytest.raises(KeyError, match=r"unknown exercise 'module.linaer'.*module\.Linear"):
        chapters.find("module.linaer")
