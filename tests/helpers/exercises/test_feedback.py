"""A card says the same in a notebook and in a terminal, and shows text as text."""

import pytest

from helpers.exercises.feedback import Card


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("todo", "Not tried yet"),
        ("wrong", "Not yet"),
        ("right", "Right"),
        ("hint", "Hint"),
        ("solution", "A solution"),
        ("report", "Report"),
    ],
)
def test_the_state_is_said_in_words(state, words):
    card = Card(state, "A title", "Some text.")
    assert repr(card) == str(card)
    assert words in str(card) and words in card._repr_html_()
    assert "A title" in str(card) and "A title" in card._repr_html_()


def test_code_in_backticks_becomes_code_in_html():
    html = Card("right", "t", "Use `x < y` and `z`.")._repr_html_()
    assert "<code>x &lt; y</code>" in html and "<code>z</code>" in html


def test_nothing_an_answer_prints_becomes_markup():
    evil = "<script>alert(1)</script>"
    html = Card("wrong", evil, evil, rows=((evil, evil),), code=evil)._repr_html_()
    assert "<script>" not in html and html.count("&lt;script&gt;") == 5


def test_paragraphs_are_kept_apart_and_lines_joined():
    card = Card("hint", "t", "one\ntwo\n\nthree")
    assert "one two\nthree" in str(card)
    assert card._repr_html_().count("<p ") == 2


def test_emphasis_is_for_words_and_not_for_products():
    html = Card("right", "*Twice*", "It *adds* `a * b * c` and 2 * 3 * 4.")._repr_html_()
    assert "<em>adds</em>" in html and "<em>Twice</em>" in html
    assert "<code>a * b * c</code>" in html and "2 * 3 * 4" in html


def test_rows_stand_aligned_beside_their_labels():
    card = Card("wrong", "t", "text", rows=(("got", "1\n2"), ("expected", "3")))
    assert str(card).splitlines()[2:] == ["  got       1", "            2", "  expected  3"]


def test_code_is_indented():
    assert str(Card("solution", "t", "", code="a = 1\nb = 2")).endswith("\n    a = 1\n    b = 2")
