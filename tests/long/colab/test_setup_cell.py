"""The setup cell, run as Colab runs it, but from a repository on this disk and without a network.

Here the pip is a real one; ``tests/notebooks/test_setup_cell.py`` has what the cell itself decides.
The libraries are those of the running environment; ``test_chapters`` has Colab's own.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from tests.long.colab.machine import (
    REPOSITORY,
    Machine,
    commit_all,
    copied_course,
    found_at,
    metadata,
    write_wheel,
)


@pytest.fixture
def colab(tmp_path, repository):
    # In pip's configuration this option is upside down: 0 turns the isolation off.
    return Machine(tmp_path / "machine", repository, PIP_NO_BUILD_ISOLATION="0")


def test_the_cell_installs_the_course_and_nothing_else_without_a_restart(colab):
    labelled = version("torch").partition("+")[0] + "+cu128"  # the label of a build, as in Colab
    info = colab.packages / f"torch-{labelled}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(metadata("torch", labelled))
    done = colab.run("""
cell()
os.environ["PATH"] = ""
cell()  # the course is there, and nothing is asked of git
import helpers
from chapters.losses import exercises
print(helpers.__file__, exercises.__file__, sep="\\n")
""")
    assert done.returncode == 0, done.stderr
    files = [Path(line) for line in done.stdout.splitlines()]
    assert len(files) == 2 and all(file.is_relative_to(colab.packages) for file in files)
    assert colab.installed() == {"pytorch_by_experiment", "torch"}
    assert [*colab.content.iterdir(), *colab.temporary.iterdir()] == []


# Each cause of a failure is a function that returns variables of the environment to bring it about.


def no_network(folder: Path) -> dict[str, str]:
    return found_at("https://127.0.0.1:1/")


def no_branch(folder: Path) -> dict[str, str]:
    return found_at(commit_all(copied_course(folder / "other"), branch="trunk").as_uri())


def newer_torch(folder: Path) -> dict[str, str]:
    course = copied_course(folder / "changed")
    pyproject = (course / "pyproject.toml").read_text("utf-8")
    assert '"torch>=' in pyproject
    (course / "pyproject.toml").write_text(pyproject.replace('"torch>=', '"torch>=99', 1), "utf-8")
    write_wheel(folder / "wheels", "torch", "999")
    return {**found_at(commit_all(course).as_uri()), "PIP_FIND_LINKS": str(folder / "wheels")}


def no_git(folder: Path) -> dict[str, str]:
    return {"PATH": ""}


FAILURES = {
    no_network: "unable to access",
    no_branch: f"pathspec '{REPOSITORY.branch}' did not match",
    newer_torch: "depends on torch>=99",
    no_git: "Cannot find command 'git'",
}


@pytest.mark.parametrize("cause", FAILURES, ids=lambda cause: cause.__name__)
def test_a_failure_stops_the_cell_which_works_once_its_cause_is_gone(cause, colab, tmp_path):
    done = colab.run(f"""
before = dict(os.environ)
os.environ.update({cause(tmp_path)!r})
try:
    cell()
except RuntimeError as error:
    print(error)
assert [*os.listdir(), *os.listdir(os.environ["TMPDIR"])] == []
os.environ.update(before)
os.environ.pop("PIP_FIND_LINKS", None)
cell()
import chapters
""")
    assert done.returncode == 0, done.stderr
    sentence, _, said = done.stdout.partition("\n")
    assert sentence.startswith("pip can't install git+")
    assert ("Choose a newer runtime" in sentence) == (cause is newer_torch)
    assert FAILURES[cause] in said
    assert colab.installed() == {"pytorch_by_experiment"}
