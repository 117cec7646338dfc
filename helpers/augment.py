"""Augmentation of whole batches, every image with draws of its own.

Cutout, MixUp and CutMix as chapter 07 builds them, and AugMix with its consistency loss. Images are
finite, ``Float[Tensor, "n c h w"]`` of any float dtype and device, targets
``Float[Tensor, "n classes"]``: shares of the classes, as
``torch.nn.functional.one_hot(labels, classes).float()`` gives them. Nothing changes its inputs.
Mixed images are in the default memory format, whatever that of the inputs. Random numbers come from
``generator``, or from torch's own on the CPU, so a seed gives the same augmentation on every
device.
"""

import math

import torch
from jaxtyping import Float, Int, Shaped
from torch import Generator, Tensor
from torch.nn import functional as F

Images = Float[Tensor, "n c h w"]
Targets = Float[Tensor, "n classes"]
Boxes = Int[Tensor, "n 4"]
# What people hand in is checked in the function, with a message that helps.
Given = Shaped[Tensor, "..."]

GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
TONAL = ("Posterize", "Solarize", "AutoContrast", "Equalize")
#: AugMix's operations: the paper's nine, by torchvision's names. Its test corruptions, and so
#: brightness, contrast, colour and sharpness, are not among them.
OPERATIONS = (*GEOMETRIC, *TONAL)
LEVELS = 10  # the strongest severity
#: how finely the paper's authors divide the strength of an operation; others have any strength
PAPER_STEPS = {"Rotate": 30, "Posterize": 4, "Solarize": 256}
_STEPS = [PAPER_STEPS.get(name, 0) for name in OPERATIONS]
#: how many numbers ``augmix`` changes at once: more would not stay in a processor's cache
AT_ONCE = 2_000_000


# The methods --------------------------------------------------------------------------------------


def cutout(
    images: Given, size: int, value: float = 0.0, generator: Generator | None = None
) -> Images:
    """Overwrite a square of ``size`` by ``size`` pixels in every image with ``value``.

    The square's centre is uniform over the image, and what lies outside is cut off: the hole is
    smaller at the border. An odd ``size`` is lowered by one, as in the authors' code. On normalised
    images the default 0 is the mean. Source: DeVries and Taylor, 2017 (arXiv 1708.04552). Raises
    ``ValueError`` for a negative ``size``, a ``value`` that the images' dtype can't hold, and for
    images that are not a batch of finite floats.
    """
    _check_images(images)
    if size < 0:
        raise ValueError(f"size must be at least 0 pixels, got {size}")
    if not isinstance(value, int | float) or not abs(value) <= torch.finfo(images.dtype).max:
        raise ValueError(f"value must be one number that {images.dtype} can hold, got {value!r}")
    n, _, height, width = images.shape
    middles = centres(n, height, width, generator)
    # A mask holds nothing of what lies outside, so the boxes need not be cut off first.
    boxes = torch.cat([middles - size // 2, middles + size // 2], dim=1)
    filled = torch.full((), value, dtype=images.dtype, device=images.device)
    return images.lerp(filled, inside(boxes, height, width).to(images))


def mixup(
    images: Given, targets: Given, alpha: float = 1.0, generator: Generator | None = None
) -> tuple[Images, Targets]:
    """Blend every image, and its target, with one from the same batch.

    An image keeps the share λ ~ Beta(``alpha``, ``alpha``), drawn for each on its own. Source:
    Zhang et al., 2018 (arXiv 1710.09412), the definition of x̃ and ỹ. Raises ``ValueError`` where
    ``beta`` or ``blend`` does.
    """
    shares = beta(alpha, len(images), generator)
    return blend(images, targets, shares, partners(len(images), generator))


def cutmix(
    images: Given, targets: Given, alpha: float = 1.0, generator: Generator | None = None
) -> tuple[Images, Targets]:
    """Paste into every image a box from one of the same batch, and mix targets by area.

    The box would cover 1 - λ of the image, λ ~ Beta(``alpha``, ``alpha``), but its centre is
    uniform over the image and what lies outside is cut off; targets follow what is really pasted.
    Source: Yun et al., 2019 (arXiv 1905.04899), the definition of x̃ and ỹ, and the authors' code.
    Raises ``ValueError`` where ``beta`` or ``paste`` does.
    """
    n, (height, width) = len(images), images.shape[-2:]
    shares = beta(alpha, n, generator)
    middles = centres(n, height, width, generator)
    halves = half_sides(shares, height, width)
    boxes = torch.cat([middles - halves, middles + halves], dim=1)  # not cut off: see cutout
    return paste(images, targets, boxes, partners(n, generator))


def augmix(
    images: Given,
    severity: int = 3,
    width: int = 3,
    depth: int | None = None,
    generator: Generator | None = None,
    *,
    torchvision_levels: bool = False,
) -> Images:
    """Mix every image with ``width`` chains of simple operations on itself.

    A chain applies one to three of ``OPERATIONS``, or ``depth``, each at a level of ten, drawn from
    0.1 to ``severity``. With ``torchvision_levels`` they are whole numbers below ``severity``, of
    nine, as in ``v2.AugMix``; 0 moves nothing. Chains are averaged with weights from
    Dirichlet(1, …, 1), and the average with the image by a weight from Beta(1, 1). Images are in
    [0, 1], with one or three channels; normalise afterwards. Source: Hendrycks et
    al., 2020 (arXiv 1912.02781), the pseudocode, and the authors' code for the levels. Raises
    ``ValueError`` for images that are not a batch of floats in [0, 1], or that need a gradient, a
    severity not in 1 to 10, or a ``width`` or ``depth`` below 1.
    """
    _check_augmix(images, severity, width, depth)
    if not images.numel():
        return images.clone()
    at_once = max(1, AT_ONCE * len(images) // (width * images.numel()))
    options = severity, width, depth, generator, torchvision_levels
    return torch.cat([_augmixed(part, *options) for part in images.split(at_once)])


def _augmixed(
    images: Images,
    severity: int,
    width: int,
    depth: int | None,
    generator: Generator | None,
    torchvision_levels: bool,
) -> Images:
    n, rows = len(images), width * len(images)
    # Exponentials, normalised, which takes away their sign; 1 - u, since u may be 0.
    weights = (1 - _draw(width, n, generator=generator)).log_().clamp_max_(-1e-9)
    weights /= weights.sum(dim=0)
    own = _draw(n, generator=generator)
    steps = depth or 3
    depths = _integers(1, 4, rows, generator) if depth is None else steps
    operations, directions = (
        _integers(0, high, steps * rows, generator).view(steps, rows)
        for high in (len(OPERATIONS), 2)
    )
    draws = _draw(steps, rows, generator=generator)
    if torchvision_levels:
        strengths = (draws * severity).floor() / (LEVELS - 1)
    else:
        strengths = _in_steps(operations, (0.1 + draws * (severity - 0.1)) / LEVELS)
    ended = torch.arange(steps, device=operations.device)[:, None] >= depths
    operations = operations.masked_fill_(ended, -1)
    starts = torch.arange(rows, device=operations.device) % n
    chains, places = _operated(
        images.clamp(0, 1), starts, operations, strengths, 2 * directions - 1
    )
    # A weighted sum of rows, in one pass.
    mixed = F.embedding_bag(
        places.view(width, n).t().to(images.device),
        chains.flatten(1),
        mode="sum",
        per_sample_weights=weights.t().to(images),
    )
    return mixed.view_as(images).lerp_(images, own.to(images)[:, None, None, None])


def js_divergence(*logits: Given) -> Float[Tensor, ""]:
    """How much predictions for the same samples disagree: Jensen-Shannon, the mean over samples.

    For k predicted distributions p_i with mean m: the mean of KL(p_i ‖ m), in nats. It is 0 where
    all agree and at most log k; float32 for logits in half precision. Values and gradients are
    finite, also for logits of -inf. Source: Hendrycks et al., 2020 (arXiv 1912.02781), the
    consistency loss. Raises ``ValueError`` for less than two, and for logits of another form.
    """
    if len(logits) < 2:
        raise ValueError(
            f"js_divergence compares at least two predictions, got {len(logits)}: pass each view's "
            "logits as an argument of its own, js_divergence(clean, first, second)"
        )
    if not all(one.is_floating_point() for one in logits):
        raise ValueError(f"logits must be floats, got {[one.dtype for one in logits]}")
    if any(one.ndim != 2 or one.shape != logits[0].shape for one in logits):
        raise ValueError(
            f"logits must all have one shape (n, classes), got {[tuple(x.shape) for x in logits]}: "
            "for a class at each pixel use logits.movedim(1, -1).flatten(0, -2)"
        )
    # Half precision would be too coarse for the small difference of large numbers.
    precise = torch.promote_types(logits[0].dtype, torch.float32)
    log_p = torch.stack([one.log_softmax(dim=1, dtype=precise) for one in logits])
    log_p = log_p.clamp_min(torch.finfo(log_p.dtype).min)  # not -inf, which times 0 is nan
    log_m = log_p.logsumexp(dim=0) - math.log(len(logits))
    return (log_p.exp() * (log_p - log_m)).sum(dim=-1).mean()


# What they are made of ----------------------------------------------------------------------------


def blend(
    images: Given, targets: Given, shares: Float[Tensor, " n"], partners: Int[Tensor, " n"]
) -> tuple[Images, Targets]:
    """``shares`` of every image and the rest of image ``partners``, and targets alike.

    Raises ``ValueError`` for images or targets that are not floats.
    """
    _check_images(images)
    _check_targets(targets)
    mixed = _of(images, partners).lerp_(images, shares.to(images)[:, None, None, None])
    return mixed, _mixed_targets(targets, shares, partners)


def paste(
    images: Given, targets: Given, boxes: Boxes, partners: Int[Tensor, " n"]
) -> tuple[Images, Targets]:
    """Every image with its box taken from image ``partners``, and targets mixed by area.

    Raises ``ValueError`` for images or targets that are not floats.
    """
    _check_images(images)
    _check_targets(targets)
    outside = inside(boxes, *images.shape[-2:]).eq_(0)
    # With weights of 0 and 1, lerp gives one of two finite numbers to the bit, and is several times
    # as fast as torch.where.
    pasted = _of(images, partners).lerp_(images, outside.to(images))
    return pasted, _mixed_targets(targets, outside.mean(dim=(1, 2, 3)), partners)


def beta(alpha: float, n: int, generator: Generator | None = None) -> Float[Tensor, " n"]:
    """``n`` draws from Beta(``alpha``, ``alpha``), float32 in [0, 1].

    torch.distributions.Beta takes no generator. Source: the polar form of Student's t by Bailey,
    1994 (Mathematics of Computation 62), which a square root turns into a symmetric beta. Raises
    ``ValueError`` unless ``alpha`` is above 0.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be above 0, got {alpha}: near 0 hardly anything is mixed")
    if alpha == 1:
        return _draw(n, generator=generator)  # uniform
    radius, angle = _draw(2, n, generator=generator)
    s, cos = radius ** (1 / alpha), torch.cos(2 * math.pi * angle)
    return (0.5 + 0.5 * cos * ((1 - s) / (s + (1 - s) * cos**2)).sqrt()).clamp(0, 1)


def partners(n: int, generator: Generator | None = None) -> Int[Tensor, " n"]:
    """A random order of 0 … n - 1: whom each image is mixed with, now and then itself."""
    return torch.randperm(n, generator=generator, device=_device(generator))


def centres(
    n: int, height: int, width: int, generator: Generator | None = None
) -> Int[Tensor, "n 2"]:
    """``n`` pixels (row, column), uniform over the image."""
    rows, columns = (_integers(0, side, n, generator) for side in (height, width))
    return torch.stack([rows, columns], dim=1)


def half_sides(shares: Float[Tensor, " n"], height: int, width: int) -> Int[Tensor, "n 2"]:
    """Half the height and width of boxes that leave an image ``shares`` of its pixels.

    A box has the image's proportions; halves are rounded down.
    """
    half = torch.tensor([height / 2, width / 2], dtype=shares.dtype, device=shares.device)
    return ((1 - shares).sqrt()[:, None] * half).long()


def boxes_around(
    centres: Int[Tensor, "n 2"], halves: Int[Tensor, "n 2"], height: int, width: int
) -> Boxes:
    """Boxes (top, left, bottom, right), the last two exclusive, cut off at the image's border."""
    size = torch.tensor([height, width], device=centres.device)
    first, last = (centres - halves).clamp(min=0), torch.minimum(centres + halves, size)
    return torch.cat([first, last], dim=1)


def inside(boxes: Boxes, height: int, width: int) -> Float[Tensor, "n 1 h w"]:
    """The mask of each box: 1.0 where a pixel is inside, 0.0 elsewhere."""
    first, last = boxes.reshape(len(boxes), 2, 2, 1).unbind(dim=1)
    place = torch.arange(max(height, width), device=boxes.device)
    # Floats are multiplied faster than masks are joined.
    rows, columns = ((place >= first) & (place < last)).float().unbind(dim=1)
    return rows[:, None, :height, None] * columns[:, None, None, :width]


def operate(
    images: Images,
    operation: Int[Tensor, " n"],
    strength: Float[Tensor, " n"],
    sign: Int[Tensor, " n"],
) -> Images:
    """Each image changed by its operation, a place in ``OPERATIONS``; -1 leaves it as it is.

    Images are in [0, 1]. ``strength``, from 0 to 1, says how far, and ``sign``, -1 or 1, which way.
    Agrees with torchvision's ``v2.AugMix`` on float images, up to rounding, where the strength is a
    ninth of the level there. Raises ``ValueError`` for images that need a gradient.
    """
    _check_no_gradient(images)
    starts = torch.arange(len(images), device=operation.device)
    return _of(*_operated(images, starts, operation[None], strength[None], sign[None]))


def _operated(
    images: Images,
    rows: Int[Tensor, " chains"],
    operations: Int[Tensor, "steps chains"],
    strengths: Float[Tensor, "steps chains"],
    signs: Int[Tensor, "steps chains"],
) -> tuple[Float[Tensor, "chains c h w"], Int[Tensor, " chains"]]:
    """``operate``, step after step, on chains of which each starts from the image of its row.

    Returns the chains' images in another order, and the place of each.
    """
    steps, chains = operations.shape
    amounts = _amounts(operations, strengths * signs, *images.shape[-2:])
    # One pass moves images in all geometric ways. Then each tonal one is a kind, and last, nothing.
    nothing = 1 + len(TONAL)
    kinds = (operations - len(GEOMETRIC) + 1).clamp_min_(0)
    kinds.masked_fill_(~(kinds.bool() | amounts.any(dim=0)), nothing)
    # In each step in the order of kinds, so that a kind lies together and is changed in place.
    kinds += (1 + nothing) * torch.arange(steps, device=kinds.device)[:, None]
    order = kinds.flatten().argsort()
    sizes = kinds.flatten().bincount(minlength=(1 + nothing) * steps).view(steps, -1).tolist()
    # Half precision would put pixels in wrong places.
    maps = _of(_maps(amounts.flatten(1), *images.shape[-2:]), order)
    maps = maps.to(images.device, torch.promote_types(images.dtype, torch.float32))
    maps = maps.view(steps, chains, 2, 3)
    weaknesses = (1 - _of(strengths.flatten(), order)).to(images)
    weaknesses = weaknesses.view(steps, chains, 1, 1, 1)
    orders = (order % chains).view(steps, chains)
    places = torch.empty_like(orders)  # where each chain goes
    places.scatter_(1, orders, torch.arange(chains, device=orders.device).expand_as(orders))
    # Two buffers in turn: to get new memory takes longer than to fill it.
    full, empty = images.new_empty(2, chains, *images.shape[1:])
    x, y = (
        torch.linspace(1 / side - 1, 1 - 1 / side, side, dtype=maps.dtype, device=maps.device)
        for side in images.shape[:-3:-1]
    )
    for order, place, step_sizes, step_maps, step_weaknesses in zip(
        orders, places, sizes, maps, weaknesses, strict=True
    ):
        images, rows = _of(images, _of(rows, order), out=empty), place
        full, empty = empty, full
        moved, *tonal, _ = images.split(step_sizes)
        _, *weak, _ = step_weaknesses.split(step_sizes)
        if len(moved):
            moved.copy_(_moved(moved, step_maps[: len(moved)], x, y))
        for name, changed, weakness in zip(TONAL, tonal, weak, strict=True):
            if len(changed):
                _change_(name, changed, weakness)
    return images, rows


def _in_steps(operations: Int[Tensor, "*n"], strengths: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Strengths cut to the whole degrees, bits and tones of the paper's authors."""
    steps = torch.tensor(_STEPS, device=operations.device)[operations]
    return strengths.where(steps == 0, (strengths * steps).floor_() / steps)


def _amounts(
    operations: Int[Tensor, "*n"], strengths: Float[Tensor, "*n"], height: int, width: int
) -> Float[Tensor, "geometric *n"]:
    """How far each of ``GEOMETRIC`` goes: slopes, whole pixels, radians."""
    strongest = [0.3, 0.3, width / 3, height / 3, math.radians(30)]
    amounts = torch.stack(
        [(operations == i) * (most * strengths) for i, most in enumerate(strongest)]
    )
    amounts[2:4].trunc_()  # the translations
    return amounts


def _maps(amounts: Float[Tensor, "geometric n"], height: int, width: int) -> Float[Tensor, "n 2 3"]:
    """Where in [-1, 1]² an output pixel of each image comes from, as ``F.affine_grid`` takes it."""
    shear_x, shear_y, move_x, move_y, angle = amounts
    cos, sin, tall = angle.cos(), angle.sin(), height / width
    # Shears leave the image's first row or column in place, not its middle.
    x = [cos, tall * (shear_x - sin), tall * shear_x - 2 * move_x / width]
    y = [(shear_y + sin) / tall, cos, shear_y / tall - 2 * move_y / height]
    return torch.stack([*x, *y], dim=-1).unflatten(-1, (2, 3))


def _moved(
    images: Images, maps: Float[Tensor, "n 2 3"], x: Float[Tensor, " w"], y: Float[Tensor, " h"]
) -> Images:
    of_x, of_y, shift = maps[..., None].unbind(dim=2)
    # All x, then all y: several times as fast as the pairs of F.affine_grid.
    grid = (of_x * x)[:, :, None] + torch.addcmul(shift, of_y, y)[..., None]
    moved = F.grid_sample(images.to(maps.dtype), grid.permute(0, 2, 3, 1), align_corners=False)
    return moved.to(images.dtype)


def _change_(name: str, images: Images, weakness: Float[Tensor, "n 1 1 1"]) -> None:
    """Do a tonal operation in place, with a strength of 1 - ``weakness``."""
    if name == "Posterize":
        tones = (4 * weakness).round_().exp2_()
        images.mul_(tones).floor_().clamp_max_(tones - 1).div_(tones)
    elif name == "Solarize":
        # |x - 1| from the threshold on and |x - 0| below, several times as fast as torch.where
        images.sub_(images.clone().ge_(weakness)).abs_()
    elif name == "AutoContrast":
        # v2.functional.autocontrast in place, and without its slow assignments to masks
        low, high = (f(dim=(2, 3), keepdim=True) for f in (images.amin, images.amax))
        flat = low == high  # stays as it is
        images.sub_(low.masked_fill(flat, 0)).div_((high - low).masked_fill_(flat, 1))
    else:
        images.copy_(_equalized(images))


def _equalized(images: Images) -> Images:
    """``v2.functional.equalize``, whose integer divisions take half its time, with floats."""
    tones = images.float().mul(255.999).int().long().flatten(2)  # faster than long() alone
    pixels = torch.zeros((*tones.shape[:2], 256), dtype=torch.float32, device=images.device)
    pixels.scatter_add_(2, tones, pixels.new_ones(()).expand_as(tones))
    darker = pixels.cumsum(dim=2).sub_(pixels)
    # A step towards white for as many pixels; the brightest tone's do not count.
    step = darker.gather(2, tones.amax(dim=2, keepdim=True)).div_(255, rounding_mode="trunc")
    new = darker.add_(step.div(2, rounding_mode="trunc")).div_(step, rounding_mode="trunc")
    same = torch.arange(256, dtype=torch.float32, device=images.device)
    new = new.clamp_max_(255).where(step > 0, same).div_(255).to(images)
    return new.gather(2, tones).view_as(images)


def _mixed_targets(
    targets: Targets, shares: Float[Tensor, " n"], partners: Int[Tensor, " n"]
) -> Targets:
    return _of(targets, partners).lerp_(targets, shares.to(targets)[:, None])


def _of(rows: Tensor, partners: Int[Tensor, " n"], out: Tensor | None = None) -> Tensor:
    # index_select copies whole rows, several times as fast as rows[partners]
    return torch.index_select(rows, 0, partners.to(rows.device), out=out)


def _device(generator: Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def _draw(*shape: int, generator: Generator | None) -> Float[Tensor, "..."]:
    return torch.rand(shape, generator=generator, device=_device(generator), dtype=torch.float32)


def _integers(low: int, high: int, n: int, generator: Generator | None) -> Int[Tensor, " n"]:
    return torch.randint(low, high, (n,), generator=generator, device=_device(generator))


def _check_no_gradient(images: Tensor) -> None:
    if images.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "images must not need a gradient, since they are changed in place: give "
            "images.detach(), or call this under torch.no_grad()"
        )


def _check_images(images: Tensor) -> None:
    _check_batch(images)
    _check_finite(images)


def _check_batch(images: Tensor) -> None:
    if images.ndim != 4:
        raise ValueError(
            f"images must be a batch of shape (n, c, h, w), got {tuple(images.shape)}: for one "
            "image write image.unsqueeze(0)"
        )
    if not images.is_floating_point():
        raise ValueError(
            f"images must be floats, got {images.dtype}: convert them first, for example with "
            "v2.ToDtype(torch.float32, scale=True)"
        )


def _check_finite(images: Tensor) -> None:
    # A sum is found several times as fast as all that is not finite, but may itself be too large.
    if not math.isfinite(images.detach().sum()) and not images.isfinite().all():
        bad = int((~images.isfinite()).flatten(1).any(dim=1).sum())
        raise ValueError(
            f"images must be finite, got NaN or infinite values in {bad} of {len(images)}: "
            "look for them where the images are loaded"
        )


def _check_targets(targets: Tensor) -> None:
    if not targets.is_floating_point() or targets.ndim != 2:
        raise ValueError(
            f"targets must be shares of the classes, floats of shape (n, classes), got "
            f"{targets.dtype} of shape {tuple(targets.shape)}: "
            + (
                "add .float()"
                if targets.ndim == 2
                else "make them of class numbers with "
                "torch.nn.functional.one_hot(labels, classes).float()"
            )
        )


def _check_augmix(images: Tensor, severity: int, width: int, depth: int | None) -> None:
    _check_batch(images)
    _check_no_gradient(images)
    if not 1 <= severity <= LEVELS:
        raise ValueError(f"severity must be in 1 to {LEVELS}, got {severity}")
    for name, value in (("width", width), ("depth", depth)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not images.numel():
        return
    low, high = images.aminmax()
    # Resizing and rounding may leave values a little outside, which are clamped.
    if not (low > -0.01 and high < 1.01):
        _check_finite(images)
        raise ValueError(
            f"images must be in [0, 1], got values from {low:.3g} to {high:.3g}: apply augmix "
            "before normalising"
        )
