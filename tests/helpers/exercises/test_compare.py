"""Differences are found in the order type, shape, dtype, device, value, and are never missed."""

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from helpers.exercises.compare import Words, describe, difference, plain

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(values)
def test_a_value_agrees_with_itself(value):
    assert difference(value, value) is None


@given(values, values)
def test_who_agrees_is_mutual(one, other):
    assert (difference(one, other) is None) == (difference(other, one) is None)


@given(values)
def test_anything_can_be_described(value):
    assert 0 < len(describe(value)) <= 2000


@pytest.mark.parametrize(
    ("expected", "got", "kind", "where"),
    [
        (torch.ones(2), [1.0, 1.0], "type", ""),
        (torch.ones(2), None, "type", ""),
        (torch.ones(2, 1), torch.ones(2, dtype=torch.float64), "shape", ""),
        (torch.ones(2), torch.zeros(2, dtype=torch.float64), "dtype", ""),
        (torch.ones(2), torch.zeros(2, device="meta"), "device", ""),
        (torch.ones(2), torch.tensor([1.0, 1.1]), "value", ""),
        (torch.ones(2), torch.tensor([1.0, math.nan]), "value", ""),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), "value", ""),
        ([1, 2], [1, 2, 3], "length", ""),
        ([1, [2, 3]], [1, [2, 4]], "value", "[1][1]"),
        ({"a": 1}, {"b": 1}, "keys", ""),
        ({"a": [1]}, {"a": [2]}, "value", "['a'][0]"),
        ({"a": 1}, [1], "type", ""),
        ((1, 2), 3, "type", ""),
        (1.0, 1.01, "value", ""),
        (1e6, 1e6 + 10, "value", ""),
        (0.0, 5e-5, "value", ""),
        (torch.ones(2), torch.ones(2) + 1e-4, "value", ""),
        (1.0, math.nan, "value", ""),
        (1, True, "type", ""),
        (True, 1, "type", ""),
        (1.0, torch.tensor(1.0), "type", ""),
        (1_000_000, 1_000_001, "value", ""),
        (1.0, 10**400, "value", ""),
        ("a", "b", "value", ""),
        (torch.float32, torch.float64, "value", ""),
        (nn.Linear(2, 2), torch.ones(2), "type", ""),
    ],
)
def test_the_first_difference_is_named(expected, got, kind, where):
    found = difference(expected, got)
    assert (found.kind, found.where) == (kind, where)
    assert found.told.expected != found.told.got


@pytest.mark.parametrize(
    ("expected", "got", "texts"),
    [
        (torch.ones(2), None, ("a Tensor", "None")),
        (nn.ReLU(), 3, ("a module (ReLU)", "an int")),
        ({"a": 1}, (1,), ("a dict", "a tuple")),
        ([1], {"a": 1}, ("a list", "a dict")),
        ("a", 3, ("a str", "an int")),
        (1.0, nn.ReLU, ("a float", "the class ReLU")),
        (1.0, describe, ("a float", "a function")),
        (torch.ones(2, 1), torch.ones(2), ("(2, 1)", "(2,)")),
        (torch.ones(2), torch.ones(2).int(), ("torch.float32", "torch.int32")),
        ({"a": 1}, {"b": 1}, ("['a']", "['b']")),
        ([1], [1, 2], ("[1]", "[1, 2]")),
        ((3,), (3, 1), ("(3,)", "(3, 1)")),
        (1.0, 1.5, ("1", "1.5")),
        ("a", "b", ("'a'", "'b'")),
    ],
)
def test_both_sides_are_said(expected, got, texts):
    found = difference(expected, got)
    assert (found.told.expected, found.told.got) == texts


def test_how_far_tensors_are_apart_is_said():
    remark = difference(torch.zeros(4), torch.tensor([0.0, 0.0, 0.5, 2.0])).told.remark
    assert remark == "2 of 4 values differ, the one at [3] most: by 2"


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (torch.ones(2), torch.ones(2, requires_grad=True)),
        (torch.ones(2), nn.Parameter(torch.ones(2))),
        (torch.ones(2), torch.ones(2) + 1e-7),
        (torch.ones(2).half(), torch.ones(2).half() + 9e-4),
        (torch.tensor([math.nan]), torch.tensor([math.nan])),
        (torch.ones(2, 3), torch.ones(3, 2).T),
        ((3, 4), torch.Size([3, 4])),
        ([1, 2], (1, 2)),
        ({"a": 1}, OrderedDict(a=1)),
        (2, 2.0),
        (2.0, np.float32(2.0)),
        (math.nan, math.nan),
        (0.1 + 0.2, 0.3),
        (1e6, 1e6 + 1),
        (0.0, 5e-6),
        (True, np.bool_(True)),
        ("a", np.str_("a")),
        ("a", type("Name", (str,), {})("a")),
    ],
)
def test_what_a_reader_would_call_equal_agrees(expected, got):
    assert difference(expected, got) is None


@pytest.mark.parametrize(
    ("expected", "got", "agree"),
    [
        (1.0, 1.00005, True),
        (1.0, 1.001, False),
        (torch.tensor([1e3, 0.0]), torch.tensor([1e3, 9e-4]), True),
        (torch.tensor([1.0, 0.0]), torch.tensor([1.0, 9e-4]), False),
        (torch.tensor([math.inf, 1.0]), torch.tensor([math.inf, 1.00005]), True),
        (torch.tensor([]), torch.tensor([]), True),
        (torch.tensor([True]), torch.tensor([False]), False),
        (torch.tensor([10**8]), torch.tensor([10**8 + 1]), False),
        ({"a": [torch.ones(2)]}, {"a": [torch.ones(2) + 5e-5]}, True),
        (nn.Linear(1, 1), nn.Linear(1, 1, bias=False), False),
    ],
)
def test_roughly_is_one_sum_in_two_orders(expected, got, agree):
    assert (difference(expected, got, roughly=True) is None) == agree


def test_words_stand_for_what_is_not_there():
    found = difference({"slope": torch.ones(2)}, {"slope": Words("no gradient comes back")})
    assert (found.kind, found.where, found.told.got) == (
        "value", "['slope']", "no gradient comes back",
    )  # fmt: skip
    assert difference(Words("none"), Words("none")) is None
    assert difference(Words("none"), torch.ones(2)).kind == "type"


def _net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda net: net[0].weight.data.add_(1), "['parameters']['0.weight']"),
        (lambda net: net[0].bias.requires_grad_(False), "['requires_grad']['0.bias']"),
        (lambda net: net[1].running_mean.add_(1), "['buffers']['1.running_mean']"),
        (lambda net: net[1].eval(), "['training']['1']"),
    ],
)
def test_modules_agree_in_weights_buffers_and_flags(change, where):
    changed = _net()
    assert difference(_net(), changed) is None
    change(changed)
    assert difference(_net(), changed).where == where


def test_a_tensor_cannot_vouch_for_itself():
    class Yes(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            return True

    assert difference(torch.zeros(3), torch.ones(3).as_subclass(Yes)).kind == "value"


def test_an_object_cannot_vouch_for_itself():
    class Yes:
        def __eq__(self, other):
            return True

        __hash__ = None

    for expected in (1, 1.5, "text", None, (1,), {"a": 1}, torch.ones(1)):
        assert difference(expected, Yes()).kind == "type"


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [
        (1, None, "no `return`"),
        (torch.ones(1), nn.Linear(1, 1), "call it on an input"),
        (torch.ones(1), nn.Linear, "is the class"),
        (1.0, torch.tensor(1.0), ".item()"),
        (1.0, len, "call it"),
        (1.0, (n for n in ()), "has not done its work"),
        (1.0, "1.0", ""),
    ],
)
def test_a_wrong_type_comes_with_the_next_step(expected, got, words):
    remark = difference(expected, got).told.remark
    assert words in remark and bool(remark) == bool(words)


def test_small_tensors_are_shown_and_large_ones_described():
    assert describe(torch.tensor([1.0, 2.5])) == "[1. , 2.5]  (shape (2,), torch.float32)"
    assert describe(torch.zeros(100)) == "Tensor of shape (100,), torch.float32"
    assert "device" not in describe(torch.zeros(2, device="meta"))
    assert describe(torch.tensor([True])) == "[ True]  (shape (1,), torch.bool)"


def test_long_things_are_cut():
    assert describe(list(range(100))).endswith(", …]")
    assert describe(tuple(range(100))).endswith(", …)")
    assert describe(dict.fromkeys(range(100))).endswith(", …}")
    assert len(describe("x" * 10_000)) <= 300
    assert len(describe(nn.Sequential(*[nn.Linear(1, 1) for _ in range(50)]))) <= 400


def test_a_repr_that_raises_is_survived():
    class Angry:
        def __repr__(self):
            raise SystemExit

    assert describe(Angry()) == "<a Angry whose repr raises SystemExit>"


def test_an_interrupt_is_not_swallowed_by_a_repr():
    class Interrupting:
        def __repr__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        describe(Interrupting())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.Size([2, 3]), (2, 3)),
        ([2, [3.5, True]], (2, (3.5, True))),
        (torch.tensor(7), 7),
        (torch.tensor([1, 2]), (1, 2)),
        (np.array([0.5]), (0.5,)),
        (np.bool_(True), True),
        (np.float64(0.5), 0.5),
        (np.str_("SGD"), "sgd"),
        ({"A": np.int64(3)}, {"A": 3}),
        (None, None),
    ],
)
def test_a_prediction_is_read_in_pythons_own_types(value, said):
    assert plain(value) == said and type(plain(value)) is type(said)
