"""The losses that chapter 02 defines agree with torch's, in value and slope, over all arguments."""

import itertools
import math

import pytest
import torch
from torch import distributions, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from tests.notebooks import definitions

REDUCTIONS = ("mean", "sum", "none")
DTYPES = (torch.float32, torch.float64)
SHAPES = ((6, 4), (3, 5, 7), (2, 3, 4, 5), (4, 4, 4))  # (n, classes, ...)


@pytest.fixture(scope="module")
def chapter():
    """The chapter's own definitions, by name."""
    names = ("cross_entropy", "focal_loss", "FocalLoss", "focal_detached")
    names += ("squared_error", "kl_to", "gaussian_nll", "dice_loss")
    return dict(zip(names, definitions.load("02_losses", *names), strict=True))


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def value_and_slope(loss_fn, prediction, *arguments, **settings):
    prediction = prediction.clone().requires_grad_()
    value = loss_fn(prediction, *arguments, **settings)
    (slope,) = torch.autograd.grad(value.sum(), prediction)
    return value.detach(), slope


def assert_agree(ours, theirs, *arguments, **settings):
    for mine, expected in zip(
        value_and_slope(ours, *arguments, **settings),
        value_and_slope(theirs, *arguments, **settings),
        strict=True,
    ):
        torch.testing.assert_close(mine, expected)


def classes_with_holes(shape, ignored):
    n_classes = shape[1]
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(n_classes, (shape[0], *shape[2:]), generator=generator)
    holes = torch.rand(targets.shape, generator=generator) < 0.3
    targets[holes] = ignored
    targets.view(-1)[0] = 1  # at least one that counts
    return targets


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_agrees_with_torch(chapter, shape, dtype, reduction):
    settings = itertools.product((False, True), (-100, 0, 2), (0.0, 0.1, 1.0))
    for weighted, ignored, smoothing in settings:
        assert_agree(
            chapter["cross_entropy"],
            F.cross_entropy,
            3 * random(*shape, dtype=dtype),
            classes_with_holes(shape, ignored),
            weight=torch.arange(1, shape[1] + 1, dtype=dtype) if weighted else None,
            ignore_index=ignored,
            reduction=reduction,
            label_smoothing=smoothing,
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_is_stable(chapter, dtype):
    logits = torch.tensor([[500.0, -500.0, 0.0], [-500.0, 500.0, 0.0]], dtype=dtype)
    assert_agree(chapter["cross_entropy"], F.cross_entropy, logits, torch.tensor([1, 1]))


def test_cross_entropy_of_nothing_is_nan_like_torchs(chapter):
    nothing = torch.full((4,), -100)
    for loss_fn in (chapter["cross_entropy"], F.cross_entropy):
        assert loss_fn(random(4, 3), nothing).isnan()
        assert loss_fn(random(4, 3), nothing, reduction="sum") == 0


def test_cross_entropy_of_nothing_has_the_slope_of_torchs(chapter):
    nothing, weight = torch.full((4,), -100), torch.ones(3, dtype=torch.float64)
    settings = ({}, {"weight": weight}, {"label_smoothing": 0.1})
    for loss_fn, how in itertools.product((chapter["cross_entropy"], F.cross_entropy), settings):
        value, slope = value_and_slope(loss_fn, random(4, 3), nothing, **how)
        assert value.isnan() and not slope.any()


def test_a_class_may_be_masked_by_infinity(chapter):
    logits = torch.tensor([[1.0, -math.inf, 0.0], [0.0, 2.0, -math.inf]])
    assert_agree(chapter["cross_entropy"], F.cross_entropy, logits, torch.tensor([0, 1]))


def test_an_ignored_class_needs_no_valid_index(chapter):
    targets = torch.tensor([0, 99, 1, 99])
    assert_agree(chapter["cross_entropy"], F.cross_entropy, random(4, 3), targets, ignore_index=99)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(8,), (4, 3)])
def test_focal_loss_without_focus_is_binary_cross_entropy(chapter, shape, dtype, reduction):
    logits, targets = 4 * random(*shape, dtype=dtype), random(*shape, seed=1).gt(0)
    assert_agree(
        lambda z, t, reduction: chapter["focal_loss"](z, t, gamma=0.0, reduction=reduction),
        F.binary_cross_entropy_with_logits,
        logits,
        targets.to(dtype),
        reduction=reduction,
    )


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_loss_follows_its_formula(chapter, gamma):
    logits, targets = 2 * random(20), random(20, seed=1).gt(0).double()
    p = logits.sigmoid()
    p_true = torch.where(targets == 1, p, 1 - p)
    ours = chapter["focal_loss"](logits, targets, gamma=gamma, reduction="none")
    torch.testing.assert_close(ours, -((1 - p_true) ** gamma) * p_true.log())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_slope_of_focal_loss_is_finite_for_every_logit(chapter, dtype, gamma):
    logits = torch.tensor([0.0, 20.0, 30.0, 200.0, 1e4, -20.0, -200.0, -1e4], dtype=dtype)
    for target in (0.0, 1.0):
        targets = torch.full_like(logits, target)
        value, slope = value_and_slope(chapter["focal_loss"], logits, targets, gamma=gamma)
        assert value.isfinite() and slope.isfinite().all()


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_focal_loss_is_torchvisions_without_its_balance(chapter, gamma):
    logits, targets = 4 * random(30), random(30, seed=1).gt(0).double()
    assert_agree(
        chapter["focal_loss"],
        lambda z, t, gamma: sigmoid_focal_loss(z, t, -1, gamma, "mean"),
        logits,
        targets,
        gamma=gamma,
    )


def test_dice_loss_is_one_less_the_overlap(chapter):
    masks = torch.zeros(2, 1, 4, 4)
    masks[:, :, :2] = 1
    sure = 60 * (2 * masks - 1)
    assert chapter["dice_loss"](sure, masks) < 1e-5
    assert chapter["dice_loss"](-sure, masks) > 1 - 1e-5
    everything = torch.full_like(masks, 60.0)  # 2 · 8 / (16 + 8)
    torch.testing.assert_close(chapter["dice_loss"](everything, masks), torch.tensor(1 / 3))
    with pytest.raises(ValueError, match=r"masks \(2, 4, 4\)"):
        chapter["dice_loss"](sure, masks.squeeze(1))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_focal_module_is_the_function(chapter, reduction):
    logits, targets = random(8), torch.ones(8)
    module = chapter["FocalLoss"](gamma=1.5, reduction=reduction)
    assert isinstance(module, nn.Module) and not list(module.parameters())
    expected = chapter["focal_loss"](logits, targets, gamma=1.5, reduction=reduction)
    assert torch.equal(module(logits, targets), expected)


def test_focal_loss_refuses_to_broadcast(chapter):
    with pytest.raises(ValueError, match=r"logits are \(4, 1\), targets \(4,\)"):
        chapter["focal_loss"](torch.zeros(4, 1), torch.zeros(4))


def test_the_detached_focal_loss_has_the_same_number_and_another_slope(chapter):
    logits, targets = random(8), torch.ones(8, dtype=torch.float64)
    detached, its_slope = value_and_slope(chapter["focal_detached"], logits, targets)
    value, slope = value_and_slope(chapter["focal_loss"], logits, targets)
    assert torch.equal(detached, value) and not torch.allclose(its_slope, slope, rtol=0.1)


def test_squared_error_by_hand_is_torchs(chapter):
    assert_agree(chapter["squared_error"], F.mse_loss, random(6, 2), random(6, 2, seed=1))


def test_the_loss_of_a_student_is_the_divergence_from_its_teacher(chapter):
    scores, targets = random(6, 5), random(6, 5, seed=1).softmax(dim=1)
    theirs = distributions.kl_divergence(
        distributions.Categorical(probs=targets), distributions.Categorical(logits=scores)
    )
    torch.testing.assert_close(chapter["kl_to"](scores, targets), theirs.mean())


def test_a_number_with_its_uncertainty_costs_its_log_likelihood(chapter):
    out, target = random(6, 2), random(6, 1, seed=1)
    mean, log_variance = out.split(1, dim=1)
    log_p = distributions.Normal(mean, (log_variance / 2).exp()).log_prob(target)
    constant = math.log(2 * math.pi) / 2  # which torch leaves out
    torch.testing.assert_close(chapter["gaussian_nll"](out, target), -log_p.mean() - constant)
