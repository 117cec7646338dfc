"""The experiment compares like with like, and its command tells what it found."""

from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import pytest
import torch
from torch.nn import functional as F

from chapters.augmentation import experiment

TINY = experiment.Size(train=20, steps=2, width=2)
SMALL = ("--train", "20", "--steps", "3", "--width", "2")


def method(name):
    make, strengths = experiment.METHODS[name]
    return make(strengths[-1])


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(12, 1, experiment.SIDE, experiment.SIDE, generator=generator)
    labels = torch.randint(10, (12,), generator=generator)
    return images, F.one_hot(labels, 10).float()


@pytest.mark.parametrize("name", experiment.METHODS)
def test_a_method_gives_a_loss_to_learn_from(name, batch):
    model = experiment.network(2, seed=0)
    before = [tensor.clone() for tensor in batch]
    loss = method(name)(model, *batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.shape == () and loss.isfinite()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())
    torch.testing.assert_close(list(batch), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", experiment.METHODS)
def test_a_run_repeats_and_leaves_the_global_generator_alone(name):
    state = torch.get_rng_state()
    first, again, other = (
        experiment.train(method(name), seed, TINY).state_dict() for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first["0.weight"], other["0.weight"])


def test_runs_of_a_seed_differ_in_the_method_only():
    seen = []

    def looks(model, images, targets, generator):
        seen.append((images, targets, model[0].weight.detach().clone()))
        return model(images).sum()

    def draws_and_looks(model, images, targets, generator):
        torch.rand(5, generator=generator)
        return looks(model, images, targets, generator)

    for trains in (looks, draws_and_looks):
        experiment.train(trains, 3, TINY)
    torch.testing.assert_close(seen[: TINY.steps], seen[TINY.steps :], rtol=0, atol=0)


def test_the_batches_and_the_draws_of_a_method_are_streams_of_their_own():
    batches, draws, _ = experiment._streams(5)
    assert not torch.equal(torch.rand(9, generator=batches), torch.rand(9, generator=draws))


def test_every_method_has_the_same_budget():
    assert {len(set(experiment.settings(name))) for name in experiment.METHODS} == {6}


def test_the_setting_with_the_most_right_validation_digits_is_chosen(monkeypatch):
    rates = {0.1: 60.0, 0.2: 80.0, 0.3: 70.0}
    monkeypatch.setattr(experiment, "train", lambda method, seed, size, rate: rates[rate] + seed)
    monkeypatch.setattr(experiment, "accuracy", lambda model, x, labels: model)
    among = [experiment.Setting(0.0, rate) for rate in rates]
    assert experiment.choose("none", TINY, among, seeds=(0, 2)) == (among[1], 81.0)


def test_a_shift_moves_each_image_by_at_most_so_many_pixels():
    images = torch.zeros(200, 1, experiment.SIDE, experiment.SIDE)
    images[:, :, 8, 8] = 1.0
    moved = experiment.shifted(images, torch.Generator().manual_seed(0), pixels=2)
    assert (moved.flatten(1).sum(dim=1) == 1).all()
    places = moved.squeeze(1).nonzero()[:, 1:] - 8
    assert len(places.unique(dim=0)) == 25 and places.abs().max() == 2


def test_the_test_images_are_always_the_same_and_each_test_changes_them():
    first, labels = experiment.test_images()
    again, _ = experiment.test_images()
    assert list(first) == list(experiment.TESTS)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    for name, images in first.items():
        assert images.shape == (len(labels), 1, experiment.SIDE, experiment.SIDE)
        assert (name == "clean") == torch.equal(images, first["clean"])
        assert images.min() >= -1e-6 and images.max() <= 1 + 1e-6


@pytest.mark.parametrize(("confidence", "accuracy"), [(0.8, 0.8), (0.9, 0.5), (0.6, 1.0)])
def test_calibration_error_is_the_gap_between_confidence_and_accuracy(confidence, accuracy):
    probabilities = torch.tensor([confidence, 1 - confidence]).repeat(10, 1)
    labels = (torch.arange(10) >= 10 * accuracy).long()
    error = experiment.calibration_error(probabilities, labels)
    assert error.item() == pytest.approx(abs(confidence - accuracy), abs=1e-6)


def test_calibration_error_does_not_let_bins_cancel():
    probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4]])
    labels = torch.tensor([1, 0])  # sure and wrong, unsure and right
    error = experiment.calibration_error(probabilities, labels)
    assert error.item() == pytest.approx((0.9 + 0.4) / 2, abs=1e-6)


def results_of(gain, seeds=4, spread=0.0):
    columns = len(experiment.COLUMNS)
    base = 50 + torch.arange(float(seeds))[:, None].expand(seeds, columns)
    noise = spread * torch.tensor([-1.0, 1.0] * (seeds // 2))[:, None]
    return {"none": base, "other": base + gain + noise}


def test_gains_are_paired_and_a_falling_calibration_error_is_one():
    gains = experiment.gains(results_of(gain=2.0))
    assert list(gains) == ["other"]
    expected = torch.full((4, len(experiment.COLUMNS)), 2.0)
    expected[:, experiment.COLUMNS.index("calibration")] = -2.0
    torch.testing.assert_close(gains["other"], expected)


@pytest.mark.parametrize(("spread", "clear"), [(0.1, True), (10.0, False)])
def test_an_effect_stands_out_beyond_the_spread(spread, clear):
    gains = experiment.gains(results_of(gain=2.0, spread=spread))
    assert (experiment.stands_out(gains["other"]) == clear).all()


def test_the_figure_and_the_table_tell_what_stands_out():
    results = results_of(gain=2.0, spread=0.1)
    figure = experiment.draw(results)
    (axes,) = figure.axes
    title = axes.get_title(loc="left") or axes.get_title()
    assert title == "Gain over no augmentation, 4 seeds"
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["+2.0\n±0.1"] * 6 + ["-2.0\n±0.1"]
    plt.close(figure)
    assert experiment.table(results).count("+2.0 ±0.1*") == 6


def test_the_command_writes_the_results_that_the_chapter_shows(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "METHODS", {"none": (experiment.none, (0.0,))})
    monkeypatch.setattr(experiment, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    experiment.main(["--seeds", "2", *SMALL, "--out", str(tmp_path / "results.json")])
    printed = capsys.readouterr().out
    said, results = experiment.shipped(tmp_path / "results.json")
    row = said["methods"]["none"]
    assert row["torch"] in torch.__version__ and "--seeds 2" in said["command"]
    assert len(row["too sure"]) == 2
    assert results["none"].shape == (2, len(experiment.COLUMNS))
    assert experiment.table(results) in printed


def test_too_sure_is_confidence_less_accuracy(batch):
    images, targets = batch
    model = experiment.network(2, seed=0).eval()
    probabilities = model(images).softmax(dim=1)
    labels = (probabilities.argmax(dim=1) + 1) % 10  # all wrong
    found = experiment.too_sure(model, images, labels)
    assert found == pytest.approx(100 * probabilities.amax(dim=1).mean().item(), rel=1e-4)


def test_dropout_drops_features_in_training_only(batch):
    images, targets = batch
    model = experiment.network(2, seed=0)
    plain = experiment.none()(model, images, targets, torch.Generator())
    some = [experiment.dropout(p)(model, images, targets, torch.Generator()) for p in (0.0, 0.5)]
    torch.testing.assert_close(some[0], plain)
    assert not torch.isclose(some[1], plain)
    assert [*model.state_dict()] == [*experiment.network(2, seed=0).state_dict()]


def test_augmix_and_its_loss_choose_among_the_same_severities():
    (_, plain), (_, loss) = experiment.METHODS["AugMix"], experiment.METHODS["AugMix + JSD"]
    assert plain == loss


def test_what_is_shipped_comes_from_the_whole_protocol():
    said, results = experiment.shipped()
    assert said["size"] == vars(experiment.FULL) and said["columns"] == [*experiment.COLUMNS]
    assert [*said["methods"]] == [*experiment.METHODS]
    for name, part in said["methods"].items():
        chosen = experiment.Setting(part["strength"], part["rate"])
        assert chosen in experiment.settings(name)
    assert {scores.shape for scores in results.values()} == {(10, len(experiment.COLUMNS))}


def test_the_command_asks_for_a_spread(capsys):
    with pytest.raises(SystemExit):
        experiment.main(["--seeds", "1"])
    assert "a spread needs at least 2" in capsys.readouterr().err
