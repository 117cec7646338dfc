"""Every chapter is executed once for all tests that need its outputs."""

from __future__ import annotations

import os

import pytest

from tools.run import EXECUTED


@pytest.fixture(scope="session", autouse=True)
def one_executed_copy(tmp_path_factory):
    """A folder for ``tools.run.executed`` that all processes of this run of pytest share."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "executed"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(EXECUTED, str(folder))
        yield
