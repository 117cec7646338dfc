"""Runs programs in new processes. On Linux they do not import torch anew, which takes seconds.

There, a process that has imported what most of them need, and has done nothing with it, is forked
for each. On other systems and with an accelerator, libraries may not survive a fork: each program
starts from nothing.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from tools.run import clean_environment

#: the file that is run in a folder, and the one that then holds what it printed
PROGRAM, PRINTED = "program.py", "printed.txt"
SECONDS = 120

_FORKS = f"""
import os
import runpy
import signal
import sys

import sklearn.datasets
import sklearn.model_selection
import torch
import torch._dynamo  # the first optimizer of a process imports it

for line in sys.stdin:
    folder = line.rstrip("\\n")
    child = os.fork()
    if child == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()

signal.alarm({SECONDS})  # ends the child
for name in [name for name in sys.modules if name.partition(".")[0] == "sklearn"]:
    del sys.modules[name]  # so that a program that lacks an import fails here, too
os.chdir(folder)
os.environ["TUTORIAL_SCRATCH"] = folder
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for stream in (1, 2):
    os.dup2(os.open("{PRINTED}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
sys.path[0] = folder
runpy.run_path("{PROGRAM}", run_name="__main__")
"""


class Ended(NamedTuple):
    """The exit code of a program, and what it printed, errors too."""

    code: int
    printed: str


Run = Callable[[str, Path], Ended]


@contextlib.contextmanager
def new_processes() -> Iterator[Run]:
    """Gives ``run(source, folder)``. In the programs, every warning is an error."""
    command = [sys.executable, "-W", "error"]
    environment = clean_environment(MPLBACKEND="agg")
    forks = None
    if sys.platform == "linux" and not torch.accelerator.is_available():
        forks = subprocess.Popen(
            [*command, "-c", _FORKS],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(source: str, folder: Path) -> Ended:
        (folder / PROGRAM).write_text(source, "utf-8")
        printed = folder / PRINTED
        printed.unlink(missing_ok=True)
        if forks:
            forks.stdin.write(f"{folder}\n")
            forks.stdin.flush()
            code = int(forks.stdout.readline())
        else:
            with printed.open("w") as file:
                code = subprocess.run(
                    [*command, PROGRAM],
                    cwd=folder,
                    env={**environment, "TUTORIAL_SCRATCH": str(folder)},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    timeout=SECONDS,
                ).returncode
        return Ended(code, printed.read_text("utf-8", "replace"))

    try:
        yield run
    finally:
        if forks:
            forks.communicate()  # closes its input, which ends it


def has_ended(pid: int) -> bool:
    """Whether a process has ended, though perhaps nobody has waited for it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
