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
from helpers.tensorboard_server import KERNEL, ROOM, SCRIPT

SECONDS_TO_ANSWER = 3.0
SECONDS_TO_END = 5.0


class Server(NamedTuple):
    """A TensorBoard on this machine.

    ``alive`` says whether it answers; one that was killed is remembered by TensorBoard until
    ``prepare`` is called. It is ``ours`` if this kernel started it after ``prepare``.
    """

    port: int
    pid: int
    logdir: str
    alive: bool
    ours: bool


def prepare() -> None:
    """Make ``%tensorboard`` work for the rest of this kernel's life; call it before the magic.

    The server is then found whatever the ``PATH`` is, survives an interrupt of the kernel, ends
    with the kernel, and does not take over ``PYTHONWARNINGS``. Servers that were killed are
    forgotten, so that none of them is "reused". Under JupyterHub with jupyter-server-proxy, the
    frame gets the proxy's address. Raises ``RuntimeError`` where the course is not installed.
    """
    os.environ["TENSORBOARD_BINARY"] = _program()
    os.environ[KERNEL] = str(os.getpid())
    os.environ[ROOM] = str(_room())
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
    # Of several that claim a port, the earlier ones were killed.
    latest = {info.port: info for info in infos}
    return [
        Server(
            port=info.port,
            pid=info.pid,
            logdir=info.logdir,
            alive=info is latest[info.port] and _answers(info.port, info.path_prefix),
            ours=(_room() / str(info.pid)).exists(),
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
    user_scheme = sysconfig.get_preferred_scheme("user")
    folders = [
        sysconfig.get_path("scripts"),
        os.path.dirname(sys.executable),
        sysconfig.get_path("scripts", user_scheme),
        *os.get_exec_path(),
    ]
    if program := shutil.which(SCRIPT, path=os.pathsep.join(folders)):
        return program
    raise RuntimeError(
        f"the program {SCRIPT} is not installed: run `python -m pip install -e .` in the course's "
        "folder, with this kernel's Python, and restart the kernel"
    )


@functools.cache
def _room() -> Path:
    """The directory in which the servers of this kernel leave their process ids."""
    room = tempfile.mkdtemp(prefix=f"{PROJECT}-boards-")
    atexit.register(shutil.rmtree, room, ignore_errors=True)
    return Path(room)


def _answers(port: int, path_prefix: str) -> bool:
    """Whether a TensorBoard answers there; one that is too busy to answer counts as one."""
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
    while not _is_gone(server):
        if time.monotonic() > deadline:
            os.kill(server.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            deadline = float("inf")
        time.sleep(0.05)
    _forget(server)


def _is_gone(server: Server) -> bool:
    if not hasattr(os, "WNOHANG"):  # Windows, where ending takes effect at once
        return not _answers(server.port, "")
    try:
        return os.waitpid(server.pid, os.WNOHANG)[0] == server.pid
    except ChildProcessError:  # somebody else waited for it
        return True


def _forget(server: Server) -> None:
    """Take away the file by which TensorBoard remembers a server."""
    folder = Path(tempfile.gettempdir(), ".tensorboard-info")
    with suppress(OSError):  # gone, or another user's
        (folder / f"pid-{server.pid}.info").unlink()
