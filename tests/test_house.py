"""What holds for the checkout as a whole. These tests ask git which files belong to it."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tools import repository, stamp
from chapters import CHAPTERS
from tests.long.colab import environment

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = checkout.root()
README = (ROOT / "README.md").read_text("utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PYTHONS = SpecifierSet(PYPROJECT["project"]["requires-python"])

WORKFLOWS = sorted(path.stem for path in (ROOT / ".github" / "workflows").glob("*.yml"))
NEWEST_PYTHON = 14  # the minor version of the newest Python that torch has wheels for
OLDEST_PACKAGES = """\
python3 -m pip install -q packaging tomli
python3 -m tests.long.versions > "$RUNNER_TEMP/floors.txt"
grep ^torch "$RUNNER_TEMP/floors.txt" > "$RUNNER_TEMP/torch.txt\""""

# A room imports only rooms of lower floors. On floor 0 is what everybody may import.
FLOORS = {
    "chapters": 0,
    "runtime": 1,
    "expect": 1,
    "tensorboard_server": 1,
    "data": 2,
    "loading": 2,
    "training": 2,
    "checkpoint": 2,
    "augment": 2,
    "margins": 2,
    "plots": 3,
    "boards": 4,
    "experiments": 4,
    "explorers": 5,
    "exercises": 5,
}
# Commands around the course: they import what they like, and no room imports them.
COMMANDS = {"__main__", "authoring", "checkout", "claims", "drift", "kernel", "lab", "site"}


def files() -> list[Path]:
    """The files of the checkout: tracked ones, and new ones that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def texts() -> dict[str, str]:
    """The text of each file that is text, by its path in the checkout."""
    found = {}
    for path in files():
        content = path.read_bytes()
        if b"\0" not in content:
            found[path.relative_to(ROOT).as_posix()] = content.decode()
    return found


def block(marker: str) -> str:
    """The fenced block that follows a marker in the README."""
    return re.search(rf"<!-- {marker} -->\n```\w*\n(.*?)\n```", README, re.DOTALL)[1]


# Installing and testing


def test_conda_installs_python_and_leaves_the_rest_to_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    python, pip, from_pip = environment["dependencies"]
    assert python.removeprefix("python=") in PYTHONS
    assert (pip, from_pip) == ("pip", {"pip": ["-e .[dev]"]})
    assert environment["name"] == PYPROJECT["project"]["name"]


def test_the_dev_extra_holds_what_the_other_extras_hold():
    extras = PYPROJECT["project"]["optional-dependencies"]
    (everything,) = map(Requirement, extras["dev"])
    assert everything.name == PYPROJECT["project"]["name"]
    assert everything.extras == set(extras) - {"dev"}


def test_every_package_is_installed():
    folders = [path.parent.relative_to(ROOT) for path in files() if path.name == "__init__.py"]
    packages = {".".join(folder.parts) for folder in folders if folder.parts[0] == "helpers"}
    assert packages == set(PYPROJECT["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize(
    ("marker", "extra", "last"),
    [("lab", "lab", "-m helpers"), ("tests", "dev", "-m pytest")],
)
def test_each_readme_command_makes_an_environment_installs_and_runs(marker, extra, last):
    python = ".venv/bin/python"
    assert block(marker).split(" &&\n") == [
        "python3 -m venv .venv",
        f'{python} -m pip install -q -e ".[{extra}]"',
        f"{python} {last}",
    ]


@pytest.mark.parametrize("marker", ["lab", "tests"])
def test_the_windows_form_of_a_command_is_the_same_command(marker):
    unix = block(marker).replace(" &&", "").replace("python3", "python")
    assert block(f"{marker}-windows") == unix.replace(".venv/bin/python", r".venv\Scripts\python")


def test_ci_takes_its_command_from_the_readme():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert script.startswith("#!/usr/bin/env bash\n")
    assert "<!-- tests -->" in script
    assert "pip install" not in script


def test_the_workflow_runs_the_readme_commands():
    job = workflow("tests")["jobs"]["readme"]
    assert commands(job) == {OLDEST_PACKAGES, block("cpu"), block("tests"), block("tests-windows")}


def test_the_workflow_tries_every_python_and_every_system():
    tried = matrix()
    oldest = int(str(PYTHONS).removeprefix(">=3."))
    on_linux = {entry["python"] for entry in tried if entry["os"].startswith("ubuntu")}
    assert on_linux == {f"3.{minor}" for minor in range(oldest, NEWEST_PYTHON + 1)}
    assert {entry["os"].partition("-")[0] for entry in tried} == {"ubuntu", "macos", "windows"}
    assert all(entry["python"] in PYTHONS for entry in tried)


def test_the_oldest_python_and_no_other_gets_the_floors_of_all_packages():
    (entry,) = [entry for entry in matrix() if entry.get("floors")]
    assert entry == {"os": "ubuntu-latest", "python": str(PYTHONS)[2:], "floors": True}
    steps = workflow("tests")["jobs"]["readme"]["steps"]
    held = {step["run"].strip(): step["env"]["PIP_CONSTRAINT"] for step in steps if "env" in step}
    given = "${{ matrix.floors && format('{0}/%s', runner.temp) || '' }}"
    assert held == {block("cpu"): given % "torch.txt", block("tests"): given % "floors.txt"}
    for file in ("torch.txt", "floors.txt"):
        assert f'> "$RUNNER_TEMP/{file}"' in OLDEST_PACKAGES


def test_a_weekly_run_reports_what_the_newest_torch_has_changed():
    found = workflow("tests")
    (weekly,) = found[True]["schedule"]  # YAML reads the key `on` as true
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", weekly["cron"])
    report = f'{block("lab")} drift --markdown "$GITHUB_STEP_SUMMARY"'
    assert commands(found["jobs"]["drift"]) == {block("cpu"), report}
    assert "github.event_name == 'schedule'" in found["jobs"]["drift"]["if"]


def test_a_job_runs_the_chapters_with_colabs_versions_and_its_python():
    job = workflow("tests")["jobs"]["colab"]
    cpu, run = (step["run"] for step in job["steps"] if "run" in step)
    assert cpu.strip() == block("cpu")
    folder = '"$RUNNER_TEMP/colab"'
    assert f"-m tests.long.colab {folder}" in run
    assert f"{environment.VARIABLE}={folder} .venv/bin/python -m pytest -n 2 -m colab" in run
    pythons = [step["with"]["python-version"] for step in job["steps"] if "with" in step]
    assert pythons == [environment.PYTHON]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_pins_each_action_to_a_major_version(name):
    steps = [step for job in workflow(name)["jobs"].values() for step in job["steps"]]
    actions = [step["uses"] for step in steps if "uses" in step]
    assert actions
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", action) for action in actions)


def workflow(name: str) -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text("utf-8"))


def matrix() -> list[dict]:
    return workflow("tests")["jobs"]["readme"]["strategy"]["matrix"]["include"]


def commands(job: dict) -> set[str]:
    return {step["run"].strip() for step in job["steps"] if "run" in step}


# What the pages say


def test_the_generated_parts_are_up_to_date():
    assert list(stamp.outdated(ROOT)) == [], "run `python -m helpers stamp`"


@pytest.mark.parametrize("command", ["check", "format --check"])
def test_ruff_has_nothing_to_say_about_a_module(command):
    modules = [str(path) for path in files() if path.suffix == ".py"]
    ruff = [sys.executable, "-m", "ruff", *command.split(), "--no-cache", "--quiet"]
    done = subprocess.run([*ruff, *modules], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_chapter_has_a_notebook_and_each_notebook_is_a_chapter():
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert notebooks == {chapter.stem for chapter in CHAPTERS}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_relative_link_of_a_page_leads_to_a_file(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text("utf-8"))
    relative = [target for target in targets if "://" not in target]
    assert relative
    assert [target for target in relative if not (ROOT / target).exists()] == []


def test_the_readme_lists_every_environment_variable_that_the_course_reads():
    listed = set(re.findall(r"`(TUTORIAL_\w+)`", README))
    source = "".join(text for name, text in texts().items() if name.startswith("helpers/"))
    assert listed == set(re.findall(r"TUTORIAL_[A-Z]+", source))


def test_the_exercise_of_the_readme_answers_what_the_readme_says(tmp_path, monkeypatch):
    from helpers.exercises import start_here

    monkeypatch.setenv("TUTORIAL_SCRATCH", str(tmp_path))
    *definition, check = ast.parse(block("example")).body
    names = {"ex": start_here}
    exec(compile(ast.Module(definition, []), "README.md", "exec"), names)
    card = eval(compile(ast.Expression(check.value), "README.md", "eval"), names)
    text = re.search(r"```text\n(.*?)\n```", README, re.DOTALL)[1]
    assert str(card) == text


# The repository's address and other places that belong in no file


def test_only_pyproject_and_what_is_generated_name_the_repository():
    slug = checkout.repository(ROOT).slug
    named = {name for name, text in texts().items() if slug in authored(name, text)}
    assert named == {"pyproject.toml"}


def authored(name: str, text: str) -> str:
    """What people wrote in a file: all of it, unless parts of it are generated."""
    if name == "README.md":
        return re.sub(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", "", text, flags=re.DOTALL)
    if name.startswith("notebooks/"):
        cells = json.loads(text)["cells"]
        written = [cell for cell in cells if cell["id"] not in ("header", "setup", "footer")]
        return "".join("".join(cell["source"]) for cell in written)
    return text


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(
            r"pypi\.(?:org|io)|pythonhoste[d]\.|anaconda\.(?:org|com)|npmjs\.", id="registry"
        ),
        pytest.param(r"(?<!\w)/(?:home|Users)/(?!me\b)\w|/root/\w|[A-Z]:\\+Users", id="home"),
    ],
)
def test_no_file_names_a_package_registry_or_a_home_folder(pattern):
    found = {
        name: match[0] for name, text in texts().items() if (match := re.search(pattern, text))
    }
    assert found == {}


# How the rooms of helpers stand on each other


def test_every_room_stands_on_a_floor_or_is_a_command():
    paths = [path for path in (ROOT / "helpers").iterdir() if path.name != "__pycache__"]
    rooms = {path.stem for path in paths} - {"__init__"}
    assert rooms == {*FLOORS, *COMMANDS}, "a new room needs a floor in FLOORS"


@pytest.mark.parametrize("room", FLOORS)
def test_a_room_imports_only_rooms_of_lower_floors(room):
    imported = {name.split(".")[1] for path in modules(room) for name in imports(path)} - {room}
    assert {name for name in imported if FLOORS.get(name, 99) >= FLOORS[room]} == set()


def test_no_exercise_room_imports_another():
    rooms = {f"helpers.exercises.{chapter.room}" for chapter in CHAPTERS}
    for path in modules("exercises"):
        assert not {name for name in imports(path) if name in rooms}, path.name


def modules(room: str) -> list[Path]:
    folder = ROOT / "helpers" / room
    return sorted(folder.glob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def imports(path: Path) -> set[str]:
    """The dotted names below `helpers` that a module imports, also those within its functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports by a relative name: write helpers.…"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("helpers.")}


@pytest.mark.parametrize(
    "module",
    [
        *("helpers", "helpers.exercises", "tools.stamp", "helpers.lab", "helpers.__main__"),
        *("tools.claims", "tools.drift.running", "tools.drift.listing", "tools.site"),
    ],
)
def test_what_needs_no_torch_imports_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
