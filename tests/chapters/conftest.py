"""Every test here has a progress file of its own, and checks answer instead of raising."""

import gc

import pytest


@pytest.fixture(autouse=True)
def own_progress(monkeypatch, tmp_path):
    monkeypatch.setenv("TUTORIAL_SCRATCH", str(tmp_path))
    monkeypatch.delenv("TUTORIAL_STRICT", raising=False)


@pytest.fixture
def resting_collector():
    """No garbage is collected meanwhile.

    In a process with much of it, one collection takes longer than a hurried answer may. The alarm
    then goes off in a function that the collector calls, and is reported as that function's error.
    """
    gc.disable()
    yield
    gc.enable()
