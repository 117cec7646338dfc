"""The generated parts of notebooks and README, brought up to date by ``python -m tools stamp``."""

from __future__ import annotations

import copy
import shutil

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from chapters import CHAPTERS
from helpers import checkout
from helpers.checkout import CourseError
from tests.notebooks.samples import code, notebook
from tests.notebooks.samples import markdown as text
from tools import minutes, stamp
from tools.__main__ import main
from tools.repository import Repository

FIRST, LAST = CHAPTERS[0], CHAPTERS[-1]
REPOSITORY = Repository("ada", "course", "trunk")


def stamped(*cells, chapter=FIRST):
    return stamp.stamped(notebook(*cells), chapter, REPOSITORY)


notebooks = st.lists(
    st.one_of(
        st.builds(new_markdown_cell, st.text()),
        st.builds(new_code_cell, st.text(), execution_count=st.integers(1, 9)),
        st.builds(new_markdown_cell, id=st.sampled_from(stamp.GENERATED)),
    ),
    max_size=6,
    unique_by=lambda cell: cell.id,
).map(lambda cells: new_notebook(cells=cells))


@given(notebooks, st.sampled_from(CHAPTERS))
def test_what_the_author_wrote_is_kept_and_stamping_again_changes_nothing(nb, chapter):
    def authored(nb):
        return [(cell.id, cell.source) for cell in nb.cells if cell.id not in stamp.GENERATED]

    before = copy.deepcopy(nb)
    once = stamp.stamped(nb, chapter, REPOSITORY)
    assert nb == before
    assert authored(once) == authored(nb)
    assert stamp.stamped(once, chapter, REPOSITORY) == once
    text = stamp.text_of(once)
    assert stamp.text_of(nbformat.reads(text, as_version=4)) == text and text.endswith("}\n")


def test_outputs_counts_and_all_metadata_but_tags_are_left_out():
    ran = new_code_cell(
        "1 + 1",
        id="sum",
        execution_count=7,
        outputs=[new_output("stream", text="2")],
        metadata={"tags": ["imports"], "execution": {"iopub.status.busy": "now"}},
    )
    nb = stamp.stamped(new_notebook(cells=[ran], metadata={"widgets": {}}), FIRST, REPOSITORY)
    cell = nb.cells[2]
    assert (cell.id, cell.source, cell.outputs, cell.execution_count) == ("sum", "1 + 1", [], None)
    assert cell.metadata == {"tags": ["imports"]}
    assert set(nb.metadata) == {"kernelspec", "language_info"}


def test_the_header_names_the_chapter_its_question_its_time_and_its_neighbours():
    header = stamped(code("my edit", "try", ["exercise:sum_shape"])).cells[0]
    assert header.source.startswith(f"# {FIRST.number} · {FIRST.title}\n")
    assert FIRST.question in header.source
    assert "About 0 minutes · 1 exercise ·" in header.source
    assert f"]({CHAPTERS[1].stem}.ipynb)" in header.source and "previous" not in header.source
    assert stamp.colab_url(FIRST, REPOSITORY) in header.source


def test_the_minutes_are_those_of_words_code_runs_and_exercises_before_the_reference():
    prose, hidden = text("word " * 900, "words"), code("x = 1\n" * 99, "proof", ["proof"])
    exercise = [text("### ★★ Add · 8 min\n\n" + "word " * 500, "ask"), code("x = 1", "try")]
    reference = text("word " * 900, "reference")
    reference.metadata.tags = ["reference"]
    shown = code("x = 1\n\n" * 20, "shown")
    nb = stamped(prose, hidden, shown, text("", "half-way"), *exercise, reference, prose)
    assert minutes.of(nb) == 15  # 5 + 2 + 8, a tenth for the exercise's line, two for two runs
    assert "About 15 minutes" in nb.cells[0].source
    stop = next(cell for cell in nb.cells if cell.id == "half-way")
    assert minutes.before(nb, stop) == 5
    assert "About 5 of 15 minutes" in stop.source


def test_the_footer_shows_your_progress():
    import chapters  # noqa: F401 - which the code below imports itself

    footer = stamped().cells[-1].source
    shown = footer.partition("run `")[2].partition("`")[0]
    names = {}
    exec(shown.replace("chapters.progress()", "overview = chapters.progress()"), names)
    assert FIRST.title in str(names["overview"])


@pytest.mark.parametrize("name", ["sum_shap", "Linear"])
def test_a_tag_without_an_exercise_of_the_chapter_is_refused_with_what_to_do(name):
    with pytest.raises(CourseError) as caught:
        stamped(code("x", "try", [f"exercise:{name}"]))
    said = str(caught.value)
    for word in (f"{FIRST.stem}.ipynb", f"'exercise:{name}'", "chapters/start_here/exercises.py"):
        assert word in said
    assert "define it or change the tag" in said and "sum_shape" in said


def test_a_region_that_the_readme_lacks_is_named():
    with pytest.raises(CourseError, match="no region 'badges'"):
        stamp.stamped_readme("# Course\n", {}, REPOSITORY)


# The command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A small checkout, which the commands take for theirs."""
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(checkout.root() / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    nbformat.write(new_notebook(), tmp_path / "notebooks" / f"{FIRST.stem}.ipynb")
    monkeypatch.setattr(checkout, "root", lambda: tmp_path)
    return tmp_path


def test_check_names_what_is_out_of_date_writes_nothing_and_is_content_after_stamp(folder, capsys):
    path = folder / "notebooks" / f"{FIRST.stem}.ipynb"
    before = path.read_bytes()
    assert main(["stamp", "--check"]) == 1
    assert f"notebooks/{FIRST.stem}.ipynb is out of date" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert main(["stamp"]) == 0
    assert f"notebooks/{FIRST.stem}.ipynb is brought up to date" in capsys.readouterr().out
    assert main(["stamp", "--check"]) == main(["stamp"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("words", [[], ["repair"], ["stamp", "02"], ["drift", "99"], ["site", "x"]])
def test_words_that_no_command_takes_are_refused(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "python -m tools" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["site", "drift", "stamp"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(command, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([command]) == 1
    said = capsys.readouterr().err
    assert "this command needs nbformat" in said and 'pip install -e ".[site]"' in said
