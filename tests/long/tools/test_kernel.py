"""Kernels that the course starts itself: what they are spoken to through."""

import sys
import tempfile
from pathlib import Path

import pytest

from tools.kernel import options
from tests.long.kernels import kernel


@pytest.fixture
def short_folder():
    with tempfile.TemporaryDirectory(prefix="k-") as name:
        yield Path(name)


def sockets(folder: Path) -> int:
    return sum(path.is_socket() for path in folder.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="on Windows, kernels take ports")
def test_a_kernels_five_channels_take_no_port_that_another_program_may_have(short_folder):
    with kernel(short_folder) as running:
        assert running.value("6 * 7") == "42"
        assert sockets(short_folder) == 5


def test_where_a_sockets_path_would_be_too_long_a_kernel_takes_ports(tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    with kernel(long) as running:
        assert running.value("6 * 7") == "42"
        assert sockets(long) == 0


def test_a_path_is_measured_as_the_system_does_in_bytes_and_from_the_root(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert options(Path("é" * 50))["transport"] == "tcp"
