"""The course's repository on GitHub: the address and branch that its links lead to."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from helpers.checkout import CourseError


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

    @property
    def site(self) -> str:
        """Where GitHub Pages has what the repository publishes."""
        return f"https://{self.owner.lower()}.github.io/{self.name}/"


def repository(folder: Path) -> Repository:
    """The repository that a checkout's ``pyproject.toml`` names, the one place that names it."""
    pyproject = _pyproject(folder).read_text("utf-8")
    owner, name = parse_url(_found(_REPOSITORY, pyproject)["value"])
    return Repository(owner, name, _found(_BRANCH, pyproject)["value"])


def naming(folder: Path, repository: Repository) -> tuple[Path, str]:
    """A checkout's ``pyproject.toml``, and its text if it named ``repository``."""
    text = _pyproject(folder).read_text("utf-8")
    for pattern, value in ((_REPOSITORY, repository.url), (_BRANCH, repository.branch)):
        start, end = _found(pattern, text).span("value")
        text = text[:start] + value + text[end:]
    return _pyproject(folder), text


def to_adopt(folder: Path, url: str | None = None, branch: str | None = None) -> Repository:
    """The repository at ``url`` with its ``branch``, for a checkout to name from now on.

    Without a ``url``, it is the one that the checkout was cloned from, with its default branch.
    Where nobody says which branch, it stays as it is. Raises ``CourseError`` where git knows no
    remote ``origin`` and where address or branch can't be read.
    """
    owner, name = parse_url(url or _origin(folder))
    if branch is None:
        branch = (None if url else _default_branch(folder)) or repository(folder).branch
    if not _BRANCH_NAME.fullmatch(branch):
        raise CourseError(
            f"cannot use the branch {branch!r}: expected a name of letters, digits, '.', '_', '-' "
            "and '/', as git gives it in `git branch`"
        )
    return Repository(owner, name, branch)


def parse_url(url: str) -> tuple[str, str]:
    """Owner and name of a GitHub repository, from any address of it that git understands.

    A user or token in the address is dropped, so that it gets into no file and no message.
    """
    found = _ADDRESS.fullmatch(url)
    if found is None:
        raise CourseError(
            "cannot read the repository's address: expected https://github.com/OWNER/NAME or "
            f"git@github.com:OWNER/NAME.git, got {_SECRET.sub('//', url)!r}"
        )
    return found["owner"], found["name"]


def _origin(folder: Path) -> str:
    """The address that a clone came from."""
    # Git looks in the folders above, too, and finds the repository that this one lies in.
    is_clone = _git(folder, "rev-parse", "--show-prefix") == ""
    if is_clone and (address := _git(folder, "remote", "get-url", "origin")):
        return address
    raise CourseError(
        f"git knows no remote 'origin' of {folder}: give the repository's address, as in "
        "`python -m tools adopt https://github.com/OWNER/NAME`"
    )


def _default_branch(folder: Path) -> str | None:
    head = _git(folder, "symbolic-ref", "refs/remotes/origin/HEAD")
    return head.removeprefix("refs/remotes/origin/") if head else None


def _git(folder: Path, *words: str) -> str | None:
    """What a git command says; None where it fails and where there is no git."""
    command = ["git", "-C", str(folder), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


_REPOSITORY = re.compile(r'^Repository = "(?P<value>[^"]*)"', re.MULTILINE)
_BRANCH = re.compile(r'^branch = "(?P<value>[^"]*)"', re.MULTILINE)
_BRANCH_NAME = re.compile(r"\w(?:[\w./-]*\w)?", re.ASCII)
_ADDRESS = re.compile(
    r"(?:(?:https|ssh)://)?(?:[^@/\s]+@)?(?:ssh\.)?github\.com(?::22|:443)?[:/]"
    r"(?P<owner>[\w-]+)/(?P<name>[\w.-]+?)(?:\.git)?/?",
    re.ASCII,
)
_SECRET = re.compile(r"//[^@/\s]+@")


def _pyproject(folder: Path) -> Path:
    return folder / "pyproject.toml"


def _found(pattern: re.Pattern[str], pyproject: str) -> re.Match[str]:
    found = pattern.search(pyproject)
    if found is None:
        raise CourseError(f"pyproject.toml has no line like {pattern.pattern}: add it")
    return found
