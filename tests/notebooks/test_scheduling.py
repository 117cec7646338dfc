"""Several workers share the tests in groups, and run each of them once."""

from __future__ import annotations

from tests.notebooks.scheduling import SITE, group, pytest_xdist_make_scheduler

ALONE = ("tests/test_data.py::test_digits[a/b.ipynb]", "tests/test_site.py::test_a_page")
TOGETHER = (
    (f"{SITE}::test_one[00]", f"{SITE}::test_two"),
    ("tests/browser/test_chapters.py::test_a", "tests/browser/test_looks.py::test_b"),
    ("notebooks/01_module.ipynb::solved", "notebooks/01_module.ipynb::contract: runs"),
)


def test_a_group_shares_a_site_a_jupyterlab_or_a_notebook():
    names = [{group(nodeid) for nodeid in nodeids} for nodeids in TOGETHER]
    assert all(len(of_one) == 1 for of_one in names)
    assert len(set.union(*names)) == len(TOGETHER)
    assert [group(nodeid) for nodeid in ALONE] == list(ALONE)


def test_two_workers_run_each_test_once(course):
    (course.root / "tests" / "test_more.py").write_text(
        "import pytest\n\n\n@pytest.mark.parametrize('n', range(30))\ndef test_more(n): ...\n"
    )
    result = course.pytest("-n", "2", "-v", "tests")
    assert "scheduling tests via InGroups" in result.stdout
    assert result.stdout.count("PASSED tests/test_more.py") == 30


def test_who_chooses_a_distribution_gets_it(pytestconfig, monkeypatch):
    monkeypatch.setattr(pytestconfig, "getvalue", lambda name: "worksteal")
    assert pytest_xdist_make_scheduler(pytestconfig, None) is None
