"""Every test has a scratch folder of its own, and checks answer instead of raising."""

import pytest
from hypothesis import settings

from tests.processes import new_processes

# The machine may be busy, and the checkout may be read-only.
settings.register_profile("course", deadline=None, database=None)
settings.load_profile("course")


@pytest.fixture(autouse=True)
def own_scratch(monkeypatch, tmp_path):
    monkeypatch.setenv("TUTORIAL_SCRATCH", str(tmp_path))
    monkeypatch.delenv("TUTORIAL_STRICT", raising=False)


@pytest.fixture(scope="session")
def run_in_new_process():
    with new_processes() as run:
        yield run
