"""Programs that are right about devices: they run, and come to what the CPU comes to."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from helpers import data, runtime
from tests.long.accelerator import device as pretended
from tests.long.accelerator.memory import NAME

PROGRAMS: list[Callable[[torch.device], object]] = []


def program(function: Callable[[torch.device], object]) -> Callable:
    PROGRAMS.append(function)
    return function


def trained(
    model: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer
) -> list[float]:
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def batch(device: torch.device) -> tuple[Tensor, Tensor]:
    digits = data.digits()
    return digits.x_train[:64].to(device), digits.y_train[:64].to(device)


@program
def convolutions_and_batchnorm(device):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 10)),
    )
    model.to(device)
    losses = trained(model, *batch(device), torch.optim.AdamW(model.parameters()))
    return losses, model[1].running_mean.tolist()


@program
def an_optimizer_made_before_the_model_moves(device):
    torch.manual_seed(0)
    model = nn.Linear(64, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    x, y = batch(device)
    return trained(model.to(device), x.flatten(1), y, optimizer)


@program
def every_optimizer(device):
    losses = {}
    kinds = ("SGD", "Adagrad", "Adadelta", "RMSprop", "Adam", "AdamW", "Adamax", "NAdam", "RAdam")
    for kind in (*kinds, "ASGD", "Rprop"):
        for options in ({}, {"foreach": False}):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(device)
            optimizer = getattr(torch.optim, kind)(model.parameters(), **options)
            losses[kind, str(options)] = trained(model, *batch(device), optimizer)
    return list(losses.values())


@program
def mixed_precision_where_there_is_some(device):
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(device), batch(device)
    able = torch.amp.is_autocast_available(device.type)
    with torch.autocast(device.type, torch.bfloat16) if able else nullcontext():
        logits = model(x)
        loss = F.cross_entropy(logits, y)
    loss.backward()
    assert logits.dtype == (torch.bfloat16 if able else torch.float32)
    return round(loss.item(), 1), round(model[1].weight.grad.norm().item(), 1)


@program
def a_checkpoint_goes_to_a_file_and_comes_back(device, folder):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(device)
    optimizer = torch.optim.Adam(model.parameters())
    trained(model, *batch(device), optimizer)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "c.pt")

    for where in (None, "cpu", device):
        state = torch.load(folder / "c.pt", map_location=where, weights_only=True)
        found = state["model"]["1.weight"].device.type
        assert found == (device if where is None else torch.device(where)).type
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(device)
    other.load_state_dict(state["model"])
    second = torch.optim.Adam(other.parameters())
    second.load_state_dict(state["optimizer"])
    return trained(other, *batch(device), second)


@program
def copies_and_views(device):
    x = torch.arange(12.0).view(3, 4).to(device)
    twin = copy.deepcopy(x)
    x.t()[1:3].add_(10)
    x[x > 20] = 0
    assert x.t().untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    assert twin.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    return (
        x.tolist(),
        twin.tolist(),
        x.t().stride(),
        x[1:].storage_offset(),
        x.resize_(5, 3)[:4].tolist(),
    )


@program
def a_loader_pins_what_it_sends(device):
    torch.manual_seed(0)
    loader = DataLoader(
        TensorDataset(*batch(torch.device("cpu"))),
        batch_size=16,
        shuffle=True,
        pin_memory=torch.accelerator.is_available(),
    )
    batches = [(x, y, x.to(device, non_blocking=True)) for x, y in loader]
    assert all(x.is_pinned() == torch.accelerator.is_available() for x, _, _ in batches)
    return [(there.sum().item(), y.sum().item()) for _, y, there in batches]


@program
def random_numbers_of_its_own(device):
    own = torch.Generator(device=device)
    draws = [torch.rand(4, device=device, generator=own.manual_seed(1)) for _ in range(2)]
    assert torch.equal(*draws) and own.device.type == device.type
    torch.manual_seed(3)
    first = torch.randn(4, device=device)
    state = pretended_state(device)
    again = [torch.randn(4, device=device)]
    restore(device, state)
    again.append(torch.randn(4, device=device))
    assert torch.equal(*again) and not torch.equal(first, again[0])
    dropped = F.dropout(torch.ones(1000, device=device), 0.25)
    assert 0.6 < dropped.bool().float().mean().item() < 0.9
    assert dropped.max().item() == pytest.approx(4 / 3)
    assert sorted(torch.randperm(5, device=device).tolist()) == list(range(5))


def pretended_state(device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.get_rng_state()
    return torch.get_device_module(device).get_rng_state()


def restore(device: torch.device, state: Tensor) -> None:
    if device.type == "cpu":
        torch.set_rng_state(state)
    else:
        torch.get_device_module(device).set_rng_state(state)


@program
def losses_of_many_kinds(device):
    torch.manual_seed(0)
    x, other, positive = torch.randn(6, 4), torch.randn(6, 4), torch.rand(6, 4)
    classes, lengths = torch.randint(0, 4, (6,)), torch.tensor([3, 3])
    x, other, positive, classes = (t.to(device) for t in (x, other, positive, classes))
    x.requires_grad_()
    values = [
        *(F.mse_loss(x, other), F.l1_loss(x, other), F.smooth_l1_loss(x, other)),
        *(F.huber_loss(x, other), F.cross_entropy(x, classes, label_smoothing=0.1)),
        F.cross_entropy(x, classes, weight=positive[0]),
        F.binary_cross_entropy_with_logits(x, positive, pos_weight=positive[0]),
        F.binary_cross_entropy(x.sigmoid(), positive),
        F.kl_div(x.log_softmax(1), other.softmax(1), reduction="batchmean"),
        F.ctc_loss(
            torch.stack([x, other]).transpose(0, 1).log_softmax(2),
            torch.ones(2, 2, dtype=torch.long, device=device) + classes.view(3, 2)[:2] % 3,
            torch.tensor([6, 6]),
            lengths - 1,
        ),
    ]
    sum(values).backward()
    return [value.item() for value in values], x.grad.norm().item()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_right_program_comes_to_what_the_cpu_comes_to(program, tmp_path):
    needs = program.__code__.co_varnames[: program.__code__.co_argcount]
    more = {"folder": tmp_path} if "folder" in needs else {}
    expected = program(torch.device("cpu"), **more)
    before = pretended.usage()["operations"]
    found = program(runtime.device(), **more)
    assert pretended.usage()["operations"] > before
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


# The device as a part of the machine


def test_it_is_the_accelerator_and_the_course_chooses_it(monkeypatch):
    monkeypatch.delenv("TUTORIAL_DEVICE", raising=False)
    assert torch.accelerator.current_accelerator(check_available=True).type == NAME
    assert runtime.device() == torch.device(NAME)
    for name in (NAME, f"{NAME}:0", "cpu"):
        monkeypatch.setenv("TUTORIAL_DEVICE", name)
        assert runtime.device() == torch.device(name)


@pytest.mark.parametrize("grad", [False, True])
def test_a_parameter_and_its_gradient_stay_the_same_objects_when_a_module_moves(grad):
    model = nn.Linear(3, 2)
    if grad:
        model(torch.ones(1, 3)).sum().backward()
    before = [*model.parameters(), *(p.grad for p in model.parameters())]
    for where in (runtime.device(), torch.device("cpu")):
        model.to(where)
        after = [*model.parameters(), *(p.grad for p in model.parameters())]
        assert all(mine is other for mine, other in zip(before, after, strict=True))
        assert {t.device.type for t in after if t is not None} == {where.type}


if hasattr(os, "fork"):

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_forked_process_may_look_and_not_compute():
        x = torch.ones(2, device=runtime.device()) + 1
        read, write = os.pipe()
        if not (child := os.fork()):
            try:
                assert x.shape == (2,) and x.device.type == NAME
                x + 1
                os.write(write, b"computed")
            except RuntimeError as error:
                os.write(write, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert b"Cannot re-initialize MOCK in forked subprocess" in os.read(read, 1000)
