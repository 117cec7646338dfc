"""The floors of ``pyproject.toml``: every dependency has one, and pip can be held to them."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from helpers import checkout
from tests.long.versions import COMPANIONS, constraints, dependencies, floors

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = checkout.root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def project(*needed, **extras):
    return {"name": "course", "dependencies": [*needed], "optional-dependencies": extras}


def test_each_floor_becomes_a_pin():
    made = project("torch>=2.11", "tomli>=2; python_version < '3.11'", more=["a[x]>=1.5,<3"])
    made["optional-dependencies"]["all"] = ["course[more]"]
    assert floors(made) == ["a==1.5", 'tomli==2 ; python_version < "3.11"', "torch==2.11"]


def test_a_package_may_stand_in_two_lists_with_one_floor():
    assert floors(project("a>=1", more=["a>=1"])) == ["a==1"]
    with pytest.raises(ValueError, match="a has two floors, 'a==1' and 'a==2': give it the same"):
        floors(project("a>=1", more=["a>=2"]))


@pytest.mark.parametrize("line", ["torch", "torch<3", "torch==2.11", "torch>2.10"])
def test_a_dependency_without_a_floor_is_named(line):
    with pytest.raises(ValueError, match=f"'{line}' has no floor: write it as 'torch>=1.2'"):
        floors(project(line))


def test_companions_are_no_dependencies_of_the_course():
    named = {requirement.name for requirement in dependencies(PROJECT)}
    assert not named & {Requirement(companion.requirement).name for companion in COMPANIONS}


def test_the_command_prints_what_pip_reads():
    command = [sys.executable, "-m", "tests.long.versions"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == constraints(PROJECT)
    for line in printed.splitlines():
        Requirement(line)


@pytest.mark.parametrize("requirement", list(dependencies(PROJECT)), ids=str)
def test_what_is_installed_satisfies_what_the_course_asks_for(requirement):
    if requirement.marker is None or requirement.marker.evaluate():
        assert Version(version(requirement.name)) in requirement.specifier
