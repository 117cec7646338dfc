"""An environment with the versions that Colab has, made once and used by many tests.

Beside what the course asks for, it holds what a kernel in Colab needs, and TensorFlow, since
TensorBoard reads and writes files in another way where it is there. What Colab lacks is not
installed: it lies in a folder of wheels, and the setup cell's pip takes it from there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers import checkout

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VARIABLE = "COURSE_COLAB"  # the environment variable that names the folder to the tests
PYTHON = "3.13"  # Colab's
CONSTRAINTS = Path(__file__).with_name("constraints-2026-08-19.txt")
KERNEL = ("ipykernel", "pandas", "pip", "psutil", "setuptools", "tensorflow", "wheel")


def make(folder: Path, python: str | Path) -> None:
    """Make the environment in a new folder, with the interpreter ``python``.

    Raises ``FileExistsError`` where ``folder`` holds something, and ``CalledProcessError`` where a
    command fails.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: delete it or name another folder")
    pyproject = tomllib.loads((checkout.root() / "pyproject.toml").read_text("utf-8"))
    course = pyproject["project"]["dependencies"]
    there = [text for text in course if _name(text) in versions()]
    lacking = [text for text in course if _name(text) not in versions()]
    pip = [python_of(folder.absolute()), "-m", "pip"]
    download = [*pip, "download", "--dest", wheels_of(folder)]
    constrained = ["--constraint", CONSTRAINTS]
    _run(python, "-m", "venv", folder)
    _run(*pip, "install", *constrained, *KERNEL, *there)
    _run(*download, *constrained, *lacking)
    _run(*download, *pyproject["build-system"]["requires"])


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    place = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return folder.joinpath(*place)


def wheels_of(folder: Path) -> Path:
    """Where an environment keeps the packages that Colab lacks."""
    return folder / "wheels"


def versions() -> dict[str, str]:
    """The version of each package in Colab, by its canonical name."""
    lines = CONSTRAINTS.read_text("utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def _name(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def _run(*command: str | Path) -> None:
    print(*command, flush=True)
    subprocess.run(command, check=True)
