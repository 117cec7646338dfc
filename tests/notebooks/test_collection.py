"""However pytest is called, a notebook has the same tests, and they pass or fail as they should."""

from __future__ import annotations

import re

import pytest

from tests.notebooks import collection, contract, samples
from tests.notebooks.samples import CHAPTER

RUNS = ("as shipped", "solved")
FAST = ("-p", "no:hypothesispytest", "-p", "no:randomly")


def test_every_way_to_call_pytest_collects_the_same_tests(course, tmp_path):
    path = str(course.notebook)
    calls = [
        course.pytest(*FAST, "--collect-only", "-q", *arguments, folder=folder)
        for arguments, folder in [
            ((), None),
            (("--nbmake",), None),
            (("--nbmake", path), tmp_path),
        ]
    ]
    collected = [re.findall(r"\.ipynb::(.+)", call.stdout) for call in calls]
    rules = [f"contract: {rule.__name__}" for rule in contract.RULES]
    runs = [f"{place}{run}" for place in ("", "on an accelerator, ") for run in RUNS]
    assert collected == [[*rules, *runs]] * len(calls)


def test_a_good_notebook_passes_and_others_are_left_to_nbmake(course):
    other = course.root / "docs" / "other.ipynb"
    course.write(samples.notebook(samples.code("1", "ab12cd34")), other)
    (course.root / ".pytest_cache").write_text("")  # as in a checkout that is read-only
    run = course.pytest(*FAST, "-n1", "-m", "not accelerator", "notebooks", str(other))
    assert run.returncode == 0, run.stdout
    assert f"{len(contract.RULES) + 3} passed" in run.stdout
    assert f"proved: {len(contract.RULES)} contract rules, 2 notebook runs" in run.stdout
    usage = rf"{CHAPTER.stem}, solved +\d+\.\d of +\d+(\.\d)? s +\d+\.\d s +\d+ MB"
    assert re.search(usage, run.stdout)


def test_a_bad_notebook_fails_and_the_failures_say_where(course):
    nb = samples.good()
    nb.cells.append(samples.code("!exit 3", "fails", ["raises-exception"]))
    course.write(nb)
    run = course.pytest(
        *FAST, "--nbmake", str(course.notebook), "-m", "not accelerator", "-k", "shipped or exempt"
    )
    assert run.returncode == 1
    assert "2 failed" in run.stdout
    assert "cell 'fails' is tagged 'raises-exception'" in run.stdout
    assert "cell 'fails': `exit 3` ended with exit code 3" in run.stdout


def test_on_an_accelerator_a_notebook_passes_that_computes_there(course):
    course.write(samples.on_the_device())
    run = course.pytest(*FAST, "-m", "accelerator", "notebooks")
    assert run.returncode == 0, run.stdout
    assert "2 passed" in run.stdout


def test_on_an_accelerator_a_notebook_fails_that_only_a_cpu_runs(course):
    nb = samples.on_the_device()
    nb.cells.append(samples.code("x.numpy()", "as-array"))
    course.write(nb)
    run = course.pytest(*FAST, "-m", "accelerator", "notebooks", "-k", "shipped")
    assert run.returncode == 1
    assert "cell 'as-array' raises TypeError: can't convert mock:0 device type" in run.stdout


def test_every_exercise_gets_its_reference_solution(monkeypatch):
    monkeypatch.setattr(collection.helpers.exercises, "catalogue", samples.mended)
    before, after = samples.good(), collection.solved(samples.good())
    changed = [new.source for old, new in zip(before.cells, after.cells, strict=True) if old != new]
    assert changed == [samples.mended()["sample.double"].solved_cell()]


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
def test_every_rule_says_in_a_sentence_what_it_wants(rule):
    assert rule.__doc__.splitlines()[0].endswith((".", ":"))


def test_a_chapter_that_is_not_listed_is_tested_all_the_same():
    assert collection.chapter_of("99_unlisted").stem == "99_unlisted"
