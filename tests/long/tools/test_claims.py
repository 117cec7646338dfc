"""Claims are read from a notebook's text: all of them, each at its place, and nothing else."""

import ast
import re
import textwrap

import nbformat
import pytest

from helpers import checkout
from tools import claims
from tests.notebooks.samples import code, markdown, notebook

ROOT = checkout.root()
EXPECTATIONS = ("expect_error", "show_traceback", "expect_warning")


def collected(*cells):
    return claims.claims_of(notebook(*cells), "00_sample")


def only(source):
    (claim,) = collected(code(source, "a-cell"))
    return claim


# What a claim says


def test_an_expected_error_tells_its_place_its_type_and_its_limits():
    source = 'x = 1\nwith expect_error(ValueError, match="no", since="2.12", until="3"):\n    f()'
    assert collected(markdown("## A *trap*", "text"), code(source, "trap")) == [
        claims.Claim(
            chapter="00_sample",
            section="A *trap*",
            cell="trap",
            kind="error",
            type_name="ValueError",
            match="no",
            since="2.12",
            until="3",
            source=source.partition("\n")[2],
            line=2,
        )
    ]


@pytest.mark.parametrize("function", EXPECTATIONS)
def test_each_expectation_is_a_claim_wherever_its_call_stands(function):
    call = f'{function}(kinds.Odd, match="odd")'
    block = f"with {call}:\n    f()"
    indented = textwrap.indent(block, "    ")
    sources = {
        block: block,
        f"with open(name), {call}:\n    f()": f"with open(name), {call}:\n    f()",
        f"def expected():\n    return {call}": f"return {call}",
        f"for _ in range(2):\n{indented}": block,
        f"if a:\n    pass\nelse:\n{indented.replace(function, f'expect.{function}')}": (
            block.replace(function, f"expect.{function}")
        ),
        f"try:\n    pass\nexcept E:\n{indented}": block,
        f"try:\n    pass\nfinally:\n{indented}": block,
        "match x:\n    case 1:\n" + textwrap.indent(block, 8 * " "): block,
        f"expected = {call}": f"expected = {call}",
        f"with {function}(match='odd', kind=kinds.Odd): f()": (
            f"with {function}(match='odd', kind=kinds.Odd): f()"
        ),
    }
    for statement, source in sources.items():
        claim = only(statement)
        assert (claim.type_name, claim.match) == ("kinds.Odd", "odd"), statement
        assert claim.kind == ("warning" if function == "expect_warning" else "error")
        assert claim.source == source


def test_a_match_that_the_notebook_computes_is_not_guessed():
    assert only('with expect_error(ValueError, match=f"{n} is odd"):\n    f()').match is None
    assert only("with expect_error(ValueError, match=message):\n    f()").match is None


@pytest.mark.parametrize(
    "statement", ["assert f(x) == 1", "torch.testing.assert_close(x, y)", "assert_equal(x, y)"]
)
def test_what_is_asserted_is_a_claim(statement):
    claim = only(f"x = f()\nfor x in xs:\n    {statement}")
    assert (claim.kind, claim.source, claim.line) == ("assertion", statement, 3)
    assert claim.type_name is claim.match is claim.since is claim.until is None


def test_claims_come_in_the_order_of_the_text():
    source = """\
assert a
with expect_warning(UserWarning, match="1"), expect_error(ValueError, match="2"):
    assert b
    with expect_error(TypeError, match="3"):
        f()
if c:
    assert c
else:
    assert d
"""
    found = collected(code(source, "first"), code("assert e", "second"))
    assert [claim.match or claim.source for claim in found] == [
        *("assert a", "1", "2", "assert b", "3", "assert c", "assert d", "assert e")
    ]
    assert [claim.line for claim in found] == [1, 2, 2, 3, 4, 7, 9, 1]
    one_line = "both = f(expect_error(E, match='1')), expect_error(E, match='2')"
    assert [claim.match for claim in collected(code(one_line, "c"))] == ["1", "2"]


def test_an_assertion_that_is_expected_to_fail_is_no_claim_of_its_own():
    source = """\
with expect_error(AssertionError, match="a"):
    assert x
    with expect_error(ValueError, match="v"):
        f()
"""
    (outer, nested) = collected(code(source, "c"))
    assert (outer.match, nested.match) == ("a", "v")


def test_magics_and_commands_are_no_obstacle():
    assert only('%load_ext tensorboard\n!ls "{folder}"\nassert x').line == 3


def test_a_cell_that_is_not_python_is_named():
    with pytest.raises(ValueError, match="cell 'broken' of chapter 00_sample is not Python"):
        collected(code("assert (", "broken"))


# Whose statements count, and under which heading


@pytest.mark.parametrize(
    "cell",
    [
        code("assert x", "setup"),
        code("assert x", "try", ["exercise:sample.double"]),
        markdown("```python\nassert x\n```", "text"),
        code("# assert x\nprint('with expect_error(ValueError): f()')", "quoted"),
    ],
    ids=lambda cell: cell.id,
)
def test_nothing_else_is_a_claim(cell):
    assert collected(cell) == []


def test_the_section_is_the_nearest_heading_above():
    sections = collected(
        code("assert 0", "c-0"),
        markdown("# Title\n\nText\n\n## Section", "m-1"),
        code("assert 1", "c-1"),
        markdown("### Below `it`  \nText, and\n```\n# a comment\n```", "m-2"),
        markdown("Text without a heading, #1", "m-3"),
        code("assert 2", "c-2"),
        markdown("### An exercise", "m-4", ["prompt:sample.double"]),
        code("assert 3", "c-3"),
    )
    assert [claim.section for claim in sections] == ["", "Section", "Below `it`", "Below `it`"]


# The chapters


def test_every_expectation_in_the_text_of_the_chapters_is_collected():
    found = claims.claims(ROOT)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if not claims.claims_something(cell):
                continue
            own = [c for c in found if (c.chapter, c.cell) == (path.stem, cell.id)]
            written = re.findall(rf"\b(?:{'|'.join(EXPECTATIONS)})\(", cell.source)
            asserted = re.findall(r"^ *(?:assert\b|(?:\w+\.)*assert_\w+\()", cell.source, re.M)
            kinds = [claim.kind == "assertion" for claim in own]
            assert (kinds.count(False), kinds.count(True)) == (len(written), len(asserted)), cell.id


def test_every_claim_of_the_chapters_stands_below_a_heading_and_is_a_statement():
    for claim in claims.claims(ROOT):
        assert claim.section, claim
        assert len(ast.parse(claim.source).body) == 1, claim


def test_what_the_chapters_expect_has_a_type_and_nearly_always_words_to_look_for():
    expected = [claim for claim in claims.claims(ROOT) if claim.kind != "assertion"]
    assert all(claim.type_name for claim in expected)
    assert sum(claim.match is None for claim in expected) < len(expected) / 20
