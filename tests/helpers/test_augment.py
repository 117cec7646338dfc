"""The laws of augmentation: of the chapter's functions and of the module's alike."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode, v2

from helpers import augment
from tests.notebooks import definitions

CHAPTER = "07_augmentation"
TAUGHT = ("boxes_around", "inside", "half_sides", "blend", "paste", "js_divergence")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

seeds = st.integers(0, 2**32 - 1)
alphas = st.sampled_from([0.1, 0.4, 1.0, 3.0, 50.0])
sides = st.integers(1, 17)


@pytest.fixture(scope="module", params=["notebook", "helpers"])
def taught(request):
    """What the chapter teaches, by name: as it stands in the notebook, and in helpers."""
    if request.param == "notebook":
        return SimpleNamespace(**dict(zip(TAUGHT, definitions.load(CHAPTER, *TAUGHT), strict=True)))
    return augment


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def batch(seed, n=5, channels=2, height=7, width=6, classes=4, dtype=torch.float32):
    generator = seeded(seed)
    images = torch.rand(n, channels, height, width, generator=generator).to(dtype)
    labels = torch.randint(classes, (n,), generator=generator)
    return images, F.one_hot(labels, classes).to(dtype)


def numbered(n, height, width):
    """Images whose pixels hold the number of their image, and a class for each image."""
    images = torch.arange(float(n)).view(n, 1, 1, 1).expand(n, 1, height, width)
    return images, torch.eye(n)


def boxes_of(taught, seed, alpha, n, height, width):
    generator = seeded(seed)
    shares = augment.beta(alpha, n, generator)
    centres = augment.centres(n, height, width, generator)
    return taught.boxes_around(centres, taught.half_sides(shares, height, width), height, width)


METHODS = {
    "cutout": lambda x, y, g: (augment.cutout(x, 4, generator=g), y),
    "mixup": lambda x, y, g: augment.mixup(x, y, generator=g),
    "cutmix": lambda x, y, g: augment.cutmix(x, y, generator=g),
    "augmix": lambda x, y, g: (augment.augmix(x, 8, generator=g), y),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


# Boxes and masks


@given(seeds, alphas, sides, sides)
def test_a_mask_is_one_in_its_box_and_zero_elsewhere(taught, seed, alpha, height, width):
    boxes = boxes_of(taught, seed, alpha, 6, height, width)
    mask = taught.inside(boxes, height, width)
    assert mask.shape == (6, 1, height, width)
    for one, (top, left, bottom, right) in zip(mask, boxes.tolist(), strict=True):
        assert 0 <= top <= bottom <= height and 0 <= left <= right <= width
        expected = torch.zeros(1, height, width)
        expected[:, top:bottom, left:right] = 1
        assert torch.equal(one, expected)


# Mixing


@given(seeds, st.floats(0, 1), sides)
def test_a_blend_gives_image_and_target_the_same_share(taught, seed, share, width):
    images, targets = batch(seed, width=width)
    partners = augment.partners(5, seeded(seed))
    mixed, soft = taught.blend(images, targets, torch.full((5,), share), partners)
    torch.testing.assert_close(mixed, share * images + (1 - share) * images[partners])
    torch.testing.assert_close(soft, share * targets + (1 - share) * targets[partners])


@given(seeds, alphas, sides, sides)
def test_a_pasted_images_target_has_the_shares_of_its_pixels(taught, seed, alpha, height, width):
    images, targets = numbered(6, height, width)
    boxes = boxes_of(taught, seed, alpha, 6, height, width)
    pasted, soft = taught.paste(images, targets, boxes, augment.partners(6, seeded(seed)))
    pixels = F.one_hot(pasted.long().flatten(1), 6).float().mean(dim=1)
    torch.testing.assert_close(soft, pixels)


@pytest.mark.parametrize("seed", range(10))
def test_cutmix_is_torchvisions_given_its_draws(taught, seed):
    images, targets = batch(0, height=12, width=9)
    torch.manual_seed(seed)
    theirs = v2.CutMix()(images, targets)
    torch.manual_seed(seed)
    share = torch.distributions.Beta(torch.ones(1), torch.ones(1)).sample()
    column, row = torch.randint(9, (1,)), torch.randint(12, (1,))
    centre = torch.stack([row, column], dim=1)
    box = taught.boxes_around(centre, taught.half_sides(share, 12, 9), 12, 9)
    ours = taught.paste(images, targets, box.expand(5, 4), torch.arange(5).roll(1))
    torch.testing.assert_close(ours, theirs)


# Draws


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.5, 30.0])
def test_beta_has_its_distribution(alpha):
    drawn = augment.beta(alpha, 20_000, seeded(0))
    assert ((drawn >= 0) & (drawn <= 1)).all()
    # float32 has no numbers between 1 - 6e-8 and 1, where a small alpha has much of its mass
    bounds = torch.linspace(0.001, 0.999, 50, dtype=torch.float64).numpy()
    expected = stats.beta(alpha, alpha).cdf(bounds)
    found = [(drawn <= bound).double().mean().item() for bound in bounds]
    assert abs(found - expected).max() < 1.63 / math.sqrt(20_000)  # Kolmogorov's 1 % bound


def test_centres_are_uniform_up_to_the_border():
    rows, columns = augment.centres(30_000, 3, 5, seeded(0)).T
    for drawn, side in ((rows, 3), (columns, 5)):
        share = drawn.bincount(minlength=side) / 30_000
        torch.testing.assert_close(share, torch.full((side,), 1 / side), atol=0.015, rtol=0)


@every_method
def test_images_of_a_batch_have_fates_of_their_own(method):
    generator = seeded(0)
    ours, others = torch.rand(2, 3, 16, 16, generator=generator)
    images = torch.cat([ours.expand(8, -1, -1, -1), others.expand(24, -1, -1, -1)])
    changed, _ = method(images, torch.eye(32), generator)
    # now and then one is mixed with itself or its like
    assert len({one.numpy().tobytes() for one in changed[:8]}) > 4


@every_method
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtype_and_device_stay_and_inputs_are_left_alone(method, dtype):
    images, targets = batch(3, channels=3, height=16, width=16, dtype=dtype)
    before = images.clone(), targets.clone()
    changed, soft = method(images, targets, seeded(0))
    assert changed.dtype == soft.dtype == dtype and changed.device == images.device
    assert changed.shape == images.shape and changed.isfinite().all()
    assert torch.equal(images, before[0]) and torch.equal(targets, before[1])
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(5, dtype=dtype), rtol=0.01, atol=0.01)


@every_method
def test_the_seed_of_a_generator_decides_or_else_the_global_one(method):
    images, targets = batch(3, channels=3, height=16, width=16)
    state = torch.get_rng_state()
    first, second, other = (method(images, targets, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first[0], other[0])
    torch.manual_seed(0)
    torch.testing.assert_close(method(images, targets, None), first, rtol=0, atol=0)


@pytest.mark.parametrize("size", [0, 1, 5, 8, 40])
def test_cutout_covers_a_square_cut_off_at_the_border(size):
    images = torch.ones(300, 2, 10, 14)
    cut = augment.cutout(images, size, value=0.25, generator=seeded(0))
    hole = cut == 0.25
    assert torch.equal(hole[:, 0], hole[:, 1]) and (cut[~hole] == 1).all()
    for one in hole[:, 0]:
        rows, columns = one.any(dim=1).sum(), one.any(dim=0).sum()
        assert one.sum() == rows * columns  # a rectangle
        assert rows <= 2 * (size // 2) and columns <= 2 * (size // 2)
    if size == 8:
        areas = hole[:, 0].sum(dim=(1, 2))
        assert areas.max() == 64 and areas.min() < 32
        assert hole[:, 0, 0, 0].any() and hole[:, 0, -1, -1].any()


def test_a_whole_number_of_images_may_be_one_or_none():
    for n in (0, 1):
        images, targets = torch.rand(n, 1, 6, 6), torch.ones(n, 3) / 3
        for method in METHODS.values():
            changed, soft = method(images, targets, seeded(0))
            assert changed.shape == images.shape
            torch.testing.assert_close(soft, targets)


# AugMix


def test_images_without_pixels_stay_as_they_are():
    assert augment.augmix(torch.rand(4, 3, 0, 6)).shape == (4, 3, 0, 6)


@pytest.mark.parametrize("name", augment.OPERATIONS)
@pytest.mark.parametrize("level", [0, 1, 4, 9])
def test_an_operation_is_torchvisions(name, level):
    images = torch.rand(2, 3, 15, 22, generator=seeded(0), dtype=torch.float64)
    images[:, :, 7, 3:5] = torch.tensor([0.0, 1.0], dtype=torch.float64)
    theirs = v2.AugMix(all_ops=False)
    magnitudes, signed = theirs._PARTIAL_AUGMENTATION_SPACE[name]
    for sign in (-1, 1):
        strength = magnitudes(augment.LEVELS, 15, 22)
        strength = 0.0 if strength is None else float(strength[level]) * (sign if signed else 1)
        expected = theirs._apply_image_or_video_transform(
            images, name, strength, InterpolationMode.BILINEAR, theirs._fill
        )
        place = torch.full((2,), augment.OPERATIONS.index(name))
        ours = augment.operate(images, place, torch.full((2,), level / 9), torch.full((2,), sign))
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@given(seeds, st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 5, 40, 256]))
def test_equalize_is_torchvisions_whatever_the_tones(seed, height, width, tones):
    generator = seeded(seed)
    shades = torch.rand(tones, generator=generator)
    drawn = torch.rand(4, 3, height, width, generator=generator) ** 3  # some shades more often
    images = shades[(drawn * tones).long()]
    place = torch.full((4,), augment.OPERATIONS.index("Equalize"))
    changed = augment.operate(images, place, torch.ones(4), place)
    torch.testing.assert_close(changed, v2.functional.equalize(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", augment.GEOMETRIC)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_puts_pixels_in_the_same_places(name, dtype):
    # A slope, of which every shade is exact in half precision, tells places apart.
    images = (torch.arange(100.0).fmod(16) / 16).expand(2, 1, 100, 100)
    images = torch.cat([images, images.mT], dim=1)
    draws = [torch.full((2,), value) for value in (augment.OPERATIONS.index(name), 0.8, 1)]
    expected = augment.operate(images, *draws)
    moved = augment.operate(images.to(dtype), *draws)
    assert moved.dtype == dtype
    torch.testing.assert_close(moved.float(), expected, rtol=0, atol=0.01)


def test_a_move_by_less_than_a_pixel_leaves_an_image_to_the_bit():
    images, one = torch.rand(2, 1, 6, 6), torch.ones(2, dtype=torch.long)
    places = torch.tensor([augment.OPERATIONS.index(f"Translate{axis}") for axis in "XY"])
    assert torch.equal(augment.operate(images, places, torch.tensor([0.4, 0.4]), one), images)
    assert (augment.operate(images, places, torch.tensor([0.6, 0.6]), one) != images).any()


def test_each_image_gets_its_own_operation():
    generator = seeded(0)
    images = torch.rand(60, 3, 12, 12, generator=generator)
    operation = torch.arange(-1, 9).repeat(6)[torch.randperm(60, generator=generator)]
    strength = torch.randint(2, 10, (60,), generator=generator) / 9
    sign = 2 * torch.randint(2, (60,), generator=generator) - 1
    draws = operation, strength, sign
    together = augment.operate(images, *draws)
    apart = [augment.operate(images[[i]], *(draw[[i]] for draw in draws))[0] for i in range(60)]
    torch.testing.assert_close(together, torch.stack(apart))
    changed = (together != images).flatten(1).any(dim=1)
    assert torch.equal(changed, operation >= 0)


def test_augmix_mixes_an_image_with_its_own_chains_by_weights_that_sum_to_one():
    """No operation changes even grey at level 0, so any mixture of it is the same grey."""
    grey = (torch.arange(1.0, 16) / 16)[:, None, None, None].expand(15, 3, 9, 9)
    mixed = augment.augmix(grey, 1, generator=seeded(0), torchvision_levels=True)
    # but Equalize rounds to one of 256 values, and Posterize after it to one of 16
    torch.testing.assert_close(mixed, grey, rtol=0, atol=1 / 15)


def test_the_chapters_augmix_is_torchvisions_given_its_draws():
    augmix = definitions.load(CHAPTER, "augmix")
    image = torch.rand(3, 20, 24, generator=seeded(0))
    apart = []
    for seed in range(20):
        torch.manual_seed(seed)
        expected = v2.AugMix(all_ops=False)(image)
        torch.manual_seed(seed)
        apart.append((augmix(image)[0] - expected).abs() > 1e-3)
    # rounding pushes a pixel now and then over a step of Posterize, Solarize or Equalize
    assert torch.stack(apart).float().mean() < 0.005


@pytest.mark.parametrize(
    ("torchvision_levels", "idle"),
    [
        # from 0.1 to 3: less than 1° of 30° until 1/3, less than a pixel of ten until 1
        (False, ((1 / 3 - 0.1) + 2 * (1 - 0.1)) / 2.9 / 9),
        (True, 6 / 3 / 9),  # level 0 of 0, 1 and 2, for all that moves and Solarize
    ],
)
def test_how_often_an_operation_of_augmix_does_nothing(torchvision_levels, idle):
    images = 0.1 + 0.8 * torch.rand(3000, 1, 30, 30, generator=seeded(0))
    images[:, :, 15] = 0.999  # which the weakest Solarize changes
    drawn = {"width": 1, "depth": 1, "generator": seeded(1)}
    mixed = augment.augmix(images, 3, **drawn, torchvision_levels=torchvision_levels)
    unchanged = ((mixed - images).abs() < 1e-4).flatten(1).all(dim=1).float().mean()
    assert unchanged.item() == pytest.approx(idle, abs=0.025)


def test_augmix_of_depth_one_and_width_one_is_one_operation():
    images = torch.rand(40, 3, 8, 8, generator=seeded(0))
    drawn = {"width": 1, "depth": 1, "generator": seeded(1), "torchvision_levels": True}
    mixed = augment.augmix(images, 10, **drawn)
    candidates = torch.stack(
        [
            augment.operate(images, *(torch.full((40,), value) for value in (place, s / 9, sign)))
            for place in range(9)
            for s in range(10)
            for sign in (-1, 1)
        ]
    )
    # mixed - image is a multiple of candidate - image, for one of the candidates at least
    step, directions = (mixed - images).flatten(1), (candidates - images).flatten(2)
    length = directions.norm(dim=2).clamp_min(1e-9)
    along = (directions * step).sum(dim=2) / length
    rest = (step.norm(dim=1) ** 2 - along**2).clamp_min(0).sqrt().amin(dim=0)
    assert (rest < 1e-2).all()


def test_a_chain_applies_one_operation_to_what_the_last_has_made():
    # Below torchvision's severity 1 is level 0, at which moves and Solarize change nothing.
    images = torch.rand(60, 3, 20, 20, generator=seeded(0), dtype=torch.float64)
    names = ("Solarize", "Posterize", "AutoContrast", "Equalize")
    one = torch.ones(60, dtype=torch.int64)

    def changed(x, name):
        return augment.operate(x, augment.OPERATIONS.index(name) * one, 0.0 * one, one)

    chains = torch.stack([changed(changed(images, a), b) for a in names for b in names])
    drawn = {"width": 1, "depth": 2, "generator": seeded(1), "torchvision_levels": True}
    mixed = augment.augmix(images, 1, **drawn)
    # mixed lies between the image and one of the chains, which is found by its direction
    step, directions = (mixed - images).flatten(1), (chains - images).flatten(2)
    along = (directions * step).sum(dim=2) / directions.square().sum(dim=2).clamp_min(1e-12)
    rest = (step - along[..., None] * directions).abs().amax(dim=2)
    assert rest.amin(dim=0).max() < 1e-5
    found = rest.argmin(dim=0)[step.abs().amax(dim=1) > 1e-6]
    assert len(found.unique()) > 6


def test_a_large_batch_is_changed_part_by_part(monkeypatch):
    images, _ = batch(0, n=5, channels=3)
    monkeypatch.setattr(augment, "AT_ONCE", 2 * 3 * images[0].numel())
    generator = seeded(1)
    parts = [augment.augmix(part, generator=generator) for part in images.split(2)]
    assert torch.equal(augment.augmix(images, generator=seeded(1)), torch.cat(parts))


def test_a_chain_has_one_to_three_operations():
    # Nothing happens at level 0 where all operations of a chain are among the six of nine above.
    images = 0.1 + 0.8 * torch.rand(4000, 1, 4, 4, generator=seeded(0))
    mixed = augment.augmix(images, 1, width=1, generator=seeded(1), torchvision_levels=True)
    unchanged = ((mixed - images).abs() < 1e-6).flatten(1).all(dim=1).float().mean()
    assert unchanged.item() == pytest.approx(sum((6 / 9) ** n for n in (1, 2, 3)) / 3, abs=0.03)


@every_method
def test_how_images_lie_in_memory_does_not_matter(method):
    images, targets = batch(3, channels=3, height=16, width=16)
    images = images[:, :1].expand(-1, 3, -1, -1)
    expected = method(images.contiguous(), targets, seeded(0))
    columns_first = images.permute(3, 1, 2, 0).contiguous().permute(3, 1, 2, 0)
    for same in (images, images.to(memory_format=torch.channels_last), columns_first):
        torch.testing.assert_close(method(same, targets, seeded(0)), expected)


# Jensen and Shannon


def test_js_divergence_reaches_its_bound(taught):
    z = 1000 * torch.eye(3)[:, None].expand(3, 4, 3)
    torch.testing.assert_close(taught.js_divergence(*z), torch.tensor(math.log(3)))


@pytest.mark.parametrize("views", [2, 3, 5])
def test_js_divergence_follows_its_definition(taught, views):
    z = torch.randn(views, 7, 4, generator=seeded(0), dtype=torch.float64)
    p = z.softmax(dim=-1)
    m = p.mean(dim=0)
    expected = (p * (p.log() - m.log())).sum(dim=-1).mean()
    torch.testing.assert_close(taught.js_divergence(*z), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("extreme", [200.0, math.inf])
def test_js_divergence_has_finite_gradients_where_a_probability_is_zero(taught, dtype, extreme):
    z = torch.zeros(3, 2, 3, dtype=dtype)
    z[0, 0, 0] = z[1, 0, 0] = z[2, 0, 1] = z[0, 1, 2] = -extreme
    views = [one.requires_grad_() for one in z.unbind()]
    value = taught.js_divergence(*views)
    assert value.isfinite() and value > 0 and value.dtype in (dtype, torch.float32)
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(value, views))


# What is refused


def test_finite_images_whose_sum_is_not_finite_are_taken():
    images = torch.full((2, 1, 8, 8), 60_000.0, dtype=torch.float16)
    assert augment.cutout(images, 4).isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: augment.mixup(x, y, alpha=0), "alpha must be above 0, got 0"),
        (lambda x, y: augment.cutout(x[0], 4), r"shape \(n, c, h, w\), got .*: for one image"),
        (lambda x, y: augment.cutmix(x[0], y), r"shape \(n, c, h, w\), got"),
        (lambda x, y: augment.augmix(x[0]), r"shape \(n, c, h, w\), got"),
        (lambda x, y: augment.mixup(x, y.long()), r"\): add .float\(\)$"),
        (lambda x, y: augment.cutmix(x / 0, y), "NaN or infinite values in 5 of 5"),
        (
            lambda x, y: augment.cutout(x.index_fill(0, torch.tensor(0), math.nan), 4),
            "NaN or infinite values in 1 of 5",
        ),
        (lambda x, y: augment.cutout(x, -2), "size must be at least 0 pixels, got -2"),
        (lambda x, y: augment.augmix(x, severity=11), "severity must be in 1 to 10, got 11"),
        (lambda x, y: augment.augmix(x, width=0), "width must be at least 1, got 0"),
        (lambda x, y: augment.augmix(x, depth=0), "depth must be at least 1, got 0"),
        (lambda x, y: augment.augmix(2 * x - 1), "apply augmix before normalising"),
        (lambda x, y: augment.js_divergence(y), "at least two predictions, got 1"),
        (lambda x, y: augment.js_divergence(x, x), r"\(n, classes\).* for a class at each pixel"),
        (lambda x, y: augment.js_divergence(y, y[:1]), r"all have one shape"),
        (lambda x, y: augment.cutout(x, 4, math.nan), "torch.float32 can hold, got nan"),
        (lambda x, y: augment.cutout(x.half(), 4, 1e6), "torch.float16 can hold, got 1000000.0"),
        (lambda x, y: augment.mixup(x.long(), y), "images must be floats, got torch.int64"),
        (lambda x, y: augment.mixup(x, y.argmax(dim=1)), "targets must be shares of the classes"),
        (lambda x, y: augment.cutmix(x, y.long()), "targets must be shares of the classes"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(*batch(0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_divergence_is_as_exact_as_its_logits(dtype):
    torch.manual_seed(0)
    first = 2 * torch.randn(64, 100)
    views = [(first + 0.1 * torch.randn_like(first)).to(dtype) for _ in range(3)]
    exact = augment.js_divergence(*(view.double() for view in views)).item()
    found = augment.js_divergence(*views)
    assert found.dtype == torch.float32 and found.item() == pytest.approx(exact, rel=1e-3)
    assert augment.js_divergence(views[0], views[0]).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_operations_do_not_depend_on_the_default_dtype(dtype):
    images = torch.rand(2, 3, 64, 64) ** 3
    n = len(augment.OPERATIONS)
    numbers = torch.arange(n).repeat_interleave(2)
    given = images.repeat(n, 1, 1, 1), numbers, torch.full((2 * n,), 0.7), torch.ones_like(numbers)
    shares = torch.linspace(0, 1, 9)
    wanted = augment.operate(*given), augment.half_sides(shares, 600, 901)
    torch.set_default_dtype(dtype)
    try:
        found = augment.operate(*given), augment.half_sides(shares, 600, 901)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, found, wanted))


def test_images_that_need_a_gradient_are_refused():
    images = torch.rand(2, 1, 8, 8, requires_grad=True)
    with pytest.raises(ValueError, match=r"images\.detach\(\)"):
        augment.augmix(images)
    with torch.no_grad():
        augment.augmix(images)
