"""Under ``TUTORIAL_STRICT``, types are enforced, and warnings are errors that we can avoid."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from jaxtyping import TypeCheckError

from helpers import runtime, strict

ROOT = Path(runtime.__file__).parents[1]


def run(code: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")


# conftest.py has called strict.enforce_types() in this process


def test_a_wrong_type_is_refused():
    assert runtime.Report({"Python": "3"}).rows["Python"] == "3"
    with pytest.raises(TypeCheckError):
        runtime.Report({"Python": 3})


def test_an_integer_passes_for_a_float():
    @strict.typechecked
    def half(x: float) -> float:
        return x / 2

    assert half(3) == 1.5


def test_explorers_are_enforced_and_exercises_are_not():
    from chapters.losses import exercises, explorer

    functions = [value for value in vars(explorer).values() if _is_own(value, explorer)]
    assert functions and all(hasattr(one, "__wrapped__") for one in functions)
    answers = [value for value in vars(exercises).values() if _is_own(value, exercises)]
    assert not any(hasattr(one, "__wrapped__") for one in answers)


def _is_own(value: object, module: object) -> bool:
    return callable(value) and getattr(value, "__module__", "") == module.__name__


WARN = """
import warnings

import helpers

for category in (UserWarning, RuntimeWarning, FutureWarning, DeprecationWarning):
    for module in ("__main__", "helpers.data", "chapters.losses.explorer", "helpersome", "torch"):
        try:
            warnings.warn_explicit("text", category, "file.py", 1, module)
        except Warning:
            print(category.__name__, module)
"""
OURS = ("__main__", "helpers.data", "chapters.losses.explorer")


def test_a_warning_is_an_error_unless_it_deprecates_what_others_use():
    done = run(WARN, TUTORIAL_STRICT="1", PYTHONWARNINGS="")
    raised = {tuple(line.split()) for line in done.stdout.splitlines()}
    everybody = {
        (kind, name)
        for kind in ("UserWarning", "RuntimeWarning")
        for name in (*OURS, "helpersome", "torch")
    }
    ours = {(kind, name) for kind in ("FutureWarning", "DeprecationWarning") for name in OURS}
    assert raised == everybody | ours, done.stderr


def test_what_a_library_filters_out_stays_filtered_out():
    code = """
import warnings
warnings.filterwarnings("ignore", module="library")
import helpers
warnings.warn_explicit("text", UserWarning, "file.py", 1, "library")
"""
    assert run(code, TUTORIAL_STRICT="1").returncode == 0


def test_without_it_a_reader_needs_no_beartype(run_in_new_process, tmp_path):
    code = "import sys, helpers.augment; print({'beartype', 'helpers.strict'} & {*sys.modules})"
    assert run_in_new_process(code, tmp_path) == (0, "set()\n")
