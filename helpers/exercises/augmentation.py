"""The exercises of chapter 07: what a change of an input does to its label."""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from helpers import augment
from helpers.exercises.compare import Words
from helpers.exercises.engine import Case, Exercise, Prediction

# Where the label goes ---------------------------------------------------------------------------

mirror = Exercise(
    "augmentation.mirror",
    title="Mirror a face, and what is known of it",
    stars=2,
    minutes=8,
    ask="""
    A network is to find five points in a face. `images` are `(n, c, h, w)`, and `points` are
    `(n, 5, 2)`: column and row of *left eye, right eye, nose, left corner and right corner of the
    mouth*, in this order. Left is the left of the person. Columns are counted from 0, the leftmost,
    to `w - 1`.

    Write `mirror(images, points, flip)`: mirror left to right the images for which `flip`, a bool
    tensor `(n,)`, is true, and return the new images and the points that are true for them. The
    arguments stay as they are.
    """,
    hints=(
        "Take a face of width 4 with a point in column 0. In which column is it in the mirror? "
        "And one in column 3?",
        "Look into a mirror and close your left eye. Which eye has the person in the mirror "
        "closed?",
        "`points[:, [1, 0, 2, 4, 3]]` exchanges rows. `torch.where(flip[:, None, None], a, b)` "
        "chooses face by face.",
    ),
    cases=lambda: [
        Case("one face of 4 × 4, mirrored", *_faces(1, 4, 4, [True])),
        Case("three faces of 6 × 5, the second mirrored", *_faces(3, 6, 5, [False, True, False])),
        Case("two faces of 5 × 8, both mirrored", *_faces(2, 5, 8, [True, True])),
        Case("two faces, none mirrored", *_faces(2, 4, 6, [False, False])),
    ],
    takeaway="A label is true or false *for an image*. Whatever moves pixels moves every label "
    "that speaks of places, and whatever mirrors exchanges every label that speaks of sides.",
)


def _faces(n, height, width, flip):
    images = torch.rand(n, 3, height, width)
    points = torch.rand(n, 5, 2) * torch.tensor([width - 1.0, height - 1.0])
    return images, points, torch.tensor(flip)


@mirror.starter
def mirror(images, points, flip):
    """Returns the new images and the new points."""
    ...


@mirror.reference
def mirror(images, points, flip):
    columns, rows = points.unbind(dim=-1)
    mirrored = torch.stack([images.shape[-1] - 1 - columns, rows], dim=-1)
    mirrored = mirrored[:, [1, 0, 2, 4, 3]]
    chosen = flip[:, None, None]
    return torch.where(chosen[..., None], images.flip(-1), images), torch.where(
        chosen, mirrored, points
    )


@mirror.also_right
def face_by_face(images, points, flip):
    images, points = images.clone(), points.clone()
    for i in flip.nonzero()[:, 0]:
        images[i] = images[i].flip(-1)
        points[i, :, 0] = images.shape[-1] - 1 - points[i, :, 0]
        points[i] = points[i, torch.tensor([1, 0, 2, 4, 3])]
    return images, points


def _mirrored(images, points, flip, columns=None, order=(1, 0, 2, 4, 3), rows=None):
    """The reference with parts of it exchanged."""
    new = points.clone()
    new[..., 0] = images.shape[-1] - 1 - points[..., 0] if columns is None else columns
    if rows is not None:
        new[..., 1] = rows
    new, chosen = new[:, list(order)], flip[:, None, None]
    return torch.where(chosen[..., None], images.flip(-1), images), torch.where(chosen, new, points)


@mirror.mistake(
    "The images are mirrored, the points are still those of the old ones: every label is now wrong."
)
def points_stay(images, points, flip):
    return _mirrored(images, points, flip, columns=points[..., 0], order=range(5))


@mirror.mistake(
    "The columns are mirrored, but the names are not: in the mirror, the person's left eye is "
    "where the right eye of the new person is. Exchange the two eyes and the two corners of the "
    "mouth."
)
def sides_stay(images, points, flip):
    return _mirrored(images, points, flip, order=range(5))


@mirror.mistake(
    "The eyes have changed places, the corners of the mouth have not: they have a left and a right "
    "as well."
)
def mouth_stays(images, points, flip):
    return _mirrored(images, points, flip, order=(1, 0, 2, 3, 4))


@mirror.mistake(
    "The corners of the mouth have changed places, the eyes have not: they have a left and a right "
    "as well."
)
def eyes_stay(images, points, flip):
    return _mirrored(images, points, flip, order=(0, 1, 2, 4, 3))


@mirror.mistake(
    "You subtract the columns from the *height*. They run along the width: `images.shape[-1] - 1`."
)
def height_for_width(images, points, flip):
    return _mirrored(images, points, flip, columns=images.shape[-2] - 1 - points[..., 0])


@mirror.mistake(
    "Your points are off by one pixel. Column 0 becomes the last column, and that is `w - 1`."
)
def off_by_one(images, points, flip):
    return _mirrored(images, points, flip, columns=images.shape[-1] - points[..., 0])


@mirror.mistake(
    "Two things are left: columns run to `w - 1`, so your points are off by one pixel; and left "
    "and right must change places in the order of the points."
)
def off_by_one_and_sides_stay(images, points, flip):
    columns = images.shape[-1] - points[..., 0]
    return _mirrored(images, points, flip, columns=columns, order=range(5))


@mirror.mistake("You mirror every face. Only those are asked for where `flip` is true.")
def mirrors_all(images, points, flip):
    return _mirrored(images, points, torch.ones_like(flip))


@mirror.mistake(
    "Your sides are exchanged, but the columns are not mirrored: the points still lie where they "
    "lay in the old image."
)
def only_sides(images, points, flip):
    return _mirrored(images, points, flip, columns=points[..., 0])


# One draw, or one for each ----------------------------------------------------------------------

one_draw = Prediction(
    "augmentation.one_draw",
    title="One draw for how many?",
    stars=1,
    minutes=4,
    ask="""
    ```python
    images = torch.rand(6, 1, 16, 16) + 0.1
    erase = v2.RandomErasing(p=1.0)
    flip = v2.RandomHorizontalFlip(p=0.5)
    ```

    `erase` sets a random rectangle to 0, and `flip` mirrors with probability one half. How many
    *different* rectangles are there among the six images, first when `erase` gets the batch, then
    when it gets one image at a time? And `flip(images)`, called a hundred times: which numbers of
    mirrored images do you see? Write a set, such as `{1, 2}`.
    """,
    blank="""{
    "rectangles in erase(images)": ...,
    "rectangles in torch.stack([erase(image) for image in images])": ...,
    "images mirrored by flip(images)": ...,
}""",
    hints=(
        "A transform of `v2` draws its parameters when it is *called*. How often is it called?",
        "The batch is one call with one draw, whatever its first dimension is.",
    ),
    takeaway="A transform of `v2` draws once a call. In a data set, it is called for each image; "
    "on a batch, all images share one fate. What acts on batches must draw for each image itself.",
)


@one_draw.reference
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


@one_draw.mistake(
    "The batch is one call, and a call draws one rectangle: all six images lose the same place."
)
def each_its_own():
    return {"rectangles in erase(images)": 6}


@one_draw.mistake(
    "One at a time there are six calls and six draws. (That is what happens in a data set.)"
)
def one_for_all():
    return {"rectangles in torch.stack([erase(image) for image in images])": 1}


@one_draw.mistake(
    "Mirroring is decided once for the whole batch: all six images are mirrored, or none is."
)
def any_number():
    return {"images mirrored by flip(images)": set(range(7))}


@one_draw.mistake(
    "One half is the share of *calls* that mirror, not of the images in one call: all are "
    "mirrored, or none is."
)
def always_half():
    return {"images mirrored by flip(images)": {3}}


# Before or after normalising --------------------------------------------------------------------

order = Prediction(
    "augmentation.order",
    title="Before or after Normalize?",
    stars=1,
    minutes=4,
    ask="""
    ```python
    normalise = v2.Normalize([0.4], [0.2])
    ```

    For each change, with the same random draws: is `change(normalise(images))` the same as
    `normalise(change(images))`, up to rounding? Write `True` or `False`.
    """,
    blank="""{
    "MixUp": ...,
    "CutMix": ...,
    "Cutout, filled with 0": ...,
    "rotation, corners filled with 0": ...,
}""",
    hints=(
        "`normalise` computes `(x - 0.4) / 0.2`. Put a weighted mean of two pixels in, with "
        "weights that sum to 1.",
        "What is 0 before normalising, and what is it afterwards? Black, or the mean grey?",
    ),
    takeaway="What averages or moves pixels commutes with normalising. What *invents* pixels does "
    "not: a 0 is black before and the mean grey afterwards.",
)


@order.reference
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


@order.mistake(
    "MixUp's weights sum to 1, so a constant that is taken from every pixel is taken from the mix "
    "as well. The two agree."
)
def mixing_depends():
    return {"MixUp": False}


@order.mistake(
    "CutMix moves pixels that are there into another image. Normalising each of them before or "
    "after is the same."
)
def pasting_depends():
    return {"CutMix": False}


@order.mistake(
    "A hole of zeros is black before normalising, and `(0 - 0.4) / 0.2 = -2` afterwards. Cut after "
    "normalising, and it is 0: the mean grey. The two differ."
)
def holes_do_not_care():
    return {"Cutout, filled with 0": True}


@order.mistake(
    "A rotation moves pixels, and it also invents the corners. Those are black if you rotate "
    "first, and the mean grey if you normalise first."
)
def corners_do_not_care():
    return {"rotation, corners filled with 0": True}


# Mixing -----------------------------------------------------------------------------------------

mixup = Exercise(
    "augmentation.mixup",
    title="MixUp",
    stars=2,
    minutes=10,
    ask="""
    From the paper (Zhang et al., 2018): $\\tilde x = λx_i + (1-λ)x_j$ and
    $\\tilde y = λy_i + (1-λ)y_j$, where $y_i$ and $y_j$ are one-hot.

    Write `mixup(images, labels, classes, shares, partners)`. `images` are `(n, c, h, w)`, `labels`
    class numbers `(n,)`, `classes` how many there are. Image `i` keeps `shares[i]` of itself, which
    is its λ, and gets the rest from image `partners[i]`. Return the mixed images and the targets,
    float32 `(n, classes)`. The arguments stay as they are.
    """,
    hints=(
        "`F.one_hot(labels, classes).float()` gives $y$ for all images at once. From there on, "
        "images and targets are treated alike.",
        "`images[partners]` are all partners in order; `one_hot[partners]` are theirs.",
        "`shares` has shape `(n,)`. Against `(n, c, h, w)` it is compared with the *last* "
        "dimension: give it three more dimensions of size 1.",
    ),
    help=(
        (
            "<code>The size of tensor a must match the size of tensor b</code>",
            "Shapes are compared from the right. `shares[:, None, None, None]` has shape "
            "`(n, 1, 1, 1)`.",
        ),
    ),
    cases=lambda: [
        Case("five images of 3×6×7, three classes", *_batch(5, 3, 6, 7, 3)),
        Case("as many images as columns", *_batch(4, 1, 4, 4, 3)),
        Case("shares of 0 and 1", *_batch(2, 1, 3, 5, 2)[:3], torch.tensor([0.0, 1.0]), _rolled(2)),
        Case("a partner of the same class", *_batch(3, 1, 3, 5, 4, labels=[1, 1, 2])),
        Case("an image that is its own partner", *_batch(3, 1, 3, 5, 3)[:4], torch.arange(3)),
    ],
    takeaway="One formula, applied to the image and to its label, with the same λ and the same "
    "partner. The label becomes a share, not a second label.",
)


def _rolled(n):
    return torch.arange(n).roll(1)


def _batch(n, c, height, width, classes, labels=None):
    labels = torch.randint(classes, (n,)) if labels is None else torch.tensor(labels)
    shares = torch.linspace(0.15, 0.8, n)
    # normalised images, which leave [0, 1]
    return torch.randn(n, c, height, width), labels, classes, shares, _rolled(n)


@mixup.starter
def mixup(images, labels, classes, shares, partners):
    """Returns the mixed images and the targets, (n, classes)."""
    ...


@mixup.reference
def mixup(images, labels, classes, shares, partners):
    targets = F.one_hot(labels, classes).float()
    of_images, of_targets = shares[:, None, None, None], shares[:, None]
    return (
        of_images * images + (1 - of_images) * images[partners],
        of_targets * targets + (1 - of_targets) * targets[partners],
    )


@mixup.also_right
def one_by_one(images, labels, classes, shares, partners):
    mixed, targets = torch.empty_like(images), torch.zeros(len(images), classes)
    for i, (share, partner) in enumerate(zip(shares.tolist(), partners.tolist(), strict=True)):
        mixed[i] = torch.lerp(images[partner], images[i], share)
        targets[i, labels[i]] += share
        targets[i, labels[partner]] += 1 - share
    return mixed, targets


def _mix(images, shares, partners):
    shares = shares[:, None, None, None]
    return shares * images + (1 - shares) * images[partners]


def _mixed_targets(labels, classes, shares, partners):
    targets = F.one_hot(labels, classes).float()
    return shares[:, None] * targets + (1 - shares[:, None]) * targets[partners]


@mixup.mistake(
    "The images are mixed and the labels are not: a picture that is mostly a 3 is still called a 7."
)
def labels_stay(images, labels, classes, shares, partners):
    return _mix(images, shares, partners), F.one_hot(labels, classes).float()


@mixup.mistake(
    "Your shares are the wrong way round: image `i` keeps `shares[i]` of *itself*. (With shares "
    "drawn from Beta(α, α) that makes no difference on average, but here they are given.)"
)
def the_wrong_way_round(images, labels, classes, shares, partners):
    return mixup_right(images, labels, classes, 1 - shares, partners)


@mixup.mistake(
    "The images keep `shares`, but the targets keep `1 - shares`: whatever fills most of the image "
    "gets the smaller part of the label."
)
def targets_the_wrong_way_round(images, labels, classes, shares, partners):
    return _mix(images, shares, partners), _mixed_targets(labels, classes, 1 - shares, partners)


@mixup.mistake(
    "Your targets name only the class with the larger share. MixUp's target is soft: λ for one "
    "class, 1 - λ for the other."
)
def the_larger_share_wins(images, labels, classes, shares, partners):
    larger = torch.where(shares >= 0.5, labels, labels[partners])
    return _mix(images, shares, partners), F.one_hot(larger, classes).float()


@mixup.mistake(
    "Your targets are 1 for both classes: two labels, each true. MixUp's target sums to 1, with "
    "the shares λ and 1 - λ."
)
def both_labels(images, labels, classes, shares, partners):
    targets = F.one_hot(labels, classes).float()
    return _mix(images, shares, partners), torch.maximum(targets, targets[partners])


@mixup.mistake(
    "You mix class *numbers*. Half a 3 and half a 9 is no 6: make them one-hot first, then mix."
)
def numbers_mixed(images, labels, classes, shares, partners):
    return _mix(images, shares, partners), shares * labels + (1 - shares) * labels[partners]


@mixup.mistake(
    "`shares * images` compares `(n,)` with the last dimension of the images: λ belongs to a "
    "column there, not to an image. Where an image has as many columns as the batch has images, "
    "nothing is raised. Use `shares[:, None, None, None]`."
)
def shares_along_the_columns(images, labels, classes, shares, partners):
    mixed = shares * images + (1 - shares) * images[partners]
    return mixed, _mixed_targets(labels, classes, shares, partners)


@mixup.mistake(
    "The partners of the labels are not those of the images. One `partners` for both, or the label "
    "speaks of an image that is not there."
)
def other_partners_for_labels(images, labels, classes, shares, partners):
    return _mix(images, shares, partners), _mixed_targets(labels, classes, shares, partners.flip(0))


@mixup.mistake(
    "Where image and partner have the same class, your second assignment overwrites the first, and "
    "the target no longer sums to 1. Add the shares."
)
def overwritten(images, labels, classes, shares, partners):
    targets, rows = torch.zeros(len(images), classes), torch.arange(len(images))
    targets[rows, labels] = shares
    targets[rows, labels[partners]] = 1 - shares
    return _mix(images, shares, partners), targets


@mixup.mistake(
    "You use the first image's λ for all of them. Each image has a share of its own here."
)
def one_share_for_all(images, labels, classes, shares, partners):
    return mixup_right(images, labels, classes, shares[:1].expand_as(shares), partners)


@mixup.mistake(
    "You write the mixed images over those that are still needed: a later image gets a partner "
    "that has been mixed already. Read from `images`, write into a new tensor."
)
def partners_already_mixed(images, labels, classes, shares, partners):
    mixed = images.clone()
    for i, (share, partner) in enumerate(zip(shares.tolist(), partners.tolist(), strict=True)):
        mixed[i] = share * mixed[i] + (1 - share) * mixed[partner]
    return mixed, _mixed_targets(labels, classes, shares, partners)


@mixup.mistake(
    "You write the mixed images and targets over those that are still needed: a later image gets a "
    "partner that has been mixed already. Read from the old ones, write into new tensors."
)
def all_partners_already_mixed(images, labels, classes, shares, partners):
    mixed, targets = images.clone(), F.one_hot(labels, classes).float()
    for i, (share, partner) in enumerate(zip(shares.tolist(), partners.tolist(), strict=True)):
        for one in (mixed, targets):
            one[i] = share * one[i] + (1 - share) * one[partner]
    return mixed, targets


@mixup.mistake(
    "You work in place: after the first step, `images[partners]` is no longer what was handed in, "
    "and the caller's batch is gone. Make new tensors."
)
def scaled_in_place(images, labels, classes, shares, partners):
    of_images = shares[:, None, None, None]
    images *= of_images
    images += (1 - of_images) * images[partners]
    return images, _mixed_targets(labels, classes, shares, partners)


def mixup_right(images, labels, classes, shares, partners):
    return _mix(images, shares, partners), _mixed_targets(labels, classes, shares, partners)


floor = Prediction(
    "augmentation.floor",
    title="A perfect model, trained with MixUp",
    stars=1,
    minutes=4,
    ask="""
    λ is uniform between 0 and 1, and the two images always have different classes. A perfect model
    sees in each mixed image what is in it: for its two classes it predicts λ and 1 - λ.

    - Is its cross-entropy against the soft targets 0?
    - Another model is sure of the class with the larger share: it gives it 99.9 %. Is *its*
      cross-entropy smaller than the perfect model's?
    - How often, in %, does the perfect model's favourite class agree with the image's own label,
      the one with share λ? Round to the nearest ten.
    """,
    blank="""{
    "the perfect model's loss is 0": ...,
    "the sure model's loss is smaller": ...,
    "agreement with the own label, in %": ...,
}""",
    hints=(
        "Cross-entropy against a soft target is least where prediction and target are equal. What "
        "is left there is the target's entropy.",
        "The own label has the larger share when λ is above one half.",
    ),
    takeaway="With soft targets the loss has a floor, their entropy, and accuracy against the own "
    "labels means nothing. Judge a model trained with mixing on images that are not mixed.",
)


@floor.reference
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


@floor.mistake(
    "A target of 0.7 and 0.3 has an entropy, and no prediction gets below it: not even the right "
    "one. MixUp's training loss ends at a floor above 0."
)
def no_floor():
    return {"the perfect model's loss is 0": True}


@floor.mistake(
    "Cross-entropy asks for the shares, and being sure costs: the class with the smaller share "
    "often has 20 or 40 %, and gets 0.1 %."
)
def sure_is_better():
    return {"the sure model's loss is smaller": True}


@floor.mistake(
    "It agrees with the *larger* share, always. The own label has the larger share in every second "
    "image only, since λ is as often below one half as above."
)
def always_agrees():
    return {"agreement with the own label, in %": 100}


# Pasting ----------------------------------------------------------------------------------------

cutmix = Exercise(
    "augmentation.cutmix",
    title="Bug hunt: the CutMix that circulates",
    stars=3,
    minutes=15,
    ask="""
    This function runs, the loss falls, and its labels are false. It should paste a box from another
    image of the batch into each image. The box has the image's proportions and would cover 1 - λ of
    it, with λ from Beta(`alpha`, `alpha`); every pixel is as likely to be its centre, and what lies
    outside is cut off. Each target names the classes of what is really there, in proportion to the
    pixels. Targets are float32.

    Four things are wrong. Mend them. (One λ and one box for the whole batch are fine.)
    """,
    start="This is still the function as it was given. Hand it six images, each filled with its "
    "own number, and look at what comes out beside the targets.",
    hints=(
        "Test images that tell on it: `torch.arange(6.0).view(6, 1, 1, 1).repeat(1, 1, 8, 8)` "
        "with `torch.arange(6)` as labels. Each pixel then says where it comes from.",
        "A box with sides half as long as the image's covers a quarter of it, not half.",
        "`torch.randperm` appears twice. And the box that is pasted is often smaller than the one "
        "that λ asked for.",
        "Whoever handed the batch in still holds it.",
    ),
    cases=lambda: [
        Case("4 images of 20 × 12, many draws", 4, 20, 12),
        Case("4 images of 12 × 20, many draws", 4, 12, 20),
    ],
    takeaway="Count the pixels that are really pasted: λ is what was asked for, the box is what "
    "you got. One permutation, drawn once. And `images[...] = ` changes the caller's batch.",
)


@cutmix.observe
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


@cutmix.starter
def cutmix(images, labels, classes, alpha=1.0):
    """Returns the images with a box pasted into each, and their targets, (n, classes)."""
    n, _, height, width = images.shape
    share = torch.distributions.Beta(alpha, alpha).sample().item()  # λ
    box_height, box_width = int(height * (1 - share)), int(width * (1 - share))
    row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
    top, bottom = max(row - box_height // 2, 0), min(row + box_height // 2, height)
    left, right = max(column - box_width // 2, 0), min(column + box_width // 2, width)

    others = images[torch.randperm(n)]
    images[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]

    targets = F.one_hot(labels, classes).float()
    targets = share * targets + (1 - share) * targets[torch.randperm(n)]
    return images, targets


@cutmix.reference
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


@cutmix.also_right
def a_box_for_each(images, labels, classes, alpha=1.0):
    return augment.cutmix(images, F.one_hot(labels, classes).float(), alpha)


@cutmix.also_right
def by_torchvision(images, labels, classes, alpha=1.0):
    return v2.CutMix(alpha=alpha, num_classes=classes)(images, labels)


@cutmix.also_right
def a_box_for_each_by_hand(images, labels, classes, alpha=1.0):
    n, _, height, width = images.shape
    partners, targets = torch.randperm(n), F.one_hot(labels, classes).float()
    pasted, mixed = images.clone(), targets.clone()
    for i, partner in enumerate(partners.tolist()):
        side = (1 - torch.distributions.Beta(alpha, alpha).sample().item()) ** 0.5
        row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
        rows = slice(max(row - int(height * side / 2), 0), row + int(height * side / 2))
        columns = slice(max(column - int(width * side / 2), 0), column + int(width * side / 2))
        pasted[i, :, rows, columns] = images[partner, :, rows, columns]
        share = images[0, 0, rows, columns].numel() / (height * width)
        mixed[i] = (1 - share) * targets[i] + share * targets[partner]
    return pasted, mixed


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


ricap = Exercise(
    "augmentation.ricap",
    title="A method you have not seen: RICAP",
    stars=3,
    minutes=15,
    ask="""
    Takahashi et al. (2018) put four images together. A point divides the image into four parts. The
    image itself fills the one above and to the left of it; three partners fill the others, each
    with the part of it that lies there (the paper also shifts them, we do not). The label follows
    the areas.

    Write `ricap(images, labels, classes, points, partners)`. `images` are `(n, c, h, w)`, `labels`
    `(n,)`. `points`, int `(n, 2)`, hold a row and a column for each image: the upper parts are the
    rows *before* that row, the left parts the columns *before* that column. `partners`, int
    `(3, n)`, are the images for above right, below left and below right. Return new images, and
    targets, float32 `(n, classes)`.
    """,
    hints=(
        "For each image you need four masks. `torch.arange(h) < row` says which rows are above; "
        "with `points[:, :1]` it says so for all images at once.",
        "The upper left mask is `above[:, None, :, None] & left[:, None, None, :]`; for the other "
        "three, turn one or both round with `~`.",
        "The mean of a mask over its pixels is the share of its image in the label. Sum share × "
        "one-hot over the four.",
    ),
    cases=lambda: [
        Case("five images of 3×6×8, five classes", *_quarters(5, 3, 6, 8, 5, [0, 1, 2, 3, 4])),
        Case("one class twice", *_quarters(4, 1, 8, 8, 3, [0, 1, 1, 2])),
        Case("as many images as rows and columns", *_quarters(4, 1, 4, 4, 4, [3, 1, 0, 2])),
        Case("points in the corners", *_quarters(4, 1, 5, 7, 4, [0, 1, 2, 3], corners=True)),
    ],
    takeaway="Whatever is mixed: masks that sum to 1 at every pixel, and a label with the mean of "
    "each mask. MixUp's mask is constant, CutMix's is a box, and the next paper's is something "
    "else.",
)


def _quarters(n, c, height, width, classes, labels, corners=False):
    points = torch.stack([torch.randint(1, height, (n,)), torch.randint(1, width, (n,))], dim=1)
    if corners:
        points = torch.tensor([[0, 0], [0, width], [height, 0], [height, width]])
    partners = torch.stack([torch.arange(n).roll(shift) for shift in (1, 2, 3)])
    return torch.randn(n, c, height, width), torch.tensor(labels), classes, points, partners


@ricap.starter
def ricap(images, labels, classes, points, partners):
    """Returns the new images and their targets, (n, classes)."""
    ...


@ricap.reference
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


@ricap.also_right
def image_by_image(images, labels, classes, points, partners):
    return _ricap(images, labels, classes, points, partners)


@ricap.mistake(
    "Your targets give each of the four a quarter. They share the label as they share the pixels."
)
def a_quarter_each(images, labels, classes, points, partners):
    return _ricap(images, labels, classes, points, partners, share=lambda part, r, c: 0.25)


@ricap.mistake(
    "Where two of the four have the same class, the second overwrites the first in your targets, "
    "and they no longer sum to 1. Add the shares up."
)
def one_class_overwritten(images, labels, classes, points, partners):
    def put(target, labels, i, j, area):
        target[labels[j]] = area

    return _ricap(images, labels, classes, points, partners, put=put)


@ricap.mistake(
    "The whole label still goes to the image's own class, though most pixels may be others'."
)
def own_label_only(images, labels, classes, points, partners):
    def put(target, labels, i, j, area):
        target[labels[i]] += area

    return _ricap(images, labels, classes, points, partners, put=put)


@ricap.mistake(
    "Above right and below left are exchanged: `partners[0]` goes above right, `partners[1]` below "
    "left."
)
def corners_exchanged(images, labels, classes, points, partners):
    return _ricap(images, labels, classes, points, partners, order=(1, 0, 2))


@ricap.mistake(
    "The pixels are right. In the targets, above right and below left have each other's share: "
    "rows are `points[:, 0]` and go with the height, columns `points[:, 1]` and go with the width."
)
def shares_exchanged(images, labels, classes, points, partners):
    def share(part, row, column):
        return (row * column, (1 - row) * column, row * (1 - column), (1 - row) * (1 - column))[
            part
        ]

    return _ricap(images, labels, classes, points, partners, share=share)


@ricap.mistake(
    "You divide every image at the first image's point. Each has its own row of `points`."
)
def one_point_for_all(images, labels, classes, points, partners):
    return _ricap(images, labels, classes, points[:1].expand_as(points), partners)


@ricap.mistake("Row and column are exchanged: `points[:, 0]` is a row, which divides the height.")
def row_for_column(images, labels, classes, points, partners):
    height, width = images.shape[-2:]
    exchanged = torch.minimum(points.flip(1), torch.tensor([height, width]))
    return _ricap(images, labels, classes, exchanged, partners)


@ricap.mistake(
    "The row and the column of the point itself belong to the lower and right parts: before means "
    "`<`, not `<=`."
)
def point_included(images, labels, classes, points, partners):
    height, width = images.shape[-2:]
    later = torch.minimum(points + 1, torch.tensor([height, width]))
    return _ricap(images, labels, classes, later, partners)


# Agreeing ---------------------------------------------------------------------------------------

jsd = Exercise(
    "augmentation.jsd",
    title="How much three predictions disagree",
    stars=2,
    minutes=10,
    ask="""
    AugMix compares what a model predicts for three views of an image. With $p_1, p_2, p_3$ the
    predicted distributions and $m$ their mean, the **Jensen-Shannon divergence** is

    $$\\tfrac13\\left(\\mathrm{KL}(p_1\\,\\|\\,m) + \\mathrm{KL}(p_2\\,\\|\\,m) +
    \\mathrm{KL}(p_3\\,\\|\\,m)\\right),\\qquad
    \\mathrm{KL}(p\\,\\|\\,m) = \\sum_c p_c\\,(\\log p_c - \\log m_c).$$

    Write `jsd(clean, first, second)`: three tensors of logits `(n, classes)`, the result a tensor
    without dimensions, the mean over the `n` samples. The value and its gradients must be finite,
    also where a logit is 200 and a probability rounds to 0.
    """,
    hints=(
        "`log_softmax(dim=1)` gives $\\log p$ and never gives -inf where `softmax(dim=1).log()` "
        "does.",
        "$\\log m$ is `logsumexp` of the three $\\log p$, minus `math.log(3)`. No probability "
        "needs to be made and then logged.",
        "Sum over classes (`dim=-1`), mean over the three and over the samples.",
    ),
    help=(
        (
            "<code>nan</code> in the gradient",
            "Somewhere there is a `log` of a number that has rounded to 0. `nan_to_num` on the "
            "value does not help: the gradient still goes through the log.",
        ),
    ),
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
    takeaway="It is 0 where the three agree and at most log 3. A probability may round to 0, and "
    "a log that meets it takes value or gradient along; `log_softmax` and `logsumexp` never meet "
    "it.",
)


def _large_and_torn():
    torn = torch.tensor([[60.0, 55.0, 0.0], [55.0, 60.0, 0.0], [57.0, 57.0, 0.0]])
    return torch.stack([torn, torn + 240], dim=1)


def _one_sure():
    logits = 2 * torch.randn(3, 5, 3)
    logits[:, 2] = torch.tensor([200.0, 0.0, -200.0])
    return logits


@jsd.observe
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


@jsd.starter
def jsd(clean, first, second):
    """Returns a tensor without dimensions."""
    ...


@jsd.reference
def jsd(clean, first, second):
    log_p = torch.stack([clean, first, second]).log_softmax(dim=-1)
    log_m = log_p.logsumexp(dim=0) - math.log(3)
    return (log_p.exp() * (log_p - log_m)).sum(dim=-1).mean()


@jsd.also_right
def with_kl_div(clean, first, second):
    log_ps = [one.log_softmax(dim=1) for one in (clean, first, second)]
    log_m = torch.logaddexp(torch.logaddexp(log_ps[0], log_ps[1]), log_ps[2]) - math.log(3)
    parts = [F.kl_div(log_m, log_p, reduction="batchmean", log_target=True) for log_p in log_ps]
    return sum(parts) / 3


def _jsd_of(log_ps, log_m):
    parts = [(log_p.exp() * (log_p - log_m)).sum(dim=1).mean() for log_p in log_ps]
    return sum(parts) / 3


def _logs(*logits):
    return torch.stack(logits).log_softmax(dim=-1)


@jsd.mistake(
    "The formula is right, and where the model is sure it gives `nan`: a probability rounds to 0, "
    "its log is -inf, and 0 · -inf is nan. Stay in logs: `log_softmax`, `logsumexp`."
)
def log_of_softmax(clean, first, second):
    ps = [one.softmax(dim=1) for one in (clean, first, second)]
    m = sum(ps) / 3
    return sum((p * (p.log() - m.log())).sum(dim=1).mean() for p in ps) / 3


@jsd.mistake(
    "The values are right, and the gradient is nan where a probability has rounded to 0: going "
    "*backward*, its log is taken there, and 0 · log 0 is nan. One step later every weight is. "
    "Masking the value does not help, and `F.kl_div` with probabilities as its target (the form "
    "in the authors' code) does it inside. Stay in logs: `log_softmax`, `logsumexp`, and for "
    "`F.kl_div` `log_target=True`."
)
def as_it_circulates(clean, first, second):
    ps = [one.softmax(dim=1) for one in (clean, first, second)]
    log_m = (sum(ps) / 3).clamp(1e-7, 1).log()
    return sum(F.kl_div(log_m, p, reduction="batchmean") for p in ps) / 3


@jsd.mistake(
    "Your m is the *sum* of the three distributions: a third is missing, and each log of it is too "
    "large by log 3. Divide by 3, or take `math.log(3)` from the `logsumexp`."
)
def sum_for_mean(clean, first, second):
    log_ps = _logs(clean, first, second)
    return _jsd_of(log_ps, log_ps.logsumexp(dim=0))


@jsd.mistake(
    "You hand `F.kl_div` a logarithm as its target, and it takes that for a probability: the log "
    "of a negative number is nan. Say `log_target=True`."
)
def log_target_unsaid(clean, first, second):
    log_ps = _logs(clean, first, second)
    log_m = log_ps.logsumexp(dim=0) - math.log(3)
    return sum(F.kl_div(log_m, log_p, reduction="batchmean") for log_p in log_ps) / 3


@jsd.mistake(
    "Your divergences point the other way: KL(m ‖ p) has the weights of m. Here each p weighs its "
    "own logs. (`F.kl_div(a, b)` is KL(b ‖ a).)"
)
def the_other_way(clean, first, second):
    log_ps = _logs(clean, first, second)
    log_m = log_ps.logsumexp(dim=0) - math.log(3)
    return sum((log_m.exp() * (log_m - log_p)).sum(dim=1).mean() for log_p in log_ps) / 3


@jsd.mistake("You sum the three divergences. Their mean is asked for: a third of that.")
def not_divided_by_three(clean, first, second):
    log_ps = _logs(clean, first, second)
    return 3 * _jsd_of(log_ps, log_ps.logsumexp(dim=0) - math.log(3))


@jsd.mistake(
    "You average over the classes as well. A divergence sums over classes; only samples are "
    'averaged. (`F.kl_div` needs `reduction="batchmean"`, not `"mean"`.)'
)
def mean_over_classes(clean, first, second):
    log_ps = _logs(clean, first, second)
    return _jsd_of(log_ps, log_ps.logsumexp(dim=0) - math.log(3)) / clean.shape[1]


@jsd.mistake(
    "You sum over the samples. The loss would grow with the batch: take the mean over samples."
)
def sum_over_samples(clean, first, second):
    log_ps = _logs(clean, first, second)
    return _jsd_of(log_ps, log_ps.logsumexp(dim=0) - math.log(3)) * len(clean)


@jsd.mistake(
    "Your m is the mean of the *logs*, and that is no distribution: it does not sum to 1. Average "
    "the probabilities, then take the log: `logsumexp` minus log 3."
)
def mean_of_logs(clean, first, second):
    log_ps = _logs(clean, first, second)
    return _jsd_of(log_ps, log_ps.mean(dim=0))


@jsd.mistake(
    "Your m is the softmax of the mean logits. It is the mean of the three *distributions* that is "
    "asked for, and softmax does not commute with the mean."
)
def softmax_of_mean_logits(clean, first, second):
    mean = torch.stack([clean, first, second]).mean(dim=0)
    return _jsd_of(_logs(clean, first, second), mean.log_softmax(dim=1))


@jsd.mistake(
    "You compare the views with the clean one: KL(clean ‖ view). Jensen-Shannon compares all three "
    "with their mean, which keeps it below log 3 and treats the three alike."
)
def against_the_clean_one(clean, first, second):
    log_ps = _logs(clean, first, second)
    return sum((log_ps[0].exp() * (log_ps[0] - one)).sum(dim=1).mean() for one in log_ps[1:]) / 2


augmix_loss = Exercise(
    "augmentation.augmix_loss",
    title="Bug hunt: AugMix's loss, misread",
    stars=2,
    minutes=10,
    ask="""
    From the paper: the loss is the cross-entropy of the prediction for the *clean* image, plus 12
    times the Jensen-Shannon divergence of the predictions for the clean image and two AugMix
    versions of it. All three views go through the network in one batch.

    This program was written from memory. It trains, and AugMix seems to do nothing. Three things
    are wrong. Mend them.
    """,
    start="This is still the function as it was given. Which numbers does the model see when the "
    "divergence is computed?",
    hints=(
        "What does `augment.js_divergence` get here: predictions or pixels? Which gradient can "
        "that have?",
        "The model may hold BatchNorm. How often does it take statistics here, and from what?",
        "`torch.cat([images, first, second])` is one batch; `.chunk(3)` divides its logits.",
    ),
    cases=lambda: [
        Case("six images, a model with BatchNorm", *_views(6)),
        Case("three images, a model with BatchNorm", *_views(3)),
    ],
    takeaway="Consistency is asked of predictions. One forward pass gives the three views the same "
    "statistics of BatchNorm, and updates the running ones once.",
)


def _views(n):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU())
    model.append(nn.Linear(8, 5))
    images = torch.rand(n, 1, 4, 4)
    first, second = (images**2).flip(-1), (images * 0.5).flip(-2)
    return model, images, first, second, torch.randint(5, (n,))


@augmix_loss.observe
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


@augmix_loss.starter
def augmix_loss(model, images, first, second, labels):
    """`first` and `second` are AugMix versions of `images`; returns the loss."""
    logits = [model(view) for view in (images, first, second)]
    loss = F.cross_entropy(logits[1], labels)
    views = (view.flatten(start_dim=1) for view in (images, first, second))
    return loss + 12 * augment.js_divergence(*views)


@augmix_loss.reference
def augmix_loss(model, images, first, second, labels):
    """`first` and `second` are AugMix versions of `images`; returns the loss."""
    clean, one, two = model(torch.cat([images, first, second])).chunk(3)
    loss = F.cross_entropy(clean, labels)
    return loss + 12 * augment.js_divergence(clean, one, two)


@augmix_loss.also_right
def by_slices_and_logs(model, images, first, second, labels):
    n = len(images)
    log_p = model(torch.cat((images, first, second))).log_softmax(dim=1).unflatten(0, (3, n))
    log_m = log_p.logsumexp(dim=0) - math.log(3)
    divergence = (log_p.exp() * (log_p - log_m)).sum(dim=(0, 2)).mean() / 3
    return F.nll_loss(log_p[0], labels) + 12 * divergence


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
