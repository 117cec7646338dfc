"""Chapter 08's heads: logits from angles, with a margin on the class that is true.

A head takes features and gives logits for ``F.cross_entropy``. Given the labels too, as in
training, it lowers the logit of each row's own class, so that the features must do better than be
right. Without labels, as in testing, all heads of one weight give the same cosines times a scale.

::

    head = ArcFace(features=64, classes=10)
    loss = F.cross_entropy(head(encoder(x), y), y)  # training
    predicted = head(encoder(x)).argmax(dim=1)  # testing
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

SHORTEST = 1e-6  # a vector shorter than this has no direction


def directions(x: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows features"]:
    """Each row divided by its length; float16 and bfloat16 become float32.

    A row shorter than ``SHORTEST`` has no direction and stays as it is, near 0. There
    ``F.normalize`` has a slope of 1e12, and this one of 1.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.where(length > SHORTEST, torch.ones_like(length))


def cosines(
    features: Float[Tensor, "n features"], weight: Float[Tensor, "classes features"]
) -> Float[Tensor, "n classes"]:
    """The cosine of the angle between each feature vector and each class's weight vector.

    Computed in float32 where the inputs have less, also under autocast: a float16 cannot tell
    the cosine of 1° from 1.
    """
    with _without_autocast(features.device):
        return F.linear(directions(features), directions(weight))


def cosface_target(cosine: Float[Tensor, "..."], margin: float = 0.35) -> Float[Tensor, "..."]:
    """The target's cosine less the margin.

    Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition" (2018), the
    definition of the loss.
    """
    return cosine - margin


def arcface_target(cosine: Float[Tensor, "..."], margin: float = 0.5) -> Float[Tensor, "..."]:
    """The cosine of the target's angle plus the margin, which is in radians.

    Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition" (2019),
    equation 3. From the angle π - ``margin`` on, where that cosine would rise again, it is
    ``cosine - margin * sin(margin)``, as in the authors' code. Values and slopes are finite for
    every cosine, also where rounding has made it larger than 1.
    """
    # cos(θ + m) by the addition theorem: acos has an infinite slope at ±1 and is NaN beyond. A
    # root's slope is infinite at 0, so what stands under it is kept a little above.
    square = ((1 - cosine) * (1 + cosine)).clamp(min=torch.finfo(cosine.dtype).eps)
    further = cosine * math.cos(margin) - square.sqrt() * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), further, cosine - margin * math.sin(margin))


class CosineHead(nn.Module):
    """``scale`` times the cosines between features and class weights: the normalised softmax.

    ``weight``, ``Float[Tensor, "classes features"]``, is the only parameter. ``margin`` is a
    plain number that may change from step to step; here it must be 0. It and ``scale`` are saved in
    ``state_dict``. Raises ``ValueError`` for a scale or a margin out of range.
    """

    largest_margin = 0.0
    margin_advice = ""

    def __init__(self, features: int, classes: int, scale: float = 30.0, margin: float = 0.0):
        super().__init__()
        self.scale = _checked_scale(scale)
        self.margin = margin
        self.weight = nn.Parameter(torch.empty(classes, features))
        nn.init.xavier_uniform_(self.weight)
        self.register_load_state_dict_pre_hook(_keep_missing_settings)

    @property
    def margin(self) -> float:
        return self._margin

    @margin.setter
    def margin(self, value: float) -> None:
        if not 0 <= value <= self.largest_margin:
            raise ValueError(
                f"margin of {type(self).__name__} must be in [0, {self.largest_margin:.4g}], "
                f"got {value}{self.margin_advice}"
            )
        self._margin = float(value)

    def forward(
        self, features: Float[Tensor, "n features"], labels: Shaped[Tensor, "..."] | None = None
    ) -> Float[Tensor, "n classes"]:
        """Logits; with ``labels``, the margin is on each row's own class.

        They are float32 for float16 and bfloat16. Raises ``ValueError`` for labels that are not
        one class number for each row; to look at them makes an accelerator wait.
        """
        cosine = cosines(features, self.weight)
        if labels is None:
            return self.scale * cosine
        target = _checked_classes(labels, *cosine.shape).unsqueeze(1)
        return self.scale * cosine.scatter(1, target, self.target(cosine.gather(1, target)))

    def target(self, cosine: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """What takes the place of the target's cosine while training."""
        return cosine

    def get_extra_state(self) -> Tensor:
        return _packed(self.scale, self.margin)

    def set_extra_state(self, state: Tensor) -> None:
        self.scale, self.margin = _unpacked(state)

    def extra_repr(self) -> str:
        classes, features = self.weight.shape
        return f"{features}, {classes}, scale={self.scale:g}, margin={self.margin:g}"


class CosFace(CosineHead):
    """A cosine head whose target must lead by ``margin`` in cosine; see ``cosface_target``."""

    largest_margin = 1.0

    def __init__(self, features: int, classes: int, scale: float = 30.0, margin: float = 0.35):
        super().__init__(features, classes, scale, margin)

    def target(self, cosine: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return cosface_target(cosine, self.margin)


class ArcFace(CosineHead):
    """A cosine head whose target must lead by ``margin`` radians; see ``arcface_target``."""

    largest_margin = math.pi / 2
    margin_advice = ": it is in radians, use math.radians(...) for degrees"

    def __init__(self, features: int, classes: int, scale: float = 30.0, margin: float = 0.5):
        super().__init__(features, classes, scale, margin)

    def target(self, cosine: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return arcface_target(cosine, self.margin)


class L2Softmax(nn.Linear):
    """Softmax on features of one length, ``scale``; the class weights and biases stay free.

    Ranjan et al., "L2-constrained Softmax Loss for Discriminative Face Verification" (2017).
    The scale is saved in ``state_dict``.
    """

    def __init__(self, features: int, classes: int, scale: float = 20.0):
        super().__init__(features, classes)
        self.scale = _checked_scale(scale)
        self.register_load_state_dict_pre_hook(_keep_missing_settings)

    def forward(
        self, features: Float[Tensor, "n features"], labels: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n classes"]:
        """Logits. ``labels`` may be given as to the other heads; there is no margin to put on."""
        return super().forward(self.scale * directions(features).to(self.weight.dtype))

    def get_extra_state(self) -> Tensor:
        return _packed(self.scale)

    def set_extra_state(self, state: Tensor) -> None:
        (self.scale,) = _unpacked(state)


class Warmup:
    """Raises a head's margin or scale, in ``steps`` equal steps, from ``start`` to what it was.

    ``attribute`` is the name of what rises, "margin" or "scale". Making it sets that to ``start``.
    Call ``step()`` after each step of the optimizer. To resume, make it anew and load its
    ``state_dict()``. Raises ``ValueError`` for ``steps`` below 1, a scale that would start at 0,
    and a head that has no such attribute.
    """

    def __init__(self, head: CosineHead, steps: int, attribute: str = "margin", start: float = 0.0):
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if not hasattr(head, attribute):
            raise ValueError(f"{type(head).__name__} has no {attribute} to raise")
        if attribute == "scale" and not start > 0:
            raise ValueError(
                f"a scale must start above 0, got {start}: give start=1.0, for example"
            )
        self.head, self.steps, self.attribute, self.start = head, steps, attribute, start
        self.full, self.done = getattr(head, attribute), 0
        setattr(head, attribute, start)

    def step(self) -> None:
        self._go_to(min(self.done + 1, self.steps))

    def state_dict(self) -> dict[str, float]:
        return {"done": self.done, "full": self.full}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on where the saved one was, with the steps and the start of this one."""
        self.full = state["full"]
        self._go_to(min(int(state["done"]), self.steps))

    def _go_to(self, done: int) -> None:
        self.done, share = done, done / self.steps
        setattr(self.head, self.attribute, (1 - share) * self.start + share * self.full)


# How far apart classes are, and whether two images show the same one


class Angles(NamedTuple):
    """Degrees, both means over the classes."""

    within: float
    between: float


def class_angles(features: Float[Tensor, "n features"], labels: Shaped[Tensor, "..."]) -> Angles:
    """How tight the classes are, and how far apart.

    ``within`` is the mean angle between a feature vector and the mean direction of its class,
    ``between`` the angle from a class's mean direction to the nearest other one. Raises
    ``ValueError`` for fewer than two classes, and for labels that are not one class number for each
    row.
    """
    x = directions(features)
    labels = _checked_classes(labels, len(x))
    classes, place = labels.unique(return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"got {len(classes)} class in labels: angles between classes need two")
    centres = directions(torch.stack([x[labels == one].mean(dim=0) for one in classes]))
    own = _angle((x * centres[place]).sum(dim=1))
    within = torch.stack([own[labels == one].mean() for one in classes])
    between = _angle(_cosines_within(centres)).fill_diagonal_(math.inf).min(dim=1).values
    return Angles(math.degrees(within.mean()), math.degrees(between.mean()))


def pair_scores(
    features: Float[Tensor, "n features"], labels: Shaped[Tensor, "..."]
) -> tuple[Float[Tensor, " pairs"], Bool[Tensor, " pairs"]]:
    """The cosine of every pair of different rows, each pair once, and whether it is one class.

    That takes up to 40 bytes a pair: 8 GB for 20,000 rows, so take a part of a large set.
    Raises ``ValueError`` for labels that are not one class number for each row.
    """
    x = directions(features)
    labels = _checked_classes(labels, len(x))
    first, second = torch.triu_indices(len(x), len(x), offset=1, device=x.device)
    return _cosines_within(x)[first, second], labels[first] == labels[second]


def roc(
    scores: Shaped[Tensor, "..."], same: Shaped[Tensor, "..."]
) -> tuple[Float[Tensor, " thresholds"], Float[Tensor, " thresholds"]]:
    """The rates of false and of true acceptance at each threshold, the highest threshold first.

    A pair is accepted where its score is at least the threshold, and each score is one: give the
    negatives of distances. Raises ``ValueError`` unless there are pairs of both kinds, for a score
    that is NaN, for scores of another form, and for ``same`` that is not one bool for each score.
    """
    if scores.ndim != 1 or same.dtype != torch.bool or same.shape != scores.shape:
        raise ValueError(
            "scores must be of shape (pairs,) and same must hold one bool for each, got scores of "
            f"shape {tuple(scores.shape)} and {same.dtype} of shape {tuple(same.shape)}: flatten() "
            "both, and make bools of zeros and ones with same == 1"
        )
    if scores.isnan().any():
        raise ValueError(
            f"{int(scores.isnan().sum())} of {len(scores)} scores are NaN: look for NaN in the "
            "features that they come from"
        )
    if not same.any() or same.all():
        raise ValueError(
            f"got {int(same.sum())} same pairs of {len(same)}: give pairs of each kind"
        )
    scores, order = scores.sort(descending=True)
    last_of_ties = torch.ones_like(same)
    last_of_ties[:-1] = scores[1:] < scores[:-1]
    same = same[order]
    false, true = ((~same).cumsum(0), same.cumsum(0))
    return false[last_of_ties] / false[-1], true[last_of_ties] / true[-1]


def equal_error_rate(scores: Shaped[Tensor, "..."], same: Shaped[Tensor, "..."]) -> float:
    """The least level under which one threshold keeps both rates of error; 0 is perfect.

    The rates are those of false acceptance (of the pairs that differ) and of false rejection (of
    those that are the same). Raises what ``roc`` raises.
    """
    false_acceptance, true_acceptance = roc(scores, same)
    return torch.maximum(false_acceptance, 1 - true_acceptance).min().item()


def _without_autocast(device: torch.device) -> AbstractContextManager:
    # Not every accelerator has an autocast that could be turned off.
    on = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else nullcontext()


def _cosines_within(x: Float[Tensor, "n features"]) -> Float[Tensor, "n n"]:
    """The cosines of directions with each other, in full precision also under autocast."""
    with _without_autocast(x.device):
        return x @ x.T


def _angle(cosine: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return cosine.clamp(-1, 1).acos()


def _checked_classes(
    labels: Shaped[Tensor, "..."], n: int, classes: int | None = None
) -> Int[Tensor, " n"]:
    """The labels as int64, if they are ``n`` class numbers, below ``classes`` where it is given."""
    if labels.shape != (n,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(
            f"labels must be {n} class numbers, integers of shape ({n},), got {labels.dtype} of "
            f"shape {tuple(labels.shape)}: for shares of classes use argmax(dim=1), for a column "
            "squeeze(1)"
        )
    if classes is not None and len(labels):
        low, high = (int(end) for end in labels.aminmax())
        if low < 0 or high >= classes:
            raise ValueError(
                f"labels must be classes from 0 to {classes - 1}, got {low} to {high}: leave out "
                "rows that have no class, or make a head with more classes"
            )
    return labels.long()


def _keep_missing_settings(
    module: nn.Module, state: dict[str, Any], prefix: str, *others: Any
) -> None:
    # A state of weights alone, such as another library's, leaves scale and margin as they are.
    state.setdefault(f"{prefix}_extra_state", module.get_extra_state())


def _packed(*settings: float) -> Tensor:
    # safetensors and averages of state dicts take nothing but tensors, averages leave integers
    # alone, and some accelerators have no float64.
    return torch.tensor(settings, dtype=torch.float64, device="cpu").view(torch.uint8)


def _unpacked(state: Tensor) -> list[float]:
    scale, *margin = state.cpu().clone().view(torch.float64).tolist()
    return [_checked_scale(scale), *margin]


def _checked_scale(scale: float) -> float:
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be positive and finite, got {scale}")
    return float(scale)
