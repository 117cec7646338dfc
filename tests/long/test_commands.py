"""The commands behind the tables of chapters 08 and 09, on small tasks."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import pytest
import torch

from chapters.margin_losses import experiment as margin_losses
from chapters.scaling_out import experiment as scaling_out

CASES = scaling_out.cases


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(
        margin_losses, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1)
    )


def test_the_command_writes_the_results_that_the_chapter_shows(
    capsys, tmp_path, monkeypatch, in_this_process
):
    monkeypatch.setattr(margin_losses, "TASKS", {"7 digits": margin_losses.digits_task})
    few = {name: settings[:1] for name, settings in margin_losses.SETTINGS.items()}
    monkeypatch.setattr(margin_losses, "SETTINGS", few)
    out = tmp_path / "results.json"
    margin_losses.main(["--seeds", "2", "--steps", "3", "--width", "4", "--out", str(out)])
    said, results = margin_losses.shipped(out)
    assert said["torch"] in torch.__version__ and "--seeds 2" in said["command"]
    assert results["7 digits"]["pixels"].shape == (2, len(margin_losses.columns("7 digits")))
    text = margin_losses.table(said, results)
    assert text in capsys.readouterr().out
    bare = margin_losses.without_margin(said)["7 digits"]
    assert bare["ArcFace"].shape == results["7 digits"]["ArcFace"].shape
    mean = results["7 digits"]["ArcFace"][:, 0].mean()
    assert f"{mean:.2f} ±" in text
    figure = margin_losses.draw(results, [("7 digits", 0), ("7 digits", 3)])
    assert [len(axes.containers) for axes in figure.axes] == [len(margin_losses.SETTINGS)] * 2
    plt.close(figure)


def test_one_task_is_run_anew_and_the_others_stay(capsys, tmp_path, monkeypatch, in_this_process):
    tasks = {"7 digits": margin_losses.digits_task, "10 characters": None}
    monkeypatch.setattr(margin_losses, "TASKS", tasks)
    monkeypatch.setattr(margin_losses, "SETTINGS", {"cosine": margin_losses.SETTINGS["cosine"][:2]})
    out = tmp_path / "results.json"
    kept = {"cosine": {"scale": 3.0, "columns": [[1.0, 2.0, 3.0, 4.0]] * 2}}
    size = {"steps": 3, "width": 4}
    out.write_text(json.dumps({"size": size, "seeds": 2, "tasks": {"10 characters": kept}}))
    command = ["--task", "7 digits", "--steps", "3", "--width", "4", "--out", str(out)]
    margin_losses.main([*command, "--seeds", "2"])
    said, _ = margin_losses.shipped(out)
    assert [*said["tasks"]] == ["7 digits", "10 characters"]
    assert said["tasks"]["10 characters"] == kept
    assert len(said["tasks"]["7 digits"]["cosine"]["columns"]) == 2
    with pytest.raises(SystemExit, match="another size or number of seeds"):
        margin_losses.main([*command, "--seeds", "3"])


def test_the_command_writes_the_rows_that_the_chapter_shows(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scaling_out, "cases", lambda compiled: itertools.islice(CASES(compiled), 2))
    out = tmp_path / "results.json"
    scaling_out.main(["--backend", "eager", "--calls", "2", "--out", str(out)])
    said = scaling_out.shipped(out)
    names = [name for name, _ in CASES(lambda function: function)]
    assert [row["case"] for row in said["rows"]] == names[:2]
    assert scaling_out.table(said["rows"]) in capsys.readouterr().out
    assert [row["case"] for row in scaling_out.shipped()["rows"]] == names
    assert scaling_out.shipped()["backend"] == "inductor"


def test_other_numbers_of_the_compiled_function_end_the_measurement(monkeypatch):
    def wrong(graph, inputs):
        return lambda *given: [output + 1 for output in graph.forward(*given)]

    monkeypatch.setattr(scaling_out, "cases", lambda compiled: itertools.islice(CASES(compiled), 1))
    with pytest.raises(AssertionError, match="not close"):
        scaling_out.measured(wrong, calls=1)
