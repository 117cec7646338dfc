"""The site's builder: what it makes of small notebooks, and what it leaves alone when it fails.

The site itself, made of the chapters, is walked through in ``tests/browser/test_site.py``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbformat.v4 import new_output

import helpers.exercises
from helpers import __main__, authoring, checkout, site
from chapters import CHAPTERS, Chapter
from helpers.checkout import CourseError
from helpers.expect import expect_error
from tools.site import building, chapter_page, front, markdown, mathml, messages, recap, running
from tests.notebooks.samples import code, notebook
from tests.notebooks.samples import markdown as text
from tests.test_house import block

ROOT = checkout.root()
REPOSITORY = checkout.repository(ROOT)
CHAPTER = Chapter(stem="00_sample", title="Sample", question="Why?", minutes=1, cpu_seconds=1)
NEXT = Chapter(stem="01_next", title="Next", question="And then?", minutes=1, cpu_seconds=1)
README = """\
# Sample course

<!-- badges -->
[![Tests](https://elsewhere.test/badge.svg)](https://elsewhere.test)
<!-- /badges -->

![A picture](picture.png)

## Start

Read the [first chapter](notebooks/00_sample.ipynb) and the [licence](LICENSE).

```text
[not a link](nowhere)
```

<!-- site -->
To look first, read [the site](https://elsewhere.test/site).
<!-- /site -->

## The chapters

<!-- chapters -->
| Chapter |
<!-- /chapters -->
"""
RECAP = text("## What to keep\n| You want | Reach for |\n|---|---|\n| a sum | `+` |", "recap")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAAAAADRSSBWAAAAC0lEQVR42mNk+A8AAQkBAqTXPr8AAAAASUVORK5CYII="
)


@pytest.fixture
def course(tmp_path):
    """A checkout with one chapter, and a way to give that chapter its cells."""
    folder = tmp_path / "course"
    (folder / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "README.md").write_text(README, "utf-8")
    (folder / "LICENSE").write_text("Do as you like.\n", "utf-8")
    (folder / "picture.png").write_bytes(PNG)
    return folder


def write(course, *cells):
    nb = notebook(text("# 00 · Sample", "header"), *cells, RECAP, text("---", "footer"))
    nbformat.write(nb, course / "notebooks" / f"{CHAPTER.stem}.ipynb")


def former_site(folder):
    """A site that an earlier build made."""
    folder.mkdir()
    (folder / building.MARK).touch()
    (folder / "old.html").write_text("old", "utf-8")
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Building


def test_a_site_takes_the_place_of_the_former_one_whole_and_leaves_nothing_else(course, tmp_path):
    write(course, text("## One $x^2$\n[Below](#What-to-keep)", "one"), code("print(6 * 7)", "run"))
    before = {path: path.read_bytes() for path in course.rglob("*") if path.is_file()}
    out = former_site(tmp_path / "made")
    site.build(course, out, [CHAPTER])
    page = (out / "00_sample.html").read_text("utf-8")
    assert "42" in page and "<math" in page and 'href="#what-to-keep"' in page
    assert {"index.html", "messages.html", "recap.html", "search.html"} <= set(names(out))
    assert not (out / "old.html").exists()
    assert names(tmp_path) == ["course", "made"]
    assert {path: path.read_bytes() for path in course.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("half = 0.5\nassert half > 1", "AssertionError at 'assert half > 1'"),
        ("import os\nos._exit(3)", "it ended the kernel"),
    ],
)
def test_a_cell_that_fails_stops_the_build_and_the_former_site_stays(
    course, tmp_path, source, said
):
    write(course, code(source, "trouble"))
    out = former_site(tmp_path / "made")
    with pytest.raises(CourseError, match=f"00_sample: cell 'trouble' .*{said}"):
        site.build(course, out, [CHAPTER])
    assert names(out) == [building.MARK, "old.html"]
    assert names(tmp_path) == ["course", "made"]


def test_a_warning_of_sphinx_stops_the_build_and_the_former_site_stays(course, tmp_path):
    write(course, text("See [there](99_nowhere.ipynb).", "see"))
    out = former_site(tmp_path / "made")
    with pytest.raises(CourseError, match="(?s)without a warning.*99_nowhere"):
        site.build(course, out, [CHAPTER])
    assert names(out) == [building.MARK, "old.html"]
    assert names(tmp_path) == ["course", "made"]


def test_what_is_no_site_is_never_replaced(course, tmp_path):
    write(course)
    folder, file = tmp_path / "thesis", tmp_path / "thesis.txt"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work")
    file.write_text("more of it")
    for out in (folder, file, course):
        with pytest.raises(CourseError, match="is not a site that this command made"):
            site.build(course, out, [CHAPTER])
    assert (folder / "chapter.txt").read_text() == "years of work"
    assert file.read_text() == "more of it"


def test_a_site_that_cannot_take_its_place_leaves_the_former_one_there(tmp_path):
    out = former_site(tmp_path / "made")
    with pytest.raises(FileNotFoundError):
        building.replace(out, tmp_path / "never-made", tmp_path / "former")
    assert names(out) == [building.MARK, "old.html"]


def test_without_a_package_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(site, "PACKAGES", ("sphinx", "no_such_package"))
    assert __main__.main(["site"]) == 1
    said = capsys.readouterr().err
    assert "no_such_package" in said and 'pip install -e ".[site]"' in said


# Running


def test_notebooks_run_away_from_the_checkout_with_one_thread_and_no_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTORIAL_STRICT", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    source = """\
import json, os, tempfile
import helpers
from pathlib import Path
mine = [Path.cwd(), Path(tempfile.gettempdir()), Path(os.environ["TUTORIAL_SCRATCH"])]
print(json.dumps({
    "folders": [str(folder) for folder in mine],
    "threads": os.environ["OMP_NUM_THREADS"],
    "strict": "TUTORIAL_STRICT" in os.environ,
    "helpers": helpers.__file__,
}))"""
    nbs = {name: notebook(code(source, "look")) for name in ("one", "two")}
    running.execute(nbs, tmp_path)
    for name, nb in nbs.items():
        seen = json.loads(nb.cells[0].outputs[0].text)
        assert all(Path(folder).is_relative_to(tmp_path / name) for folder in seen["folders"])
        assert (seen["threads"], seen["strict"]) == ("1", False)
        assert Path(seen["helpers"]) == ROOT / "helpers" / "__init__.py"


def test_notebooks_run_where_a_loop_is_running_already(tmp_path):
    nb = notebook(code("print('ran')", "look"))

    async def in_a_loop():
        running.execute({"one": nb}, tmp_path)

    with ThreadPoolExecutor(max_workers=1) as thread:  # the main one may run a loop, too
        thread.submit(lambda: asyncio.run(in_a_loop())).result()
    assert nb.cells[0].outputs[0].text == "ran\n"


def test_an_explorer_leaves_the_picture_of_its_first_values(tmp_path):
    source = "from ipywidgets import interact\ninteract(lambda n: print('n is', n), n=(0, 10, 1));"
    nb = notebook(code(source, "explore"))
    running.execute({"one": nb}, tmp_path)
    page = made(nb, tmp_path)
    assert [output.get("text") for output in page.cells[0].outputs] == ["n is 5\n"]


# A chapter's page


def made(nb, folder, known=None):
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    return chapter_page.page(nb, CHAPTER, REPOSITORY, known or {}, figures)


def shown(*outputs):
    cell = code("...", "cell")
    cell.outputs = list(outputs)
    return notebook(cell)


def test_a_picture_becomes_a_file_with_its_text_and_its_size(tmp_path):
    data = {"image/png": base64.b64encode(PNG).decode(), "text/html": "<img>", "text/plain": "x"}
    alt = {"image/png": {"alt": 'A "dot" & more'}}
    page = made(shown(new_output("display_data", data, metadata=alt)), tmp_path)
    html = page.cells[0].outputs[0].data["text/html"]
    (source,) = re.findall(r'src="([^"]*)"', html)
    assert (tmp_path / source).read_bytes() == PNG
    assert 'alt="A &quot;dot&quot; &amp; more"' in html
    assert 'width="2" height="1"' in html


def test_what_is_dead_without_a_kernel_is_left_out(tmp_path):
    frame = {"text/html": '<iframe id="tensorboard-frame-1"></iframe><script>…</script>'}
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "interactive()"}
    table = {"text/html": "<table></table>"}
    outputs = [new_output("display_data", data) for data in (frame, widget, table)]
    assert made(shown(*outputs), tmp_path).cells[0].outputs == outputs[2:]


def test_an_exercise_is_followed_by_its_hints_and_its_solution_folded(tmp_path):
    known = helpers.exercises.catalogue()
    for name, exercise in known.items():
        nb = notebook(code("...", "try", [f"exercise:{name}"]))
        asked, help_ = made(nb, tmp_path, known).cells
        assert asked.id == "try"
        assert help_.source.count("<details") == help_.source.count("</details>") == 2
        assert exercise.solution().code.rstrip() in help_.source
        for hint in exercise.hints:
            assert unmarked(hint) in unmarked(plain(help_.source)), name


def unmarked(words):
    return re.sub(r"[`*\s]", "", words)


def test_the_header_leads_to_colab_and_to_the_notebook_and_the_footer_is_gone(tmp_path):
    nb = notebook(text("# old", "header"), code("import json", "setup"), text("---", "footer"))
    header, setup = made(nb, tmp_path).cells
    assert header.source.startswith("# 00 · Sample\n\n*Why?*")
    assert stamp.colab_url(CHAPTER, REPOSITORY) in header.source
    assert 'href="notebooks/00_sample.ipynb" download' in header.source
    assert setup.metadata.tags == ["hide-input"]
    assert nb.cells[0].source == "# old"


def test_no_path_of_this_machine_is_left_in_what_cells_showed(tmp_path):
    stream = new_output("stream", text=f"in {tmp_path / 'deep' / 'file.py'}, line 1")
    result = new_output("execute_result", {"text/plain": str(tmp_path), "image/png": "abc"})
    half = len(str(tmp_path)) // 2
    broken = new_output("stream", text=f"{str(tmp_path)[:half]}\n    {str(tmp_path)[half:]}/end")
    nb = shown(stream, result, broken)
    chapter_page.replace_paths(nb, {str(tmp_path / "deep"): "…/", str(tmp_path): ""})
    first, second, third = nb.cells[0].outputs
    assert third.text == "end"
    assert first.text == "in …/file.py, line 1"
    assert second.data == {"text/plain": "", "image/png": "abc"}


# Markdown


def plain(source):
    """What one reads of a text in markdown."""
    tokens = MarkdownIt().parse(source)
    inline = [token.children for token in tokens if token.type == "inline"]
    words = [child.content or "\n" * (child.type == "softbreak") for one in inline for child in one]
    return " ".join("".join(words).split())


WORDS = st.text("ab<>_$#~|[]{}\\&! ", min_size=1).map(str.strip).filter(bool)


@given(WORDS)
@example("__init__ of <b> costs $1, see [x](y)")
def test_escaped_text_means_itself(words):
    said = f"x {words}"  # the beginning of a line may mean a heading or a list
    assert plain(markdown.escaped(said).replace("&", "&amp;")) == " ".join(said.split())


@given(st.text("ab`*_<[ ", min_size=1).map(str.strip).filter(bool))
def test_a_literal_text_is_one_span_of_code_with_that_text(words):
    (paragraph,) = [t for t in MarkdownIt().parse(markdown.literal(words)) if t.type == "inline"]
    (span,) = paragraph.children
    assert (span.type, span.content) == ("code_inline", words)


def test_a_link_to_a_section_holds_the_anchor_that_its_heading_gets():
    link = markdown.link_to(CHAPTER, "What `nn.Parameter` does, *really*")
    assert link.endswith("(<00_sample.ipynb#What-nn.Parameter-does,-really>)")


def test_a_formula_keeps_a_function_and_what_it_is_applied_to_apart():
    assert "<mspace" in mathml.mathml(r"\log p", "inline")
    assert "<mspace" not in mathml.mathml(r"\log_2 p", "inline")
    assert 'display="block"' in mathml.mathml("x", "block")


# Messages


@given(st.lists(st.sampled_from(["cross-entropy", "a", "tensor", "(64x32)", "0-d"]), min_size=1))
@example(["cross-entropy"] * 30)
def test_a_message_is_read_back_as_it_was_however_it_was_broken_into_lines(words):
    said = " ".join(words)[:250].strip()
    cell = executed_cell(said)
    assert list(messages.shown(cell)) == [messages.Message("ValueError", said)]


def executed_cell(*said):
    """A cell that expects these messages, with what it shows."""
    lines = [f'with expect_error(ValueError, match="{one}"):\n    raise_it()' for one in said]
    cell = code("\n".join(lines), "expect")
    printed = io.StringIO("before\n")
    printed.seek(0, io.SEEK_END)
    with contextlib.redirect_stdout(printed):
        for one in said:
            with expect_error(ValueError, match=one):
                raise ValueError(one)
        print("after")
    cell.outputs = [new_output("stream", text=printed.getvalue())]
    return cell


def test_a_message_of_two_sections_is_listed_once_with_both():
    first = notebook(text("## A `b`", "a"), executed_cell("no such thing", "something else"))
    second = notebook(text("## C", "c"), executed_cell("no such thing"))
    index = messages.index({CHAPTER: first, NEXT: second})
    assert index[messages.Message("ValueError", "no such thing")] == [
        messages.Place(CHAPTER, "A `b`"),
        messages.Place(NEXT, "C"),
    ]
    page = messages.page({CHAPTER: first, NEXT: second})
    assert page.count("ValueError: no such thing") == 1
    assert page.index("no such thing") < page.index("something else")
    assert "(<00_sample.ipynb#A-b>)" in page and "(<01_next.ipynb#C>)" in page


def test_an_expectation_that_did_not_apply_is_listed_by_its_own_words():
    cell = code('with expect_warning(UserWarning, match="old way"):\n    pass', "expect")
    (message,) = messages.index({CHAPTER: notebook(text("## A", "a"), cell)})
    assert message == messages.Message("UserWarning", "…old way…")


# Recap and front page


def test_the_recap_holds_each_chapter_s_last_table():
    nb = notebook(text("# 00", "header"), RECAP, text("## Reference", "reference", ["reference"]))
    page = recap.page({CHAPTER: nb})
    assert "## [00 · Sample](00_sample.ipynb)" in page
    assert "| a sum | `+` |" in page and "Reference" not in page


def test_a_chapter_that_ends_without_a_recap_is_named():
    nb = notebook(text("# 00", "header"), text("## The end\nNo table.", "end"))
    with pytest.raises(CourseError, match="00_sample ends its core path with cell 'end'"):
        recap.page({CHAPTER: nb})


def test_the_front_page_is_the_readme_with_the_chapters_first_and_its_links_led(course, tmp_path):
    page = front.page(course, [CHAPTER, NEXT], REPOSITORY, tmp_path)
    assert page.index("## The chapters") < page.index("## Start")
    assert "[first chapter](00_sample.ipynb)" in page
    assert f"[licence]({REPOSITORY.url}/blob/{REPOSITORY.branch}/LICENSE)" in page
    assert (tmp_path / "picture.png").read_bytes() == PNG
    assert "[not a link](nowhere)" in page
    assert "elsewhere.test" not in page and "<!--" not in page
    for chapter in (CHAPTER, NEXT):
        assert f'href="{chapter.stem}.html"' in page and chapter.question in page


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<!-- /badges -->", "", "no region 'badges'"),
        ("(LICENSE)", "(LICENCE)", "links to 'LICENCE'"),
    ],
)
def test_a_readme_that_the_front_page_cannot_follow_is_refused(course, tmp_path, old, new, said):
    readme = course / "README.md"
    readme.write_text(README.replace(old, new), "utf-8")
    with pytest.raises(CourseError, match=said):
        front.page(course, [CHAPTER], REPOSITORY, tmp_path)


# The workflow


def test_the_workflow_publishes_what_the_command_makes():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "site.yml").read_text("utf-8"))
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    made_by = "".join(step.get("run", "") for step in build["steps"])
    assert block("cpu") in made_by
    (uploaded,) = [
        step["with"]["path"] for step in build["steps"] if "path" in step.get("with", {})
    ]
    assert f"python -m helpers site --out {uploaded}" in made_by
    assert workflow["permissions"] == {"contents": "read"}
    assert publish["permissions"] == {"pages": "write", "id-token": "write"}
    actions = [step["uses"] for job in (build, publish) for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in actions)


def test_every_chapter_has_a_recap():
    for chapter in CHAPTERS:
        path = ROOT / "notebooks" / f"{chapter.stem}.ipynb"
        assert chapter.title in recap.page({chapter: nbformat.read(path, as_version=4)})
