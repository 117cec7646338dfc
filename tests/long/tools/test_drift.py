"""The drift report: what changed is listed at its claim, and nothing else is."""

from __future__ import annotations

import os
import re
import textwrap

import nbformat
import pytest

from chapters import CHAPTERS
from helpers import checkout
from tests.long.tools.samples import CHAPTER, course
from tests.notebooks.samples import code, notebook
from tests.notebooks.samples import markdown as text
from tools import claims, drift
from tools.__main__ import main
from tools.run import EXECUTED, run

ROOT = checkout.root()


# Claims


def claims_of(*cells):
    return claims.claims_of(notebook(*cells), "00_sample")


@pytest.mark.parametrize("function", claims.EXPECTATIONS)
def test_each_expectation_is_a_claim_wherever_its_call_stands(function):
    call = f'{function}(kinds.Odd, match="odd", since="2.12")'
    sources = [
        f"%load_ext tensorboard\nx = 1\nwith {call}:\n    f()",
        f"with open(name), expect.{call}:\n    f()",
        f"def expected():\n    return {call}",
        f"for _ in range(2):\n    with {call}:\n        f()",
        f"with {function}(match='odd', kind=kinds.Odd): f()",
    ]
    for source in sources:
        (claim,) = claims_of(text("## A *trap*", "text"), code(source, "trap"))
        assert claim == claims.Claim("00_sample", "A *trap*", "trap", "Odd", "odd"), source


def test_every_expectation_in_the_text_of_the_chapters_is_collected_below_a_heading():
    found = claims.claims(ROOT)
    assert all(claim.section and claim.type_name for claim in found)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        nb = nbformat.read(path, as_version=4)
        calls = re.compile(rf"\b(?:{'|'.join(claims.EXPECTATIONS)})\(")
        written = {cell.id: len(calls.findall(cell.source)) for _, cell in claims.by_section(nb)}
        collected = [claim.cell for claim in found if claim.chapter == path.stem]
        assert written == {cell: collected.count(cell) for cell in written}


# A torch that has changed

CELLS = {
    "a-default": """
        import inspect
        import torch
        from torch import nn
        from helpers.expect import expect_error, expect_warning

        defaults = inspect.signature(torch.optim.SGD).parameters
        assert defaults["momentum"].default == 0
        assert defaults["lr"].default == 0.001, "the default of lr"
        never = "reached"
    """,
    "a-message": """
        with expect_error(ValueError, match="empty parameter list"):
            torch.optim.SGD([])
    """,
    "as-it-was": """
        with expect_error(ValueError, match="Invalid learning rate"):
            torch.optim.SGD([torch.ones(1)], lr=-1)
        with expect_error(ValueError, match="of another torch", since="999"):
            torch.optim.SGD([torch.ones(1)])
    """,
    "a-warning": """
        with expect_warning(UserWarning, match="Using a target size"):
            nn.functional.mse_loss(torch.ones(2), torch.ones(2, 1))
    """,
    "a-consequence": "print(never)",
}
# Run by Python before the kernel is there.
CHANGED_TORCH = """
import inspect
import warnings

import torch
from torch import nn

sgd_init, mse_loss = torch.optim.SGD.__init__, nn.functional.mse_loss


def changed_sgd(self, params, lr=0.1, *arguments, **options):
    try:
        sgd_init(self, params, lr, *arguments, **options)
    except ValueError as error:
        raise ValueError(str(error).replace("empty parameter list", "nothing to do")) from None


def changed_mse_loss(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mse_loss(*arguments, **options)


defaults = inspect.signature(sgd_init)
changed_sgd.__signature__ = defaults.replace(
    parameters=[p.replace(default=0.1) if n == "lr" else p for n, p in defaults.parameters.items()]
)
torch.optim.SGD.__init__ = changed_sgd
nn.functional.mse_loss = changed_mse_loss
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A small course, which the command takes for its own."""
    cells = [code(textwrap.dedent(source).strip(), name) for name, source in CELLS.items()]
    folder = course(tmp_path / "course", text("## A `section`", "section"), *cells)
    monkeypatch.delenv(EXECUTED, raising=False)  # the same notebook runs with two kinds of torch
    monkeypatch.setattr(checkout, "root", lambda: folder)
    return folder


def test_a_torch_as_it_was_has_not_changed(here, capsys, tmp_path):
    page = tmp_path / "page.md"
    assert main(["drift", CHAPTER.stem, "--markdown", str(page)]) == 0
    assert "00 · Start here: everything holds\n" in capsys.readouterr().out
    assert page.read_text("utf-8").endswith("\n\neverything holds\n")


def test_a_torch_that_changed_is_reported_at_the_claims_about_it(
    here, tmp_path, monkeypatch, capsys
):
    (tmp_path / "sitecustomize.py").write_text(CHANGED_TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    page = tmp_path / "page.md"
    before = sorted(here.rglob("*"))
    assert main(["drift", "start_here", "--markdown", str(page)]) == 1
    head, *cells = capsys.readouterr().out.split("  A `section`, cell ")
    assert re.match(
        r"torch .*, torchvision .*, Python .*\n00 · Start here: 4 cells failed\n$", head
    )
    told = [[line.strip() for line in cell.splitlines()] for cell in cells]
    assert [(cell, claim, error.partition(" in its")[0]) for cell, claim, error in told] == [
        (
            "'a-default'",
            "assert defaults['lr'].default == 0.001, 'the default of lr'",
            "AssertionError: the default of lr",
        ),
        (
            "'a-message'",
            "with expect_error(ValueError, match='empty parameter list'): torch.optim.SGD([])",
            "ExpectationError: expected ValueError with 'empty parameter list'",
        ),
        (
            "'a-warning'",
            "with expect_warning(UserWarning, match='Using a target size'): "
            "nn.functional.mse_loss(torch.ones(2), torch.ones(2, 1))",
            "ExpectationError: expected UserWarning with 'Using a target size'",
        ),
        ("'a-consequence'", "print(never)", "NameError: name 'never' is not defined"),
    ]
    for cell, claim, error in told:
        item = f"A `section`, cell ` {cell[1:-1]} `: ` {claim} `\\\n  ` {error} `"
        assert item in page.read_text("utf-8")
    assert sorted(here.rglob("*")) == before


def test_an_error_in_the_block_of_an_expectation_is_told_at_the_expectation():
    source = """\
from helpers.expect import expect_warning
for n in range(2):
    with expect_warning(UserWarning, match="v"):
        [][0]
"""
    nb = run(notebook(code(source, "c"), code("x = = 1", "d")), allow_errors=True).notebook
    expected, syntax = drift.changes_in(nb, CHAPTER)
    assert expected.claim == "with expect_warning(UserWarning, match='v'): [][0]"
    assert expected.error == "IndexError: list index out of range"
    assert syntax.claim == "" and syntax.error.startswith("SyntaxError")


# The command


@pytest.fixture
def asked(monkeypatch):
    """The chapters that would have run; no kernel is started."""
    stems = []
    monkeypatch.setattr(
        drift, "executed", lambda chapter, folder: stems.append(chapter.stem) or notebook()
    )
    return stems


def test_the_command_runs_all_chapters_or_those_that_are_named(asked):
    assert main(["drift"]) == 0
    assert asked == [chapter.stem for chapter in CHAPTERS]
    asked.clear()
    assert main(["drift", "02", "losses", "02_losses"]) == 0
    assert asked == ["02_losses"] * 3
