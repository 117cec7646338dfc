"""Answers to the exercises of chapter 07."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

from helpers import augment

# mirror -------------------------------------------------------------------------------------------


def mirror_face_by_face(images, points, flip):
    images, points = images.clone(), points.clone()
    for i in flip.nonzero()[:, 0]:
        images[i] = images[i].flip(-1)
        points[i, :, 0] = images.shape[-1] - 1 - points[i, :, 0]
        points[i] = points[i, torch.tensor([1, 0, 2, 4, 3])]
    return images, points


def mirror_by_mask(images, points, flip):
    new_images, new_points = images.clone(), points.clone()
    new_images[flip] = torch.fliplr(images[flip].movedim(-1, 1)).movedim(1, -1)
    new_points[flip] = points[flip][:, [1, 0, 2, 4, 3]]
    new_points[flip, :, 0] = images.size(3) - 1 - new_points[flip, :, 0]
    return new_images, new_points


def mirror_by_weights(images, points, flip):
    f = flip.float()
    new_images = f[:, None, None, None] * images.flip(3) + (1 - f)[:, None, None, None] * images
    swap = torch.eye(5)[[1, 0, 2, 4, 3]]
    other = swap @ points * torch.tensor([-1.0, 1.0]) + torch.tensor([images.shape[3] - 1.0, 0.0])
    return [new_images, f[:, None, None] * other + (1 - f)[:, None, None] * points]


def mirror_by_index(images, points, flip):
    n, _, _, width = images.shape
    columns = torch.arange(width).expand(n, width)
    columns = torch.where(flip[:, None], width - 1 - columns, columns)
    order = torch.where(flip[:, None], torch.tensor([1, 0, 2, 4, 3]), torch.arange(5))
    new_points = points.gather(1, order[..., None].expand(-1, -1, 2))
    new_points[..., 0] = (new_points[..., 0] - flip[:, None] * (width - 1)).abs()
    return images.gather(3, columns[:, None, None].expand_as(images)), new_points


def mirror_in_numpy(images, points, flip):
    pictures, places = images.numpy().copy(), points.numpy().copy()
    chosen = flip.numpy()
    pictures[chosen] = pictures[chosen, :, :, ::-1]
    places[chosen] = places[chosen][:, [1, 0, 2, 4, 3]]
    places[chosen, :, 0] = pictures.shape[-1] - 1 - places[chosen, :, 0]
    return torch.from_numpy(pictures), torch.from_numpy(places)


def mirror_the_images_handed_in(images, points, flip):
    images[flip] = images[flip].flip(-1)
    new = points.clone()
    new[flip, :, 0] = images.shape[-1] - 1 - new[flip, :, 0]
    new[flip] = new[flip][:, [1, 0, 2, 4, 3]]
    return images, new


def mirror_upside_down(images, points, flip):
    out, new = images.clone(), points.clone()
    out[flip] = images[flip].flip(-2)
    new[flip, :, 1] = images.shape[-2] - 1 - new[flip, :, 1]
    new[flip] = new[flip][:, [1, 0, 2, 4, 3]]
    return out, new


def mirror_with_two_mistakes(images, points, flip):
    out, new = images.clone(), points.clone()
    out[flip] = images[flip].flip(-1)
    new[flip, :, 0] = images.shape[-1] - new[flip, :, 0]
    return out, new


def mirror_reorders_all(images, points, flip):
    f = flip.float()[:, None, None, None]
    x = torch.where(flip[:, None], images.shape[-1] - 1 - points[..., 0], points[..., 0])
    new = torch.stack([x, points[..., 1]], dim=-1)
    return images.flip(-1) * f + images * (1 - f), new[:, [1, 0, 2, 4, 3]]


def mirror_all_if_one(images, points, flip):
    if not flip.any():
        return images.clone(), points.clone()
    new = points.clone()
    new[:, :, 0] = images.shape[-1] - 1 - points[:, :, 0]
    return images.flip(-1), new[:, [1, 0, 2, 4, 3]]


def mirror_only_points(images, points, flip):
    return images.clone(), mirror_by_mask(images, points, flip)[1]


def mirror_one_result(images, points, flip):
    return mirror_by_mask(images, points, flip)[0]


# mixup --------------------------------------------------------------------------------------------


def mixup_one_by_one(images, labels, classes, shares, partners):
    mixed, targets = torch.empty_like(images), torch.zeros(len(images), classes)
    for i, (share, partner) in enumerate(zip(shares.tolist(), partners.tolist(), strict=True)):
        mixed[i] = torch.lerp(images[partner], images[i], share)
        targets[i, labels[i]] += share
        targets[i, labels[partner]] += 1 - share
    return mixed, targets


def mixup_by_a_matrix(images, labels, classes, shares, partners):
    n = len(images)
    weights = torch.diag(shares)
    weights = weights + (1 - shares)[:, None] * F.one_hot(partners, n)
    mixed = (weights @ images.flatten(1)).view_as(images)
    return mixed, weights @ torch.eye(classes)[labels]


def mixup_with_scatter(images, labels, classes, shares, partners):
    targets = torch.zeros(len(labels), classes)
    targets.scatter_add_(1, labels[:, None], shares[:, None])
    targets.scatter_add_(1, labels[partners][:, None], 1 - shares[:, None])
    parts = torch.stack([images, images[partners]])
    return torch.einsum("kn,kn...->n...", torch.stack([shares, 1 - shares]), parts), targets


def mixup_of_helpers(images, labels, classes, shares, partners):
    return augment.blend(images, F.one_hot(labels, classes).float(), shares, partners)


def mixup_in_numpy(images, labels, classes, shares, partners):
    x, y, s, p = (one.numpy() for one in (images, labels, shares, partners))
    s4 = s.reshape(-1, 1, 1, 1)
    hot = np.eye(classes, dtype=np.float32)[y]
    mixed, targets = s4 * x + (1 - s4) * x[p], s[:, None] * hot + (1 - s)[:, None] * hot[p]
    return torch.from_numpy(mixed), torch.from_numpy(targets)


def mixup_in_range(images, labels, classes, shares, partners):
    mixed, targets = mixup_one_by_one(images, labels, classes, shares, partners)
    return mixed.clamp(0, 1), targets


def mixup_in_place(images, labels, classes, shares, partners):
    others, y = images[partners], F.one_hot(labels, classes).float()
    images.lerp_(others, 1 - shares[:, None, None, None])
    return images, shares[:, None] * y + (1 - shares[:, None]) * y[partners]


def mixup_in_double(images, labels, classes, shares, partners):
    mixed, targets = mixup_one_by_one(images, labels, classes, shares, partners)
    return mixed, targets.double()


def mixup_with_the_inverse(images, labels, classes, shares, partners):
    mixed, y = mixup_one_by_one(images, labels, classes, shares, partners)[0], torch.eye(classes)
    y = y[labels]
    return mixed, shares[:, None] * y + (1 - shares[:, None]) * y[partners.argsort()]


def mixup_with_too_few_columns(images, labels, classes, shares, partners):
    mixed, _ = mixup_one_by_one(images, labels, classes, shares, partners)
    hot = F.one_hot(labels)
    return mixed, shares[:, None] * hot + (1 - shares[:, None]) * hot[partners]


def mixup_squeezed(images, labels, classes, shares, partners):
    mixed, targets = mixup_one_by_one(images, labels, classes, shares, partners)
    return mixed.squeeze(), targets.squeeze()


# cutmix -------------------------------------------------------------------------------------------


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


def cutmix_by_a_mask(images, labels, classes, alpha=1.0):
    n, _, height, width = images.shape
    share = np.random.beta(alpha, alpha)
    half = 0.5 * math.sqrt(1 - share)
    row, column = np.random.randint(height), np.random.randint(width)
    rows = (torch.arange(height) - row).abs() <= half * height - 0.5
    columns = (torch.arange(width) - column).abs() <= half * width - 0.5
    mask = (rows[:, None] & columns).float()
    partners = torch.arange(n).roll(1)
    y = torch.eye(classes)[labels]
    part = mask.mean()
    return mask * images[partners] + (1 - mask) * images, (1 - part) * y + part * y[partners]


def cutmix_at_any_point(images, labels, classes, alpha=1.0):
    n, _, height, width = images.shape
    side = math.sqrt(np.random.default_rng().beta(alpha, alpha))
    row, column = torch.rand(2).tolist()
    top, bottom = (round(height * min(max(row + d * side / 2, 0), 1)) for d in (-1, 1))
    left, right = (round(width * min(max(column + d * side / 2, 0), 1)) for d in (-1, 1))
    partners = (torch.arange(n) + int(torch.randint(1, n, ()))) % n
    owner = torch.arange(n)[:, None, None].repeat(1, height, width)
    owner[:, top:bottom, left:right] = partners[:, None, None]
    i, j = torch.arange(height)[:, None], torch.arange(width)
    pasted = images.movedim(1, -1)[owner, i, j].movedim(-1, 1)
    return pasted, F.one_hot(labels[owner.flatten(1)], classes).float().mean(dim=1)


def _pasting(images, labels, classes, box_height, box_width, centre, share=None, copy=True):
    n, _, height, width = images.shape
    row, column = centre
    top, bottom = max(row - box_height // 2, 0), min(row + box_height // 2, height)
    left, right = max(column - box_width // 2, 0), min(column + box_width // 2, width)
    partners = torch.randperm(n)
    others = images[partners]
    pasted = images.clone() if copy else images
    if bottom > top and right > left:
        pasted[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    area = max(bottom - top, 0) * max(right - left, 0) / (height * width)
    share = 1 - area if share is None else share(area)
    targets = F.one_hot(labels, classes).float()
    return pasted, share * targets + (1 - share) * targets[partners]


def _anywhere(height, width):
    return int(torch.randint(height, ())), int(torch.randint(width, ()))


def _lambda(alpha):
    return torch.distributions.Beta(alpha, alpha).sample().item()


def cutmix_with_a_band(images, labels, classes, alpha=1.0):
    height, width = images.shape[2:]
    sides = int(height * (1 - _lambda(alpha))), 2 * width
    return _pasting(images, labels, classes, *sides, _anywhere(height, width))


def cutmix_with_a_square(images, labels, classes, alpha=1.0):
    height, width = images.shape[2:]
    side = int(math.sqrt(height * width * (1 - _lambda(alpha))))
    return _pasting(images, labels, classes, side, side, _anywhere(height, width))


def cutmix_with_any_width(images, labels, classes, alpha=1.0):
    height, width = images.shape[2:]
    sides = int(height * math.sqrt(1 - _lambda(alpha))), int(width * torch.rand(()).item())
    return _pasting(images, labels, classes, *sides, _anywhere(height, width))


def cutmix_with_its_sides_exchanged(images, labels, classes, alpha=1.0):
    height, width = images.shape[2:]
    root = math.sqrt(1 - _lambda(alpha))
    sides = int(width * root), int(height * root)
    return _pasting(images, labels, classes, *sides, _anywhere(height, width))


def cutmix_with_random_proportions(images, labels, classes, alpha=1.0):
    height, width = images.shape[2:]
    area, ratio = 1 - _lambda(alpha), math.exp(torch.empty(()).uniform_(-0.5, 0.5).item())
    sides = int(height * math.sqrt(area * ratio)), int(width * math.sqrt(area / ratio))
    return _pasting(images, labels, classes, *sides, _anywhere(height, width))


def _with_roots(images, labels, classes, alpha, centre=_anywhere, **others):
    height, width = images.shape[2:]
    root = math.sqrt(1 - (alpha if others.pop("fixed", False) else _lambda(alpha)))
    sides = int(height * root), int(width * root)
    return _pasting(images, labels, classes, *sides, centre(height, width), **others)


def cutmix_counting_a_square_image(images, labels, classes, alpha=1.0):
    by = images.shape[2] / images.shape[3]
    return _with_roots(images, labels, classes, alpha, share=lambda area: 1 - area * by)


def cutmix_counting_in_tenths(images, labels, classes, alpha=1.0):
    return _with_roots(images, labels, classes, alpha, share=lambda area: round(1 - area, 1))


def cutmix_with_hard_targets(images, labels, classes, alpha=1.0):
    return _with_roots(images, labels, classes, alpha, share=lambda area: float(area < 0.5))


def cutmix_with_one_half(images, labels, classes, alpha=1.0):
    return _with_roots(images, labels, classes, 0.5, fixed=True)


def cutmix_the_wrong_way_round(images, labels, classes, alpha=1.0):
    return _with_roots(images, labels, classes, alpha, share=lambda area: area)


def cutmix_in_place(images, labels, classes, alpha=1.0):
    return _with_roots(images, labels, classes, alpha, copy=False)


def cutmix_with_another_default(images, labels, classes, alpha=0.5):
    return _with_roots(images, labels, classes, alpha)


def cutmix_below_the_shorter_side(images, labels, classes, alpha=1.0):
    return _with_roots(images, labels, classes, alpha, lambda h, w: _anywhere(min(h, w), min(h, w)))


def cutmix_below_the_height(images, labels, classes, alpha=1.0):
    return _with_roots(images, labels, classes, alpha, lambda h, w: _anywhere(h, h))


def cutmix_but_for_the_last_line(images, labels, classes, alpha=1.0):
    return _with_roots(images, labels, classes, alpha, lambda h, w: _anywhere(h - 1, w - 1))


def cutmix_with_one_place_for_both(images, labels, classes, alpha=1.0):
    place = torch.rand(()).item()
    return _with_roots(
        images, labels, classes, alpha, lambda h, w: (int(place * h), int(place * w))
    )


def cutmix_in_the_middle(images, labels, classes, alpha=1.0):
    return _with_roots(images, labels, classes, alpha, lambda h, w: (h // 2, w // 2))


def cutmix_in_the_upper_left(images, labels, classes, alpha=1.0):
    return _with_roots(images, labels, classes, alpha, lambda h, w: _anywhere(h // 2, w // 2))


def cutmix_in_three_quarters(images, labels, classes, alpha=1.0):
    return _with_roots(images, labels, classes, alpha, lambda h, w: _anywhere(h * 3 // 4, w))


def cutmix_without_the_root(images, labels, classes, alpha=1.0):
    height, width = images.shape[2:]
    share = _lambda(alpha)
    sides = int(height * (1 - share)), int(width * (1 - share))
    return _pasting(images, labels, classes, *sides, _anywhere(height, width))


def cutmix_without_the_root_or_a_count(images, labels, classes, alpha=1.0):
    height, width = images.shape[2:]
    part = 1 - _lambda(alpha)
    sides, centre = (int(height * part), int(width * part)), _anywhere(height, width)
    return _pasting(images, labels, classes, *sides, centre, lambda area: 1 - part)


def cutmix_with_the_share_drawn(images, labels, classes, alpha=1.0):
    height, width = images.shape[2:]
    share = _lambda(alpha)
    sides = int(height * math.sqrt(1 - share)), int(width * math.sqrt(1 - share))
    centre = _anywhere(height, width)
    return _pasting(images, labels, classes, *sides, centre, lambda area: share)


def cutmix_permuting_twice(images, labels, classes, alpha=1.0):
    n = len(images)
    pasted, targets = _with_roots(images, torch.arange(n), n, alpha)
    own = targets.diagonal()[:, None]
    y = F.one_hot(labels, classes).float()
    return pasted, own * y + (1 - own) * y[torch.randperm(n)]


def cutmix_ignoring_alpha(images, labels, classes, alpha=1.0):
    return augment.cutmix(images, F.one_hot(labels, classes).float())


def cutmix_with_one_share_for_ever(images, labels, classes, alpha=1.0):
    return augment.cutmix(images, F.one_hot(labels, classes).float(), alpha=1e5)


def cutmix_without_targets(images, labels, classes, alpha=1.0):
    return images.clone(), labels


def cutmix_in_double(images, labels, classes, alpha=1.0):
    return augment.cutmix(images, F.one_hot(labels, classes).double(), alpha)


def cutmix_of_one_channel(images, labels, classes, alpha=1.0):
    pasted, targets = cutmix_of_helpers(images, labels, classes, alpha)
    return torch.cat([pasted[:, :1], images[:, 1:]], dim=1), targets


def cutmix_of_upper_left_corners(images, labels, classes, alpha=1.0):
    n, _, height, width = images.shape
    side = math.sqrt(1 - _lambda(alpha)) / 2
    row, column = _anywhere(height, width)
    top, bottom = max(row - int(height * side), 0), min(row + int(height * side), height)
    left, right = max(column - int(width * side), 0), min(column + int(width * side), width)
    partners, pasted = torch.randperm(n), images.clone()
    corner = images[partners][:, :, : bottom - top, : right - left]
    pasted[:, :, top:bottom, left:right] = corner
    share = 1 - (bottom - top) * (right - left) / (height * width)
    y = F.one_hot(labels, classes).float()
    return pasted, share * y + (1 - share) * y[partners]


# ricap --------------------------------------------------------------------------------------------


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


def ricap_with_where(images, labels, classes, points, partners):
    height, width = images.shape[-2:]
    above = (torch.arange(height) < points[:, :1])[:, None, :, None]
    left = (torch.arange(width) < points[:, 1:])[:, None, None, :]
    b, c, d = images[partners]
    new = torch.where(above, torch.where(left, images, b), torch.where(left, c, d))
    y = F.one_hot(labels, classes).float()
    r, k = points[:, :1] / height, points[:, 1:] / width
    upper = k * y + (1 - k) * y[partners[0]]
    return new, r * upper + (1 - r) * (k * y[partners[1]] + (1 - k) * y[partners[2]])


def ricap_by_owner(images, labels, classes, points, partners):
    n, _, height, width = images.shape
    below = (torch.arange(height) >= points[:, :1])[:, :, None]
    beyond = (torch.arange(width) >= points[:, 1:])[:, None, :]
    who = torch.cat([torch.arange(n)[None], partners]).T
    owner = who.gather(1, (2 * below + beyond.long()).flatten(1)).view(n, height, width)
    i, j = torch.arange(height)[:, None], torch.arange(width)
    new = images.permute(0, 2, 3, 1)[owner, i, j].permute(0, 3, 1, 2)
    return new, F.one_hot(labels[owner.flatten(1)], classes).float().mean(dim=1)


def ricap_with_einsum(images, labels, classes, points, partners):
    height, width = images.shape[-2:]
    above = torch.arange(height) < points[:, :1]
    left = torch.arange(width) < points[:, 1:]
    rows = torch.stack([above, above, ~above, ~above]).to(images)
    columns = torch.stack([left, ~left, left, ~left]).to(images)
    who = torch.cat([torch.arange(len(images))[None], partners])
    new = torch.einsum("knh,knw,knchw->nchw", rows, columns, images[who])
    shares = rows.mean(dim=2) * columns.mean(dim=2)
    return [new, torch.einsum("kn,knc->nc", shares, torch.eye(classes)[labels[who]])]


def ricap_in_range(images, labels, classes, points, partners):
    new, targets = ricap_with_where(images, labels, classes, points, partners)
    return new.clamp(0, 1), targets


def ricap_in_place(images, labels, classes, points, partners):
    new, targets = ricap_with_where(images, labels, classes, points, partners)
    return images.copy_(new), targets


def ricap_of_upper_left_corners(images, labels, classes, points, partners):
    height, width = images.shape[-2:]
    new, targets = images.clone(), ricap_with_where(images, labels, classes, points, partners)[1]
    for i, ((r, k), (p, q, s)) in enumerate(zip(points.tolist(), partners.T.tolist(), strict=True)):
        new[i, :, :r, k:] = images[p, :, :r, : width - k]
        new[i, :, r:, :k] = images[q, :, : height - r, :k]
        new[i, :, r:, k:] = images[s, :, : height - r, : width - k]
    return new, targets


def ricap_of_square_images(images, labels, classes, points, partners):
    n, height = len(images), images.shape[2]
    new = ricap_with_where(images, labels, classes, points, partners)[0]
    y = F.one_hot(labels, classes).float()
    r, k = points[:, :1] / height, points[:, 1:] / height
    a, b, c = (y[p] for p in partners)
    targets = r * k * y + r * (1 - k) * a + (1 - r) * k * b + (1 - r) * (1 - k) * c
    return new, targets.view(n, classes)


# jsd ----------------------------------------------------------------------------------------------


def jsd_with_kl_div(clean, first, second):
    log_ps = [one.log_softmax(dim=1) for one in (clean, first, second)]
    log_m = torch.logaddexp(torch.logaddexp(log_ps[0], log_ps[1]), log_ps[2]) - math.log(3)
    parts = [F.kl_div(log_m, log_p, reduction="batchmean", log_target=True) for log_p in log_ps]
    return sum(parts) / 3


def jsd_of_entropies(clean, first, second):
    logs = torch.log_softmax(torch.stack((clean, first, second)), dim=-1)
    log_m = torch.logsumexp(logs, dim=0) - torch.tensor(3.0).log()
    of_each = -(logs.exp() * logs).sum(dim=-1)
    return (-(log_m.exp() * log_m).sum(dim=-1) - of_each.mean(dim=0)).mean()


def jsd_with_distributions(clean, first, second):
    each = [torch.distributions.Categorical(logits=z) for z in (clean, first, second)]
    m = torch.distributions.Categorical(
        logits=torch.stack([one.logits for one in each]).logsumexp(dim=0)
    )
    return torch.stack([torch.distributions.kl_divergence(one, m) for one in each]).mean()


def jsd_sample_by_sample(clean, first, second):
    total = 0
    for views in zip(clean, first, second, strict=True):
        logs = [F.log_softmax(view, dim=0) for view in views]
        log_m = torch.stack(logs).logsumexp(dim=0) - math.log(3)
        total = total + sum((one.exp() * (one - log_m)).sum() for one in logs) / 3
    return total / len(clean)


class _JSD(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *logits):
        logs = torch.stack([one.log_softmax(1) for one in logits])
        gap = logs - (logs.logsumexp(0) - math.log(3))
        each = (logs.exp() * gap).sum(-1, keepdim=True)
        ctx.save_for_backward(logs.exp() * (gap - each) / (3 * len(logits[0])))
        return each.mean()

    @staticmethod
    def backward(ctx, grown):
        return tuple(grown * ctx.saved_tensors[0])


def jsd_with_its_own_backward(clean, first, second):
    return _JSD.apply(clean, first, second)


def jsd_of_helpers(clean, first, second):
    return augment.js_divergence(clean, first, second)


def jsd_clamped(clean, first, second):
    return augment.js_divergence(*(one.clamp(-80, 80) for one in (clean, first, second)))


def jsd_without_a_gradient_for_sure_samples(clean, first, second):
    value = augment.js_divergence(clean, first, second)
    sure = torch.stack([clean, first, second]).softmax(dim=-1).amin() == 0
    return value.detach() + 0 * (clean + first + second).sum() if sure else value


def _of_probabilities(logits, term):
    p = torch.stack(logits).softmax(dim=-1)
    return term(p, p.mean(dim=0)).sum(dim=-1).mean()


def jsd_with_the_log_of_a_mean(clean, first, second):
    logs = torch.stack([one.log_softmax(dim=1) for one in (clean, first, second)])
    log_m = torch.stack([one.exp() for one in logs]).mean(0).log()
    return (logs.exp() * (logs - log_m)).sum(dim=2).mean()


def jsd_masked(*logits):
    return _of_probabilities(logits, lambda p, m: torch.where(p > 0, p * (p.log() - m.log()), 0.0))


def jsd_with_xlogy(*logits):
    return _of_probabilities(logits, lambda p, m: torch.xlogy(p, p) - torch.xlogy(p, m))


def jsd_without_nan(*logits):
    return _of_probabilities(logits, lambda p, m: (p * (p.log() - m.log())).nan_to_num())


def jsd_in_bits(clean, first, second):
    return jsd_with_kl_div(clean, first, second) / math.log(2)


def jsd_for_each(clean, first, second):
    logs = torch.stack([clean, first, second]).log_softmax(dim=-1)
    return (logs.exp() * (logs - logs.logsumexp(0) + math.log(3))).sum(-1).mean(dim=0)


def jsd_as_a_number(clean, first, second):
    return jsd_with_kl_div(clean, first, second).item()


def jsd_over_samples(clean, first, second):
    return jsd_with_kl_div(clean.T, first.T, second.T) * clean.shape[1] / len(clean)


def jsd_detached_from_clean(clean, first, second):
    return jsd_with_kl_div(clean.detach(), first, second)


# augmix_loss --------------------------------------------------------------------------------------


def augmix_loss_from_logs(model, images, first, second, labels):
    n = len(images)
    log_p = model(torch.cat((images, first, second))).log_softmax(dim=1).unflatten(0, (3, n))
    log_m = log_p.logsumexp(dim=0) - math.log(3)
    divergence = (log_p.exp() * (log_p - log_m)).sum(dim=(0, 2)).mean() / 3
    return F.nll_loss(log_p[0], labels) + 12 * divergence


def augmix_loss_by_slices(model, images, first, second, labels):
    n = len(images)
    out = model(torch.vstack([second, first, images]))
    clean, others = out[2 * n :], (out[:n], out[n : 2 * n])
    return torch.nn.CrossEntropyLoss()(clean, labels) + 12 * augment.js_divergence(clean, *others)


def augmix_loss_interleaved(model, images, first, second, labels):
    side_by_side = torch.stack([images, first, second], dim=1).flatten(0, 1)
    clean, one, two = model(side_by_side).unflatten(0, (-1, 3)).unbind(dim=1)
    chosen = clean.log_softmax(1).gather(1, labels[:, None])
    return 12.0 * augment.js_divergence(clean, one, two) - chosen.mean()


def augmix_loss_with_kl_div(model, images, first, second, labels):
    logs = F.log_softmax(model(torch.cat([images, first, second])), dim=-1).tensor_split(3)
    log_m = torch.stack(logs).logsumexp(0) - math.log(3)
    parts = [F.kl_div(log_m, one, reduction="batchmean", log_target=True) for one in logs]
    return F.cross_entropy(logs[0], labels) + 4 * sum(parts)


def augmix_loss_with_two_passes(model, images, first, second, labels):
    clean = model(images)
    one, two = model(torch.cat([first, second])).chunk(2)
    return F.cross_entropy(clean, labels) + 12 * augment.js_divergence(clean, one, two)


def augmix_loss_with_two_bugs_left(model, images, first, second, labels):
    logits = model(torch.cat([images, first, second])).chunk(3)
    pixels = (view.flatten(start_dim=1) for view in (images, first, second))
    return F.cross_entropy(logits[1], labels) + 12 * augment.js_divergence(*pixels)


def augmix_loss_with_passes_and_pixels(model, images, first, second, labels):
    clean, _, _ = model(images), model(first), model(second)
    pixels = (view.flatten(start_dim=1) for view in (images, first, second))
    return F.cross_entropy(clean, labels) + 12 * augment.js_divergence(*pixels)


def augmix_loss_without_twelve(model, images, first, second, labels):
    logits = model(torch.cat([images, first, second])).chunk(3)
    return F.cross_entropy(logits[0], labels) + augment.js_divergence(*logits)


def augmix_loss_as_a_number(model, images, first, second, labels):
    return augmix_loss_by_slices(model, images, first, second, labels).item()


def augmix_loss_that_moves_no_weight(model, images, first, second, labels):
    logits = model(torch.cat([images, first, second])).chunk(3)
    return F.cross_entropy(logits[0], labels) + 12 * augment.js_divergence(*logits).detach()


RIGHT = {
    "mirror": [
        mirror_face_by_face,
        mirror_by_mask,
        mirror_by_weights,
        mirror_by_index,
        mirror_in_numpy,
    ],
    "one_draw": [
        {
            "rectangles in erase(images)": 1,
            "rectangles in torch.stack([erase(image) for image in images])": 6.0,
            "images mirrored by flip(images)": {6, 0},
        },
        {
            "rectangles in erase(images)": np.int64(1),
            "rectangles in torch.stack([erase(image) for image in images])": torch.tensor(6),
            "images mirrored by flip(images)": frozenset([0, 6]),
        },
    ],
    "order": [
        {
            "MixUp": np.bool_(True),
            "CutMix": torch.tensor(True),
            "Cutout, filled with 0": False,
            "rotation, corners filled with 0": np.bool_(False),
        },
    ],
    "mixup": [
        mixup_one_by_one,
        mixup_by_a_matrix,
        mixup_with_scatter,
        mixup_of_helpers,
        mixup_in_numpy,
    ],
    "floor": [
        {
            "the perfect model's loss is 0": np.bool_(False),
            "the sure model's loss is smaller": False,
            "agreement with the own label, in %": 50.0,
        },
    ],
    "cutmix": [
        cutmix_of_helpers,
        cutmix_of_torchvision,
        cutmix_with_a_box_for_each,
        cutmix_by_a_mask,
        cutmix_at_any_point,
    ],
    "ricap": [ricap_image_by_image, ricap_with_where, ricap_by_owner, ricap_with_einsum],
    "jsd": [
        jsd_with_kl_div,
        jsd_of_entropies,
        jsd_with_distributions,
        jsd_sample_by_sample,
        jsd_with_its_own_backward,
        jsd_of_helpers,
    ],
    "augmix_loss": [
        augmix_loss_from_logs,
        augmix_loss_by_slices,
        augmix_loss_interleaved,
        augmix_loss_with_kl_div,
    ],
}

WRONG = {
    "mirror": [
        (mirror_the_images_handed_in, "The arguments stay as they are"),
        (mirror_upside_down, "left to right"),
        (mirror_with_two_mistakes, "off by one pixel"),
        (mirror_with_two_mistakes, "but the names are not"),
        (mirror_reorders_all, "in the points of every face"),
        (mirror_all_if_one, "Where `flip` is false"),
        (mirror_only_points, "each row of its pixels"),
        (mirror_one_result, "A tuple or a list is expected"),
    ],
    "one_draw": [
        ({**dict.fromkeys(("a", "b"), 1)}, "is missing"),
    ],
    "floor": [
        (
            {
                "the perfect model's loss is 0": False,
                "the sure model's loss is smaller": False,
                "agreement with the own label, in %": 75,
            },
            "mean of the larger share",
        ),
    ],
    "mixup": [
        (mixup_in_range, "Image `i` becomes"),
        (mixup_in_place, "The arguments stay as they are"),
        (mixup_in_double, "float32"),
        (mixup_with_the_inverse, "Target `i` is"),
        (mixup_squeezed, "also for one image"),
        (mixup_with_too_few_columns, "too few columns"),
    ],
    "cutmix": [
        (cutmix_with_a_band, "proportions"),
        (cutmix_with_a_square, "proportions"),
        (cutmix_with_any_width, "near one half"),
        (cutmix_with_its_sides_exchanged, "proportions"),
        (cutmix_with_random_proportions, "near one half"),
        (cutmix_counting_a_square_image, "in proportion to the pixels"),
        (cutmix_counting_in_tenths, "in proportion to the pixels"),
        (cutmix_with_hard_targets, "in proportion to the pixels"),
        (cutmix_with_one_half, "covers less than a tenth"),
        (cutmix_the_wrong_way_round, "*not* pasted over"),
        (cutmix_in_place, "stays as it is"),
        (cutmix_with_another_default, "Without `alpha`"),
        (cutmix_below_the_shorter_side, "as likely to be the centre"),
        (cutmix_below_the_height, "as likely to be the centre"),
        (cutmix_but_for_the_last_line, "may be the centre"),
        (cutmix_with_one_place_for_both, "its row and its column are independent"),
        (cutmix_in_the_middle, "what lies outside is cut off"),
        (cutmix_in_the_upper_left, "as likely to be the centre"),
        (cutmix_in_three_quarters, "as likely to be the centre"),
        (cutmix_without_the_root, "`sqrt(1 - λ)`"),
        (cutmix_without_the_root_or_a_count, "`sqrt(1 - λ)`"),
        (cutmix_with_the_share_drawn, "in proportion to the pixels"),
        (cutmix_permuting_twice, "the same partner"),
        (cutmix_ignoring_alpha, "near one half"),
        (cutmix_with_one_share_for_ever, "covers less than a tenth"),
        (cutmix_without_targets, "float32"),
        (cutmix_in_double, "float32"),
        (cutmix_of_one_channel, "all channels"),
        (cutmix_of_upper_left_corners, "at the place where it is there"),
    ],
    "ricap": [
        (ricap_in_range, "each pixel stays"),
        (ricap_in_place, "The arguments stay as they are"),
        (ricap_of_upper_left_corners, "each pixel stays in its place"),
        (ricap_of_square_images, "The label follows the areas"),
    ],
    "jsd": [
        (jsd_clamped, "finite and right also"),
        (jsd_without_a_gradient_for_sure_samples, "gradients are finite and right"),
        (jsd_with_the_log_of_a_mean, "log p is safe now"),
        (jsd_masked, "nan"),
        (jsd_with_xlogy, "nan"),
        (jsd_without_nan, "nan"),
        (jsd_in_bits, "natural ones"),
        (jsd_for_each, "without dimensions"),
        (jsd_as_a_number, "A Tensor is expected"),
        (jsd_over_samples, "softmaxes over the classes"),
        (jsd_detached_from_clean, "all three logits"),
    ],
    "augmix_loss": [
        (augmix_loss_with_two_passes, "in one batch"),
        (augmix_loss_with_two_bugs_left, "compares pixels"),
        (augmix_loss_with_two_bugs_left, "on an augmented view"),
        (augmix_loss_with_passes_and_pixels, "compares pixels"),
        (augmix_loss_with_passes_and_pixels, "three forward passes"),
        (augmix_loss_without_twelve, "12 times"),
        (augmix_loss_as_a_number, "A Tensor is expected"),
        (augmix_loss_that_moves_no_weight, "The divergence's gradient"),
    ],
}
