"""Small programs that run on a CPU and not on a GPU: the device refuses each one as a GPU would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from helpers import runtime
from tests.long.accelerator.memory import NAME


class Bug(NamedTuple):
    program: Callable[[torch.device], object]
    error: type[Exception]
    message: str | None


BUGS: list[Bug] = []
MIXED = f"(?s)same device.*{NAME}:0 and cpu"


def bug(error: type[Exception], message: str | None = None) -> Callable:
    def planted(program: Callable[[torch.device], object]) -> Callable:
        BUGS.append(Bug(program, error, message))
        return program

    return planted


# What stayed behind on the CPU


@bug(RuntimeError, MIXED)
def the_inputs_stayed(device):
    nn.Linear(3, 2).to(device)(torch.ones(4, 3))


@bug(RuntimeError, MIXED)
def the_labels_stayed(device):
    F.cross_entropy(torch.zeros(4, 3, device=device), torch.zeros(4, dtype=torch.long))


@bug(RuntimeError, MIXED)
def a_mask_is_made_on_the_cpu(device):
    scores = torch.ones(3, 3, device=device)
    scores.masked_fill(torch.ones(3, 3).triu(1).bool(), -torch.inf)


@bug(RuntimeError, MIXED)
def a_tensor_is_not_registered_as_a_buffer(device):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.full((3,), 2.0)

        def forward(self, x):
            return x * self.scale

    Scaled().to(device)(torch.ones(4, 3, device=device))


@bug(RuntimeError, MIXED)
def positions_are_made_on_the_cpu(device):
    nn.Embedding(8, 4).to(device)(torch.arange(8))


@bug(RuntimeError, MIXED)
def a_single_row_of_noise_is_made_on_the_cpu(device):
    torch.ones(1, device=device).add_(torch.zeros(1))


@bug(RuntimeError, MIXED)
def batches_of_two_devices_are_joined(device):
    torch.cat([torch.ones(2, device=device), torch.ones(2)])


@bug(RuntimeError, "indices should be either on cpu or on the same device")
def a_tensor_of_the_cpu_is_indexed_from_the_device(device):
    torch.ones(3)[torch.tensor([0, 2], device=device)]


@bug(RuntimeError, MIXED)
def a_count_is_kept_on_the_cpu(device):
    hits = torch.zeros(())
    hits += torch.ones(4, device=device).sum()


# What only the CPU has


@bug(TypeError, f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu()")
def a_result_becomes_an_array(device):
    torch.ones(3, device=device).numpy()


@bug(TypeError, f"Cannot convert a {NAME} Tensor to float64")
def an_array_arrives_in_float64(device):
    torch.from_numpy(np.ones(3)).to(device)


@bug(RuntimeError, f"Expected a '{NAME}' device type for generator but found 'cpu'")
def a_generator_of_the_cpu_draws(device):
    torch.randn(3, device=device, generator=torch.Generator().manual_seed(0))


@bug(RuntimeError, f"Expected a '{NAME}' device type for generator but found 'cpu'")
def a_generator_of_the_cpu_fills(device):
    torch.ones(3, device=device).uniform_(generator=torch.Generator().manual_seed(0))


@bug(TypeError, "ByteTensor")
def a_random_state_was_loaded_onto_the_device(device):
    torch.set_rng_state(torch.get_rng_state().to(device))


@bug(RuntimeError, "only dense CPU tensors can be pinned")
def data_on_the_device_is_pinned(device):
    dataset = TensorDataset(torch.ones(4, 1, device=device))
    next(iter(DataLoader(dataset, batch_size=2, pin_memory=torch.accelerator.is_available())))


if hasattr(os, "fork"):

    @bug(RuntimeError, f"Cannot re-initialize {NAME.upper()} in forked subprocess")
    def workers_are_forked_with_data_on_the_device(device):
        dataset = TensorDataset(torch.ones(4, 1, device=device) * 2)
        next(iter(DataLoader(dataset, num_workers=1, multiprocessing_context="fork", timeout=60)))


# Names and numbers of devices


@bug(RuntimeError, "invalid device ordinal 1")
def there_is_one_device_less(device):
    if device.type != "cpu":
        torch.ones(1, device=torch.device(device.type, 1))


@bug(AssertionError)
def a_device_without_a_number_is_not_one_with(device):
    assert torch.ones(1, device=device).device == torch.device(device.type)


@bug(subprocess.CalledProcessError)
def a_file_is_loaded_where_the_device_is_missing(device, tmp_path):
    torch.save(torch.ones(3, device=device), tmp_path / "x.pt")
    load = f"import torch; torch.load({str(tmp_path / 'x.pt')!r})"
    bare = {**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    subprocess.run([sys.executable, "-c", load], env=bare, check=True, capture_output=True)


# What the device does to training


@bug(AssertionError)
def a_seed_gives_the_numbers_of_the_cpu(device):
    torch.manual_seed(0)
    expected = torch.rand(8)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(8, device=device).cpu(), expected)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.program.__name__)
def test_a_bug_that_the_cpu_forgives_is_caught(bug, tmp_path):
    needs = bug.program.__code__.co_varnames[: bug.program.__code__.co_argcount]
    more = {"tmp_path": tmp_path} if "tmp_path" in needs else {}
    bug.program(torch.device("cpu"), **more)
    with pytest.raises(bug.error, match=bug.message):
        bug.program(runtime.device(), **more)
