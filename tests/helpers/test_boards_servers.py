"""Which servers there are, and what `boards.prepare()` changes for `%tensorboard`."""

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
from contextlib import contextmanager

import pytest
from tensorboard import manager, version

from helpers import boards, tensorboard_server
from helpers.boards import servers


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
