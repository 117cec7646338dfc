"""What the course answers is legible in each of JupyterLab's themes and at narrow width."""

from __future__ import annotations

import base64
import io

import nbformat
import pytest
from PIL import Image

from tests.long.browser import looks, notebooks, pages
from tests.notebooks.samples import code, notebook

CARDS = """\
from IPython.display import display

from helpers import exercises, runtime
from helpers.exercises.feedback import Card

text = "It *adds*: call `optimizer.zero_grad()` in each step. " * 5
rows = (("expected", "tensor([" + "0.1234, " * 40 + "])"), ("got", "no_break_" * 40))
listing = f"print({'x' * 200!r})"
for state in ("todo", "wrong", "right", "hint", "solution"):
    display(Card(state, "A title", text, rows, listing))
display(exercises.progress(), runtime.report())"""


@pytest.fixture(scope="module")
def opened(browser, lab, course):
    nbformat.write(notebook(code(CARDS, "cards")), course / "work" / "cards.ipynb")
    page = pages.Page(browser)
    shown = notebooks.Notebook(page, lab, "cards.ipynb")
    assert notebooks.errors(shown.run_all()) == []
    yield shown
    shown.use_theme(notebooks.LIGHT)
    shown.close()
    page.close()


@pytest.mark.parametrize("theme", notebooks.THEMES)
def test_every_word_stands_out_from_its_background(opened, theme):
    opened.use_theme(theme)
    assert looks.too_faint(opened.page.page) == []


@pytest.mark.parametrize("width", [1600, 800, 500])
def test_nothing_is_wider_than_its_cell(opened, width):
    opened.use_width(width)
    assert looks.too_wide(opened.page.page) == []


# The instruments of these tests


def output(content, style=""):
    """A page with an output, as JupyterLab makes it, in it."""
    output = f'<div class="jp-OutputArea-output" data-mime-type="text/html">{content}</div>'
    return f'<div class="jp-Cell-outputArea" style="width:100px;{style}">{output}</div>'


def picture(*colours):
    """The address of a picture with a row of pixels."""
    image = Image.new("RGB", (len(colours), 1))
    image.putdata(colours)
    file = io.BytesIO()
    image.save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def test_a_picture_without_content_or_text_is_seen(page):
    red, white = (255, 0, 0), (255, 255, 255)
    addresses = {"drawn": picture(red, white), "blank": picture(red, red), "broken": "data:,"}
    images = [f'<img alt="{name}" src="{address}">' for name, address in addresses.items()]
    page.page.set_content(output("".join(images) + f'<img src="{addresses["drawn"]}">'))
    seen = looks.figures(page.page.locator("body"))
    assert [figure.text for figure in seen] == [*addresses, ""]
    assert [figure.colours for figure in seen] == [2, 1, 0, 2]
    assert seen[0].width == 2


@pytest.mark.parametrize(
    "faint", ["color:#999", "opacity:.4", "background:#666", "background:#000;color:#0000ff"]
)
def test_faint_text_is_seen(page, faint):
    page.page.set_content(output(f"<p>plain</p><p style='{faint}'>faint <b>too</b></p>"))
    assert [line.partition(":")[0] for line in looks.too_faint(page.page)] == ["'faint'", "'too'"]


def test_what_is_cut_off_is_seen(page):
    page.page.set_content(output("<pre>fits</pre>") + output(f"<pre>{'wide ' * 40}</pre>"))
    (cut_off,) = looks.too_wide(page.page)
    assert cut_off.startswith("wide")


def test_contrast_is_that_of_wcag():
    black, white, grey = (0, 0, 0, 1), (255, 255, 255, 1), (119, 119, 119, 1)
    assert looks.contrast(black, white) == pytest.approx(21)
    assert looks.contrast(white, white) == pytest.approx(1)
    assert looks.contrast(grey, white) == pytest.approx(4.48, abs=0.01)
    see_through = (0, 0, 0, 0.5)
    assert looks.contrast(black, see_through, white) == looks.contrast(black, (127.5,) * 3 + (1,))
    assert looks.contrast(see_through, white) == looks.contrast((127.5,) * 3 + (1,), white)
