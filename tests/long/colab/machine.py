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
from collections.abc import Mapping
from pathlib import Path

from tools import repository, stamp

REPOSITORY = checkout.repository(checkout.root())
SETUP = stamp.setup_source(REPOSITORY)


_KERNEL = f"""
import os
import google.colab

def cell():
    exec({SETUP!r}, {{}})

"""


class Machine:
    """A fresh machine below ``folder``, with the libraries that the interpreter ``python`` sees."""

    def __init__(
        self,
        folder: Path,
        repository: Path,
        python: Path | str = sys.executable,
        **environment: str,
    ):
        self.folder = folder
        self.content = folder / "content"
        self.content.mkdir(parents=True)
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.environment = {
            **_without_settings_of_python(os.environ),
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self.temporary)),
            "HOME": str(folder),
            **redirected(repository),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            **environment,
        }
        self._make_python(python)

    def run(self, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run ``code`` in a process that is like a kernel; ``cell()`` in it is the setup cell."""
        return subprocess.run(
            [self.python, "-c", _KERNEL + code],
            cwd=self.content,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
        )

    def installed(self) -> set[str]:
        """The names of what pip installed here."""
        return {info.name.partition("-")[0] for info in self.packages.glob("*.dist-info")}

    def _make_python(self, python: Path | str) -> None:
        """A path file names the other Python's folders, so the path files in them are not read."""
        folder = self.folder / "environment"
        subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
        place = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
        self.python = folder.joinpath(*place)
        (own,) = package_folders(self.python)
        self.packages = Path(own)
        seen = [*package_folders(python), str(_stand_in(self.folder / "google"))]
        (self.packages / "seen.pth").write_text("\n".join(seen))


def package_folders(python: Path | str) -> list[str]:
    """The folders in which an interpreter keeps its packages."""
    code = "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))"
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    paths = json.loads(told.stdout)
    return sorted({paths["purelib"], paths["platlib"]})


def redirected(repository: Path) -> dict[str, str]:
    """Settings with which git takes a repository on this disk for the course's own."""
    return {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": REPOSITORY.url,
    }


def copied_course(folder: Path) -> Path:
    """A copy of the checkout: the files that git tracks, and new ones that it does not ignore."""
    root = checkout.root()
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    return folder


def commit_all(folder: Path) -> Path:
    """Make a folder a repository with one commit, on the branch that the setup cell takes."""
    git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "--quiet", "--initial-branch", REPOSITORY.branch], check=True)
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


def _stand_in(folder: Path) -> Path:
    """A package ``google.colab``. TensorBoard, too, asks for no more than that it is there."""
    (folder / "google" / "colab").mkdir(parents=True)
    (folder / "google" / "colab" / "__init__.py").touch()
    return folder


def _without_settings_of_python(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(("PYTHON", "PIP_", "VIRTUAL_ENV"))
    }
