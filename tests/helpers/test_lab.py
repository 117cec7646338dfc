"""A reader's working copy loses no edit, and JupyterLab opens on it: laws of `helpers.lab`."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

import chapters
from chapters import CHAPTERS
from helpers import checkout, lab
from helpers.__main__ import main
from helpers.checkout import CourseError
from tests.labs import copied_course, running_lab

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
    for chapter in CHAPTERS[:3]:
        write(tmp_path / "notebooks" / f"{chapter.stem}.ipynb", "version 1")
    assert lab.update(tmp_path) == []
    return tmp_path


@pytest.fixture
def original(folder):
    return folder / "notebooks" / NAME


@pytest.fixture
def mine(folder):
    return folder / "work" / NAME


# The working copy


def test_every_chapter_is_copied_with_the_kernel_that_opens_it(folder):
    originals = list((folder / "notebooks").iterdir())
    assert originals
    for original in originals:
        copy = nbformat.read(folder / "work" / original.name, as_version=4)
        assert copy.cells == nbformat.read(original, as_version=4).cells
        assert copy.metadata.kernelspec.name == "python3"
        assert copy.metadata.language_info.name == "python"


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


def test_an_edit_stays_and_when_the_original_changes_a_line_says_how_to_go_on(
    folder, original, mine
):
    write(mine, "my edit")
    assert lab.update(folder) == []
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


@pytest.mark.parametrize("record", [b"[]", b'{"a": ', b"\xff\xfe", None])
def test_a_lost_record_costs_no_edit(folder, original, mine, record):
    file = folder / "work" / ".copied.json"
    file.unlink() if record is None else file.write_bytes(record)
    write(original, "version 2")
    assert len(lab.update(folder)) == 1
    assert sources(mine) == ["version 1"]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"cells": [1]}'])
def test_a_copy_that_cannot_be_read_is_kept(folder, mine, content):
    mine.write_bytes(content)
    lab.update(folder)
    assert mine.read_bytes() == content


def test_setting_aside_keeps_every_edit_under_the_next_free_number(folder, mine):
    for number in (1, 2, 3):
        write(mine, f"edit {number}")
        aside = mine.with_name(f"{CHAPTER.stem}.yours-{number}.ipynb")
        assert aside.name in lab.set_aside(folder, CHAPTER.stem)
        assert lab.set_aside(folder, CHAPTER.stem) is None, "there is no copy now"
        assert lab.update(folder) == []
        assert sources(mine) == ["version 1"] and sources(aside) == [f"edit {number}"]


def test_a_full_disk_is_told_in_a_sentence_and_leaves_no_half_of_a_file(
    folder, original, mine, monkeypatch
):
    write(original, "version 2")
    before = mine.read_bytes()
    write_bytes = Path.write_bytes

    def write_until_the_disk_is_full(path, content):
        write_bytes(path, content[:9])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_until_the_disk_is_full)
    with pytest.raises(CourseError, match=r"cannot write .*work: No space left on device\. Make"):
        lab.update(folder)
    assert mine.read_bytes() == before
    assert {path.suffix for path in mine.parent.iterdir()} == {".ipynb", ".json"}


def test_a_read_only_course_is_opened_from_a_temporary_folder(tmp_path, monkeypatch, capsys):
    folder, temporary = tmp_path / "course", tmp_path / "temporary"
    (folder / "notebooks").mkdir(parents=True)
    temporary.mkdir()
    write(folder / "notebooks" / NAME, "version 1")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TUTORIAL_SCRATCH", "")
    monkeypatch.delenv("TUTORIAL_SCRATCH")
    # Permissions do not stop an administrator, so the answer of the system is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder)

    assert lab.update(folder) == []
    work = lab.working_copy(folder)
    assert sources(work / NAME) == ["version 1"]
    assert temporary in work.parents and not (folder / "work").exists()
    assert temporary in Path(os.environ["TUTORIAL_SCRATCH"]).parents
    said = capsys.readouterr().out
    assert f"{folder} is read-only" in said and str(work.parent) in said


# The commands


@pytest.fixture
def opened(folder, monkeypatch):
    """What the commands asked JupyterLab for."""
    asked = []
    monkeypatch.setattr(checkout, "root", lambda: folder)
    monkeypatch.setattr(lab, "launch", lambda *given: asked.append(given))
    return asked


@pytest.mark.parametrize("name", [CHAPTER.stem, CHAPTER.number, CHAPTER.name])
def test_fresh_sets_aside_copies_and_opens(folder, mine, opened, capsys, name):
    write(mine, "my edit")
    assert main(["lab", "--fresh", name, "--no-browser"]) == 0
    assert sources(mine) == ["version 1"]
    assert f"{CHAPTER.stem}.yours-1.ipynb" in capsys.readouterr().out
    assert opened == [(folder, ["--no-browser"])]


@pytest.mark.parametrize(
    ("words", "for_jupyter"),
    [
        ([], []),
        (["--no-browser", "--port", "9999"], ["--no-browser", "--port", "9999"]),
        (["--ServerApp.port=9", "--f"], ["--ServerApp.port=9", "--f"]),
        (["--", "--port", "9999"], ["--port", "9999"]),
        (["lab", "--debug", "--", "--fresh", "01"], ["--debug", "--fresh", "01"]),
    ],
)
def test_jupyterlab_gets_the_words_that_are_not_the_courses(folder, opened, words, for_jupyter):
    assert main(words) == 0
    assert opened == [(folder, for_jupyter)]


@pytest.mark.parametrize("words", [["lap"], ["progress", "--port"], ["reset", "--", "x"]])
def test_an_unknown_command_or_option_is_refused(opened, words, capsys):
    with pytest.raises(SystemExit):
        main(words)
    said = capsys.readouterr().err
    assert "invalid choice" in said or "unrecognized arguments" in said
    assert not opened


@pytest.mark.parametrize("command", [["--fresh"], ["reset"]])
def test_an_unknown_chapter_is_refused_with_the_known_ones(command, capsys):
    with pytest.raises(SystemExit):
        main([*command, "99_nothing"])
    said = capsys.readouterr().err
    assert "unknown chapter '99_nothing'" in said
    assert all(chapter.stem in said for chapter in CHAPTERS)


def test_progress_and_reset_show_the_state_of_the_exercises(monkeypatch, capsys):
    monkeypatch.setattr(chapters, "progress", lambda: "1 of 2")
    monkeypatch.setattr(chapters, "reset", lambda name="": f"forgot {name or 'all'}")
    assert [main(["progress"]), main(["reset"]), main(["reset", CHAPTER.stem])] == [0, 0, 0]
    assert capsys.readouterr().out.splitlines() == [
        "1 of 2",
        "forgot all",
        f"forgot {CHAPTER.name}",
    ]


def test_what_keeps_the_course_closed_is_told_in_a_sentence(folder, opened, monkeypatch, capsys):
    (folder / "work").rename(folder / "old")
    (folder / "work").touch()  # a file, so that no user, root included, can make the folder
    assert main([]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert str(folder / "work") in sentence
    assert "move the course to another folder" in sentence
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: None)
    assert main([]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "JupyterLab is not installed" in sentence
    assert "pip install -c constraints.txt -e" in sentence and not opened


@pytest.mark.parametrize("variable", ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER", None])
def test_a_browser_is_opened_where_a_page_can_be_shown(monkeypatch, variable):
    monkeypatch.setattr(lab.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, ":1")
    assert lab._defaults()["ServerApp"]["open_browser"] == bool(variable)


@pytest.mark.parametrize("missing", ["pyproject.toml", "notebooks"])
def test_a_package_away_from_its_checkout_says_where_to_go(tmp_path, missing):
    """As pip installs it, without -e."""
    shutil.copytree(checkout.root() / "helpers", tmp_path / "helpers")
    (tmp_path / ("notebooks" if missing == "pyproject.toml" else "pyproject.toml")).mkdir()
    command = [sys.executable, "-m", "helpers"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert "go to the folder that holds `notebooks` and `pyproject.toml`" in sentence


# JupyterLab itself


def test_jupyterlab_opens_on_the_working_copy_for_its_token_alone(tmp_path):
    """As anybody, root included; in a path with a space and an umlaut; where a port is taken."""
    course, home = tmp_path / "Kürs 1", tmp_path / "home"
    copied_course(course)
    for chapter in CHAPTERS[:2]:
        write(course / "notebooks" / f"{chapter.stem}.ipynb", "1 + 1")
    plant_foreign_kernel(home / "data" / "kernels" / "python3")

    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        running_lab(course, home, "--port", str(other.getsockname()[1])) as running,
    ):
        assert running.printed[0].startswith(f"Port {other.getsockname()[1]} was taken")
        assert running.url.startswith("http://127.0.0.1:")
        start = running.get(f"/lab/tree/{CHAPTERS[0].stem}.ipynb").decode()
        served = json.loads(running.get(f"/api/contents/{CHAPTERS[0].stem}.ipynb"))
        kernels = json.loads(running.get("/api/kernelspecs"))["kernelspecs"]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            running.get("/api/contents", token="another")

    assert f"/lab/tree/{CHAPTERS[0].stem}.ipynb?token=" in running.address
    assert str(course / "work") in "\n".join(running.printed)
    assert [cell["source"] for cell in served["content"]["cells"]] == ["1 + 1"]
    assert "foreign" not in kernels["python3"]["spec"]["argv"][0]
    assert "@jupyterlab/apputils-extension:announcements" in disabled(start)
    # What JupyterLab would write into a notebook that is opened is in the copy already.
    metadata, spec = served["content"]["metadata"], kernels["python3"]["spec"]
    assert metadata["kernelspec"]["display_name"] == spec["display_name"]
    assert metadata["kernelspec"]["language"] == spec["language"]


def disabled(page: str) -> list[str]:
    """The parts of JupyterLab that its page does not load."""
    _, _, config = page.partition('id="jupyter-config-data" type="application/json">')
    return json.JSONDecoder().raw_decode(config.lstrip())[0]["disabledExtensions"]


def plant_foreign_kernel(folder: Path) -> None:
    """A kernel of another Python that the user installed under the name that notebooks name."""
    folder.mkdir(parents=True)
    spec = {"argv": ["foreign-python"], "display_name": "Foreign", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))


def test_two_processes_do_not_share_an_unfinished_file(tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr(Path, "replace", lambda self, target: names.append(self.name))
    for process in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        lab._write(tmp_path / "a.ipynb", b"")
    assert len({*names}) == 2
