"""Second right answers to the exercises of augmentation."""

import pytest

from chapters.augmentation import exercises as ex


# mirror
def face_by_face(images, points, flip):
    images, points = images.clone(), points.clone()
    for i in flip.nonzero()[:, 0]:
        images[i] = images[i].flip(-1)
        points[i, :, 0] = images.shape[-1] - 1 - points[i, :, 0]
        points[i] = points[i, torch.tensor([1, 0, 2, 4, 3])]
    return images, points


# mixup
def one_by_one(images, labels, classes, shares, partners):
    mixed, targets = torch.empty_like(images), torch.zeros(len(images), classes)
    for i, (share, partner) in enumerate(zip(shares.tolist(), partners.tolist(), strict=True)):
        mixed[i] = torch.lerp(images[partner], images[i], share)
        targets[i, labels[i]] += share
        targets[i, labels[partner]] += 1 - share
    return mixed, targets


# cutmix
def a_box_for_each(images, labels, classes, alpha=1.0):
    return augment.cutmix(images, F.one_hot(labels, classes).float(), alpha)


# cutmix
def by_torchvision(images, labels, classes, alpha=1.0):
    return v2.CutMix(alpha=alpha, num_classes=classes)(images, labels)


# cutmix
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


# ricap
def image_by_image(images, labels, classes, points, partners):
    return _ricap(images, labels, classes, points, partners)


# jsd
def with_kl_div(clean, first, second):
    log_ps = [one.log_softmax(dim=1) for one in (clean, first, second)]
    log_m = torch.logaddexp(torch.logaddexp(log_ps[0], log_ps[1]), log_ps[2]) - math.log(3)
    parts = [F.kl_div(log_m, log_p, reduction="batchmean", log_target=True) for log_p in log_ps]
    return sum(parts) / 3


# augmix_loss
def by_slices_and_logs(model, images, first, second, labels):
    n = len(images)
    log_p = model(torch.cat((images, first, second))).log_softmax(dim=1).unflatten(0, (3, n))
    log_m = log_p.logsumexp(dim=0) - math.log(3)
    divergence = (log_p.exp() * (log_p - log_m)).sum(dim=(0, 2)).mean() / 3
    return F.nll_loss(log_p[0], labels) + 12 * divergence


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.mirror, face_by_face),
        (ex.mixup, one_by_one),
        (ex.cutmix, a_box_for_each),
        (ex.cutmix, by_torchvision),
        (ex.cutmix, a_box_for_each_by_hand),
        (ex.ricap, image_by_image),
        (ex.jsd, with_kl_div),
        (ex.augmix_loss, by_slices_and_logs),
    ],
)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card
