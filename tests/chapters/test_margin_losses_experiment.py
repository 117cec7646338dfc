"""The full-size experiment of chapter 08: it repeats, pairs its seeds, and holds classes back."""

import pytest
import torch

from chapters.margin_losses import experiment
from helpers import data, margins

HEADS = experiment.heads()


def test_it_repeats_and_seeds_differ():
    once = experiment.geometry(HEADS["ArcFace"], seeds=[0, 1], epochs=1)
    again = experiment.geometry(HEADS["ArcFace"], seeds=[0], epochs=1)
    assert once.shape == (2, len(experiment.GEOMETRY))
    assert torch.equal(once[:1], again) and not torch.equal(once[0], once[1])


def test_unknown_digits_are_never_trained_on(monkeypatch):
    seen = []
    monkeypatch.setattr(experiment, "train", lambda encoder, head, x, y, epochs: seen.append(x))
    experiment.verification(HEADS["softmax"], seeds=[3])
    digits = data.digits()
    rows = torch.isin(digits.y_train, experiment.known_digits(3))
    assert len(seen) == 1 and torch.equal(seen[0].cpu(), digits.x_train[rows])


def test_the_pixels_are_compared_as_they_are():
    digits = data.digits()
    rows = torch.isin(digits.y_test, experiment.known_digits(0))
    expected = [
        100 * margins.equal_error_rate(*margins.pair_scores(digits.x_test[part].flatten(1), y))
        for part, y in ((rows, digits.y_test[rows]), (~rows, digits.y_test[~rows]))
    ]
    found = experiment.verification(None, seeds=[0])
    assert found[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("encoder", [experiment.mlp, experiment.cnn])
def test_training_beats_the_pixels_on_known_digits(encoder):
    trained = experiment.verification(HEADS["softmax"], [0], encoder, epochs=4)
    assert trained[0, 0] < experiment.verification(None, [0])[0, 0] - 3


@pytest.mark.parametrize("warmup", [0, 5])
def test_the_margin_is_whole_at_the_end(warmup):
    digits = data.digits()
    head = HEADS["CosFace"](3, 10)
    experiment.train(experiment.mlp(3), head, digits.x_train[:256], digits.y_train[:256], 3, warmup)
    assert head.margin == 0.35


def test_a_rising_scale_is_whole_at_the_end_and_was_small_at_first():
    digits, seen = data.digits(), []
    head = HEADS["cosine"](3, 10)
    head.register_forward_hook(lambda head, given, logits: seen.append(head.scale))
    x, y = digits.x_train[:256], digits.y_train[:256]
    experiment.train(experiment.mlp(3), head, x, y, 5, scale_rises=True)
    assert seen[0] == 1.0 and head.scale == 20.0
    assert seen == sorted(seen)


def test_the_table_pairs_the_seeds():
    results = {
        "base": torch.tensor([[1.0], [3.0]]),
        "other": torch.tensor([[2.0], [4.0]]),  # always one more: no spread in the difference
    }
    *_, last = experiment.table(results, ("rate",), "base")
    assert "3.0 ± 1.4 (+1.0 ± 0.0)" in last


def test_one_seed_is_refused(capsys):
    with pytest.raises(SystemExit):
        experiment.main(["--seeds", "1"])
    assert "a spread needs two runs" in capsys.readouterr().err
