"""The experiment of chapter 08 compares like with like, and its command tells what it found."""

import pytest
import torch
from torch.nn import functional as F

from chapters.margin_losses import experiment
from helpers import data, margins

TINY = experiment.Size(steps=3, width=4)
HEADS = [*experiment.SETTINGS]
COLUMNS = experiment.columns("10 characters")


def runs(name, task="7 digits", seeds=(0,)):
    setting = experiment.SETTINGS[name][0]
    return [experiment.Run(setting, experiment.TASKS[task](seed), seed) for seed in seeds]


@pytest.mark.parametrize("name", HEADS)
def test_a_training_repeats_and_leaves_the_global_generator_alone(name):
    state = torch.get_rng_state()
    first, again, other = (
        experiment.train(name, runs(name, seeds=[seed]), TINY).parts["weight1"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", HEADS)
def test_a_run_in_a_stack_is_the_run_alone(name):
    both = experiment.train(name, runs(name, seeds=[0, 1]), TINY)
    for place, seed in enumerate((0, 1)):
        alone = experiment.train(name, runs(name, seeds=[seed]), TINY)
        for part in alone.parts.keys() - {"bias1", "bias4"}:  # BatchNorm takes these off again
            value = alone.parts[part]
            torch.testing.assert_close(both.parts[part][place], value[0], rtol=1e-3, atol=1e-4)


def test_a_stack_gives_what_its_encoders_give():
    models = [experiment.encoder(8, 64) for _ in range(3)]
    stack, x = experiment.Encoders(models), torch.randn(3, 20, 1, 8, 8)
    for _ in range(2):
        expected = torch.stack([model(own) for model, own in zip(models, x, strict=True)])
        torch.testing.assert_close(stack(x), expected)
    for model in models:
        model.eval()
    expected = torch.stack([model(own) for model, own in zip(models, x, strict=True)])
    torch.testing.assert_close(stack.eval()(x), expected)


@pytest.mark.parametrize("name", ["cosine", "CosFace", "ArcFace", "CosFace, rising"])
def test_logits_are_those_of_the_course_heads(name):
    kind = margins.CosineHead if name == "cosine" else getattr(margins, name.partition(",")[0])
    margin = 0.0 if name == "cosine" else 0.3
    head = kind(5, 4, scale=7.0, margin=margin)
    x, labels = torch.randn(9, 5), torch.arange(9) % 4
    given = {key: value[None] for key, value in head.named_parameters()}
    scale = torch.full((1, 1, 1), 7.0)
    found = experiment.logits(name, x[None], labels[None], given, scale, margin)
    torch.testing.assert_close(found[0], head(x, labels))


def test_the_contrastive_loss_is_that_of_pytorch_metric_learning():
    from pytorch_metric_learning import losses

    x, labels = torch.randn(2, 12, 6), torch.arange(12).repeat(2, 1) % 5
    found = experiment.contrastive(x, labels, 4.0)
    for loss, own, classes in zip(found, x, labels, strict=True):
        expected = losses.SupConLoss(temperature=0.25)(own, classes)
        torch.testing.assert_close(loss, expected)


def test_a_rising_scale_and_a_margin_are_whole_at_the_end(monkeypatch):
    seen = []
    logits = experiment.logits

    def looks(name, x, labels, head, scale, margin):
        seen.append((scale.item(), margin))
        return logits(name, x, labels, head, scale, margin)

    monkeypatch.setattr(experiment, "logits", looks)
    size = experiment.Size(steps=20, width=4)
    for name in ("cosine, rising", "ArcFace, rising"):
        seen.clear()
        full = experiment.SETTINGS[name][0].scale
        experiment.train(name, runs(name), size)
        scales = [scale for scale, _ in seen]
        assert scales[0] == 1.0 and scales == sorted(scales) and scales[-1] == pytest.approx(full)
    for name in ("ArcFace", "ArcFace, rising"):
        seen.clear()
        experiment.train(name, runs(name), size)
        assert [margin for _, margin in seen][::4] == pytest.approx([0.0, 0.1, 0.1, 0.1, 0.1])


def test_every_head_has_the_same_budget():
    assert {len(set(settings)) for settings in experiment.SETTINGS.values()} == {18}
    for settings in experiment.SETTINGS.values():
        for rate in experiment.RATES:
            assert sum(setting.rate == rate for setting in settings) == 9


def test_a_margin_head_differs_from_its_rival_in_the_margin_alone():
    for name in filter(experiment.has_margin, HEADS):
        rival = experiment.rival(name)
        assert rival.endswith("rising") == name.endswith("rising")
        one = [experiment.Run(experiment.Setting(5.0), experiment.digits_task(0), 0)]
        with_margin, without = (experiment.train(head, one, TINY) for head in (name, rival))
        for part in without.parts.keys() - {"bias1", "bias4"}:  # BatchNorm takes these off again
            value = without.parts[part]
            torch.testing.assert_close(with_margin.parts[part], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 3])
def test_unknown_digits_are_never_trained_on_or_chosen_by(seed):
    digits, task = data.digits(held_out=0.5), experiment.digits_task(seed)
    known = experiment.known_digits(seed)
    assert len(known) == experiment.KNOWN
    assert torch.isin(task.validation[1], known).all()
    assert torch.isin(task.tests["known"][1], known).all()
    assert not torch.isin(task.tests["unknown"][1], known).any()
    x, y = task.batch(torch.Generator().manual_seed(0))
    rows = digits.x_train[torch.isin(digits.y_train, known)]
    assert all((rows == image).flatten(1).all(dim=1).any() for image in x)
    assert y.max() < experiment.KNOWN


def test_characters_are_chosen_by_trained_on_and_tested_on_apart(monkeypatch):
    shapes = torch.arange(354.0)[:, None, None, None].expand(-1, 16, 24, 24)
    monkeypatch.setattr(experiment, "glyphs", lambda: shapes)
    monkeypatch.setattr(
        experiment, "looks", lambda shapes, generator: shapes[:, :1, :16, :16].clone()
    )
    choosing = set()
    for seed in (0, 100):
        task = experiment.characters_task.__wrapped__(seed, 160)
        x, _ = task.batch(torch.Generator().manual_seed(0))
        trained = set(x[:, 0, 0, 0].tolist())
        validated = set(task.validation[0][:, 0, 0, 0].tolist())
        tested = set(task.tests["never seen"][0][:, 0, 0, 0].tolist())
        assert set(task.thresholds["trained characters"][0][:, 0, 0, 0].tolist()) >= trained
        assert (len(validated), len(tested)) == (40, 60)
        assert not (trained & validated or trained & tested or validated & tested)
        choosing = choosing or validated
        assert validated == choosing


def test_no_two_characters_are_nearly_the_same():
    shapes = F.normalize(experiment.glyphs().flatten(2), dim=2)
    alike = torch.einsum("afp,bfp->ab", shapes, shapes) / shapes.shape[1]
    assert alike.fill_diagonal_(0).max() < 0.851 and len(shapes) >= 260


def test_looks_differ_and_repeat():
    shapes = experiment.drawn("Жß")
    first, again = (experiment.looks(shapes, torch.Generator().manual_seed(0)) for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert first.shape == (2, 1, 16, 16)
    assert not torch.equal(first, experiment.looks(shapes, torch.Generator().manual_seed(1)))


def test_the_pixels_are_compared_as_they_are():
    task = experiment.digits_task(0)
    found = experiment.tested("pixels", "7 digits", experiment.Setting(), [0], TINY)[0]
    for column, kind in ((0, "known"), (3, "unknown")):
        x, y = task.tests[kind]
        expected = 100 * margins.equal_error_rate(*margins.pair_scores(x.flatten(1), y))
        assert found[column].item() == pytest.approx(expected)


def test_measures_of_features_that_are_perfect():
    labels = torch.arange(40) % 4
    features = F.one_hot(labels, 4).float()
    found = experiment.measures([(features, labels)] * 2, [(features, labels)])
    assert found == pytest.approx([0.0, 100.0, 0.0, 0.0])


def test_a_threshold_is_set_on_other_classes_and_on_those_trained_on():
    labels, names = torch.arange(40) % 4, ("other characters", "trained characters")
    nearer, near, apart = (torch.eye(4)[labels] + add for add in (2, 1, 0))
    found = experiment.measures([(nearer, labels), (apart, labels)], [(near, labels)])
    assert found == pytest.approx([0.0, 100.0, 0.0, 100.0])
    task = experiment.characters_task(0, 10)
    assert (*task.thresholds,) == names and task.validation is task.thresholds[names[0]]
    assert COLUMNS[2:] == [f"never seen: FAR ({name})" for name in names]


def test_the_setting_with_the_lowest_error_in_validation_is_chosen():
    settings = experiment.SETTINGS["ArcFace"]
    chosen, found = experiment.choose("ArcFace", "7 digits", settings, TINY)
    assert [*found] == settings and found[chosen] == min(found.values())


def test_what_is_shipped_comes_from_the_whole_protocol():
    said, results = experiment.shipped()
    assert said["seeds"] == 20
    assert said["size"] == vars(experiment.FULL) and [*said["tasks"]] == [*experiment.TASKS]
    for task, heads in said["tasks"].items():
        assert [*heads] == ["pixels", *HEADS]
        for name in HEADS:
            part = heads[name]
            chosen = experiment.Setting(part["scale"], part["margin"], part["rate"])
            errors = part["of each setting"]
            assert errors[experiment.SETTINGS[name].index(chosen)] == min(errors)
            if experiment.has_margin(name):
                assert len(part["without the margin"]) == 20
        shapes = {values.shape for values in results[task].values()}
        assert shapes == {(20, len(experiment.columns(task)))}


def test_the_command_asks_for_a_spread(capsys):
    with pytest.raises(SystemExit):
        experiment.main(["--seeds", "1"])
    assert "a spread needs at least 2" in capsys.readouterr().err


def test_a_star_is_a_difference_above_three_standard_errors():
    noise = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])  # standard error 0.58
    heads = {name: torch.zeros(4, 1) for name in experiment.SETTINGS}
    heads |= {"CosFace": noise + 1.7, "ArcFace": noise - 1.8}
    _, cosface, arcface, *rising = experiment.differences({"task": heads}, 0).splitlines()
    assert cosface.split() == ["CosFace", "+1.70", "±", "0.58"]
    assert arcface.split() == ["ArcFace", "-1.80", "±", "0.58*"]
    assert not any("*" in line for line in rising)
    same = {name: heads[name] - 5.0 for name in experiment.SETTINGS if experiment.has_margin(name)}
    _, *lines = experiment.differences({"task": heads}, 0, {"task": same}).splitlines()
    assert {line.split()[-3] for line in lines} == {"+5.00"}


def test_levels_are_of_classes_that_were_not_trained_on():
    _, results = experiment.shipped()
    lines = experiment.levels(results).splitlines()
    assert len(lines) == 11 and not any(" known:" in line for line in lines)
    assert lines[0].split()[-7:] == ["32.6", "to", "34.4", "%,", "pixels", "22.2", "%"]
