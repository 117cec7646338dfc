import contextlib
import importlib.metadata
import io
import sys
import traceback
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from helpers import expect
from helpers.expect import ExpectationError, expect_error, expect_warning, show_traceback

ERROR_EXPECTATIONS = pytest.mark.parametrize("expectation", [expect_error, show_traceback])
MESSAGES = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Z"]) | st.sampled_from(" \n"))


def printed_by(expectation, kind, match, block):
    """What is printed; unlike ``capsys`` it can be used for each of hypothesis' examples."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), expectation(kind, match=match):
        block()
    return stream.getvalue()


def raising(error):
    def block():
        raise error

    return block


def warning(one):
    return lambda: warn(one, None)


def warn(message, category=UserWarning):
    warnings.warn(message, category, stacklevel=2)


def without_space(text):
    return "".join(text.split())


def warning_settings():
    return list(warnings.filters), warnings.showwarning, torch.is_warn_always_enabled()


# Errors


@ERROR_EXPECTATIONS
def test_the_expected_error_is_shown_and_the_cell_goes_on(capsys, expectation):
    with expectation(RuntimeError, match="same dtype"):
        torch.ones(2) @ torch.ones(2, dtype=torch.float64)
    shown = capsys.readouterr().out
    assert "RuntimeError: " in shown and "same dtype" in shown


@ERROR_EXPECTATIONS
def test_a_subclass_of_the_expected_error_will_do(capsys, expectation):
    with expectation(LookupError, match="missing"):
        {}["missing"]
    assert "KeyError: 'missing'" in capsys.readouterr().out


@given(before=MESSAGES, match=MESSAGES, after=MESSAGES, padding=st.integers(0, 400))
def test_the_short_form_holds_the_match_and_stays_short(before, match, after, padding):
    assume(match.strip())
    message = before + "x" * padding + match + "y" * padding + after
    shown = printed_by(expect_error, ValueError, match, raising(ValueError(message)))
    assert shown.startswith("ValueError:")
    assert without_space(match) in without_space(shown)
    assert all(len(line) <= expect.WIDTH for line in shown.splitlines())
    longest = max(expect.LONGEST, len(match)) + len("ValueError:……")
    assert len(without_space(shown)) <= longest


def test_the_short_form_ends_with_the_line_that_matches():
    message = "first\nsecond match here\nthird"
    shown = printed_by(expect_error, ValueError, "match", raising(ValueError(message)))
    assert shown == "ValueError: first second match here\n"


def test_the_short_form_marks_what_it_leaves_out_of_a_long_line():
    message = "a" * 400 + " match " + "b" * 400
    shown = printed_by(expect_error, ValueError, "match", raising(ValueError(message)))
    assert shown.startswith("ValueError: …a") and shown.endswith("b…\n")


@ERROR_EXPECTATIONS
def test_a_block_that_raises_nothing_fails(expectation):
    with (
        pytest.raises(ExpectationError, match="RuntimeError with 'same'.*raised nothing") as caught,
        expectation(RuntimeError, match="same"),
    ):
        pass
    assert importlib.metadata.version("torch") in str(caught.value)


@ERROR_EXPECTATIONS
@pytest.mark.parametrize("came", [TypeError("same"), RuntimeError("another"), RuntimeError("SAME")])
def test_another_error_fails_and_is_named_and_chained(expectation, came):
    with pytest.raises(ExpectationError) as caught, expectation(RuntimeError, match="same"):
        raise came
    assert caught.value.__cause__ is came
    assert "RuntimeError with 'same'" in str(caught.value)
    assert f"{type(came).__name__}: {came}" in str(caught.value)


@ERROR_EXPECTATIONS
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes_through_unless_it_is_expected(expectation, interrupt):
    with pytest.raises(interrupt), expectation(Exception, match="stop"):
        raise interrupt("stop")
    with expectation(interrupt, match="stop"):
        raise interrupt("stop")


@pytest.mark.parametrize("expectation", [expect_error, show_traceback, expect_warning])
@pytest.mark.parametrize("match", ["", " ", "\n"])
def test_an_empty_match_is_refused(expectation, match):
    with pytest.raises(ValueError, match="match is empty"), expectation(UserWarning, match=match):
        pass


def test_a_shown_traceback_is_pythons_own_from_the_block_on():
    def block():
        torch.nn.Linear(2, 2).load_state_dict({})

    shown = printed_by(show_traceback, RuntimeError, "Missing key", block)
    with pytest.raises(RuntimeError) as caught:
        block()
    own = traceback.format_exception(caught.value)
    heading, *frames = shown.splitlines(keepends=True)
    assert heading == own[0]
    assert "in printed_by" in frames[0]  # the frame that holds the block is the first
    assert shown.endswith("".join(own[2:]))
    assert "expect.py" not in shown.replace("test_expect.py", "")
    assert "contextlib" not in shown


# Warnings


def test_the_expected_warning_is_shown_once_and_nothing_else_is_emitted():
    def block():
        for _ in range(3):
            torch.nn.functional.mse_loss(torch.ones(2, 1), torch.ones(2))

    shown = printed_by(expect_warning, UserWarning, "target size", block)
    assert shown.startswith("UserWarning: Using a target size")
    assert shown.count("UserWarning") == 1


def warn_as_python_does_once():
    warn("once only")


def warn_as_torch_does_once():
    frozen = np.zeros(1)
    frozen.flags.writeable = False
    torch.from_numpy(frozen)


@pytest.mark.parametrize(
    "block, match",
    [(warn_as_python_does_once, "once only"), (warn_as_torch_does_once, "not writable")],
)
def test_a_warning_that_is_given_once_is_seen_on_every_run(block, match):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        shown = [printed_by(expect_warning, UserWarning, match, block) for _ in range(2)]
    assert shown[0] == shown[1]
    assert match in shown[0]


@pytest.mark.parametrize(
    "other", [("another", UserWarning), ("MATCH", UserWarning), ("match", FutureWarning)]
)
def test_a_warning_that_does_not_match_is_emitted_as_if_nothing_were_expected(other):
    with pytest.warns() as emitted, expect_warning(UserWarning, match="match"):
        warn("a match")
        warn(*other)
    (only,) = emitted
    assert (str(only.message), only.category, only.filename) == (*other, __file__)


@pytest.mark.parametrize("other", ["another", "MATCH"])
def test_a_warning_that_does_not_match_obeys_the_filters_of_the_reader(other):
    with pytest.raises(UserWarning, match=other), expect_warning(UserWarning, match="match"):
        warn(other)  # the filters of this test run make it an error


@pytest.mark.parametrize("emitted", [[], [("match", DeprecationWarning)]])
def test_a_block_without_the_expected_warning_fails(emitted):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with (
            pytest.raises(ExpectationError, match="UserWarning with 'match'"),
            expect_warning(UserWarning, match="match"),
        ):
            for message, category in emitted:
                warn(message, category)


@pytest.fixture(params=[False, True])
def torch_warns_always(request):
    original = torch.is_warn_always_enabled()
    torch.set_warn_always(request.param)
    yield
    torch.set_warn_always(original)


@pytest.mark.usefixtures("torch_warns_always")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, None])
def test_everything_about_warnings_is_as_before_after_the_block(error):
    before = warning_settings()
    with (
        pytest.raises(error) if error else contextlib.nullcontext(),
        expect_warning(UserWarning, match="match"),
    ):
        warn("match")
        if error:
            raise error
    assert warning_settings() == before


def test_warnings_can_be_expected_without_torch(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "torch")
    with expect_warning(UserWarning, match="match"):
        warn("match")
    assert "match" in capsys.readouterr().out


# Results of training


def test_a_result_is_said_to_be_as_expected_or_not_here(capsys):
    expect.as_expected(True, "the loss falls")
    expect.as_expected(False, "the loss rises")
    expected = "as expected: the loss falls\nnot here: the loss rises\n"
    assert capsys.readouterr().out == expected


def test_the_results_of_the_chapters_own_numbers_are_strict(monkeypatch):
    monkeypatch.setenv("TUTORIAL_STRICT", "1")
    expect.as_expected(True, "the loss falls")
    with pytest.raises(ExpectationError, match="the loss rises"):
        expect.as_expected(False, "the loss rises")


# Versions


@pytest.mark.parametrize(
    "since, holds",
    [("2", True), ("2.13", True), ("2.13.1", True)]
    + [("3", False), ("2.14", False), ("2.13.2", False)],
)
def test_a_limit_stands_for_all_versions_that_begin_like_it(monkeypatch, since, holds):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.1+cpu")
    outcome = pytest.raises(ExpectationError) if holds else contextlib.nullcontext()
    with outcome, expect_error(ValueError, match="match", since=since):
        pass


@pytest.mark.parametrize(
    ("expectation", "kind", "give", "other"),
    [
        (expect_error, ValueError, raising, TypeError("match")),
        (show_traceback, ValueError, raising, TypeError("match")),
        (expect_warning, UserWarning, warning, FutureWarning("match")),
    ],
)
def test_before_its_version_what_is_expected_may_come_or_not(
    capsys, expectation, kind, give, other
):
    subclass = type("Subclass", (kind,), {})
    for block in (give(kind("any")), give(subclass("any")), lambda: None):
        with expectation(kind, match="match", since="99.1"):
            block()
        (line,) = capsys.readouterr().out.splitlines()
        assert "since 99.1" in line
    with pytest.raises(type(other)), expectation(kind, match="match", since="99.1"):
        give(other)()


def test_a_version_that_is_none_is_refused():
    with (
        pytest.raises(ValueError, match="version 'new'"),
        expect_error(ValueError, match="match", since="new"),
    ):
        raise ValueError("match")


def test_warnings_are_shown_as_before_where_catch_warnings_does_not_see_to_it(monkeypatch, capsys):
    """As in Pythons whose warnings depend on the context."""
    monkeypatch.setattr(warnings, "filters", [*warnings.filters])
    monkeypatch.setattr(warnings, "catch_warnings", contextlib.nullcontext)
    before = warnings.showwarning
    with expect_warning(UserWarning, match="odd"):
        warnings.warn("odd", UserWarning, stacklevel=1)
    assert warnings.showwarning is before
