"""The repository that the setup cell finds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.long.colab.machine import commit_all, copied_course


@pytest.fixture(scope="session")
def repository(tmp_path_factory) -> Path:
    """A repository that holds the course as it stands here."""
    if shutil.which("git") is None:
        pytest.skip("pip clones the course with git, and this machine has no git")
    return commit_all(copied_course(tmp_path_factory.mktemp("repository")))
