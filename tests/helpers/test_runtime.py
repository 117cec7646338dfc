import os
import random
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import MonkeyPatch

from helpers import runtime

PLAIN_NAMES = st.from_regex(r"[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,9}(/[a-z0-9_-]+)?", fullmatch=True)


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()


@pytest.fixture
def accelerator(monkeypatch):
    """A function that makes torch claim ``count`` accelerators of a type, or none."""

    def claim(kind, count):
        def current_accelerator(check_available=False):
            assert check_available
            return None if kind is None else torch.device(kind)

        monkeypatch.setattr(torch.accelerator, "current_accelerator", current_accelerator)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)

    monkeypatch.delenv("TUTORIAL_DEVICE", raising=False)
    return claim


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The directory in which temporary directories of the process are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runtime._temporary_root.cache_clear()
    yield tmp_path
    runtime._temporary_root.cache_clear()


@given(n=st.integers(0, 2**32 - 1))
def test_the_same_seed_repeats_the_draws_of_all_three_generators(n):
    runtime.seed(n)
    first = draws()
    assert all(value != again for value, again in zip(first, draws(), strict=True))
    runtime.seed(n)
    assert draws() == first


@pytest.mark.parametrize(
    "wrong, error", [(True, TypeError), (1.0, TypeError), (-1, ValueError), (2**32, ValueError)]
)
def test_a_seed_that_is_no_int_or_out_of_range_is_refused_and_named(wrong, error):
    with pytest.raises(error, match=str(wrong)):
        runtime.seed(wrong)


@pytest.mark.parametrize("kind, expected", [(None, "cpu"), ("cuda", "cuda"), ("mps", "mps")])
def test_without_a_wish_the_device_is_the_accelerator_or_else_the_cpu(accelerator, kind, expected):
    accelerator(kind, count=1)
    assert runtime.device() == torch.device(expected)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_each_device_that_is_there_can_be_asked_for(accelerator, monkeypatch, name):
    accelerator("cuda", count=2)
    monkeypatch.setenv("TUTORIAL_DEVICE", name)
    assert runtime.device() == torch.device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:2", "mps", "meta", "cpu ", "0"])
def test_a_device_that_is_not_there_is_refused_with_a_list_of_those_that_are(
    accelerator, monkeypatch, name
):
    accelerator("cuda", count=2)
    monkeypatch.setenv("TUTORIAL_DEVICE", name)
    with pytest.raises(ValueError) as caught:
        runtime.device()
    for named in (name, "cpu", "cuda", "cuda:0", "cuda:1"):
        assert repr(named) in str(caught.value)


def test_threads_are_what_was_asked_for():
    before = torch.get_num_threads()
    try:
        for n in (2, 1):
            runtime.threads(n)
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)
    with pytest.raises(ValueError, match="got 0"):
        runtime.threads(0)


def test_strict_is_anything_but_nothing_and_zero(monkeypatch):
    assert not runtime.strict()
    for value, expected in {"": False, "0": False, "1": True, "yes": True}.items():
        monkeypatch.setenv("TUTORIAL_STRICT", value)
        assert runtime.strict() is expected


@settings(max_examples=25)
@given(name=PLAIN_NAMES)
def test_a_scratch_directory_exists_and_lies_where_the_reader_wants_it(name):
    with tempfile.TemporaryDirectory() as root, MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TUTORIAL_SCRATCH", root)
        path = runtime.scratch(name)
        assert path.is_dir()
        assert Path(root).absolute() in path.parents
        assert runtime.scratch(name) == path


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/../b", "a/..", "/x", "a//b", "a/", "C:x", "a\\b", "~", "a b", ".x"],
)
def test_a_scratch_name_that_could_lead_elsewhere_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv("TUTORIAL_SCRATCH", str(tmp_path))
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        runtime.scratch(name)
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_is_the_home_directory(monkeypatch):
    monkeypatch.setenv("TUTORIAL_SCRATCH", "~/course")
    assert runtime.scratch_root() == Path.home() / "course"


def test_scratch_lies_in_the_checkout_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("TUTORIAL_SCRATCH", raising=False)
    monkeypatch.chdir(tmp_path)
    assert runtime.scratch_root() == Path(runtime.__file__).parents[1] / "scratch"


@pytest.mark.parametrize("project_file", [None, '[project]\nname = "another"\n'])
def test_scratch_lies_in_the_working_directory_outside_a_checkout(
    tmp_path, monkeypatch, project_file
):
    installed = tmp_path / "site-packages"
    (installed / "helpers").mkdir(parents=True)
    if project_file is not None:
        (installed / "pyproject.toml").write_text(project_file)
    monkeypatch.delenv("TUTORIAL_SCRATCH", raising=False)
    monkeypatch.setattr(runtime, "__file__", str(installed / "helpers" / "runtime.py"))
    monkeypatch.chdir(tmp_path)
    assert runtime.scratch("00") == tmp_path / "scratch" / "00"


def block_with_a_file(root, monkeypatch):
    root.write_text("in the way")


def make_read_only(root, monkeypatch):
    # Permissions do not stop an administrator, so the answer of the system is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: root not in Path(path).parents)


@pytest.mark.parametrize("obstacle", [block_with_a_file, make_read_only])
def test_where_nothing_can_be_written_scratch_is_temporary_and_one_line_says_so(
    temporary, monkeypatch, capsys, obstacle
):
    root = temporary / "wanted"
    monkeypatch.setenv("TUTORIAL_SCRATCH", str(root))
    obstacle(root, monkeypatch)
    path = runtime.scratch("00")
    said = capsys.readouterr().out
    assert path.is_dir() and root not in path.parents and temporary in path.parents
    assert said.count("\n") == 1 and str(path) in said
    assert runtime.scratch("00") == path


def test_the_report_describes_this_process(monkeypatch):
    monkeypatch.setenv("TUTORIAL_DEVICE", "cpu")
    rows = runtime.report().rows
    assert rows["Python"] == ".".join(map(str, sys.version_info[:3]))
    assert (rows["torch"], rows["device"]) == (torch.__version__, "cpu")
    assert rows["torch threads"] == str(torch.get_num_threads())
    assert rows["scratch directory"] == str(runtime.scratch_root())
    assert 1 <= int(rows["usable cores"]) <= os.cpu_count()
    assert rows["in Colab"] == "no"
    monkeypatch.setitem(sys.modules, "google.colab", object())
    assert runtime.report().rows["in Colab"] == "yes"


def test_the_report_does_not_import_torchvision(run_in_new_process, tmp_path):
    code = "import sys; import helpers.runtime as runtime; runtime.report(); "
    code += "print('torchvision' in sys.modules)"
    assert run_in_new_process(code, tmp_path) == (0, "False\n")


def test_all_cores_count_where_the_system_does_not_say_which_are_allowed(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert runtime.report().rows["usable cores"] == str(os.cpu_count())


def test_the_report_shows_every_value_in_one_column_of_text_and_in_html():
    report = runtime.Report({"torch": "2<b>", "scratch directory": "a&b"})
    assert str(report) == "torch              2<b>\nscratch directory  a&b"
    page = report._repr_html_()
    assert "2&lt;b&gt;" in page and "a&amp;b" in page and "scratch directory" in page
    # not break-word: only `anywhere` lets a table become narrower than its longest word
    assert page.count("overflow-wrap:anywhere") == len(report.rows)
