"""A machine like one of Colab's, as far as the setup cell can tell.

It has its own Python, which sees the libraries of another and nothing that is installed editable; a
stand-in for the package ``google.colab``, which a kernel in Colab has loaded; an empty working
directory; and a git that finds the course's repository on this disk.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from helpers import checkout
from tests.long.colab.environment import python_of
from tools import repository, stamp

REPOSITORY = repository.repository(checkout.root())
SETUP = stamp.setup_source(REPOSITORY)

_KERNEL = f"""
import os
import google.colab

def cell():
    exec({SETUP!r}, {{}})

"""


class Machine:
    """A fresh machine below ``folder``, with the libraries that the interpreter ``python`` sees.

    ``variables`` are added to the environment of its processes.
    """

    def __init__(
        self,
        folder: Path,
        repository: Path,
        python: Path | str = sys.executable,
        **variables: str,
    ):
        self.content, self.temporary = folder / "content", folder / "tmp"
        for new in (self.content, self.temporary):
            new.mkdir(parents=True)
        settings = ("PYTHON", "PIP_", "VIRTUAL_ENV", "PYTEST_", "TUTORIAL_")
        self.environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith(settings)},
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self.temporary)),
            "HOME": str(folder),
            **found_at(repository.as_uri()),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            **variables,
        }
        subprocess.run([python, "-m", "venv", "--without-pip", folder / "environment"], check=True)
        self.python = python_of(folder / "environment")
        self.packages = package_folders(self.python)[0]
        google = folder / "google"
        (google / "google" / "colab").mkdir(parents=True)
        (google / "google" / "colab" / "__init__.py").touch()
        # Path files in folders that are named by a path file are not read.
        seen = [*package_folders(python), google]
        (self.packages / "seen.pth").write_text("\n".join(map(str, seen)))

    def run(self, source: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``source`` in a process that is like a kernel; ``cell()`` in it is the setup cell."""
        return subprocess.run(
            [self.python, "-c", _KERNEL + source],
            cwd=self.content,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
        )

    def installed(self) -> set[str]:
        """The names of what pip installed here."""
        return {info.name.partition("-")[0] for info in self.packages.glob("*.dist-info")}


def package_folders(python: Path | str) -> list[Path]:
    """The folders in which an interpreter finds its packages, its own first."""
    code = "import json, sys; print(json.dumps(sys.path))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return [Path(path) for path in json.loads(done.stdout) if path.endswith("-packages")]


def found_at(url: str) -> dict[str, str]:
    """Variables with which git looks for the course's repository at ``url``."""
    return {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{url}.insteadOf",
        "GIT_CONFIG_VALUE_0": REPOSITORY.url,
    }


def copied_course(folder: Path) -> Path:
    """A copy of the files that pip needs of the course."""
    for name in ("helpers", "chapters"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(checkout.root() / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(checkout.root() / name, folder)
    return folder


def commit_all(folder: Path, branch: str = REPOSITORY.branch) -> Path:
    """Make a folder a repository with one commit, by default on the setup cell's branch."""
    git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "--quiet", "--initial-branch", branch], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "All"], check=True)
    return folder


def write_wheel(folder: Path, name: str, version: str) -> None:
    """Write a package that holds nothing but its name and version."""
    folder.mkdir()
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", metadata(name, version))
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def metadata(name: str, version: str) -> str:
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
