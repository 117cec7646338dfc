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


def mirror_by_weights(images, points, flip):
    f = flip.float()
    new_images = f[:, None, None, None] * images.flip(3) + (1 - f)[:, None, None, None] * images
    swap = torch.eye(5)[[1, 0, 2, 4, 3]]
    other = swap @ points * torch.tensor([-1.0, 1.0]) + torch.tensor([images.shape[3] - 1.0, 0.0])
    return [new_images, f[:, None, None] * other + (1 - f)[:, None, None] * points]


def mirror_in_numpy(images, points, flip):
    pictures, places = images.numpy().copy(), points.numpy().copy()
    chosen = flip.numpy()
    pictures[chosen] = pictures[chosen, :, :, ::-1]
    places[chosen] = places[chosen][:, [1, 0, 2, 4, 3]]
    places[chosen, :, 0] = pictures.shape[-1] - 1 - places[chosen, :, 0]
    return torch.from_numpy(pictures), torch.from_numpy(places)


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


def mixup_in_numpy(images, labels, classes, shares, partners):
    x, y, s, p = (one.numpy() for one in (images, labels, shares, partners))
    s4 = s.reshape(-1, 1, 1, 1)
    hot = np.eye(classes, dtype=np.float32)[y]
    mixed, targets = s4 * x + (1 - s4) * x[p], s[:, None] * hot + (1 - s)[:, None] * hot[p]
    return torch.from_numpy(mixed), torch.from_numpy(targets)


# cutmix -------------------------------------------------------------------------------------------


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


def ricap_of_upper_left_corners(images, labels, classes, points, partners):
    height, width = images.shape[-2:]
    new, targets = images.clone(), ricap_with_where(images, labels, classes, points, partners)[1]
    for i, ((r, k), (p, q, s)) in enumerate(zip(points.tolist(), partners.T.tolist(), strict=True)):
        new[i, :, :r, k:] = images[p, :, :r, : width - k]
        new[i, :, r:, :k] = images[q, :, : height - r, :k]
        new[i, :, r:, k:] = images[s, :, : height - r, : width - k]
    return new, targets


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


def jsd_with_xlogy(*logits):
    p = torch.stack(logits).softmax(dim=-1)
    return (torch.xlogy(p, p) - torch.xlogy(p, p.mean(dim=0))).sum(dim=-1).mean()


# augmix_loss --------------------------------------------------------------------------------------


def augmix_loss_from_logs(model, images, first, second, labels):
    n = len(images)
    log_p = model(torch.cat((images, first, second))).log_softmax(dim=1).unflatten(0, (3, n))
    log_m = log_p.logsumexp(dim=0) - math.log(3)
    divergence = (log_p.exp() * (log_p - log_m)).sum(dim=(0, 2)).mean() / 3
    return F.nll_loss(log_p[0], labels) + 12 * divergence


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


RIGHT = {
    "mirror": [mirror_face_by_face, mirror_by_weights, mirror_in_numpy],
    "mixup": [mixup_one_by_one, mixup_by_a_matrix, mixup_in_numpy],
    "cutmix": [
        cutmix_of_torchvision,
        cutmix_with_a_box_for_each,
        cutmix_at_any_point,
    ],
    "ricap": [ricap_image_by_image, ricap_with_where, ricap_with_einsum],
    "jsd": [jsd_with_kl_div, jsd_of_entropies, jsd_with_its_own_backward],
    "augmix_loss": [
        augmix_loss_from_logs,
        augmix_loss_interleaved,
        augmix_loss_with_kl_div,
    ],
}

WRONG = {
    "mirror": [
        (
            "return new_images,",
            "return images.copy_(new_images),",
            "The arguments stay as they are",
        ),
        ("images.flip(-1)", "images.flip(-2)", "left to right"),
        (" - 1 - columns", " - columns", "[1, 0, 2, 4, 3]", "[0, 1, 2, 3, 4]", "off by one pixel"),
        ("chosen = flip[", "chosen = flip.any().expand(len(flip))[", "Where `flip` is false"),
        (
            "new_images, torch.where(chosen, mirrored, points)",
            "new_images",
            "A tuple or a list is expected",
        ),
    ],
    "mixup": [
        (
            "of_images * images + (1 - of_images) * images[partners]",
            "(of_images * images + (1 - of_images) * images[partners]).clamp(0, 1)",
            "Image `i` becomes",
        ),
        (
            "of_images * images + (1 - of_images) * images[partners]",
            "images.lerp_(images[partners], 1 - of_images)",
            "The arguments stay as they are",
        ),
        (".float()", ".double()", "float32"),
        ("targets[partners]", "targets[partners.argsort()]", "Target `i` is"),
        *(
            ("targets[partners]", others, "not those of the images")
            for others in (
                "F.one_hot(labels[partners.flip(0)], classes).float()",
                "torch.flip(targets, dims=(0,))",
                "targets[torch.randperm(len(images))]",
            )
        ),
        (
            "of_images * images + (1 - of_images) * images[partners]",
            "images.mul_(of_images).add_((1 - of_images) * images[partners])",
            "You work in place",
        ),
        (
            "of_targets * targets + (1 - of_targets) * targets[partners]",
            "(of_targets * targets + (1 - of_targets) * targets[partners]).squeeze()",
            "also for one image",
        ),
    ],
    "cutmix": [
        (
            "int(height * side), int(width * side)",
            "int(height * (1 - share)), 2 * width",
            "proportions",
        ),
        (
            "int(height * side), int(width * side)",
            "(int((height * width * (1 - share)) ** 0.5),) * 2",
            "proportions",
        ),
        ("int(width * side)", "int(width * torch.rand(()))", "near one half"),
        (
            "int(height * side), int(width * side)",
            "int(width * side), int(height * side)",
            "proportions",
        ),
        (
            "int(height * side), int(width * side)",
            "int(height * side * by), int(width * side / by)",
            "side = ",
            "by = math.exp(torch.empty(()).uniform_(-0.25, 0.25))\n    side = ",
            "near one half",
        ),
        ("(height * width)", "(width * width)", "in proportion to the pixels"),
        (
            "share = 1 - (",
            "share = round(1 - (",
            "(height * width)",
            "(height * width), 1)",
            "in proportion to the pixels",
        ),
        (
            "targets = share *",
            "share = round(share)\n    targets = share *",
            "in proportion to the pixels",
        ),
        (
            "torch.distributions.Beta(alpha, alpha).sample().item()",
            "0.5",
            "covers less than a tenth",
        ),
        ("share = 1 - (", "share = (", "*not* pasted over"),
        ("images.clone()", "images", "stays as it is"),
        ("alpha=1.0", "alpha=0.5", "Without `alpha`"),
        ("torch.randint(width, ())", "torch.randint(height, ())", "as likely to be the centre"),
        ("torch.randint(height, ())", "torch.randint(height - 1, ())", "may be the centre"),
        (
            "row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))",
            "at = torch.rand(()).item()\n    row, column = int(at * height), int(at * width)",
            "its row and its column are independent",
        ),
        (
            "int(torch.randint(height, ())), int(torch.randint(width, ()))",
            "height // 2, width // 2",
            "what lies outside is cut off",
        ),
        (
            "torch.randint(height, ())",
            "torch.randint(height * 3 // 4, ())",
            "as likely to be the centre",
        ),
        (" ** 0.5", "", "`sqrt(1 - λ)`"),
        (
            "    share = 1 - (bottom - top) * (right - left) / (height * width)\n",
            "",
            "in proportion to the pixels",
        ),
        *(
            (
                "int(torch.randint(height, ())), int(torch.randint(width, ()))",
                f"int(height * ({draw})), int(width * ({draw}))",
                "lie in the middle of the image",
            )
            for draw in ("0.25 + torch.rand(()) / 2", "torch.empty(()).uniform_(1 / 3, 2 / 3)")
        ),
        ("targets[partners]", "targets[torch.randperm(n)]", "the same partner"),
        ("Beta(alpha, alpha)", "Beta(1.0, 1.0)", "near one half"),
        ("pasted, targets", "pasted, labels", "float32"),
        (".float()", ".double()", "float32"),
        ("pasted[:, :,", "pasted[:, :1,", "others[:, :,", "others[:, :1,", "all channels"),
        (
            "others[:, :, top:bottom, left:right]",
            "others[:, :, : bottom - top, : right - left]",
            "at the place where it is there",
        ),
    ],
    "ricap": [
        (
            "(masks * images[sources]).sum(dim=0)",
            "(masks * images[sources]).sum(dim=0).clamp(0, 1)",
            "each pixel stays",
        ),
        (
            "(masks * images[sources]).sum(dim=0)",
            "images.copy_((masks * images[sources]).sum(dim=0))",
            "The arguments stay as they are",
        ),
        (ricap_of_upper_left_corners, "each pixel stays in its place"),
        (
            "masks.mean(dim=(2, 3, 4))",
            "masks.sum(dim=(2, 3, 4)) / height**2",
            "The label follows the areas",
        ),
    ],
    "jsd": [
        (
            "[clean, first, second]",
            "[one.clamp(-80, 80) for one in (clean, first, second)]",
            "finite and right also",
        ),
        (
            "return (",
            "value = (",
            ".mean()",
            ".mean()\n    return value if log_p.exp().min() else value.detach() + 0 * clean.sum()",
            "gradients are finite and right",
        ),
        (jsd_with_xlogy, "nan"),
        (".mean()", ".mean() / math.log(2)", "natural ones"),
        (".mean()", ".mean(dim=0)", "without dimensions"),
        (".mean()", ".mean().item()", "A Tensor is expected"),
        ("log_softmax(dim=-1)", "log_softmax(dim=1)", "softmaxes over the classes"),
        ("[clean,", "[clean.detach(),", "all three logits"),
    ],
    "augmix_loss": [
        (
            "model(torch.cat([images, first, second])).chunk(3)",
            "model(images), *model(torch.cat([first, second])).chunk(2)",
            "in one batch",
        ),
        (
            "(logits[0],",
            "(logits[1],",
            "*logits)",
            "*(view.flatten(1) for view in (images, first, second)))",
            "compares pixels",
        ),
        ("12 * ", "", "12 times"),
        ("return loss", "return (loss", "(*logits)", "(*logits)).item()", "A Tensor is expected"),
        ("(*logits)", "(*logits).detach()", "The divergence's gradient"),
    ],
}
