"""Answers to chapter 07 that a check could misjudge: other right ones, and wrong ones that do most
of what their prompt asks.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from chapters.augmentation import exercises as ex
from helpers import augment

# Second right answers


def mirror_face_by_face(images, points, flip):
    images, points = images.clone(), points.clone()
    for i in flip.nonzero()[:, 0]:
        images[i] = images[i].flip(-1)
        points[i, :, 0] = images.shape[-1] - 1 - points[i, :, 0]
        points[i] = points[i, torch.tensor([1, 0, 2, 4, 3])]
    return images, points


def mixup_one_by_one(images, labels, classes, shares, partners):
    mixed, targets = torch.empty_like(images), torch.zeros(len(images), classes)
    for i, (share, partner) in enumerate(zip(shares.tolist(), partners.tolist(), strict=True)):
        mixed[i] = torch.lerp(images[partner], images[i], share)
        targets[i, labels[i]] += share
        targets[i, labels[partner]] += 1 - share
    return mixed, targets


def cutmix_of_helpers(images, labels, classes, alpha=1.0):
    return augment.cutmix(images, F.one_hot(labels, classes).float(), alpha)


def cutmix_of_torchvision(images, labels, classes, alpha=1.0):
    return v2.CutMix(alpha=alpha, num_classes=classes)(images, labels)


def cutmix_with_a_box_for_each(images, labels, classes, alpha=1.0):
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


def ricap_image_by_image(images, labels, classes, points, partners):
    n, _, height, width = images.shape
    new, targets = torch.empty_like(images), torch.zeros(n, classes)
    for i, (row, column) in enumerate(points.tolist()):
        above, below, left, right = slice(row), slice(row, None), slice(column), slice(column, None)
        parts = [(above, left), (above, right), (below, left), (below, right)]
        for (rows, columns), j in zip(parts, [i, *partners[:, i].tolist()], strict=True):
            new[i, :, rows, columns] = images[j, :, rows, columns]
            targets[i, labels[j]] += new[i, 0, rows, columns].numel() / (height * width)
    return new, targets


def jsd_with_kl_div(clean, first, second):
    log_ps = [one.log_softmax(dim=1) for one in (clean, first, second)]
    log_m = torch.logaddexp(torch.logaddexp(log_ps[0], log_ps[1]), log_ps[2]) - math.log(3)
    parts = [F.kl_div(log_m, log_p, reduction="batchmean", log_target=True) for log_p in log_ps]
    return sum(parts) / 3


def augmix_loss_from_logs(model, images, first, second, labels):
    n = len(images)
    log_p = model(torch.cat((images, first, second))).log_softmax(dim=1).unflatten(0, (3, n))
    log_m = log_p.logsumexp(dim=0) - math.log(3)
    divergence = (log_p.exp() * (log_p - log_m)).sum(dim=(0, 2)).mean() / 3
    return F.nll_loss(log_p[0], labels) + 12 * divergence


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.mirror, mirror_face_by_face),
        (ex.mixup, mixup_one_by_one),
        (ex.ricap, ricap_image_by_image),
        (ex.jsd, jsd_with_kl_div),
        (ex.augmix_loss, augmix_loss_from_logs),
    ],
)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card


# CutMix, whose verdict must not depend on the draws


def on_stream(answer, seed):
    """The answer with random numbers of its own."""
    seen = []

    def reseeded(images, *others):
        if images.shape not in seen:
            seen.append(images.shape)
            torch.manual_seed(100 * seed + len(seen))
        return answer(images, *others)

    return reseeded


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "answer",
    [ex.cutmix.right, cutmix_of_helpers, cutmix_of_torchvision, cutmix_with_a_box_for_each],
)
def test_a_right_cutmix_is_right_for_all_draws(answer, seed):
    card = ex.cutmix.check(on_stream(answer, seed))
    assert card.state == "right", card


@pytest.mark.parametrize("mistake", ex.cutmix.mistakes, ids=lambda mistake: mistake.says[:40])
def test_a_mistake_is_recognised_for_all_draws(mistake):
    assert ex.cutmix.check(on_stream(ex.cutmix.answer_of(mistake), 5)).text == mistake.says


def pasting(draw_centre, copy):
    """CutMix with its centre from ``draw_centre`` and its pixels from ``copy``."""

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


def between(low, high):
    def centre(height, width):
        return tuple(
            int(torch.randint(int(low * side), int(high * side), ())) for side in (height, width)
        )

    return centre


def one_draw_for_both(height, width):
    place = torch.rand(()).item()
    return int(place * height), int(place * width)


def box(pasted, others, top, bottom, left, right):
    pasted[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]


def upper_left(pasted, others, top, bottom, left, right):
    pasted[:, :, top:bottom, left:right] = others[:, :, : bottom - top, : right - left]


def first_channel(pasted, others, top, bottom, left, right):
    pasted[:, 0, top:bottom, left:right] = others[:, 0, top:bottom, left:right]


PARTS = {
    "below the shorter side": lambda height, width: below(*[min(height, width)] * 2),
    "below the height": lambda height, width: below(height, height),
    "one draw for both": one_draw_for_both,
    "in the upper left half": between(0, 0.5),
    "in three quarters": between(0, 0.75),
    "away from the border": between(0.25, 0.75),
    "in the middle": lambda height, width: (height // 2, width // 2),
}


def test_centres_anywhere_are_right():
    assert ex.cutmix.check(pasting(below, box)).state == "right"


@pytest.mark.parametrize("centre", PARTS.values(), ids=PARTS)
def test_centres_in_a_part_of_the_image_are_not_right(centre):
    assert ex.cutmix.check(pasting(centre, box)).state == "wrong"


def cutmix_ignoring_alpha(images, labels, classes, alpha=1.0):
    return augment.cutmix(images, F.one_hot(labels, classes).float())


def cutmix_with_one_share_for_ever(images, labels, classes, alpha=1.0):
    return augment.cutmix(images, F.one_hot(labels, classes).float(), alpha=1e5)


def cutmix_without_targets(images, labels, classes, alpha=1.0):
    return images.clone(), labels


def clamped_to(most):
    def jsd(*logits):
        return augment.js_divergence(*(one.clamp(-most, most) for one in logits))

    return jsd


def jsd_without_a_gradient_for_sure_samples(*logits):
    value = augment.js_divergence(*logits)
    sure = torch.stack(logits).softmax(dim=-1).amin() == 0
    return value.detach() + 0 * sum(one.sum() for one in logits) if sure else value


def mixup_in_range(*arguments):
    images, targets = ex.mixup.right(*arguments)
    return images.clamp(0, 1), targets


def ricap_in_range(*arguments):
    images, targets = ex.ricap.right(*arguments)
    return images.clamp(0, 1), targets


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.cutmix, pasting(below, upper_left)),
        (ex.cutmix, pasting(below, first_channel)),
        (ex.cutmix, cutmix_ignoring_alpha),
        (ex.cutmix, cutmix_with_one_share_for_ever),
        (ex.cutmix, cutmix_without_targets),
        (ex.jsd, clamped_to(50)),
        (ex.jsd, clamped_to(80)),
        (ex.jsd, jsd_without_a_gradient_for_sure_samples),
        (ex.mixup, mixup_in_range),
        (ex.ricap, ricap_in_range),
    ],
)
def test_half_an_answer_is_not_right(exercise, answer):
    assert exercise.check(answer).state == "wrong"


# A divergence whose value is right and whose gradient is nan


def masked(p, m):
    return torch.where(p > 0, p * (p.log() - m.log()), 0.0)


def with_xlogy(p, m):
    return torch.xlogy(p, p) - torch.xlogy(p, m)


def nan_to_num(p, m):
    return (p * (p.log() - m.log())).nan_to_num()


@pytest.mark.parametrize("term", [masked, with_xlogy, nan_to_num])
def test_a_value_without_a_gradient_is_told_so(term):
    def jsd(*logits):
        ps = torch.stack(logits).softmax(dim=-1)
        return term(ps, ps.mean(dim=0)).sum(dim=-1).mean()

    card = ex.jsd.check(jsd)
    assert card.state == "wrong" and "nan" in card.text and "gradient" in card.text, card
