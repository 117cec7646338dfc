"""A newcomer goes through chapters of three kinds in JupyterLab, and reads what the page shows."""

from __future__ import annotations

import re
import socket
from typing import NamedTuple

import pytest

import chapters
from tests.chapters.cells import solved
from tests.long.browser import looks, notebooks, pages


class Walk(NamedTuple):
    """A chapter and an answer with a mistake in it, which is told in a sentence with ``words``."""

    stem: str
    exercise: str
    mistaken: str
    words: str


WALKS = {
    "figures": Walk(
        stem="02_losses",
        exercise="losses.bce_with_logits",
        mistaken="""\
def bce_with_logits(logits, targets, pos_weight=None):
    p = torch.sigmoid(logits)
    positive = targets * torch.log(p)
    if pos_weight is not None:
        positive = pos_weight * positive
    return -(positive + (1 - targets) * torch.log(1 - p))


ex.bce_with_logits.check(bce_with_logits)""",
        words="formula of the book",
    ),
    "widgets": Walk(
        stem="03_optimizers",
        exercise="optimizers.sgd",
        mistaken="""\
def sgd(w, grad, memory, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False):
    grad = grad + weight_decay * w
    if momentum == 0:
        return lr * grad
    if "v" not in memory:
        memory["v"] = torch.zeros_like(w)
    memory["v"] = momentum * memory["v"] + (1 - momentum) * grad
    if nesterov:
        grad = grad + momentum * memory["v"]
    else:
        grad = memory["v"]
    return lr * grad


ex.sgd.check(sgd)""",
        words="1 - momentum",
    ),
    "board": Walk(
        stem="06_tensorboard",
        exercise="tensorboard.look",
        mistaken="""\
def look(model, images):
    model.eval()
    with torch.no_grad():
        probabilities = model(images).softmax(dim=1)
    return probabilities.argmax(dim=1), probabilities.amax(dim=1)


ex.look.check(look)""",
        words="stays in eval mode",
    ),
}
VIEW = "application/vnd.jupyter.widget-view+json"
NARROW = 800
# JupyterLab raises it now and then when it takes a cell out of view that has left already: see its
# issue 15415, on NotebookWindowedLayout. No output of the course removes nodes.
OF_JUPYTERLAB = "Failed to execute 'removeChild' on 'Node'"


@pytest.mark.parametrize("kind", WALKS)
def test_a_newcomer_goes_through_a_chapter(kind, open_notebook, course):
    """One test, since each part goes on from where the part before it left the kernel."""
    walk = WALKS[kind]
    file = course / "work" / f"{walk.stem}.ipynb"
    as_copied = file.read_bytes()
    opened = open_notebook(file.name)
    assert not opened.is_marked_as_changed() and file.read_bytes() == as_copied

    runs_without_an_error(opened)
    shows_every_figure(opened)
    if kind == "board":
        shows_the_curve_on_its_board(opened)
    draws_again_when_a_control_moves(opened, at_least=1 if kind == "widgets" else 0)
    names_a_mistake_gives_a_hint_and_praises(opened, walk)
    looks_well_in_light_and_dark_and_at_narrow_width(opened)
    runs_without_an_error(opened)


def runs_without_an_error(opened):
    ran = opened.run_all()
    assert notebooks.errors(ran) == []
    assert notebooks.not_run(ran) == []
    assert unexpected_errors(opened) == []


def shows_every_figure(opened):
    for cell in opened.content().cells:
        expected = [output for output in cell.get("outputs", []) if is_picture(output)]
        if not expected:
            continue
        figures = looks.figures(opened.cell(cell.id))
        assert len(figures) == len(expected), cell.id
        for figure in figures:
            assert figure.text and figure.width > 0 and figure.colours > 1, (cell.id, figure)


def is_picture(output):
    data = output.get("data", {})
    return "<img" in data.get("text/html", "") or any(kind.startswith("image/") for kind in data)


def shows_the_curve_on_its_board(opened):
    first, *_ = [cell for cell in opened.content().cells if shows_a_board(cell)]
    board = opened.cell(first.id).frame_locator("iframe")
    board.locator("input[placeholder^='Filter tags']").fill("^loss/train")
    board.locator("card-view", has_text="loss/train").first.wait_for()
    chart = board.locator("line-chart canvas:visible").first
    opened.page.wait_for(lambda: pages.coloured_pixels(chart) > 100, "a curve on the board")


def shows_a_board(cell):
    return any(
        "tensorboard-frame" in output.get("data", {}).get("text/html", "")
        for output in cell.get("outputs", [])
    )


def draws_again_when_a_control_moves(opened, at_least):
    explorers = [
        cell.id
        for cell in opened.content().cells
        if any(VIEW in output.get("data", {}) for output in cell.get("outputs", []))
    ]
    assert len(explorers) >= at_least
    for cell_id in explorers:
        opened.move_every_control(cell_id)
    assert unexpected_errors(opened) == []


def names_a_mistake_gives_a_hint_and_praises(opened, walk):
    exercise = chapters.find(walk.exercise)
    tag = f"exercise:{exercise.short_name}"
    (cell,) = [c for c in opened.content().cells if tag in c.metadata.get("tags", [])]
    (mistake,) = [m for m in exercise.mistakes if walk.words in m.says]

    told = opened.answer(cell.id, walk.mistaken)
    assert "✗ Not yet" in told and says(told, mistake.says)
    told = opened.ask_below(cell.id, f"ex.{exercise.short_name}.hint()")
    assert says(told, exercise.hints[0]) and not says(told, exercise.hints[1])
    told = opened.answer(cell.id, solved(exercise))
    assert "✓ Right" in told and says(told, exercise.takeaway)


def says(told, text):
    """Whether the page says a text of an exercise; formulas, which it typesets, are left out."""
    return all(plain(part) in plain(told) for part in re.split(r"\$[^$]+\$", text))


def plain(text):
    """A text without markup and line breaks."""
    return " ".join(re.sub(r"[`*]", "", text).split())


def looks_well_in_light_and_dark_and_at_narrow_width(opened):
    for theme in (notebooks.DARK, notebooks.LIGHT):
        opened.use_theme(theme)
        assert looks.too_faint(opened.page.page) == []
    opened.use_width(NARROW)
    assert looks.too_wide(opened.page.page) == []


def unexpected_errors(opened):
    """What went wrong on the page, but in the frames of boards that the chapter has stopped."""
    address = re.compile(r"http://127\.0\.0\.1:(\d+)")
    return [
        error
        for error in opened.page.errors
        if not error.startswith(OF_JUPYTERLAB) and all(map(answers, address.findall(error)))
    ]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", int(port)), timeout=5).close()
    except OSError:
        return False
    return True
