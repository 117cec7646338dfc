"""The operations of the device.

Each one looks where its tensors are, refuses what a GPU refuses, computes on the CPU and puts the
result on the device. Views are made by torch's own code: they only describe memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from tests.long.accelerator import generators
from tests.long.accelerator.memory import CPU, NAME, on_cpu, on_device

KEY = "PrivateUse1"
ON_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)

# What a GPU's kernel takes from the CPU, as tensors of any size.
FROM_THE_CPU = {
    "index": {"indices"},
    "_unsafe_index": {"indices"},
    "index_put": {"indices"},
    "index_put_": {"indices"},
    "_unsafe_index_put": {"indices"},
    "_index_put_impl_": {"indices"},
    "_ctc_loss": {"input_lengths", "target_lengths", "targets"},
    "_ctc_loss_backward": {"input_lengths", "target_lengths", "targets"},
    "copy_": {"self", "src"},
}
# What takes a single number from the CPU besides the operations that torch tags as pointwise.
TAKES_A_NUMBER = {"index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put", "fill_"}
# What describes memory anew and computes nothing.
DESCRIBES = (
    *("as_strided", "view", "_reshape_alias", "unfold", "view_as_real", "view_as_complex"),
    *("set_", "set_.source_Storage", "set_.source_Storage_storage_offset", "set_.source_Tensor"),
)


class Use:
    """How often the device has computed in this process."""

    operations = 0


def install() -> list[torch.library.Library]:
    """Give the device its operations. They last as long as what is returned."""
    library = torch.library.Library("aten", "IMPL")
    for name in DESCRIBES:
        library.impl(name, _describing(name), KEY)
    for name, kernel in SPECIAL.items():
        library.impl(name, kernel, KEY)
    done = {*DESCRIBES, *SPECIAL}
    for op in _compositions():
        if _full_name(op) not in done:
            library.impl(op, kernel_of(op), KEY)

    def first_call(op: OpOverload, *args: Any, **kwargs: Any) -> Any:
        kernel = kernel_of(op)
        library.impl(op, kernel, KEY)  # from now on torch finds it by itself, which is faster
        return kernel(*args, **kwargs)

    rest = torch.library.Library("_", "IMPL")
    rest.fallback(first_call, KEY)
    return [library, rest]


def kernel_of(op: OpOverload) -> Callable[..., Any]:
    """The device's form of an operation that the CPU has."""
    schema = op._schema
    written = {a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write}
    names = [argument.name for argument in schema.arguments]
    seeded, placed = "generator" in names, "device" in names
    compute, look = op._op, _looker(op, written)

    def fresh(*args: Any, **kwargs: Any) -> Any:
        Use.operations += 1
        inputs = [look(a, place) for place, a in enumerate(args)]
        if kwargs:
            kwargs = {name: look(a, name) for name, a in kwargs.items()}
        if seeded:
            kwargs["generator"] = generators.for_the_device(kwargs.get("generator"))
        if placed:
            kwargs["device"] = _on_the_cpu(**kwargs)
        return _put_on_device(compute(*inputs, **kwargs))

    if not written:
        return fresh

    outputs = {argument.name for argument in schema.arguments if argument.is_out}
    returned = [
        next((a.name for a in schema.arguments if _same_memory(a, result)), None)
        for result in schema.returns
    ]

    def writing(*args: Any, **kwargs: Any) -> Any:
        Use.operations += 1
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        inputs = [look(a, place) for place, a in enumerate(args)]
        kwargs = {name: look(a, name) for name, a in kwargs.items()}
        if seeded:
            kwargs["generator"] = generators.for_the_device(kwargs.get("generator"))
        for name in outputs:
            kwargs[name] = torch.empty(0, dtype=given[name].dtype)
        result = compute(*inputs, **kwargs)
        for name in outputs:
            _write(given[name], kwargs[name])
        results = result if len(returned) > 1 else [result]
        back = [
            given[name] if name else _put_on_device(value)
            for name, value in zip(returned, results, strict=False)
        ]
        return tuple(back) if len(returned) > 1 else back[0] if returned else None

    return writing


def _looker(op: OpOverload, written: set[str]) -> Callable[[Any, int | str], Any]:
    """A function that gives an argument's form on the CPU, or refuses it."""
    name = op._schema.name.removeprefix("aten::")
    names = [argument.name for argument in op._schema.arguments]
    free = FROM_THE_CPU.get(name, set())
    takes_a_number = (
        torch.Tag.pointwise in op.tags or name in TAKES_A_NUMBER or name.startswith("_foreach_")
    )

    def look(value: Any, place: int | str) -> Any:
        if isinstance(value, Tensor):
            if value.is_cpu or value.is_meta:
                argument = names[place] if isinstance(place, int) else place
                number = takes_a_number and value.dim() == 0 and argument not in written
                if value.is_meta or not (number or argument in free):
                    _refuse(name, argument, value)
                return value
            return on_cpu(value)
        if isinstance(value, list | tuple):
            return [look(part, place) for part in value]
        return value

    return look


def _refuse(operation: str, argument: str, value: Tensor) -> None:
    if operation == "index" and argument == "self":
        raise RuntimeError(
            "indices should be either on cpu or on the same device as the indexed tensor "
            f"({value.device})"
        )
    raise RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"{NAME}:0 and {value.device}! (when checking argument for argument {argument} in method "
        f"{operation})"
    )


def _put_on_device(result: Any) -> Any:
    if isinstance(result, Tensor):
        return on_device(result)
    if isinstance(result, list | tuple):
        return type(result)(map(_put_on_device, result))
    return result


def _write(out: Tensor, value: Tensor) -> None:
    if out.shape == value.shape:
        on_cpu(out).copy_(value)
    else:
        out.set_(on_device(value))


def _same_memory(argument: Any, result: Any) -> bool:
    ours, theirs = argument.alias_info, result.alias_info
    return bool(ours and theirs and ours.before_set & theirs.before_set)


def _full_name(op: OpOverload) -> str:
    return op._schema.name.removeprefix("aten::") + (
        f".{op._schema.overload_name}" if op._schema.overload_name else ""
    )


def _compositions() -> Iterator[OpOverload]:
    """What torch would put together from other operations, though the CPU computes it in one go.

    That spares the device many operations, and gives it those of which torch has no general form.
    """
    listed = torch._C._dispatch_get_registrations_for_dispatch_key
    keys = "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional"
    for full in sorted({name for key in keys for name in listed(key)}):
        namespace, _, name = full.partition("::")
        packet, _, overload = name.partition(".")
        if namespace != "aten":
            continue
        op = getattr(getattr(torch.ops.aten, packet), overload or "default")
        arguments, returns = op._schema.arguments, op._schema.returns
        on_tensors = any("Tensor" in str(argument.type) for argument in arguments)
        asks_more = {"device", "generator", "memory_format"} & {a.name for a in arguments}
        is_view = any(r.alias_info and not r.alias_info.is_write for r in returns)
        gives_tensors = all("Tensor" in str(r.type) for r in returns)
        tags = {torch.Tag.nondeterministic_seeded, torch.Tag.inplace_view} & set(op.tags)
        left = asks_more - {"memory_format"} or is_view or tags or "rand" in packet
        if on_tensors and gives_tensors and not left and packet not in _LEFT_TO_TORCH:
            yield op


_LEFT_TO_TORCH = {
    "convolution",  # a trace does not record it, but what it calls
    *("alias", "detach", "detach_", "lift", "lift_fresh", "_fw_primal", "_make_dual", "copy"),
    *("resize_as_", "_resize_output_", "resize", "set", "_efficientzerotensor", "_to_copy"),
    *("_to_dense", "sparse_mask", "_sparse_coo_tensor_with_dims", "_lazy_clone"),
}


# Operations of which the CPU's form is not the device's


def _describing(name: str) -> Callable[..., Any]:
    compute = torch.library.get_kernel(f"aten::{name}", "CPU").call_boxed
    return lambda *args, **kwargs: compute(ON_CPU, *args, **kwargs)


def checked_device(device: torch.device | None) -> None:
    """Raise ``RuntimeError`` for the number of a device that this machine has not got."""
    if device is not None and device.type == NAME and device.index not in (None, 0):
        raise RuntimeError(
            f"{NAME} error: invalid device ordinal {device.index}: this machine has 1 device"
        )


def _on_the_cpu(*, device=None, pin_memory=None, **options) -> torch.device:
    """Where to make what is asked for on the device; refuses what the device can't make."""
    checked_device(device)
    if pin_memory:
        raise RuntimeError("Only dense CPU tensors can be pinned")
    return CPU


def _copy_(self: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    Use.operations += 1
    _memory(self).copy_(_memory(src))
    return self


def _memory(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_cpu else on_cpu(tensor)


def _to_copy(
    self: Tensor,
    *,
    dtype=None,
    layout=None,
    device=None,
    pin_memory=None,
    non_blocking=False,
    memory_format=None,
) -> Tensor:
    checked_device(device)
    Use.operations += 1
    copy = torch.ops.aten._to_copy.default(on_cpu(self), dtype=dtype, memory_format=memory_format)
    return on_device(copy) if device is None or device.type == NAME else copy.to(device)


def _resize_(self: Tensor, size, memory_format=None) -> Tensor:
    needed = torch.Size(size).numel() * self.dtype.itemsize
    held = self.untyped_storage().nbytes() - self.storage_offset() * self.dtype.itemsize
    if needed > held:
        larger = torch.empty(size, dtype=self.dtype)
        larger.view(-1)[: self.numel()].copy_(on_cpu(self).reshape(-1))
        return self.set_(on_device(larger))
    return self.as_strided_(size, torch.empty(size, device="meta").stride())


def _native_dropout(input: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    Use.operations += 1
    x = on_cpu(input)
    if train is False or p == 0:
        return on_device(x.clone()), on_device(torch.ones(x.shape, dtype=torch.bool))
    kept = torch.empty(x.shape).bernoulli_(1 - p, generator=generators.default).bool()
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return on_device(x * kept * scale), on_device(kept)


SPECIAL: dict[str, Callable[..., Any]] = {
    "copy_": _copy_,
    "_to_copy": _to_copy,
    "resize_": _resize_,
    "native_dropout": _native_dropout,
}
