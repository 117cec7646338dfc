"""What the engine says of answers to small exercises made here."""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from helpers.exercises import record
from helpers.exercises.compare import describe
from helpers.exercises.engine import Case, Exercise, NotRight, Prediction, source_of
from tests.chapters.cells import run_cell


def made(**facts):
    """An exercise that asks for twice a tensor."""
    exercise = Exercise(
        "room.double",
        **{
            "title": "Twice",
            "stars": 1,
            "minutes": 1,
            "ask": "Give twice `x`.",
            "takeaway": "Twice is twice.",
            "hints": ("Think.", "Add.", "Write `x + x`."),
            "cases": lambda: [
                Case("a row", torch.ones(3)),
                Case("a table", torch.full((2, 2), 3.0)),
            ],
            "seconds": 2.0,
            **facts,
        },
    )
    exercise.starter(starter).reference(reference).also_right(by_adding)
    exercise.mistake("You square.")(squares)
    exercise.mistake("You take the first only.")(first_only)
    return exercise


def starter(x):
    """Return twice x."""
    ...


def reference(x):
    return 2 * x


def by_adding(x):
    return x + x


def squares(x):
    return x**2


def first_only(x):
    return x[99]


def predicted():
    exercise = Prediction(
        "room.sizes",
        title="Sizes",
        stars=1,
        minutes=1,
        ask="How long?",
        takeaway="So long.",
        hints=("Count.",),
        blank='{"a": ..., "b": ...}',
    )
    exercise.reference(lambda: {"a": len("xy"), "b": len("xyz")})
    exercise.mistake("a: you counted from 0.")(lambda: {"a": "xy".index("y")})
    exercise.mistake("b: you counted from 0.")(lambda: {"b": "xyz".index("z")})
    return exercise


def test_the_reference_is_right_and_says_what_to_take_away():
    card = made().check(reference)
    assert (card.state, card.title, card.text) == ("right", "Twice", "Twice is twice.")


@pytest.mark.parametrize(
    "answer",
    [
        by_adding,
        lambda x: x * 2.0,
        functools.partial(torch.mul, torch.tensor(2.0)),
        type("Callable", (), {"__call__": lambda self, x: x + x})(),
    ],
)
def test_whatever_does_the_same_is_right(answer):
    assert made().check(answer).state == "right"


def blank(x): ...


def passes(x):
    pass


def refuses(x):
    raise NotImplementedError


def refuses_with_words(x):
    """Not now."""
    raise NotImplementedError("later")


@pytest.mark.parametrize(
    "answer", [..., starter, blank, passes, refuses, refuses_with_words, lambda x: ...]
)
def test_an_untouched_answer_is_not_tried_yet(answer):
    card = made().check(answer)
    assert card.state == "todo" and "ex.double.hint()" in card.text
    assert record.states() == {}


def test_where_to_start_can_be_said():
    assert made(start="Look at x.").check(...).text == "Look at x."


def test_a_known_mistake_is_named_only_if_it_does_the_same_on_every_case():
    exercise = made()
    assert exercise.check(lambda x: x * x).text == "You square."
    only_on_the_row = exercise.check(lambda x: x * x if x.dim() == 1 else x)
    assert only_on_the_row.state == "wrong" and only_on_the_row.text != "You square."


def test_a_known_mistake_is_named_though_it_adds_up_in_another_order():
    exercise = made()
    assert exercise.check(lambda x: x**2 * (1 + 5e-5)).text == "You square."
    assert exercise.check(lambda x: x**2 * (1 + 5e-3)).text != "You square."


def test_numbers_that_are_not_exact_enough_are_told_from_wrong_ones():
    card = made().check(lambda x: 2.0001 * x)
    assert card.state == "wrong" and "not exact enough" in card.text
    assert "not exact enough" not in made().check(lambda x: 2.01 * x).text
    assert "not exact enough" not in made().check(lambda x: 2.0001 * x[0]).text


def test_a_known_mistake_is_recognised_by_its_error_too():
    exercise = made()
    assert exercise.check(lambda rows: rows[99]).text == "You take the first only."
    assert exercise.check(lambda rows: rows[98]).text != "You take the first only."


def test_the_same_error_with_another_name_in_it_is_the_same_mistake():
    def also_wrong(x):
        raise TypeError("also_wrong() is confused at 0x7f00")

    def wrong(x):
        raise TypeError("wrong() is confused at 0x1234")

    exercise = made()
    exercise.mistake("Confused.")(wrong)
    assert exercise.check(also_wrong).text == "Confused."


def test_the_first_failing_case_is_shown():
    card = made().check(lambda x: 2 * x if x.dim() == 1 else 3 * x)
    rows = dict(card.rows)
    assert rows["tried on"] == "a table"
    assert "6." in rows["expected"] and "9." in rows["got"]
    assert "Mismatched elements: 4 / 4" in rows["details"]


def test_only_what_there_is_to_say_is_said():
    card = made().check(lambda x: x.sum())
    assert [label for label, _ in card.rows] == ["tried on", "expected", "got"]


def test_a_missing_return_is_named():
    def forgets(x):
        x + x

    assert "no `return`" in made().check(forgets).text


def test_an_exception_is_told_with_the_line_it_came_from():
    _, card = run_cell(
        made(), "def double(x):\n    y = x\n    return y @ 'two'\n\nex.double.check(double)"
    )
    assert "`TypeError: " in card.text and "at this line: `return y @ 'two'`" in card.text


def test_the_deepest_line_of_the_answer_is_shown():
    source = (
        "def helper(x):\n    return x.missing\n\n"
        "def double(x):\n    return helper(x)\n\nex.double.check(double)"
    )
    _, card = run_cell(made(), source)
    assert "`return x.missing`" in card.text


def test_a_wrong_number_of_arguments_comes_with_the_form():
    assert "Its form is `double(x)`" in made().check(lambda: 1).text


def test_an_answer_that_never_ends_is_stopped():
    def forever(x):
        while True:
            pass

    card = made(seconds=0.2).check(forever)
    assert "took longer than 0.2 s" in card.text and "never ends" in card.text


def test_a_result_handed_in_for_a_function_is_named():
    card = made().check(torch.ones(3))
    assert "Hand in the function itself" in card.text
    assert "`ex.double.check(double)`" in card.text and "a Tensor" in card.text


def test_nothing_handed_in_is_named():
    assert "Hand in your answer: `ex.double.check(double)`." in made().check().text


def test_what_an_answer_prints_and_warns_is_shown_when_it_is_wrong(capsys):
    def chatty(x):
        print("x is", x.shape)
        import warnings

        warnings.warn("odd", UserWarning, stacklevel=1)
        return x

    rows = dict(made().check(chatty).rows)
    assert rows["it printed"] == "x is torch.Size([3])"
    assert rows["it warned"] == "UserWarning: odd"
    assert capsys.readouterr().out == ""


def test_changing_an_argument_in_place_is_not_right():
    card = made().check(lambda x: x.mul_(2))
    assert card.state == "wrong" and "leaves its argument 1 in another state" in card.text


def test_every_argument_is_watched():
    exercise = made(cases=lambda: [Case("text and a tensor", "text", torch.ones(2))])
    exercise.reference(lambda text, x: 2 * x)
    card = exercise.check(lambda text, x: x.mul_(2).clone())
    assert "leaves its argument 2 in another state" in card.text


def test_what_cannot_be_compared_is_said():
    def gives_itself(x):
        inside = []
        inside.append(inside)
        return inside

    exercise = made()
    exercise.reference(gives_itself)
    card = exercise.check(lambda rows: gives_itself(rows))
    assert card.state == "wrong" and "comparing it raised `RecursionError`" in card.text


def test_an_exercise_may_ask_for_a_change_in_place():
    exercise = made(cases=lambda: [Case("a layer", nn.Linear(2, 2))])

    def zeroes(layer):
        nn.init.zeros_(layer.weight)

    def zeroes_too(layer):
        layer.weight.data = torch.zeros(2, 2)

    exercise.reference(zeroes)
    assert exercise.check(zeroes_too).state == "right"
    assert exercise.check(lambda layer: layer.weight).state == "wrong"


def test_an_exercise_may_ask_for_an_error():
    def refuses_text(x):
        raise ValueError("no")

    exercise = made()
    exercise.reference(refuses_text)
    assert exercise.check(refuses_text).state == "right"
    card = exercise.check(lambda x: x)
    assert "It should have ended with ValueError: no; it ended with no error." in card.text


def test_every_run_of_every_answer_starts_from_the_same_seed():
    exercise = made()
    exercise.reference(lambda x: x + torch.rand(3).sum() + random.random() + np.random.rand())
    exercise.cases = lambda: [Case("a", torch.rand(3)), Case("b", torch.rand(3))]
    again = lambda x: x + torch.rand(3).sum() + random.random() + np.random.rand()  # noqa: E731
    assert exercise.check(again).state == "right"


def test_the_readers_random_numbers_are_not_disturbed():
    torch.manual_seed(5)
    wanted = torch.rand(2)
    torch.manual_seed(5)
    made().check(lambda x: torch.rand(7))
    assert torch.equal(torch.rand(2), wanted)


def test_the_cases_are_fresh_for_each_run():
    exercise = made()
    exercise.check(lambda x: x.zero_())
    assert exercise.check(reference).state == "right"


def test_an_interrupt_passes_through():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made().check(interrupted)


def test_a_class_is_asked_for_by_its_methods():
    class Doubler(nn.Module):
        def __init__(self):
            super().__init__()
            ...

        def forward(self, x): ...

    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = 2

        def forward(self, x): ...

    class Whole(Half):
        def forward(self, x):
            return self.factor * x

    exercise = made()
    exercise.starter(Doubler).reference(Whole)
    exercise.observe(lambda cls, x: cls()(x))
    assert exercise.check(Whole).state == "right"
    assert exercise.check(Doubler).state == "todo"
    half = exercise.check(Half)
    assert (half.state, half.text) == ("todo", "`forward` still has its `...`.")
    assert "Hand in the class itself" in exercise.check(Whole().forward(torch.ones(1))).text


def test_the_method_that_is_still_open_is_named():
    open_class = (
        "class double(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        ...\n\n"
        "    def forward(self, x):\n        {}\n\nex.double.check(double)"
    )

    class Whole(nn.Module):
        def forward(self, x):
            return 2 * x

    exercise = made().reference(Whole)
    exercise.observe(lambda cls, x: cls()(x))
    exercise.starter(run_cell(made(), open_class.format('"""Twice."""\n        ...'))[0])
    _, first_open = run_cell(exercise, open_class.format("return 2 * x"))
    assert (first_open.state, first_open.text) == ("todo", "`__init__` still has its `...`.")
    closed = open_class.replace("        ...\n\n", "\n")
    _, last_open = run_cell(exercise, closed.format("..."))
    assert (last_open.state, last_open.text) == ("todo", "`forward` still has its `...`.")
    _, done = run_cell(exercise, closed.format("return 2 * x"))
    assert done.state == "right"


def test_a_program_with_a_bug_is_not_tried_until_it_is_changed():
    source = source_of(squares)
    exercise = made(start="Run it.")
    exercise.starter(squares)
    _, as_given = run_cell(
        exercise, source.replace("squares", "double") + "\nex.double.check(double)"
    )
    assert as_given.state == "wrong"  # another name is another program
    _, renamed = run_cell(exercise, source + "\nex.double.check(squares)")
    assert (renamed.state, renamed.text) == ("todo", "Run it.")
    _, commented = run_cell(exercise, source + "  # why?\nex.double.check(squares)")
    assert commented.state == "todo"


def test_predictions_are_compared_as_values():
    exercise = predicted()
    assert exercise.check({"a": 2, "b": 3}).state == "right"
    assert exercise.check({"b": 3, "a": 2}).state == "right"


def test_a_known_mistake_in_one_place_of_a_prediction_is_named():
    exercise = predicted()
    assert exercise.check({"a": 1, "b": 3}).text == "a: you counted from 0."
    assert exercise.check({"a": 2, "b": 2}).text == "b: you counted from 0."
    assert exercise.check({"a": 1, "b": 99}).text == "a: you counted from 0."


def test_an_unknown_wrong_prediction_does_not_give_the_answer_away():
    card = predicted().check({"a": 2, "b": 77})
    assert card.state == "wrong" and "`77` is wrong" in card.text and "3" not in card.text


@pytest.mark.parametrize("answer", [{"a": 2}, [2, 3], 5, "two", None, {"a": 2, "b": 3, "c": 4}])
def test_a_prediction_of_another_form_is_shown_the_form(answer):
    card = predicted().check(answer)
    rows = dict(card.rows)
    assert card.state == "wrong" and rows["a prediction looks like"] == predicted().blank
    assert rows["yours"] == describe(answer) and card.text


def test_a_prediction_of_another_length_is_shown_the_form():
    exercise = predicted()
    exercise.reference(lambda: [2, 3])
    assert "a prediction looks like" in dict(exercise.check([2]).rows)
    assert exercise.check([2, 4]).text.startswith("That is not what happens at `[1]`: `4` is wrong")


def test_a_prediction_that_is_one_value_has_no_form_to_show():
    exercise = predicted()
    exercise.blank = "..."
    exercise.reference(lambda: 7)
    assert exercise.check(8).text.startswith("That is not what happens: `8` is wrong.")
    assert [label for label, _ in exercise.check("8").rows] == ["yours"]


@pytest.mark.parametrize("answer", [..., {"a": ..., "b": ...}, {"a": 2, "b": ...}, [2, ...]])
def test_a_half_done_prediction_is_not_tried_yet(answer):
    assert predicted().check(answer).state == "todo"


def test_the_open_place_is_named():
    assert predicted().check({"a": 2, "b": ...}).text == "`'b'` is still open."


def test_an_experiment_that_fails_is_a_fault_of_the_room_and_not_a_right_answer():
    exercise = predicted()
    exercise.reference(lambda: 1 / 0)
    assert exercise.check({"a": 2, "b": 3}).state == "wrong"
    with pytest.raises(ZeroDivisionError):
        _ = exercise.answer_right


def test_hints_come_one_by_one_and_end():
    exercise = made()
    first, second, third, again = (exercise.hint() for _ in range(4))
    assert (first.state, first.title) == ("hint", "Twice")
    assert "1. Think." in first.text and "Add." not in first.text and "2 more" in first.text
    assert "2. Add." in second.text and "1. Think." in second.text
    assert "3. Write" in third.text and "the last one" in third.text
    assert again == third


def test_a_number_of_hints_can_be_asked_for():
    exercise = made()
    assert "2. Add." in exercise.hint(2).text
    assert "Add." not in exercise.hint(1).text
    assert "3. Write" in exercise.hint(99).text


def test_the_solution_shows_the_reference():
    card = made().solution()
    assert card.code == "def reference(x):\n    return 2 * x"


def test_strict_mode_raises_for_all_that_is_not_right(monkeypatch):
    monkeypatch.setenv("TUTORIAL_STRICT", "1")
    exercise = made()
    assert exercise.check(reference).state == "right"
    for answer in (..., squares, 7):
        with pytest.raises(NotRight, match=r"room\.double"):
            exercise.check(answer)


def test_what_was_tried_and_what_is_right_is_recorded():
    exercise = made()
    exercise.check(squares)
    assert record.states() == {"room.double": "tried"}
    exercise.check(reference)
    assert record.states() == {"room.double": "right"}


def test_the_cells_hold_the_source_and_the_check():
    exercise = made()
    assert exercise.starter_cell().startswith('def starter(x):\n    """Return twice x."""\n    ...')
    assert (
        exercise.solved_cell() == "def reference(x):\n    return 2 * x\n\n\nex.double.check(double)"
    )
    assert predicted().starter_cell() == 'sizes = {"a": ..., "b": ...}\nex.sizes.check(sizes)'


def test_the_prompt_has_stars_minutes_and_folded_help():
    prompt = made(stars=2, help=(("<code>KeyError</code>", "Look there."),)).prompt_cell()
    assert prompt.startswith("### ★★ Twice · 1 min\n\nGive twice `x`.")
    assert (
        "<details><summary><code>KeyError</code></summary>\n\nLook there.\n\n</details>" in prompt
    )
    assert "ex.double.hint()" in prompt and "ex.double.solution()" in prompt


def test_the_repr_says_what_can_be_done():
    assert repr(made()) == "<exercise room.double ★: .check(answer), .hint(), .solution()>"


def test_importing_the_exercises_without_a_room_imports_no_torch():
    code = "import helpers.exercises, sys; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_the_colours_of_a_message_are_left_out():
    def raises(x):
        raise ValueError("\x1b[1mbold\x1b[0m words")

    assert "`ValueError: bold words`" in made().check(raises).text
