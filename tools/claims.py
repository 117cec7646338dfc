"""What the chapters claim: the statements in their cells that a run settles.

A claim is a call of ``expect_error``, ``show_traceback`` or ``expect_warning``, an ``assert``, or a
call like ``torch.testing.assert_close(...)``. They are read from the notebooks' code; nothing runs.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from IPython.core.inputtransformer2 import TransformerManager

if TYPE_CHECKING:
    from nbformat import NotebookNode

Kind = Literal["error", "warning", "assertion"]


@dataclass(frozen=True)
class Claim:
    """One statement of a chapter that holds or does not.

    ``section`` is the text of the nearest heading above, ``line`` the claim's first line in its
    cell, ``source`` the whole statement with its block. ``type_name`` and ``match`` are those of an
    expected error or warning; ``match`` is None where the notebook computes it. ``since`` and
    ``until`` are the first and the last torch that the claim is about, None without a limit.
    """

    chapter: str
    section: str
    cell: str
    kind: Kind
    type_name: str | None
    match: str | None
    since: str | None
    until: str | None
    source: str
    line: int


class Found(NamedTuple):
    """A claim in a syntax tree: the ``assert`` or the call, and the statement that it stands in."""

    node: ast.Assert | ast.Call
    statement: ast.stmt
    kind: Kind


def claims(folder: Path) -> list[Claim]:
    """The claims of all notebooks of a checkout, in the order in which they are read."""
    import nbformat  # takes seconds, which a kernel that looks for claims in its cells can save

    return [
        claim
        for path in sorted((folder / "notebooks").glob("*.ipynb"))
        for claim in claims_of(nbformat.read(path, as_version=4), path.stem)
    ]


def claims_of(nb: NotebookNode, chapter: str) -> list[Claim]:
    """The claims of a notebook, in order. The cells of setup and exercises claim nothing.

    Raises ``ValueError`` for a cell that is not Python, or not after IPython has read its magics.
    """
    section, collected = "", []
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            section = _last_heading(cell) or section
        elif claims_something(cell):
            source = TransformerManager().transform_cell(cell.source)
            collected += [
                _claim(chapter, section, cell.id, found, source)
                for found in find(_parsed(source, f"cell {cell.id!r} of chapter {chapter}"))
            ]
    return collected


def claims_something(cell: NotebookNode) -> bool:
    """Whether what a cell states is the chapter's: it is code, and neither setup nor exercise."""
    generated = any(tag.startswith("exercise:") for tag in cell.metadata.get("tags", []))
    return cell.cell_type == "code" and cell.id != "setup" and not generated


def find(tree: ast.AST) -> Iterator[Found]:
    """The claims in a cell's syntax tree, in the order of its text.

    An ``assert`` in the block of an expected ``AssertionError`` belongs to that claim.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt):
            yield from _in_statement(node)
        else:  # a branch of `try` or `match`
            yield from find(node)


_EXPECTATIONS: dict[str, Kind] = {
    "expect_error": "error",
    "show_traceback": "error",
    "expect_warning": "warning",
}
_ABOVE_ASSERTIONS = ("AssertionError", "Exception", "BaseException")


def _in_statement(statement: ast.stmt) -> Iterator[Found]:
    if isinstance(statement, ast.Assert):
        yield Found(statement, statement, "assertion")
        return
    own = [found for node in _own_expressions(statement) for found in _calls(node, statement)]
    yield from own
    inner = find(_block(statement))
    if any(_name(_type(found.node)) in _ABOVE_ASSERTIONS for found in own if found.kind == "error"):
        inner = (found for found in inner if found.kind != "assertion")
    yield from inner


def _own_expressions(statement: ast.stmt) -> list[ast.AST]:
    """What a statement evaluates itself, without the statements in its block."""
    return [n for n in ast.iter_child_nodes(statement) if not _holds_statements(n)]


def _block(statement: ast.stmt) -> ast.AST:
    """The rest of it, as a tree of its own."""
    held = [node for node in ast.iter_child_nodes(statement) if _holds_statements(node)]
    return ast.Module(body=held, type_ignores=[])


def _holds_statements(node: ast.AST) -> bool:
    return isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case)


def _calls(expression: ast.AST, statement: ast.stmt) -> Iterator[Found]:
    calls = [node for node in ast.walk(expression) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        if kind := _EXPECTATIONS.get(_name(call.func)):
            yield Found(call, statement, kind)
        elif isinstance(statement, ast.Expr) and _name(call.func).startswith("assert_"):
            yield Found(call, statement, "assertion")


def _claim(chapter: str, section: str, cell: str, found: Found, source: str) -> Claim:
    expectation = found.node if found.kind != "assertion" else None
    text = ast.get_source_segment(source, found.statement, padded=True)
    return Claim(
        chapter=chapter,
        section=section,
        cell=cell,
        kind=found.kind,
        type_name=ast.unparse(_type(expectation)) if expectation else None,
        match=_text(expectation, "match") if expectation else None,
        since=_text(expectation, "since") if expectation else None,
        until=_text(expectation, "until") if expectation else None,
        source=textwrap.dedent(text),
        line=found.node.lineno,
    )


def _type(call: ast.Call) -> ast.expr:
    """The type of error or warning that a call expects."""
    return [*call.args, *(word.value for word in call.keywords if word.arg == "kind")][0]


def _text(call: ast.Call, argument: str) -> str | None:
    """The string that a call gives for an argument; None if it gives none, or computes it."""
    given = {word.arg: word.value for word in call.keywords}
    given |= dict(zip(("kind", "match"), call.args, strict=False))
    value = given.get(argument)
    return value.value if isinstance(value, ast.Constant) else None


def _name(expression: ast.expr) -> str:
    """The last part of a dotted name; "" for any other expression."""
    return getattr(expression, "attr", getattr(expression, "id", ""))


def _parsed(source: str, place: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"{place} is not Python: {error}") from None


def _last_heading(cell: NotebookNode) -> str:
    """The text of a cell's last heading; "" if it has none, or is an exercise's prompt."""
    if any(tag.startswith("prompt:") for tag in cell.metadata.get("tags", [])):
        return ""
    without_code = re.sub(r"^```.*?^```", "", cell.source, flags=re.DOTALL | re.MULTILINE)
    return (re.findall(r"^#+ +(.*?)\s*$", without_code, re.MULTILINE) or [""])[-1]
