"""The exercises of chapter 00: shapes, slopes, one step, and a program that never learns."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from helpers import data
from helpers.exercises.engine import Case, Exercise, Prediction

# Broadcasting -----------------------------------------------------------------------------------

sum_shape = Prediction(
    "start_here.sum_shape",
    title="Predict a shape",
    stars=1,
    minutes=2,
    ask="""
    A column of three and a row of four are added: `torch.ones(3, 1) + torch.ones(4)`. Nobody wrote
    a loop, and the shapes differ. Which shape has the sum? Write it as a tuple, for example `(2,
    5)`.

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
    ),
    cases=lambda: [
        Case("x³ at 2.0", _cube, 2.0),
        Case("x · sin x at 0.5", _wave, 0.5),
        Case("relu at -1.0, where it is flat", torch.relu, -1.0),
    ],
    takeaway="A result remembers the operations that made it. `backward()` walks them back and "
    "puts the derivative into `.grad` of every leaf that asked for one.",
)


def _cube(x):
    return x**3


def _wave(x):
    return x * torch.sin(x)


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
    "Nothing was recorded, because no tensor asked for a gradient. Make the input with "
    "`requires_grad=True`."
)
def asks_for_no_gradient(f, at):
    x = torch.tensor(at)
    f(x).backward()
    return x.grad.item()


@slope.mistake(
    "`x.grad` is still `None`: computing `f(x)` records the way, only `backward()` walks it back."
)
def never_walks_back(f, at):
    x = torch.tensor(at, requires_grad=True)
    f(x)
    return x.grad.item()


@slope.mistake(
    "Your function gives `None`. `backward()` returns nothing: it puts the derivative into "
    "`x.grad`. Return that, as a float."
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
            "<code>expected scalar type Long but found Float</code>, or a wrong number of "
            "dimensions",
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
    return {"losses": losses, "weights afterwards": weights, "steps taken": counted.steps}


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
    "`backward()` is missing, or `zero_grad()` comes between it and `step()`."
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
    The program below raises nothing and prints nothing odd. The classifier that it returns is no
    better than a guess. One thing is wrong. Find it with the recipe of the last section, and mend
    it; change as little as you can.

    You are judged by what the returned model does on digits it has not seen.
    """,
    start="This is still the program as it was given. Take the recipe: what is the loss at the "
    "start, does one batch overfit, do the weights move?",
    hints=(
        "Overfit one batch with this very program. The loss stays where it starts, to the last "
        "digit. What does that say about the weights of the model?",
        "Look at one weight of the *returned* model before and after a step. Then ask which "
        "tensors the optimizer holds.",
        "An optimizer holds the parameters it was given. It does not look up the name `model` "
        "again.",
    ),
    seconds=30,
    cases=lambda: [Case("300 digits for training, 200 others to judge", *_few_digits())],
    takeaway="An optimizer holds tensors, not a model. Whoever builds a new model afterwards (or "
    "swaps a layer) trains the old one. The number that gives it away is the loss: equal to the "
    "last digit in every epoch.",
)


def _few_digits():
    split = data.digits()
    return split.x_train[:300], split.y_train[:300], split.x_test[:200], split.y_test[:200]


@train_digits.observe
def _learns(answer, x, y, x_new, y_new):
    returned = answer(x, y)
    if not issubclass(type(returned), nn.Module):
        return returned
    returned.eval()
    with torch.no_grad():
        accuracy = (returned(x_new).argmax(dim=1) == y_new).float().mean().item()
    return {"gets more than 8 of 10 new digits right": accuracy > 0.8}


@train_digits.starter
def train_digits(x, y):
    """Train a classifier on images `x` with labels `y` and return it."""
    torch.manual_seed(0)
    batches = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    loss_fn = nn.CrossEntropyLoss()

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    # 32 hidden units were too few
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
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
    batches = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    loss_fn = nn.CrossEntropyLoss()

    # 32 hidden units were too few
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    model.train()
    for _ in range(10):
        for images, labels in batches:
            loss = loss_fn(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@train_digits.also_right
def with_the_narrow_model(x, y):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    for _ in range(100):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@train_digits.mistake(
    "It runs, and the returned model still guesses: its weights are where they started. More "
    "epochs or another learning rate cannot help, because the optimizer holds the parameters of "
    "another model. Which one?"
)
def trains_longer(x, y):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model = copy.deepcopy(model)
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@train_digits.mistake(
    "Your program returns nothing. Give the trained model back with `return model` at the end."
)
def forgets_the_model(x, y):
    train_digits.answer_right(x, y)
