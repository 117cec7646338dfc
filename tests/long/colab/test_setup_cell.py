"""The setup cell, run as Colab runs it, but from a repository on this disk and without a network.

The libraries are those of the running environment; ``test_chapters`` has Colab's own.
"""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.long.colab.machine import (
    REPOSITORY,
    Machine,
    commit_all,
    copied_course,
    metadata,
    write_wheel,
)


@pytest.fixture
def colab(tmp_path, repository):
    # In pip's configuration this option is upside down: 0 turns the isolation off.
    return Machine(tmp_path / "machine", repository, PIP_NO_BUILD_ISOLATION="0")


def test_the_cell_makes_helpers_importable_without_a_restart_and_moves_no_library(colab):
    done = colab.run("cell()\nimport chapters\nprint(helpers.__file__)")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(colab.packages)
    assert colab.installed() == {"pytorch_by_experiment"}


def test_the_cell_leaves_nothing_but_what_it_installs(colab):
    assert colab.run("cell()").returncode == 0
    assert [*colab.content.iterdir(), *colab.temporary.iterdir()] == []


def test_a_second_run_of_the_cell_does_nothing(colab):
    done = colab.run("cell()\nos.environ['PATH'] = ''\ncell()\nprint('twice')")
    assert (done.returncode, done.stdout) == (0, "twice\n"), done.stderr


def test_where_helpers_is_there_the_cell_does_nothing(colab):
    (colab.content / "helpers.py").touch()
    done = colab.run("cell()", PATH="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("kind", ["old", "half"])
def test_a_clone_that_lies_there_is_neither_used_nor_touched(kind, colab):
    clone = colab.content / REPOSITORY.name
    (clone / ".git").mkdir(parents=True)
    if kind == "old":
        (clone / "helpers").mkdir()
        (clone / "helpers" / "chapters.py").write_text("CHAPTERS = 'of another day'\n")
        (clone / "pyproject.toml").write_text("[project]\nname = 'old'\nversion = '0'\n")
    before = sorted(clone.rglob("*"))
    done = colab.run("cell()\nfrom chapters import CHAPTERS\nprint(type(CHAPTERS))")
    assert (done.returncode, done.stdout) == (0, "<class 'tuple'>\n"), done.stderr
    assert sorted(clone.rglob("*")) == before


def test_a_version_with_a_label_of_its_build_is_kept(colab):
    labelled = version("torch").partition("+")[0] + "+cu128"
    info = colab.packages / f"torch-{labelled}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(metadata("torch", labelled))
    done = colab.run("cell()")
    assert done.returncode == 0, done.stderr
    assert colab.installed() == {"pytorch_by_experiment", "torch"}


def test_outside_colab_the_cell_says_what_to_run(colab):
    done = colab.run("import sys\ndel sys.modules['google.colab']\ncell()", PATH="")
    assert done.returncode == 1
    assert f"ImportError: Run `{colab.python} -m pip install -e .`" in done.stderr


# What can go wrong. Each cause is a function that returns code which brings it about and code which
# mends it.


def no_network(folder: Path) -> tuple[str, str]:
    return found_at("https://127.0.0.1:1/"), AT_HOME


def no_repository(folder: Path) -> tuple[str, str]:
    return found_at((folder / "nothing").as_uri()), AT_HOME


def no_branch(folder: Path) -> tuple[str, str]:
    course = commit_all(copied_course(folder / "other"))
    subprocess.run(["git", "-C", course, "branch", "--move", "trunk"], check=True)
    return found_at(course.as_uri()), AT_HOME


def no_package(folder: Path) -> tuple[str, str]:
    return changed_course(folder, "[project]", "[project]\nno-key = 7"), AT_HOME


def no_dependency(folder: Path) -> tuple[str, str]:
    return changed_course(folder, '"torch>=', '"in-no-index>=1", "torch>='), AT_HOME


def newer_torch(folder: Path) -> tuple[str, str]:
    write_wheel(folder / "wheels", "torch", "999")
    offer = f"os.environ['PIP_FIND_LINKS'] = {str(folder / 'wheels')!r}"
    return "\n".join([offer, changed_course(folder, '"torch>=', '"torch>=99')]), AT_HOME


def no_git(folder: Path) -> tuple[str, str]:
    return "os.environ['PATH'] = ''", "os.environ['PATH'] = path"


def full_disk(folder: Path) -> tuple[str, str]:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, ({}, -1))"
    return f"import resource; {limit.format(1000)}", limit.format(-1)


FAILURES = {
    no_network: "unable to access",
    no_repository: "does not appear to be a git repository",
    no_branch: f"pathspec '{REPOSITORY.branch}' did not match",
    no_package: "invalid pyproject.toml config",
    no_dependency: "No matching distribution found for in-no-index>=1",
    newer_torch: "depends on torch>=99",
    no_git: "Cannot find command 'git'",
}
if os.name == "posix":
    FAILURES[full_disk] = "git clone"


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_stops_the_cell_and_once_it_is_mended_the_cell_works(failure, colab, tmp_path):
    cause, mend = failure(tmp_path)
    done = colab.run(f"""
home, path = os.environ["GIT_CONFIG_KEY_0"], os.environ["PATH"]
{cause}
try:
    cell()
except RuntimeError as error:
    print(error)
assert [*os.listdir(), *os.listdir(os.environ["TMPDIR"])] == []
{mend}
cell()
import chapters
""")
    assert done.returncode == 0, done.stderr
    todo = "Mend what pip says below"
    if failure is newer_torch:
        todo = "Choose a newer runtime (Runtime → Change runtime type)"
    sentence, _, said = done.stdout.partition("\n")
    assert sentence == (
        f"pip could not install the course from git+{REPOSITORY.url}@{REPOSITORY.branch}. "
        f"{todo}, then run this cell again."
    )
    assert FAILURES[failure] in said
    assert colab.installed() == {"pytorch_by_experiment"}


AT_HOME = "os.environ['GIT_CONFIG_KEY_0'] = home"


def found_at(url: str) -> str:
    return f"os.environ['GIT_CONFIG_KEY_0'] = 'url.{url}.insteadOf'"


def changed_course(folder: Path, old: str, new: str) -> str:
    """Code with which git finds a course whose pyproject.toml is another."""
    course = copied_course(folder / "changed")
    pyproject = (course / "pyproject.toml").read_text("utf-8")
    assert old in pyproject
    (course / "pyproject.toml").write_text(pyproject.replace(old, new, 1), "utf-8")
    return found_at(commit_all(course).as_uri())
