"""Random numbers on the device: a generator of its own, whose numbers are not the CPU's."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import torch

from tests.long.accelerator.memory import NAME

CpuGenerator = torch._C.Generator
# The same seed gives other numbers on another kind of device.
_SALT = 0x5EED


class _Generators(type(CpuGenerator)):
    """Lets ``isinstance(x, torch.Generator)`` be true of every generator."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, CpuGenerator)


class Generator(CpuGenerator, metaclass=_Generators):
    """``torch.Generator``, which can be one of the device's too."""

    def __new__(cls, device: torch.device | str | int = "cpu") -> CpuGenerator:
        if torch.device(device).type != NAME:
            return CpuGenerator(device)
        return DeviceGenerator()


class DeviceGenerator(CpuGenerator):
    """A generator for tensors of the device."""

    def __init__(self):
        _OURS[self._cdata] = self
        self.manual_seed(super().initial_seed())

    @property
    def device(self) -> torch.device:
        return torch.device(NAME, 0)

    def manual_seed(self, seed: int) -> DeviceGenerator:
        super().manual_seed(seed ^ _SALT)
        return self

    def initial_seed(self) -> int:
        return super().initial_seed() ^ _SALT

    def seed(self) -> int:
        return self.manual_seed(super().seed()).initial_seed()


# On its way through torch a generator gets another object in Python. This tells which one it is.
_OURS: WeakValueDictionary[int, DeviceGenerator] = WeakValueDictionary()

default = DeviceGenerator()


def for_the_device(generator: CpuGenerator | None) -> CpuGenerator:
    """The given generator, or the default one. Raises ``RuntimeError`` for one of the CPU's."""
    if generator is None:
        return default
    if generator._cdata not in _OURS:
        raise RuntimeError(
            f"Expected a '{NAME}' device type for generator but found '{generator.device.type}'"
        )
    return generator
