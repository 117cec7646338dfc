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
    usage = (USAGE, ["00_sample, solved", 1.25, 10, 300_000_000])
    _, line = summary(report("failed", usage)).usage_lines()
    assert " ".join(line.split()) == "00_sample, solved 1.2 of 10 s 300 MB"


def test_without_proofs_and_notebooks_nothing_is_said():
    nothing = summary(report("passed"))
    assert nothing.proved_lines() + nothing.usage_lines() == []
