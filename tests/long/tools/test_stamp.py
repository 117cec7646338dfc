"""The generated parts of notebooks and README, and the address they carry."""

import ast
import copy
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import chapters
from tools import repository, stamp
from helpers.__main__ import main
from chapters import CHAPTERS
from helpers.checkout import CourseError
from tools.repository import Repository

FIRST, LAST = CHAPTERS[0], CHAPTERS[-1]
REPOSITORY = Repository("ada", "course", "main")
EXERCISES = ("start_here.add_up", "module.Count")


class FakeExercise:
    def __init__(self, name):
        self.name = name

    def prompt_cell(self):
        return f"### Exercise\nWrite {self.name}."

    def starter_cell(self):
        return f"answer = ...\ncheck({self.name!r}, answer)"


@pytest.fixture(autouse=True, scope="module")
def catalogue():
    with pytest.MonkeyPatch.context() as patch:
        fakes = {name: FakeExercise(name) for name in EXERCISES}
        patch.setattr(exercises, "catalogue", lambda: fakes)
        yield


def exercise_cell(name):
    return new_code_cell("my edit", metadata={"tags": [f"exercise:{name}"]})


notebooks = st.lists(
    st.one_of(
        st.builds(new_markdown_cell, st.text()),
        st.builds(new_code_cell, st.text(), execution_count=st.integers(1, 9)),
        st.builds(exercise_cell, st.sampled_from(EXERCISES)),
        st.builds(new_markdown_cell, id=st.sampled_from(["header", "setup", "footer"])),
    ),
    max_size=6,
    unique_by=lambda cell: cell.id,
).map(lambda cells: new_notebook(cells=cells))


@given(notebooks, st.sampled_from(CHAPTERS))
def test_stamping_twice_changes_nothing(nb, chapter):
    once = stamp.stamped(nb, chapter)
    assert stamp.stamped(once, chapter) == once


@given(notebooks, st.sampled_from(CHAPTERS))
def test_stamping_leaves_the_given_notebook_as_it_was(nb, chapter):
    before = copy.deepcopy(nb)
    stamp.stamped(nb, chapter)
    assert nb == before


@given(notebooks, st.sampled_from(CHAPTERS))
def test_what_the_author_wrote_is_kept_in_order(nb, chapter):
    def authored(notebook):
        generated = ("header", "setup", "footer")
        return [
            cell.source
            for cell in notebook.cells
            if cell.id not in generated and not cell.metadata.get("tags")
        ]

    assert authored(stamp.stamped(nb, chapter)) == authored(nb)


def test_the_same_notebook_gives_the_same_bytes_after_a_round_trip():
    text = stamp.text_of(stamp.stamped(new_notebook(), FIRST))
    assert stamp.text_of(nbformat.reads(text, as_version=4)) == text
    assert text.endswith("}\n")


def test_outputs_counts_and_foreign_metadata_are_left_out():
    ran = new_code_cell(
        "1 + 1",
        id="sum",
        execution_count=7,
        outputs=[new_output("stream", text="2")],
        metadata={"tags": ["imports"], "execution": {"iopub.status.busy": "now"}},
    )
    nb = stamp.stamped(new_notebook(cells=[ran], metadata={"widgets": {}}), FIRST)
    cell = nb.cells[2]
    assert (cell.outputs, cell.execution_count) == ([], None)
    assert cell.metadata == {"tags": ["imports"]}
    assert nb.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def test_the_header_names_the_chapter_its_question_its_time_and_its_neighbours():
    nb = stamp.stamped(new_notebook(cells=[exercise_cell("start_here.add_up")]), FIRST)
    header = nb.cells[0]
    assert header.id == "header"
    assert header.source.startswith(f"# {FIRST.number} · {FIRST.title}\n")
    assert FIRST.question in header.source
    assert f"{FIRST.minutes} minutes · 1 exercise ·" in header.source
    assert f"]({CHAPTERS[1].stem}.ipynb)" in header.source
    assert "previous" not in header.source


def test_the_last_chapter_leads_back_and_nowhere_on():
    nb = stamp.stamped(new_notebook(), LAST)
    assert f"previous: [{CHAPTERS[-2].number}" in nb.cells[0].source
    assert "next:" not in nb.cells[0].source
    assert ".ipynb" not in nb.cells[-1].source


def test_an_exercise_gets_its_prompt_its_starter_and_its_ids():
    nb = stamp.stamped(new_notebook(cells=[exercise_cell("start_here.add_up")]), FIRST)
    ask, attempt = nb.cells[2:4]
    assert (ask.id, attempt.id) == ("start-here-add-up-ask", "start-here-add-up-try")
    assert ask.metadata.tags == ["prompt:start_here.add_up"]
    assert ask.source == FakeExercise("start_here.add_up").prompt_cell()
    assert attempt.source == FakeExercise("start_here.add_up").starter_cell()


@pytest.mark.parametrize("name", EXERCISES)
def test_the_ids_of_an_exercise_are_lower_case_words(name):
    nb = stamp.stamped(new_notebook(cells=[exercise_cell(name)]), FIRST)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", cell.id) for cell in nb.cells)


def test_a_prompt_whose_exercise_left_goes_too():
    nb = stamp.stamped(new_notebook(cells=[exercise_cell("module.Count")]), FIRST)
    del nb.cells[3]
    assert [cell.id for cell in stamp.stamped(nb, FIRST).cells] == ["header", "setup", "footer"]


def test_an_unknown_exercise_is_refused_with_the_known_ones():
    nb = new_notebook(cells=[exercise_cell("module.Cuont")])
    with pytest.raises(CourseError, match=r"module\.Cuont.*known are .*module\.Count"):
        stamp.stamped(nb, FIRST)


@given(st.from_regex(r"[a-z][a-z0-9-]{0,38}", fullmatch=True), st.sampled_from(["main", "v1.2"]))
def test_the_setup_cell_is_short_python_that_carries_the_address(name, branch):
    source = stamp.setup_source(Repository("ada", name, branch))
    ast.parse(source)
    assert f'"https://github.com/ada/{name}"' in source
    assert f"git+{{url}}@{branch}" in source
    assert len(source.splitlines()) <= 22


def test_a_region_that_the_readme_lacks_is_named():
    with pytest.raises(CourseError, match="no region 'badges'"):
        stamp.stamped_readme("# Course\n", REPOSITORY)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A small checkout, which the commands take for theirs."""
    root = checkout.root()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(root / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    nbformat.write(new_notebook(), tmp_path / "notebooks" / f"{FIRST.stem}.ipynb")
    monkeypatch.setattr(checkout, "root", lambda: tmp_path)
    return tmp_path


def test_check_names_what_is_out_of_date_and_writes_nothing(folder, capsys):
    notebook = folder / "notebooks" / f"{FIRST.stem}.ipynb"
    before = notebook.read_bytes()
    assert main(["stamp", "--check"]) == 1
    assert f"notebooks/{FIRST.stem}.ipynb is out of date" in capsys.readouterr().out
    assert notebook.read_bytes() == before


def test_after_stamp_check_is_content_and_stamp_writes_nothing(folder, capsys):
    assert main(["stamp"]) == 0
    capsys.readouterr()
    assert main(["stamp", "--check"]) == 0
    assert main(["stamp"]) == 0
    assert capsys.readouterr().out == ""


def test_a_package_outside_a_checkout_says_so(tmp_path):
    shutil.copytree(checkout.root() / "helpers", tmp_path / "helpers")
    done = subprocess.run(
        [sys.executable, "-m", "helpers"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "is not a checkout of the course" in done.stderr
    assert "Traceback" not in done.stderr
