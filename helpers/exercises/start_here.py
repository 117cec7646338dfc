"""The exercises of chapter 00: shapes, slopes, one step, and a program that never learns."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, TensorDataset

from helpers import data
from helpers.exercises.compare import kind_of
from helpers.exercises.engine import Case, Exercise, Prediction

# Broadcasting -----------------------------------------------------------------------------------

sum_shape = Prediction(
    "start_here.sum_shape",
    title="Predict a shape",
    stars=1,
    minutes=2,
    ask="""
    A column of three and a row of four are added: `torch.ones(3, 1) + torch.ones(4)`. Nobody wrote
    a loop, and the shapes differ. Which shape does the sum have? Write it as a tuple: `(2, 5)`,
    say.

    Run the cell as it is first. Then try a wrong answer on purpose, to hear how it answers. Then
    the right one.
    """,
    hints=(
        "Write the two shapes below each other, aligned at the right: `3 1` and `4`. What is "
        "missing on the left counts as 1.",
        "Where one of two sizes is 1, that side is repeated to the size of the other.",
    ),
    takeaway="Shapes are aligned at the right; a size of 1, or a missing one, is repeated. So "
    "every item of the column meets every item of the row, and nothing is raised.",
)


@sum_shape.reference
def sum_shape():
    return tuple((torch.ones(3, 1) + torch.ones(4)).shape)


@sum_shape.mistake(
    "That is the shape of the column alone. Its second size is 1, and a size of 1 is stretched to "
    "meet the 4 of the row."
)
def the_column_wins():
    return tuple(torch.ones(3, 1).shape)


@sum_shape.mistake(
    "That is the shape of the row alone. The row has no first size: it is repeated for each of the "
    "three rows of the column."
)
def the_row_wins():
    return tuple(torch.ones(4).shape)


@sum_shape.mistake(
    "The sizes are right, their order is not: shapes are aligned at the right, so the 4 of the row "
    "stays last."
)
def turned_round():
    return tuple((torch.ones(4, 1) + torch.ones(3)).shape)


@sum_shape.mistake(
    "That would be the two laid end to end, which is `torch.cat`. `+` pairs them item by item."
)
def laid_end_to_end():
    return tuple(torch.cat([torch.ones(3), torch.ones(4)]).shape)


# Autograd ---------------------------------------------------------------------------------------

slope = Exercise(
    "start_here.slope",
    title="Let autograd do the calculus",
    stars=2,
    minutes=5,
    ask="""
    Write `slope(f, at)`: the derivative of `f` at the number `at`, as a Python float. `f` takes a
    tensor with one value and returns one. Let autograd work it out, so that it is right for every
    `f`.
    """,
    hints=(
        "Make a tensor from `at` that asks for a gradient: `torch.tensor(at, requires_grad=True)`.",
        "Call `f` on it, then `.backward()` on the result. Where did the derivative go?",
        "`.item()` turns a tensor with one element into a float.",
    ),
    help=(
        (
            "<code>element 0 of tensors does not require grad</code>",
            "No input of the computation asked for a gradient, so nothing was recorded. See the "
            "first hint.",
        ),
        (
            "The result is close, and counts as wrong",
            "A difference such as <code>(f(at + h) - f(at)) / h</code> is an estimate. The last "
            "case has a function that moves too fast for any <code>h</code>.",
        ),
    ),
    cases=lambda: [
        Case("x³ at 2.0", _cube, 2.0),
        Case("x · sin x at 0.5", _wave, 0.5),
        Case("relu at -1.0, where it is flat", torch.relu, -1.0),
        Case("sin(1,000,000 · x) at 0.5", _fast_wave, 0.5),
    ],
    takeaway="A result remembers the operations that made it. `backward()` walks them back and "
    "puts the derivative into `.grad` of the tensor that asked for it.",
)


def _cube(x):
    return x**3


def _wave(x):
    return x * torch.sin(x)


def _fast_wave(x):
    return torch.sin(1e6 * x)


@slope.starter
def slope(f, at):
    """The derivative of `f` at the number `at`, as a float."""
    ...


@slope.reference
def slope(f, at):
    x = torch.tensor(at, requires_grad=True)
    f(x).backward()
    return x.grad.item()


@slope.also_right
def by_function_transform(f, at):
    return torch.func.grad(f)(torch.tensor(at)).item()


@slope.mistake("You return `f(at)`, the height of the curve. Asked for is how steep it is there.")
def the_height(f, at):
    return f(torch.tensor(at)).item()


@slope.mistake(
    "Nothing was recorded: no tensor asked for a gradient before `f` was called, or `f` was called "
    "under `no_grad()`. Make the input with `requires_grad=True`."
)
def asks_for_no_gradient(f, at):
    x = torch.tensor(at)
    f(x).backward()
    return x.grad.item()


@slope.mistake(
    "`x.grad` is still `None`: nobody walked from `f(x)` back to `x`. Did `x` ask for a gradient "
    "*before* `f(x)`, and was `backward()` called on the result?"
)
def never_walks_back(f, at):
    x = torch.tensor(at, requires_grad=True)
    f(x)
    return x.grad.item()


@slope.mistake(
    "Your function gives `None`. Either a `return` is missing, or you return what `backward()` "
    "gives, which is nothing: the derivative lies in `.grad` of the tensor that you made from `at`."
)
def returns_what_backward_returns(f, at):
    x = torch.tensor(at, requires_grad=True)
    return f(x).backward()


@slope.mistake(
    "The value is right, but it is a tensor. Asked for is a float: `.item()` takes it out."
)
def returns_a_tensor(f, at):
    x = torch.tensor(at, requires_grad=True)
    f(x).backward()
    return x.grad


@slope.mistake(
    "You divide by `at`: that is the slope of a line from the origin to the curve, not of the "
    "curve."
)
def slope_from_the_origin(f, at):
    return f(torch.tensor(at)).item() / at


# One step of training ---------------------------------------------------------------------------

train_step = Exercise(
    "start_here.train_step",
    title="One step of training",
    stars=2,
    minutes=8,
    ask="""
    Write the heart of the loop: `train_step(model, x, y, loss_fn, optimizer)` does one step on one
    batch and returns the loss of that batch, *as it was before the step*, as a float.

    It will be called several times in a row on the same model.
    """,
    hints=(
        "Five things happen: predict, compare, forget old gradients, find new ones, step.",
        "In code: `model(x)`, `loss_fn(…, y)`, `optimizer.zero_grad()`, `loss.backward()`, "
        "`optimizer.step()`.",
    ),
    help=(
        (
            "An error that speaks of <code>Long</code>, of targets or of dimensions",
            "A loss takes the prediction first and the target second.",
        ),
        (
            "The loss is right at the first step and wrong from the second on",
            "What does `.grad` hold when the second step begins?",
        ),
    ),
    cases=lambda: [
        Case("three steps of SGD with momentum on a classifier", *_classifier()),
        Case("three steps of Adam on a regression", *_regression()),
    ],
    takeaway="`zero_grad` forgets, `backward` finds, `step` moves. `backward` alone changes no "
    "weight, `step` alone looks at no data.",
)


class _Counted:
    """An optimizer that counts how often it steps."""

    def __init__(self, optimizer):
        self.optimizer, self.steps = optimizer, 0

    def step(self):
        self.steps += 1
        self.optimizer.step()

    def zero_grad(self, set_to_none=True):
        self.optimizer.zero_grad(set_to_none)

    @property
    def param_groups(self):
        return self.optimizer.param_groups


def _classifier():
    torch.manual_seed(1)
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    return model, torch.randn(12, 6), torch.arange(12) % 3, nn.CrossEntropyLoss(), optimizer


def _regression():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    return model, torch.randn(10, 4), torch.randn(10, 1), nn.MSELoss(), optimizer


@train_step.observe
def _three_steps(answer, model, x, y, loss_fn, optimizer):
    counted = _Counted(optimizer)
    losses = [answer(model, x, y, loss_fn, counted) for _ in range(3)]
    weights = [p.detach().clone() for p in model.parameters()]
    return {
        "calls of optimizer.step()": counted.steps,
        "loss of each step": losses,
        "weights afterwards": weights,
    }


@train_step.starter
def train_step(model, x, y, loss_fn, optimizer):
    """Do one training step on the batch `x, y`; return its loss as a float."""
    ...


@train_step.reference
def train_step(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@train_step.also_right
def with_gradients_asked_for(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    parameters = list(model.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return float(loss.detach())


@train_step.mistake(
    "The first step is right, the later ones are not: `backward()` *adds* to `.grad`, and nothing "
    "empties it. Call `optimizer.zero_grad()` in each step."
)
def never_forgets(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


@train_step.mistake(
    "No weight moves, although `step()` is called: at that moment every `.grad` is empty. Either "
    "`backward()` is missing or comes too late, or `zero_grad()` comes between it and `step()`."
)
def steps_without_gradients(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


@train_step.mistake(
    "The gradients are there and nobody uses them: `backward()` changes no weight. "
    "`optimizer.step()` does."
)
def never_steps(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


@train_step.mistake(
    "You step before `backward()`, with the gradients of the batch before. The first step does "
    "nothing at all."
)
def steps_first(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.step()
    optimizer.zero_grad()
    loss.backward()
    return loss.item()


@train_step.mistake(
    "You return the loss as a tensor. It holds on to everything that was computed for it, so a "
    "list of such losses fills the memory. `loss.item()` is the number alone."
)
def returns_the_tensor(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


@train_step.mistake(
    "The loss gets its arguments the wrong way round: the prediction comes first, the target "
    "second. For some losses it makes no difference, for most it does."
)
def swaps_prediction_and_target(model, x, y, loss_fn, optimizer):
    loss = loss_fn(y, model(x))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@train_step.mistake(
    "The steps are right; what you return is the loss times the number of samples. That product is "
    "for adding up unequal batches. Asked for is the loss of the batch itself."
)
def returns_the_sum(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item() * len(x)


@train_step.mistake(
    "You return the loss after the step: the model is asked a second time. Keep the loss that you "
    "called `backward()` on."
)
def returns_the_loss_after(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss_fn(model(x), y).item()


@train_step.mistake(
    "The step is right, and then the loss is lost: your function gives `None`. Return "
    "`loss.item()`."
)
def returns_nothing(model, x, y, loss_fn, optimizer):
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# A program that never learns --------------------------------------------------------------------

train_digits = Exercise(
    "start_here.train_digits",
    title="Bug hunt: it runs, and it never learns",
    stars=3,
    minutes=15,
    ask="""
    The program below raises nothing. The classifier that it returns is no better than a guess. One
    thing is wrong. Find it with the recipe of the last section, and mend it; change as little as
    you can. To look inside, copy the body of the function into a cell of your own: there, `model`
    and `optimizer` are yours to look at.

    You are judged by what the returned model does on digits it has not seen.
    """,
    start="This is still the program as it was given. Take the recipe: what is the loss at the "
    "start, does one batch overfit, do the weights move?",
    hints=(
        "Overfit one batch with this very program. The loss stays where it starts. What does that "
        "say about the weights of the model?",
        "Look at one weight of the *returned* model before and after a step. Then ask which "
        "tensors the optimizer holds.",
        "An optimizer holds the parameters it was given. It does not look up the name `model` "
        "again.",
    ),
    seconds=30,
    cases=lambda: [Case("300 digits for training, 200 others to judge", *_few_digits())],
    takeaway="An optimizer holds tensors, not a model. Whoever builds a new model afterwards (or "
    "swaps a layer) trains the old one. What gives it away is a loss that stays at its first "
    "value.",
)


def _few_digits():
    split = data.digits()
    return split.x_train[:300], split.y_train[:300], split.x_test[:200], split.y_test[:200]


@train_digits.observe
def _learns(answer, x, y, x_new, y_new):
    stepped = set()

    def remember(optimizer, *_):
        stepped.update(id(p) for group in optimizer.param_groups for p in group["params"])

    handle = register_optimizer_step_post_hook(remember)
    try:
        returned = answer(x, y)
    finally:
        handle.remove()
    if not issubclass(type(returned), nn.Module):
        return {"what comes back": kind_of(returned)}
    returned.eval()
    with torch.no_grad():
        accuracy = (returned(x_new).argmax(dim=1) == y_new).float().mean().item()
    return {
        "what comes back": "a trained model",
        "steps moved the weights of that model": any(
            id(p) in stepped for p in returned.parameters()
        ),
        "it reads more than 8 of 10 new digits": accuracy > 0.8,
    }


@train_digits.starter
def train_digits(x, y):
    """Train a classifier on images `x` with labels `y` and return it."""
    torch.manual_seed(0)

    def network(hidden):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    model = network(hidden=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss_fn = nn.CrossEntropyLoss()
    batches = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

    if len(x) > 100:  # enough data for a wider network
        model = network(hidden=128)

    model.train()
    for _ in range(10):
        for images, labels in batches:
            loss = loss_fn(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@train_digits.reference
def train_digits(x, y):
    torch.manual_seed(0)

    def network(hidden):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    enough_data = len(x) > 100
    model = network(hidden=128 if enough_data else 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss_fn = nn.CrossEntropyLoss()
    batches = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

    model.train()
    for _ in range(10):
        for images, labels in batches:
            loss = loss_fn(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@train_digits.also_right
def with_plain_sgd(x, y):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    for _ in range(100):
        _one_step(model, optimizer, x, y)
    return model


def _one_step(model, optimizer, x, y):
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@train_digits.mistake(
    "The returned model still guesses, and no step has ever moved one of its weights. So neither "
    "the learning rate nor the number of epochs is to blame. Whose weights do the steps move?"
)
def trains_longer(x, y):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model = copy.deepcopy(model)
    for _ in range(30):
        _one_step(model, optimizer, x, y)
    return model


@train_digits.mistake(
    "The weights of the returned model move now, and it has still not learned enough. You changed "
    "more than the one thing that was wrong: put learning rate, epochs and batches back as given."
)
def steps_too_far(x, y):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    for _ in range(10):
        _one_step(model, optimizer, x, y)
    return model


@train_digits.mistake(
    "Your program returns nothing. Give the trained model back with `return model` at the end."
)
def forgets_the_model(x, y):
    train_digits.answer_right(x, y)
