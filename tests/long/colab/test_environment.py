"""Making the environment with Colab's versions: what is kept, what is refused, what is named."""

import sys

import pytest

from tests.long.colab import __main__ as command
from tests.long.colab import environment
from tests.long.colab.environment import Environment


def make(folder, capsys, python=sys.executable):
    """Give the command; return its exit code and what it printed, errors last."""
    code = command.main([str(folder), "--python", str(python)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_current_environment_is_kept(tmp_path, capsys):
    Environment(tmp_path).finish()
    code, said = make(tmp_path, capsys, python="not-asked-for")
    assert (code, said) == (0, f"COURSE_COLAB={tmp_path} python -m pytest -m colab\n")


@pytest.mark.parametrize("name", ["made-of.txt", "mine.txt"])
def test_a_folder_with_something_else_is_refused_and_stays(name, tmp_path, capsys):
    (tmp_path / name).write_text("something else")
    code, said = make(tmp_path, capsys)
    assert code == 1
    assert f"{tmp_path} holds no current environment" in said and "name another folder" in said
    assert (tmp_path / name).read_text() == "something else"


def test_an_interpreter_that_is_not_there_is_named(tmp_path, capsys):
    code, said = make(tmp_path / "new", capsys, python=tmp_path / "python9")
    assert code == 1
    assert f"`{tmp_path / 'python9'}` cannot be run: No such file" in said


def test_a_command_that_fails_is_named_and_what_it_left_is_no_environment(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(environment, "KERNEL", ("no-such-package-as-this",))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    code, said = make(tmp_path / "new", capsys)
    assert code == 1
    assert "install" in said and "ended with exit code 1" in said
    assert not Environment(tmp_path / "new").is_current()


def test_the_versions_are_those_of_colab():
    versions = environment.colab_versions()
    assert {"torch", "torchvision", "numpy", "ipywidgets", "tensorboard"} <= versions.keys()
    assert "jaxtyping" not in versions
