"""What the explorers of chapter 08 draw is what the heads compute."""

import math

import matplotlib.pyplot as plt
import pytest
import torch
from torch.nn import functional as F

from chapters.margin_losses import explorer
from helpers import margins


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.mark.parametrize("between", [40, 90, 180])
@pytest.mark.parametrize("margin", [0.1, 0.5])
def test_the_gap_of_arcface_is_its_margin(between, margin):
    edge = explorer.accepted("ArcFace", margin, between)
    assert between - 2 * edge == pytest.approx(math.degrees(margin), abs=0.2)


@pytest.mark.parametrize("head", explorer.HEADS)
@pytest.mark.parametrize("between", [40, 90, 150])
def test_where_a_sector_ends_both_logits_are_equal(head, between):
    edge = math.radians(explorer.accepted(head, 0.2, between))
    own = torch.tensor(math.cos(edge))
    target = explorer.HEADS[head](own, 0.2)
    other = math.cos(math.radians(between) - edge)
    assert target.item() == pytest.approx(other, abs=2e-3)


@pytest.mark.parametrize("margin", [0.0, 0.3, 1.0])
def test_without_a_margin_the_sectors_meet(margin):
    assert explorer.accepted("no margin", margin, 90) == pytest.approx(45, abs=0.05)


def test_cosface_leaves_more_between_near_classes_than_between_far_ones():
    near, far = (b - 2 * explorer.accepted("CosFace", 0.2, b) for b in (30, 120))
    assert near > far + 5


def test_a_margin_that_is_too_large_leaves_nothing():
    assert explorer.accepted("CosFace", 1.0, 20) == 0


@pytest.mark.parametrize("head", ["CosFace", "ArcFace"])
def test_the_loss_is_that_of_the_head(head):
    between, points = 70, explorer.STEPS
    way = torch.deg2rad(torch.linspace(0, between, points))
    module = getattr(margins, head)(2, 2, scale=16.0, margin=0.3)
    b = math.radians(between)
    module.load_state_dict({"weight": torch.tensor([[1.0, 0.0], [math.cos(b), math.sin(b)]])})
    labels = torch.zeros(points, dtype=torch.long)
    logits = module(torch.stack([way.cos(), way.sin()], dim=1), labels)
    expected = F.cross_entropy(logits, labels, reduction="none").detach()
    found = explorer.losses(head, 0.3, 16.0, between)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_the_figure_says_what_is_left_over_and_draws_both_losses():
    figure = explorer.draw_boundary("ArcFace", margin=0.5, scale=8.0, between=120)
    arc, curve = figure.axes
    title = arc.get_title() or arc.get_title(loc="left")  # where it stands is a matter of style
    assert title == "ArcFace: 29° belong to nobody"
    training, without, _ = curve.lines
    assert torch.equal(
        torch.as_tensor(training.get_ydata()), explorer.losses("ArcFace", 0.5, 8.0, 120)
    )
    assert torch.equal(
        torch.as_tensor(without.get_ydata()), explorer.losses("no margin", 0.0, 8.0, 120)
    )


# The sphere

POINTS = margins.directions(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)))
LABELS = torch.arange(40) % 4


@pytest.mark.parametrize("azimuth", [-75, 0, 30, 180])
@pytest.mark.parametrize("elevation", [-90, 0, 20])
def test_turning_changes_no_angle(azimuth, elevation):
    seen = explorer.seen_from(POINTS, azimuth, elevation)
    torch.testing.assert_close(seen @ seen.T, POINTS @ POINTS.T, rtol=1e-5, atol=1e-5)
    assert torch.linalg.det(explorer.seen_from(torch.eye(3), azimuth, elevation)) > 0.99


def test_the_eye_looks_along_the_first_axis_and_from_above_onto_the_third():
    axes = torch.eye(3)
    torch.testing.assert_close(explorer.seen_from(axes, 0, 0)[:, 2], axes[0])
    torch.testing.assert_close(explorer.seen_from(axes, 30, 90)[:, 2], axes[2], atol=1e-6, rtol=0)


def test_every_point_is_drawn_once_as_its_digit_and_the_far_side_faintly():
    figure = explorer.draw_sphere({"one": (5 * POINTS, LABELS), "two": (POINTS, LABELS)}, 30, 10)
    expected = explorer.seen_from(POINTS, 30, 10)
    for axes in figure.axes:
        drawn = torch.cat([torch.as_tensor(part.get_offsets().data) for part in axes.collections])
        order, wanted = drawn[:, 0].argsort(), expected[expected[:, 0].argsort(), :2]
        torch.testing.assert_close(drawn[order].float(), wanted, rtol=1e-4, atol=1e-4)
        faint = sum(len(p.get_offsets()) for p in axes.collections if p.get_alpha() < 0.5)
        assert faint == (expected[:, 2] < 0).sum()


def test_the_titles_hold_the_angles():
    figure = explorer.draw_sphere({"ArcFace": (POINTS, LABELS)})
    within, between = margins.class_angles(POINTS, LABELS)
    expected = f"ArcFace: {within:.0f}° within, {between:.0f}° between"
    assert figure.axes[0].get_title(loc="center") == expected
