"""JupyterLab as ``python -m helpers`` starts it, on a course of the test's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from helpers import checkout

SECONDS_TO_START = 120
SECONDS_TO_END = 30


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: what it printed until it was up, its address last."""

    printed: tuple[str, ...]

    @property
    def address(self) -> str:
        return self.printed[-1]

    @property
    def url(self) -> str:
        """Where the server answers, without a slash at the end."""
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def token(self) -> str:
        (token,) = parse_qs(urlsplit(self.address).query)["token"]
        return token

    def get(self, path: str, token: str | None = None) -> bytes:
        """What the server answers for a path. Raises ``HTTPError`` without the right token."""
        headers = {"Authorization": f"token {self.token if token is None else token}"}
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()


def copied_course(folder: Path) -> Path:
    """A checkout without notebooks, for a test to put its own into."""
    ignore = shutil.ignore_patterns("__pycache__")
    for package in ("helpers", "chapters"):
        shutil.copytree(checkout.root() / package, folder / package, ignore=ignore)
    shutil.copy(checkout.root() / "pyproject.toml", folder)
    (folder / "notebooks").mkdir()
    return folder


@contextmanager
def running_lab(course: Path, home: Path, *options: str, **environment: str) -> Iterator[Lab]:
    """JupyterLab on a course, with ``home`` for all settings; ``options`` are JupyterLab's own.

    Without ``--port`` it gets a free one: two that look for one at the same time find the same.
    """
    homes = {
        "HOME": home,
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
    }
    variables = {
        **{name: value for name, value in os.environ.items() if name != "JUPYTER_TOKEN"},
        **{name: str(path) for name, path in homes.items()},
        "JUPYTER_PREFER_ENV_PATH": "0",
        "PYTHONUTF8": "1",
        **environment,
    }
    home.mkdir(exist_ok=True)
    printed, log = home / "printed.txt", home / "log.txt"
    with printed.open("w") as out, log.open("w") as err:
        port = () if "--port" in options else ("--port", str(_free_port()))
        command = [sys.executable, "-m", "helpers", "--no-browser", *port, *options]
        server = subprocess.Popen(command, cwd=course, env=variables, stdout=out, stderr=err)
    try:
        yield Lab(_until_the_address(server, printed, log))
    finally:
        server.terminate()
        try:
            server.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _until_the_address(server: subprocess.Popen, printed: Path, log: Path) -> tuple[str, ...]:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and server.poll() is None:
        text = printed.read_text("utf-8")
        if text.endswith("\n") and (lines := text.splitlines())[-1].startswith("http"):
            return tuple(lines)
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text('utf-8')}")
