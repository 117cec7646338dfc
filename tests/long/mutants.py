"""Every change of a program in a single place, to see whether a check refuses it.

An operator, a comparison, a constant, a negation, a dropped statement, keyword, decorator, filter,
method call or ``with``, swapped arguments, other bounds of a slice.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Container, Iterator, Sequence
from typing import NamedTuple

from helpers.exercises import Exercise
from helpers.exercises.notation import compiled
from helpers.exercises.trial import differences, tried


class Mutant(NamedTuple):
    """A changed program. ``change`` tells where and how: unique, and stable under formatting."""

    change: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """All single-place changes of a source with one function or class in it.

    Changes that give the same program are one; annotations, docstrings and texts of errors stay,
    and so does ``strict`` of ``zip``: what a right answer zips is of one length.
    """
    tree = ast.parse(source)
    zips = [node for node in ast.walk(tree) if _is_zip(node)]
    kept = {id(part) for call in zips for word in call.keywords for part in ast.walk(word)}
    seen, found, counts = {ast.dump(tree)}, [], {}
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in kept:
            continue
        for number, _ in enumerate(_changes(node)):
            changed = copy.deepcopy(tree)
            target = _at(changed, place)
            before = _shown(target)
            after = list(_changes(target))[number]()
            ast.fix_missing_locations(changed)
            if ast.dump(changed) in seen:
                continue
            seen.add(ast.dump(changed))
            change = after or f"{before} → {_shown(target)}"
            counts[change] = counts.get(change, 0) + 1
            if counts[change] > 1:
                change += f" ({counts[change]})"
            found.append(Mutant(change, ast.unparse(changed)))
    return found


def called_right(
    exercise: Exercise, answer: Callable, changes: Sequence[Mutant], known: Container[str]
) -> list[str]:
    """The changes of an answer that the exercise takes for right; ``known`` ones get more time."""
    return [
        mutant.change
        for mutant in changes
        if _is_right(
            exercise,
            compiled(mutant.source, answer, mutant.change),
            _PATIENCE if mutant.change in known else _SECONDS,
        )
    ]


def _is_right(exercise: Exercise, answer: Callable, seconds: float) -> bool:
    """The check's verdict, given up at the first case that differs."""
    expected = exercise.expected()
    for number, case in enumerate(exercise.fresh_cases()):
        seen = expected[number].seen
        trial = tried(
            exercise.observe, answer, case, seed=number, seconds=seconds, names=list(seen)
        )
        if differences(expected[number : number + 1], [trial]):
            return False
    return True


#: for one case; a changed loop may never end, and a busy machine must not refuse a right answer
_SECONDS, _PATIENCE = 5.0, 60.0


def _at(tree: ast.AST, place: int) -> ast.AST:
    return next(node for number, node in enumerate(ast.walk(tree)) if number == place)


def _shown(node: ast.AST) -> str:
    """The node as one line; of a statement with a body, the line that opens it."""
    return ast.unparse(node).lstrip().splitlines()[0]


_PAIRS = [
    ("Add", "Sub"),
    ("Mult", "Div"),
    ("BitAnd", "BitOr"),
    ("Eq", "NotEq"),
    ("Is", "IsNot"),
    ("In", "NotIn"),
    ("And", "Or"),
]
_MORE = {
    "FloorDiv": ["Div"],
    "Mod": ["FloorDiv"],
    "Pow": ["Mult"],
    "Lt": ["LtE", "Gt"],
    "LtE": ["Lt", "Gt"],
    "Gt": ["GtE", "Lt"],
    "GtE": ["Gt", "Lt"],
}
#: operator -> what takes its place, by the names of their classes in ``ast``
_OPERATORS = {
    **{one: [other] for pair in _PAIRS for one, other in (pair, pair[::-1])},
    **_MORE,
}


def _others_for(operator: ast.AST | None) -> list[ast.AST]:
    return [getattr(ast, name)() for name in _OPERATORS.get(type(operator).__name__, [])]


def _changes(node: ast.AST) -> Iterator:
    """Functions that change a node in place; each may give the text that tells the change."""
    for operator in _others_for(getattr(node, "op", None)):
        yield lambda operator=operator: setattr(node, "op", operator)
    if isinstance(node, ast.Compare):
        for place, one in enumerate(node.ops):
            for operator in _others_for(one):
                yield lambda p=place, operator=operator: node.ops.__setitem__(p, operator)
    if isinstance(node, ast.Constant):
        for value in _other_constants(node.value):
            yield lambda value=value: setattr(node, "value", value)
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.Call):
        yield from _changes_of_call(node)
    if isinstance(node, ast.Slice):
        for bound in ("lower", "upper", "step"):
            if getattr(node, bound) is not None:
                yield lambda bound=bound: setattr(node, bound, None)
    if isinstance(node, ast.comprehension):
        for place in range(len(node.ifs)):
            yield lambda place=place: node.ifs.pop(place) and None
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        for place in range(len(node.decorator_list)):
            yield lambda place=place: f"without @{ast.unparse(node.decorator_list.pop(place))}"
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        if isinstance(block, list):
            for place, statement in enumerate(block):
                yield from _changes_of_statement(block, place, statement)
    yield from _unwrapped(node)


def _is_zip(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "zip"


def _changes_of_call(node: ast.Call) -> Iterator:
    for place in range(0 if _is_zip(node) else len(node.keywords)):
        yield lambda place=place: node.keywords.pop(place) and None
    for place in range(len(node.args) - 1):
        yield lambda place=place: node.args.__setitem__(
            slice(place, place + 2), node.args[place : place + 2][::-1]
        )


def _changes_of_statement(block: list, place: int, statement: ast.stmt) -> Iterator:
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef, ast.Pass, ast.Import, ast.ImportFrom)):
        return
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return

    def drop():
        block[place] = ast.Pass()
        return f"without {_shown(statement)}"

    yield drop
    if isinstance(statement, ast.With):

        def unwrap():
            block[place : place + 1] = statement.body
            return f"not inside {_shown(statement)}"

        yield unwrap
    if isinstance(statement, ast.Break):
        yield lambda: block.__setitem__(place, ast.Continue())


def _unwrapped(node: ast.AST) -> Iterator:
    """Drop ``-``, ``not``, ``~`` and method calls from the expressions that a node holds."""
    for field, value in ast.iter_fields(node):
        items = value if isinstance(value, list) else [value]
        for place, item in enumerate(items):
            inner = _inside(item)
            if inner is None:
                continue

            def put(field=field, place=place, item=item, inner=inner):
                old = getattr(node, field)
                if isinstance(old, list):
                    old[place] = inner
                else:
                    setattr(node, field, inner)
                return f"{_shown(item)} becomes {_shown(inner)}"

            yield put


def _inside(item: object) -> ast.expr | None:
    if isinstance(item, ast.UnaryOp):
        return item.operand
    if not (isinstance(item, ast.Call) and isinstance(item.func, ast.Attribute)):
        return None
    of = item.func.value
    return None if isinstance(of, ast.Name) and of.id in _MODULES else of


#: a call of these names is no method call
_MODULES = {"torch", "nn", "F", "np", "math", "init", "optim", "os", "copy", "json", "random"}


def _other_constants(value: object) -> list:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 0] if value > 0 else [value + 1]
    if isinstance(value, float):
        return [value * 2, 0.0] if value else [1.0]
    return []
