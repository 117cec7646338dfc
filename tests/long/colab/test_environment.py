"""The environment with Colab's versions: what it is made of, and where it is not made."""

import sys

import pytest

from tests.long.colab import environment


def test_a_folder_with_something_else_is_refused_and_stays(tmp_path):
    (tmp_path / "mine.txt").write_text("something else")
    with pytest.raises(FileExistsError, match="delete it or name another folder"):
        environment.make(tmp_path, sys.executable)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_the_versions_are_those_of_colab():
    versions = environment.versions()
    assert {"torch", "torchvision", "numpy", "ipywidgets", "tensorboard"} <= versions.keys()
    assert "jaxtyping" not in versions
