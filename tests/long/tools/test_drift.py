"""The drift report: what has changed is listed at its claim, and nothing else is."""

import ast
import builtins
import functools
import json
import os
import re
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from helpers import checkout, expect
from tools import claims, drift
from chapters import CHAPTERS
from helpers.checkout import CourseError
from tools.claims import Claim
from tools.drift import listing, recorder, running
from tools.drift.running import Outcome, Visit
from tools.drift.words import difference
from tests.notebooks.samples import code, markdown, notebook

ROOT = checkout.root()


# What the recorder does to a cell


@pytest.fixture
def run_cell(tmp_path, monkeypatch):
    """Run a cell as the kernel does; give its names and the notes on its claims."""
    cell_file, journal = tmp_path / "cell", tmp_path / "journal"
    cell_file.write_text("a-cell")
    shell = SimpleNamespace(ast_transformers=[])
    monkeypatch.setattr(builtins, recorder.NAME, None, raising=False)
    recorder.record(shell, str(cell_file), str(journal))
    (transformer,) = shell.ast_transformers

    def run(source, **names):
        journal.write_text("")
        names |= {"expect_error": expect.expect_error, "expect_warning": expect.expect_warning}
        tree = transformer.visit(ast.parse(textwrap.dedent(source)))
        exec(compile(tree, "a-cell", "exec"), names)
        return names, [json.loads(line) for line in journal.read_text().splitlines()]

    return run


def verdicts(notes):
    return [(note["number"], note["verdict"]) for note in notes]


HOLDS = [
    "assert 1 + 1 == 2",
    "assert_equal(1, 1)",
    "with expect_error(ValueError, match='no'):\n    raise ValueError('no')",
    "with expect_warning(UserWarning, match='no'):\n    warn('no')",
]
BREAKS = {
    "assert 1 + 1 == 3": "1 + 1 is 2",
    "assert not ones == [1, 1]": "ones is [1, 1]",
    "assert ones and 1 < len(ones) < 2, 'why'": "why: len(ones) is 2",
    "assert all(x > 1 for x in ones)": "it is false",
    "assert {'a': 1, 'b': 2} == dict(a=1, b=3)": (
        "{'a': 1, 'b': 2} is {'b': 2}; dict(a=1, b=3) is {'b': 3}"
    ),
    "assert ones['x'] == 1": "TypeError: list indices must be integers or slices, not str",
    "assert_equal(1, 2)": "not equal",
    "with expect_error(ValueError, match='no'):\n    pass": "the block raised nothing",
    "with expect_error(ValueError, match='no'):\n    int('a')": (
        "the block raised ValueError: invalid literal for int() with base 10: 'a'"
    ),
    "with expect_warning(UserWarning, match='no'):\n    pass": "no such warning came",
    "with expect_warning(UserWarning, match='no'):\n    int('a')": (
        "the block raised ValueError: invalid literal for int() with base 10: 'a'"
    ),
}


def assert_equal(left, right):
    if left != right:
        raise AssertionError("not equal")


def names():
    import warnings

    warn = functools.partial(warnings.warn, stacklevel=2)
    return {"assert_equal": assert_equal, "ones": [1, 1], "warn": warn}


@pytest.mark.parametrize("statement", HOLDS)
def test_a_claim_that_holds_is_recorded_as_held(run_cell, statement):
    after, notes = run_cell(f"{statement}\nend = 1", **names())
    assert verdicts(notes) == [(0, "held")] and after["end"] == 1


@pytest.mark.parametrize("statement", BREAKS)
def test_a_claim_that_breaks_is_recorded_with_what_came_and_the_cell_goes_on(run_cell, statement):
    after, (note,) = run_cell(f"{statement}\nend = 1", **names())
    assert note == {
        **{"cell": "a-cell", "number": 0, "verdict": "changed"},
        "instead": BREAKS[statement],
    }
    assert after["end"] == 1


def test_each_claim_of_a_cell_has_its_number(run_cell):
    source = "\n".join([*HOLDS, *BREAKS])
    _, notes = run_cell(source, **names())
    expected = ["held"] * len(HOLDS) + ["changed"] * len(BREAKS)
    assert verdicts(notes) == list(enumerate(expected))


def test_what_came_is_told_of_the_time_that_failed(run_cell):
    _, notes = run_cell("for n in (1, 5):\n    assert n < 3")
    assert [note["instead"] for note in notes] == ["", "n is 5"]


def test_a_cell_runs_as_it_would_without_the_recorder(run_cell):
    source = """
        class Counter:
            '''Counts.'''
            total = 0
            def add(self, n):
                assert n > 0, "positive"
                self.total += n
                return self.total

        counter = Counter()
        for n in (1, 2):
            assert (seen := counter.add(n)) == counter.total != 0
        with expect_error(AssertionError, match="positive"):
            assert n < 0, "positive"
        where = next(i for i, line in enumerate(lines) if "next(i" in line)
    """
    lines = textwrap.dedent(source).splitlines()
    after, notes = run_cell(source, lines=lines)
    assert after["counter"].total == after["seen"] == 3
    assert after["Counter"].__doc__ == "Counts."
    assert {"Counter", "counter", "n", "seen", "where"} == after.keys() - {
        *("__builtins__", "lines", "expect_error", "expect_warning")
    }
    assert {note["verdict"] for note in notes} == {"held"}


def test_lines_keep_their_numbers(run_cell):
    with pytest.raises(ZeroDivisionError) as caught:
        run_cell("assert 1 == 2\nwith expect_error(ValueError, match='x'):\n    pass\n1 / 0")
    assert caught.traceback[-1].lineno + 1 == 4


def test_a_name_that_an_earlier_statement_did_not_define_is_no_change(run_cell):
    expectations = [HOLDS[2], HOLDS[3]]
    for statement in ["assert missing == 1", *expectations]:
        with_missing = statement.replace("raise ValueError('no')", "missing")
        _, (note,) = run_cell(with_missing.replace("warn('no')", "missing"))
        assert note["verdict"] == "not reached" and "'missing' is not defined" in note["instead"]


def test_an_error_that_an_outer_expectation_waits_for_reaches_it(run_cell):
    source = """
        with expect_error(ValueError, match="v"), expect_warning(UserWarning, match="w"):
            raise ValueError("v")
    """
    _, notes = run_cell(source)
    assert verdicts(notes) == [(1, "not reached"), (0, "held")]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("statement", ["assert stop()", *HOLDS[2:]])
def test_an_interrupt_passes(run_cell, statement, interrupt):
    def stop(*_):
        raise interrupt

    source = statement.replace("raise ValueError('no')", "stop()").replace("warn('no')", "stop()")
    with pytest.raises(interrupt):
        run_cell(source, stop=stop)


def test_a_value_that_cannot_be_shown_is_no_obstacle():
    class Odd:
        def __repr__(self):
            raise RuntimeError

    assert difference([("x", Odd())]) == "x is a Odd without repr (RuntimeError)"


def test_every_claim_of_the_chapters_can_be_recorded(tmp_path):
    cell_file = tmp_path / "cell"
    transformer, recorded = recorder.Transformer(cell_file), 0
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if claims.claims_something(cell):
                cell_file.write_text(cell.id)
                source = TransformerManager().transform_cell(cell.source)
                tree = transformer.visit(ast.parse(source))
                compile(tree, cell.id, "exec")
                recorded += len(
                    re.findall(rf"{recorder.NAME}\.(?:held|expected)", ast.unparse(tree))
                )
    assert recorded == len(claims.claims(ROOT))


# A torch that has changed

CELLS = {
    "a-default": """
        import inspect
        import torch
        from torch import nn
        from helpers.expect import expect_error, expect_warning

        defaults = inspect.signature(torch.optim.SGD).parameters
        assert defaults["lr"].default == 0.001
        assert defaults["momentum"].default == 0
    """,
    "a-message": """
        with expect_error(ValueError, match="empty parameter list"):
            torch.optim.SGD([])
        with expect_error(ValueError, match="Invalid learning rate"):
            torch.optim.SGD([torch.ones(1)], lr=-1)
    """,
    "a-warning": """
        with expect_warning(UserWarning, match="Using a target size"):
            loss = nn.functional.mse_loss(torch.ones(2), torch.ones(2, 1))
        assert loss == 0
    """,
    "a-signature": """
        assert list(inspect.signature(nn.Dropout).parameters) == ["p", "inplace"]
        assert nn.Dropout(p=0.25).p == 0.25
    """,
}
# Run by Python before the kernel is there.
CHANGED_TORCH = """
import inspect
import warnings

import torch
from torch import nn

sgd_init, dropout_init = torch.optim.SGD.__init__, nn.Dropout.__init__
mse_loss = nn.functional.mse_loss


def changed_sgd(self, params, lr=0.1, *arguments, **options):
    try:
        sgd_init(self, params, lr, *arguments, **options)
    except ValueError as error:
        raise ValueError(str(error).replace("empty parameter list", "nothing to do")) from None


def changed_mse_loss(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mse_loss(*arguments, **options)


def changed_dropout(self, p=0.5, inplace=False, generator=None):
    dropout_init(self, p, inplace)


defaults = inspect.signature(sgd_init)
changed_sgd.__signature__ = defaults.replace(
    parameters=[p.replace(default=0.1) if n == "lr" else p for n, p in defaults.parameters.items()]
)
torch.optim.SGD.__init__ = changed_sgd
nn.functional.mse_loss = changed_mse_loss
nn.Dropout.__init__ = changed_dropout
"""


@pytest.fixture
def chapter(tmp_path):
    """Write a chapter with these cells; its path."""

    def write(**cells):
        path = tmp_path / "00_sample.ipynb"
        sources = {name.replace("_", "-"): textwrap.dedent(text) for name, text in cells.items()}
        made = [code(source.strip(), name) for name, source in sources.items()]
        nbformat.write(notebook(markdown("# Sample\n\n## Section", "text"), *made), path)
        return path

    return write


def changes(visit):
    return {
        (one.claim.cell, one.claim.line): one.instead
        for one in visit.outcomes
        if one.verdict == "changed"
    }


def test_a_torch_as_it_was_has_not_changed(chapter):
    visit = running.visit(chapter(**CELLS))
    assert {one.verdict for one in visit.outcomes} == {"still true"} and len(visit.outcomes) == 8
    assert (visit.errors, visit.changed) == ({}, False)


def test_a_torch_that_changed_is_reported_at_the_claims_about_it(chapter, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(CHANGED_TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    visit = running.visit(chapter(**CELLS))
    assert changes(visit) == {
        ("a-default", 7): "defaults['lr'].default is 0.1",
        ("a-message", 1): "the block raised ValueError: optimizer got an nothing to do",
        ("a-warning", 1): "no such warning came",
        ("a-signature", 1): (
            "list(inspect.signature(nn.Dropout).parameters) is ['p', 'inplace', 'generator']"
        ),
    }
    others = {
        one.verdict
        for one in visit.outcomes
        if (one.claim.cell, one.claim.line) not in changes(visit)
    }
    assert others == {"still true"}
    assert (visit.errors, visit.changed) == ({}, True)


def test_a_cell_that_fails_for_another_reason_leaves_what_follows_from_it_unreached(chapter):
    visit = running.visit(
        chapter(
            first="assert 1\nx = 1 / 0\nassert 2",
            second="assert x == 0\nassert 3",
            third="assert 4\nimport os\nos._exit(1)",
            fourth="assert 5",
        )
    )
    assert [(one.claim.source, one.verdict) for one in visit.outcomes] == [
        ("assert 1", "still true"),
        ("assert 2", "not reached"),
        ("assert x == 0", "not reached"),
        ("assert 3", "still true"),
        ("assert 4", "still true"),
        ("assert 5", "not reached"),
    ]
    reasons = [one.instead for one in visit.outcomes if one.instead]
    assert reasons == [
        "ZeroDivisionError: division by zero",
        "NameError: name 'x' is not defined",
        "no cell came to it",
    ]
    assert visit.errors == {
        "first": "ZeroDivisionError: division by zero",
        "third": "the kernel died",
    }
    assert visit.changed


def test_what_is_about_another_torch_is_listed_as_such(chapter):
    visit = running.visit(
        chapter(
            limits="""
                from helpers.expect import expect_error
                for wrong in (False, True):
                    with expect_error(ValueError, match="x", since="999"):
                        int("a") if wrong else None
                with expect_error(ValueError, match="x", until="1"):
                    [][0]
                if False:
                    assert 1
            """
        )
    )
    assert [(one.verdict, one.instead) for one in visit.outcomes] == [
        ("about another torch", "since 999"),
        ("changed", "the block raised IndexError: list index out of range"),
        ("not reached", "no cell came to it"),
    ]
    assert visit.errors == {}


def test_a_run_changes_nothing_in_the_folder_of_the_notebook(chapter, tmp_path):
    path = chapter(writes="open('file', 'w').close()\nassert 1 == 2")
    before = path.read_bytes()
    running.visit(path)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == before


def test_a_kernel_that_records_nothing_is_no_report(chapter, monkeypatch):
    monkeypatch.setattr(running._Room, "_startup", lambda room: "")
    with pytest.raises(CourseError, match="did not run the start-up file"):
        running.visit(chapter(first="assert 1"))


# What is listed


def outcome(verdict, instead="", **fields):
    made = {
        **dict.fromkeys(("type_name", "match", "since", "until")),
        **{"chapter": "00_start_here", "section": "A `heading`", "cell": "a-cell", "line": 3},
        **{"kind": "assertion", "source": "assert f(\n    x\n) == 1"},
    }
    return Outcome(Claim(**made | fields), verdict, instead)


ERROR = {"kind": "error", "type_name": "ValueError", "match": "`x` has ``two``"}
VISITS = [
    Visit(
        "00_start_here",
        [
            outcome("still true"),
            outcome("changed", "f( x ) is 2"),
            outcome("changed", "the block raised nothing", section="Errors", **ERROR),
        ],
        {"a-cell": "TypeError: no"},
    ),
    Visit("01_module", [outcome("about another torch", "since 9"), outcome("not reached")], {}),
]


def test_a_chapter_is_listed_by_section_with_what_came_instead():
    assert listing.text(VISITS[0]).splitlines() == [
        "00 · Start here",
        "  A `heading`",
        "    still true          assert f( x ) == 1",
        "    changed             assert f( x ) == 1",
        "                        cell 'a-cell', line 3: f( x ) is 2",
        "  Errors",
        "    changed             error ValueError: `x` has ``two``",
        "                        cell 'a-cell', line 3: the block raised nothing",
        "  cell 'a-cell' stopped: TypeError: no",
    ]


def test_the_page_begins_with_what_changed():
    head, _, folded = listing.markdown(VISITS).partition("<details>")
    assert "5 claims: 1 still true, 2 changed, 1 not reached, 1 about another torch" in head
    assert head.splitlines()[-4:-1] == [
        "- 00 · Start here · A `heading`: **changed** `assert f( x ) == 1` "
        "(cell 'a-cell', line 3: `f( x ) is 2`)",
        "- 00 · Start here · Errors: **changed** ``` error ValueError: `x` has ``two`` ``` "
        "(cell 'a-cell', line 3: `the block raised nothing`)",
        "- 00 · Start here: cell 'a-cell' stopped: `TypeError: no`",
    ]
    assert folded.count("<details>") == 1 and folded.count("</details>") == 2
    assert "Nothing has changed." in listing.markdown(VISITS[1:])


# The command


@pytest.fixture
def visited(monkeypatch):
    """Have no kernel started; the chapters that would have run, each as given."""
    asked, results = [], dict.fromkeys((chapter.stem for chapter in CHAPTERS), [])

    def visit(path):
        asked.append(path.stem)
        return Visit(path.stem, results[path.stem], {})

    monkeypatch.setattr(running, "visit", visit)
    return SimpleNamespace(asked=asked, results=results)


def run_command(*arguments):
    from helpers.__main__ import main

    return main(["drift", *map(str, arguments)])


def test_the_command_runs_all_chapters_or_those_that_are_named(visited, capsys):
    assert run_command() == 0
    assert visited.asked == [chapter.stem for chapter in CHAPTERS]
    visited.asked.clear()
    assert run_command("02", "losses") == 0
    assert visited.asked == ["02_losses", "02_losses"]
    assert capsys.readouterr().out.endswith(
        "0 claims: 0 still true, 0 changed, 0 not reached, 0 about another torch\n"
    )


def test_the_command_ends_with_1_if_something_changed(visited, capsys, tmp_path):
    visited.results["01_module"] = [outcome("changed", "what came")]
    page = tmp_path / "page.md"
    assert run_command("--markdown", page) == 1
    assert "what came" in capsys.readouterr().out and "what came" in page.read_text("utf-8")
    visited.results["01_module"] = [outcome("not reached"), outcome("about another torch")]
    assert run_command() == 0


@pytest.mark.parametrize("page", ["missing/page.md", "."])
def test_a_page_that_cannot_be_written_is_refused_before_anything_runs(
    visited, tmp_path, capsys, page
):
    assert run_command("--markdown", tmp_path / page) == 1
    assert visited.asked == [] and "cannot write the report" in capsys.readouterr().err


def test_a_missing_package_is_named_with_the_command_that_installs_it(visited, capsys, monkeypatch):
    monkeypatch.setattr(drift, "NEEDED", ("nbformat", "a_package_that_is_not_there"))
    assert run_command() == 1
    error = capsys.readouterr().err
    assert "a_package_that_is_not_there is not installed" in error and "[lab]" in error
    assert "nbformat" not in error and visited.asked == []


def test_the_help_names_the_command():
    shown = subprocess.run(
        [sys.executable, "-m", "helpers", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert "drift" in shown.stdout
