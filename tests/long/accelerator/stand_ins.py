"""What a compiled backend tells torch in C++ and Python has no way to.

Each function here replaces one thing of torch, for tensors of the device only: memory of its own,
pinned memory, generators, parameters that stay the same object when a module moves, and float32
where torch spares the accelerators that it knows to have no float64.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from torch import Tensor

from tests.long.accelerator import generators
from tests.long.accelerator.memory import NAME


def install() -> list[torch.library.Library]:
    """Put all of them in place. They last as long as what is returned."""
    torch.Generator = generators.Generator
    torch.UntypedStorage.__new__ = _storage
    torch.Tensor.data = property(_data, _set_data)
    torch._has_compatible_shallow_copy_type = _can_take_the_data
    torch._tensor_str.tensor_totype = _to_print
    torch.amp.GradScaler.unscale_ = _to_unscale
    torch.accelerator.synchronize = lambda device=None: None  # there is nothing to wait for
    return [_pinning()]


# Storages


_new_storage = torch.UntypedStorage.__new__


def _storage(cls: type, *args: Any, device: Any = None, **kwargs: Any) -> torch.UntypedStorage:
    if device is None or torch.device(device).type != NAME:
        options = {} if device is None else {"device": device}
        return _new_storage(cls, *args, **options, **kwargs)
    return torch.empty(args[0] if args else 0, dtype=torch.uint8, device=device).untyped_storage()


# Parameters


_cpu_data = torch._C.TensorBase.data
_has_compatible_shallow_copy_type = torch._has_compatible_shallow_copy_type


def _can_take_the_data(input: Tensor, from_: Tensor) -> bool:
    """Whether ``input.data = from_`` works; for a GPU and the CPU it does."""
    moves = {input.device.type, from_.device.type} == {"cpu", NAME}
    return moves or _has_compatible_shallow_copy_type(input, from_)


def _data(tensor: Tensor) -> Tensor:
    return _cpu_data.__get__(tensor)


def _set_data(tensor: Tensor, value: Tensor) -> None:
    if {tensor.device.type, value.device.type} == {"cpu", NAME}:
        _become(tensor, value)
    else:
        _cpu_data.__set__(tensor, value)


def _become(tensor: Tensor, value: Tensor) -> None:
    """Let a tensor object, its gradient too, stand for a tensor on another device."""
    grad, tensor.grad = tensor.grad, None
    if grad is not None:
        _become(grad, grad.to(value.device))
    other = value.detach().requires_grad_(tensor.requires_grad)
    torch._C._swap_tensor_impl(tensor, other)
    tensor.grad = grad


# Pinned memory: on a machine with an accelerator, memory of the CPU can be pinned


def _pinning() -> torch.library.Library:
    library = torch.library.Library("aten", "IMPL")
    pinned: dict[int, Any] = {}

    def pin(tensor: Tensor, device: torch.device | None = None) -> Tensor:
        copy = tensor.clone(memory_format=torch.contiguous_format)
        storage = copy.untyped_storage()
        pinned[storage.data_ptr()] = torch.multiprocessing.reductions.StorageWeakRef(storage)
        return copy

    def is_pinned(tensor: Tensor, device: torch.device | None = None) -> bool:
        reference = pinned.get(tensor.untyped_storage().data_ptr())
        return reference is not None and not reference.expired()

    def refuse(tensor: Tensor, device: torch.device | None = None) -> Tensor:
        raise RuntimeError(f"cannot pin '{tensor.type()}' only dense CPU tensors can be pinned")

    library.impl("_pin_memory", pin, "CPU")
    library.impl("is_pinned", is_pinned, "CPU")
    library.impl("_pin_memory", refuse, "PrivateUse1")
    library.impl("is_pinned", lambda tensor, device=None: False, "PrivateUse1")
    return library


# What torch computes in float64, but for the accelerators that it knows to have none


_totype = torch._tensor_str.tensor_totype
_unscale = torch.amp.GradScaler.unscale_


def _to_print(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.device.type == NAME else _totype(tensor)


def _to_unscale(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
    if scaler._device != NAME:
        return _unscale(scaler, optimizer)
    with mock.patch.object(Tensor, "double", Tensor.float):
        return _unscale(scaler, optimizer)
