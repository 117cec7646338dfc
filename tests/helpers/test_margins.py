"""Laws of the margin heads, for those of ``helpers`` and for those that chapter 08 defines."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from chapters.margin_losses import exercises
from helpers import margins
from tests.notebooks import definitions

TAUGHT = (
    "CosineHead",
    "CosFace",
    "ArcFace",
    "L2Softmax",
    "Warmup",
    "arcface_target",
    "class_angles",
    "pair_scores",
)
CHAPTER = SimpleNamespace(
    **dict(zip(TAUGHT, definitions.load("08_margin_losses", *TAUGHT), strict=True))
)
KINDS = ("CosineHead", "CosFace", "ArcFace")
MARGINS = {"CosFace": 0.35, "ArcFace": 0.5}
HALF = (torch.float16, torch.bfloat16)

seeds = st.integers(0, 10_000)
arc_margins = st.floats(0.0, 1.5)


@pytest.fixture(params=[margins, CHAPTER], ids=["helpers", "chapter"])
def heads(request):
    return request.param


def on_both(test):
    """Run a law of hypothesis, which knows no fixtures, on both."""
    ids = ["helpers", "chapter"]
    return pytest.mark.parametrize("heads", [margins, CHAPTER], ids=ids)(test)


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def batch(seed, n=12, features=6, classes=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=generator).to(dtype)
    return x, torch.randint(classes, (n,), generator=generator)


def head_of(heads, kind, seed=1, features=6, classes=4, **settings):
    head = getattr(heads, kind)(features, classes, **settings)
    head.load_state_dict({"weight": 2 * random(classes, features, seed=seed)})
    return head


def slopes(value, *of):
    return torch.autograd.grad(value, of)


# The targets


@on_both
@given(margin=arc_margins)
def test_arcface_is_the_cosine_of_the_angle_plus_the_margin_and_falls_beyond(heads, margin):
    theta = torch.linspace(0.01, math.pi, 200, dtype=torch.float64)
    theta = theta[(theta + margin - math.pi).abs() > 0.01]
    beyond = theta.cos() - margin * math.sin(margin)
    expected = torch.where(theta + margin < math.pi, torch.cos(theta + margin), beyond)
    torch.testing.assert_close(heads.arcface_target(theta.cos(), margin), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF])
@pytest.mark.parametrize("margin", [0.0, 0.5, 1.5])
def test_values_and_slopes_are_finite_at_the_ends_and_beyond(heads, margin, dtype):
    ends = torch.tensor([1.01, 1.0000001, 1.0, -1.0, -1.0000001, -1.01], dtype=dtype)
    ends.requires_grad_()
    target = heads.arcface_target(ends, margin)
    (slope,) = slopes(target.sum(), ends)
    assert target.dtype == dtype
    assert target.isfinite().all() and slope.isfinite().all()


# The heads


@on_both
@pytest.mark.parametrize("kind", MARGINS)
@given(seed=seeds)
def test_the_margin_lowers_the_own_class_and_no_other(heads, kind, seed):
    x, labels = batch(seed)
    head = head_of(heads, kind, seed + 1, margin=MARGINS[kind])
    own = F.one_hot(labels, 4).bool()
    change = head(x, labels) - head(x)
    assert (change[own] < 0).all() and (change[~own] == 0).all()


@pytest.mark.parametrize("kind", MARGINS)
def test_the_labels_decide_and_not_the_mode(heads, kind):
    x, labels = batch(0)
    head = head_of(heads, kind, margin=MARGINS[kind])
    assert torch.equal(head.train()(x), head.eval()(x))
    assert torch.equal(head.train()(x, labels), head.eval()(x, labels))
    assert not torch.equal(head(x), head(x, labels))


@pytest.mark.parametrize("kind", [*KINDS, "L2Softmax"])
def test_inputs_are_left_alone_and_float64_gives_float64(heads, kind):
    x, labels = batch(0, dtype=torch.float64)
    before = x.clone(), labels.clone()
    assert getattr(heads, kind)(6, 4).double()(x, labels).dtype == torch.float64
    assert torch.equal(x, before[0]) and torch.equal(labels, before[1])


# What the heads of helpers withstand


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_perfect_opposite_and_zero_rows_have_finite_slopes(kind, dtype):
    head = head_of(margins, kind, scale=64.0).to(dtype)
    w = head.weight.detach()
    rows = [w[0], -w[0], 0 * w[0], 200 * w[1], 1e-7 * w[1]]
    x, labels = torch.stack(rows).to(dtype).requires_grad_(), torch.tensor([0, 0, 1, 1, 2])
    logits = head(x, labels)
    found = slopes(F.cross_entropy(logits, labels), x, head.weight)
    assert logits.dtype == torch.promote_types(dtype, torch.float32) and logits.isfinite().all()
    assert [slope.dtype for slope in found] == [dtype, dtype]
    assert all(slope.isfinite().all() and slope.abs().max() < 1000 for slope in found)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_features_lose_nothing_in_the_head(kind, dtype):
    x, labels = batch(0, dtype=dtype)
    head = head_of(margins, kind)
    expected = head(x.float(), labels)
    assert torch.equal(head(x, labels), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(x, labels), expected)
        assert torch.equal(head(x.float(), labels), expected)


def test_autocast_changes_neither_pair_scores_nor_angles():
    x, labels = batch(0)
    scores, same = margins.pair_scores(x, labels)
    angles = margins.class_angles(x, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        in_autocast = margins.pair_scores(x, labels)
        assert margins.class_angles(x, labels) == angles
    assert torch.equal(in_autocast[0], scores) and torch.equal(in_autocast[1], same)


@pytest.mark.parametrize("kind", MARGINS)
def test_a_margin_out_of_range_is_refused_also_later(kind):
    kind = getattr(margins, kind)
    advice = ": it is in radians, use math.radians" if kind is margins.ArcFace else "$"
    for wrong in (-0.1, 28.6, math.nan):
        message = f"margin of {kind.__name__} must be in .*, got {wrong}{advice}"
        with pytest.raises(ValueError, match=message):
            kind(6, 4, margin=wrong)
        with pytest.raises(ValueError, match=message):
            kind(6, 4).margin = wrong


@pytest.mark.parametrize("kind", [*KINDS, "L2Softmax"])
@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_scale_that_is_none_is_refused(kind, scale):
    with pytest.raises(ValueError, match="scale must be positive and finite"):
        getattr(margins, kind)(6, 4, scale=scale)


def test_a_head_says_what_it_is():
    assert repr(margins.ArcFace(6, 4)) == "ArcFace(6, 4, scale=30, margin=0.5)"


def test_a_direction_has_length_one_and_nothing_has_none():
    x = torch.stack([random(5), 1e4 * random(5, seed=1), torch.zeros(5)])
    lengths = margins.directions(x).norm(dim=1)
    torch.testing.assert_close(lengths, torch.tensor([1.0, 1.0, 0.0]))


# L2-softmax


@on_both
@given(seed=seeds, longer=st.floats(0.01, 100.0))
def test_l2_softmax_sees_directions_only_and_keeps_its_bias(heads, seed, longer):
    x, labels = batch(seed)
    layer = heads.L2Softmax(6, 4, scale=12.0)
    expected = 12 * F.normalize(x) @ layer.weight.T + layer.bias
    for call in (layer(x), layer(longer * x), layer(x, labels)):
        torch.testing.assert_close(call, expected, rtol=1e-4, atol=1e-4)


# The warm-up


@on_both
@given(
    steps=st.integers(1, 30),
    what=st.sampled_from(["margin", "scale"]),
    start=st.floats(0.01, 1.0),
    full=st.floats(0.1, 1.0),
)
def test_margin_and_scale_rise_in_equal_steps_to_what_they_were(heads, steps, what, start, full):
    head = heads.CosFace(6, 4, **{what: full})
    warmup = heads.Warmup(head, steps, what, start)
    seen = [getattr(head, what)]
    for _ in range(steps + 3):
        warmup.step()
        seen.append(getattr(head, what))
    expected = [start + (full - start) * min(step / steps, 1) for step in range(steps + 4)]
    assert seen == pytest.approx(expected) and seen[-1] == full


def test_a_warmup_raises_the_margin_from_nothing_unless_told_otherwise(heads):
    head = heads.ArcFace(6, 4, margin=0.5)
    heads.Warmup(head, 5)
    assert head.margin == 0.0


def test_a_warmup_without_steps_or_with_nothing_to_raise_is_refused():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        margins.Warmup(margins.CosFace(6, 4), 0)
    with pytest.raises(ValueError, match="CosFace has no temperature to raise"):
        margins.Warmup(margins.CosFace(6, 4), 5, "temperature")
    with pytest.raises(ValueError, match="a scale must start above 0, got 0.0"):
        margins.Warmup(margins.CosFace(6, 4), 5, "scale")


def test_a_head_and_its_warmup_go_on_where_they_were_saved():
    head = margins.CosFace(6, 4, scale=64.0, margin=0.2)
    warmup = margins.Warmup(head, 4)
    warmup.step()
    saved = head.state_dict(), warmup.state_dict()
    new = margins.CosFace(6, 4)
    going_on = margins.Warmup(new, 4)
    new.load_state_dict(saved[0])
    going_on.load_state_dict(saved[1])
    assert (new.scale, new.margin) == (64.0, 0.05)
    for _ in range(5):
        going_on.step()
    assert new.margin == 0.2


@pytest.mark.parametrize("kind", [*KINDS, "L2Softmax"])
def test_a_scale_is_loaded_and_stays_where_weights_alone_are_loaded(kind):
    state = getattr(margins, kind)(6, 4, scale=64.0).state_dict()
    head = getattr(margins, kind)(6, 4, scale=8.0)
    head.load_state_dict({name: state[name] for name, _ in head.named_parameters()})
    assert head.scale == 8.0
    head.load_state_dict(state)
    assert head.scale == 64.0


# Angles


def test_angles_of_a_known_figure(heads):
    """Classes about 0°, 60° and 180°; the first has more rows, and no length counts."""
    degrees = torch.tensor([*[-10.0, 10.0] * 50, 40.0, 80.0, 150.0, 210.0])
    angles, lengths = torch.deg2rad(degrees)[:, None], torch.linspace(10, 11, 104)[:, None]
    features = lengths * torch.cat([angles.cos(), angles.sin()], dim=1)
    labels = torch.tensor([*[7] * 100, 3, 3, 5, 5])
    within, between = heads.class_angles(features, labels)
    assert (within, between) == pytest.approx((20.0, 80.0), abs=1e-3)


def test_angles_of_one_class_are_refused():
    with pytest.raises(ValueError, match="got 1 class in labels"):
        margins.class_angles(random(3, 2), torch.zeros(3, dtype=torch.long))


# Verification


def test_each_pair_of_different_rows_comes_once(heads):
    x, labels = random(7, 4), torch.tensor([0, 1, 0, 2, 1, 0, 0])
    scores, same = heads.pair_scores(x, labels)
    expected = [
        (F.cosine_similarity(x[i], x[j], dim=0).item(), labels[i].item() == labels[j].item())
        for i in range(7)
        for j in range(i + 1, 7)
    ]
    assert scores.tolist() == pytest.approx([score for score, _ in expected], abs=1e-6)
    assert same.tolist() == [is_same for _, is_same in expected]


def pairs(seed, n=60, ties=False):
    same = torch.rand(n, generator=torch.Generator().manual_seed(seed)) < 0.4
    same[:2] = torch.tensor([True, False])
    scores = random(n, seed=seed + 1) + same
    return (scores.round() if ties else scores), same


@given(seed=seeds, ties=st.booleans())
def test_the_roc_is_that_of_scikit_learn(seed, ties):
    from sklearn.metrics import roc_curve

    scores, same = pairs(seed, ties=ties)
    false, true = margins.roc(scores, same)
    expected = roc_curve(same.numpy(), scores.numpy(), drop_intermediate=False)
    # scikit-learn begins with a threshold that accepts nothing
    torch.testing.assert_close(false.double(), torch.from_numpy(expected[0][1:]).double())
    torch.testing.assert_close(true.double(), torch.from_numpy(expected[1][1:]).double())


@given(seed=seeds, ties=st.booleans())
def test_the_equal_error_rate_is_that_of_the_exercise(seed, ties):
    scores, same = pairs(seed, ties=ties)
    rate = margins.equal_error_rate(scores, same)
    assert rate == pytest.approx(exercises.equal_error_rate.right(scores, same), abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 4]), "classes from 0 to 3, got 0 to 4"),
        (torch.tensor([0, -100, 1]), "classes from 0 to 3, got -100 to 1"),
        (torch.tensor([0, 1]), r"integers of shape \(3,\), got torch.int64 of shape \(2,\)"),
        (torch.tensor([[0], [1], [2]]), r"of shape \(3, 1\): .* for a column squeeze\(1\)"),
        (torch.tensor([0.0, 1.7, 2.0]), "got torch.float32"),
        (torch.eye(3, 4), r"for shares of classes use argmax\(dim=1\)"),
        (torch.tensor([True, False, True]), "got torch.bool"),
    ],
)
def test_labels_that_are_not_a_class_for_each_row_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        margins.ArcFace(6, 4)(random(3, 6), labels)
    if "classes from" not in message:
        for measure in (margins.class_angles, margins.pair_scores):
            with pytest.raises(ValueError, match=message):
                measure(random(3, 6), labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_small_integers_are_labels_too_and_a_batch_may_be_empty(dtype):
    head, x = margins.ArcFace(6, 4), random(3, 6)
    assert torch.equal(
        head(x, torch.tensor([0, 3, 1], dtype=dtype)), head(x, torch.tensor([0, 3, 1]))
    )
    assert head(x[:0], torch.tensor([], dtype=dtype)).shape == (0, 4)


@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        (random(4), torch.tensor([1, 1, 0, 0]), "one bool .* and torch.int64 of .* same == 1"),
        (random(4), torch.tensor([[True], [True], [False], [False]]), r"of shape \(4, 1\)"),
        (
            torch.tensor([0.9, math.nan, 0.3]),
            torch.tensor([True, True, False]),
            "1 of 3 scores are NaN",
        ),
        (random(3), torch.tensor([True] * 3), "give pairs of each kind"),
        (random(3), torch.tensor([False] * 3), "give pairs of each kind"),
    ],
)
def test_scores_and_kinds_of_pairs_that_mean_nothing_are_refused(scores, same, message):
    with pytest.raises(ValueError, match=message):
        margins.equal_error_rate(scores, same)


@pytest.mark.parametrize("shape", [(4, 1), (2, 2)])
def test_scores_that_are_no_row_are_refused(shape):
    same = torch.tensor([True, True, False, False]).view(shape)
    with pytest.raises(ValueError, match=r"scores must be of shape \(pairs,\).* flatten\(\)"):
        margins.roc(random(4).view(shape), same)


@pytest.mark.parametrize("made", [margins.ArcFace, margins.L2Softmax])
def test_the_state_of_a_head_holds_nothing_but_tensors_and_survives_safetensors(made):
    safetensors = pytest.importorskip("safetensors.torch")
    saved = safetensors.save(made(4, 3, scale=12.3).state_dict())
    again = made(4, 3)
    again.load_state_dict(safetensors.load(saved))
    assert again.scale == 12.3


def test_a_head_forgives_its_own_missing_settings_alone():
    class Counter(nn.Module):
        def get_extra_state(self):
            return torch.tensor(3)

        def set_extra_state(self, state):
            pass

    model = nn.Sequential(Counter(), margins.ArcFace(4, 3, margin=0.2))
    state = model.state_dict()
    del state["1._extra_state"]
    assert model.load_state_dict(state).missing_keys == [] and model[1].margin == 0.2
    del state["0._extra_state"]
    with pytest.raises(RuntimeError, match="0._extra_state"):
        model.load_state_dict(state)


def test_a_heads_settings_are_on_the_cpu_and_it_runs_where_there_is_no_autocast():
    with torch.device("meta"):
        head = margins.ArcFace(4, 3)
        assert head.state_dict()["_extra_state"].device.type == "cpu"
    assert head(torch.empty(2, 4, device="meta")).shape == (2, 3)
