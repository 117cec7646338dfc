"""The setup cell: it installs the course in Colab, and elsewhere says how."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from importlib.machinery import PathFinder
from importlib.metadata import version
from types import ModuleType, SimpleNamespace

import pytest

from helpers import checkout
from tools import stamp
from tools.repository import Repository

SETUP = stamp.setup_source(Repository("ada", "course", "trunk"))
COURSE = "git+https://github.com/ada/course@trunk"
OWN_FILES = {"helpers": "exercises/notation.py", "chapters": "start_here/exercises.toml"}
KEPT = [f"{name}=={version(name)}" for name in ("torch", "torchvision", "numpy")]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine where Python looks for modules in ``folder`` and then in ``installed`` only.

    ``colab()`` makes it one of Colab's; ``asked`` holds what was asked of pip, ``pip`` its answer.
    """
    folders = SimpleNamespace(folder=tmp_path / "content", installed=tmp_path / "site-packages")
    for folder in vars(folders).values():
        folder.mkdir()
    path = [str(folders.folder), str(folders.installed)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: PathFinder.find_spec(name, path))
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    asked, pip = [], SimpleNamespace(returncode=0, stdout="", stderr="")

    def run(command, **options):
        asked.append(command)
        return pip

    monkeypatch.setattr(subprocess, "run", run)

    def colab():
        monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))

    return SimpleNamespace(**vars(folders), asked=asked, pip=pip, colab=colab)


def install_course(machine, *names):
    """As much of the course as the cell looks at; ``test_this_checkout_is_the_course`` holds it."""
    for name in names or OWN_FILES:
        package(machine.installed, name)
        file = machine.installed / name / OWN_FILES[name]
        file.parent.mkdir()
        file.touch()


def run_cell():
    exec(compile(SETUP, "setup", "exec"), {})


@pytest.mark.parametrize("in_colab", [False, True])
def test_where_the_course_is_there_the_cell_does_nothing(machine, in_colab, capsys):
    install_course(machine)
    if in_colab:
        machine.colab()
    run_cell()
    assert machine.asked == []
    assert capsys.readouterr() == ("", "")


def test_this_checkout_is_the_course():
    run_cell()


def module(folder, name):
    file = folder / f"{name}.py"
    file.touch()
    return file


def package(folder, name):
    (folder / name).mkdir()
    return module(folder / name, "__init__")


@pytest.mark.parametrize("in_colab", [False, True])
@pytest.mark.parametrize("course_is_installed", [False, True])
@pytest.mark.parametrize("name", ["helpers", "chapters"])
@pytest.mark.parametrize("stray", [module, package])
def test_another_module_of_that_name_is_named_with_its_file(
    machine, stray, name, course_is_installed, in_colab
):
    if course_is_installed:
        install_course(machine)
    if in_colab:
        machine.colab()
    file = stray(machine.folder, name)
    with pytest.raises(ImportError) as caught:
        run_cell()
    assert str(caught.value) == (
        f"The course needs its own `{name}`, but Python finds {file}. "
        "Rename or remove that, restart the kernel, and run this cell again."
    )
    assert machine.asked == []


@pytest.mark.parametrize("stray", [module, package])
def test_another_module_is_noticed_among_the_installed_packages_too(machine, stray):
    machine.colab()
    file = stray(machine.installed, "helpers")
    with pytest.raises(ImportError, match="Rename or remove that") as caught:
        run_cell()
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("place", ["notebooks", "work"])
def test_in_a_checkout_the_cell_says_how_to_install_it(machine, monkeypatch, place):
    install_course(machine)
    machine.installed.rename(machine.folder / "course")
    (machine.folder / "course" / place).mkdir()
    monkeypatch.chdir(machine.folder / "course" / place)
    with pytest.raises(ImportError, match=re.escape("`%pip install -e ..` in a new cell")):
        run_cell()
    assert machine.asked == []


def test_elsewhere_than_in_colab_the_cell_gives_the_line_that_installs_the_course(
    machine, monkeypatch
):
    """On Kaggle, SageMaker or Deepnote, or beside nothing but the notebook."""
    monkeypatch.chdir(machine.folder)
    with pytest.raises(ImportError) as caught:
        run_cell()
    assert str(caught.value) == (
        f"Run `%pip install {COURSE}` in a new cell (on Kaggle, turn the internet on first), "
        "then restart the kernel."
    )
    assert machine.asked == []


@pytest.mark.parametrize("there", ["nothing", "helpers of an old course", "a folder of data"])
def test_in_colab_pip_gets_the_course_and_the_versions_that_are_there(machine, there):
    machine.colab()
    if there == "helpers of an old course":
        install_course(machine, "helpers")
    elif there == "a folder of data":  # no package: it does not hide the installed course
        (machine.folder / "chapters").mkdir()
    run_cell()
    assert machine.asked == [[sys.executable, "-m", "pip", "install", COURSE, *KEPT]]


@pytest.mark.parametrize(
    ("said", "todo"),
    [
        ("ERROR: no network", "Fix what pip says below"),
        (
            "ERROR: these have conflicting dependencies",
            "Choose a newer runtime (Runtime → Change runtime type)",
        ),
    ],
)
def test_where_pip_fails_the_cell_says_what_to_do(machine, said, todo):
    machine.colab()
    machine.pip.returncode, machine.pip.stderr = 1, said
    with pytest.raises(RuntimeError) as caught:
        run_cell()
    assert str(caught.value) == (
        f"pip can't install {COURSE}. {todo}, then run this cell again.\n{said}"
    )


def test_the_notebooks_and_the_readme_carry_what_stamp_writes():
    assert list(stamp.outdated(checkout.root())) == [], "run `python -m tools stamp`"
