"""Definitions come out of a notebook as they stand there, and nothing else runs."""

from __future__ import annotations

import nbformat
import pytest

from chapters.start_here import exercises as start_here
from tests.notebooks import definitions
from tests.notebooks.definitions import load
from tests.notebooks.samples import code, notebook

EXERCISES = "from chapters.start_here import exercises as ex"


@pytest.fixture(autouse=True)
def chapter(monkeypatch, tmp_path):
    """A notebook of which nothing but the definitions may run."""
    nb = notebook(
        code(
            f"import math\nfrom fractions import Fraction\n{EXERCISES}\n1 / 0",
            "imports",
            ["imports"],
        ),
        code("raise RuntimeError('run')", "runs"),
        code("%matplotlib inline\nrate: float = 0.5\nlow, high = 1, 2", "settings"),
        code("def area(r):\n    return math.pi * r**2\n\n\narea(1 / 0)", "area"),
        code("def step(x):\n    loss = 0\n    return x - rate + loss", "first-step"),
        code("def step(x):\n    loss = 0\n    return x - 2 * rate + loss", "second-step"),
        code("loss = 1 / 0", "loss"),
        code("tried = ex.fit.yours()", "tried"),
        code("class Walk:\n    def go(self, x):\n        return step(step(x))", "walk"),
        code("def half(x) -> Fraction:\n    ...", "half-try", ["exercise:half"]),
    )
    nbformat.write(nb, tmp_path / "00_sample.ipynb")
    monkeypatch.setattr(definitions, "NOTEBOOKS", tmp_path)


def test_a_function_comes_with_the_imports():
    assert load("00_sample", "area")(2) == pytest.approx(12.566, abs=1e-3)


def test_what_an_exercise_built_is_the_courses_solution_whatever_was_checked(monkeypatch):
    monkeypatch.setattr(start_here.fit, "_accepted", print)
    assert load("00_sample", "tried") is start_here.fit.right


def test_several_names_come_as_a_tuple_in_the_order_asked_for():
    high, area, low = load("00_sample", "high", "area", "low")
    assert (high, low) == (2, 1)
    assert callable(area)


def test_a_definition_brings_those_it_uses_and_the_last_of_a_name_counts():
    assert load("00_sample", "Walk")().go(10) == 8


def test_each_load_has_a_namespace_of_its_own():
    assert load("00_sample", "area") is not load("00_sample", "area")


@pytest.mark.parametrize("name", ["volume", "half", "math"])
def test_what_is_not_defined_is_named_beside_what_is(name):
    with pytest.raises(LookupError, match=rf"does not define {name}: it defines Walk, area, high"):
        load("00_sample", name)


def test_the_names_that_a_notebook_imports():
    names = definitions.imported("00_sample")
    assert names["math"].pi > 3 and "Fraction" in names and "area" not in names
