"""The repository that the setup cell finds."""

from __future__ import annotations

import pytest

from tests.long.colab.machine import commit_all, copied_course


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """A repository that holds the course as it stands here."""
    return commit_all(copied_course(tmp_path_factory.mktemp("repository")))
