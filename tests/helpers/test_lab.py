"""A reader's working copy loses no edit, and JupyterLab opens on it: laws of `helpers.lab`."""

import json
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from helpers import checkout, exercises, lab
from helpers.__main__ import main
from chapters import CHAPTERS
from helpers.checkout import CourseError
from tests.long.labs import copied_course, running_lab

CHAPTER = CHAPTERS[1]
NAME = f"{CHAPTER.stem}.ipynb"


def write(path, *sources, outputs=()):
    cells = [new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    for cell in cells:
        cell.outputs = list(outputs)
    nbformat.write(new_notebook(cells=cells), path)


def sources(path):
    return [cell.source for cell in nbformat.read(path, as_version=4).cells]


@pytest.fixture
def folder(tmp_path):
    """A small checkout in which the course has been opened once."""
    (tmp_path / "notebooks").mkdir()
    for chapter in CHAPTERS:
        write(tmp_path / "notebooks" / f"{chapter.stem}.ipynb", "version 1")
    assert lab.update(tmp_path) == []
    return tmp_path


@pytest.fixture
def original(folder):
    return folder / "notebooks" / NAME


@pytest.fixture
def mine(folder):
    return folder / "work" / NAME


def test_every_chapter_is_copied_as_it_is(folder):
    for chapter in CHAPTERS:
        name = f"{chapter.stem}.ipynb"
        original = folder / "notebooks" / name
        assert (folder / "work" / name).read_bytes() == original.read_bytes()


def test_a_copy_without_edits_follows_its_original_silently(folder, original, mine):
    write(mine, "version 1", "", outputs=[new_output("stream", text="ran")])
    write(original, "version 2")
    assert lab.update(folder) == []
    assert sources(mine) == ["version 2"]


def test_a_copy_that_only_ran_keeps_its_outputs(folder, mine):
    write(mine, "version 1", outputs=[new_output("stream", text="ran")])
    before = mine.read_bytes()
    assert lab.update(folder) == []
    assert mine.read_bytes() == before


def test_an_edit_stays_and_is_not_spoken_of_while_the_original_stays(folder, mine):
    write(mine, "my edit")
    assert lab.update(folder) == []
    assert sources(mine) == ["my edit"]


def test_an_edit_stays_when_the_original_changes_and_a_line_says_how_to_go_on(
    folder, original, mine
):
    write(mine, "my edit")
    write(original, "version 2")
    for _ in range(2):
        (line,) = lab.update(folder)
        assert NAME in line
        assert f"--fresh {CHAPTER.stem}" in line
        assert sources(mine) == ["my edit"]


def test_a_copy_edited_into_the_new_version_counts_as_not_edited(folder, original, mine):
    write(mine, "version 2")
    write(original, "version 2")
    assert lab.update(folder) == []
    write(original, "version 3")
    assert lab.update(folder) == []
    assert sources(mine) == ["version 3"]


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b"null", b'{"a": ', b"\xff\xfe", None])
def test_a_lost_record_costs_no_edit(folder, original, mine, record):
    file = folder / "work" / ".copied.json"
    file.unlink() if record is None else file.write_bytes(record)
    write(mine, "version 1")
    write(original, "version 2")
    assert len(lab.update(folder)) == 1
    assert sources(mine) == ["version 1"]


@pytest.mark.parametrize("content", [b"", b"{}", b"not a notebook", b"[]", b'{"cells": [1]}'])
def test_a_copy_that_cannot_be_read_is_kept(folder, original, mine, content):
    mine.write_bytes(content)
    write(original, "version 2")
    assert len(lab.update(folder)) == 1
    assert mine.read_bytes() == content


def test_a_copy_that_was_deleted_comes_back(folder, mine):
    mine.unlink()
    assert lab.update(folder) == []
    assert sources(mine) == ["version 1"]


def test_setting_aside_keeps_every_edit_under_the_next_free_number(folder, mine):
    for number in (1, 2, 3):
        write(mine, f"edit {number}")
        assert f"{CHAPTER.stem}.yours-{number}.ipynb" in lab.set_aside(folder, CHAPTER)
        assert lab.update(folder) == []
        assert sources(mine) == ["version 1"]
    for number in (1, 2, 3):
        assert sources(mine.with_name(f"{CHAPTER.stem}.yours-{number}.ipynb")) == [f"edit {number}"]


def test_setting_aside_what_is_not_there_does_nothing(folder, mine):
    mine.unlink()
    assert lab.set_aside(folder, CHAPTER) is None


@pytest.mark.parametrize("name", [CHAPTER.stem, CHAPTER.number, CHAPTER.room])
def test_fresh_sets_aside_copies_and_opens(folder, mine, monkeypatch, capsys, name):
    opened = []
    monkeypatch.setattr(checkout, "root", lambda: folder)
    monkeypatch.setattr(lab, "launch", lambda *given: opened.append(given))
    write(mine, "my edit")
    assert main(["lab", "--fresh", name, "--", "--no-browser"]) == 0
    assert sources(mine) == ["version 1"]
    assert f"{CHAPTER.stem}.yours-1.ipynb" in capsys.readouterr().out
    assert opened == [(folder, ["--no-browser"])]


def test_no_command_means_lab(folder, monkeypatch):
    opened = []
    monkeypatch.setattr(checkout, "root", lambda: folder)
    monkeypatch.setattr(lab, "launch", lambda *given: opened.append(given))
    assert main([]) == 0
    assert main(["--", "--port", "9999"]) == 0
    assert opened == [(folder, []), (folder, ["--port", "9999"])]


@pytest.mark.parametrize("command", [["lab", "--fresh"], ["reset"]])
def test_an_unknown_chapter_is_refused_with_the_known_ones(command, capsys):
    with pytest.raises(SystemExit):
        main([*command, "99_nothing"])
    said = capsys.readouterr().err
    assert "unknown chapter '99_nothing'" in said
    assert all(chapter.stem in said for chapter in CHAPTERS)


def test_progress_and_reset_show_the_state_of_the_exercises(monkeypatch, capsys):
    monkeypatch.setattr(exercises, "progress", lambda: "1 of 2")
    monkeypatch.setattr(exercises, "reset", lambda name="": f"forgot {name or 'all'}")
    assert [main(["progress"]), main(["reset"]), main(["reset", CHAPTER.stem])] == [0, 0, 0]
    assert capsys.readouterr().out.split("\n") == [
        "1 of 2",
        "forgot all",
        f"forgot {CHAPTER.room}",
        "",
    ]


def test_without_jupyterlab_the_command_that_installs_it_is_named(folder, monkeypatch):
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CourseError, match=r"JupyterLab is not installed.*pip install -e"):
        lab.launch(folder, [])


def test_jupyterlab_serves_the_working_copy_with_this_python_as_its_kernel(tmp_path):
    course, home = tmp_path / "course", tmp_path / "home"
    copied_course(course)
    for chapter in CHAPTERS:
        write(course / "notebooks" / f"{chapter.stem}.ipynb", "1 + 1")
    plant_foreign_kernel(home / "data" / "kernels" / "python3")

    with running_lab(course, home) as running:
        served = json.loads(running.get(f"/api/contents/{CHAPTERS[0].stem}.ipynb").content)
        kernels = json.loads(running.get("/api/kernelspecs").content)["kernelspecs"]
        start = running.get("/").url

    assert [cell["source"] for cell in served["content"]["cells"]] == ["1 + 1"]
    assert "foreign" not in kernels["python3"]["spec"]["argv"][0]
    assert start.endswith(f"/lab/tree/{CHAPTERS[0].stem}.ipynb")


def plant_foreign_kernel(folder: Path) -> None:
    """A kernel of another Python that the user installed under the name that notebooks name."""
    folder.mkdir(parents=True)
    spec = {"argv": ["foreign-python"], "display_name": "Python 3", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
