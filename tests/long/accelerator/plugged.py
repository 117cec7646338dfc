"""The pretended accelerator for whole processes: torch loads it there as it loads any backend."""

from __future__ import annotations

import os
from pathlib import Path

from tools.run import clean_environment

PLUG = Path(__file__).parent / "plug"


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process that has it, as have all processes that it starts.

    ``variables`` are added.
    """
    made = clean_environment(TORCH_DEVICE_BACKEND_AUTOLOAD="1", **variables)
    return {**made, "PYTHONPATH": os.pathsep.join([str(PLUG), made["PYTHONPATH"]])}
