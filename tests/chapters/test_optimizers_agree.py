"""The rules that chapter 03 teaches take torch's steps, for many choices of arguments.

Rules shown in the notebook are taken out of it, rules that the reader writes out of the exercises.
"""

from functools import partial
from itertools import product

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from chapters.optimizers import exercises
from tests.notebooks import definitions

NOTEBOOK = "03_optimizers"
STEPS = 30


@pytest.fixture(scope="module")
def by_rule():
    return definitions.load(NOTEBOOK, "ByRule")


@pytest.fixture(scope="module")
def rules():
    """Every rule of the chapter, by the name it has there."""
    names = ("plain", "heavy", "adagrad", "adagrad_full", "rmsprop")
    shown = dict(zip(names, definitions.load(NOTEBOOK, *names), strict=True))
    return shown | {"sgd": exercises.sgd.right, "adam": exercises.adam.right}


def grid(**values):
    """Every combination of the arguments' values, as dicts."""
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def named(options) -> str:
    return ",".join(f"{name}={value}" for name, value in options.items())


TEACHES = [
    *(("plain", torch.optim.SGD, o) for o in grid(lr=[0.001, 0.1])),
    *(("heavy", torch.optim.SGD, o) for o in grid(lr=[0.001, 0.02], momentum=[0.0, 0.5, 0.9])),
    *(
        ("sgd", torch.optim.SGD, o)
        for o in grid(
            lr=[0.02],
            momentum=[0, 0.5, 0.9],
            dampening=[0, 0.3],
            weight_decay=[0, 0.1],
            nesterov=[False, True],
        )
        if not o["nesterov"] or (o["momentum"] and not o["dampening"])  # torch refuses the others
    ),
    *(("adagrad", torch.optim.Adagrad, o) for o in grid(lr=[0.01, 0.1], eps=[1e-10, 0.1])),
    *(
        ("adagrad_full", torch.optim.Adagrad, o)
        for o in grid(
            lr=[0.1],
            lr_decay=[0, 0.1],
            weight_decay=[0, 0.1],
            initial_accumulator_value=[0, 1.0],
            eps=[1e-10, 0.1],
        )
    ),
    *(
        ("rmsprop", torch.optim.RMSprop, o)
        for o in grid(lr=[0.01], alpha=[0.9, 0.99], eps=[1e-8, 0.1])
    ),
    *(
        (rule, kind, o)
        for rule, kind in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW))
        for o in grid(
            lr=[0.05], betas=[(0.9, 0.999), (0.5, 0.8)], eps=[1e-8, 0.1], weight_decay=[0, 0.1]
        )
    ),
]


def walk(make) -> torch.Tensor:
    """Every point of a descent on a bent, noisy valley in float64; one weight has no gradient.

    The rate falls to a tenth after each third of the steps.
    """
    noise = torch.Generator().manual_seed(0)
    w = nn.Parameter(torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64))
    idle = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = make([w, idle])
    scheduler = lr_scheduler.StepLR(optimizer, step_size=STEPS // 3)
    points = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        gust = torch.randn(3, generator=noise, dtype=torch.float64)
        ((w[0] - w[1] ** 2) ** 2 + 3 * w[2] ** 2 + (gust * w).sum()).backward()
        nn.utils.clip_grad_norm_([w], 5.0)
        optimizer.step()
        scheduler.step()
        points.append(torch.cat([w.detach(), idle.detach()]).clone())
    return torch.stack(points)


@pytest.mark.parametrize(
    ("rule", "kind", "options"),
    [pytest.param(*case, id=f"{case[0]}-{named(case[2])}") for case in TEACHES],
)
def test_a_rule_takes_torchs_steps(by_rule, rules, rule, kind, options):
    own = options | {"decoupled": True} if rule == "adamw" else options
    ours = walk(partial(by_rule, rule=rules["adam" if rule == "adamw" else rule], **own))
    theirs = walk(partial(kind, **options))
    assert theirs.isfinite().all() and (theirs[0] != theirs[-1])[:3].all()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_the_gallery_knows_every_scheduler_of_this_torch():
    classes, known = definitions.load(NOTEBOOK, "scheduler_classes", "SCHEDULES")
    found = set(classes())
    assert found == set(known), "give arguments in SCHEDULES of the notebook to what is missing"
    exported = {name for name in lr_scheduler.__all__ if name != "LRScheduler"}
    assert exported <= found


def test_the_gallery_draws_a_class_without_arguments_as_missing():
    draw_gallery, classes = definitions.load(NOTEBOOK, "draw_gallery", "scheduler_classes")
    figure = draw_gallery(classes() | {"TomorrowLR": object})
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert "missing" in panels["TomorrowLR"].texts[0].get_text()
    assert all(panels[name].lines and not panels[name].texts for name in classes())
    plt.close(figure)


@pytest.mark.parametrize("name", sorted(definitions.load(NOTEBOOK, "SCHEDULES")))
def test_a_schedule_of_the_gallery_moves_the_rate(name):
    rates, made = definitions.load(NOTEBOOK, "rates", "made")
    drawn = rates(made(name))
    assert len(drawn) == 100 and len(drawn.unique()) > 1


@pytest.mark.parametrize(("warmup", "total"), [(0, 10), (5, 30), (10, 11)])
def test_the_readers_schedule_is_that_of_torchs_parts(warmup, total):
    rates = definitions.load(NOTEBOOK, "rates")
    factor = exercises.warmup_cosine.right

    def torchs(optimizer):
        fall = partial(lr_scheduler.CosineAnnealingLR, T_max=total - warmup)
        if not warmup:
            return fall(optimizer)
        rise = lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=warmup - 1)
        return lr_scheduler.SequentialLR(optimizer, [rise, fall(optimizer)], milestones=[warmup])

    own = partial(lr_scheduler.LambdaLR, lr_lambda=lambda t: factor(t, warmup, total))
    torch.testing.assert_close(
        rates(own, steps=total + 1), rates(torchs, steps=total + 1), rtol=1e-5, atol=1e-6
    )


def test_the_hunted_program_is_as_bad_as_its_prompt_says():
    images, classes, new_images, new_classes = next(iter(exercises.train_digits.cases())).arguments

    def accuracy(program):
        logits = program(images, classes)(new_images)
        return (logits.argmax(dim=1) == new_classes).float().mean().item()

    torch.manual_seed(0)
    assert accuracy(exercises.train_digits.given()) < 0.75
    assert accuracy(exercises.train_digits.right) > 0.9
