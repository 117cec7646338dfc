"""The life of boards that a kernel starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest
from tensorboard import manager
from torch.utils.tensorboard import SummaryWriter

from helpers import boards
from tests.processes import has_ended

# A process in the place of a kernel. `manager.start` is what `%tensorboard` calls. The handler of
# interrupts is not inherited by the server, as the one of a kernel is not.
KERNEL = """
import signal, sys
from tensorboard import manager
from helpers import boards

signal.signal(signal.SIGINT, lambda *_: None)
boards.prepare()
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""


class Kernel:
    def __init__(self, folder):
        (folder / "tmp").mkdir()
        with SummaryWriter(folder / "runs") as writer:
            writer.add_scalar("loss", 1.0, 0)
        environment = {
            **os.environ,
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder / "tmp")),
            "PATH": str(folder / "nothing is there"),
            "PYTHONWARNINGS": "error::DeprecationWarning",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", KERNEL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )

    def value(self, expression):
        print(expression, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        return eval(answer, {**vars(manager), "Server": boards.servers.Server})

    def start(self, logdir):
        """What `%tensorboard --logdir <logdir> --port 0` gets."""
        return self.value(f"manager.start(['--logdir', {logdir!r}, '--port', '0'])")


@pytest.fixture
def kernel(tmp_path):
    """A kernel in an environment in which `tensorboard` by itself fails. Its boards end with it."""
    kernel = Kernel(tmp_path)
    yield kernel
    boards_left = [server.pid for server in kernel.value("boards.running()")]
    kernel.process.kill()
    kernel.process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while not all(map(has_ended, boards_left)):
        assert time.monotonic() < deadline, boards_left
        time.sleep(0.05)
    if boards_left and os.name == "posix":
        traces = [
            path
            for name in (".tensorboard-info/*", "*boards-*")
            for path in (tmp_path / "tmp").glob(name)
        ]
        assert traces == []


def answers(port):
    address = f"http://localhost:{port}/data/environment"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_the_life_of_boards_in_a_kernel_without_a_path(kernel):
    board, other = kernel.start("runs"), kernel.start("others")
    assert isinstance(board, manager.StartLaunched) and isinstance(other, manager.StartLaunched)
    assert answers(board.info.port)
    if hasattr(os, "killpg"):
        os.killpg(kernel.process.pid, signal.SIGINT)
    assert kernel.start("runs") == manager.StartReused(board.info)
    assert [server.ours for server in kernel.value("boards.running()")] == [True, True]
    (stopped,) = kernel.value(f"boards.stop({other.info.port})")
    assert (stopped.pid, stopped.alive) == (other.info.pid, False)
    (left,) = kernel.value("boards.running()")
    assert (left.pid, left.alive) == (board.info.pid, True)
    assert answers(board.info.port) and not answers(other.info.port)
    # One that was killed is reused until prepare forgets it.
    psutil.Process(board.info.pid).kill()
    assert [server.alive for server in kernel.value("boards.running()")] == [False]
    assert kernel.start("runs") == manager.StartReused(board.info)
    kernel.value("boards.prepare()")
    assert kernel.value("boards.running()") == []
    # What is there at the end of a kernel ends with it.
    assert isinstance(kernel.start("runs"), manager.StartLaunched)
