"""An answer that is run leaves nothing behind, and whatever it does is reported."""

import os
import random
import signal
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch

from helpers.exercises.sandbox import TookTooLong, run, undisturbed


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_what_is_returned_printed_and_warned_is_reported():
    def answer():
        print("hello")
        warnings.warn("careful", UserWarning, stacklevel=1)
        return 42

    outcome = run(answer, seed=0, seconds=5)
    assert (outcome.value, outcome.error, outcome.printed) == (42, None, "hello\n")
    assert outcome.warned == ("UserWarning: careful",)


def test_nothing_is_printed_on_the_way(capsys):
    run(lambda: print("hello"), seed=0, seconds=5)
    assert capsys.readouterr().out == ""


def test_only_the_first_characters_of_a_flood_are_kept():
    outcome = run(lambda: [print("x" * 999) for _ in range(1000)], seed=0, seconds=5)
    assert outcome.printed.startswith("x" * 999) and len(outcome.printed) <= 2000


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), GeneratorExit(), MemoryError()])
def test_every_exception_becomes_part_of_the_outcome(error):
    def answer():
        raise error

    outcome = run(answer, seed=0, seconds=5)
    assert outcome.error is error and outcome.value is None


def test_an_interrupt_passes_through():
    def answer():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(answer, seed=0, seconds=5)


def test_the_same_seed_draws_the_same_numbers():
    first, again, other = (run(draw, seed=seed, seconds=5).value for seed in (1, 1, 2))
    assert first == again != other


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


def test_an_answer_in_time_is_not_stopped_and_nothing_is_raised_later(limited):
    assert limited(lambda: 7, 0.05).value == 7
    time.sleep(0.4)


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


def test_the_readers_random_state_and_settings_come_back():
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    wanted = draw()
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    with undisturbed():
        run(draw, seed=9, seconds=5)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
    assert draw() == wanted
    assert torch.is_grad_enabled() and torch.get_default_dtype() is torch.float32


def test_they_come_back_after_an_error_too():
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    with pytest.raises(ValueError, match="on purpose"), undisturbed():
        torch.rand(5)
        raise ValueError("on purpose")
    assert torch.equal(torch.rand(1), wanted)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_on_inside_and_as_before_outside(mode):
    with mode():
        with undisturbed():
            assert torch.ones(1, requires_grad=True).exp().requires_grad
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)


def test_the_default_dtype_is_float32_inside_and_as_before_outside():
    torch.set_default_dtype(torch.float64)
    try:
        with undisturbed():
            assert torch.ones(1).dtype is torch.float32
        assert torch.ones(1).dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def modes():
    return {
        "folder": os.getcwd(),
        "threads": torch.get_num_threads(),
        "device": torch.get_default_device(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
        "empty": torch.empty,
        "filters": list(warnings.filters),
    }


def test_what_an_answer_switches_is_switched_back(tmp_path):
    before = modes()
    with undisturbed():
        os.chdir(tmp_path)
        torch.set_num_threads(before["threads"] + 1)
        torch.set_default_device("meta")
        torch.use_deterministic_algorithms(True)
        torch.autograd.set_detect_anomaly(True)
        warnings.simplefilter("ignore")
        switched = modes()
    assert not any(before[name] == switched[name] for name in before)
    assert modes() == before


def test_what_nobody_has_switched_is_not_set_again(monkeypatch):
    """Setting it imports torch's compiler, which takes seconds."""
    calls = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *_, **__: calls.append(1))
    with undisturbed():
        pass
    assert not calls


def test_the_standard_output_is_the_same_afterwards():
    before = sys.stdout
    run(lambda: print("x"), seed=0, seconds=5)
    assert sys.stdout is before
