"""This checkout of the course: where it lies, and the address that its links lead to."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path


class CourseError(RuntimeError):
    """Something that the person at the keyboard can mend; the message says how."""


def root() -> Path:
    """The folder of the checkout that this package runs from. ``CourseError`` if there is none."""
    folder = Path(__file__).resolve().parent.parent
    if not ((folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir()):
        raise CourseError(
            f"helpers runs from {folder}, which is not a checkout of the course: go to the folder "
            "that holds `notebooks` and `pyproject.toml`, and run the command there"
        )
    return folder


@dataclass(frozen=True)
class Repository:
    """The course's repository on GitHub, and the branch that links and the setup cell take."""

    owner: str
    name: str
    branch: str

    @property
    def slug(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def url(self) -> str:
        return f"https://github.com/{self.slug}"


def repository(folder: Path) -> Repository:
    """The repository that a checkout's ``pyproject.toml`` names, the one place that names it."""
    pyproject = _pyproject(folder).read_text("utf-8")
    owner, name = parse_url(_found(_REPOSITORY, pyproject)["value"])
    return Repository(owner, name, _found(_BRANCH, pyproject)["value"])


def adopt(folder: Path, url: str) -> Repository:
    """Make a checkout's ``pyproject.toml`` name the repository at ``url``, and return it."""
    owner, name = parse_url(url)
    pyproject = _pyproject(folder).read_text("utf-8")
    start, end = _found(_REPOSITORY, pyproject).span("value")
    adopted = f"{pyproject[:start]}https://github.com/{owner}/{name}{pyproject[end:]}"
    _pyproject(folder).write_text(adopted, "utf-8", newline="\n")
    return repository(folder)


def origin(folder: Path) -> str:
    """The address that a clone came from. ``CourseError`` if git knows none."""
    command = ["git", "-C", str(folder), "remote", "get-url", "origin"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        raise CourseError(
            f"git knows no remote 'origin' of {folder}: give the repository's address, as in "
            "`python -m helpers adopt https://github.com/OWNER/NAME`"
        ) from None


def parse_url(url: str) -> tuple[str, str]:
    """Owner and name of a GitHub repository, from any address of it that git understands.

    A user or token in the address is dropped, so that it gets into no file.
    """
    found = _ADDRESS.fullmatch(url)
    if found is None:
        raise CourseError(
            "cannot read the repository's address: expected https://github.com/OWNER/NAME or "
            f"git@github.com:OWNER/NAME.git, got {url!r}"
        )
    return found["owner"], found["name"]


_REPOSITORY = re.compile(r'^Repository = "(?P<value>[^"]*)"', re.MULTILINE)
_BRANCH = re.compile(r'^branch = "(?P<value>[^"]*)"', re.MULTILINE)
_ADDRESS = re.compile(
    r"(?:(?:https|ssh)://)?(?:[^@/\s]+@)?github\.com(?::22)?[:/]"
    r"(?P<owner>[\w-]+)/(?P<name>[\w.-]+?)(?:\.git)?/?",
    re.ASCII,
)


def _pyproject(folder: Path) -> Path:
    return folder / "pyproject.toml"


def _found(pattern: re.Pattern[str], pyproject: str) -> re.Match[str]:
    found = pattern.search(pyproject)
    if found is None:
        raise CourseError(f"pyproject.toml has no line like {pattern.pattern}: add it")
    return found
