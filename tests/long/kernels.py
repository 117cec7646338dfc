"""A kernel that a test drives itself: cells, interrupts, and every way in which a kernel ends."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from jupyter_client.manager import KernelManager

from tools.kernel import options

SECONDS = 120


class Kernel:
    """A running kernel of this Python, and what its cells show."""

    def __init__(self, manager: KernelManager):
        self.manager = manager
        self.client = manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=SECONDS)

    def run(self, source: str) -> str:
        """Run a cell; return all that it shows. Raises ``AssertionError`` if the cell does."""
        messages: list[dict] = []
        reply = self.client.execute_interactive(
            source, allow_stdin=False, timeout=SECONDS, output_hook=messages.append
        )
        assert reply["content"]["status"] == "ok", "\n".join(reply["content"]["traceback"])
        return "\n".join(text for message in messages for text in _texts(message["content"]))

    def value(self, expression: str) -> str:
        """The printed value of an expression."""
        return self.run(f"print({expression})").strip()

    def interrupt_while(self, source: str) -> str:
        """Interrupt a cell while it runs, as the stop button does; return its exception's name."""
        started = Path(self.manager.connection_file + "-started")
        started.unlink(missing_ok=True)
        cell = f"open({str(started)!r}, 'w').close()\n{source}"
        request = self.client.execute(cell, stop_on_error=False)
        while not started.exists():
            time.sleep(0.05)
        self.manager.interrupt_kernel()
        while (reply := self.client.get_shell_msg(timeout=SECONDS))["parent_header"]["msg_id"] != (
            request
        ):
            pass
        return reply["content"].get("ename", "")

    @property
    def pid(self) -> int:
        return int(self.value("__import__('os').getpid()"))


def _texts(content: dict) -> Iterator[str]:
    yield from content.get("data", {}).values()
    if "text" in content:
        yield content["text"]


@contextmanager
def kernel(folder: Path, **environment: str) -> Iterator[Kernel]:
    """A kernel with ``folder`` as its working directory and for all that it writes elsewhere."""
    for name in ("tmp", "ipython"):
        (folder / name).mkdir(exist_ok=True)
    manager = KernelManager(**options(folder))
    variables = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHONWARNINGS"))},
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder / "tmp")),
        "IPYTHONDIR": str(folder / "ipython"),
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    manager.start_kernel(cwd=str(folder), env=variables)
    try:
        running = Kernel(manager)
        yield running
        running.client.stop_channels()
    finally:
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def ports(shown: str) -> list[int]:
    """The ports of the boards in what a cell shows."""
    return [int(port) for port in re.findall(r"const port = (\d+);", shown)]


def ended(pid: int, seconds: float = 10) -> bool:
    """Whether a process ends within so many seconds; one that nobody waited for has ended."""
    deadline = time.monotonic() + seconds
    while not (gone := _is_gone(pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return gone


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
