"""What the explorer of smoothing draws is what TensorBoard's smoothing does."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from chapters.tensorboard import explorer, pictures
from helpers import boards

WEIGHTS = [0.0, 0.3, 0.6, 0.9, 0.97]


@pytest.fixture
def drawn():
    """``draw`` with figures that are closed afterwards."""
    yield explorer.draw
    plt.close("all")


@pytest.mark.parametrize("weight", WEIGHTS[1:])
def test_half_of_a_drop_is_passed_when_half_of_the_memory_has_faded(weight):
    half_life = math.log(0.5) / math.log(weight)
    assert explorer.steps_late(weight) == pytest.approx(half_life, abs=1)


def test_more_smoothing_is_never_earlier():
    late = [explorer.steps_late(weight) for weight in np.linspace(0, 0.99, 34)]
    assert late == sorted(late)


@pytest.mark.parametrize("noise", [0.0, 0.4])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_both_lines_are_drawn(drawn, weight, noise):
    logged, smoothed = drawn(weight, noise).axes[0].lines[:2]
    losses = explorer.losses(noise)
    np.testing.assert_array_equal(logged.get_ydata(), losses)
    np.testing.assert_array_equal(smoothed.get_ydata(), boards.smoothed(losses, weight))


@pytest.mark.parametrize(
    ("weight", "words"), [(0.0, "0 steps late"), (0.5, "1 step late"), (0.9999, "not at all")]
)
def test_the_title_says_what_is_drawn(drawn, weight, words):
    axes = drawn(weight, 0.0).axes[0]
    assert words in axes.get_title(loc="left") + axes.get_title(loc="center")


def test_the_spike_fades_as_smoothing_grows(drawn):
    tops = [
        drawn(weight, 0.0).axes[0].lines[1].get_ydata()[explorer.SPIKE_AT] for weight in WEIGHTS
    ]
    assert tops[0] == explorer.SPIKE and tops == sorted(tops, reverse=True)


def test_outlines_say_where_nothing_was_logged(tmp_path):
    for run in ("frozen", "dead"):
        with SummaryWriter(tmp_path / run) as writer:
            writer.add_histogram("weight/a/b", torch.ones(3), 0)
            if run == "dead":
                writer.add_histogram("gradient/a/b", torch.zeros(3), 0)
    figure = pictures.compare(tmp_path, ["frozen", "dead"], "a/b", "two runs")
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert texts == [[], [], ["none logged"], []]
    plt.close(figure)
