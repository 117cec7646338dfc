"""The program behind ``%tensorboard``: TensorBoard, tied to the kernel that starts it.

By itself, TensorBoard shares the kernel's process group, so that interrupting a cell ends it; it
outlives a kernel that is killed; and it takes over ``PYTHONWARNINGS``, so that a warning meant to
stop a test stops the server. ``boards.prepare`` has ``%tensorboard`` start this program instead.
"""

from __future__ import annotations

import _thread
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

SCRIPT = "course-tensorboard"  # the name under which pyproject.toml installs ``main``
# Set by the kernel: its process id, and a directory in which its servers leave theirs.
KERNEL = "COURSE_TENSORBOARD_KERNEL"
PIDS = "COURSE_TENSORBOARD_PIDS"

SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_TO_LEAVE = 3.0


def main() -> None:
    """Run TensorBoard with the arguments of the command line; end with the kernel, if there is one.

    Without a kernel, this is ``tensorboard``.
    """
    if KERNEL in os.environ:
        _tie_to_kernel()
    os.environ.pop("PYTHONWARNINGS", None)
    warnings.simplefilter("ignore")
    from tensorboard.main import run_main  # only now: its imports may warn

    run_main()


def _tie_to_kernel() -> None:
    if hasattr(os, "setsid") and os.getpgrp() != os.getpid():
        os.setsid()  # out of reach of the interrupts that go to the kernel's process group
    pids = Path(os.environ[PIDS])
    pids.mkdir(mode=0o700, parents=True, exist_ok=True)  # may have been cleaned away
    (pids / str(os.getpid())).touch()
    threading.Thread(target=_leave_after_kernel, args=[pids], daemon=True).start()


def _leave_after_kernel(pids: Path) -> None:
    _wait_for_end_of_kernel()
    shutil.rmtree(pids, ignore_errors=True)
    _thread.interrupt_main(signal.SIGTERM)  # TensorBoard's handler takes its traces away and exits
    time.sleep(SECONDS_TO_LEAVE)
    os._exit(1)


def _wait_for_end_of_kernel() -> None:
    if sys.platform == "win32":
        _wait_on_windows(int(os.environ[KERNEL]))
        return
    kernel = os.getppid()
    while os.getppid() == kernel:  # a process whose parent ends gets another one
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _wait_on_windows(pid: int) -> None:
    """Wait for a process that need not be the parent: starters of scripts stand in between."""
    import ctypes

    synchronize, forever = 0x00100000, 0xFFFFFFFF
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.OpenProcess.restype = ctypes.c_void_p
    if handle := kernel32.OpenProcess(synchronize, False, pid):
        kernel32.WaitForSingleObject(ctypes.c_void_p(handle), forever)
