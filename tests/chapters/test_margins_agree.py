"""The margin heads give the losses and slopes of pytorch-metric-learning, a well-kept library."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning import losses
from torch.nn import functional as F

from helpers import margins
from tests.notebooks import definitions

NAMES = ("CosineHead", "CosFace", "ArcFace")
CHAPTER = dict(zip(NAMES, definitions.load("08_margin_losses", *NAMES), strict=True))
HELPERS = {name: getattr(margins, name) for name in NAMES}

both = pytest.mark.parametrize("heads", [HELPERS, CHAPTER], ids=["helpers", "chapter"])
sizes = st.tuples(st.integers(1, 20), st.integers(2, 24), st.integers(2, 12))
scales = st.sampled_from([1.0, 16.0, 30.0, 64.0])
seeds = st.integers(0, 10_000)


def assert_agree(head, theirs, seed, n, features, classes):
    """Equal loss, logits and slopes, for features in all directions about the class weights."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, features, generator=generator, dtype=torch.float64)
    x = 3 * torch.randn(n, features, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (n,), generator=generator)
    # every third row lies near the opposite of its class, where ArcFace has its continuation
    x[::3] = -weight[labels[::3]] + 0.05 * x[::3]
    head.double().load_state_dict({"weight": weight})
    theirs.double().W.data = weight.T.clone()

    ours_x, theirs_x = (x.clone().requires_grad_() for _ in range(2))
    loss = F.cross_entropy(head(ours_x, labels), labels)
    expected = theirs(theirs_x, labels)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours_x.grad, theirs_x.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head.weight.grad, theirs.W.grad.T, rtol=1e-5, atol=1e-6)
    return x


@both
@given(seed=seeds, size=sizes, scale=scales, margin=st.floats(0.0, 1.2))
def test_arcface(heads, seed, size, scale, margin):
    n, features, classes = size
    head = heads["ArcFace"](features, classes, scale=scale, margin=margin)
    degrees = math.degrees(margin)  # theirs
    theirs = losses.ArcFaceLoss(classes, features, margin=degrees, scale=scale)
    x = assert_agree(head, theirs, seed, n, features, classes)
    torch.testing.assert_close(head(x), theirs.get_logits(x))


@both
@given(seed=seeds, size=sizes, scale=scales, margin=st.floats(0.0, 1.0))
def test_cosface(heads, seed, size, scale, margin):
    n, features, classes = size
    head = heads["CosFace"](features, classes, scale=scale, margin=margin)
    theirs = losses.CosFaceLoss(classes, features, margin=margin, scale=scale)
    x = assert_agree(head, theirs, seed, n, features, classes)
    torch.testing.assert_close(head(x), theirs.get_logits(x))


@both
@given(seed=seeds, size=sizes, scale=scales)
def test_the_cosine_softmax_whose_temperature_is_one_over_the_scale(heads, seed, size, scale):
    n, features, classes = size
    head = heads["CosineHead"](features, classes, scale=scale)
    theirs = losses.NormalizedSoftmaxLoss(classes, features, temperature=1 / scale)
    assert_agree(head, theirs, seed, n, features, classes)


def test_their_default_margin_is_half_a_radian_in_degrees():
    assert math.isclose(losses.ArcFaceLoss(4, 6).margin, 0.5, abs_tol=1e-3)
