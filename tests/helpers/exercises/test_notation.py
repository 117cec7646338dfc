"""Each fault in a chapter's TOML file is named with file and exercise.

What files without fault make, ``tests.chapters.test_catalogue`` tries on all of them.
"""

import importlib.util
import itertools
import sys

import pytest

from helpers.exercises.engine import FaultyExercise

CODE = """
from helpers.exercises import Case, Exercises

chapter = Exercises(__file__)

@chapter.exercise(cases=lambda: [Case("five", 5)])
def double(x):
    return 2 * x

@chapter.prediction
def sizes():
    return {"a": 2, "b": 3}

@chapter.exercise(cases=lambda: [Case("five", 5)])
class Adder:
    def __new__(cls, x):
        return one_more(x)

def one_more(x):
    return x + 1

def adds_two(x):
    return one_more(one_more(x))
"""
SAID = """
[double]
title = "★★ Twice · 5 min"
takeaway = "Twice is twice."
hints = ["Add."]
start = "Run it."
given = ["2 * x", "3 * x"]

[[double.mistake]]
says = "You square."
edit = ["2 * x", "x ** 2"]

[sizes]
title = "★ Sizes · 1 min"
takeaway = "So long."
hints = ["Count."]

[[sizes.mistake]]
says = "You counted from 0."
gives = { a = 1 }

[Adder]
title = "★ One more · 1 min"
takeaway = "One more."
hints = ["Add."]

[[Adder.mistake]]
says = "One too many."
code = "adds_two"

[[Adder.mistake]]
says = "One too few."
edit = ["one_more(x)", "x"]
"""
_numbers = itertools.count()


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """Makes the module of a chapter from a changed TOML text."""

    def load(*change):
        folder = tmp_path / f"sample_{next(_numbers)}"
        folder.mkdir()
        said = SAID.replace(*change) if change else SAID
        assert not change or said != SAID
        (folder / "exercises.py").write_text(CODE, "utf-8")
        (folder / "exercises.toml").write_text(said, "utf-8")
        spec = importlib.util.spec_from_file_location(folder.name, folder / "exercises.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, folder.name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sizes", "size", r"toml has no table \[sizes\]: .* add it"),
        ("hints =", "hint =", r"\[double\] has the unknown key 'hint': known are given, hints"),
        ('takeaway = "So long."', "", r"\[sizes\] lacks 'takeaway': add it"),
        ("★ Sizes · 1 min", "Sizes", r"\[sizes\] has the title 'Sizes': write it as the heading"),
        ('says = "You square."', "", r"\[double\.mistake 1\] holds edit: it needs `says`"),
        ("gives = { a = 1 }", "", r"\[sizes\.mistake 1\] .* exactly one of code, gives"),
        ("gives =", "edit =", r"\[sizes\.mistake 1\] has the unknown key 'edit'"),
        ("[double]", "[double", r"exercises\.toml: "),
    ],
)
def test_a_fault_in_the_toml_is_named_when_the_chapter_is_imported(chapter, old, new, message):
    with pytest.raises(FaultyExercise, match=message) as caught:
        chapter(old, new)
    assert "chapters/sample_" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["2 * x", "x ** 2"]', '["3 * x", "x ** 2"]', r"'3 \* x', which .* holds 0 times"),
        ('["2 * x", "x ** 2"]', '["x", "y"]', r"'x', which the source of double holds 2 times"),
        ('["2 * x", "x ** 2"]', '["2 * x"]', r"an edit of 1 texts: write pairs"),
        ('["2 * x", "x ** 2"]', "[]", r"an edit of 0 texts: write pairs"),
    ],
)
def test_a_fault_in_an_edit_is_named_when_the_edit_is_made(chapter, old, new, message):
    double = chapter(old, new).double
    with pytest.raises(FaultyExercise, match=rf"exercises\.toml \[double\.mistake 1\].*{message}"):
        double.mistakes[0].make()


def test_an_edit_that_does_not_fit_leaves_the_other_mistakes_alone(chapter):
    adder = chapter('code = "adds_two"', 'edit = ["no such piece", ""]').Adder
    assert adder.check(lambda x: x).text == "One too few."


def test_code_that_is_missing_is_named(chapter):
    adder = chapter('code = "adds_two"', 'code = "adds_ten"').Adder
    with pytest.raises(FaultyExercise, match=r"\[Adder\.mistake 1\] names the code 'adds_ten'"):
        adder.mistakes[0].make()


def test_a_table_of_no_exercise_is_left_over(chapter):
    assert chapter().chapter.unused == set()
    assert chapter("[sizes]", "[length]\n[sizes]").chapter.unused == {"length"}
