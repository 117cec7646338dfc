"""An answer that is run leaves nothing behind, and whatever it does is reported."""

import os
import random
import signal
import threading
import time
import warnings

import numpy as np
import pytest
import torch

from helpers.exercises.sandbox import TookTooLong, run, undisturbed


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_what_is_returned_printed_and_warned_is_reported_and_nothing_is_shown(capsys):
    def answer():
        print("hello")
        warnings.warn("careful", UserWarning, stacklevel=1)
        return 42

    outcome = run(answer, seed=0, seconds=5)
    assert (outcome.value, outcome.error, outcome.printed) == (42, None, "hello\n")
    assert outcome.warned == ("UserWarning: careful",)
    print("afterwards")
    assert capsys.readouterr().out == "afterwards\n"


def test_only_the_first_characters_of_a_flood_are_kept():
    outcome = run(lambda: [print("x" * 999) for _ in range(1000)], seed=0, seconds=5)
    assert outcome.printed.startswith("x" * 999) and len(outcome.printed) <= 2000


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), GeneratorExit(), MemoryError()])
def test_every_exception_becomes_part_of_the_outcome(error):
    def answer():
        raise error

    outcome = run(answer, seed=0, seconds=5)
    assert outcome.error is error and outcome.value is None


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="the platform has no alarm signal")
def test_the_signal_interrupts_a_sleep_too():
    start = time.monotonic()
    outcome = run(lambda: time.sleep(30), seed=0, seconds=0.1)
    assert isinstance(outcome.error, TookTooLong) and time.monotonic() - start < 20


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="the platform has no alarm signal")
def test_the_alarm_of_the_program_around_it_comes_back():
    def before(signum, frame):
        pass

    previous = signal.signal(signal.SIGALRM, before)
    try:
        run(lambda: None, seed=0, seconds=0.05)
        assert signal.getsignal(signal.SIGALRM) is before
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture(params=["signal", "no signal", "another thread"])
def limited(request, monkeypatch):
    """Runs an answer under the time limit, as each platform and thread has it."""
    if request.param == "signal" and not hasattr(signal, "SIGALRM"):
        pytest.skip("the platform has no alarm signal")
    if request.param == "no signal":
        monkeypatch.delattr(signal, "SIGALRM", raising=False)

    def outcome(answer, seconds):
        if request.param != "another thread":
            return run(answer, seed=0, seconds=seconds)
        outcomes = []
        thread = threading.Thread(
            target=lambda: outcomes.append(run(answer, seed=0, seconds=seconds))
        )
        thread.start()
        thread.join()
        return outcomes[0]

    return outcome


def forever():
    while True:
        time.sleep(0.001)


def test_an_endless_answer_is_stopped_on_every_platform_and_in_every_thread(limited):
    outcome = limited(forever, 0.1)
    assert isinstance(outcome.error, TookTooLong) and str(outcome.error) == "0.1 s"


def test_an_answer_that_catches_the_first_stop_is_stopped_again(limited):
    def stubborn():
        try:
            forever()
        except BaseException:
            forever()

    assert isinstance(limited(stubborn, 0.1).error, TookTooLong)


def test_answers_that_end_at_their_limit_leave_no_alarm_behind(limited):
    """The stop may come at any instruction, the last ones of the run included."""

    def answer():
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass

    for _ in range(150):
        outcome = limited(answer, 0.002)
        assert outcome.error is None or isinstance(outcome.error, TookTooLong)
    time.sleep(0.4)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_on_inside_and_as_before_outside(mode):
    with mode():
        with undisturbed():
            assert torch.ones(1, requires_grad=True).exp().requires_grad
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)


def modes():
    return {
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "folder": os.getcwd(),
        "threads": torch.get_num_threads(),
        "device": torch.get_default_device(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
        "empty": torch.empty,
        "filters": list(warnings.filters),
    }


def test_what_an_answer_switches_and_draws_comes_back_even_after_an_error(tmp_path):
    run(draw, seed=3, seconds=5)
    wanted = draw()
    run(draw, seed=3, seconds=5)
    torch.set_default_dtype(torch.float64)
    try:
        before = modes()
        with pytest.raises(ValueError, match="on purpose"), undisturbed():
            assert torch.get_default_dtype() is torch.float32
            torch.set_grad_enabled(False)
            os.chdir(tmp_path)
            torch.set_num_threads(before["threads"] + 1)
            torch.set_default_device("meta")
            torch.use_deterministic_algorithms(True)
            torch.autograd.set_detect_anomaly(True)
            warnings.simplefilter("ignore")
            switched = modes()
            torch.set_default_device("cpu")
            run(draw, seed=9, seconds=5)
            raise ValueError("on purpose")
        assert not any(before[name] == switched[name] for name in before)
        assert modes() == before
    finally:
        torch.set_default_dtype(torch.float32)
    assert draw() == wanted


def test_what_nobody_has_switched_is_not_set_again(monkeypatch):
    """Setting it imports torch's compiler, which takes seconds."""
    calls = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *_, **__: calls.append(1))
    with undisturbed():
        pass
    assert not calls
