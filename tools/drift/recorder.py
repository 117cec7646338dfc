"""Runs in the kernel of a chapter and writes down which of its claims hold.

``record`` is called by a start-up file before the first cell. From then on an assertion that fails
and an expectation that is not met do not end their cell: they are written down, and the cell goes
on. Each line of the journal is a ``Note`` in JSON.
"""

from __future__ import annotations

import ast
import builtins
import json
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from tools import claims
from tools.claims import Found
from tools.drift.words import difference, headline, in_words
from helpers.expect import ExpectationError

NAME = "__drift__"  # under which a cell finds the recorder


Verdict = Literal["held", "changed", "not reached"]


@dataclass(frozen=True)
class Note:
    """What became of a claim, the ``number``-th of its cell, once; ``instead`` tells what came."""

    cell: str
    number: int
    verdict: Verdict
    instead: str = ""


def record(shell, cell_file: str, journal: str) -> None:
    """Record the claims of an IPython ``shell``'s cells in ``journal``, which begins to exist.

    The runner keeps the id of the running cell in ``cell_file``: "" for one that claims nothing.
    """
    Path(journal).touch()
    recorder = Recorder(Path(journal))
    setattr(builtins, NAME, recorder)  # not in the notebook's own names, which its cells may list
    shell.ast_transformers.append(Transformer(Path(cell_file)))


class Transformer:
    """Has each claim in a cell's syntax tree tell the recorder how it went."""

    def __init__(self, cell_file: Path):
        self.cell_file = cell_file

    def visit(self, tree: ast.Module) -> ast.Module:
        """The cell's tree; IPython calls this with each cell that it runs."""
        if cell := self.cell_file.read_text("utf-8"):
            _Rewriter(cell, list(claims.find(tree))).visit(tree)
        return ast.fix_missing_locations(tree)


class Recorder:
    """What the code of a transformed cell calls."""

    def __init__(self, journal: Path):
        self.journal = journal
        self.values: dict[tuple[str, int], list[tuple[str, Any]]] = {}
        self.open = 0  # expectations whose blocks are running

    def expected(
        self, cell: str, number: int, expectation: AbstractContextManager
    ) -> AbstractContextManager:
        """The expectation, which is written down and never raises ``ExpectationError``."""
        return _Recorded(self, cell, number, expectation)

    def value(self, cell: str, number: int, text: str, value: Any) -> Any:
        """The value, remembered in case the assertion that it stands in fails."""
        self.values.setdefault((cell, number), []).append((text, value))
        return value

    def held(self, cell: str, number: int) -> None:
        """Write down that an assertion held."""
        self.values.pop((cell, number), None)
        self.add(Note(cell, number, "held"))

    def failed(self, cell: str, number: int) -> None:
        """Write down the exception that is being handled."""
        error = sys.exc_info()[1]
        seen = self.values.pop((cell, number), [])
        if type(error) is AssertionError:
            told = [in_words(str(error))] if str(error) else []
            instead = ": ".join(told + [difference(seen)] if seen or not told else told)
        else:
            instead = headline(error)
        self.add(Note(cell, number, _verdict(error), instead))

    def add(self, note: Note) -> None:
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(note)) + "\n")


class _Recorded(AbstractContextManager):
    def __init__(
        self, recorder: Recorder, cell: str, number: int, expectation: AbstractContextManager
    ):
        self.recorder, self.cell, self.number = recorder, cell, number
        self.expectation = expectation

    def __enter__(self) -> Any:
        self.recorder.open += 1
        return self.expectation.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.recorder.open -= 1
        try:
            handled = bool(self.expectation.__exit__(kind, error, trace))
        except ExpectationError as unmet:
            self._note(_verdict(error), unmet.instead)
            return True
        if error is None or handled:
            self._note("held")
            return handled
        if not isinstance(error, Exception):
            return False  # an interrupt or an exit is meant for the kernel
        raised = f"the block raised {headline(error)}"
        if self.recorder.open:  # the error may be what an outer expectation waits for
            self._note("not reached", raised)
            return False
        self._note(_verdict(error), raised)
        return True

    def _note(self, verdict: Verdict, instead: str = "") -> None:
        self.recorder.add(Note(self.cell, self.number, verdict, in_words(instead)))


def _verdict(error: BaseException | None) -> Verdict:
    """What an error says about the claim that met it."""
    # A name is missing because an earlier statement did not get to define it.
    return "not reached" if isinstance(error, NameError) else "changed"


class _Rewriter(ast.NodeTransformer):
    """Turns a claim's nodes into ones that record it.

    An expectation is wrapped in a call, an assertion in a ``try``, and the sides of its comparisons
    in calls that return them. No scope changes, and every line keeps its number.
    """

    def __init__(self, cell: str, found: list[Found]):
        self.cell = cell
        expectations = [(n, f) for n, f in enumerate(found) if f.kind != "assertion"]
        assertions = [(n, f) for n, f in enumerate(found) if f.kind == "assertion"]
        self.expectations = {id(one.node): number for number, one in expectations}
        self.assertions = {id(one.statement): number for number, one in assertions}

    def visit(self, node: ast.AST) -> ast.AST:
        number = self.assertions.get(id(node))
        if number is not None:
            return self._tried(node, number)
        number = self.expectations.get(id(node))
        self.generic_visit(node)
        return node if number is None else self._call("expected", number, node)

    def _tried(self, statement: ast.stmt, number: int) -> ast.Try:
        if isinstance(statement, ast.Assert):
            statement.test = self._remembering(statement.test, number)
        handler = ast.ExceptHandler(
            type=ast.Name("Exception", ast.Load()),
            name=None,
            body=[ast.Expr(self._call("failed", number))],
        )
        return ast.Try(
            body=[statement],
            handlers=[handler],
            orelse=[ast.Expr(self._call("held", number))],
            finalbody=[],
        )

    def _remembering(self, test: ast.expr, number: int) -> ast.expr:
        if isinstance(test, ast.Compare):
            test.left = self._remembered(test.left, number)
            test.comparators = [self._remembered(side, number) for side in test.comparators]
        elif isinstance(test, ast.BoolOp):
            test.values = [self._remembering(value, number) for value in test.values]
        elif isinstance(test, ast.UnaryOp):
            test.operand = self._remembering(test.operand, number)
        return test

    def _remembered(self, side: ast.expr, number: int) -> ast.expr:
        if isinstance(side, ast.Constant):
            return side
        return self._call("value", number, ast.Constant(ast.unparse(side)), side)

    def _call(self, method: str, number: int, *arguments: ast.expr) -> ast.Call:
        function = ast.Attribute(ast.Name(NAME, ast.Load()), method, ast.Load())
        return ast.Call(function, [ast.Constant(self.cell), ast.Constant(number), *arguments], [])
