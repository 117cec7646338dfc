"""The site's builder: what it makes of a small course, and what it leaves alone when it fails.

The site itself, made of the chapters, is walked through in ``tests/long/browser``.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
from html import unescape

import nbformat
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbformat.v4 import new_output

import chapters
from chapters import CHAPTERS
from helpers import checkout, explain
from helpers.checkout import CourseError
from helpers.expect import expect_error
from tests.long.tools.samples import CHAPTER, NEXT, PNG, README, RECAP, course
from tests.notebooks.samples import code, notebook
from tests.notebooks.samples import markdown as text
from tools import site
from tools.repository import repository
from tools.site import chapter, front, markdown, mathml, messages, recap
from tools.stamp import colab_url

ROOT = checkout.root()
REPOSITORY = repository(ROOT)
NOTEBOOKS = {CHAPTER: notebook(), NEXT: notebook()}
PICTURE = """\
from base64 import b64decode
from IPython.display import HTML, display
png = b64decode({content!r})
data = {{"image/png": png, "text/html": "<img>", "text/plain": "x"}}
display(data, metadata={{"image/png": {{"alt": 'A "dot" & more'}}}}, raw=True)
HTML('<iframe id="tensorboard-frame-1"></iframe>')
"""
CELLS = [
    code("import os", "setup"),
    text("## One\n\n$x^2$ [Below](#What-to-keep)\n\n$$\\log p$$", "one"),
    code("print(6 * 7)", "run"),
    code(PICTURE.format(content=base64.b64encode(PNG).decode()), "picture"),
    code("from ipywidgets import interact\ninteract(lambda n: print('n is', n), n=8);", "explore"),
    code("from helpers.expect import expect_error", "import"),
    code("with expect_error(ValueError, match='invalid'):\n    int('a')", "error"),
    text("### Add", "ask"),
    code("sum_shape = ...", "try", ["exercise:sum_shape"]),
]


def former_site(folder):
    """A site that an earlier build made."""
    folder.mkdir()
    (folder / site.MARK).touch()
    (folder / "old.html").write_text("old", "utf-8")
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# What a build makes


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A site that was built in the place of a former one; nothing else was changed."""
    folder = tmp_path_factory.mktemp("site")
    built = course(folder / "course", *CELLS)
    out = former_site(folder / "made")
    before = {path: path.read_bytes() for path in built.rglob("*") if path.is_file()}
    site.build(built, out, [CHAPTER])
    assert {path: path.read_bytes() for path in built.rglob("*") if path.is_file()} == before
    assert names(folder) == ["course", "made"]
    return out


@pytest.fixture
def page(made):
    return (made / f"{CHAPTER.stem}.html").read_text("utf-8")


def test_a_new_site_is_whole_and_nothing_is_left_of_the_former_one(made):
    assert {"index.html", "messages.html", "recap.html", "search.html"} <= set(names(made))
    assert not (made / "old.html").exists()
    index = re.sub("<[^>]*>", "", (made / "messages.html").read_text("utf-8"))
    assert "ValueError: invalid literal for int() with base 10" in index


def test_a_page_shows_what_its_cells_showed_but_for_what_needs_a_kernel(page):
    assert ">42\n" in page and "n is 8\n" in page
    assert "interactive(" not in page and "<iframe" not in page


def test_a_picture_is_a_file_with_its_text(page, made):
    (tag,) = re.findall(r'<img[^>]*class="figure"[^>]*>', page)
    assert unescape(re.search(r'alt="([^"]*)"', tag)[1]) == 'A "dot" & more'
    assert (made / re.search(r'src="([^"]*)"', tag)[1]).read_bytes() == PNG


def test_a_formula_needs_no_script_and_a_link_leads_to_its_section(page):
    assert page.count("<math") == 2 and "mathjax.js" not in page.lower()
    assert 'href="#what-to-keep"' in page and 'id="what-to-keep"' in page


def test_the_header_leads_to_colab_and_to_the_notebook_as_it_was(page, made):
    assert f"<em>{CHAPTER.question}</em>" in page and "1 exercise<" in page
    assert f'href="{colab_url(CHAPTER, REPOSITORY)}"' in page
    (download,) = re.findall(r'href="([^"]*)" download', page)
    cells = nbformat.read(made / download, as_version=4).cells
    assert [cell.id for cell in cells[1:-2]] == [cell.id for cell in CELLS]
    assert "What the first cell does in Colab" in page


def test_every_exercise_is_followed_by_its_hints_and_its_solution_folded():
    for name, exercise in chapters.catalogue().items():
        (own,) = [one for one in CHAPTERS if one.name == exercise.chapter]
        nb = notebook(code("...", "try", [f"exercise:{exercise.short_name}"]))
        attempt, help_ = chapter.page(nb, own, REPOSITORY).cells
        assert attempt.source == "..."
        assert help_.source.count("<details") == help_.source.count("</details>") == 2
        assert exercise.solution().code.rstrip() in help_.source
        for hint in exercise.hints:
            assert unmarked(hint) in unmarked(plain(help_.source)), name


def unmarked(words):
    return re.sub(r"[`*\s]", "", words)


# What stops a build


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (code("1 / 0", "trouble"), "00_start_here: cell 'trouble' .*ZeroDivisionError"),
        (text("See [there](99_nowhere.ipynb).", "see"), "(?s)without a warning.*99_nowhere"),
    ],
)
def test_an_error_or_a_warning_stops_the_build_and_the_former_site_stays(tmp_path, cell, said):
    built = course(tmp_path / "course", cell)
    out = former_site(tmp_path / "made")
    with pytest.raises(CourseError, match=said):
        site.build(built, out, [CHAPTER])
    assert names(out) == [site.MARK, "old.html"]
    assert names(tmp_path) == ["course", "made"]


def test_only_a_site_or_an_empty_folder_is_replaced(tmp_path):
    built = course(tmp_path / "course")
    folder, file = tmp_path / "thesis", tmp_path / "thesis.txt"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work")
    file.write_text("more of it")
    for out in (folder, file, built):
        with pytest.raises(CourseError, match="is not a site that this command made"):
            site.build(built, out, [CHAPTER])
    assert (folder / "chapter.txt").read_text() == "years of work"
    assert file.read_text() == "more of it"


def test_a_site_that_cannot_take_its_place_leaves_the_former_one_there(tmp_path):
    out = former_site(tmp_path / "made")
    with pytest.raises(FileNotFoundError):
        site.replace(out, tmp_path / "never-made", tmp_path / "former")
    assert names(out) == [site.MARK, "old.html"]


# Markdown


def plain(source):
    """What one reads of a text in markdown."""
    tokens = MarkdownIt().parse(source)
    inline = [token.children for token in tokens if token.type == "inline"]
    words = [child.content or "\n" * (child.type == "softbreak") for one in inline for child in one]
    return " ".join("".join(words).split())


@given(st.text("ab<>_$#~|[]{}\\&! ", min_size=1).map(str.strip).filter(bool))
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
    assert link.endswith("(<00_start_here.ipynb#What-nn.Parameter-does,-really>)")


def test_a_formula_keeps_a_function_and_its_argument_apart():
    assert "<mspace" in mathml.mathml(r"\log p", "inline")
    assert "<mspace" not in mathml.mathml(r"\log_2 p", "inline")


# Messages


@given(st.lists(st.sampled_from(["cross-entropy", "a", "tensor", "(64x32)", "0-d"]), min_size=1))
@example(["cross-entropy"] * 30)
def test_a_message_is_read_back_as_it_was_however_it_was_broken_into_lines(words):
    said = " ".join(words)[:250].strip()
    assert list(messages.shown(executed_cell(said))) == [messages.Message("ValueError", said)]


def executed_cell(*said):
    """A cell that expects these messages, with what it shows."""
    lines = [f'with expect_error(ValueError, match="{one}"):\n    raise_it()' for one in said]
    printed = io.StringIO("before\n")
    printed.seek(0, io.SEEK_END)
    with contextlib.redirect_stdout(printed):
        for one in said:
            with expect_error(ValueError, match=one):
                raise ValueError(one)
        print("after")
    outputs = [new_output("stream", text=printed.getvalue())]
    return code("\n".join(lines), "expect", outputs=outputs)


def test_a_message_of_two_sections_is_listed_once_with_both():
    first = notebook(text("## A `b`", "a"), executed_cell("no such thing", "something else"))
    second = notebook(text("## C", "c"), executed_cell("no such thing"))
    page = messages.page({CHAPTER: first, NEXT: second})
    assert page.count("ValueError: no such thing") == 1
    assert page.index("no such thing") < page.index("something else")
    assert "(<00_start_here.ipynb#A-b>) · " in page and "(<01_module.ipynb#C>)" in page


def test_an_expectation_that_did_not_apply_is_listed_by_its_own_words():
    cell = code('with expect_warning(UserWarning, match="old way"):\n    pass', "expect")
    (message,) = messages.index({CHAPTER: notebook(text("## A", "a"), cell)})
    assert message == messages.Message("UserWarning", "…old way…")


def test_a_message_that_is_known_has_its_cause_and_its_fix_and_the_others_follow():
    said = "mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"
    memory = text("## Out of memory, in validation only", "memory")
    here = notebook(text("## A", "a"), executed_cell(said))
    page = messages.page({CHAPTER: here, NEXT: notebook(memory)})
    answer = explain.find(said)
    shown, elsewhere = page.split(f"## {messages.ELSEWHERE}")
    elsewhere, quoted = elsewhere.split(f"## {messages.QUOTED}")
    assert f'data-entry="{answer.name}"' in shown
    assert markdown.escaped(answer.cause) in shown and markdown.escaped(answer.fix) in shown
    assert f'data-entry="{answer.name}"' not in elsewhere + quoted
    assert 'data-entry="no-samples"' in elsewhere
    assert 'data-entry="cuda-memory"' in quoted
    assert "<01_module.ipynb#Out-of-memory,-in-validation-only>" in quoted


# Recap and front page


def test_the_recap_holds_each_chapters_last_table():
    reference = text("## Reference", "reference")
    reference.metadata.tags = ["reference"]
    page = recap.page({CHAPTER: notebook(text("# 00", "header"), RECAP, reference)})
    assert "## [00 · Sample](00_start_here.ipynb)" in page
    assert "| a sum | `+` |" in page and "Reference" not in page
    with pytest.raises(CourseError, match="00_start_here ends its core path with cell 'end'"):
        recap.page({CHAPTER: notebook(text("## The end\nNo table.", "end"))})


def test_the_front_page_is_the_readme_with_the_chapters_first_and_its_links_led(tmp_path):
    page = front.page(course(tmp_path / "course"), NOTEBOOKS, REPOSITORY, tmp_path)
    assert page.index("## The chapters") < page.index("## Start")
    assert "[first chapter](00_start_here.ipynb)" in page
    assert f"[licence]({REPOSITORY.url}/blob/{REPOSITORY.branch}/LICENSE)" in page
    assert (tmp_path / "picture.png").read_bytes() == PNG
    assert "elsewhere.test" not in page and "<!--" not in page
    for one in (CHAPTER, NEXT):
        assert f'href="{one.stem}.html"' in page and one.question in page


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<!-- /badges -->", "", "no region 'badges'"),
        ("(LICENSE)", "(LICENCE)", "links to 'LICENCE'"),
    ],
)
def test_a_readme_that_the_front_page_cannot_follow_is_refused(tmp_path, old, new, said):
    folder = course(tmp_path / "course")
    (folder / "README.md").write_text(README.replace(old, new), "utf-8")
    with pytest.raises(CourseError, match=said):
        front.page(folder, NOTEBOOKS, REPOSITORY, tmp_path)
