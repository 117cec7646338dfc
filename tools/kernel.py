"""What a kernel needs that this course starts itself: for its site, its drift report, its tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

LONGEST_SOCKET = 100  # bytes of a socket's path; macOS takes 103, Linux 107


def options(folder: Path) -> dict[str, Any]:
    """The arguments of a ``KernelManager`` for a kernel of this Python, its files in ``folder``.

    The kernel is spoken to through sockets in ``folder``, where the system has such and their names
    are short enough. Else it takes ports, and whoever takes one of them first stops its start.
    """
    longest = os.fsencode(folder.resolve() / "kernel-ipc-99")
    sockets = os.name == "posix" and len(longest) <= LONGEST_SOCKET
    return {
        # Without kernel folders, "python3" is the running interpreter whatever a user installed.
        "kernel_spec_manager": KernelSpecManager(kernel_dirs=[]),
        "connection_file": str(folder / "kernel.json"),
        "transport": "ipc" if sockets else "tcp",
    }
