"""The exercises of chapter 07: what a change of an input does to its label."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from helpers import augment
from helpers.exercises import Case, Exercises, Words

chapter = Exercises(__file__)


def _faces(n, height, width, flip):
    images = torch.rand(n, 3, height, width)
    points = torch.rand(n, 5, 2) * torch.tensor([width - 1.0, height - 1.0])
    return images, points, torch.tensor(flip)


@chapter.exercise(
    cases=lambda: [
        Case("one face of 4 × 4, mirrored", *_faces(1, 4, 4, [True])),
        Case("three faces of 6 × 5, the second mirrored", *_faces(3, 6, 5, [False, True, False])),
        Case("two faces of 5 × 8, both mirrored", *_faces(2, 5, 8, [True, True])),
        Case("two faces, none mirrored", *_faces(2, 4, 6, [False, False])),
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


def always_three_mirrored():
    return {"images mirrored by flip(images)": {3}}


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


def _rolled(n):
    return torch.arange(n).roll(1)


def _batch(n, c, height, width, classes, labels=None):
    labels = torch.randint(classes, (n,)) if labels is None else torch.tensor(labels)
    shares = torch.linspace(0.15, 0.8, n)
    # normalised images, which leave [0, 1]
    return torch.randn(n, c, height, width), labels, classes, shares, _rolled(n)


@chapter.exercise(
    cases=lambda: [
        Case("five images of 3×6×7, three classes", *_batch(5, 3, 6, 7, 3)),
        Case("as many images as columns", *_batch(4, 1, 4, 4, 3)),
        Case("shares of 0 and 1", *_batch(2, 1, 3, 5, 2)[:3], torch.tensor([0.0, 1.0]), _rolled(2)),
        Case("a partner of the same class", *_batch(3, 1, 3, 5, 4, labels=[1, 1, 2])),
        Case("an image that is its own partner", *_batch(3, 1, 3, 5, 3)[:4], torch.arange(3)),
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


HALVES = 120  # draws with λ near one half, and as many with any λ


def _on_numbered_pixels(answer, n, height, width):
    """What holds for many draws. The margins are wide: no right answer fails by bad luck."""
    numbered = torch.arange(float(n * height * width)).view(n, 1, height, width)
    images = numbered + torch.tensor([0.0, 1000.0, 2000.0])[:, None, None]
    # Drawn at a large alpha, λ is near one half; at 1 it is anything.
    draws = [_drawn(answer, images, alpha) for alpha in [1e5] * HALVES + [1.0] * HALVES]
    shapes = {(tuple(pasted.shape), tuple(targets.shape)) for pasted, targets, _ in draws}
    found = {
        "the batch that was handed in stays as it is": all(same for _, _, same in draws),
        "shapes of images and targets": sorted(shapes),
    }
    if shapes != {((n, 3, height, width), (n, n))}:
        draws = [(images, torch.eye(n), True)] * len(draws)
    pasted, targets = (torch.stack(parts) for parts in list(zip(*draws, strict=True))[:2])
    number = pasted - (images - numbered)[0]
    whole = number.round().long().clamp(0, numbered.numel() - 1)
    owner = whole[:, :, 0] // (height * width)
    return {
        **found,
        "every pixel is that of one image, in all channels": bool(
            ((number - whole).abs() < 0.1).all() and (whole == whole[:, :, :1]).all()
        ),
        "every pixel stays in its place": bool(
            (whole % (height * width) == numbered[0].long()).all()
        ),
        **_of_boxes(owner),
        **_of_targets(owner, targets),
    }


def _drawn(answer, images, alpha):
    handed = images.clone()
    pasted, targets = answer(handed, torch.arange(len(images)), len(images), alpha)
    assert targets.dtype == torch.float32, f"the targets are {targets.dtype}, not torch.float32"
    return pasted.clone(), targets, torch.equal(handed, images)


def _of_boxes(owner):
    """``owner``: whose pixel it is, (draws, n, height, width)."""
    draws, n, height, width = owner.shape
    foreign = owner != torch.arange(n)[:, None, None]
    others = foreign.sum(dim=(2, 3))
    whom = torch.where(foreign, owner, -1).amax(dim=(2, 3))[..., None, None]
    halves = foreign[:HALVES][others[:HALVES] > 0]
    pasted = len(halves) > 0
    halves = halves if pasted else foreign[:HALVES].flatten(0, 1)
    (top, tall), (left, wide) = _extent(halves.any(dim=2)), _extent(halves.any(dim=1))
    uncut = (tall.max() * wide.max()).item() / (height * width)
    centres = torch.stack([_centre(top, tall, height), _centre(left, wide, width)])
    uncut_heights = tall[(top > 0) & (top + tall < height)]
    areas = others[HALVES:].amax(dim=1) / (height * width)
    return {
        "a box comes from one other image": bool(((owner == whom) | ~foreign).all()),
        "something is pasted": pasted,
        "what is pasted is a box": bool((tall * wide == halves.sum(dim=(1, 2))).all()),
        "at a large alpha, all uncut boxes are equally high": bool(
            len(uncut_heights) == 0 or uncut_heights.max() - uncut_heights.min() <= 2
        ),
        "an uncut box covers about 1 - λ": 0.38 < uncut < 0.62,
        "a box may cover more than half of the image": areas.max().item() > 0.5,
        "the border cuts boxes off": bool(tall.min() < tall.max() - 1),
        "centres are in the upper and left quarters, too": bool(
            ((centres < 0.25).float().mean(dim=1) > 0.07).all()
        ),
        "centres are in the lower and right quarters, too": bool(
            ((centres >= 0.75).float().mean(dim=1) > 0.07).all()
        ),
        "row and column are independent": bool(torch.corrcoef(centres)[0, 1].abs() < 0.6),
        "alpha decides how different λ is": areas.std().item() > 0.08,
    }


def _extent(lines):
    """The first line of each row of ``lines`` that is true, and how many there are to the last."""
    lines = lines.int()
    first = lines.argmax(dim=1)
    return first, lines.shape[1] - lines.flip(1).argmax(dim=1) - first


def _centre(first, length, side):
    """The centres as shares of the side, also of boxes that are cut off at one end."""
    half = length.max() / 2
    return torch.where(first > 0, first + half, first + length - half) / side


def _of_targets(owner, targets):
    n = owner.shape[1]
    pixels = F.one_hot(owner.flatten(2), n).float().mean(dim=2)
    own = torch.eye(n).bool()
    areas = F.pad((pixels * ~own).sum(dim=2), (0, 1))  # and nothing
    of_others = 1 - targets.diagonal(dim1=1, dim2=2)
    mixed = areas[:, :n] > 0
    nearest = (of_others[:, :, None] - areas[:, None]).abs().amin(dim=2)
    return {
        "the classes of a target are those in its image": bool(
            ((targets <= 1e-4) | (pixels > 0) | own)[mixed].all()
        ),
        "every target sums to 1": _close(targets.sum(dim=2), torch.ones(())),
        "the shares are those of an area that is pasted": bool(
            (nearest < 1e-4)[mixed.any(dim=1)].all()
        ),
        "the shares are the wrong way round": _close((1 - of_others)[mixed], areas[:, :n][mixed]),
        "the shares of a target are those of the pixels": _close(targets, pixels),
    }


def _close(a, b):
    return torch.allclose(a, b.expand_as(a), atol=1e-4)


@chapter.exercise(
    cases=lambda: [
        Case("4 images of 20 × 12, many draws", 4, 20, 12),
        Case("4 images of 12 × 20, many draws", 4, 12, 20),
    ],
    observe=_on_numbered_pixels,
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


def _quarters(n, c, height, width, classes, labels, corners=False):
    points = torch.stack([torch.randint(1, height, (n,)), torch.randint(1, width, (n,))], dim=1)
    if corners:
        points = torch.tensor([[0, 0], [0, width], [height, 0], [height, width]])
    partners = torch.stack([torch.arange(n).roll(shift) for shift in (1, 2, 3)])
    return torch.randn(n, c, height, width), torch.tensor(labels), classes, points, partners


@chapter.exercise(
    cases=lambda: [
        Case("five images of 3×6×8, five classes", *_quarters(5, 3, 6, 8, 5, [0, 1, 2, 3, 4])),
        Case("one class twice", *_quarters(4, 1, 8, 8, 3, [0, 1, 1, 2])),
        Case("as many images as rows and columns", *_quarters(4, 1, 4, 4, 4, [3, 1, 0, 2])),
        Case("points in the corners", *_quarters(4, 1, 5, 7, 4, [0, 1, 2, 3], corners=True)),
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


def _large_and_torn():
    torn = torch.tensor([[60.0, 55.0, 0.0], [55.0, 60.0, 0.0], [57.0, 57.0, 0.0]])
    return torch.stack([torn, torn + 240], dim=1)


def _one_sure():
    logits = 2 * torch.randn(3, 5, 3)
    logits[:, 2] = torch.tensor([200.0, 0.0, -200.0])
    return logits


def _with_gradients(answer, *logits):
    logits = [one.clone().requires_grad_() for one in logits]
    value = answer(*logits)
    if not isinstance(value, torch.Tensor) or value.shape != () or not value.requires_grad:
        gradients = 3 * [Words("none, without a single value that depends on the logits")]
    else:
        gradients = torch.autograd.grad(value, logits, allow_unused=True)
        gradients = [Words("no gradient comes back") if g is None else g for g in gradients]
    return {
        "value": value.detach() if isinstance(value, torch.Tensor) else value,
        "gradient by clean": gradients[0],
        "gradient by first": gradients[1],
        "gradient by second": gradients[2],
    }


@chapter.exercise(
    cases=lambda: [
        Case("six samples, four classes", *(2 * torch.randn(3, 6, 4)).unbind()),
        Case("three times the same", *torch.randn(1, 3, 5).expand(3, 3, 5).unbind()),
        Case("one sample", *(3 * torch.randn(3, 1, 3)).unbind()),
        Case("logits of 200", *(200.0 * torch.eye(3)[:, None].repeat(1, 2, 1)).unbind()),
        Case(
            "logits of 200, all sure of one class",
            *(torch.tensor([200.0, 0, -200]).repeat(3, 2, 1)),
        ),
        Case("large logits, and three views that disagree", *_large_and_torn().unbind()),
        Case("one sure sample among five", *_one_sure().unbind()),
    ],
    observe=_with_gradients,
)
def jsd(clean, first, second):
    log_p = torch.stack([clean, first, second]).log_softmax(dim=-1)
    log_m = log_p.logsumexp(dim=0) - math.log(3)
    return (log_p.exp() * (log_p - log_m)).sum(dim=-1).mean()


def _views(n):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU())
    model.append(nn.Linear(8, 5))
    images = torch.rand(n, 1, 4, 4)
    first, second = (images**2).flip(-1), (images * 0.5).flip(-2)
    return model, images, first, second, torch.randint(5, (n,))


def _loss_and_what_it_leaves(answer, model, images, first, second, labels):
    loss = answer(model, images, first, second, labels)
    norm = model[2]
    if not isinstance(loss, torch.Tensor) or loss.shape != () or not loss.requires_grad:
        return {"loss": loss}
    weights = list(model.parameters())
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    return {
        "batches that BatchNorm has counted": norm.num_batches_tracked.item(),
        "BatchNorm's running mean": norm.running_mean.clone(),
        "loss": loss.detach(),
        "gradient by the first weights": gradients[0],
        "gradient by the last weights": gradients[-2],
    }


@chapter.exercise(
    cases=lambda: [
        Case("six images, a model with BatchNorm", *_views(6)),
        Case("three images, a model with BatchNorm", *_views(3)),
    ],
    observe=_loss_and_what_it_leaves,
)
def augmix_loss(model, images, first, second, labels):
    """`first` and `second` are AugMix versions of `images`; returns the loss."""
    logits = model(torch.cat([images, first, second])).chunk(3)
    loss = F.cross_entropy(logits[0], labels)
    return loss + 12 * augment.js_divergence(*logits)
