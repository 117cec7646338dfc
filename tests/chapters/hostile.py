"""Answers that nobody would hand in on purpose."""

from __future__ import annotations

import copy
import functools
import gc
import sys
import time

import numpy as np
import torch
from torch import nn

from helpers.exercises import Exercise


class _Liar:
    """Equal to everything, of every class, and loud when printed."""

    def __eq__(self, other):
        return True

    __hash__ = None

    @property
    def __class__(self):
        return torch.Tensor

    def __repr__(self):
        raise RuntimeError("you shall not print me")


class _Furious:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name):
        raise ValueError(f"no {name} for you")

    def __eq__(self, other):
        raise ValueError("I am incomparable")

    __hash__ = None

    def __repr__(self):
        raise SystemExit("printing me ends the program")


class _NeverPrinted(Exception):
    def __str__(self):
        raise ValueError("not even my message")


class _YesTensor(torch.Tensor):
    """A tensor whose every operation says yes."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return True


class _RandomModule(nn.Module):
    def forward(self, *inputs):
        return torch.randn(3)


def _raising(error):
    def answer(*args, **kwargs):
        raise error

    return answer


def _giving(value):
    return lambda *args, **kwargs: value


def _yielding(*args, **kwargs):
    yield from args


def _spoiling(*args, **kwargs):
    for argument in args:
        if isinstance(argument, torch.Tensor) and argument.is_floating_point():
            argument.detach().fill_(float("nan"))
        if isinstance(argument, nn.Module):
            argument.double().requires_grad_(False)
    torch.manual_seed(time.time_ns() % 1000)
    return float("nan")


def _endless(*args, **kwargs):
    while True:
        time.sleep(0.01)


def _deep(*args, **kwargs):
    return _deep(*args, **kwargs)


def _chatty(*args, **kwargs):
    for _ in range(200):
        print("x" * 1000)
    return "y" * 10_000_000


def _nested():
    inside: list = []
    inside.append(inside)
    return inside


class _NoModule:
    def __init__(self, *args, **kwargs):
        pass


class _ForgetfulModule(nn.Module):
    def __init__(self, *args, **kwargs):
        self.layer = nn.Linear(2, 2)


#: makers of answers by what they are
HOSTILE = {
    "None": lambda: None,
    "a string": lambda: "forty-two",
    "a number": lambda: 41,
    "nan": lambda: float("nan"),
    "a huge int": lambda: 10**6000,
    "a dict": lambda: {1: 2},
    "a set": lambda: {1, 2},
    "a tensor": lambda: torch.zeros(2, requires_grad=True) * 2,
    "a huge tensor": lambda: torch.zeros(5_000_000),
    "a sparse tensor": lambda: torch.eye(3).to_sparse(),
    "a tensor that says yes": lambda: torch.ones(2).as_subclass(_YesTensor),
    "an object array": lambda: np.array([object(), None]),
    "a liar": _Liar,
    "a furious object": _Furious,
    "a class": lambda: _NoModule,
    "a forgetful module class": lambda: _ForgetfulModule,
    "the type of types": lambda: type,
    "a module": lambda: nn.Linear(2, 2),
    "a random module": _RandomModule,
    "a generator": lambda: (n for n in range(3)),
    "a list in itself": _nested,
    "a builtin": lambda: len,
    "print": lambda: print,
    "a partial": lambda: functools.partial(int, "7"),
    "the wrong arity": lambda: lambda: 1,
    "a generator function": lambda: _yielding,
    "gives None": lambda: _giving(None),
    "gives itself": lambda: lambda *args: args,
    "gives nan": lambda: _giving(float("nan")),
    "gives a liar": lambda: _giving(_Liar()),
    "gives a furious object": lambda: _giving(_Furious()),
    "gives a list in itself": lambda: _giving(_nested()),
    "gives a class": lambda: _giving(nn.Linear),
    "gives a yes-tensor": lambda: _giving(torch.ones(3, 1).as_subclass(_YesTensor)),
    "gives random numbers": lambda: _RandomModule(),
    "spoils its inputs": lambda: _spoiling,
    "prints and gives a lot": lambda: _chatty,
    "recurses for ever": lambda: _deep,
    "never ends": lambda: _endless,
    "raises ValueError": lambda: _raising(ValueError("a\nb\nc" * 100)),
    "raises SystemExit": lambda: _raising(SystemExit(3)),
    "raises GeneratorExit": lambda: _raising(GeneratorExit()),
    "raises BaseException": lambda: _raising(BaseException("base")),
    "raises StopIteration": lambda: _raising(StopIteration(1)),
    "raises MemoryError": lambda: _raising(MemoryError()),
    "raises what cannot be printed": lambda: _raising(_NeverPrinted()),
    "exits": lambda: lambda *args: sys.exit("bye"),
}


def problems(exercise: Exercise) -> list[str]:
    """What the check of an exercise says amiss to hostile answers."""
    hurried = copy.copy(exercise)
    hurried.seconds = 0.3
    found = []
    # In a process with much garbage, one collection takes longer than a hurried answer may. The
    # alarm would go off in a function that the collector calls, as that function's error.
    gc.disable()
    try:
        for name, make in HOSTILE.items():
            card = hurried.check(make())
            if card.state not in ("todo", "wrong") or not (str(card) and card._repr_html_()):
                found.append(f"{name}: {card}")
    finally:
        gc.enable()
    return found
