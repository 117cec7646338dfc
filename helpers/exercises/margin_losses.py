"""The exercises of chapter 08: lengths, angles, and how much more than right to ask for."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from helpers.exercises.compare import Words
from helpers.exercises.engine import Case, Exercise, Prediction

# Longer features ---------------------------------------------------------------------------------

longer = Prediction(
    "margin_losses.longer",
    title="Ten times as long",
    stars=1,
    minutes=3,
    ask="""
    A trained softmax classifier without a bias gets 90 % of its test rows right. In each of the
    others, the logit of a wrong class leads by more than 1. Somebody multiplies every feature
    vector, the input of the last layer, by 10. Nothing else changes.

    Write `"higher"`, `"lower"` or `"same"` for the first three, `True` or `False` for the last.
    """,
    blank="""{
    "accuracy": ...,
    "mean loss of the rows it gets right": ...,
    "mean loss of the rows it gets wrong": ...,
    "the cosine of any feature and any class weight changes": ...,
}""",
    hints=(
        "All logits of a row are multiplied by 10. Which of them is the largest?",
        "Softmax looks at differences of logits, and they are ten times as large now. What does "
        "that do to a row that is right, and to one that is sure of the wrong class?",
    ),
    takeaway="Length is how sure a softmax is, and it is sure of whatever it says. Only the angle "
    "says *which* class. So training can lower the loss of a row it gets right without moving it "
    "nearer to its class.",
)


@longer.reference
def longer():
    features, weight = torch.randn(1000, 8), torch.randn(5, 8)
    labels = (features @ weight.T).argmax(dim=1)
    first, second = (features @ weight.T).topk(2, dim=1).values.T
    sure = (first - second).topk(100).indices  # these are labelled as another class
    labels[sure] = (labels[sure] + 1) % 5
    long = 10 * features

    def seen(x):
        logits = x @ weight.T
        right = logits.argmax(dim=1) == labels
        loss = F.cross_entropy(logits, labels, reduction="none")
        return right.float().mean().item(), loss[right].mean().item(), loss[~right].mean().item()

    def word(before, after):
        return "same" if math.isclose(before, after) else ("higher" if after > before else "lower")

    accuracy, loss_right, loss_wrong = map(word, seen(features), seen(long))
    before, after = (F.cosine_similarity(x, weight[:1]) for x in (features, long))
    return {
        "accuracy": accuracy,
        "mean loss of the rows it gets right": loss_right,
        "mean loss of the rows it gets wrong": loss_wrong,
        "the cosine of any feature and any class weight changes": not torch.allclose(
            before, after, atol=1e-5
        ),
    }


@longer.observe
def _in_small_letters(answer):
    if type(answer) is not dict:
        return answer
    return {key: word.lower() if type(word) is str else word for key, word in answer.items()}


_LONGER = (
    "accuracy",
    "mean loss of the rows it gets right",
    "mean loss of the rows it gets wrong",
    "the cosine of any feature and any class weight changes",
)


@longer.mistake(
    "Ten times the logits have the same largest one. What a classifier *says* does not depend on "
    "the length of the features, only how loudly it says it."
)
def accuracy_rises():
    return {_LONGER[0]: "higher"}


@longer.mistake(
    "Ten times the logits have the same largest one: no row changes sides, in either direction."
)
def accuracy_falls():
    return {_LONGER[0]: "lower"}


@longer.mistake(
    "The loss does look at lengths: differences of logits become ten times as large, and the "
    "probability of a class that leads goes towards 1."
)
def loss_of_the_right_stays():
    return {_LONGER[1]: "same"}


@longer.mistake(
    "A row that is right has its own class in front. Ten times the lead is a probability nearer to "
    "1, so its loss falls."
)
def loss_of_the_right_rises():
    return {_LONGER[1]: "higher"}


@longer.mistake(
    "A row that is wrong has another class in front, and that lead grows tenfold, too: the model "
    "is sure of the wrong class now."
)
def loss_of_the_wrong_falls():
    return {_LONGER[2]: "lower"}


@longer.mistake(
    "The lead of the wrong class grows tenfold, and the loss is about that lead: it does not stay."
)
def loss_of_the_wrong_stays():
    return {_LONGER[2]: "same"}


@longer.mistake("A cosine divides by both lengths: it is the angle alone, and no angle changed.")
def cosine_changes():
    return {_LONGER[3]: True}


# The scale that is needed ------------------------------------------------------------------------

least_scale = Exercise(
    "margin_losses.least_scale",
    title="How large must the scale be?",
    stars=2,
    minutes=8,
    ask="""
    `classes` weight vectors stand as far apart as that many can: the cosine of any two of them is
    `-1 / (classes - 1)`. (Two: opposite. Three: 120° apart. Four: the corners of a tetrahedron. It
    takes `classes - 1` dimensions or more.)
    A feature vector lies exactly on its class's weight, which is the best it can do.

    The logits are `scale` times the cosines. Write `least_scale(classes, probability)`: the scale
    at which softmax gives that feature's class exactly `probability`, which is above
    `1 / classes`. A float.
    """,
    hints=(
        "Write down the row of cosines: one 1, and `classes - 1` times the same number.",
        "With `c` for that number, p = e^s / (e^s + (C - 1) · e^(s·c)). Divide above and below by "
        "e^s.",
        "p / (1 - p) = e^(s·(1 - c)) / (C - 1). Take the logarithm, and put in c.",
    ),
    cases=lambda: [
        Case(f"{classes} classes, probability {p}", classes, p)
        for classes, p in ((2, 0.9), (3, 0.9), (10, 0.9), (10, 0.999), (1000, 0.99))
    ],
    takeaway="Without enough scale, even a perfect embedding has a loss. The bound grows with the "
    "logarithm of the number of classes. (It is the bound that the CosFace paper gives.)",
)


@least_scale.starter
def least_scale(classes, probability):
    """The scale at which a perfect feature vector gets this probability."""
    ...


@least_scale.reference
def least_scale(classes, probability):
    other = -1 / (classes - 1)
    return math.log((classes - 1) * probability / (1 - probability)) / (1 - other)


@least_scale.also_right
def by_trying(classes, probability):
    cosines = torch.full((classes,), -1 / (classes - 1), dtype=torch.float64)
    cosines[0] = 1
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        enough = (middle * cosines).softmax(0)[0] > probability
        low, high = (low, middle) if enough else (middle, high)
    return high


@least_scale.mistake(
    "You let all other cosines be -1. Two directions can be opposite to each other, three cannot: "
    "the others are at `-1 / (classes - 1)`."
)
def all_others_opposite(classes, probability):
    return math.log((classes - 1) * probability / (1 - probability)) / 2


@least_scale.mistake(
    "You let all other cosines be 0. As far apart as possible is further than a right angle: the "
    "others are at `-1 / (classes - 1)`, which helps."
)
def all_others_at_right_angles(classes, probability):
    return math.log((classes - 1) * probability / (1 - probability))


@least_scale.mistake(
    "That is the bound for L2-constrained softmax: one rival opposite, `classes - 2` at right "
    "angles. For two classes it is the logarithm of 0. Here *all* others are at "
    "`-1 / (classes - 1)`."
)
def axes_both_ways(classes, probability):
    return math.log(probability * (classes - 2) / (1 - probability))


@least_scale.mistake(
    "There are `classes - 1` *other* classes in the denominator, beside the own one. You count "
    "one too many."
)
def counts_itself_among_the_others(classes, probability):
    return math.log(classes * probability / (1 - probability)) / (1 + 1 / (classes - 1))


@least_scale.mistake(
    "That is the value of the odds, not of the scale: the scale stands in the exponent. Take the "
    "logarithm before you divide."
)
def forgets_the_logarithm(classes, probability):
    return (classes - 1) * probability / (1 - probability) / (1 + 1 / (classes - 1))


@least_scale.mistake(
    "That is the temperature, which divides the cosines. The scale multiplies them: the inverse."
)
def the_temperature(classes, probability):
    return 1 / least_scale.answer_right(classes, probability)


@least_scale.mistake(
    "The value is right, but it is a tensor; asked for is a float. `math.log` gives one, `.item()` "
    "makes one."
)
def gives_a_tensor(classes, probability):
    return torch.tensor(least_scale.answer_right(classes, probability))


# A classifier of angles --------------------------------------------------------------------------

CosineClassifier = Exercise(
    "margin_losses.CosineClassifier",
    title="A classifier that sees only angles",
    stars=2,
    minutes=6,
    ask="""
    Write the module `CosineClassifier(features, classes, scale=20.0)`. Called on feature vectors
    `(n, features)`, it gives logits `(n, classes)`: `scale` times the cosine of the angle between
    each feature vector and each class's weight vector.

    The weights, `(classes, features)`, are its only parameter, under the name `weight`. An
    optimizer will move them, and the logits must be cosines afterwards, too.
    """,
    hints=(
        "`F.normalize(x, dim=1)` divides each row by its length. Who needs it, and when?",
        "A weight that is normalised once, in `__init__`, has length 1 until the first step.",
        "In `forward`: `F.linear` of both, normalised, times the scale.",
    ),
    cases=lambda: [
        Case("5 features, 3 classes", 5, 3, 20.0, _numbers(6, 5)),
        Case("features a hundred times as long", 5, 3, 20.0, 100 * _numbers(6, 5)),
        Case("2 features, 4 classes, scale 1", 2, 4, 1.0, _numbers(3, 2)),
    ],
    takeaway="Both sides are normalised on the way, in `forward`: the parameter itself keeps "
    "whatever length the optimizer gives it, and gradients know of the division.",
)


def _numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


_NO_SLOPE = Words("no gradient comes back")


def _slopes(result, *inputs):
    """The gradients of a weighted sum of ``result``, or a word for each that does not arrive."""
    if not (isinstance(result, torch.Tensor) and result.requires_grad):
        return (_NO_SLOPE,) * len(inputs)
    total = (result * _numbers(*result.shape, seed=2)).sum()
    found = torch.autograd.grad(total, inputs, allow_unused=True)
    return tuple(_NO_SLOPE if slope is None else slope for slope in found)


def _values(result):
    return result.detach() if isinstance(result, torch.Tensor) else result


@CosineClassifier.observe
def _after_the_optimizer(answer, features, classes, scale, x):
    head = answer(features, classes, scale=scale)
    matrices = [p for p in head.parameters() if p.shape == (classes, features)]
    at_start = [F.cosine_similarity(x[:, None], matrix, dim=2) for matrix in matrices]
    starts = [tuple(row.tolist()) for matrix in matrices for row in matrix]
    first = head(x)
    weight = 3 * _numbers(classes, features, seed=1)
    with torch.no_grad():
        for matrix in matrices:
            matrix.copy_(weight)
    x = x.clone().requires_grad_()
    logits = head(x)
    slope, *moved = _slopes(logits, x, *matrices)
    return {
        "parameters": sorted(name for name, _ in head.named_parameters()),
        "a weight for each class and feature": len(matrices) == 1,
        "each class has a direction of its own at the start": len(set(starts)) == len(starts),
        "cosines times the scale at the start": any(
            torch.allclose(first, scale * cosine, rtol=0, atol=1e-3 * scale) for cosine in at_start
        ),
        "logits once the weights have moved": _values(logits),
        "slope of the features": slope,
        "slope of the weights": moved,
        "logits in eval mode": _values(head.eval()(x)),
    }


@CosineClassifier.starter
class CosineClassifier(nn.Module):
    def __init__(self, features, classes, scale=20.0):
        super().__init__()
        ...

    def forward(self, x):
        """Logits `(n, classes)` of feature vectors `(n, features)`."""
        ...


@CosineClassifier.reference
class CosineClassifier(nn.Module):
    def __init__(self, features, classes, scale=20.0):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(classes, features))

    def forward(self, x):
        directions = F.normalize(self.weight, dim=1)
        return self.scale * F.normalize(x, dim=1) @ directions.T


class _Classifier(nn.Module):
    """What all attempts have in common."""

    def __init__(self, features, classes, scale=20.0):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(classes, features))


@CosineClassifier.also_right
class DividesAfterwards(_Classifier):
    def forward(self, x):
        lengths = x.norm(dim=1, keepdim=True) * self.weight.norm(dim=1)
        return self.scale * F.linear(x, self.weight) / lengths


@CosineClassifier.mistake(
    "The weights have length 1 at the start only: normalised in `__init__`, they leave the sphere "
    "with the first step of the optimizer. Normalise them in `forward`."
)
class NormalisedOnce(_Classifier):
    def __init__(self, features, classes, scale=20.0):
        super().__init__(features, classes, scale)
        self.weight = nn.Parameter(F.normalize(self.weight.detach()))

    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), self.weight)


@CosineClassifier.mistake(
    "The weights bring their lengths along: nowhere are they divided by them. A cosine divides by "
    "both lengths: normalise the weights, too, in `forward`."
)
class WeightsKeepTheirLength(_Classifier):
    def __init__(self, features, classes, scale=20.0):
        super().__init__(features, classes, scale)
        self.weight = nn.Parameter(2 * F.normalize(torch.randn(classes, features)))

    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), self.weight)


@CosineClassifier.mistake(
    "The features still bring their length along: features a hundred times as long give logits a "
    "hundred times as large. A cosine divides by both lengths."
)
class FeaturesKeepTheirLength(_Classifier):
    def forward(self, x):
        return self.scale * F.linear(x, F.normalize(self.weight))


@CosineClassifier.mistake(
    "You normalise columns: `dim=0` makes each *feature* have length 1 over the batch, so the "
    "logits of a row depend on the other rows. A row is a vector here: `dim=1`."
)
class NormalisesColumns(_Classifier):
    def forward(self, x):
        return self.scale * F.linear(F.normalize(x, dim=0), F.normalize(self.weight, dim=0))


@CosineClassifier.mistake("The scale is missing: these are the cosines, between -1 and 1.")
class WithoutScale(_Classifier):
    def forward(self, x):
        return F.linear(F.normalize(x), F.normalize(self.weight))


@CosineClassifier.mistake(
    "You divide by the scale. That is a temperature, its inverse: a large scale must make logits "
    "large."
)
class DividedByTheScale(_Classifier):
    def forward(self, x):
        return F.linear(F.normalize(x), F.normalize(self.weight)) / self.scale


@CosineClassifier.mistake(
    "The cosines are right, and a bias is added to them: a class could win without any angle. "
    "`weight` is to be the only parameter."
)
class WithABias(_Classifier):
    def __init__(self, features, classes, scale=20.0):
        super().__init__(features, classes, scale)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight)) + self.bias


@CosineClassifier.mistake(
    "The scale is a parameter, so an optimizer would move it. It is given, a plain number: "
    "`self.scale = scale`. `weight` is to be the only parameter."
)
class ScaleIsLearned(_Classifier):
    def __init__(self, features, classes, scale=20.0):
        super().__init__(features, classes, scale)
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight))


@CosineClassifier.mistake(
    "The weights are known under two names, or are not called `weight`: whoever saves and loads "
    "this head finds other keys. Register one `nn.Parameter` as `self.weight`, and no "
    "`nn.Linear` beside it."
)
class InsideALinear(nn.Module):
    def __init__(self, features, classes, scale=20.0):
        super().__init__()
        self.scale = scale
        self.fc = nn.Linear(features, classes, bias=False)

    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), F.normalize(self.fc.weight))


@CosineClassifier.mistake(
    "The logits are right and the slope of the weights is not: the division happened outside the "
    "graph (through `.data` or `no_grad`), so a step may push a weight along its own "
    "direction, which changes no angle. Normalise inside `forward`, in the graph."
)
class NormalisedOutsideTheGraph(_Classifier):
    def forward(self, x):
        self.weight.data = F.normalize(self.weight.data)
        return self.scale * F.linear(F.normalize(x), self.weight)


@CosineClassifier.mistake(
    "The logits are right, and no gradient comes back to the weights: they were detached, or their "
    "directions computed under `no_grad`. They would never learn. Normalise in the graph."
)
class DetachesTheWeights(_Classifier):
    def forward(self, x):
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight.detach()))


@CosineClassifier.mistake(
    "The logits are right, and no gradient comes back to the features: they were detached. The "
    "encoder in front of this head would never learn."
)
class DetachesTheFeatures(_Classifier):
    def forward(self, x):
        return self.scale * F.linear(F.normalize(x.detach()), F.normalize(self.weight))


@CosineClassifier.mistake(
    "You transpose first and normalise then: in `weight.T` a class is a *column*, and "
    "`F.normalize` takes `dim=1`, the rows. Normalise the weight, and transpose the result."
)
class NormalisesTheTransposed(_Classifier):
    def forward(self, x):
        return self.scale * F.normalize(x) @ F.normalize(self.weight.T)


@CosineClassifier.mistake(
    "The scale that was given is not used: it is 20 here whatever one asks for. Keep it in "
    "`__init__` and multiply by it."
)
class AlwaysTwenty(_Classifier):
    def forward(self, x):
        return 20 * F.linear(F.normalize(x), F.normalize(self.weight))


@CosineClassifier.mistake(
    "You normalise in train mode only. At test time the lengths are back, and the logits are no "
    "cosines: normalise in both modes."
)
class NormalisesInTraining(_Classifier):
    def forward(self, x):
        if not self.training:
            return self.scale * F.linear(x, self.weight)
        return self.scale * F.linear(F.normalize(x), F.normalize(self.weight))


@CosineClassifier.mistake(
    "You return probabilities. `F.cross_entropy` wants logits, and would take the softmax of your "
    "softmax."
)
class GivesProbabilities(_Classifier):
    def forward(self, x):
        return (self.scale * F.linear(F.normalize(x), F.normalize(self.weight))).softmax(dim=1)


# CosFace -----------------------------------------------------------------------------------------

cosface = Exercise(
    "margin_losses.cosface",
    title="CosFace",
    stars=2,
    minutes=6,
    ask="""
    Write `cosface(cosine, labels, margin=0.35, scale=20.0)`. From the cosines `(n, classes)` and
    the labels `(n,)` it makes the logits of CosFace: in each row, the cosine of the row's *own*
    class is lowered by `margin`. The others stay. Then everything is multiplied by `scale`.

    Leave `cosine` as it is.
    """,
    hints=(
        "Which entries of a matrix `(n, classes)` belong to the labels? One in each row.",
        "`F.one_hot(labels, classes)` is 1 exactly there. So is `cosine[torch.arange(n), labels]`.",
        "`[:, labels]` is something else: whole columns, for every label in the batch.",
    ),
    cases=lambda: [
        Case("4 rows, 3 classes", _cosines(4, 3), torch.tensor([2, 0, 1, 1]), 0.35, 20.0),
        Case("3 rows, 6 classes", _cosines(3, 6), torch.tensor([4, 0, 4]), 0.35, 20.0),
        Case("margin 0.1, scale 64", _cosines(5, 4), torch.tensor([3, 3, 0, 1, 2]), 0.1, 64.0),
        Case("margin 0", _cosines(2, 3), torch.tensor([0, 2]), 0.0, 10.0),
        Case("an own cosine of -0.9", *_far_from_their_classes(), 0.35, 20.0),
    ],
    takeaway="One entry in each row is made worse, by `scale * margin`. To get the loss it had "
    "before, the row must lead by more than it did: by the margin more.",
)


def _cosines(n, classes):
    return F.linear(F.normalize(_numbers(n, 6)), F.normalize(_numbers(classes, 6, seed=1)))


def _far_from_their_classes():
    return torch.tensor([[-0.9, 0.2, 0.5], [0.1, 0.95, -1.0]]), torch.tensor([0, 2])


@cosface.observe
def _with_the_slope(answer, cosine, labels, margin, scale):
    start = cosine.clone().requires_grad_()
    given = 1 * start  # no leaf, so that a change in place is seen and not refused
    logits = answer(given, labels, margin=margin, scale=scale)
    (slope,) = _slopes(logits, start)
    return {
        "logits": _values(logits),
        "slope of the cosines": slope,
        "`cosine` afterwards": given.detach(),
    }


@cosface.starter
def cosface(cosine, labels, margin=0.35, scale=20.0):
    """The logits `(n, classes)` of CosFace."""
    ...


@cosface.reference
def cosface(cosine, labels, margin=0.35, scale=20.0):
    own = F.one_hot(labels, cosine.shape[1])
    return scale * (cosine - margin * own)


@cosface.also_right
def with_an_index(cosine, labels, margin=0.35, scale=20.0):
    logits = scale * cosine
    logits[torch.arange(len(labels)), labels] -= scale * margin
    return logits


@cosface.mistake(
    "The logits are right, and no gradient comes back through them: on the way they were detached, "
    "computed under `no_grad`, or made anew of plain numbers. Nothing would be learned."
)
def without_a_gradient(cosine, labels, margin=0.35, scale=20.0):
    return cosface.answer_right(cosine.detach(), labels, margin, scale)


@cosface.mistake(
    "You lower the class with the largest cosine, whichever it is. Where the row is wrong, that is "
    "a rival, and it is made weaker. The own class is the one that `labels` names."
)
def lowers_the_leader(cosine, labels, margin=0.35, scale=20.0):
    return scale * (cosine - margin * F.one_hot(cosine.argmax(dim=1), cosine.shape[1]))


@cosface.mistake(
    "You clamp the result to -1 and 1. With the margin off, an own cosine of -0.9 becomes -1.25, "
    "which is no cosine any more, and need not be one. A clamped entry has the slope 0: the worst "
    "rows would stay where they are."
)
def clamps_the_result(cosine, labels, margin=0.35, scale=20.0):
    return scale * (cosine - margin * F.one_hot(labels, cosine.shape[1])).clamp(-1, 1)


@cosface.mistake(
    "The logits are right, and `cosine` is changed: you write into it. Who holds it, to measure "
    "accuracy, say, finds the margin in it. Write into a copy."
)
def changes_the_cosines(cosine, labels, margin=0.35, scale=20.0):
    cosine[torch.arange(len(labels)), labels] -= margin
    return scale * cosine


@cosface.mistake(
    "You lower every class alike. Softmax does not see what is subtracted from all: loss and "
    "slopes are those without a margin, and nothing tells you. Only the row's own class is lowered."
)
def margin_on_all(cosine, labels, margin=0.35, scale=20.0):
    return scale * (cosine - margin)


@cosface.mistake(
    "`[:, labels]` chooses whole columns: every label of the batch, in every row. In a batch that "
    "holds all classes, that is a margin on all, which is none. Pair each row with its own label: "
    "`[torch.arange(n), labels]`."
)
def whole_columns(cosine, labels, margin=0.35, scale=20.0):
    own = torch.zeros_like(cosine)
    own[:, labels] = 1
    return scale * (cosine - margin * own)


@cosface.mistake(
    "Two things at once. `[:, labels]` chooses whole columns: every label of the batch, in every "
    "row. Pair each row with its own label, `[torch.arange(n), labels]`. And you write into "
    "`cosine`, which others may hold: write into a copy."
)
def whole_columns_in_place(cosine, labels, margin=0.35, scale=20.0):
    cosine[:, labels] -= margin
    return scale * cosine


@cosface.mistake(
    "You *add* the margin to the own class: that makes the task easier, and classes may overlap. "
    "The target is made worse, so that training must do more."
)
def adds_the_margin(cosine, labels, margin=0.35, scale=20.0):
    return scale * (cosine + margin * F.one_hot(labels, cosine.shape[1]))


@cosface.mistake(
    "You subtract the margin after the scale. 0.35 of a *cosine* is much; of a logit that goes up "
    "to 20, it is next to nothing."
)
def margin_after_the_scale(cosine, labels, margin=0.35, scale=20.0):
    return scale * cosine - margin * F.one_hot(labels, cosine.shape[1])


@cosface.mistake(
    "The margin is right, the scale is missing: these logits stay between -1.35 and 1, and the "
    "loss above its floor."
)
def no_scale(cosine, labels, margin=0.35, scale=20.0):
    return cosine - margin * F.one_hot(labels, cosine.shape[1])


@cosface.mistake(
    "You lower the other classes, and leave the own one. That is a margin in the wrong direction: "
    "the rivals are made weaker."
)
def lowers_the_others(cosine, labels, margin=0.35, scale=20.0):
    return scale * (cosine - margin * (1 - F.one_hot(labels, cosine.shape[1])))


@cosface.mistake(
    "For softmax this is the same: to raise all others is to lower the own class. But the logits "
    "are not those that were asked for: lower the own one."
)
def raises_the_others(cosine, labels, margin=0.35, scale=20.0):
    return scale * (cosine + margin * (1 - F.one_hot(labels, cosine.shape[1])))


@cosface.mistake(
    "You give back the losses. Asked for are the logits: one function, one job, and "
    "`F.cross_entropy` does the rest."
)
def gives_the_loss(cosine, labels, margin=0.35, scale=20.0):
    return F.cross_entropy(cosface.answer_right(cosine, labels, margin, scale), labels)


# What one aligned row does -----------------------------------------------------------------------

aligned = Prediction(
    "margin_losses.aligned",
    title="The row that is perfect",
    stars=2,
    minutes=4,
    ask="""
    ArcFace as it is often written, with a margin of 0.5 on the target:

    ```python
    logits = 20 * torch.where(is_target, torch.cos(torch.acos(cosine) + 0.5), cosine)
    ```

    The cosines come from `F.normalize(encoder(x)) @ F.normalize(weight).T`, where `encoder` is an
    `nn.Linear` that all rows go through. In a batch of four rows, one feature vector lies *exactly*
    on its class weight: its cosine is 1. You compute the mean loss, call `backward()`, and take
    one step of SGD.

    For both losses, write `"finite"` or `"nan"`; for the gradient, which share of the entries of
    `encoder.weight.grad` is NaN: a number from 0 to 1.
    """,
    blank="""{
    "loss": ...,
    "share of encoder.weight.grad that is NaN": ...,
    "loss after the step": ...,
}""",
    hints=(
        "The slope of acos is -1/√(1 - c²). At c = 1?",
        "Going back, the slope of the cosine meets the slope of `F.normalize`, which is 0 in the "
        "direction of the vector itself. What is infinity times 0, or less infinity?",
        "The gradient of the encoder's weight is a *sum* over the rows of the batch.",
    ),
    takeaway="One perfect row, and the model is gone: the loss before it was fine, every loss "
    "after it is NaN. The value never shows it. Look at the slope, at the ends of the range.",
)


@aligned.reference
def aligned():
    encoder = nn.Linear(2, 2, bias=False)
    nn.init.eye_(encoder.weight)
    weight = nn.Parameter(torch.eye(2))
    x, labels = torch.tensor([[3.0, 0.0], [1.0, 2.0], [2.0, 1.0], [1.0, 3.0]]), [0, 1, 0, 1]
    labels = torch.tensor(labels)
    optimizer = torch.optim.SGD([*encoder.parameters(), weight], lr=0.1)

    def loss_now():
        directions = F.normalize(encoder(x))
        cosine = directions @ F.normalize(weight).T
        is_target = F.one_hot(labels, 2).bool()
        further = torch.cos(torch.acos(cosine) + 0.5)
        logits = 20 * torch.where(is_target, further, cosine)
        return F.cross_entropy(logits, labels)

    first = loss_now()
    first.backward()
    share = encoder.weight.grad.isnan().float().mean().item()
    optimizer.step()
    word = {True: "finite", False: "nan"}
    return {
        "loss": word[first.isfinite().item()],
        "share of encoder.weight.grad that is NaN": share,
        "loss after the step": word[loss_now().isfinite().item()],
    }


@aligned.mistake(
    "Going forward nothing is wrong: acos(1) is 0, and the target becomes cos(0.5). Only beyond 1 "
    "is acos itself NaN. The trouble comes on the way back."
)
def value_is_nan():
    return {"loss": "nan"}


@aligned.mistake(
    "Only one row of four is to blame, and there is one encoder for all: its gradient is the sum "
    "over the rows, and NaN plus anything is NaN."
)
def a_quarter():
    return {"share of encoder.weight.grad that is NaN": 0.25}


@aligned.mistake(
    "The slope of acos at 1 is infinite, and infinity times the 0 that `F.normalize` gives there "
    "is NaN. The encoder gets it."
)
def gradient_is_finite():
    return {"share of encoder.weight.grad that is NaN": 0.0}


@aligned.mistake(
    "The step subtracts the gradient from the weights. What was NaN in it is NaN in them, and so "
    "is all that they compute from now on."
)
def recovers():
    return {"loss after the step": "finite"}


# ArcFace -----------------------------------------------------------------------------------------

arcface = Exercise(
    "margin_losses.arcface",
    title="ArcFace that survives",
    stars=3,
    minutes=12,
    ask="""
    Write `arcface(cosine, margin=0.5)` for the cosines of the *targets* alone (a tensor of any
    shape). With θ for the angle:

    - cos(θ + margin), as long as θ ≤ π - margin;
    - beyond, where that would rise again: `cosine - margin * sin(margin)`. (At the border the first
      piece has reached -1. The second starts below that, with a jump, and goes on falling.)

    Leave `cosine` as it is.

    Values and slopes must be finite for every cosine: for 1 and -1, and for 1.0000001, which
    rounding gives. For cosines from -0.999 to 0.999 the check compares values and slopes with the
    formula; at the ends it wants them finite, and the value within 0.01.
    """,
    hints=(
        "The comparison needs no angle: θ ≤ π - m says the same as cos θ ≥ cos(π - m) = -cos m.",
        "cos(θ + m) = cos θ · cos m - sin θ · sin m. There is no acos in it, but a square root, "
        "which has an infinite slope at 0. `clamp(min=...)` *under* the root.",
        "Or stay with acos, and give it only cosines that are a little inside of -1 and 1: clamp "
        "first.",
        "`torch.where` picks values. Going back, the branch that was *not* picked gets the slope "
        "0, and 0 times its infinity is NaN: make its input harmless before, not after.",
    ),
    help=(
        (
            "<code>slope at the ends: not finite</code>",
            "Somewhere an <code>acos</code> or a <code>sqrt</code> still sees its end point, "
            "perhaps in a branch that <code>torch.where</code> throws away.",
        ),
    ),
    cases=lambda: [
        Case("margin 0.5", 0.5),
        Case("margin 0.2", 0.2),
        Case("margin 1.0", 1.0),
        Case("margin 0", 0.0),
    ],
    takeaway="Three things that a formula on paper does not say: where it stops falling, where its "
    "slope is infinite, and that a discarded branch still sends its NaN back.",
)


@arcface.observe
def _inside_and_at_the_ends(answer, margin):
    inside = torch.linspace(-0.999, 0.999, 41)[:, None].requires_grad_()
    values = answer(1 * inside, margin)
    (slopes,) = _slopes(values, inside)
    ends = torch.tensor([[1.0, -1.0], [1.0000001, -1.0000001]], requires_grad=True)
    given = 1 * ends  # no leaf, so that a change in place is seen and not refused
    at_ends = answer(given, margin)
    (end_slopes,) = _slopes(at_ends, ends)
    expected = torch.tensor([math.cos(margin), -1 - margin * math.sin(margin)])
    return {
        "values": _values(values),
        "slopes": _by_the_formula(slopes, inside.detach(), margin),
        "shape is kept": tuple(at_ends.shape),
        "values at the ends": _word(at_ends.isfinite().all()),
        "slope at the ends": end_slopes
        if end_slopes is _NO_SLOPE
        else _word(end_slopes.isfinite().all()),
        "values at the ends within 0.01": bool(((at_ends - expected).abs() < 0.01).all()),
        "`cosine` is left as it is": torch.equal(given, ends),
    }


def _by_the_formula(slopes, cosine, margin):
    """The formula's slopes where ``slopes`` are near them, else ``slopes`` as they are.

    Near an end they hang on the last bit of the cosine, which float64 has and float32 has not.
    """
    angle = cosine.double().acos()
    exact = (torch.sin(angle + margin) / angle.sin()).where(angle <= math.pi - margin, 1.0)
    exact = (exact * _numbers(*cosine.shape, seed=2)).float()
    if slopes is _NO_SLOPE or not torch.allclose(slopes, exact, rtol=1e-4, atol=1e-4):
        return slopes
    return exact


def _word(finite):
    return "finite" if finite else "not finite"


@arcface.starter
def arcface(cosine, margin=0.5):
    """ArcFace's target from its cosine; finite, and with finite slopes, everywhere."""
    ...


@arcface.reference
def arcface(cosine, margin=0.5):
    square = (1 - cosine**2).clamp(min=1e-7)
    further = cosine * math.cos(margin) - square.sqrt() * math.sin(margin)
    beyond = cosine - margin * math.sin(margin)
    return torch.where(cosine >= -math.cos(margin), further, beyond)


def _through_the_angle(cosine, margin):
    angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
    return angle, torch.cos(angle + margin)


@arcface.also_right
def with_a_clamped_acos(cosine, margin=0.5):
    angle, further = _through_the_angle(cosine, margin)
    beyond = cosine - margin * math.sin(margin)
    return torch.where(angle <= math.pi - margin, further, beyond)


@arcface.also_right
def in_float64(cosine, margin=0.5):
    square = (1 - cosine.double() ** 2).clamp(min=1e-7)
    further = cosine * math.cos(margin) - square.sqrt() * math.sin(margin)
    beyond = cosine - margin * math.sin(margin)
    return torch.where(cosine >= -math.cos(margin), further, beyond).float()


@arcface.mistake(
    "Inside, all is right. At 1 and -1 the slope of acos is infinite, and beyond, where rounding "
    "goes, acos is NaN. Clamp the cosine first, or do without acos."
)
def plain_acos(cosine, margin=0.5):
    angle = cosine.acos()
    beyond = cosine - margin * math.sin(margin)
    return torch.where(angle <= math.pi - margin, torch.cos(angle + margin), beyond)


@arcface.mistake(
    "The values are finite at the ends, and the slopes are not: acos or the root still sees its "
    "end point. A `torch.where` afterwards does not help: going back, the branch not picked gets 0 "
    "times an infinite slope, which is NaN. A bound at exactly -1 and 1 may let the ends through. "
    "What goes *into* acos or the root must stay a little inside."
)
def picks_afterwards(cosine, margin=0.5):
    angle = cosine.acos()
    beyond = cosine - margin * math.sin(margin)
    safe = torch.where(cosine.abs() < 1, torch.cos(angle + margin), cosine * math.cos(margin))
    return torch.where(cosine >= -math.cos(margin), safe, beyond)


@arcface.mistake(
    "The result is right, and `cosine` is changed: you clamp it in place. The others that hold it "
    "find other values in it. Clamp a copy: `clamp`, not `clamp_`."
)
def clamps_in_place(cosine, margin=0.5):
    cosine.clamp_(-1 + 1e-6, 1 - 1e-6)
    return arcface.answer_right(cosine, margin)


@arcface.mistake(
    "Finite everywhere, and it rises again behind π - margin: the worst rows of all would be "
    "rewarded for getting worse. From there on, it is `cosine - margin * sin(margin)`."
)
def no_continuation(cosine, margin=0.5):
    return _through_the_angle(cosine, margin)[1]


@arcface.mistake(
    "The two pieces are exchanged, or the border is on the wrong side: θ ≤ π - m is "
    "cos θ ≥ **-**cos m, almost all of the range."
)
def border_on_the_wrong_side(cosine, margin=0.5):
    further = _through_the_angle(cosine, margin)[1]
    return torch.where(cosine >= math.cos(margin), further, cosine - margin * math.sin(margin))


@arcface.mistake(
    "That border makes ArcFace *easy margin*, another head: from 90° on it has no margin at all. "
    "Asked for is the border π - m."
)
def easy_margin(cosine, margin=0.5):
    return torch.where(cosine > 0, _through_the_angle(cosine, margin)[1], cosine)


@arcface.mistake(
    "The values are right, the slopes are not: the margin was added outside the graph "
    "(`no_grad`, `detach`), so going back it is not there. Some libraries do that."
)
def margin_without_slope(cosine, margin=0.5):
    with torch.no_grad():
        added = arcface.answer_right(cosine, margin) - cosine
    return cosine + added


@arcface.mistake(
    "You subtract the margin from the angle, which brings the target nearer to its class. It must "
    "go further away: θ + margin."
)
def angle_made_smaller(cosine, margin=0.5):
    angle = _through_the_angle(cosine, margin)[0]
    beyond = cosine - margin * math.sin(margin)
    return torch.where(angle <= math.pi - margin, torch.cos(angle - margin), beyond)


@arcface.mistake(
    "You stop the angle at π: from π - margin on, the target stays at -1. It no longer rises, and "
    "it no longer falls: the slope is 0 for the rows that are most wrong. From there on, it is "
    "`cosine - margin * sin(margin)`."
)
def stops_at_pi(cosine, margin=0.5):
    angle = _through_the_angle(cosine, margin)[0]
    return torch.cos((angle + margin).clamp(max=math.pi))


@arcface.mistake("That is CosFace: it subtracts from the cosine. ArcFace adds to the *angle*.")
def subtracts_from_the_cosine(cosine, margin=0.5):
    return cosine - margin


@arcface.mistake(
    "You take the margin for degrees. It is in radians, as `math.sin` and `torch.cos` have it: 0.5 "
    "is almost 29°."
)
def in_degrees(cosine, margin=0.5):
    return arcface.answer_right(cosine, math.radians(margin))


# Bug hunt ----------------------------------------------------------------------------------------

ArcHead = Exercise(
    "margin_losses.ArcHead",
    title="Bug hunt: a margin that fades",
    stars=3,
    minutes=10,
    ask="""
    A colleague's head trains without an error. They report:

    - with small batches the margin does something, with large ones hardly anything;
    - after long training most slopes are exactly 0, and the rows that are still wrong stay wrong;
    - on test rows, without labels, the head often prefers the *second* best class.

    Mend the class; there is a bug for each complaint. You are judged by the logits with and without
    labels and by their slopes, also when the weights have grown, and for rows that lie on their
    class weight or opposite to it. (What the head does there is right. Leave it so.)
    """,
    start="This is still the class as it was given. Call it on four rows: which entries of the "
    "logits change between `margin=0.0` and `margin=0.5`? And without labels?",
    hints=(
        "`chosen` should be `True` once in each row. Print it for a batch that holds all classes.",
        "What are these cosines when the weight vectors are three times as long? And what does the "
        "clamp make of that?",
        "A margin belongs to a label. Where there is none, what remains to be returned?",
    ),
    cases=lambda: [
        Case("6 rows, 3 classes", 5, 3, _numbers(6, 5), torch.tensor([0, 1, 2, 2, 1, 0])),
        Case("the weights three times as long", 4, 4, _numbers(3, 4), torch.tensor([1, 1, 3]), 3.0),
    ],
    takeaway="A margin on all classes has almost no effect; a weight normalised once is not "
    "normalised; and a margin needs a label. None of the three raises, and the loss falls all the "
    "same.",
)


@ArcHead.observe
def _with_and_without_labels(answer, features, classes, x, labels, length=1.0):
    head = answer(features, classes)
    names = [name for name, _ in head.named_parameters()]
    with torch.no_grad():
        head.weight.copy_(length * F.normalize(_numbers(classes, features, seed=3)))
    logits, plain = head(x, labels), head(x)
    return {
        "parameters": names,
        "logits without labels": _values(plain),
        "slope of the weights without labels": _slopes(plain, head.weight)[0],
        "logits with labels": _values(logits),
        "slope of the weights": _slopes(logits, head.weight)[0],
        "weights afterwards": head.weight.detach().clone(),
        "logits in eval mode, with labels": _values(head.eval()(x, labels)),
        **_at_the_ends(head, classes, features),
    }


def _at_the_ends(head, classes, features):
    """What the head makes of rows on their class weight, opposite to it, and 0.02 beside it."""
    with torch.no_grad():
        head.weight.copy_(torch.eye(classes, features))
    rows = torch.zeros(3, features)
    rows[:, 0] = torch.tensor([1.0, -1.0, math.cos(0.02)])
    rows[2, 1] = math.sin(0.02)
    rows.requires_grad_()
    own = head(rows, torch.zeros(3, dtype=torch.long))[:, 0]
    wanted = 20 * torch.tensor([math.cos(0.5), -1 - 0.5 * math.sin(0.5), math.cos(0.52)])
    slopes = _slopes(own, rows)[0]
    return {
        "slopes at the cosines 1 and -1": slopes
        if slopes is _NO_SLOPE
        else _word(slopes.isfinite().all()),
        "own logits at the cosines 1, -1 and 0.9998, within 0.2": [
            bool(near) for near in (own - wanted).abs() < 0.2
        ],
    }


@ArcHead.starter
class ArcHead(nn.Module):
    """ArcFace. With labels, the margin is on each row's own class; without, there is none."""

    def __init__(self, features, classes, scale=20.0, margin=0.5):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, features)))

    def forward(self, features, labels=None):
        cosine = F.normalize(features) @ self.weight.T
        cosine = cosine.clamp(-1 + 1e-6, 1 - 1e-6)
        if labels is None:
            labels = cosine.argmax(dim=1)
        chosen = torch.zeros_like(cosine, dtype=torch.bool)
        chosen[:, labels] = True

        further = torch.cos(torch.acos(cosine) + self.margin)
        beyond = cosine - self.margin * math.sin(self.margin)
        target = torch.where(cosine > -math.cos(self.margin), further, beyond)
        return self.scale * torch.where(chosen, target, cosine)


@ArcHead.reference
class ArcHead(nn.Module):
    """ArcFace. With labels, the margin is on each row's own class; without, there is none."""

    def __init__(self, features, classes, scale=20.0, margin=0.5):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, features)))

    def forward(self, features, labels=None):
        weight = F.normalize(self.weight)
        cosine = F.normalize(features) @ weight.T
        cosine = cosine.clamp(-1 + 1e-6, 1 - 1e-6)
        if labels is None:
            return self.scale * cosine
        chosen = torch.zeros_like(cosine, dtype=torch.bool)
        chosen[torch.arange(len(labels)), labels] = True

        further = torch.cos(torch.acos(cosine) + self.margin)
        beyond = cosine - self.margin * math.sin(self.margin)
        target = torch.where(cosine > -math.cos(self.margin), further, beyond)
        return self.scale * torch.where(chosen, target, cosine)


class _ArcAttempt(nn.Module):
    """The mended class; each attempt leaves or makes one mistake."""

    def __init__(self, features, classes, scale=20.0, margin=0.5):
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(F.normalize(torch.randn(classes, features)))

    def forward(self, features, labels=None):
        cosine = self.inside(self.cosines(features))
        if self.left_alone(labels):
            return self.scale * cosine
        labels = cosine.argmax(dim=1) if labels is None else labels
        m = self.margin
        further = cosine * math.cos(m) - (1 - cosine**2).sqrt() * math.sin(m)
        target = torch.where(cosine > -math.cos(m), further, cosine - m * math.sin(m))
        return self.scale * torch.where(self.chosen(cosine, labels), target, cosine)

    def cosines(self, features):
        return F.linear(F.normalize(features), F.normalize(self.weight))

    def inside(self, cosine):
        return cosine.clamp(-1 + 1e-6, 1 - 1e-6)

    def left_alone(self, labels):
        return labels is None

    def chosen(self, cosine, labels):
        return F.one_hot(labels, cosine.shape[1]).bool()


@ArcHead.also_right
class ByOneHot(_ArcAttempt):
    """One-hot labels and the addition theorem."""


@ArcHead.mistake(
    "Two of three are mended. `chosen[:, labels] = True` still marks whole columns: once a batch "
    "holds all classes, the margin is on every entry, and almost none of its effect is left."
)
class ColumnsLeft(_ArcAttempt):
    def chosen(self, cosine, labels):
        chosen = torch.zeros_like(cosine, dtype=torch.bool)
        chosen[:, labels] = True
        return chosen


@ArcHead.mistake(
    "Two of three are mended. The weights are still normalised once only, in `__init__`: when they "
    "grow, products beyond 1 are clamped, and a clamped entry has the slope 0."
)
class WeightsLeft(_ArcAttempt):
    def cosines(self, features):
        return F.linear(F.normalize(features), self.weight)


@ArcHead.mistake(
    "Two of three are mended. Without labels the margin still goes to the class in front, and "
    "throws it behind the second. Without labels there is no margin: return `scale * cosine`."
)
class MarginAtTestTime(_ArcAttempt):
    def left_alone(self, labels):
        return False


@ArcHead.mistake(
    "One of three is mended: without labels there is no margin. Two are left: `chosen[:, labels]` "
    "marks whole columns, and the weights are normalised once only."
)
class OnlyLabelsMended(ColumnsLeft, WeightsLeft):
    """The call without labels is right."""


@ArcHead.mistake(
    "One of three is mended: the weights. Two are left: `chosen[:, labels]` marks whole columns, "
    "and without labels there is still a margin, on the class in front."
)
class OnlyWeightsMended(ColumnsLeft, MarginAtTestTime):
    """The weights are normalised in ``forward``."""


@ArcHead.mistake(
    "One of three is mended: each row has its own class. Two are left: the weights are normalised "
    "once only, and without labels there is still a margin, on the class in front."
)
class OnlyColumnsMended(WeightsLeft, MarginAtTestTime):
    """One entry in each row is chosen."""


@ArcHead.mistake(
    "Your three repairs are there, and the clamp is gone. At the cosine 1, the slope of acos is "
    "infinite: one perfect row, and all weights are NaN."
)
class WithoutTheClamp(_ArcAttempt):
    def inside(self, cosine):
        return cosine


@ArcHead.mistake(
    "You let `self.training` decide. Then the loss of a validation set is that of another head. "
    "Let the labels alone decide: with labels a margin, without labels none."
)
class DecidedByTheMode(_ArcAttempt):
    def left_alone(self, labels):
        return not self.training or labels is None


@ArcHead.mistake(
    "You write normalised values into the parameter. The logits are right, and the slope is not: "
    "autograd does not know of the division, and a forward pass changes the model. Normalise a "
    "copy: `F.normalize(self.weight)`."
)
class ChangesTheParameter(_ArcAttempt):
    def cosines(self, features):
        self.weight.data = F.normalize(self.weight.data)
        return F.linear(F.normalize(features), self.weight)


# Verification ------------------------------------------------------------------------------------

equal_error_rate = Exercise(
    "margin_losses.equal_error_rate",
    title="How often are two images taken for the same, or for different?",
    stars=2,
    minutes=10,
    ask="""
    A pair of images is *accepted* as one class if its score is at least a threshold. There are two
    ways to be wrong: **false acceptance**, among the pairs that differ, and **false rejection**,
    among those that are the same. Lower the threshold, and the one rises while the other falls.

    Write `equal_error_rate(scores, same)` for scores `(n,)` and booleans `(n,)`: over all
    thresholds, make the *larger* of the two rates as small as possible, and return it, a float.
    There are always pairs of both kinds. (Where the two rates cross, they are equal: hence the
    name.)
    """,
    hints=(
        "Only the scores themselves matter as thresholds. `scores.unique()`.",
        "For one threshold t: `accepted = scores >= t`. Of the pairs with `~same`, which share is "
        "accepted? Of those with `same`, which share is not?",
        "Each rate divides by the number of its own kind, not by all pairs.",
    ),
    cases=lambda: [
        Case("a perfect order", torch.tensor([0.9, 0.8, 0.3, 0.1]), _same(1, 1, 0, 0)),
        Case("one of each kind on the wrong side", *_overlapping()),
        Case("100 pairs that differ for 10 that are the same", *_unbalanced()),
        Case("many equal scores", *_tied()),
        Case("scores that lie close together", 0.5037 + 1e-4 * _numbers(8), _close_order()),
        Case("two equal scores, the same pair first", torch.tensor([0.5, 0.5]), _same(1, 0)),
        Case("two equal scores, the same pair last", torch.tensor([0.5, 0.5]), _same(0, 1)),
        Case("close together, and one far away", *_with_an_outlier()),
        Case("all on the wrong side", torch.tensor([-0.9, -0.8, 0.3]), _same(1, 1, 0)),
    ],
    takeaway="One number for a whole trade-off, and it does not care how many pairs there are of "
    "each kind. Accuracy would: say *different* each time, and of many pairs most are right.",
)


def _same(*flags):
    return torch.tensor(flags).bool()


def _overlapping():
    scores = torch.tensor([0.9, 0.5, 0.7, 0.2, 0.6, 0.1, -0.3, 0.4])
    return scores, _same(1, 1, 1, 1, 0, 0, 0, 0)


def _close_order():
    return _numbers(8) > 0


def _with_an_outlier():
    scores = torch.cat([0.5 + 1e-4 * _numbers(40, seed=5), torch.tensor([50.0])])
    same = torch.cat([_numbers(40, seed=5) + 0.5 * _numbers(40, seed=6) > 0, _same(1)])
    return scores, same


def _unbalanced():
    same = torch.arange(110) < 10
    return (_numbers(110) + 1.5 * same), same


def _tied():
    same = torch.arange(60) % 3 == 0
    return ((_numbers(60, seed=4) + same).round() / 4), same


@equal_error_rate.starter
def equal_error_rate(scores, same):
    """The least level that both rates of error can be kept at, as a float."""
    ...


@equal_error_rate.reference
def equal_error_rate(scores, same):
    worst = []
    for threshold in scores.unique():
        accepted = scores >= threshold
        false_acceptance = accepted[~same].float().mean().item()
        false_rejection = (~accepted)[same].float().mean().item()
        worst.append(max(false_acceptance, false_rejection))
    return min(worst)


def _rates(scores, same):
    """False acceptance and false rejection at each threshold."""
    accepted = scores >= scores.unique()[:, None]
    return accepted[:, ~same].float().mean(dim=1), (~accepted)[:, same].float().mean(dim=1)


@equal_error_rate.also_right
def by_sorting(scores, same):
    ordered, order = scores.sort(descending=True)
    last_of_ties = torch.cat([ordered[1:] < ordered[:-1], torch.tensor([True])])
    accepted_same = same[order].cumsum(0)[last_of_ties] / same.sum()
    accepted_other = (~same)[order].cumsum(0)[last_of_ties] / (~same).sum()
    return torch.maximum(1 - accepted_same, accepted_other).min().item()


@equal_error_rate.mistake(
    "You divide both counts by *all* pairs. Then a hundred easy pairs that differ hide ten that "
    "are the same. Each rate is a share of its own kind."
)
def shares_of_all(scores, same):
    acceptance, rejection = _rates(scores, same)
    share = same.float().mean()
    return torch.maximum(acceptance * (1 - share), rejection * share).min().item()


@equal_error_rate.mistake(
    "That is the least share of wrong answers, one less the best accuracy. With many pairs of one "
    "kind it is small for a rule that always says *different*."
)
def best_accuracy(scores, same):
    acceptance, rejection = _rates(scores, same)
    share = same.float().mean()
    return (acceptance * (1 - share) + rejection * share).min().item()


@equal_error_rate.mistake(
    "You minimise the mean of the two rates. It may be small with one of them large: asked for is "
    "the larger one."
)
def least_mean(scores, same):
    acceptance, rejection = _rates(scores, same)
    return ((acceptance + rejection) / 2).min().item()


@equal_error_rate.mistake(
    "You try one threshold, 0.5. Scores of different models live in different ranges: look for the "
    "threshold at which the larger rate is smallest."
)
def fixed_threshold(scores, same):
    accepted = scores >= 0.5
    return max(accepted[~same].float().mean().item(), (~accepted)[same].float().mean().item())


@equal_error_rate.mistake("You return the threshold. Asked for is the rate of error at it.")
def gives_the_threshold(scores, same):
    return scores.unique()[torch.maximum(*_rates(scores, same)).argmin()].item()


@equal_error_rate.mistake(
    "Either you accept pairs with a *low* score, as one would with distances, or you exchange the "
    "kinds: false *acceptance* is counted among the pairs that differ, false *rejection* among "
    "those that are the same."
)
def as_for_distances(scores, same):
    return torch.maximum(*_rates(-scores, same)).min().item()


@equal_error_rate.mistake(
    "You take the threshold at which the two rates are nearest to each other, and their mean. With "
    "few scores no threshold makes them equal, and that mean is not what both can be kept below. "
    "Asked for is the larger one, as small as it gets."
)
def mean_where_they_are_nearest(scores, same):
    acceptance, rejection = _rates(scores, same)
    place = (acceptance - rejection).abs().argmin()
    return ((acceptance[place] + rejection[place]) / 2).item()


@equal_error_rate.mistake(
    "You keep the *smaller* of the two rates small. That is 0 for whoever accepts nothing. Asked "
    "for is the larger one."
)
def least_of_the_smaller(scores, same):
    return torch.minimum(*_rates(scores, same)).min().item()


@equal_error_rate.mistake("You add the two rates. Asked for is the larger of them.")
def least_sum(scores, same):
    acceptance, rejection = _rates(scores, same)
    return (acceptance + rejection).min().item()


@equal_error_rate.mistake("That is in per cent. A rate is a share, from 0 to 1.")
def in_percent(scores, same):
    return 100 * equal_error_rate.answer_right(scores, same)


@equal_error_rate.mistake(
    "You go through the sorted pairs one by one. Pairs with equal scores are accepted together, or "
    "not at all: a threshold cannot fall between them, and your result depends on their order."
)
def splits_ties(scores, same):
    order = scores.argsort(descending=True, stable=True)
    accepted_same = same[order].cumsum(0) / same.sum()
    accepted_other = (~same)[order].cumsum(0) / (~same).sum()
    return torch.maximum(1 - accepted_same, accepted_other).min().item()


@equal_error_rate.mistake(
    "You try thresholds of a fixed grid. Scores may lie closer together than its points, or "
    "outside. Only the scores themselves matter as thresholds: `scores.unique()`."
)
def on_a_grid(scores, same):
    accepted = scores >= torch.linspace(-1, 1, 201)[:, None]
    acceptance = accepted[:, ~same].float().mean(dim=1)
    return torch.maximum(acceptance, (~accepted)[:, same].float().mean(dim=1)).min().item()


@equal_error_rate.mistake("The number is right, but it is a tensor. A float: `.item()`.")
def gives_a_rate_as_tensor(scores, same):
    return torch.tensor(equal_error_rate.answer_right(scores, same))


# Two encoders, no classes ------------------------------------------------------------------------

pair_loss = Exercise(
    "margin_losses.pair_loss",
    title="Elsewhere: sentences and their translations",
    stars=3,
    minutes=10,
    ask="""
    Two encoders give vectors for `n` sentences and for their `n` translations; row `i` of the one
    belongs to row `i` of the other. There are no classes and no weight matrix. Still it is the
    same idea: *for a sentence, the other language's sentences of the batch are the classes*.

    Write `pair_loss(first, second, scale=20.0, margin=0.3)`:

    - the score of a sentence and a translation is the cosine of their vectors;
    - the margin is subtracted, as in CosFace, where they belong together;
    - cross-entropy over all translations for each sentence, and over all sentences for each
      translation; return the mean of the two losses.
    """,
    hints=(
        "All scores at once are a matrix `(n, n)`. Where in it are the pairs that belong together?",
        "What are the labels of the rows? `torch.arange(n)`.",
        "The other direction is the same matrix, transposed.",
    ),
    cases=lambda: [
        Case("5 pairs", *_translations(5), 20.0, 0.3),
        Case("3 pairs, scale 5, margin 0.1", *_translations(3), 5.0, 0.1),
        Case("4 pairs, no margin", *_translations(4), 10.0, 0.0),
    ],
    takeaway="Without the margin it is CLIP's loss, for images and their captions; its "
    "*temperature* is one over the scale.",
)


def _translations(n):
    first = _numbers(n, 6)
    return 3 * first, first + 0.5 * _numbers(n, 6, seed=1)


@pair_loss.observe
def _with_slopes(answer, first, second, scale, margin):
    first, second = first.clone().requires_grad_(), second.clone().requires_grad_()
    loss = answer(first, second, scale=scale, margin=margin)
    to_first, to_second = _slopes(loss, first, second)
    value = torch.tensor(loss) if isinstance(loss, float) else _values(loss)
    return {"loss": value, "slope, first": to_first, "slope, second": to_second}


@pair_loss.starter
def pair_loss(first, second, scale=20.0, margin=0.3):
    """The loss of `n` pairs of vectors, both `(n, features)`, in both directions."""
    ...


@pair_loss.reference
def pair_loss(first, second, scale=20.0, margin=0.3):
    cosine = F.normalize(first) @ F.normalize(second).T
    own = torch.arange(len(first), device=first.device)
    logits = scale * (cosine - margin * F.one_hot(own, len(own)))
    there = F.cross_entropy(logits, own)
    back = F.cross_entropy(logits.T, own)
    return (there + back) / 2


def _pair_logits(first, second, scale, margin):
    cosine = F.linear(F.normalize(first), F.normalize(second))
    return scale * (cosine - margin * torch.eye(len(first)))


def _both_ways(logits):
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@pair_loss.also_right
def from_the_definition(first, second, scale=20.0, margin=0.3):
    cosine = F.cosine_similarity(first[:, None], second[None, :], dim=2)
    logits = scale * (cosine - margin * torch.eye(len(first)))
    there, back = logits.logsumexp(dim=1), logits.logsumexp(dim=0)
    return ((there + back) / 2 - logits.diagonal()).mean()


@pair_loss.mistake(
    "One direction only: a translation must find its sentence, too. Add the cross-entropy of the "
    "transposed matrix, and halve."
)
def one_direction(first, second, scale=20.0, margin=0.3):
    return F.cross_entropy(_pair_logits(first, second, scale, margin), torch.arange(len(first)))


@pair_loss.mistake(
    "Only the direction from the second to the first. Add the cross-entropy of the matrix as it "
    "is, and halve."
)
def the_other_direction(first, second, scale=20.0, margin=0.3):
    return F.cross_entropy(_pair_logits(first, second, scale, margin).T, torch.arange(len(first)))


@pair_loss.mistake(
    "The loss is right, and no gradient comes back from it: it was detached, or made a number with "
    "`.item()`. A loss must stay a tensor in the graph, or nobody learns from it."
)
def without_a_way_back(first, second, scale=20.0, margin=0.3):
    return pair_loss.answer_right(first, second, scale, margin).item()


def _two_losses(there, back):
    own = torch.arange(len(there))
    return (F.cross_entropy(there, own) + F.cross_entropy(back.T, own)) / 2


@pair_loss.mistake(
    "The margin is missing on the way back, from the second to the first. Take it off the diagonal "
    "before you transpose."
)
def margin_on_the_way_there(first, second, scale=20.0, margin=0.3):
    with_it, without = (_pair_logits(first, second, scale, m) for m in (margin, 0.0))
    return _two_losses(with_it, without)


@pair_loss.mistake(
    "The margin is on the transposed matrix only. The way from the first to the second needs it, "
    "too: take it off the diagonal once, before both losses."
)
def margin_on_the_way_back(first, second, scale=20.0, margin=0.3):
    with_it, without = (_pair_logits(first, second, scale, m) for m in (margin, 0.0))
    return _two_losses(without, with_it)


@pair_loss.mistake(
    "Your loss is the one without a margin. Either there is none, or it is on the whole matrix: "
    "what is taken off all scores alike, softmax does not see. It belongs on the diagonal, where a "
    "sentence meets its own translation."
)
def margin_everywhere(first, second, scale=20.0, margin=0.3):
    return _both_ways(_pair_logits(first, second, scale, 0.0) - scale * margin)


@pair_loss.mistake(
    "You subtract the margin after the scale: 0.3 of a logit instead of 0.3 of a cosine."
)
def margin_on_scaled(first, second, scale=20.0, margin=0.3):
    return _both_ways(_pair_logits(first, second, scale, margin / scale))


@pair_loss.mistake(
    "You add the margin on the diagonal. That makes the pairs look better than they are, and "
    "training stops early."
)
def adds_on_the_diagonal(first, second, scale=20.0, margin=0.3):
    return _both_ways(_pair_logits(first, second, scale, -margin))


@pair_loss.mistake(
    "These are products, not cosines: the vectors bring their lengths along. Normalise both."
)
def not_normalised(first, second, scale=20.0, margin=0.3):
    return _both_ways(scale * (first @ second.T - margin * torch.eye(len(first))))


@pair_loss.mistake("You normalise one side. A cosine divides by both lengths.")
def one_side_normalised(first, second, scale=20.0, margin=0.3):
    cosine = F.normalize(first) @ second.T
    return _both_ways(scale * (cosine - margin * torch.eye(len(first))))


@pair_loss.mistake("You divide by the scale. A *temperature* divides; a scale is its inverse.")
def divides_by_the_scale(first, second, scale=20.0, margin=0.3):
    return _both_ways(_pair_logits(first, second, 1 / scale, margin))


@pair_loss.mistake("The two directions are added: the loss is their mean.")
def not_halved(first, second, scale=20.0, margin=0.3):
    return 2 * _both_ways(_pair_logits(first, second, scale, margin))
