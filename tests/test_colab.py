"""The setup cell, run as Colab runs it, but from a local repository and without a network."""

import os
import shutil
import subprocess
import sysconfig
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from helpers import authoring, checkout

REPOSITORY = checkout.repository(checkout.root())
SETUP = authoring.setup_source(REPOSITORY)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository that holds what the installation needs."""
    return commit_all(copied_course(tmp_path_factory.mktemp("repository")))


@pytest.fixture
def colab(tmp_path, repository):
    """A fresh Colab: its own Python, which sees the installed libraries but not `helpers`."""
    return Colab(tmp_path, repository)


class Colab:
    def __init__(self, folder: Path, repository: Path):
        self.folder = folder
        self.content = folder / "content"
        self.content.mkdir()
        self.clone = self.content / REPOSITORY.name
        self.python = make_environment(folder / "environment", fake_google(folder / "google"))
        self.environment = {
            **without_settings_of_python(os.environ),
            "HOME": str(folder),
            **redirected(REPOSITORY.url, repository),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            # In pip's configuration this option is upside down: 0 turns the isolation off.
            "PIP_NO_BUILD_ISOLATION": "0",
        }

    def installed(self) -> set[str]:
        """The names of what pip installed."""
        folders = (self.folder / "environment").rglob("*.dist-info")
        return {folder.name.partition("-")[0] for folder in folders}

    def run(self, after: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the setup cell and then some more code in one process, as one kernel does."""
        return subprocess.run(
            [self.python, "-c", f"import google.colab\n{SETUP}\n{after}"],
            cwd=self.content,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
        )


def test_the_cell_makes_helpers_importable_without_a_restart_and_moves_no_library(colab):
    done = colab.run("import helpers.chapters\nprint(helpers.__file__)")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(colab.folder / "environment")
    assert colab.installed() == {"pytorch_by_experiment"}


def test_where_helpers_is_there_the_cell_does_nothing(colab):
    (colab.content / "helpers.py").touch()
    done = colab.run(PATH="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not colab.clone.exists()


def test_an_existing_clone_is_used_as_it_is(colab, repository):
    subprocess.run(["git", "clone", "--quiet", repository, colab.clone], check=True)
    (colab.clone / "helpers" / "mine.py").write_text("NOTE = 'kept'\n")
    done = colab.run("from helpers.mine import NOTE\nprint(NOTE)", PATH="")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "kept\n"


def test_a_failed_clone_stops_the_cell_and_says_why(colab):
    done = colab.run(**redirected(REPOSITORY.url, colab.content / "nothing"))
    assert done.returncode == 1
    assert "RuntimeError: git clone" in done.stderr
    assert "run this cell again" in done.stderr
    assert "does not appear to be a git repository" in done.stderr


def test_an_interrupted_clone_stops_the_cell_and_says_what_to_delete(colab):
    (colab.clone / ".git").mkdir(parents=True)
    done = colab.run()
    assert done.returncode == 1
    assert f"Delete {REPOSITORY.name} and run this cell again" in done.stderr


def test_a_failed_installation_stops_the_cell_and_says_why(colab, tmp_path):
    course = copied_course(tmp_path / "broken")
    (course / "pyproject.toml").write_text("[project]\nname = 7\n")
    done = colab.run(**redirected(REPOSITORY.url, commit_all(course)))
    assert done.returncode == 1
    assert "-m pip install" in done.stderr.partition("RuntimeError: ")[2]
    assert "invalid pyproject.toml config" in done.stderr


def test_where_torch_would_have_to_move_the_cell_stops_instead(colab, tmp_path):
    course = copied_course(tmp_path / "newer")
    pyproject = course / "pyproject.toml"
    pyproject.write_text(pyproject.read_text("utf-8").replace('"torch>=', '"torch>=99'), "utf-8")
    write_wheel(tmp_path / "wheels", "torch", "999")
    source = redirected(REPOSITORY.url, commit_all(course))
    done = colab.run(**source, PIP_FIND_LINKS=str(tmp_path / "wheels"))
    assert done.returncode == 1
    assert "depends on torch>=99" in done.stderr
    assert colab.installed() == set()


def test_outside_colab_the_cell_says_what_to_run(colab):
    done = subprocess.run(
        [colab.python, "-c", SETUP],
        cwd=colab.content,
        env=colab.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"ImportError: Run `{colab.python} -m pip install -e .`" in done.stderr


def copied_course(folder: Path) -> Path:
    root = checkout.root()
    shutil.copytree(
        root / "helpers", folder / "helpers", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, folder)
    return folder


def commit_all(folder: Path) -> Path:
    git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "--quiet", "--initial-branch", REPOSITORY.branch], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message", "All"], check=True)
    return folder


def write_wheel(folder: Path, name: str, version: str) -> None:
    """A package that holds nothing but its name and version."""
    folder.mkdir()
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def make_environment(folder: Path, *extra: Path) -> Path:
    """A virtual environment that sees this one's packages, and not what is installed editable.

    A path file names the folder of the packages, so the path files in it are not read.
    """
    venv.create(folder, symlinks=os.name != "nt")
    scheme = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", vars=scheme))
    seen = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *map(str, extra)}
    (packages / "seen.pth").write_text("\n".join(seen))
    scripts = Path(sysconfig.get_path("scripts", vars=scheme))
    return scripts / ("python.exe" if os.name == "nt" else "python")


def fake_google(folder: Path) -> Path:
    (folder / "google" / "colab").mkdir(parents=True)
    (folder / "google" / "colab" / "__init__.py").touch()
    return folder


def redirected(url: str, repository: Path) -> dict[str, str]:
    """Settings with which git takes a local repository for the one at a URL."""
    return {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": url,
    }


def without_settings_of_python(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(("PYTHON", "PIP_", "VIRTUAL_ENV"))
    }
