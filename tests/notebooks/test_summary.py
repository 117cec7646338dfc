"""The last lines count what was proved, once, and only by tests that passed."""

from __future__ import annotations

import pytest

from tests.notebooks.summary import PROVED, USAGE, Summary


def report(outcome: str, *properties, when: str = "call") -> pytest.TestReport:
    return pytest.TestReport("test", ("", 0, ""), {}, outcome, None, when, (), 0, 0, 0, properties)


def summary(*reports: pytest.TestReport) -> Summary:
    result = Summary()
    for one in reports:
        result.pytest_runtest_logreport(one)
    return result


def test_each_kind_is_counted_over_the_tests_that_passed():
    lines = summary(
        report("passed", (PROVED, "exercise")),
        report("passed", (PROVED, "known mistake"), (PROVED, "known mistake")),
        report("passed", (PROVED, "exercise"), when="teardown"),
        report("failed", (PROVED, "exercise")),
    ).proved_lines()
    assert lines == ["proved: 1 exercise, 2 known mistakes"]


def test_a_notebooks_cost_is_told_whether_it_passed_or_failed():
    solved = (USAGE, ["00_sample, solved", 1.25, 10, 4.5, 300_000_000])
    shipped = (USAGE, ["00_sample, as shipped", 1.5, 10, 4.0, 200_000_000])
    _, *lines = summary(report("failed", solved), report("passed", shipped)).usage_lines()
    assert [" ".join(line.split()) for line in lines] == [
        "00_sample, as shipped 1.5 of 10 s 4.0 s 200 MB",
        "00_sample, solved 1.2 of 10 s 4.5 s 300 MB",
        "all 2 runs: 11 s of processor time",
    ]


def test_without_proofs_and_notebooks_nothing_is_said():
    nothing = summary(report("passed"))
    assert nothing.proved_lines() + nothing.usage_lines() == []
