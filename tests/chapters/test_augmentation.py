"""Answers to chapter 07 that a check could misjudge: right ones on many streams of random numbers,
and wrong ones that do most of what their prompt asks.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from helpers import augment
from chapters.augmentation import exercises as ex


def on_stream(answer, seed):
    """The answer, with random numbers of its own: what a card says must not hang on the draws."""
    seen = []

    def reseeded(images, *others):
        if images.shape not in seen:
            seen.append(images.shape)
            torch.manual_seed(100 * seed + len(seen))
        return answer(images, *others)

    return reseeded


def a_box_for_each_from_the_chapter(images, labels, classes, alpha=1.0):
    n, _, height, width = images.shape
    shares = torch.distributions.Beta(alpha, alpha).sample((n,))
    centres = torch.stack([torch.randint(side, (n,)) for side in (height, width)], dim=1)
    halves = augment.half_sides(shares, height, width)
    boxes = augment.boxes_around(centres, halves, height, width)
    return augment.paste(images, F.one_hot(labels, classes).float(), boxes, torch.randperm(n))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "answer",
    [ex.cutmix.answer_right, *ex.cutmix.alternatives, a_box_for_each_from_the_chapter],
)
def test_a_right_cutmix_is_right_whatever_is_drawn(answer, seed):
    card = ex.cutmix.check(on_stream(answer, seed))
    assert card.state == "right", card


@pytest.mark.parametrize("mistake", ex.cutmix.mistakes, ids=lambda one: one.answer.__name__)
def test_a_mistake_is_recognised_whatever_is_drawn(mistake):
    assert ex.cutmix.check(on_stream(mistake.answer, 5)).text == mistake.says


def pasting(draw_centre, copy):
    def cutmix(images, labels, classes, alpha=1.0):
        n, _, height, width = images.shape
        share = torch.distributions.Beta(alpha, alpha).sample().item()
        side = (1 - share) ** 0.5
        half_height, half_width = int(height * side) // 2, int(width * side) // 2
        row, column = draw_centre(height, width)
        top, bottom = max(row - half_height, 0), min(row + half_height, height)
        left, right = max(column - half_width, 0), min(column + half_width, width)
        partners, pasted = torch.randperm(n), images.clone()
        if bottom > top and right > left:
            copy(pasted, images[partners], top, bottom, left, right)
        share = 1 - max(bottom - top, 0) * max(right - left, 0) / (height * width)
        targets = F.one_hot(labels, classes).float()
        return pasted, share * targets + (1 - share) * targets[partners]

    return cutmix


def below(height, width):
    return int(torch.randint(height, ())), int(torch.randint(width, ()))


def box(pasted, others, top, bottom, left, right):
    pasted[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]


def upper_left(pasted, others, top, bottom, left, right):
    pasted[:, :, top:bottom, left:right] = others[:, :, : bottom - top, : right - left]


def first_channel(pasted, others, top, bottom, left, right):
    pasted[:, 0, top:bottom, left:right] = others[:, 0, top:bottom, left:right]


def between(low, high):
    def centre(height, width):
        return tuple(
            int(torch.randint(int(low * side), int(high * side), ())) for side in (height, width)
        )

    return centre


CENTRES = {
    "below the shorter side": lambda height, width: below(*[min(height, width)] * 2),
    "below the height": lambda height, width: below(height, height),
    "one draw for both": lambda height, width: (
        (place := torch.rand(()).item()) and int(place * height),
        int(place * width),
    ),
    "in the upper left half": between(0, 0.5),
    "in three quarters": between(0, 0.75),
    "away from the border": between(0.25, 0.75),
    "in the middle": lambda height, width: (height // 2, width // 2),
}


@pytest.mark.parametrize("centre", CENTRES.values(), ids=CENTRES)
def test_centres_in_a_part_of_the_image_are_not_right(centre):
    assert ex.cutmix.check(pasting(centre, box)).state == "wrong"


def test_pasting_the_box_as_written_here_is_right():
    assert ex.cutmix.check(pasting(below, box)).state == "right"


@pytest.mark.parametrize("copy", [upper_left, first_channel])
def test_pasting_something_else_is_not_right(copy):
    assert ex.cutmix.check(pasting(below, copy)).state == "wrong"


def ignores_alpha(images, labels, classes, alpha=1.0):
    return augment.cutmix(images, F.one_hot(labels, classes).float())


def one_share_for_ever(images, labels, classes, alpha=1.0):
    return augment.cutmix(images, F.one_hot(labels, classes).float(), alpha=1e5)


def forgets_the_targets(images, labels, classes, alpha=1.0):
    return images.clone(), labels


@pytest.mark.parametrize("answer", [ignores_alpha, one_share_for_ever, forgets_the_targets])
def test_half_a_cutmix_is_not_right(answer):
    assert ex.cutmix.check(answer).state == "wrong"


def clamped(most):
    def jsd(*logits):
        return augment.js_divergence(*(one.clamp(-most, most) for one in logits))

    return jsd


def gives_up_on_the_gradient(*logits):
    """All of it, where one sample alone is sure."""
    value = augment.js_divergence(*logits)
    sure = torch.stack(logits).softmax(dim=-1).amin() == 0
    return value.detach() + 0 * sum(one.sum() for one in logits) if sure else value


@pytest.mark.parametrize("answer", [clamped(50), clamped(80), gives_up_on_the_gradient])
def test_half_a_divergence_is_not_right(answer):
    assert ex.jsd.check(answer).state == "wrong"


def masked(clean, first, second):
    ps = [one.softmax(dim=1) for one in (clean, first, second)]
    m = sum(ps) / 3
    parts = [torch.where(p > 0, p * (p.log() - m.log()), 0.0).sum(dim=1).mean() for p in ps]
    return sum(parts) / 3


def with_xlogy(clean, first, second):
    ps = [one.softmax(dim=1) for one in (clean, first, second)]
    m = sum(ps) / 3
    return sum((torch.xlogy(p, p) - torch.xlogy(p, m)).sum(dim=1).mean() for p in ps) / 3


def nan_to_num(clean, first, second):
    ps = [one.softmax(dim=1) for one in (clean, first, second)]
    m = sum(ps) / 3
    return sum((p * (p.log() - m.log())).nan_to_num().sum(dim=1).mean() for p in ps) / 3


@pytest.mark.parametrize("answer", [masked, with_xlogy, nan_to_num])
def test_a_value_without_a_gradient_is_told_so(answer):
    card = ex.jsd.check(answer)
    assert card.state == "wrong" and "nan" in card.text and "gradient" in card.text, card


@pytest.mark.parametrize("exercise", [ex.mixup, ex.ricap], ids=lambda one: one.short_name)
def test_normalised_images_are_not_clamped(exercise):
    def clamps(*arguments):
        images, targets = exercise.answer_right(*arguments)
        return images.clamp(0, 1), targets

    assert exercise.check(clamps).state == "wrong"
