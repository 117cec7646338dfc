"""What the engine says of answers to small exercises made here."""

from __future__ import annotations

import copy
import functools
import random
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from helpers.exercises import Case, record, unrecognised
from helpers.exercises.compare import describe
from helpers.exercises.engine import Exercise, Mistake, NotRight, Prediction, source_of
from tests.chapters.cells import run_cell


def made(reference=None, **facts):
    """An exercise that asks for twice a tensor, or for what ``reference`` does."""
    given = {
        "title": "Twice",
        "stars": 1,
        "minutes": 1,
        "takeaway": "Twice is twice.",
        "hints": ("Think.", "Add.", "Write `x + x`."),
        "cases": lambda: [
            Case("a row", torch.ones(3)),
            Case("a table", torch.full((2, 2), 3.0)),
        ],
        "mistakes": [
            Mistake("You square.", lambda: squares),
            Mistake("You take the first only.", lambda: first_only),
        ],
        "seconds": 2.0,
    }
    return Exercise("chapter.double", reference or double, **{**given, **facts})


def double(x):
    return 2 * x


def by_adding(x):
    return x + x


def squares(x):
    return x**2


def first_only(x):
    return x[99]


def predicted(experiment=lambda: {"a": len("xy"), "b": len("xyz")}, **facts):
    given = {
        "title": "Sizes",
        "stars": 1,
        "minutes": 1,
        "takeaway": "So long.",
        "hints": ("Count.",),
        "mistakes": [
            Mistake("a: you counted from 0.", lambda: {"a": 1}),
            Mistake("b: you counted from 0.", lambda: {"b": 2}),
        ],
    }
    return Prediction("chapter.sizes", experiment, **{**given, **facts})


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


def test_an_answer_whose_file_is_no_python_is_tried_all_the_same(tmp_path):
    file = tmp_path / "notes.md"
    file.write_text("Call it (twice.\n")
    names = {}
    exec(compile("def answer(x): return x + x", str(file), "exec"), names)
    assert made().check(names["answer"]).state == "right"
    exec(compile("def answer(x): return x * x", str(file), "exec"), names)
    assert "TokenError" not in made().check(names["answer"]).text


def blank(x): ...


def blank_with_docstring(x):
    """Return twice x."""
    ...


def passes(x):
    pass


def refuses(x):
    raise NotImplementedError


def refuses_with_words(x):
    """Not now."""
    raise NotImplementedError("later")


@pytest.mark.parametrize(
    "answer", [..., blank_with_docstring, blank, passes, refuses, refuses_with_words, lambda x: ...]
)
def test_an_untouched_answer_is_not_tried_yet(answer):
    card = made().check(answer)
    assert card.state == "todo" and "ex.double.hint()" in card.text
    assert record.states() == {}


def test_a_known_mistake_is_named_only_if_it_does_the_same_on_every_case():
    exercise = made()
    assert exercise.check(lambda x: x * x).text == "You square."
    only_on_the_row = exercise.check(lambda x: x * x if x.dim() == 1 else x)
    assert only_on_the_row.state == "wrong" and only_on_the_row.text != "You square."


def test_a_known_mistake_is_named_though_it_adds_up_in_another_order():
    exercise = made()
    assert exercise.check(lambda x: x**2 * (1 + 5e-5)).text == "You square."
    assert exercise.check(lambda x: x**2 * (1 + 5e-3)).text != "You square."


def test_a_known_mistake_is_recognised_by_its_error_too():
    exercise = made()
    assert exercise.check(lambda rows: rows[99]).text == "You take the first only."
    assert exercise.check(lambda rows: rows[98]).text != "You take the first only."


def test_the_same_error_with_another_name_in_it_is_the_same_mistake():
    def also_wrong(x):
        raise TypeError("also_wrong() is confused at 0x7f00")

    def wrong(x):
        raise TypeError("double() is confused at 0x1234")

    exercise = made(mistakes=[Mistake("Confused.", lambda: wrong)])
    assert exercise.check(also_wrong).text == "Confused."


def test_the_first_failing_case_is_shown():
    card = made().check(lambda x: 2 * x if x.dim() == 1 else 3 * x)
    rows = dict(card.rows)
    assert rows["tried on"] == "a table"
    assert "6." in rows["expected"] and "9." in rows["got"]
    assert rows["details"].startswith("4 of 4 values differ")


def test_a_demand_does_not_hide_the_place_of_what_differs():
    exercise = made(lambda x: {"first": 1.0, "second": 2.0})
    demanding = made(lambda x: {"first": 1.0, "second": 2.0}, requires={"result": "Count."})
    for asked, told in ((exercise, "text"), (demanding, "rows")):
        card = asked.check(lambda x: {"first": 1.0, "second": 3.0})
        assert "['second']" in str(getattr(card, told))
        assert str(card).count("['second']") == 1
    assert dict(card.rows)["at"] == "['second']"


def test_memory_that_nobody_filled_makes_no_answer_right():
    zeros = made(lambda x: torch.zeros(len(x)))
    assert zeros.check(lambda x: torch.zeros(len(x))).state == "right"
    assert zeros.check(lambda x: torch.empty(len(x))).state == "wrong"


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


@pytest.mark.parametrize("wrong", [lambda x: x, lambda x: None, squares])
def test_what_an_answer_prints_and_warns_is_shown_when_it_is_wrong(capsys, wrong):
    def chatty(x):
        print("x is", x.shape)
        warnings.warn("odd", UserWarning, stacklevel=1)
        return wrong(x)

    rows = dict(made().check(chatty).rows)
    assert rows["it printed"] == "x is torch.Size([3])"
    assert wrong is squares or rows["it warned"] == "UserWarning: odd"
    assert capsys.readouterr().out == ""


def forever(x):
    while True:
        pass


def raises_in_colours(x):
    raise ValueError("\x1b[1mbold\x1b[0m words")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: print(x), ["no `return`"]),
        (lambda: 1, ["Its form is `double(x)`"]),
        (forever, ["took longer than 0.2 s", "never ends"]),
        (raises_in_colours, ["`ValueError: bold words`"]),
        (lambda x: x.mul_(2), ["leaves its argument 1 in another state"]),
        (lambda x: 2.0001 * x, ["not exact enough"]),
        (lambda x: 2.01 * x, ["The value differs"]),
        (lambda x: 2.0001 * x[0], ["The shape differs"]),
        (torch.ones(3), ["Hand in the function itself", "`ex.double.check(double)`", "a Tensor"]),
    ],
)
def test_what_is_wrong_is_said(answer, words):
    card = made(seconds=0.2).check(answer)
    assert card.state == "wrong" and all(word in card.text for word in words), card


def test_nothing_handed_in_is_named():
    assert "Hand in your answer: `ex.double.check(double)`." in made().check().text


def test_every_argument_is_watched():
    cases = [Case("text and a tensor", "text", torch.ones(2))]
    exercise = made(lambda text, x: 2 * x, cases=lambda: copy.deepcopy(cases))
    card = exercise.check(lambda text, x: x.mul_(2).clone())
    assert "leaves its argument 2 in another state" in card.text


def test_what_cannot_be_compared_is_said():
    def gives_itself(x):
        inside = []
        inside.append(inside)
        return inside

    exercise = made(gives_itself)
    card = exercise.check(lambda rows: gives_itself(rows))
    assert card.state == "wrong" and "comparing it raised `RecursionError`" in card.text


def test_an_exercise_may_ask_for_a_change_in_place():
    def zeroes(layer):
        nn.init.zeros_(layer.weight)

    def zeroes_too(layer):
        layer.weight.data = torch.zeros(2, 2)

    exercise = made(zeroes, cases=lambda: [Case("a layer", nn.Linear(2, 2))])
    assert exercise.check(zeroes_too).state == "right"
    assert exercise.check(lambda layer: layer.weight).state == "wrong"


def test_an_exercise_may_ask_for_an_error():
    def refuses_text(x):
        raise ValueError("no")

    exercise = made(refuses_text)
    assert exercise.check(refuses_text).state == "right"
    card = exercise.check(lambda x: x)
    assert "It should have ended with ValueError: no; it ended with no error." in card.text


def test_every_run_of_every_answer_starts_from_the_same_seed():
    def random_sum(x):
        return x + torch.rand(3).sum() + random.random() + np.random.rand()

    exercise = made(random_sum, cases=lambda: [Case("a", torch.rand(3)), Case("b", torch.rand(3))])
    assert exercise.check(lambda x: random_sum(x)).state == "right"


def test_the_readers_random_numbers_are_not_disturbed():
    torch.manual_seed(5)
    wanted = torch.rand(2)
    torch.manual_seed(5)
    made().check(lambda x: torch.rand(7))
    assert torch.equal(torch.rand(2), wanted)


def test_an_interrupt_passes_through():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made().check(interrupted)


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = 2

    def forward(self, x):
        return self.factor * x


def test_the_method_that_is_still_open_is_named():
    open_class = (
        "class double(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        ...\n\n"
        "    def forward(self, x):\n        {}\n\nex.double.check(double)"
    )
    exercise = made(Whole, observe=lambda cls, x: cls()(x))
    _, first_open = run_cell(exercise, open_class.format("return 2 * x"))
    assert (first_open.state, first_open.text) == ("todo", "`__init__` still has its `...`.")
    closed = open_class.replace("        ...\n\n", "\n")
    _, last_open = run_cell(exercise, closed.format("..."))
    assert (last_open.state, last_open.text) == ("todo", "`forward` still has its `...`.")
    _, done = run_cell(exercise, closed.format("return 2 * x"))
    assert done.state == "right"
    assert "Hand in the class itself" in exercise.check(torch.ones(1)).text


def test_a_program_with_a_bug_is_not_tried_until_it_is_changed():
    source = source_of(squares)
    exercise = made(start="Run it.", given=lambda: squares)
    _, as_given = run_cell(exercise, source + "\nex.double.check(squares)")
    assert (as_given.state, as_given.text) == ("todo", "Run it.")
    _, commented = run_cell(exercise, source + "  # why?\nex.double.check(squares)")
    assert commented.state == "todo"


def test_predictions_are_compared_as_values():
    exercise = predicted()
    assert exercise.check({"a": 2, "b": 3}).state == "right"
    assert exercise.check({"b": 3, "a": 2}).state == "right"


def test_capitals_are_no_mistake_in_a_prediction():
    exercise = predicted(
        lambda: ["SGD", "up"], mistakes=[Mistake("Down.", lambda: ["sgd", "down"])]
    )
    assert exercise.check(("sgd", "UP")).state == "right"
    assert exercise.check(["SGD", "Down"]).text == "Down."


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"a": 1, "b": 3}, "a: you counted from 0."),
        ({"a": 2, "b": 2}, "b: you counted from 0."),
        ({"a": 1, "b": 99}, "a: you counted from 0."),
        ({"a": 2}, "`'b'` is missing."),
        ({"a": 2, "b": ...}, "`'b'` is still open."),
    ],
)
def test_the_place_of_a_prediction_that_is_wrong_or_open_is_named(answer, text):
    assert predicted().check(answer).text == text


def test_an_unknown_wrong_prediction_does_not_give_the_answer_away():
    card = predicted().check({"a": 2, "b": 77})
    assert card.state == "wrong" and "`77` is wrong" in card.text and "3" not in card.text


@pytest.mark.parametrize("answer", [{"a": 2}, [2, 3], 5, "two", None, {"a": 2, "b": 3, "c": 4}])
def test_a_prediction_of_another_form_is_shown_the_form(answer):
    card = predicted().check(answer)
    rows = dict(card.rows)
    assert card.state == "wrong" and rows["a prediction looks like"] == predicted().blank
    assert rows["yours"] == describe(answer) and card.text


def test_a_prediction_of_another_length_is_told_so():
    exercise = predicted(lambda: [2, 3], mistakes=())
    assert [label for label, _ in exercise.check([2]).rows] == ["yours"]
    assert exercise.check([2, 4]).text.startswith("That is not what happens at `[1]`: `4` is wrong")


def test_a_prediction_that_is_one_value_has_no_form_to_show():
    exercise = predicted(lambda: 7, mistakes=())
    assert exercise.check(8).text.startswith("That is not what happens: `8` is wrong.")
    assert [label for label, _ in exercise.check("8").rows] == ["yours"]


@pytest.mark.parametrize("answer", [..., {"a": ..., "b": ...}, {"a": 2, "b": ...}, [2, ...]])
def test_a_half_done_prediction_is_not_tried_yet(answer):
    assert predicted().check(answer).state == "todo"


def test_an_experiment_that_fails_is_the_courses_fault_and_makes_no_answer_right():
    exercise = predicted(lambda: 1 / 0)
    assert exercise.check({"a": 2, "b": 3}).state == "wrong"
    with pytest.raises(ZeroDivisionError):
        _ = exercise.right


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
    assert card.code == "def double(x):\n    return 2 * x"


def test_what_was_built_can_be_used_once_it_is_right(capsys):
    exercise = made()
    exercise.check(squares)
    assert exercise.yours() is double
    assert "double: the course's solution" in capsys.readouterr().out
    exercise.check(by_adding)
    exercise.check(squares)
    assert exercise.yours() is by_adding
    assert capsys.readouterr().out.startswith("double: yours")


def test_strict_mode_raises_for_wrong_answers_only(monkeypatch):
    monkeypatch.setenv("TUTORIAL_STRICT", "1")
    exercise = made()
    assert exercise.check(double).state == "right"
    assert exercise.check(...).state == "todo"
    for answer in (squares, 7):
        with pytest.raises(NotRight, match=r"chapter\.double"):
            exercise.check(answer)


def test_what_was_tried_and_what_is_right_is_recorded():
    exercise = made()
    exercise.check(squares)
    assert record.states() == {"chapter.double": "tried"}
    exercise.check(double)
    assert record.states() == {"chapter.double": "right"}


def test_a_mistake_is_recognised_whatever_words_the_reader_gives_the_error_asked_for():
    def refuse(x, words):
        if x.dim() != 1:
            raise ValueError(words)

    def right(x):
        refuse(x, "expected a row")
        return 2 * x

    def triples(x):
        refuse(x, "expected a row")
        return 3 * x

    def triples_in_other_words(x):
        refuse(x, "no table, please")
        return x + x + x

    exercise = made(right, mistakes=[Mistake("Three times.", lambda: triples)])
    assert exercise.check(triples_in_other_words).text == "Three times."


def test_a_name_that_a_chapter_forgot_to_define_is_not_taken_for_a_mistake():
    exercise = made(mistakes=[Mistake("Forgotten.", lambda: lambda x: forgotten(x))])
    card = exercise.check(lambda x: forgotten(x))
    assert card.state == "wrong" and card.text != "Forgotten."


def test_a_list_in_place_of_a_set_is_called_a_list():
    exercise = predicted(lambda: {0, 6}, mistakes=())
    assert "a set is expected, a list came" in exercise.check([0, 6]).text


def test_a_reference_that_the_machine_stops_judges_nobody_and_is_not_remembered():
    broken = [True]

    def reference(x):
        if broken:
            raise FileNotFoundError("no temporary folder")
        return 2 * x

    exercise = made(reference, mistakes=[])
    assert "was not judged" in exercise.check(lambda x: "nonsense").text
    broken.clear()
    assert exercise.check(double).state == "right"

    asked = predicted(lambda: (_ for _ in ()).throw(MemoryError()))
    assert "was not judged" in asked.check({"a": 1, "b": 2}).text


def test_an_answer_may_take_as_long_as_the_machine_makes_the_reference_take():
    def slow(x):
        time.sleep(0.4)
        return 2 * x

    assert made(slow, seconds=0.2).check(slow).state == "right"


@pytest.mark.parametrize(
    "mode",
    [
        lambda: torch.device("meta"),
        lambda: torch.autocast("cpu", torch.bfloat16),
    ],
    ids=["device", "autocast"],
)
def test_the_readers_device_and_autocast_do_not_decide(mode):
    def product(x):
        return torch.ones(1, 3) @ (torch.ones(3, 3) * 0.1)

    exercise = made(product)
    with mode():
        inside = exercise.check(product)
    assert (inside.state, exercise.check(product).state) == ("right", "right"), inside


def test_memory_that_was_never_written_to_makes_no_answer_right():
    exercise = made(lambda x: torch.zeros_like(x))
    for answer in (lambda x: torch.empty_like(x), lambda x: x.new_empty(x.shape)):
        assert {exercise.check(answer).state for _ in range(9)} == {"wrong"}


def test_an_argument_that_needs_a_gradient_afterwards_is_noticed():
    def leaves(x):
        x.requires_grad_(True)
        return (2 * x).detach()

    assert "leaves its argument 1" in made().check(leaves).text


def test_an_answer_that_changes_modes_hides_no_mistake():
    def observe(answer, x):
        x = x.clone().requires_grad_()
        y = answer(x)
        yield "value", y
        yield "slope", torch.autograd.grad(y.sum(), x)[0]

    def cubes(x):
        return x * x * x

    def forgets(x):
        torch.set_grad_enabled(False)
        return 2 * x

    exercise = made(observe=observe, mistakes=[Mistake("You cube.", lambda: cubes)])
    exercise.check(forgets)
    assert exercise.check(lambda x: x**3).text == "You cube."


def test_a_module_in_place_of_its_class_is_told_so():
    class Twice(nn.Module):
        def forward(self, x):
            return 2 * x

    card = made(Twice, observe=lambda cls, x: cls()(x)).check(Twice())
    assert card.text.startswith("Hand in the class itself, without calling it")
    card = made().check(functools.partial(double, y=1))
    assert "could not call" not in card.text


def test_the_report_holds_the_source_of_a_class_of_a_cell():
    source = "class Thrice:\n    def __call__(self, x):\n        return 3 * x\n\n"
    exercise = made(type("Twice", (), {}), observe=lambda cls, x: cls()(x), mistakes=[])
    run_cell(exercise, source + "ex.double.check(Thrice)")
    assert unrecognised._kept[-1].answer == source.strip()


def test_the_report_holds_the_decorators_of_a_function():
    @torch.no_grad()
    def thrice(x):
        return 3 * x

    made(mistakes=[]).check(thrice)
    assert unrecognised._kept[-1].answer.startswith("@torch.no_grad()")
