"""Where two results differ, in the order in which a person looks.

That is: type, shape, dtype, device, value.
"""

from __future__ import annotations

import functools
import math
import re
import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

#: How far two floats may lie apart: torch.testing's own defaults for float32. Tensors use the
#: defaults of their dtype.
RTOL, ATOL = 1.3e-6, 1e-5
#: How far they may lie apart and still be roughly equal: of themselves, and of the largest number
#: in their tensor.
ROUGH_RTOL, ROUGH_OF_LARGEST = 1e-4, 1e-6


class Words(str):
    """What an observation says where there is nothing to compare, such as a missing gradient."""


class Texts(NamedTuple):
    """What a reader is told of a difference."""

    expected: str
    got: str
    remark: str = ""


@dataclass(frozen=True)
class Difference:
    """The first place where two results part.

    ``kind`` is "type", "length", "keys", "shape", "dtype", "device" or "value", ``where`` the
    place inside a container or module (``"['loss'][2]"``, empty for the result itself). ``tell``
    makes the texts, when they are asked for: of most differences, only the place is needed.
    """

    kind: str
    where: str
    tell: Callable[[], Texts]

    @functools.cached_property
    def told(self) -> Texts:
        return self.tell()


def difference(
    expected: Any, got: Any, where: str = "", *, roughly: bool = False
) -> Difference | None:
    """The first difference of ``got`` from ``expected``, or None where they agree.

    Tensors agree as in ``torch.testing.assert_close`` with ``equal_nan=True``. Two ints agree if
    they are equal, other numbers within ``RTOL`` and ``ATOL``. A list agrees with a tuple of the
    same items. Modules agree in their parameters, buffers and flags. What ``got`` says about
    itself (``__eq__``, ``__class__``) is not asked. With ``roughly``, floats agree that are as far
    apart as one sum in two orders.
    """
    if type(got) is Words and type(expected) is not Words:
        return Difference("value", where, lambda: Texts(describe(expected), str(got)))
    for kinds, compare in _COMPARISONS:
        if issubclass(type(expected), kinds):
            if not issubclass(type(got), kinds):
                return other_type(expected, got, where)
            return compare(expected, got, where, roughly)
    if type(expected) in (int, float):
        return _numbers(expected, got, where, roughly)
    return _others(expected, got, where)


def describe(value: Any) -> str:
    """One short line or block of text for any object, whatever its ``repr`` does."""
    kind = type(value)
    if issubclass(kind, Tensor):
        return _describe_tensor(value)
    if issubclass(kind, nn.Module):
        return _limited(_safe_repr(value), 400)
    if kind in (tuple, list):
        inside = ", ".join(describe(item) for item in value[:8]) + (", …" if len(value) > 8 else "")
        inside += "," if kind is tuple and len(value) == 1 else ""
        return _limited(f"({inside})" if kind is tuple else f"[{inside}]", 600)
    if kind is dict:
        shown = list(value.items())[:8]
        inside = ", ".join(f"{_safe_repr(key)}: {describe(item)}" for key, item in shown)
        return _limited("{" + inside + (", …}" if len(value) > 8 else "}"), 600)
    if kind is float:
        return f"{value:.6g}"
    return _limited(_safe_repr(value), 300)


def kind_of(value: Any) -> str:
    """The type of an object as a learner would name it."""
    kind = type(value)
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if issubclass(kind, nn.Module):
        return f"a module ({kind.__name__})"
    if issubclass(kind, Tensor):
        return "a Tensor"
    names = {
        "function": "a function",
        "generator": "a generator",
        "int": "an int",
        "frozenset": "a set",
    }
    return names.get(kind.__name__, f"a {kind.__name__}")


def plain(value: Any) -> Any:
    """A prediction in Python's own types, in which capitals make no difference.

    NumPy's numbers and arrays, tensors and ``torch.Size`` say the same as numbers and tuples. Keys
    stay as they are.
    """
    if issubclass(type(value), Tensor) and value.numel() < _MOST:
        value = value.detach().cpu().tolist()
    elif issubclass(type(value), (np.generic, np.ndarray)) and value.size < _MOST:
        value = value.tolist()
    if issubclass(type(value), dict):
        keys = (key.item() if issubclass(type(key), np.generic) else key for key in value)
        return dict(zip(keys, map(plain, value.values()), strict=True))
    if issubclass(type(value), (list, tuple)):
        return tuple(map(plain, value))
    if issubclass(type(value), (set, frozenset)):
        return frozenset(map(plain, value))
    return value.lower() if issubclass(type(value), str) else value


#: a prediction has few numbers; a tensor with more stays as it is
_MOST = 1000


def _tensors(expected: Tensor, got: Tensor, where: str, roughly: bool) -> Difference | None:
    # A subclass of Tensor may redefine every operation, this comparison's too.
    with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
        for kind, wanted, came in zip(_KINDS, _form(expected), _form(got), strict=True):
            if wanted != came:
                return Difference(kind, where, functools.partial(Texts, str(wanted), str(came)))
        if _agree(expected, got, roughly):
            return None

    def tell() -> Texts:
        with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
            remark = _in_short(_report(expected, got, roughly))
            return Texts(describe(expected), describe(got), remark)

    return Difference("value", where, tell)


_KINDS = ("shape", "dtype", "device")


def _form(tensor: Tensor) -> tuple[tuple[int, ...], torch.dtype, torch.device]:
    return tuple(tensor.shape), tensor.dtype, tensor.device


def _agree(expected: Tensor, got: Tensor, roughly: bool) -> bool:
    """Whether ``_report`` has nothing to say, found out in far less time where that is easy."""
    if expected.device.type == "cpu" and expected.layout is got.layout is torch.strided:
        if torch.equal(expected, got):
            return True
        if expected.dtype == torch.float32:
            near = _tolerances(expected, roughly) or {"rtol": RTOL, "atol": ATOL}
            return torch.allclose(got, expected, **near, equal_nan=True)
    return not _report(expected, got, roughly)


def _report(expected: Tensor, got: Tensor, roughly: bool) -> str:
    """What ``torch.testing`` says about two tensors, "" if they agree."""
    try:
        torch.testing.assert_close(
            got.detach().cpu(),
            expected.detach().cpu(),
            equal_nan=True,
            check_stride=False,
            **_tolerances(expected, roughly),
        )
    except AssertionError as error:
        return str(error)
    return ""


def _in_short(report: str) -> str:
    """How many values differ, and where most, from what ``assert_close`` says; else ""."""
    mismatched = re.search(r"^Mismatched elements: (\d+) / (\d+)", report, re.MULTILINE)
    greatest = re.search(
        r"^Greatest absolute difference: (\S+) at index \((.*?),?\)", report, re.MULTILINE
    )
    if mismatched is None or greatest is None:
        return ""
    differ = f"{mismatched[1]} of {mismatched[2]} values differ"
    return f"{differ}, the one at [{greatest[2]}] most: by {float(greatest[1]):.3g}"


def _tolerances(expected: Tensor, roughly: bool) -> dict[str, float]:
    if not (roughly and expected.is_floating_point()):
        return {}
    finite = expected.detach().abs().double()
    finite = finite[finite.isfinite()]
    largest = finite.max().item() if finite.numel() else 0.0
    return {"rtol": ROUGH_RTOL, "atol": ATOL + ROUGH_OF_LARGEST * largest}


def _modules(expected: nn.Module, got: nn.Module, where: str, roughly: bool) -> Difference | None:
    return difference(_facts(expected), _facts(got), where, roughly=roughly)


def _facts(module: nn.Module) -> dict[str, dict[str, Any]]:
    return {
        "parameters": dict(module.named_parameters()),
        "requires_grad": {name: p.requires_grad for name, p in module.named_parameters()},
        "buffers": dict(module.named_buffers()),
        "training": {name or "itself": part.training for name, part in module.named_modules()},
    }


def _dicts(expected: dict, got: dict, where: str, roughly: bool) -> Difference | None:
    if set(expected) != set(got):
        return _described("keys", where, list(expected), list(got))
    return _items(expected, got, expected, where, roughly)


def _sequences(
    expected: tuple | list, got: tuple | list, where: str, roughly: bool
) -> Difference | None:
    if len(expected) != len(got):
        return _described("length", where, expected, got)
    return _items(expected, got, range(len(expected)), where, roughly)


def _items(expected: Any, got: Any, keys: Iterable, where: str, roughly: bool) -> Difference | None:
    parts = (
        difference(expected[key], got[key], f"{where}[{key!r}]", roughly=roughly) for key in keys
    )
    return next(filter(None, parts), None)


_COMPARISONS = (
    (Tensor, _tensors),
    (nn.Module, _modules),
    (dict, _dicts),
    ((tuple, list), _sequences),
)


def _numbers(expected: float, got: Any, where: str, roughly: bool) -> Difference | None:
    number = got.item() if issubclass(type(got), np.generic) else got
    if type(number) not in (int, float):
        return other_type(expected, got, where)
    if type(expected) is type(number) is int:
        agree = expected == number
    else:
        near = ROUGH_RTOL if roughly else RTOL
        try:
            both_nan = math.isnan(expected) and math.isnan(number)
            agree = both_nan or math.isclose(expected, number, rel_tol=near, abs_tol=ATOL)
        except OverflowError:  # an int that no float can hold
            agree = False
    return None if agree else _described("value", where, expected, number)


def _others(expected: Any, got: Any, where: str) -> Difference | None:
    if issubclass(type(got), np.generic):
        got = got.item()
    if not issubclass(type(got), type(expected)):
        return other_type(expected, got, where)
    if expected == got:
        return None
    return _described("value", where, expected, got)


def _described(kind: str, where: str, expected: Any, got: Any) -> Difference:
    return Difference(kind, where, lambda: Texts(describe(expected), describe(got)))


def other_type(expected: Any, got: Any, where: str) -> Difference:
    facts = kind_of(expected), kind_of(got), remark_on(expected, got)
    return Difference("type", where, functools.partial(Texts, *facts))


def remark_on(expected: Any, got: Any) -> str:
    """Why something of another type may have come, and what to do, or ""."""
    if got is None:
        return "(A function that has no `return` gives `None`.)"
    if isinstance(got, type) and not isinstance(expected, type):
        return f"`{got.__name__}` is the class; `{got.__name__}(...)` makes an instance of it."
    if issubclass(type(got), nn.Module):
        return "This is the module itself: call it on an input to get its output."
    if issubclass(type(got), Tensor) and got.dim() == 0 and type(expected) in (int, float):
        return "`.item()` turns a tensor with one element into a Python number."
    if type(got).__name__ in ("function", "method", "builtin_function_or_method"):
        return "This is a function. If its result is meant, call it."
    if type(got).__name__ == "generator":
        return "A generator has not done its work yet: `list(...)` or a loop makes it."
    return ""


def _describe_tensor(tensor: Tensor) -> str:
    facts = f"shape {tuple(tensor.shape)}, {tensor.dtype}"
    if tensor.numel() > 24 or tensor.is_meta:
        return f"Tensor of {facts}"
    values = np.array2string(
        tensor.detach().cpu().float().numpy()
        if tensor.is_floating_point()
        else tensor.cpu().numpy(),
        precision=4,
        suppress_small=True,
        separator=", ",
    )
    return f"{values}  ({facts})"


_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxother, _repr.maxstring, _repr.maxlong = 3, 400, 200, 60
_repr.maxlist = _repr.maxtuple = _repr.maxdict = _repr.maxset = 8


def _safe_repr(value: Any) -> str:
    try:
        return repr(value) if issubclass(type(value), nn.Module) else _repr.repr(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"<a {type(value).__name__} whose repr raises {type(error).__name__}>"


def _limited(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
