"""What the explorer of losses draws is what torch computes, and its derivative."""

import itertools

import matplotlib.pyplot as plt
import pytest
import torch
from torch.nn import functional as F

from chapters.losses import explorer

ON_LOGITS = ("BCEWithLogitsLoss", "CrossEntropyLoss, logits (0, z)")
MODERATE = torch.linspace(-6, 6, 25)


@pytest.fixture
def drawn():
    """``draw``, whose figures are closed afterwards."""
    yield explorer.draw
    plt.close("all")


def heights(figure, panel):
    line = figure.axes[panel].lines[0]
    return torch.as_tensor(line.get_xdata()), torch.as_tensor(line.get_ydata())


@pytest.mark.parametrize("loss", ON_LOGITS)
def test_the_slope_of_a_cross_entropy_is_known(loss):
    p = MODERATE.sigmoid()
    for target, smoothing, pos_weight in itertools.product((0.0, 1.0), (0.0, 0.2), (1.0, 4.0)):
        _, slope = explorer.loss_and_slope(loss, MODERATE, target, smoothing, pos_weight)
        t = target * (1 - smoothing) + smoothing / 2
        torch.testing.assert_close(slope, (1 - t) * p - pos_weight * t * (1 - p))


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_squared_error_of_a_probability_vanishes_on_both_sides(target):
    values, slope = explorer.loss_and_slope("MSELoss on the sigmoid", MODERATE, target)
    p = MODERATE.sigmoid()
    torch.testing.assert_close(values, (p - target) ** 2)
    torch.testing.assert_close(slope, 2 * (p - target) * p * (1 - p))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_all_cross_entropies_agree_where_nothing_is_rounded(smoothing):
    curves = [
        explorer.loss_and_slope(loss, MODERATE, 1.0, smoothing)
        for loss in (*ON_LOGITS, "BCELoss on the sigmoid")
    ]
    for values, slope in curves[1:]:
        torch.testing.assert_close(values, curves[0][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(slope, curves[0][1], rtol=1e-4, atol=1e-5)


def test_smoothing_is_that_of_torch():
    both = torch.stack([torch.zeros(25), MODERATE], dim=1)
    theirs = F.cross_entropy(
        both, torch.ones(25, dtype=torch.long), label_smoothing=0.2, reduction="none"
    )
    for loss in ON_LOGITS:
        torch.testing.assert_close(explorer.loss_and_slope(loss, MODERATE, 1.0, 0.2)[0], theirs)


def test_far_out_only_the_losses_on_logits_pull():
    far = torch.tensor([-60.0])
    pulls = {
        loss: explorer.loss_and_slope(loss, far, 1.0)[1].abs().item() > 1e-3
        for loss in explorer.LOSSES
    }
    assert {loss for loss, pulling in pulls.items() if pulling} == set(ON_LOGITS)


@pytest.mark.parametrize("loss", explorer.LOSSES)
def test_drawn_is_what_is_computed(drawn, loss):
    figure = drawn(loss, target=0.0, label_smoothing=0.1, pos_weight=2.0, reach=20.0)
    logits, values = heights(figure, panel=0)
    again, slope = heights(figure, panel=1)
    assert torch.equal(logits, torch.linspace(-20, 20, explorer.POINTS)) and logits.equal(again)
    expected = explorer.loss_and_slope(loss, logits, 0.0, 0.1, 2.0)
    assert values.equal(expected[0]) and slope.equal(expected[1])
    assert figure.axes[0].get_title() == loss


def test_the_title_counts_where_the_loss_is_silent(drawn):
    figure = drawn("MSELoss on the sigmoid", reach=60.0)
    _, slope = heights(figure, panel=1)
    loud = slope.abs() >= 1e-3
    assert 0 < loud.sum() < len(loud) / 5
    silent = 1 - loud.float().mean().item()
    assert figure.axes[1].get_title() == f"hardly pulls on {silent:.0%} of the range"
