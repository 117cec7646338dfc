"""Where a chapter runs: seeds, device, threads, and a place for the files it writes."""

import functools
import html
import importlib.metadata
import os
import platform
import random
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

PROJECT = "pytorch-by-experiment"


def seed(n: int) -> None:
    """Seed Python's ``random``, NumPy's global generator and torch's on every device.

    ``n`` is an integer in [0, 2**32), the range that all three accept. Raises ``TypeError`` for
    anything that is not an ``int`` (``True`` included) and ``ValueError`` outside the range.
    """
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"seed must be an int, got {n!r} of type {type(n).__name__}: use int()")
    if not 0 <= n < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), got {n}: NumPy accepts no other")
    random.seed(n)
    np.random.seed(n)
    if torch.accelerator.is_available():
        torch.manual_seed(n)
    else:
        # For each kind of device that is not there, manual_seed formats and keeps a traceback.
        torch.default_generator.manual_seed(n)


def device() -> torch.device:
    """The device on which chapters compute.

    That is ``TUTORIAL_DEVICE`` if it is set, else the accelerator if one is really available, else
    the CPU. Raises ``ValueError`` if ``TUTORIAL_DEVICE`` names what this machine does not have.
    """
    available = _available_devices()
    requested = os.environ.get("TUTORIAL_DEVICE")
    if not requested:
        return torch.device(available[-1])
    if requested not in available:
        known = ", ".join(map(repr, available))
        raise ValueError(
            f"unknown or unavailable device {requested!r}: TUTORIAL_DEVICE must be one of {known}; "
            "unset it to let torch choose"
        )
    return torch.device(requested)


def threads(n: int) -> None:
    """Let torch compute each operation with ``n`` threads.

    The models of the course are small. Dividing their operations among threads costs more than it
    gains, up to ten times on a machine whose cores are busy, so chapters call ``threads(1)``.
    Raises ``ValueError`` for ``n < 1``.
    """
    if n < 1:
        raise ValueError(f"the number of threads must be at least 1, got {n}")
    torch.set_num_threads(n)


def strict() -> bool:
    """Whether ``TUTORIAL_STRICT`` is set to something other than nothing or ``0``."""
    return os.environ.get("TUTORIAL_STRICT", "") not in ("", "0")


def scratch(name: str) -> Path:
    """The directory ``name`` for files that a chapter writes; it exists when this returns.

    It lies in ``$TUTORIAL_SCRATCH`` if that is set, else in ``scratch/`` of the checkout, else (an
    installed package, as in Colab) in ``scratch/`` of the working directory. Where that can't be
    written, it lies in a temporary directory of this process, and a printed line says so. Raises
    ``ValueError`` unless ``name`` is a plain relative name such as ``"00"`` or ``"05/runs"``.
    """
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", name):
        raise ValueError(
            f"scratch directory {name!r}: give a plain relative name such as '00' or '05/runs', "
            "of letters, digits, '-', '_' and '.', not starting with '.'"
        )
    path = scratch_root() / name
    try:
        _make_writable(path)
    except OSError as error:
        path = _temporary_root() / name
        path.mkdir(parents=True, exist_ok=True)
        print(f"Can't write there ({error}). Files go to {path} instead.")
    return path


def scratch_root() -> Path:
    """The directory in which ``scratch`` makes its directories; it need not exist yet."""
    if configured := os.environ.get("TUTORIAL_SCRATCH"):
        return Path(configured).expanduser().absolute()
    checkout = Path(__file__).resolve().parent.parent
    project_file = checkout / "pyproject.toml"
    in_checkout = project_file.is_file() and f'name = "{PROJECT}"' in project_file.read_text("utf8")
    return (checkout if in_checkout else Path.cwd()) / "scratch"


@dataclass(frozen=True)
class Report:
    """What a chapter runs on: values by their labels, shown as a table, also when printed."""

    rows: dict[str, str]

    def __str__(self) -> str:
        width = max(map(len, self.rows))
        return "\n".join(f"{label:<{width}}  {value}" for label, value in self.rows.items())

    def _repr_html_(self) -> str:
        # A path without hyphens must wrap too, or a narrow page cuts it off.
        value_style = "text-align:left; overflow-wrap:anywhere"
        cells = "".join(
            f'<tr><th style="text-align:left">{html.escape(label)}</th>'
            f'<td style="{value_style}">{html.escape(value)}</td></tr>'
            for label, value in self.rows.items()
        )
        return f"<table>{cells}</table>"


def report() -> Report:
    """Describe the environment. Raises what ``device`` raises."""
    return Report(
        {
            "Python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": importlib.metadata.version("torchvision"),
            "device": str(device()),
            "usable cores": str(_usable_cores()),
            "torch threads": str(torch.get_num_threads()),
            "in Colab": "yes" if "google.colab" in sys.modules else "no",
            "scratch directory": str(scratch_root()),
        }
    )


def _available_devices() -> list[str]:
    """Names that select a device here, the preferred one last."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    numbered = [f"{accelerator.type}:{i}" for i in range(torch.accelerator.device_count())]
    return ["cpu", *numbered, accelerator.type]


def _usable_cores() -> int:
    # A container or a scheduler may allow fewer cores than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _make_writable(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{path} is read-only")


@functools.cache
def _temporary_root() -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{PROJECT}-"))
