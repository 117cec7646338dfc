"""One browser and one JupyterLab for all tests of pages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from helpers import checkout
from tests.labs import copied_course, running_lab
from tests.long.browser import notebooks, pages

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder that open pages, and skip them where there is no browser."""
    missing = pytest.mark.skip(
        reason=f"no browser: none of {', '.join(pages.NAMES)} is on the PATH; install one, "
        "or set COURSE_BROWSER to the path of a Chromium"
    )
    for item in items:
        if item.path.is_relative_to(HERE) and "browser" in item.fixturenames:
            item.add_marker(pytest.mark.browser)
            if pages.program() is None and not pages.is_required():
                item.add_marker(missing)


@pytest.fixture(scope="session")
def browser():
    if pages.program() is None:
        pytest.fail("COURSE_BROWSER is set, and the browser it asks for is not there")
    with sync_playwright() as playwright:
        launched = pages.launch(playwright)
        yield launched
        launched.close()


@pytest.fixture
def page(browser, tmp_path):
    """An empty page; a picture of how the test left it lies in the test's temporary folder."""
    opened = pages.Page(browser)
    yield opened
    opened.page.screenshot(path=tmp_path / "page.png")
    opened.page.close()


@pytest.fixture(scope="session")
def course(tmp_path_factory):
    """The course of the running JupyterLab, which makes the working copy of its notebooks."""
    folder = copied_course(tmp_path_factory.mktemp("browser") / "course")
    shutil.copytree(checkout.root() / "notebooks", folder / "notebooks", dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def lab(course):
    """JupyterLab, started as the course's command starts it."""
    home = course.parent / "home"
    temporary = home / "tmp"
    temporary.mkdir(parents=True)
    variables = {
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)),
        "IPYTHONDIR": str(home / "ipython"),
        "TUTORIAL_SCRATCH": str(home / "scratch"),
        "OMP_NUM_THREADS": "1",
    }
    with running_lab(course, home, *notebooks.OPTIONS, **variables) as running:
        yield running


@pytest.fixture
def open_notebook(lab, page):
    """Open a notebook of the working copy in JupyterLab on the page; its kernel ends afterwards."""
    opened = []

    def open_(name):
        opened.append(notebooks.Notebook(page, lab, name))
        return opened[-1]

    yield open_
    for notebook in opened:
        notebook.close()
