"""Second right answers to the exercises of margin_losses."""

import pytest

from chapters.margin_losses import exercises as ex


# least_scale
def by_trying(classes, probability):
    cosines = torch.full((classes,), -1 / (classes - 1), dtype=torch.float64)
    cosines[0] = 1
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        enough = (middle * cosines).softmax(0)[0] > probability
        low, high = (low, middle) if enough else (middle, high)
    return high


# CosineClassifier
class DividesAfterwards(_Classifier):
    def forward(self, x):
        lengths = x.norm(dim=1, keepdim=True) * self.weight.norm(dim=1)
        return self.scale * F.linear(x, self.weight) / lengths


# cosface
def with_an_index(cosine, labels, margin=0.35, scale=20.0):
    logits = scale * cosine
    logits[torch.arange(len(labels)), labels] -= scale * margin
    return logits


# arcface
def with_a_clamped_acos(cosine, margin=0.5):
    angle, further = _through_the_angle(cosine, margin)
    beyond = cosine - margin * math.sin(margin)
    return torch.where(angle <= math.pi - margin, further, beyond)


# arcface
def in_float64(cosine, margin=0.5):
    square = (1 - cosine.double() ** 2).clamp(min=1e-7)
    further = cosine * math.cos(margin) - square.sqrt() * math.sin(margin)
    beyond = cosine - margin * math.sin(margin)
    return torch.where(cosine >= -math.cos(margin), further, beyond).float()


# ArcHead
class ByOneHot(_ArcAttempt):
    """One-hot labels and the addition theorem."""


# equal_error_rate
def by_sorting(scores, same):
    ordered, order = scores.sort(descending=True)
    last_of_ties = torch.cat([ordered[1:] < ordered[:-1], torch.tensor([True])])
    accepted_same = same[order].cumsum(0)[last_of_ties] / same.sum()
    accepted_other = (~same)[order].cumsum(0)[last_of_ties] / (~same).sum()
    return torch.maximum(1 - accepted_same, accepted_other).min().item()


# pair_loss
def from_the_definition(first, second, scale=20.0, margin=0.3):
    cosine = F.cosine_similarity(first[:, None], second[None, :], dim=2)
    logits = scale * (cosine - margin * torch.eye(len(first)))
    there, back = logits.logsumexp(dim=1), logits.logsumexp(dim=0)
    return ((there + back) / 2 - logits.diagonal()).mean()


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (ex.least_scale, by_trying),
        (ex.CosineClassifier, DividesAfterwards),
        (ex.cosface, with_an_index),
        (ex.arcface, with_a_clamped_acos),
        (ex.arcface, in_float64),
        (ex.ArcHead, ByOneHot),
        (ex.equal_error_rate, by_sorting),
        (ex.pair_loss, from_the_definition),
    ],
)
def test_another_way_is_right_too(exercise, answer):
    card = exercise.check(answer)
    assert card.state == "right", card
