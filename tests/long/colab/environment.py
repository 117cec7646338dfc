"""An environment with the versions that Colab has, made once and used by many tests.

Beside what the course asks for, it holds what a kernel in Colab needs, and TensorFlow, since
TensorBoard reads and writes files another way where it is there. What Colab lacks is not installed:
it lies in a folder of wheels, from which the setup cell's pip takes it without a network.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers import checkout
from helpers.checkout import CourseError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VARIABLE = "COURSE_COLAB"  # the environment variable that names the folder to the tests
PYTHON = "3.13"  # Colab's
CONSTRAINTS = Path(__file__).with_name("constraints-2026-08-19.txt")
KERNEL = ("ipykernel", "pandas", "pip", "psutil", "setuptools", "tensorflow", "wheel")


@dataclass(frozen=True)
class Environment:
    """A folder with a virtual environment and the wheels of what Colab lacks."""

    folder: Path

    @property
    def python(self) -> Path:
        place = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
        return self.folder.joinpath(*place)

    @property
    def wheels(self) -> Path:
        return self.folder / "wheels"

    def is_current(self) -> bool:
        """Whether it was made to its end, and of what it would be made of now."""
        return self._made_of.is_file() and self._made_of.read_text("utf-8") == _recipe()

    def finish(self) -> None:
        """Note what it was made of."""
        self._made_of.write_text(_recipe(), "utf-8")

    @property
    def _made_of(self) -> Path:
        return self.folder / "made-of.txt"


def make(folder: Path, python: str) -> Environment:
    """Make the environment with the interpreter ``python``, or keep the current one in ``folder``.

    Raises ``CourseError`` where ``folder`` holds something else and where a command fails.
    """
    environment = Environment(folder.resolve())
    if environment.is_current():
        return environment
    if environment.folder.exists() and any(environment.folder.iterdir()):
        raise CourseError(
            f"{environment.folder} holds no current environment with Colab's versions: delete it "
            "or name another folder"
        )
    pip = [environment.python, "-m", "pip"]
    constrained = ["--constraint", CONSTRAINTS]
    download = [*pip, "download", "--dest", environment.wheels]
    _run(python, "-m", "venv", environment.folder)
    _run(*pip, "install", *constrained, *KERNEL, *_course(_is_in_colab))
    _run(*download, *constrained, *_course(_is_lacking))
    _run(*download, *_pyproject()["build-system"]["requires"])
    environment.finish()
    return environment


def colabs_python() -> str:
    """Python in the version that Colab has, or else the one that runs this."""
    name = f"python{PYTHON}"
    try:
        subprocess.run([name, "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return sys.executable
    return name


def colab_versions() -> dict[str, str]:
    """The version of each package in Colab, by its canonical name."""
    lines = CONSTRAINTS.read_text("utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def _recipe() -> str:
    names = [*KERNEL, *(Requirement(text).name for text in _pyproject()["project"]["dependencies"])]
    return "\n".join([*sorted(set(names)), CONSTRAINTS.read_text("utf-8")])


def _course(wanted: Callable[[str], bool]) -> list[str]:
    """The course's requirements whose names are wanted."""
    requirements = _pyproject()["project"]["dependencies"]
    return [text for text in requirements if wanted(Requirement(text).name)]


def _is_in_colab(name: str) -> bool:
    return canonicalize_name(name) in colab_versions()


def _is_lacking(name: str) -> bool:
    return not _is_in_colab(name)


def _pyproject() -> dict:
    return tomllib.loads((checkout.root() / "pyproject.toml").read_text("utf-8"))


def _run(*command: str | Path) -> None:
    words = [str(word) for word in command]
    print(" ".join(words), flush=True)
    try:
        code = subprocess.run(words).returncode
    except OSError as error:
        raise CourseError(f"`{words[0]}` cannot be run: {error.strerror}") from None
    if code:
        raise CourseError(
            f"`{' '.join(words)}` ended with exit code {code}; see what it says above"
        )
