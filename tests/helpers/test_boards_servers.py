"""After `boards.prepare()`, `%tensorboard` works, and no server outlives its kernel."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager

import psutil
import pytest
from tensorboard import manager, version
from torch.utils.tensorboard import SummaryWriter

from helpers import boards, tensorboard_server
from helpers.boards import servers
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


# Which servers there are, in this process


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """This process as a kernel that has not prepared anything, on a machine without servers."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = ("TENSORBOARD_BINARY", "TENSORBOARD_PROXY_URL", servers.KERNEL, servers.PIDS)
    for name in (*names, "JUPYTERHUB_SERVICE_PREFIX"):
        monkeypatch.setenv(name, "")  # so that what prepare sets is undone
        monkeypatch.delenv(name)
    servers._pids.cache_clear()
    yield
    shutil.rmtree(servers._pids())
    servers._pids.cache_clear()


@contextmanager
def serving(status=200):
    """A server in this process that answers every request with a status; gives its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def remembered(monkeypatch, port, pid=1, start_time=0, logdir="runs"):
    """Have TensorBoard remember a server."""
    facts = {"version": version.VERSION, "path_prefix": "", "db": "", "cache_key": "key"}
    facts |= {"start_time": start_time, "port": port, "pid": pid, "logdir": logdir}
    with monkeypatch.context() as patch:
        file = os.path.join(manager._get_info_dir(), f"pid-{pid}.info")
        patch.setattr(manager, "_get_info_file_path", lambda: file)
        manager.write_info_file(manager.TensorBoardInfo(**facts))


def test_a_server_lives_if_it_answers_as_tensorboard_does(monkeypatch):
    with serving(200) as board, serving(404) as other, socket.socket() as silent:
        silent.bind(("localhost", 0))  # and does not listen
        gone = silent.getsockname()[1]
        for pid, port in enumerate((board, other, gone), start=1):
            remembered(monkeypatch, port, pid)
        alive = {server.port: server.alive for server in boards.running()}
    assert alive == {board: True, other: False, gone: False}


def test_of_two_servers_that_claim_a_port_only_the_later_one_can_live(monkeypatch):
    with serving() as port:
        remembered(monkeypatch, port, pid=1, start_time=2, logdir="new")
        remembered(monkeypatch, port, pid=2, start_time=1, logdir="old")
        found = [(server.logdir, server.alive) for server in boards.running()]
        assert found == [("old", False), ("new", True)]
        boards.prepare()
        assert [server.logdir for server in boards.running()] == ["new"]


def test_a_server_that_is_too_busy_to_answer_is_not_forgotten(monkeypatch):
    monkeypatch.setattr(servers, "SECONDS_TO_ANSWER", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        remembered(monkeypatch, listener.getsockname()[1])
        boards.prepare()
        assert [server.alive for server in boards.running()] == [True]


def test_what_this_kernel_did_not_start_is_left_alone(monkeypatch):
    with serving() as port:
        remembered(monkeypatch, port, os.getpid())
        boards.prepare()
        assert boards.stop() == []
        with pytest.raises(ValueError, match=f"on port {port}: its ports are none"):
            boards.stop(port)
        assert [server.alive for server in boards.running()] == [True]


STUBBORN = """
import http.server, signal

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = http.server.HTTPServer(("localhost", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.mark.skipif(os.name == "nt", reason="on Windows a process can't refuse to end")
def test_a_server_that_does_not_end_when_asked_is_killed(monkeypatch):
    monkeypatch.setattr(servers, "SECONDS_TO_END", 0.2)
    command = [sys.executable, "-c", STUBBORN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(process.stdout.readline())
            remembered(monkeypatch, port, process.pid)
            (servers._pids() / str(process.pid)).touch()
            (stopped,) = boards.stop(port)
            assert (stopped.pid, stopped.alive) == (process.pid, False)
            assert process.wait(30) == -signal.SIGKILL
        finally:
            process.kill()
    assert boards.running() == []


@pytest.mark.parametrize("missing", [None, "a hub", "the proxy", "a wish for it"])
def test_under_jupyterhub_the_frame_gets_the_address_of_the_proxy(monkeypatch, missing):
    spec = None if missing == "the proxy" else "a spec"
    monkeypatch.setattr(servers.importlib.util, "find_spec", lambda name: spec)
    if missing != "a hub":
        monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/me/")
    if missing == "a wish for it":
        monkeypatch.setenv("TENSORBOARD_PROXY_URL", "/mine/")
    boards.prepare()
    expected = {None: "/user/me/proxy/%PORT%/", "a wish for it": "/mine/"}.get(missing)
    assert os.environ.get("TENSORBOARD_PROXY_URL") == expected


def test_where_the_program_is_missing_prepare_says_what_to_do(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(RuntimeError, match="course-tensorboard is not installed: run `python -m"):
        boards.prepare()


def test_a_server_starts_where_the_folder_of_pids_was_cleaned_away(tmp_path, monkeypatch):
    pids = tmp_path / "gone" / "pids"
    monkeypatch.setenv(tensorboard_server.PIDS, str(pids))
    monkeypatch.setattr(os, "getpgrp", os.getpid)  # leads its group, and may not call setsid
    monkeypatch.setattr(tensorboard_server, "_leave_after_kernel", lambda pids: None)
    tensorboard_server._tie_to_kernel()
    assert (pids / str(os.getpid())).exists()
