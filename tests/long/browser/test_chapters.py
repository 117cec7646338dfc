"""A newcomer goes through each chapter in JupyterLab, and reads what the page shows."""

from __future__ import annotations

import re
import socket

import pytest

from helpers import exercises
from chapters import CHAPTERS
from helpers.exercises.engine import Prediction, source_of
from tests.long.browser import explorers, looks, notebooks
from tests.notebooks.boards import ports

# For each chapter, an exercise that is got wrong first, and how: a common mistake whose code stands
# alone, without other functions of its room.
MISTAKES = {
    "start_here": ("train_step", "never_forgets"),
    "module": ("Standardize", "ForgetsItsStatistics"),
    "losses": ("bce_with_logits", "of_the_book"),
    "optimizers": ("sgd", "averages"),
    "data_loading": ("my_share", "everything"),
    "serialization": ("travels", "only_what_is_learned"),
    "tensorboard": ("look", "stays_in_eval_mode"),
    "augmentation": ("mixup", "all_partners_already_mixed"),
    "margin_losses": ("least_scale", "all_others_opposite"),
}
NARROW = 800
# JupyterLab raises it now and then when it takes a cell out of view that has left already: see its
# issue 15415, on NotebookWindowedLayout. No output of the course removes nodes.
OF_JUPYTERLAB = "Failed to execute 'removeChild' on 'Node'"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_a_newcomer_goes_through_a_chapter(chapter, open_chapter, page):
    """One test, since each part goes on from where the part before it left the kernel."""
    opened = open_chapter(chapter)
    runs_without_an_error(opened)
    shows_every_figure(opened)
    shows_the_curves_on_its_board(opened)
    draws_anew_when_a_control_moves(opened)
    names_a_mistake_gives_a_hint_and_praises(opened, chapter)
    looks_well_in_every_theme_and_at_narrow_width(opened)
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


def shows_the_curves_on_its_board(opened):
    for cell in boards_of(opened)[:1]:  # the others are about its arguments
        opened.scroll_to(cell.id)
        opened.page.see_in_frame("input[placeholder^='Filter tags']").fill("^loss/train")
        opened.page.see_in_frame("card-view >> text=loss/train")
        opened.page.see_drawn("line-chart canvas")


def draws_anew_when_a_control_moves(opened):
    for cell_id in explorers.with_explorer(opened.content()):
        explorers.move_every_control(opened.page, opened.cell(cell_id))
    assert unexpected_errors(opened) == []


def names_a_mistake_gives_a_hint_and_praises(opened, chapter):
    name, mistake_name = MISTAKES[chapter.room]
    exercise = exercises.find(f"{chapter.room}.{name}")
    tag = f"exercise:{exercise.name}"
    (cell,) = [c for c in opened.content().cells if tag in c.metadata.get("tags", [])]
    (mistake,) = [m for m in exercise.mistakes if m.answer.__name__ == mistake_name]

    told = opened.answer(cell.id, mistaken_cell(exercise, mistake))
    assert "✗ Not yet" in told and says(told, mistake.says)
    told = opened.ask_below(cell.id, f"ex.{name}.hint()")
    assert says(told, exercise.hints[0]) and not says(told, exercise.hints[1])
    told = opened.answer(cell.id, exercise.solved_cell())
    assert "✓ Right" in told and says(told, exercise.takeaway)


def looks_well_in_every_theme_and_at_narrow_width(opened):
    for theme in (notebooks.DARK, notebooks.LIGHT):
        opened.use_theme(theme)
        assert looks.too_faint(opened.page.page) == []
    opened.use_width(NARROW)
    assert looks.too_wide(opened.page.page) == []


def mistaken_cell(exercise, mistake):
    """The cell of an exercise with a mistake in it, as somebody would have written it."""
    *_, check = exercise.starter_cell().splitlines()
    if isinstance(exercise, Prediction):
        return f"{exercise.short_name} = {exercise.answer_of(mistake.answer)!r}\n{check}"
    own = re.sub(rf"\b{mistake.answer.__name__}\b", exercise.short_name, source_of(mistake.answer))
    return f"{own}\n\n\n{check}"


def says(told, text):
    """Whether the page says a text of an exercise; formulas, which it typesets, are left out."""
    return all(plain(part) in plain(told) for part in re.split(r"\$[^$]+\$", text))


def plain(text):
    """A text without markup and line breaks."""
    return " ".join(re.sub(r"[`*]", "", text).split())


def is_picture(output):
    data = output.get("data", {})
    return "<img" in data.get("text/html", "") or any(kind.startswith("image/") for kind in data)


def boards_of(opened):
    return [cell for cell in opened.content().cells if cell.cell_type == "code" and ports(cell)]


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
