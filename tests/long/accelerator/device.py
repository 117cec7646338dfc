"""A pretended accelerator: it computes on the CPU and refuses what a GPU refuses.

``register`` makes it the accelerator of this process, for good: torch can't take a backend back.
Afterwards ``torch.accelerator.current_accelerator(check_available=True)`` names it. Like some real
ones it has no float64. It shows whether code is right about devices, not whether it is fast there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils import backend_registration

from tests.long.accelerator import autocast, generators, kernels, memory, stand_ins
from tests.long.accelerator.memory import NAME


def register() -> None:
    """Make the device this process's accelerator. Doing it twice is doing it once.

    With ``MOCK_ACCELERATOR=no-autocast`` in the environment it has no mixed precision.
    """
    if getattr(torch, NAME, None) is not None:
        return
    without = os.environ.get("MOCK_ACCELERATOR") == "no-autocast"
    module = Module() if without else WithMixedPrecision()
    backend_registration._setup_privateuseone_for_python_backend(NAME, module)
    _KEPT.extend([*kernels.install(), *stand_ins.install()])
    if without:
        torch.amp.is_autocast_available = _is_autocast_available
    else:
        _KEPT.extend(autocast.install())
    # A backward pass in a thread of torch's own costs three times as much in Python.
    torch.autograd.set_multithreading_enabled(False)
    register_optimizer_step_post_hook(_count_step)


def usage() -> dict[str, int]:
    """What has been computed in this process so far.

    ``operations`` of the device, and the steps that optimizers took: ``steps`` on parameters of the
    device, ``cpu_steps`` on others.
    """
    return {"operations": kernels.Use.operations, **_STEPS}


_KEPT: list[torch.library.Library] = []
_STEPS = {"steps": 0, "cpu_steps": 0}


_available = torch.amp.is_autocast_available


def _is_autocast_available(device_type: str) -> bool:
    """torch's own says of every backend that is not built in that it has mixed precision."""
    return device_type != NAME and _available(device_type)


def _count_step(optimizer: Optimizer, *_: object) -> None:
    parameter = next((p for group in optimizer.param_groups for p in group["params"]), None)
    on_device = parameter is not None and parameter.device.type == NAME
    _STEPS["steps" if on_device else "cpu_steps"] += 1


class Module:
    """``torch.mock``: what ``torch.cuda`` is for CUDA, as far as torch asks for it."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def device(self, device: int | str | torch.device) -> nullcontext:
        """``with torch.mock.device(0)``: there is no other to change to."""
        self.set_device(device)
        return nullcontext()

    def set_device(self, device: int | str | torch.device) -> None:
        kernels.checked_device(
            torch.device(NAME, device) if isinstance(device, int) else torch.device(device)
        )

    def synchronize(self, device: int | str | torch.device | None = None) -> None:
        pass

    def current_stream(self, device: int | str | torch.device | None = None) -> Module:
        """The only stream, for which one waits as for the device."""
        return self

    def stream(self, stream: Module) -> nullcontext:
        return nullcontext()

    def _is_in_bad_fork(self) -> bool:
        return memory.is_forked()

    def manual_seed(self, seed: int) -> None:
        generators.default.manual_seed(int(seed))

    manual_seed_all = manual_seed

    def initial_seed(self) -> int:
        return generators.default.initial_seed()

    def get_rng_state(self, device: int | str | torch.device = NAME) -> Tensor:
        return generators.default.get_state()

    def set_rng_state(self, state: Tensor, device: int | str | torch.device = NAME) -> None:
        generators.default.set_state(state)


class WithMixedPrecision(Module):
    """The same for a device that has mixed precision, too."""

    def get_amp_supported_dtype(self) -> Sequence[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def is_bf16_supported(self) -> bool:
        return True
