"""What the command behind chapter 09's table of compiled code measures and writes."""

import pytest
import torch

from chapters.scaling_out import experiment

CASES = experiment.cases


def test_each_case_is_compiled_as_its_name_says():
    compiled = []
    for name, work in CASES(lambda function: compiled.append(function) or function):
        before = work()
        assert before.isfinite().all()
        trains = "training" in name
        assert (not torch.equal(work(), before)) == trains, name
    kinds = ["module" if isinstance(one, torch.nn.Module) else "function" for one in compiled]
    assert kinds == ["function", "module", "module", "function"]


def test_the_table_says_when_the_first_call_has_paid():
    rows = [
        {"case": "faster", "plain": 3.0, "first": 4000.0, "again": 1.0, "later": 1.0},
        {"case": "slower", "plain": 1.0, "first": 4000.0, "again": 1.0, "later": 1.5},
    ]
    _, faster, slower = experiment.table(rows).splitlines()
    assert faster.endswith("2,000 calls") and slower.endswith("never")


def test_without_a_compiler_the_command_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "has_compiler", lambda: False)
    with pytest.raises(SystemExit, match=r"no C\+\+ compiler"):
        experiment.main(["--out", str(tmp_path / "results.json")])
    assert not [*tmp_path.iterdir()]
