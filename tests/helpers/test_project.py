"""What holds for the project as a whole: its commands, its packages, its pages, its layers."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from chapters import CHAPTERS
from helpers import checkout

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = checkout.root()
README = (ROOT / "README.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
NEWEST_PYTHON = 14  # the minor version of the newest Python that torch has wheels for


def files() -> list[Path]:
    """The project's own files. Git is not asked: the tests also run where there is none."""
    folders = (".ci", ".github", "chapters", "helpers", "notebooks", "tests", "tools")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    found += [path for path in ROOT.glob("*.*") if path.suffix in {".md", ".toml", ".txt", ".yml"}]
    made_at_run_time = {"__pycache__", ".ipynb_checkpoints"}
    return [path for path in found if path.is_file() and not made_at_run_time & {*path.parts}]


def texts() -> dict[str, str]:
    """The text of each file that is text, by its path in the checkout."""
    contents = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in files()}
    return {name: data.decode() for name, data in contents.items() if b"\0" not in data}


def block(marker: str) -> str:
    """The fenced block that follows a marker in the README."""
    return re.search(rf"<!-- {marker} -->\n```\w*\n(.*?)\n```", README, re.DOTALL)[1]


# Installing and testing


def test_the_windows_form_of_a_command_is_the_same_command():
    for marker in ("lab", "tests"):
        unix = block(marker).replace(" &&", "").replace("python3", "python")
        windows = block(f"{marker}-windows").replace(".venv\\Scripts\\", ".venv/bin/")
        assert windows == unix


def test_the_commands_bring_a_new_pip():
    """Python 3.10.0 comes with pip 21.2, which cannot install this project editable."""
    for marker in ("lab", "tests", "lab-windows", "tests-windows"):
        assert "-m venv --upgrade-deps .venv" in block(marker)


def test_workflows_run_the_readmes_test_command():
    steps = workflow("tests")["jobs"]["readme"]["steps"]
    run = [step["run"].strip() for step in steps if "run" in step]
    assert run == [block("tests"), block("tests-windows")]


def test_continuous_integration_reads_its_command_from_the_readme():
    """.ci/run takes the block after this marker, and then runs the long tests."""
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "<!-- tests -->" in script
    assert "pytest -n 2 tests/long" in script


def test_the_workflow_tries_every_python_and_every_system():
    tried = workflow("tests")["jobs"]["readme"]["strategy"]["matrix"]["include"]
    oldest = int(PROJECT["requires-python"].removeprefix(">=3."))
    on_linux = {entry["python"] for entry in tried if entry["os"].startswith("ubuntu")}
    assert on_linux == {f"3.{minor}" for minor in range(oldest, NEWEST_PYTHON + 1)}
    assert {entry["os"].partition("-")[0] for entry in tried} == {"ubuntu", "macos", "windows"}


def test_contributors_and_the_workflow_use_the_same_ruff():
    (pinned,) = set(re.findall(r"ruff==[\d.]+", CONTRIBUTING))
    assert any(pinned in str(step) for step in workflow("tests")["jobs"]["lint"]["steps"])


def workflow(name: str) -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text("utf-8"))


# Packages


def requirements() -> list[Requirement]:
    """What pyproject.toml depends on, extras included, but for its own extras."""
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    found = [Requirement(line) for line in lines]
    return [requirement for requirement in found if requirement.name != PROJECT["name"]]


def test_each_dependency_has_one_floor():
    floors: dict[str, set[str]] = {}
    for requirement in requirements():
        floors.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert [name for name, found in floors.items() if len(found) > 1] == []
    assert all(re.fullmatch(r">=[\d.]+", floor) for (floor,) in floors.values())


@pytest.mark.parametrize("minor", range(10, NEWEST_PYTHON + 1))
def test_constraints_pin_each_dependency_once_and_not_below_its_floor(minor):
    python = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.7"}
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    valid = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(python)]
    pinned = {pin.name: str(pin.specifier).removeprefix("==") for pin in valid}
    assert len(pinned) == len(valid)
    needed = [one for one in requirements() if one.marker is None or one.marker.evaluate(python)]
    assert [one.name for one in needed if pinned.get(one.name) not in one.specifier] == []


def test_constraints_leave_open_which_build_of_torch_is_installed():
    """A build without CUDA has the same version, with a label that `==` does not look at."""
    pins = (ROOT / "constraints.txt").read_text("utf-8")
    assert not re.search(r"^(nvidia|cuda|triton)|\+", pins, re.MULTILINE)


def test_conda_installs_python_and_leaves_the_rest_to_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    python, pip, from_pip = environment["dependencies"]
    assert python.removeprefix("python=") in SpecifierSet(PROJECT["requires-python"])
    assert (pip, from_pip) == ("pip", {"pip": ["-c constraints.txt", "-e .[dev]"]})


# Pages


def test_each_chapter_has_a_notebook_and_each_notebook_is_a_chapter():
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert notebooks == {chapter.stem for chapter in CHAPTERS}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text("utf-8"))
    relative = [target for target in targets if "://" not in target]
    assert relative
    for target in relative:
        file, _, anchor = target.partition("#")
        assert (ROOT / file).exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", (ROOT / (file or page)).read_text("utf-8"), re.M)
            assert anchor in [heading.lower().replace(" ", "-") for heading in headings], target


def test_the_paths_that_contributing_names_exist():
    paths = r"`((?:helpers|chapters|tools|tests|notebooks|\.ci)/[\w./]*)`"
    named = set(re.findall(paths, CONTRIBUTING)) - {"notebooks/11_name.ipynb"}
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_readme_lists_every_environment_variable_that_the_course_reads():
    listed = set(re.findall(r"`(TUTORIAL_\w+)`", README))
    source = "".join(text for name, text in texts().items() if name.startswith("helpers/"))
    assert listed == set(re.findall(r"TUTORIAL_[A-Z]+", source))


def test_the_exercise_of_the_readme_answers_what_the_readme_says():
    from chapters.start_here import exercises

    *definition, check = ast.parse(block("example")).body
    names = {"ex": exercises}
    exec(compile(ast.Module(definition, []), "README.md", "exec"), names)
    card = eval(compile(ast.Expression(check.value), "README.md", "eval"), names)
    assert str(card) == re.search(r"```text\n(.*?)\n```", README, re.DOTALL)[1]


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


# Layers: helpers, then chapters, then tools; a module imports only from its own and from below.


LAYERS = ("helpers", "chapters", "tools")
ENTRY_POINTS = {"helpers.__main__"}  # may import chapters, within a function


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_from_layers_below(layer):
    above = LAYERS[LAYERS.index(layer) + 1 :] + ("tests",)
    for module, imported in modules(layer).items():
        wrong = {name for name in imported if name.partition(".")[0] in above}
        assert not wrong or module in ENTRY_POINTS, f"{module} imports {wrong}"


def test_no_chapter_imports_another():
    for module, imported in modules("chapters").items():
        others = {
            ".".join(name.split(".")[:2]) for name in imported if name.startswith("chapters.")
        }
        assert others <= {".".join(module.split(".")[:2])}, module


def test_modules_of_helpers_import_each_other_in_no_circle():
    found = modules("helpers")
    # A name may be a module's or stand in one.
    graph = {
        module: {name if name in found else name.rpartition(".")[0] for name in imported}
        for module, imported in found.items()
    }
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("module", ["runtime", "expect", "checkout"])
def test_the_lowest_modules_of_helpers_import_no_other(module):
    assert modules("helpers")[f"helpers.{module}"] == set()


def test_only_the_commands_of_the_course_import_the_lab():
    users = {name for name, imported in modules("helpers").items() if "helpers.lab" in imported}
    assert users == {"helpers.__main__"}


@cache
def modules(layer: str) -> dict[str, set[str]]:
    """What each module of a layer imports from the project at run time, by dotted names."""
    found = {}
    for path in sorted((ROOT / layer).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = imports(ast.parse(path.read_text("utf-8"))) - {name}
    return found


def imports(tree: ast.Module) -> set[str]:
    """The project's names that a module imports, also within functions, but not for types only."""
    only_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names = set()
    for node in set(ast.walk(tree)) - only_types:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write `from helpers…`, not `from .`"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.partition(".")[0] in (*LAYERS, "tests")}


def test_what_needs_no_torch_imports_no_torch():
    needs_none = "helpers.lab, helpers.expect, helpers.__main__, chapters"
    code = f"import sys, {needs_none}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
