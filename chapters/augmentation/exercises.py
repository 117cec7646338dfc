"""The exercises of chapter 07: what a change of an input does to its label."""

from __future__ import annotations

import inspect
import math

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from helpers import augment, runtime
from helpers.exercises import Case, Exercises, Shortfall, require
from helpers.exercises.observe import gradients

chapter = Exercises(__file__)
report = chapter.report


def _two(result, *names):
    """The two tensors of a result."""
    require(result, (tuple, list), "the answer's result")
    if len(result) != 2:
        raise Shortfall(f"{names[0]} and {names[1]} are expected; {len(result)} results came.")
    return [require(one, torch.Tensor, name) for one, name in zip(result, names, strict=True)]


def _new_faces(answer, images, points, flip):
    result = answer(images, points, flip)
    new_images, new_points = _two(result, "the new images", "the new points")
    yield "shapes", [tuple(new_images.shape), tuple(new_points.shape)]
    if new_images.shape != images.shape or new_points.shape != points.shape:
        raise Shortfall("Images and points can't be compared.")
    new_images, new_points = new_images.to(images.dtype), new_points.to(points.dtype)
    yield "images", new_images[flip].clone()
    columns, rows = new_points[flip].unbind(dim=-1)
    # Rows stay, so they tell which point is which, whatever the order.
    yield "columns", columns.gather(1, rows.argsort(dim=1))
    yield "order", rows.clone()
    yield "others", [new_images[~flip].clone(), new_points[~flip].clone()]
    yield "arguments", (images, points, flip)


def _faces(n, c, height, width, flip):
    images = torch.randn(n, c, height, width)
    points = torch.rand(n, 5, 2) * torch.tensor([width - 1.0, height - 1.0])
    return images, points, torch.tensor(flip)


@chapter.exercise(
    observe=_new_faces,
    cases=lambda: [
        Case("one face of 3 × 4 × 6, mirrored", *_faces(1, 3, 4, 6, [True])),
        Case("three of 6 × 5, the second mirrored", *_faces(3, 3, 6, 5, [False, True, False])),
        Case("two faces of 5 × 8, both mirrored", *_faces(2, 1, 5, 8, [True, True])),
        Case("two faces, none mirrored", *_faces(2, 3, 4, 6, [False, False])),
        Case(
            "five faces of 7 × 7, three mirrored",
            *_faces(5, 3, 7, 7, [True, False, True, True, False]),
        ),
    ],
)
def mirror(images, points, flip):
    columns, rows = points.unbind(dim=-1)
    mirrored = torch.stack([images.shape[-1] - 1 - columns, rows], dim=-1)
    mirrored = mirrored[:, [1, 0, 2, 4, 3]]
    chosen = flip[:, None, None]
    new_images = torch.where(chosen[..., None], images.flip(-1), images)
    return new_images, torch.where(chosen, mirrored, points)


@chapter.prediction
def one_draw():
    images = torch.rand(6, 1, 16, 16) + 0.1
    erase = v2.RandomErasing(p=1.0)
    flip = v2.RandomHorizontalFlip(p=0.5)

    def rectangles(erased):
        return len({tuple(hole) for hole in (erased == 0).flatten(1).tolist()})

    def mirrored(flipped):
        return sum(torch.equal(a, b.flip(-1)) for a, b in zip(flipped, images, strict=True))

    return {
        "rectangles in erase(images)": rectangles(erase(images)),
        "rectangles in torch.stack([erase(image) for image in images])": rectangles(
            torch.stack([erase(image) for image in images])
        ),
        "images mirrored by flip(images)": {mirrored(flip(images)) for _ in range(100)},
    }


def any_number_mirrored():
    return {"images mirrored by flip(images)": set(range(7))}


def one_to_six_mirrored():
    return {"images mirrored by flip(images)": set(range(1, 7))}


def one_to_five_mirrored():
    return {"images mirrored by flip(images)": set(range(1, 6))}


def about_three_mirrored():
    return {"images mirrored by flip(images)": {2, 3, 4}}


def always_three_mirrored():
    return {"images mirrored by flip(images)": {3}}


def always_six_mirrored():
    return {"images mirrored by flip(images)": {6}}


def never_mirrored():
    return {"images mirrored by flip(images)": {0}}


def one_image_mirrored():
    return {"images mirrored by flip(images)": {0, 1}}


def always_one_mirrored():
    return {"images mirrored by flip(images)": {1}}


@chapter.prediction
def order():
    images = torch.rand(4, 1, 8, 8)
    targets = torch.eye(4)
    normalise = v2.Normalize([0.4], [0.2])
    changes = {
        "MixUp": lambda x, g: augment.mixup(x, targets, generator=g)[0],
        "CutMix": lambda x, g: augment.cutmix(x, targets, generator=g)[0],
        "Cutout, filled with 0": lambda x, g: augment.cutout(x, 4, generator=g),
        "rotation, corners filled with 0": lambda x, g: v2.functional.rotate(x, 30, fill=0),
    }

    def commutes(change):
        first, second = (torch.Generator().manual_seed(0) for _ in range(2))
        return torch.allclose(
            change(normalise(images), first), normalise(change(images, second)), atol=1e-4
        )

    return {name: commutes(change) for name, change in changes.items()}


def _images_and_targets(answer, images, labels, classes, *others):
    handed = images.dtype
    new_images, targets = _two(
        answer(images, labels, classes, *others), "the new images", "the targets"
    )
    yield "form", [tuple(new_images.shape), tuple(targets.shape), str(targets.dtype)]
    yield "images", new_images.to(handed, copy=True)
    yield "targets", targets.float().clone()
    yield "arguments", (images, labels, *others)


def _batch(n, c, height, width, classes):
    # normalised images, which leave [0, 1], and now and then the same partner or itself
    images, labels = torch.randn(n, c, height, width), torch.randint(classes, (n,))
    return images, labels, classes, torch.rand(n), torch.randint(n, (n,))


@chapter.exercise(
    observe=_images_and_targets,
    cases=lambda: [
        Case(
            "five images of 3×6×7, three classes",
            *_batch(5, 3, 6, 7, 3)[:3],
            torch.linspace(0.15, 0.8, 5),
            torch.arange(5).roll(1),
        ),
        Case("as many images as columns", *_batch(4, 1, 5, 4, 3)),
        Case("as many images as classes", *_batch(6, 3, 3, 4, 6)),
        Case(
            "shares of 0 and 1",
            *_batch(2, 1, 3, 5, 2)[:3],
            torch.tensor([0.0, 1.0]),
            torch.tensor([1, 0]),
        ),
        Case(
            "a partner of the same class",
            torch.randn(3, 1, 3, 5),
            torch.tensor([1, 1, 2]),
            4,
            torch.tensor([0.3, 0.6, 0.9]),
            torch.tensor([1, 2, 0]),
        ),
        Case("an image that is its own partner", *_batch(3, 1, 3, 5, 3)[:4], torch.arange(3)),
        Case("one image", *_batch(1, 3, 4, 4, 10)),
        Case("twelve images, ten classes", *_batch(12, 3, 5, 4, 10)),
    ],
)
def mixup(images, labels, classes, shares, partners):
    targets = F.one_hot(labels, classes).float()
    of_images, of_targets = shares[:, None, None, None], shares[:, None]
    return (
        of_images * images + (1 - of_images) * images[partners],
        of_targets * targets + (1 - of_targets) * targets[partners],
    )


@chapter.prediction
def floor():
    share = torch.rand(20_000).clamp(1e-6, 1 - 1e-6)
    targets = torch.stack([share, 1 - share], dim=1)

    def loss(predicted):
        return -(targets * predicted.log()).sum(dim=1).mean().item()

    sure = torch.where(targets > 0.5, 0.999, 0.001)
    agreement = (targets.argmax(dim=1) == 0).float().mean().item()
    return {
        "the perfect model's loss is 0": loss(targets) < 0.01,
        "the sure model's loss is smaller": loss(sure) < loss(targets),
        "agreement with the own label, in %": 10 * round(10 * agreement),
    }


HALF = 1e5  # the alpha at which λ is near one half
DRAWS = 150  # for each alpha


def _many_draws(answer, labels, classes, height, width):
    """What holds for many draws. The margins are wide: no right answer fails by bad luck."""
    n = len(labels)
    numbered = torch.arange(float(n * height * width)).view(n, 1, height, width)
    images = numbered + torch.tensor([0.0, 10_000.0])[:, None, None]
    draws = [_drawn(answer, images, labels, classes, a) for a in [HALF] * DRAWS + [1.0] * DRAWS]
    forms = {(tuple(new.shape), tuple(targets.shape), targets.dtype) for new, targets, _ in draws}
    yield "form", sorted(map(str, forms))
    if forms != {((n, 2, height, width), (n, classes), torch.float32)}:
        raise Shortfall("Images and targets can't be looked at.")
    new, targets = (torch.stack(parts) for parts in list(zip(*draws, strict=True))[:2])
    number = new - (images - numbered)[0]
    owner = ((number[:, :, 0] + 0.5) / (height * width)).floor().clamp(0, n - 1)
    there = numbered[0] + owner[:, :, None] * (height * width)
    yield "pixels", bool(((number - there).abs() < 0.1).all())
    owner = owner.to(torch.int8)
    yield from _of_boxes(owner)
    yield from _of_targets(owner, targets, labels, classes)
    yield "batch", all(same for _, _, same in draws)


def _drawn(answer, images, labels, classes, *alpha):
    handed = images.clone(), labels.clone()
    result = answer(*handed, classes, *alpha)
    new, targets = _two(result, "the new images", "the targets")
    same = torch.equal(handed[0], images) and torch.equal(handed[1], labels)
    return new.float().clone(), targets.clone(), same


def _of_boxes(owner):
    """``owner``: whose pixel it is, (draws, n, height, width)."""
    _, n, height, width = owner.shape
    foreign = owner != torch.arange(n, dtype=owner.dtype)[:, None, None]
    areas = foreign.float().mean(dim=(2, 3))
    whom = torch.where(foreign, owner, -1).amax(dim=(2, 3))[..., None, None]
    boxes = [part[part.any(dim=(2, 3))] for part in foreign.split(DRAWS)]
    yield "pasted", bool((areas > 0).any(dim=0).all())
    if not all(map(len, boxes)):
        raise Shortfall("No box is to be seen.")
    near_half, any_size = (_extent(part) for part in boxes)
    is_box = all(
        (_extent(part)[0].prod(dim=0) == part.sum(dim=(1, 2))).all().item() for part in boxes
    )
    yield "box", is_box and bool(((owner == whom) | ~foreign).all())

    sides = torch.tensor([[height], [width]])
    (extent, first), whole = near_half, _is_whole(*near_half, sides)
    lengths = [side[uncut] for side, uncut in zip(extent, whole, strict=True)]
    equal = all(len(one) == 0 or one.max() - one.min() <= 2 for one in lengths)
    yield "alpha", equal
    longest = extent.amax(dim=1, keepdim=True)
    size = 0.4 < (longest / sides).prod().item() < 0.56
    yield "size", size or not equal
    uncut = _is_whole(*any_size, sides).all(dim=0)
    shares = any_size[0] / sides
    rounding = 2.5 / min(height, width)
    ratios = torch.cat([longest / sides, shares[:, uncut]], dim=1)
    alike = bool((ratios[0] - ratios[1]).abs().max() < rounding)
    yield "proportions", alike or not equal
    # Where boxes have the wrong size, nothing is known of λ.
    pasted = areas[DRAWS:][areas[DRAWS:] > 0]
    yield "small", not (size and equal) or 0.01 < (pasted < 0.1).float().mean().item() < 0.45
    yield "large", not (size and equal) or (pasted > 0.5).float().mean().item() > 0.03

    centres = torch.where(first > 0, first + longest / 2, first + extent - longest / 2) / sides
    thirds = torch.stack([(centres < 1 / 3), (centres >= 1 / 3) & (centres < 2 / 3)]).float()
    thirds = torch.cat([thirds, 1 - thirds.sum(dim=0, keepdim=True)]).mean(dim=2)
    # A box that is cut off is smaller than the longest, or has lost the image's proportions.
    shorter = bool((extent < longest - 3).any(dim=1).all())
    cut = shorter or bool(((shares[0] - shares[1]).abs() >= rounding).any())
    yield "border", cut or not equal
    outer = bool(((centres.amin(dim=1) < 1 / 8) | (centres.amax(dim=1) > 7 / 8)).all())
    yield "outer", outer or not equal
    evenly = bool((thirds > 0.15).all()) and bool(torch.corrcoef(centres)[0, 1].abs() < 0.5)
    # Nor is anything known of the centres of boxes that differ in size.
    yield "centres", evenly or not outer or not equal
    yield "edges", bool(foreign.any(dim=0).all())


def _extent(boxes):
    """Of masks, (m, height, width): how many rows and columns, (2, m), and the first of them."""
    lines = [boxes.any(dim=2).int(), boxes.any(dim=1).int()]
    first = torch.stack([line.argmax(dim=1) for line in lines])
    behind = torch.stack([line.flip(1).argmax(dim=1) for line in lines])
    sides = torch.tensor(boxes.shape[1:])[:, None]
    return sides - behind - first, first


def _is_whole(extent, first, sides):
    return (first > 0) & (first + extent < sides)


def _of_targets(owner, targets, labels, classes):
    n = len(labels)
    counted = torch.stack([(owner == i).float().mean(dim=(2, 3)) for i in range(n)], dim=2)
    pixels = counted @ F.one_hot(labels, classes).float()
    own = F.one_hot(labels, classes).bool()
    # Where a box holds no pixel, the share of its class is looked at, below.
    pasted = counted.diagonal(dim1=1, dim2=2) < 1
    yield "classes", bool(((targets.abs() <= 1e-4) | (pixels > 0) | own)[pasted].all())
    yield "sums", _close(targets.sum(dim=2), torch.ones(()))
    mixed = ((pixels > 0).sum(dim=2) == 2) & (pixels.amax(dim=2) < 0.999)
    named, left = targets[:, own][mixed], pixels[:, own][mixed]
    yield "own", _close(named, left) or not _close(named, 1 - left)
    yield "shares", _close(targets, pixels)


def _close(a, b):
    return torch.allclose(a, b.expand_as(a), atol=1e-4)


def _small_images(answer, labels, classes, height, width):
    n = len(labels)
    images = torch.arange(float(n)).view(n, 1, 1, 1).expand(n, 1, height, width).contiguous()
    draws = [_drawn(answer, images, labels, classes, HALF) for _ in range(DRAWS)]
    if {new.shape for new, *_ in draws} != {images.shape}:
        raise Shortfall("The new images have not the shape of those that were handed in.")
    foreign = torch.cat([(new != images)[:, 0] for new, *_ in draws])
    extent, first = _extent(foreign[foreign.any(dim=(1, 2))])
    places = [
        len(set(zip(*pair, strict=True)))
        for pair in zip(first.tolist(), extent.tolist(), strict=True)
    ]
    yield "anywhere", places[0] >= height and places[1] >= width

    yield "default", _default_is_one(answer, labels, classes)


def _default_is_one(answer, labels, classes):
    images = torch.randn(len(labels), 1, 40, 36)

    def seeded(*alpha):
        runtime.seed(1)
        return [_drawn(answer, images, labels, classes, *alpha)[0] for _ in range(12)]

    given = seeded(1.0)
    if all(map(torch.equal, given, seeded(1.0))):
        return all(map(torch.equal, given, seeded()))
    # An answer with a generator of its own never gives the same twice.
    seeded()
    try:
        parameters = [*inspect.signature(answer).parameters.values()]
    except (TypeError, ValueError):
        return True
    return len(parameters) < 4 or parameters[3].default in (1, None)


@chapter.exercise(
    observe=_many_draws,
    cases=lambda: [
        Case("3 images of 44 × 32, many draws", torch.arange(3), 3, 44, 32),
        Case("3 images of 32 × 44, many draws", torch.tensor([2, 0, 2]), 6, 32, 44),
        Case(
            "4 images of 6 × 5, many draws",
            *(torch.tensor([2, 0, 2, 1]), 6, 6, 5),
            observe=_small_images,
        ),
    ],
)
def cutmix(images, labels, classes, alpha=1.0):
    """Returns the images with a box pasted into each, and their targets, (n, classes)."""
    n, _, height, width = images.shape
    share = torch.distributions.Beta(alpha, alpha).sample().item()  # λ
    side = (1 - share) ** 0.5
    box_height, box_width = int(height * side), int(width * side)
    row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
    top, bottom = max(row - box_height // 2, 0), min(row + box_height // 2, height)
    left, right = max(column - box_width // 2, 0), min(column + box_width // 2, width)

    partners = torch.randperm(n)
    others = images[partners]
    pasted = images.clone()
    pasted[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]

    share = 1 - (bottom - top) * (right - left) / (height * width)
    targets = F.one_hot(labels, classes).float()
    targets = share * targets + (1 - share) * targets[partners]
    return pasted, targets


def _large_and_torn():
    torn = torch.tensor([[60.0, 55.0, 0.0], [55.0, 60.0, 0.0], [57.0, 57.0, 0.0]])
    return torch.stack([torn, torn + 240], dim=1)


def _one_sure():
    logits = 2 * torch.randn(3, 5, 3)
    logits[:, 2] = torch.tensor([200.0, 0.0, -200.0])
    return logits


def _with_gradients(value_name, gradient_name):
    def observe(answer, *logits):
        logits = [one.clone().requires_grad_() for one in logits]
        value = require(answer(*logits), torch.Tensor, "the answer's result")
        grows = "with" if value.requires_grad else "without"
        yield "form", f"shape {tuple(value.shape)}, {grows} a gradient"
        yield value_name, value.detach().to(logits[0].dtype, copy=True)
        if value.shape or not value.requires_grad:
            raise Shortfall("No gradient can be taken.")
        names = ("clean", "first", "second")
        yield gradient_name, dict(zip(names, gradients(value, *logits), strict=True))

    return observe


_far = _with_gradients("far value", "far gradient")


@chapter.exercise(
    observe=_with_gradients("value", "gradient"),
    cases=lambda: [
        *(
            Case(f"{n} samples, {classes} classes", *(2 * torch.randn(3, n, classes)).unbind())
            for n, classes in ((6, 4), (1, 3), (4, 4), (3, 2), (7, 10))
        ),
        Case("three times the same", *torch.randn(1, 3, 5).expand(3, 3, 5).unbind()),
        Case(
            "logits of 200",
            *(200.0 * torch.eye(3)[:, None].repeat(1, 2, 1)).unbind(),
            observe=_far,
        ),
        Case(
            "logits of 200, all sure of one class",
            *(torch.tensor([200.0, 0, -200]).repeat(3, 2, 1)),
            observe=_far,
        ),
        Case("large logits, and three that disagree", *_large_and_torn().unbind(), observe=_far),
        Case("one sure sample among five", *_one_sure().unbind(), observe=_far),
    ],
)
def jsd(clean, first, second):
    log_p = torch.stack([clean, first, second]).log_softmax(dim=-1)
    log_m = log_p.logsumexp(dim=0) - math.log(3)
    return (log_p.exp() * (log_p - log_m)).sum(dim=-1).mean()


def _views(n, classes):
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.BatchNorm1d(8), nn.ReLU())
    model.append(nn.Linear(8, classes))
    images = torch.rand(n, 2, 4, 3)
    first, second = (images**2).flip(-1), (images * 0.5).flip(-2)
    return model, images, first, second, torch.randint(classes, (n,))


def _scalar(loss):
    require(loss, torch.Tensor, "the answer's result")
    if loss.shape or not loss.requires_grad:
        raise Shortfall("The loss is a tensor without dimensions from which gradients flow back.")
    return loss


def _passes(answer, model, *views):
    batches = []
    model[2].register_forward_pre_hook(lambda norm, given: batches.append(len(given[0])))
    _scalar(answer(model, *views))
    yield "batches", batches
    yield "statistics", [model[2].running_mean.clone(), model[2].running_var.clone()]


def _parts(answer, model, images, first, second, labels):
    """The two parts of the loss and of its gradient, told apart by other labels.

    With another label for one sample, the loss changes by 1/n of the change of its log-probability,
    so the probabilities are a softmax of -n times the losses; what is left is the divergence.
    """
    # Differences of losses need more digits than float32 has.
    model, images, first, second = (one.double() for one in (model, images, first, second))
    model(torch.cat([images, first, second]))
    model.eval()
    n, classes = len(images), model[-1].out_features

    def loss_and_slope(labels):
        loss = _scalar(answer(model, images, first, second, labels))
        weights = list(model.parameters())
        slope = torch.autograd.grad(loss, weights, allow_unused=True)
        pairs = zip(slope, weights, strict=True)
        parts = [torch.zeros_like(w) if g is None else g for g, w in pairs]
        return loss.detach().clone(), torch.cat([part.flatten() for part in parts])

    loss, slope = loss_and_slope(labels)
    log_p, slopes = torch.empty(n, classes, dtype=loss.dtype), []
    for i in range(n):
        others = [labels.clone() for _ in range(classes)]
        for label, other in enumerate(others):
            other[i] = label
        losses, each = (
            torch.stack(part) for part in zip(*map(loss_and_slope, others), strict=True)
        )
        log_p[i] = (-n * losses).log_softmax(dim=0)
        # The slopes of a sample's log-probabilities, weighted by the probabilities, sum to 0.
        slopes.append(each[labels[i]] - log_p[i].exp() @ each)
    yield "clean", log_p.float()
    yield "clean slope", sum(slopes).float()
    yield "divergence", (loss + log_p[torch.arange(n), labels].mean()).float()
    yield "slope", (slope - sum(slopes)).float()


@chapter.exercise(
    observe=_parts,
    cases=lambda: [
        Case("three images, a model in eval mode", *_views(3, 4)),
        Case("one image, a model in eval mode", *_views(1, 5)),
        Case("six images, a model with BatchNorm", *_views(6, 5), observe=_passes),
        Case("five images, a model with BatchNorm", *_views(5, 4), observe=_passes),
    ],
)
def augmix_loss(model, images, first, second, labels):
    """`first` and `second` are AugMix versions of `images`; returns the loss."""
    logits = model(torch.cat([images, first, second])).chunk(3)
    loss = F.cross_entropy(logits[0], labels)
    return loss + 12 * augment.js_divergence(*logits)


def _quarters(n, c, height, width, classes):
    images, labels = torch.randn(n, c, height, width), torch.randint(classes, (n,))
    points = torch.stack([torch.randint(1, side, (n,)) for side in (height, width)], dim=1)
    return images, labels, classes, points, torch.randint(n, (3, n))


def _rolled(n):
    return torch.stack([torch.arange(n).roll(shift) for shift in (1, 2, 3)])


@chapter.exercise(
    observe=_images_and_targets,
    cases=lambda: [
        Case(
            "five images of 3×6×8, five classes",
            torch.randn(5, 3, 6, 8),
            torch.arange(5),
            5,
            _quarters(5, 3, 6, 8, 5)[3],
            _rolled(5),
        ),
        Case(
            "one class twice",
            torch.randn(4, 1, 8, 9),
            torch.tensor([0, 1, 1, 2]),
            3,
            _quarters(4, 1, 8, 9, 3)[3],
            _rolled(4),
        ),
        Case("as many images as rows and columns", *_quarters(4, 3, 4, 4, 6)),
        Case(
            "points in the corners",
            *_quarters(4, 1, 5, 7, 4)[:3],
            torch.tensor([[0, 0], [0, 7], [5, 0], [5, 7]]),
            _rolled(4),
        ),
        Case("one image", *_quarters(1, 3, 5, 4, 3)),
        Case("nine images, ten classes", *_quarters(9, 1, 7, 5, 10)),
    ],
)
def ricap(images, labels, classes, points, partners):
    height, width = images.shape[-2:]
    above = (torch.arange(height) < points[:, :1])[:, None, :, None]
    left = (torch.arange(width) < points[:, 1:])[:, None, None, :]
    masks = torch.stack([above & left, above & ~left, ~above & left, ~above & ~left]).float()
    sources = torch.cat([torch.arange(len(images))[None], partners])
    shares = masks.mean(dim=(2, 3, 4))
    targets = F.one_hot(labels, classes).float()
    return (
        (masks * images[sources]).sum(dim=0),
        (shares[:, :, None] * targets[sources]).sum(dim=0),
    )
