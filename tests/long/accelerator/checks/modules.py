"""Every module of ``helpers`` that computes with torch does it on the device too.

Explorers and experiments of the chapters are run by their notebooks, which ``test_chapters`` runs
there; the exercises by their own tests, see ``test_checks``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter

from chapters.data_loading.datasets import Digits
from helpers import (
    augment,
    boards,
    checkpoint,
    data,
    loading,
    margins,
    plots,
    ranks,
    runtime,
    training,
)
from helpers.exercises import compare
from tests.long.accelerator.memory import NAME

HELPERS = Path(runtime.__file__).parent
PROGRAMS: dict[str, Callable[..., None]] = {}


def of(module: str) -> Callable:
    """Name the module that a program is for; below ``helpers``, with dots."""

    def registered(program: Callable[..., None]) -> Callable:
        PROGRAMS[module] = program
        return program

    return registered


@of("runtime")
def chooses_it_and_seeds_it():
    assert runtime.device().type == NAME and runtime.report().rows["device"] == NAME
    draws = []
    for n in (1, 1, 2):
        runtime.seed(n)
        draws.append(torch.rand(4, device=runtime.device()))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


@of("data")
def stays_on_the_cpu_until_it_is_moved():
    for split in (data.digits(), data.diabetes(), data.image_data("digits")):
        assert {part.device.type for part in split} == {"cpu"}
        assert {part.to(runtime.device()).device.type for part in split} == {NAME}


@of("loading")
def workers_load_for_it():
    digits = data.digits()
    dataset = Digits(digits.x_train[:64], digits.y_train[:64])
    loader = DataLoader(dataset, batch_size=32, pin_memory=True, **loading.workers(dataset, 1))
    batches = [(x.is_pinned(), x.to(runtime.device(), non_blocking=True)) for x, _ in loader]
    assert [pinned for pinned, _ in batches] == [True, True]
    torch.testing.assert_close(torch.cat([x for _, x in batches]).cpu(), digits.x_train[:64])


@of("training")
def fits_and_evaluates():
    found = {}
    for device in (torch.device("cpu"), runtime.device()):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(device)
        digits = data.digits()
        batches = DataLoader(TensorDataset(digits.x_train[:128], digits.y_train[:128]), 32)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        history = training.fit(model, batches, F.cross_entropy, optimizer, epochs=2)
        found[device.type] = history, tuple(training.evaluate(model, batches, F.cross_entropy))
    torch.testing.assert_close(found[NAME], found["cpu"], rtol=1e-3, atol=1e-4)
    with pytest.raises(FloatingPointError, match="the loss is nan in step 1"):
        x = torch.full((4, 1, 8, 8), torch.nan)
        training.fit(model, [(x, torch.zeros(4).long())], F.cross_entropy, optimizer, epochs=1)


@of("checkpoint")
def resumes_to_the_bit(folder):
    def begin():
        runtime.seed(0)
        model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).to(runtime.device())
        return model, torch.optim.Adam(model.parameters())

    def go_on(model, optimizer):
        for _ in range(3):
            x = torch.randn(8, 4, device=runtime.device())
            training.step(model, (x, x[:, :3]), F.mse_loss, optimizer)

    model, optimizer = begin()
    go_on(model, optimizer)
    random = checkpoint.random_state()
    checkpoint.save(folder / "c.pt", model=model, optimizer=optimizer, random=random)
    go_on(model, optimizer)

    again, second = begin()
    rest = checkpoint.load(folder / "c.pt", model=again, optimizer=second)
    checkpoint.set_random_state(rest["random"])
    go_on(again, second)
    assert {p.device.type for p in again.parameters()} == {NAME}
    assert checkpoint.differences(again.state_dict(), model.state_dict()) == []
    assert checkpoint.differences(second.state_dict(), optimizer.state_dict()) == []


@of("augment")
def changes_images_that_are_there():
    digits = data.digits()
    x = digits.x_train[:16].repeat(1, 3, 1, 1).to(runtime.device())
    y = F.one_hot(digits.y_train[:16], 10).float().to(runtime.device())
    for generator in (None, torch.Generator().manual_seed(0)):
        changed = [
            augment.cutout(x, 4, generator=generator),
            augment.augmix(x, generator=generator),
            *augment.mixup(x, y, generator=generator),
            *augment.cutmix(x, y, generator=generator),
        ]
        assert {one.device.type for one in changed} == {NAME}
    assert augment.js_divergence(y, y.flip(1)).device.type == NAME


@of("margins")
def trains_every_head():
    x = torch.randn(12, 4, device=runtime.device())
    y = torch.arange(12, device=runtime.device()) % 3
    for kind in (margins.CosineHead, margins.CosFace, margins.ArcFace, margins.L2Softmax):
        head = kind(4, 3).to(runtime.device())
        F.cross_entropy(head(x, y), y).backward()
        assert head.weight.grad.device.type == NAME and head.weight.grad.isfinite().all()
    angles = margins.class_angles(x, y)
    torch.testing.assert_close(angles, margins.class_angles(x.cpu(), y.cpu()))
    pairs = margins.pair_scores(x, y)
    assert all(rates.device.type == NAME for rates in margins.roc(*pairs))
    expected = margins.equal_error_rate(*(part.cpu() for part in pairs))
    assert margins.equal_error_rate(*pairs) == pytest.approx(expected)


@of("plots")
def draws_what_lies_there():
    images = torch.rand(4, 1, 8, 8, device=runtime.device())
    assert len(plots.images(images, titles=list("abcd")).axes) == 4
    loss = torch.rand(5, device=runtime.device(), requires_grad=True)
    _, axes = plots.curves({"a": loss}, title="t", xlabel="x", ylabel="y", x=torch.arange(5))
    assert axes.lines[0].get_ydata().tolist() == pytest.approx(loss.tolist())


@of("boards")
def reads_back_what_was_logged_from_there(folder):
    with SummaryWriter(folder) as writer:
        x = torch.rand(2, 1, 8, 8, device=runtime.device())
        writer.add_scalar("loss", x.mean(), 1)
        writer.add_histogram("x", x, 1)
        writer.add_images("images", x, 1)
        writer.add_pr_curve("pr", x.flatten() > 0.5, x.flatten(), 1)
        writer.add_embedding(x.flatten(1), tag="points")
    (point,) = boards.scalars(folder, "loss")
    assert point.value == pytest.approx(x.mean().item())
    assert {tag.kind for tag in boards.tags(folder)} >= {"scalar", "histogram", "image"}
    assert boards.draw_histograms(folder, "x", ".")


@of("ranks")
def brings_back_what_a_function_gave_in_each_rank():
    program = "import torch\n\n\ndef ones():\n    return torch.ones(2)\n"
    assert all(torch.equal(given, torch.ones(2)) for given in ranks.run(program, 2, call="ones"))


@of("exercises.compare")
def says_that_an_answer_lies_elsewhere():
    mine, wanted = torch.ones(2, device=runtime.device()), torch.ones(2)
    assert compare.difference(wanted, mine).kind == "device"
    assert compare.difference(wanted, mine.cpu()) is None


@pytest.mark.parametrize("module", PROGRAMS)
def test_a_module_computes_there(module, tmp_path):
    program = PROGRAMS[module]
    takes_a_folder = program.__code__.co_argcount > 0
    try:
        program(*[tmp_path] * takes_a_folder)
    finally:
        plt.close("all")


def test_every_module_that_computes_is_tried():
    # run by the exercises' own tests
    names = ("engine", "observe", "sandbox", "trial", "unrecognised")
    engine = {f"exercises.{name}" for name in names}
    assert {name for name in PROGRAMS if name != "boards"} == computing() - engine


def computing() -> set[str]:
    """The modules of ``helpers`` that import torch."""
    imports = re.compile(r"^\s*(import torch|from torch)\b", re.MULTILINE)
    files = [file for file in HELPERS.rglob("*.py") if imports.search(file.read_text("utf-8"))]
    return {".".join(file.relative_to(HELPERS).with_suffix("").parts) for file in files}
