"""Every test has a scratch folder of its own, and checks answer instead of raising."""

import itertools

import pytest
from hypothesis import settings

from tests.processes import new_processes

# The machine may be busy, and the checkout may be read-only. Each run draws other examples.
settings.register_profile("course", deadline=None, database=None, max_examples=30)
settings.load_profile("course")


_numbers = itertools.count()


@pytest.fixture(autouse=True)
def own_scratch(monkeypatch, tmp_path_factory):
    # The folder is made when a test writes there. To make ``tmp_path`` for each of thousands of
    # tests, and to remove it, takes as long as the tests.
    folder = tmp_path_factory.getbasetemp() / f"scratch-{next(_numbers)}"
    monkeypatch.setenv("TUTORIAL_SCRATCH", str(folder))
    monkeypatch.delenv("TUTORIAL_STRICT", raising=False)


@pytest.fixture(scope="session")
def run_in_new_process():
    with new_processes() as run:
        yield run
