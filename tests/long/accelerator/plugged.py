"""The pretended accelerator for whole processes: torch loads it there as it loads any backend."""

from __future__ import annotations

import os
from pathlib import Path

PLUG = Path(__file__).parent / "plug"


def environment() -> dict[str, str]:
    """Variables with which a process, and each one it starts, has the pretended accelerator."""
    inherited = os.environ.get("PYTHONPATH")
    return {
        "PYTHONPATH": os.pathsep.join([str(PLUG), *([inherited] if inherited else [])]),
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "1",
    }
