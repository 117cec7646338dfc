"""The exercises of chapter 07: what a change of an input does to its label."""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from helpers import augment
from helpers.exercises import Case, Exercises, Words

chapter = Exercises(__file__)


# Where the label goes ---------------------------------------------------------------------------


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
    return torch.where(chosen[..., None], images.flip(-1), images), torch.where(
        chosen, mirrored, points
    )


def _mirrored(images, points, flip, columns=None, order=(1, 0, 2, 4, 3), rows=None):
    """The reference with parts of it exchanged."""
    new = points.clone()
    new[..., 0] = images.shape[-1] - 1 - points[..., 0] if columns is None else columns
    if rows is not None:
        new[..., 1] = rows
    new, chosen = new[:, list(order)], flip[:, None, None]
    return torch.where(chosen[..., None], images.flip(-1), images), torch.where(chosen, new, points)


def points_stay(images, points, flip):
    return _mirrored(images, points, flip, columns=points[..., 0], order=range(5))


def sides_stay(images, points, flip):
    return _mirrored(images, points, flip, order=range(5))


def mouth_stays(images, points, flip):
    return _mirrored(images, points, flip, order=(1, 0, 2, 3, 4))


def eyes_stay(images, points, flip):
    return _mirrored(images, points, flip, order=(0, 1, 2, 4, 3))


def height_for_width(images, points, flip):
    return _mirrored(images, points, flip, columns=images.shape[-2] - 1 - points[..., 0])


def off_by_one(images, points, flip):
    return _mirrored(images, points, flip, columns=images.shape[-1] - points[..., 0])


def off_by_one_and_sides_stay(images, points, flip):
    columns = images.shape[-1] - points[..., 0]
    return _mirrored(images, points, flip, columns=columns, order=range(5))


def mirrors_all(images, points, flip):
    return _mirrored(images, points, torch.ones_like(flip))


def only_sides(images, points, flip):
    return _mirrored(images, points, flip, columns=points[..., 0])


# One draw, or one for each ----------------------------------------------------------------------


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


def any_number():
    return {"images mirrored by flip(images)": set(range(7))}


def always_half():
    return {"images mirrored by flip(images)": {3}}


# Before or after normalising --------------------------------------------------------------------


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


# Mixing -----------------------------------------------------------------------------------------


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


def _mix(images, shares, partners):
    shares = shares[:, None, None, None]
    return shares * images + (1 - shares) * images[partners]


def _mixed_targets(labels, classes, shares, partners):
    targets = F.one_hot(labels, classes).float()
    return shares[:, None] * targets + (1 - shares[:, None]) * targets[partners]


def labels_stay(images, labels, classes, shares, partners):
    return _mix(images, shares, partners), F.one_hot(labels, classes).float()


def the_wrong_way_round(images, labels, classes, shares, partners):
    return mixup_right(images, labels, classes, 1 - shares, partners)


def targets_the_wrong_way_round(images, labels, classes, shares, partners):
    return _mix(images, shares, partners), _mixed_targets(labels, classes, 1 - shares, partners)


def the_larger_share_wins(images, labels, classes, shares, partners):
    larger = torch.where(shares >= 0.5, labels, labels[partners])
    return _mix(images, shares, partners), F.one_hot(larger, classes).float()


def both_labels(images, labels, classes, shares, partners):
    targets = F.one_hot(labels, classes).float()
    return _mix(images, shares, partners), torch.maximum(targets, targets[partners])


def numbers_mixed(images, labels, classes, shares, partners):
    return _mix(images, shares, partners), shares * labels + (1 - shares) * labels[partners]


def shares_along_the_columns(images, labels, classes, shares, partners):
    mixed = shares * images + (1 - shares) * images[partners]
    return mixed, _mixed_targets(labels, classes, shares, partners)


def other_partners_for_labels(images, labels, classes, shares, partners):
    return _mix(images, shares, partners), _mixed_targets(labels, classes, shares, partners.flip(0))


def overwritten(images, labels, classes, shares, partners):
    targets, rows = torch.zeros(len(images), classes), torch.arange(len(images))
    targets[rows, labels] = shares
    targets[rows, labels[partners]] = 1 - shares
    return _mix(images, shares, partners), targets


def one_share_for_all(images, labels, classes, shares, partners):
    return mixup_right(images, labels, classes, shares[:1].expand_as(shares), partners)


def partners_already_mixed(images, labels, classes, shares, partners):
    mixed = images.clone()
    for i, (share, partner) in enumerate(zip(shares.tolist(), partners.tolist(), strict=True)):
        mixed[i] = share * mixed[i] + (1 - share) * mixed[partner]
    return mixed, _mixed_targets(labels, classes, shares, partners)


def all_partners_already_mixed(images, labels, classes, shares, partners):
    mixed, targets = images.clone(), F.one_hot(labels, classes).float()
    for i, (share, partner) in enumerate(zip(shares.tolist(), partners.tolist(), strict=True)):
        for one in (mixed, targets):
            one[i] = share * one[i] + (1 - share) * one[partner]
    return mixed, targets


def scaled_in_place(images, labels, classes, shares, partners):
    of_images = shares[:, None, None, None]
    images *= of_images
    images += (1 - of_images) * images[partners]
    return images, _mixed_targets(labels, classes, shares, partners)


def mixup_right(images, labels, classes, shares, partners):
    return _mix(images, shares, partners), _mixed_targets(labels, classes, shares, partners)


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


# Pasting ----------------------------------------------------------------------------------------


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


HALVES = 120  # draws with λ near one half, and as many with any λ


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
    pasted = images.clone()
    pasted[:, :, top:bottom, left:right] = images[partners, :, top:bottom, left:right]

    share = 1 - (bottom - top) * (right - left) / (height * width)
    targets = F.one_hot(labels, classes).float()
    targets = share * targets + (1 - share) * targets[partners]
    return pasted, targets


def _cutmix(images, labels, classes, alpha, left=()):
    """CutMix in which the bugs named in ``left`` are left."""
    n, _, height, width = images.shape
    share = augment.beta(1.0 if "alpha" in left else alpha, 1).item()
    if "larger half" in left:
        share = max(share, 1 - share)
    side = (1 - share) ** (1.0 if "sides" in left else 0.5)
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    shorter = min(height, width)
    most = (shorter, shorter) if "shorter side" in left else (height, width)
    row, column = (int(torch.randint(side, ())) for side in most)
    if "middle" in left:
        row, column = height // 4 + row // 2, width // 4 + column // 2
    if "clamped centre" in left:
        row = min(max(row, half_height), height - half_height)
        column = min(max(column, half_width), width - half_width)
    rows = slice(max(row - half_height, 0), min(row + half_height, height))
    columns = slice(max(column - half_width, 0), min(column + half_width, width))
    partners = torch.randperm(n)
    pasted, others = images if "in place" in left else images.clone(), images[partners]
    if "upper left" in left:
        others = others.roll((rows.start, columns.start), dims=(2, 3))
    channels = slice(0, 1) if "one channel" in left else slice(None)
    pasted[:, channels, rows, columns] = others[:, channels, rows, columns]
    if "share" not in left:
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        share = 1 - area / (height * width)
    if "exchanged" in left:
        share = 1 - share
    targets = F.one_hot(labels, classes).float()
    of_labels = torch.randperm(n) if "permutations" in left else partners
    return pasted, share * targets + (1 - share) * targets[of_labels]


def _left(*bugs):
    def answer(images, labels, classes, alpha=1.0):
        return _cutmix(images, labels, classes, alpha, left=bugs)

    answer.__name__ = "left_" + "_".join(bugs).replace(" ", "_")
    return answer


cutmix.mistake(
    "One thing is left: the targets use λ as it was drawn. The box is rounded to whole pixels and "
    "cut off at the border, so less is pasted than λ says. Count the pixels and use their share."
)(_left("share"))

cutmix.mistake(
    "One thing is left: images and labels are permuted differently. Draw `torch.randperm(n)` once "
    "and use it for both."
)(_left("permutations"))

cutmix.mistake(
    "One thing is left: the function writes into the batch it was given. Work on `images.clone()`; "
    "next time around, the caller's images would hold old boxes."
)(_left("in place"))

cutmix.mistake(
    "One thing is left: the box has the wrong size. To cover 1 - λ of the area, each *side* has to "
    "be `sqrt(1 - λ)` of the image's."
)(_left("sides"))

_SYMPTOMS = {
    "sides": "where λ is one half, an uncut box covers a quarter of the image",
    "share": "the targets use λ as it was drawn, not the share of the pixels",
    "permutations": "the permutation is drawn twice",
    "in place": "the function writes into the batch it was given",
}

for _count, _word in ((2, "Two"), (3, "Three")):
    for _bugs in itertools.combinations(_SYMPTOMS, _count):
        _symptoms = "; ".join(_SYMPTOMS[bug] for bug in _bugs)
        cutmix.mistake(f"{_word} of the four things are left: {_symptoms}.")(_left(*_bugs))

cutmix.mistake(
    "The shares of the targets are the wrong way round: an image keeps what is *not* pasted over."
)(_left("exchanged"))

cutmix.mistake(
    "You draw λ without `alpha`: it decides how λ is spread, and at a large `alpha` nearly every λ "
    "is one half. `torch.distributions.Beta(alpha, alpha)`."
)(_left("alpha"))

cutmix.mistake(
    "Your boxes never touch the border: you move the centre inwards. The centre is anywhere in the "
    "image, so that its edges are covered as well; the box is cut off, and its area counted."
)(_left("clamped centre"))

cutmix.mistake(
    "The centres of your boxes come from the middle of the image, so its edges are hardly ever "
    "covered. Every pixel is as likely to be the centre: draw the row from 0 to the height, the "
    "column from 0 to the width."
)(_left("middle"))

cutmix.mistake(
    "Your λ is always the larger half, so no box covers more than half of an image. MixUp may do "
    "that, since its two images can change places; here, take λ as it is drawn."
)(_left("larger half"))

cutmix.mistake(
    "Your boxes leave a part of the image alone: their centres are not anywhere in it. Draw the "
    "row below the height, and the column below the width."
)(_left("shorter side"))

cutmix.mistake(
    "The box shows another *part* of the other image than the one that lies there. Take the same "
    "rows and columns from it."
)(_left("upper left"))

cutmix.mistake("You paste one channel only. A box is pasted with all its channels: `[:, :, …]`.")(
    _left("one channel")
)


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
    whom = torch.cat([torch.arange(len(images))[None], partners])
    shares = masks.mean(dim=(2, 3, 4))
    targets = F.one_hot(labels, classes).float()
    return (
        (masks * images[whom]).sum(dim=0),
        (shares[:, :, None] * targets[whom]).sum(dim=0),
    )


def _ricap(images, labels, classes, points, partners, share=None, put=None, order=(0, 1, 2)):
    """Image by image. ``share`` gives a part's share of the label, ``put`` writes it."""
    n, _, height, width = images.shape
    new, targets = torch.empty_like(images), torch.zeros(n, classes)
    for i, (row, column) in enumerate(points.tolist()):
        parts = [(slice(0, row), slice(0, column)), (slice(0, row), slice(column, width))]
        parts += [
            (slice(row, height), slice(0, column)),
            (slice(row, height), slice(column, width)),
        ]
        whom = [i, *(int(partners[place, i]) for place in order)]
        for number, ((rows, columns), j) in enumerate(zip(parts, whom, strict=True)):
            new[i, :, rows, columns] = images[j, :, rows, columns]
            area = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
            area = area if share is None else share(number, row / height, column / width)
            if put is None:
                targets[i, labels[j]] += area
            else:
                put(targets[i], labels, i, j, area)
    return new, targets


def a_quarter_each(images, labels, classes, points, partners):
    return _ricap(images, labels, classes, points, partners, share=lambda part, r, c: 0.25)


def one_class_overwritten(images, labels, classes, points, partners):
    def put(target, labels, i, j, area):
        target[labels[j]] = area

    return _ricap(images, labels, classes, points, partners, put=put)


def own_label_only(images, labels, classes, points, partners):
    def put(target, labels, i, j, area):
        target[labels[i]] += area

    return _ricap(images, labels, classes, points, partners, put=put)


def corners_exchanged(images, labels, classes, points, partners):
    return _ricap(images, labels, classes, points, partners, order=(1, 0, 2))


def shares_exchanged(images, labels, classes, points, partners):
    def share(part, row, column):
        return (row * column, (1 - row) * column, row * (1 - column), (1 - row) * (1 - column))[
            part
        ]

    return _ricap(images, labels, classes, points, partners, share=share)


def one_point_for_all(images, labels, classes, points, partners):
    return _ricap(images, labels, classes, points[:1].expand_as(points), partners)


def row_for_column(images, labels, classes, points, partners):
    height, width = images.shape[-2:]
    exchanged = torch.minimum(points.flip(1), torch.tensor([height, width]))
    return _ricap(images, labels, classes, exchanged, partners)


def point_included(images, labels, classes, points, partners):
    height, width = images.shape[-2:]
    later = torch.minimum(points + 1, torch.tensor([height, width]))
    return _ricap(images, labels, classes, later, partners)


# Agreeing ---------------------------------------------------------------------------------------


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


def _jsd_of(log_ps, log_m):
    parts = [(log_p.exp() * (log_p - log_m)).sum(dim=1).mean() for log_p in log_ps]
    return sum(parts) / 3


def _logs(*logits):
    return torch.stack(logits).log_softmax(dim=-1)


def log_of_softmax(clean, first, second):
    ps = [one.softmax(dim=1) for one in (clean, first, second)]
    m = sum(ps) / 3
    return sum((p * (p.log() - m.log())).sum(dim=1).mean() for p in ps) / 3


def as_it_circulates(clean, first, second):
    ps = [one.softmax(dim=1) for one in (clean, first, second)]
    log_m = (sum(ps) / 3).clamp(1e-7, 1).log()
    return sum(F.kl_div(log_m, p, reduction="batchmean") for p in ps) / 3


def sum_for_mean(clean, first, second):
    log_ps = _logs(clean, first, second)
    return _jsd_of(log_ps, log_ps.logsumexp(dim=0))


def log_target_unsaid(clean, first, second):
    log_ps = _logs(clean, first, second)
    log_m = log_ps.logsumexp(dim=0) - math.log(3)
    return sum(F.kl_div(log_m, log_p, reduction="batchmean") for log_p in log_ps) / 3


def the_other_way(clean, first, second):
    log_ps = _logs(clean, first, second)
    log_m = log_ps.logsumexp(dim=0) - math.log(3)
    return sum((log_m.exp() * (log_m - log_p)).sum(dim=1).mean() for log_p in log_ps) / 3


def not_divided_by_three(clean, first, second):
    log_ps = _logs(clean, first, second)
    return 3 * _jsd_of(log_ps, log_ps.logsumexp(dim=0) - math.log(3))


def mean_over_classes(clean, first, second):
    log_ps = _logs(clean, first, second)
    return _jsd_of(log_ps, log_ps.logsumexp(dim=0) - math.log(3)) / clean.shape[1]


def sum_over_samples(clean, first, second):
    log_ps = _logs(clean, first, second)
    return _jsd_of(log_ps, log_ps.logsumexp(dim=0) - math.log(3)) * len(clean)


def mean_of_logs(clean, first, second):
    log_ps = _logs(clean, first, second)
    return _jsd_of(log_ps, log_ps.mean(dim=0))


def softmax_of_mean_logits(clean, first, second):
    mean = torch.stack([clean, first, second]).mean(dim=0)
    return _jsd_of(_logs(clean, first, second), mean.log_softmax(dim=1))


def against_the_clean_one(clean, first, second):
    log_ps = _logs(clean, first, second)
    return sum((log_ps[0].exp() * (log_ps[0] - one)).sum(dim=1).mean() for one in log_ps[1:]) / 2


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
    clean, one, two = model(torch.cat([images, first, second])).chunk(3)
    loss = F.cross_entropy(clean, labels)
    return loss + 12 * augment.js_divergence(clean, one, two)


def _augmix_loss(model, images, first, second, labels, left=()):
    if "passes" in left:
        logits = [model(view) for view in (images, first, second)]
    else:
        logits = model(torch.cat([images, first, second])).chunk(3)
    compared = logits
    if "pixels" in left:
        compared = [view.flatten(start_dim=1) for view in (images, first, second)]
    if "detached" in left:
        compared = [logits[0].detach(), *logits[1:]]
    if "probabilities" in left:
        compared = [one.softmax(dim=1) for one in logits]
    judged, answers = logits["first" in left], labels
    if "all" in left:
        judged, answers = torch.cat(list(logits)), labels.repeat(3)
    return F.cross_entropy(judged, answers) + 12 * augment.js_divergence(*compared)


def _loss_left(*bugs):
    def answer(model, images, first, second, labels):
        return _augmix_loss(model, images, first, second, labels, left=bugs)

    answer.__name__ = "loss_left_" + "_".join(bugs)
    return answer


augmix_loss.mistake(
    "One thing is left: three forward passes. BatchNorm normalises each view by its own "
    "statistics, which hides from the loss what AugMix changed, and it updates its running ones "
    "three times. Put the views into one batch."
)(_loss_left("passes"))

augmix_loss.mistake(
    "One thing is left: the divergence compares pixels. No weight of the model is in it, so its "
    "gradient is 0. Compare predictions."
)(_loss_left("pixels"))

augmix_loss.mistake(
    "One thing is left: the cross-entropy is taken on an augmented view. The label is asked of the "
    "clean image; the divergence carries it over to the others."
)(_loss_left("first"))

augmix_loss.mistake(
    "Two things are left: the model is called three times, and the cross-entropy is taken on an "
    "augmented view."
)(_loss_left("passes", "first"))

augmix_loss.mistake(
    "Two things are left: the model is called three times, and the divergence compares pixels, "
    "which no weight can change."
)(_loss_left("passes", "pixels"))

augmix_loss.mistake(
    "The cross-entropy is taken on all three views. The paper asks it of the clean image only; "
    "that the others get the same answer is the divergence's task."
)(_loss_left("all"))

augmix_loss.mistake(
    "You cut the clean prediction out of the divergence's gradient. The three are to meet, each "
    "moving towards the others."
)(_loss_left("detached"))

augmix_loss.mistake(
    "You hand probabilities to `js_divergence`, which takes a softmax itself: after two of them "
    "all predictions look alike. Hand in logits."
)(_loss_left("probabilities"))
