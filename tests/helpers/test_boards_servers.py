"""After `boards.prepare()`, `%tensorboard` works, and no server outlives its kernel."""

import http.server
import importlib.metadata
import os
import shutil
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

from helpers import boards
from helpers.boards import servers
from tests.long.kernels import ended, kernel, ports

PREPARE = "from helpers import boards\n\nboards.prepare()\n%load_ext tensorboard"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A kernel in which `prepare` was called, in an environment that `tensorboard` fails in."""
    folder = tmp_path_factory.mktemp("notebook")
    with SummaryWriter(str(folder / "runs")) as writer:
        writer.add_scalar("loss", 1.0, 0)
    nothing_is_there = str(folder / "tmp")
    with kernel(
        folder, PATH=nothing_is_there, PYTHONWARNINGS="error::DeprecationWarning"
    ) as running:
        running.run(PREPARE)
        yield running


@pytest.fixture
def board(notebook):
    """Start a board with some arguments; return its port and process. It ends with the test."""

    def start(arguments):
        (port,) = ports(notebook.run(f"%tensorboard {arguments}"))
        return port, psutil.Process(server_on(notebook, port).pid)

    yield start
    notebook.run("boards.stop()")
    assert notebook.value("[s for s in boards.running() if s.alive]") == "[]"


def server_on(notebook, port):
    """The living server on a port, as the notebook lists it."""
    line = notebook.value(f"[tuple(s) for s in boards.running() if s.alive and s.port == {port}]")
    (row,) = eval(line)
    return boards.servers.Server(*row)


def is_alive(port):
    address = f"http://localhost:{port}/data/environment"
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


# What goes wrong without it


def test_the_board_starts_where_the_program_is_not_found_and_warnings_are_errors(notebook, board):
    assert notebook.value("__import__('shutil').which('tensorboard')") == "None"
    port, process = board("--logdir runs --port 0")
    assert is_alive(port)
    assert "PYTHONWARNINGS" in notebook.run("%env")


def test_an_interrupt_stops_the_cell_and_not_the_board(notebook, board):
    port, process = board("--logdir runs --port 0")
    interrupted = notebook.interrupt_while("import time\n\ntime.sleep(60)")
    assert interrupted == "KeyboardInterrupt"
    assert is_alive(port)
    assert process.is_running()


def test_the_same_command_shows_the_same_board_again(notebook, board):
    port, process = board("--logdir runs --port 0")
    shown = notebook.run("%tensorboard --logdir runs --port 0")
    assert f"Reusing TensorBoard on port {port} (pid {process.pid})" in shown
    assert ports(shown) == [port]


def test_another_directory_gets_a_board_of_its_own(board):
    first, second = board("--logdir runs --port 0"), board("--logdir others --port 0")
    assert first[0] != second[0]
    assert is_alive(first[0]) and is_alive(second[0])


def test_a_port_that_is_taken_is_named(notebook, board):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        shown = notebook.run(f"%tensorboard --logdir runs --port {port}")
    assert ports(shown) == []
    assert f"TensorBoard could not bind to port {port}, it was already in use" in shown


def test_a_board_that_was_killed_is_reused_until_prepare_forgets_it(notebook, board):
    port, process = board("--logdir runs --port 0")
    process.kill()
    assert ended(process.pid)
    dead = notebook.value(f"[s.alive for s in boards.running() if s.pid == {process.pid}]")
    assert dead == "[False]"
    shown = notebook.run("%tensorboard --logdir runs --port 0")
    assert "Reusing" in shown
    assert not is_alive(ports(shown)[0])
    notebook.run("boards.prepare()")
    assert is_alive(board("--logdir runs --port 0")[0])


# Stopping


def test_stop_ends_one_board_or_all_and_what_was_stopped_starts_again(notebook, board):
    port, process = board("--logdir runs --port 0")
    other_port, other = board("--logdir others --port 0")
    shown = notebook.run(f"boards.stop({port})")
    assert f"port={port}, pid={process.pid}" in shown and f"pid={other.pid}" not in shown
    assert ended(process.pid, 0)
    assert is_alive(other_port)
    again, another = board("--logdir runs --port 0")
    assert is_alive(again)
    notebook.run("boards.stop()")
    assert ended(other.pid, 0) and ended(another.pid, 0)
    assert notebook.value("boards.running()") == "[]"


def test_the_processes_that_a_board_starts_end_with_it(notebook, board):
    port, process = board("--logdir runs --port 0")
    children = process.children(recursive=True)
    notebook.run("boards.stop()")
    assert all(ended(child.pid) for child in children)


# The end of a kernel


@pytest.mark.parametrize("end", ["shutdown", "restart", "kill"])
def test_the_board_ends_with_its_kernel(tmp_path, end):
    with kernel(tmp_path) as notebook:
        notebook.run(PREPARE)
        (port,) = ports(notebook.run("%tensorboard --logdir runs --port 0"))
        server = psutil.Process(server_on(notebook, port).pid)
        children = server.children(recursive=True)
        assert is_alive(port)
        if end == "kill":
            psutil.Process(notebook.pid).kill()
        elif end == "restart":
            notebook.manager.restart_kernel(now=False)
        else:
            notebook.manager.shutdown_kernel()
        assert all(ended(process.pid) for process in (server, *children))
        assert list((tmp_path / "tmp").glob(".tensorboard-info/*")) == []
        assert list((tmp_path / "tmp").glob("*boards-*")) == []


# The proxy


def test_under_jupyterhub_the_frame_has_the_address_of_the_proxy(notebook, board, tmp_path):
    (tmp_path / "jupyter_server_proxy.py").touch()
    notebook.run(
        "import os, sys\n\n"
        f"sys.path.append({str(tmp_path)!r})\n"
        "os.environ['JUPYTERHUB_SERVICE_PREFIX'] = '/user/me/'\n"
        "boards.prepare()"
    )
    try:
        shown = notebook.run("%tensorboard --logdir runs --port 0")
        (port,) = eval(notebook.value("[s.port for s in boards.running()]"))
        assert f'"/user/me/proxy/{port}/"' in shown
    finally:
        notebook.run(
            "sys.path.pop()\n"
            "del os.environ['JUPYTERHUB_SERVICE_PREFIX'], os.environ['TENSORBOARD_PROXY_URL']"
        )


@pytest.mark.parametrize("missing", ["JUPYTERHUB_SERVICE_PREFIX", "jupyter_server_proxy"])
def test_elsewhere_the_frame_keeps_its_port(here, monkeypatch, missing):
    found = {} if missing == "jupyter_server_proxy" else {"jupyter_server_proxy": "a spec"}
    monkeypatch.setattr(servers.importlib.util, "find_spec", found.get)
    if missing != "JUPYTERHUB_SERVICE_PREFIX":
        monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/me/")
    boards.prepare()
    assert "TENSORBOARD_PROXY_URL" not in os.environ


def test_an_address_that_was_set_by_hand_stays(here, monkeypatch):
    monkeypatch.setattr(servers.importlib.util, "find_spec", lambda name: "a spec")
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/me/")
    monkeypatch.setenv("TENSORBOARD_PROXY_URL", "/mine/%PORT%/")
    boards.prepare()
    assert os.environ["TENSORBOARD_PROXY_URL"] == "/mine/%PORT%/"


# Which servers there are, in this process


@pytest.fixture
def here(tmp_path, monkeypatch):
    """This process as a kernel that has not prepared anything, on a machine without servers."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = ("TENSORBOARD_BINARY", "TENSORBOARD_PROXY_URL", servers.KERNEL, servers.ROOM)
    for name in (*names, "JUPYTERHUB_SERVICE_PREFIX"):
        monkeypatch.setenv(name, "")  # so that what prepare sets is undone
        monkeypatch.delenv(name)
    servers._room.cache_clear()
    yield
    shutil.rmtree(servers._room())
    servers._room.cache_clear()


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
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: pid)
        manager.write_info_file(
            manager.TensorBoardInfo(
                version=version.VERSION,
                start_time=start_time,
                port=port,
                pid=pid,
                path_prefix="",
                logdir=logdir,
                db="",
                cache_key="key",
            )
        )


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_server_lives_if_it_answers_as_tensorboard_does(here, monkeypatch):
    with serving(200) as board, serving(404) as other:
        gone = free_port()
        for pid, port in enumerate((board, other, gone), start=1):
            remembered(monkeypatch, port, pid)
        alive = {server.port: server.alive for server in boards.running()}
    assert alive == {board: True, other: False, gone: False}


def test_of_two_servers_that_claim_a_port_only_the_later_one_can_live(here, monkeypatch):
    with serving() as port:
        remembered(monkeypatch, port, pid=1, start_time=2, logdir="new")
        remembered(monkeypatch, port, pid=2, start_time=1, logdir="old")
        found = [(server.logdir, server.alive) for server in boards.running()]
        assert found == [("old", False), ("new", True)]
        boards.prepare()
        assert [server.logdir for server in boards.running()] == ["new"]


def test_a_server_that_is_too_busy_to_answer_is_not_forgotten(here, monkeypatch):
    monkeypatch.setattr(servers, "SECONDS_TO_ANSWER", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        remembered(monkeypatch, listener.getsockname()[1])
        boards.prepare()
        assert [server.alive for server in boards.running()] == [True]


def test_what_this_kernel_did_not_start_is_left_alone(here, monkeypatch):
    with serving() as port:
        remembered(monkeypatch, port, os.getpid())
        boards.prepare()
        assert boards.stop() == []
        with pytest.raises(ValueError, match=f"on port {port}: its ports are none"):
            boards.stop(port)
        assert [server.alive for server in boards.running()] == [True]


STUBBORN = """\
import http.server, signal, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

signal.signal(signal.SIGTERM, signal.SIG_IGN)
http.server.HTTPServer(("localhost", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.skipif(os.name == "nt", reason="on Windows a process can't refuse to end")
def test_a_server_that_does_not_end_when_asked_is_killed(here, monkeypatch):
    monkeypatch.setattr(servers, "SECONDS_TO_END", 0.2)
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", STUBBORN, str(port)]) as process:
        try:
            while not is_alive(port):
                time.sleep(0.05)
            remembered(monkeypatch, port, process.pid)
            (servers._room() / str(process.pid)).touch()
            (stopped,) = boards.stop(port)
        finally:
            process.kill()
    assert (stopped.pid, stopped.alive) == (process.pid, False)
    assert boards.running() == []
    assert not psutil.pid_exists(process.pid)


# The program


def test_the_program_without_a_kernel_is_tensorboard(here):
    boards.prepare()
    environment = {k: v for k, v in os.environ.items() if k != servers.KERNEL}
    command = [os.environ["TENSORBOARD_BINARY"], "--version"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == importlib.metadata.version("tensorboard")


def test_where_the_program_is_missing_prepare_says_what_to_do(here, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(RuntimeError, match="course-tensorboard is not installed: run `python -m"):
        boards.prepare()
