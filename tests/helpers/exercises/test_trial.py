"""What is observed of an answer, and what is said of the observations that differ."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.exercises import Case, Shortfall, Words, require
from helpers.exercises.engine import FaultyExercise, Mistake
from helpers.exercises.trial import Raised, call, differences, is_telling, tried
from tests.helpers.exercises.test_engine import made


def seen(observe, answer, case, names=()):
    return tried(observe, answer, case, seed=0, seconds=2.0, names=names).seen


def test_a_call_is_observed_by_its_result_and_its_arguments():
    found = seen(call, lambda x: x.add_(1).sum(), Case("a row", torch.zeros(2)))
    assert found["result"] == 2
    assert found["arguments"][0].tolist() == [1, 1]


def test_a_case_names_what_it_tries_and_may_observe_in_its_own_way():
    case = Case("a row", 3, about="square", observe=lambda answer, x: answer(x) ** 2)
    assert seen(call, lambda x: x + 1, case) == {"square": 16}


def twice_and_negative(answer, x):
    yield "twice", answer(x)
    yield "negative", answer(-x)


def test_a_generator_yields_observations_by_name():
    assert seen(twice_and_negative, lambda x: 2 * x, Case("3", 3)) == {"twice": 6, "negative": -6}


def test_an_error_stands_where_the_next_observation_was_to_come():
    names = ["twice", "negative"]
    found = seen(twice_and_negative, lambda x: [0, 1, 2, 3][x + 10 * (x < 0)], Case("3", 3), names)
    assert found["twice"] == 3
    assert type(found["negative"]) is Raised and type(found["negative"].error) is IndexError


def test_the_end_of_an_iterator_is_the_answers_own_error():
    found = seen(twice_and_negative, lambda x: next(iter([])), Case("3", 3), ["twice"])
    assert type(found["twice"].error) is StopIteration


def test_what_did_not_come_is_a_difference_unless_an_error_came():
    def only_if_even(answer, x):
        yield "value", answer(x)
        if answer(x) % 2 == 0:
            yield "half", answer(x) // 2

    case = Case("2", 2)
    expected = [tried(only_if_even, lambda x: x, case, seed=0, seconds=2.0)]
    odd = [tried(only_if_even, lambda x: x + 1, case, seed=0, seconds=2.0)]
    fails = [tried(only_if_even, lambda x: 1 / 0, case, seed=0, seconds=2.0, names=["value"])]
    assert list(differences(expected, odd)) == [(0, "value"), (0, "half")]
    assert list(differences(expected, fails)) == [(0, "value")]


def test_a_subclass_of_the_error_asked_for_is_right():
    class Unequal(ValueError):
        pass

    def refuses(x):
        raise ValueError("no")

    def refuses_in_its_own_way(x):
        raise Unequal("never")

    def fails(x):
        raise Exception("no")

    exercise = made(refuses, mistakes=())
    assert exercise.check(refuses_in_its_own_way).state == "right"
    assert exercise.check(fails).state == "wrong"


@pytest.mark.parametrize(
    ("value", "telling"),
    [
        (True, False),
        (3, False),
        (2.0, False),
        (float("nan"), False),
        (0.25, True),
        (torch.tensor([0.0, 1.0]), False),
        (torch.tensor([0.0, 0.3]), True),
        (torch.tensor([1, 2]), False),
        ({"a": [0.5]}, True),
        ("text", False),
    ],
)
def test_fractions_tell_one_reason_from_another(value, telling):
    assert is_telling(value) == telling


def test_what_an_observation_needs_is_asked_for_in_a_sentence():
    assert require(nn.ReLU(), nn.Module)
    with pytest.raises(
        Shortfall, match=r"A module is expected for the result, None came. .A function"
    ):
        require(None, nn.Module, "the result")
    with pytest.raises(Shortfall, match=r"An int or a float is expected, a str came\."):
        require("1", (int, float))


# What the verdict makes of it

REQUIRES = {"positive": "Positive numbers are doubled.", "negative": "Negative numbers are, too."}


def doubled(x):
    return 2 * x


def two_demands(**facts):
    """Twice a number, tried on a positive and on a negative one."""
    given = {
        "cases": lambda: [
            Case("-2.5", -2.5, about="negative"),
            Case("1.3", 1.3, about="positive"),
        ],
        "observe": lambda answer, x: answer(x),
        "requires": REQUIRES,
        "mistakes": (),
    }
    return made(doubled, **{**given, **facts})


def test_the_first_demand_that_fails_speaks_with_its_case():
    card = two_demands().check(lambda x: 2 * x if x > 0 else x)
    assert card.text == "This is not met: Negative numbers are, too."
    assert card.rows == (("tried on", "-2.5"), ("expected", "-5"), ("got", "-2.5"))


def test_demands_speak_in_their_own_order():
    assert (
        two_demands().check(lambda x: 3 * x).text
        == "This is not met: Positive numbers are doubled."
    )


def test_an_error_comes_with_the_demand_that_it_prevents():
    def fails(x):
        return 2 * x if x > 0 else [][0]

    card = two_demands().check(fails)
    assert "`IndexError: list index out of range`" in card.text
    assert card.text.endswith("Asked for is: Negative numbers are, too.")


def test_a_demand_that_is_met_or_not_shows_no_values():
    exercise = made(
        doubled,
        cases=lambda: [Case("2", 2)],
        observe=lambda answer, x: answer(x) == 4,
        requires={"result": "Twice 2 is 4."},
        mistakes=(),
    )
    card = exercise.check(lambda x: x)
    assert (card.text, card.rows) == ("This is not met: Twice 2 is 4.", (("tried on", "2"),))


def test_the_sentence_of_an_observation_that_could_not_go_on_is_told():
    def observe(answer, x):
        return require(answer(x), float, "the result")

    card = two_demands(cases=lambda: [Case("1.3", 1.3)], observe=observe).check(str)
    assert card.text.startswith("A float is expected for the result, a str came.")


def test_words_in_place_of_a_value_are_told():
    exercise = two_demands(observe=lambda answer, x: answer(x) or Words("nothing"))
    assert dict(exercise.check(lambda x: 0).rows)["got"] == "nothing"


def test_a_mistake_is_named_with_what_else_is_wrong():
    mistakes = [
        Mistake("You leave negative numbers.", lambda: lambda x: 2 * x if x > 0 else x),
        Mistake("You treble positive ones.", lambda: lambda x: 3 * x if x > 0 else 2 * x),
    ]
    exercise = two_demands(mistakes=mistakes)
    assert exercise.check(lambda x: 2 * x if x > 0 else x).text == "You leave negative numbers."
    both = exercise.check(lambda x: 3 * x if x > 0 else x).text
    assert both == "You leave negative numbers.\n\nAnd besides: You treble positive ones."
    other = exercise.check(lambda x: 7 * x if x > 0 else x).text
    assert other == "You leave negative numbers."


def test_a_mistake_that_shows_in_nothing_telling_is_not_named_where_more_is_wrong():
    exercise = two_demands(
        mistakes=[Mistake("You give zero.", lambda: lambda x: 2 * x if x > 0 else 0.0)]
    )
    assert exercise.check(lambda x: 2 * x if x > 0 else 0.0).text == "You give zero."
    assert (
        exercise.check(lambda x: 3 * x if x > 0 else 0.0).text
        == "This is not met: Positive numbers are doubled."
    )


def test_the_mistake_that_explains_most_comes_first():
    mistakes = [
        Mistake("You leave negative numbers.", lambda: lambda x: 2 * x if x > 0 else x),
        Mistake("You leave every number.", lambda: lambda x: x),
    ]
    assert two_demands(mistakes=mistakes).check(lambda x: x + 0).text == "You leave every number."


def test_a_mistake_has_several_spellings():
    def also(x):
        return 4 * x

    mistake = Mistake("Too much.", lambda: lambda x: 3 * x, also=(lambda: also,))
    more = Mistake("Negative.", lambda: lambda x: 2 * abs(x), also=(lambda: abs,))
    exercise = two_demands(mistakes=[mistake, more])
    assert exercise.check(lambda x: x if x > 0 else -x).text == "Negative."
    assert exercise.check(lambda x: x + x + x).text == "Too much."
    assert exercise.check(lambda x: x * 4).text == "Too much."


def test_a_right_answer_that_is_not_exact_enough_makes_no_mistake():
    mistake = Mistake("A rough two.", lambda: lambda x: 2.0001 * x)
    assert "not exact enough" in two_demands(mistakes=[mistake]).check(lambda x: 2.00005 * x).text


def test_an_undefined_name_in_the_reference_is_the_courses_fault():
    exercise = made(lambda x: undefined(x))
    with pytest.raises(FaultyExercise, match=r"define it in exercises\.py"):
        exercise.expected()
