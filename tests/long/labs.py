"""JupyterLab as ``python -m helpers`` starts it, on a course of the test's own."""

from __future__ import annotations

import os
import secrets
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
from typing import NamedTuple

from helpers import checkout

SECONDS_TO_START = 120
SECONDS_TO_END = 30


class Page(NamedTuple):
    url: str
    content: bytes


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab. ``url`` ends without a slash; ``token`` opens it."""

    url: str
    token: str

    def get(self, path: str) -> Page:
        """What the server answers for a path."""
        request = urllib.request.Request(
            self.url + path, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Page(answer.url, answer.read())


def copied_course(folder: Path) -> Path:
    """A checkout without notebooks: all that ``python -m helpers lab`` asks for."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(checkout.root() / "helpers", folder / "helpers", ignore=ignore)
    shutil.copy(checkout.root() / "pyproject.toml", folder)
    (folder / "notebooks").mkdir()
    return folder


@contextmanager
def running_lab(course: Path, home: Path, *options: str, **environment: str) -> Iterator[Lab]:
    """JupyterLab on a course, with ``home`` for all settings; ``options`` are JupyterLab's own."""
    lab = Lab(f"http://127.0.0.1:{free_port()}", secrets.token_hex())
    port = lab.url.rpartition(":")[2]
    own = ["--no-browser", f"--port={port}", "--ip=127.0.0.1", "--allow-root"]
    command = [sys.executable, "-m", "helpers", "lab", "--", *own, *options]
    homes = {
        "HOME": home,
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
    }
    variables = {
        **os.environ,
        **{name: str(path) for name, path in homes.items()},
        "JUPYTER_TOKEN": lab.token,
        "JUPYTER_PREFER_ENV_PATH": "0",
        **environment,
    }
    home.mkdir(exist_ok=True)
    log = home / "log.txt"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, cwd=course, env=variables, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_it_answers(lab, server, log)
        yield lab
    finally:
        server.terminate()
        try:
            server.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_it_answers(lab: Lab, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and server.poll() is None:
        try:
            lab.get("/api/status")
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()}")
