"""What the command behind chapter 09's table of compiled code measures and writes."""

import itertools

import pytest
import torch

from chapters.scaling_out import experiment

CASES = experiment.cases


def test_the_command_writes_the_rows_that_the_chapter_shows(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(experiment, "cases", lambda compiled: itertools.islice(CASES(compiled), 2))
    out = tmp_path / "results.json"
    experiment.main(["--backend", "eager", "--calls", "2", "--out", str(out)])
    said = experiment.shipped(out)
    names = [name for name, _ in CASES(lambda function: function)]
    assert [row["case"] for row in said["rows"]] == names[:2]
    assert experiment.table(said["rows"]) in capsys.readouterr().out
    assert [row["case"] for row in experiment.shipped()["rows"]] == names
    assert experiment.shipped()["backend"] == "inductor"


def test_each_case_is_compiled_as_its_name_says():
    compiled = []
    for name, work in CASES(lambda function: compiled.append(function) or function):
        before = work()
        assert before.isfinite().all()
        trains = "training" in name
        assert (not torch.equal(work(), before)) == trains, name
    kinds = ["module" if isinstance(one, torch.nn.Module) else "function" for one in compiled]
    assert kinds == ["function", "module", "module", "function"]


def test_other_numbers_of_the_compiled_function_end_the_measurement(monkeypatch):
    def wrong(graph, inputs):
        return lambda *given: [output + 1 for output in graph.forward(*given)]

    monkeypatch.setattr(experiment, "cases", lambda compiled: itertools.islice(CASES(compiled), 1))
    with pytest.raises(AssertionError, match="not close"):
        experiment.measured(wrong, calls=1)


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
