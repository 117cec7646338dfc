"""Kernels with a board: each way in which they end, and an interrupt."""

from __future__ import annotations

import ast
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tools.run import clean_environment, kernel_options

SECONDS = 120  # for each answer of a kernel
SECONDS_TO_END = 30

BOARD = """\
from helpers import boards

boards.prepare()
%load_ext tensorboard
%tensorboard --logdir runs --port 0
"""


class Kernel:
    """A running kernel, with the folder for its temporary files."""

    def __init__(self, manager: KernelManager, temporary: Path):
        self.manager = manager
        self.temporary = temporary
        self.client: BlockingKernelClient = manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=SECONDS)

    def run(self, source: str) -> str:
        """Run a cell; return what it prints. Raises ``AssertionError`` if the cell fails."""
        messages = []
        reply = self.client.execute_interactive(
            source, allow_stdin=False, timeout=SECONDS, output_hook=messages.append
        )["content"]
        assert reply["status"] == "ok", "\n".join(reply["traceback"])
        return "".join(message["content"].get("text", "") for message in messages)

    def interrupted(self, source: str) -> str:
        """Interrupt a cell while it runs; return the name of the exception that ends it."""
        begin = "print('begun', flush=True)\n"
        request = self.client.execute(begin + source, stop_on_error=False)
        printed = ""
        while not printed.startswith("begun"):
            printed = self.client.get_iopub_msg(timeout=SECONDS)["content"].get("text", "")
        self.manager.interrupt_kernel()
        while True:
            reply = self.client.get_shell_msg(timeout=SECONDS)
            if reply["parent_header"]["msg_id"] == request:
                return reply["content"].get("ename", "")

    def start_board(self) -> tuple[psutil.Process, int]:
        """Show a board; return the process of its server, and its port."""
        self.run(BOARD)
        listed = self.run("print([(server.pid, server.port) for server in boards.running()])")
        ((pid, port),) = ast.literal_eval(listed)
        return psutil.Process(pid), port


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with tempfile.TemporaryDirectory(prefix="k-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        temporary = folder / "tmp"
        temporary.mkdir()
        manager = KernelManager(**kernel_options(folder))
        places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
        environment = clean_environment(**places, IPYTHONDIR=str(folder / "ipython"))
        manager.start_kernel(cwd=name, env=environment)
        try:
            running = Kernel(manager, temporary)
            yield running
            running.client.stop_channels()
        finally:
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()


def shut_down(manager: KernelManager) -> None:
    manager.shutdown_kernel()


def restart(manager: KernelManager) -> None:
    manager.restart_kernel(now=False)


def kill(manager: KernelManager) -> None:
    psutil.Process(manager.provisioner.pid).kill()


@pytest.mark.parametrize("end", [shut_down, restart, kill])
def test_a_board_ends_with_its_kernel_and_leaves_nothing_behind(kernel, end):
    server, _ = kernel.start_board()
    processes = [server, *server.children(recursive=True)]
    end(kernel.manager)
    _, alive = psutil.wait_procs(processes, timeout=SECONDS_TO_END)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
    assert not list(kernel.temporary.glob(".tensorboard-info/*"))
    assert not list(kernel.temporary.glob("*boards-*"))


def test_an_interrupt_stops_the_cell_and_not_the_board(kernel):
    _, port = kernel.start_board()
    assert kernel.interrupted("import time\n\ntime.sleep(600)") == "KeyboardInterrupt"
    address = f"http://localhost:{port}/data/environment"
    with urllib.request.urlopen(address, timeout=SECONDS) as answer:
        assert answer.status == 200
