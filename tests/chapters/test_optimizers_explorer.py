"""What the explorers of chapter 03 draw is what torch computes."""

import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chapters.optimizers import explorer


@pytest.fixture(autouse=True)
def no_figure_left():
    yield
    plt.close("all")


def drawn(figure) -> torch.Tensor:
    """The points of the first line of a figure, (points, 2)."""
    return torch.tensor(figure.axes[0].lines[0].get_xydata())


def test_the_ravine_is_steep_across_and_flat_along():
    along, across = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert explorer.ravine(along) == 0.5
    assert explorer.ravine(across) == 0.5 * explorer.STEEPNESS


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0])
def test_a_turned_ravine_has_the_same_loss_at_its_turned_start(angle):
    first = explorer.ravine_path(lambda params: torch.optim.SGD(params, lr=0.0), angle, steps=1)[0]
    start = explorer.ravine(torch.tensor(explorer.START))
    torch.testing.assert_close(explorer.ravine(first, angle), start)


@given(log10_rate=st.floats(-3.0, -1.5))
@settings(max_examples=15, deadline=None)
def test_sgd_walks_each_direction_by_its_own_factor(log10_rate):
    path = drawn(explorer.draw_ravine("SGD", log10_rate))
    plt.close("all")
    curvatures = torch.tensor([1.0, explorer.STEEPNESS])
    powers = (1 - 10**log10_rate * curvatures) ** torch.arange(61.0).unsqueeze(1)
    expected = torch.tensor(explorer.START) * powers
    torch.testing.assert_close(path.float(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", explorer.OPTIMIZERS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_path_is_that_of_torchs_optimizer(name, momentum):
    figure = explorer.draw_ravine(name, log10_rate=-2.0, momentum=momentum, angle=20.0, steps=25)
    options = {
        "SGD": {"momentum": momentum},
        "SGD, Nesterov": {"momentum": momentum, "nesterov": momentum > 0},
        "Adagrad": {},
        "RMSprop": {"momentum": momentum},
        "Adam": {"betas": (momentum, 0.999)},
    }[name]
    kind = getattr(torch.optim, name.partition(",")[0])
    point = drawn(figure)[0].float().requires_grad_()
    optimizer = kind([point], lr=0.01, **options)
    for expected in drawn(figure)[1:]:
        optimizer.zero_grad()
        explorer.ravine(point, 20.0).backward()
        optimizer.step()
        torch.testing.assert_close(point.detach().double(), expected, rtol=1e-4, atol=1e-4)


def test_the_title_says_what_became_of_the_loss():
    assert "gone" in explorer.draw_ravine("SGD", log10_rate=-0.5).axes[0].get_title()
    assert "loss" in explorer.draw_ravine("SGD", log10_rate=-2.0).axes[0].get_title()


def planned(schedule: str, warmup: int, final: float, total: int = 100) -> torch.Tensor:
    """The rates that the schedule's formula gives, without torch's schedulers."""
    t = torch.arange(float(total - warmup))
    progress = t / (total - warmup)
    fall = {
        "StepLR": final ** (0.5 * (t // ((total - warmup) // 3))),
        "LinearLR": 1 + (final - 1) * progress,
        "ExponentialLR": final**progress,
        "CosineAnnealingLR": final + (1 - final) * (1 + torch.cos(torch.pi * progress)) / 2,
    }[schedule]
    rise = (1 + torch.arange(float(warmup))) / (warmup + 1)
    return torch.cat([rise, fall])


@pytest.mark.parametrize("schedule", explorer.SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 20])
@pytest.mark.parametrize("final", [0.01, 0.5, 1.0])
def test_a_schedule_stepped_every_batch_is_its_formula(schedule, warmup, final):
    rates = drawn(explorer.draw_schedule(schedule, warmup, final))[:, 1]
    torch.testing.assert_close(
        rates.float(), planned(schedule, warmup, final), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("schedule", explorer.SCHEDULES)
def test_stepped_every_epoch_it_gets_as_far_as_there_are_epochs(schedule):
    every_batch = drawn(explorer.draw_schedule(schedule))[:, 1]
    every_epoch = drawn(explorer.draw_schedule(schedule, stepped="every epoch"))[:, 1]
    torch.testing.assert_close(every_epoch, every_batch[:5].repeat_interleave(20))
