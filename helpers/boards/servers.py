"""The servers that show the dashboards: started so that they work, listed, and stopped."""

from __future__ import annotations

import atexit
import functools
import http.client
import importlib.util
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tensorboard import manager

from helpers.runtime import PROJECT
from helpers.tensorboard_server import KERNEL, PIDS, SCRIPT

SECONDS_TO_ANSWER = 3.0
SECONDS_TO_END = 5.0


class Server(NamedTuple):
    """A TensorBoard on this machine.

    ``alive`` says whether it answers. A server that was killed is not alive, and TensorBoard
    remembers it until ``prepare`` is called. A server is ``ours`` if this kernel started it after
    ``prepare``.
    """

    port: int
    pid: int
    logdir: str
    alive: bool
    ours: bool


def prepare() -> None:
    """Make ``%tensorboard`` work for the rest of this kernel's life; call it before the magic.

    The server is then found without a ``PATH``, survives an interrupt of the kernel, ends with the
    kernel, and does not take over ``PYTHONWARNINGS``. Servers that were killed are forgotten, so
    that none of them is "reused". Under JupyterHub with jupyter-server-proxy, the frame gets the
    proxy's address. A server that another notebook started may be reused: it ends with that
    notebook. Raises ``RuntimeError`` where the course is not installed.
    """
    os.environ["TENSORBOARD_BINARY"] = _program()
    os.environ[KERNEL] = str(os.getpid())
    os.environ[PIDS] = str(_pids())
    for server in running():
        if not server.alive:
            _forget(server)
    hub_prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
    if hub_prefix and importlib.util.find_spec("jupyter_server_proxy"):
        address = f"{hub_prefix.rstrip('/')}/proxy/%PORT%/"
        os.environ.setdefault("TENSORBOARD_PROXY_URL", address)


def running() -> list[Server]:
    """The servers that TensorBoard knows of on this machine, by port."""
    infos = sorted(manager.get_all(), key=lambda info: (info.port, info.start_time))
    # Where several claim a port, all but the latest were killed.
    latest = {info.port: info for info in infos}
    return [
        Server(
            port=info.port,
            pid=info.pid,
            logdir=info.logdir,
            alive=info is latest[info.port] and _answers(info.port, info.path_prefix),
            ours=(_pids() / str(info.pid)).exists(),
        )
        for info in infos
    ]


def stop(port: int | None = None) -> list[Server]:
    """End the servers that this kernel started, or the one on ``port``; return those that ended.

    Servers of other kernels and programs are left alone. Raises ``ValueError`` if this kernel has
    none on ``port``.
    """
    mine = [server for server in running() if server.ours and server.alive]
    chosen = [server for server in mine if port in (None, server.port)]
    if port is not None and not chosen:
        known = ", ".join(str(server.port) for server in mine) or "none"
        raise ValueError(
            f"no TensorBoard of this notebook on port {port}: its ports are {known}; "
            "boards.running() lists those of other programs too"
        )
    for server in chosen:
        _end(server)
    return [server._replace(alive=False) for server in chosen]


def _program() -> str:
    """The path of the program in ``helpers.tensorboard_server``, wherever pip put it."""
    folders = [
        sysconfig.get_path("scripts"),
        os.path.dirname(sys.executable),
        sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")),
        *os.get_exec_path(),
    ]
    if program := shutil.which(SCRIPT, path=os.pathsep.join(folders)):
        return program
    raise RuntimeError(
        f"the program {SCRIPT} is not installed: run `python -m pip install -e .` in the course's "
        "folder, with this kernel's Python, and restart the kernel"
    )


@functools.cache
def _pids() -> Path:
    """The directory in which each server of this kernel leaves a file named by its process id."""
    folder = tempfile.mkdtemp(prefix=f"{PROJECT}-boards-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _answers(port: int, path_prefix: str = "") -> bool:
    """Whether a TensorBoard answers there, or is too busy to answer."""
    connection = http.client.HTTPConnection("localhost", port, timeout=SECONDS_TO_ANSWER)
    try:
        connection.request("GET", f"{path_prefix.rstrip('/')}/data/environment")
        return connection.getresponse().status == http.HTTPStatus.OK
    except TimeoutError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(server: Server) -> None:
    os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_END
    while _answers(server.port) and time.monotonic() < deadline:
        time.sleep(0.05)
    if _answers(server.port):
        os.kill(server.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    _forget(server)


def _forget(server: Server) -> None:
    """Delete the file by which TensorBoard remembers a server; only the server itself could ask."""
    folder = Path(tempfile.gettempdir(), ".tensorboard-info")
    with suppress(OSError):  # it is gone, or another user's
        (folder / f"pid-{server.pid}.info").unlink()
