"""What the course answers is legible in each of JupyterLab's themes and at narrow width."""

from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.long.browser import looks, notebooks

CARDS = """\
import os

from IPython.display import display

import chapters
from helpers import runtime
from helpers.exercises.feedback import Card

text = "It *adds*: call `optimizer.zero_grad()` in each step. " * 5
rows = (("expected", "tensor([" + "0.1234, " * 40 + "])"), ("got", "no_break_" * 40))
listing = f"print({'x' * 200!r})"
for state in ("todo", "wrong", "right", "hint", "solution", "report"):
    display(Card(state, "A title", text, rows, listing))
os.environ["TUTORIAL_SCRATCH"] += "/" + "unbroken" * 15
display(chapters.progress(), runtime.report())"""


def test_every_card_and_table_is_legible_in_each_theme_and_fits_each_width(open_notebook, course):
    kernel = {"name": "python3", "display_name": "Python 3"}
    cells = [new_code_cell(CARDS, id="cards")]
    nb = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(nb, course / "work" / "cards.ipynb")
    opened = open_notebook("cards.ipynb")
    assert notebooks.errors(opened.run_all()) == []
    for theme in notebooks.THEMES:
        opened.use_theme(theme)
        assert looks.too_faint(opened.page.page) == [], theme
    opened.use_theme(notebooks.LIGHT)
    for width in (1600, 800, 500):
        opened.use_width(width)
        assert looks.too_wide(opened.page.page) == [], width
    assert opened.page.errors == opened.page.elsewhere == []


# These tests can fail


def output(content):
    """A page with an output, as JupyterLab makes it, in it."""
    output = f'<div class="jp-OutputArea-output" data-mime-type="text/html">{content}</div>'
    return f'<div class="jp-Cell-outputArea" style="width:100px">{output}</div>'


@pytest.mark.parametrize("faint", ["color:#999", "opacity:.4", "background:#666"])
def test_a_faint_text_is_found(page, faint):
    page.page.set_content(output(f'<p>legible</p><p style="{faint}">faint</p>'))
    (found,) = looks.too_faint(page.page)
    assert "p:nth-child(2)" in found


def test_a_cut_off_text_is_found(page):
    page.page.set_content(output("<p>short</p>"))
    assert looks.too_wide(page.page) == []
    page.page.set_content(output(f"<p>{'long' * 50}</p>"))
    assert len(looks.too_wide(page.page)) == 1


def test_a_picture_without_content_or_text_is_found(page):
    drawing = "<circle r='9'/>"
    pictures = {"drawn": drawing, "blank": "", "": drawing, "broken": "<"}
    images = [
        f"<img alt='{text}' src=\"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' "
        f"width='20' height='20'>{inside}</svg>\">"
        for text, inside in pictures.items()
    ]
    page.page.set_content(output("".join(images)))
    seen = looks.figures(page.page.locator("body"))
    assert [(figure.text, figure.colours) for figure in seen] == [
        ("drawn", 2),
        ("blank", 1),
        ("", 2),
        ("broken", 0),
    ]
