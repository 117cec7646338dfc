"""Tensors on the device, and the same memory seen as a tensor on the CPU."""

from __future__ import annotations

import ctypes
import os

import torch
from torch import Tensor
from torch.utils.dlpack import to_dlpack

NAME = "mock"
CPU = torch.device("cpu")
REFUSED = {torch.float64, torch.complex128}

# DLPack's numbers for "another kind of device", which torch takes for its spare backend.
_EXTENSION = 12
_TYPE_OF_DEVICE = ctypes.sizeof(ctypes.c_void_p)  # where it stands: behind the pointer to the data

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype = ctypes.c_void_p
_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_int32_at = ctypes.c_int32.from_address

_views: dict[tuple, Tensor] = {}
_MOST_VIEWS = 20_000
_forked = False


def on_device(tensor: Tensor) -> Tensor:
    """The memory of a CPU tensor as a tensor on the device, which then owns it.

    Raises ``TypeError`` for float64 and complex128, which the device has not got.
    """
    if tensor.dtype in REFUSED:
        raise TypeError(
            f"Cannot convert a {NAME} Tensor to {str(tensor.dtype).removeprefix('torch.')} dtype "
            f"as the {NAME} framework doesn't support it. Please use float32 instead."
        )
    if _forked:
        _refuse_in_a_fork()
    if not tensor.untyped_storage().resizable():  # a view of ours, whose memory belongs to another
        tensor = tensor.clone()
    capsule = to_dlpack(tensor)
    _int32_at(_pointer(capsule, b"dltensor") + _TYPE_OF_DEVICE).value = _EXTENSION
    return torch._C._from_dlpack(capsule)


def on_cpu(tensor: Tensor) -> Tensor:
    """The memory of a device tensor as a CPU tensor, to be used while the device tensor lives.

    Raises ``RuntimeError`` in a process that was forked after the device had been used.
    """
    if _forked:
        _refuse_in_a_fork()
    # A view is nothing but these, so one that was made for another tensor is as good.
    key = tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
    view = _views.get(key)
    if view is None:
        if len(_views) >= _MOST_VIEWS:
            _views.clear()
        view = _views[key] = _view(*key)
    return view


def _view(pointer: int, shape: torch.Size, strides: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if 0 in shape:
        return torch.empty_strided(shape, strides, dtype=dtype)
    last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    bytes_ = (last + 1) * dtype.itemsize
    storage = torch._C._construct_storage_from_data_pointer(pointer, CPU, bytes_)
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape, strides)


def is_forked() -> bool:
    """Whether this process is a fork of one that had used the device."""
    return _forked


def _after_a_fork() -> None:
    global _forked
    _forked = bool(_views)


def _refuse_in_a_fork() -> None:
    raise RuntimeError(
        f"Cannot re-initialize {NAME.upper()} in forked subprocess. To use {NAME.upper()} with "
        "multiprocessing, you must use the 'spawn' start method"
    )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_a_fork)
