"""Programs in several processes: what comes back, what is said, and what is left."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import torch

from helpers import ranks

pytestmark = pytest.mark.xdist_group("ranks")  # one worker starts the server that has torch

PROGRAM = """
import os
import subprocess
import sys
import time

import torch
import torch.distributed as dist


def meet(how=""):
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    print("process", os.getpid(), "port", os.environ["MASTER_PORT"])
    if rank == 1:
        if how == "raises":
            raise ValueError("no such\\nthing")
        if how == "exits":
            sys.exit(3)
        if how == "is killed":
            os.kill(os.getpid(), 9)
        if how == "returns":
            return
        if how == "sleeps":
            print("process", subprocess.Popen(["sleep", "100"]).pid)
            time.sleep(100)
    total = torch.tensor([rank + 1.0])
    dist.all_reduce(total)
    return {"total": total, "rank": rank, "threads": torch.get_num_threads()}


if __name__ == "__main__":
    print(sys.argv[1:], __name__, meet())
"""


@pytest.fixture(autouse=True)
def nothing_is_left(capfd):
    yield
    printed = capfd.readouterr().out
    for pid in re.findall(r"process (\d+)", printed):
        with contextlib.suppress(psutil.NoSuchProcess):
            assert psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    for port in set(re.findall(r"port (\d+)", printed)):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(port)))
    assert not list(Path(tempfile.gettempdir()).glob(f"ranks-{os.getpid()}-*"))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_each_rank_gives_its_value(number):
    values = ranks.run(PROGRAM, number, call="meet")
    total = torch.tensor([number * (number + 1) / 2])
    assert values == [{"total": total, "rank": rank, "threads": 1} for rank in range(number)]


def test_a_script_is_run_as_main_with_its_arguments(tmp_path, monkeypatch, capfd):
    (tmp_path / "beside.py").write_text("NAME = 'beside'")
    script = tmp_path / "a script.py"
    script.write_text("import beside, os, sys\nprint(__name__, sys.argv, beside.NAME, os.getcwd())")
    monkeypatch.chdir(tmp_path.parent)
    assert ranks.run(script, arguments=["a", 1]) == [None, None]
    line = f"__main__ {[str(script), 'a', '1']} beside {tmp_path.parent}\n"
    assert capfd.readouterr().out == f"[rank 0] {line}[rank 1] {line}"


def test_a_tensor_is_sent_by_value():
    program = "def double(x):\n    x *= 2\n    return [x, (str(x.dtype), None, 1.5)]"
    x = torch.ones(3)
    for value in ranks.run(program, call="double", arguments=[x]):
        assert torch.equal(value[0], x * 2) and value[1] == ("torch.float32", None, 1.5)
    assert torch.equal(x, torch.ones(3))


def test_what_a_rank_prints_comes_with_its_value_and_quietly_if_asked(capfd):
    program = "import os, sys\ndef main():\n    print('a'); print('b', file=sys.stderr)"
    seen = ranks.observed(program, call="main", quiet=True)
    assert seen == [(None, "a\nb\n")] * 2
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", "rank 1 of 2 raised ValueError: no such\nthing (rank 0 raised RuntimeError: "),
        ("exits", "rank 1 of 2 left by sys.exit(3) (rank 0 raised RuntimeError: "),
        ("is killed", "rank 1 of 2 was ended by signal 9 (SIGKILL) (rank 0 "),
    ],
)
def test_the_rank_that_fails_first_is_named_and_not_the_one_that_waits_for_it(how, said):
    started = time.monotonic()
    with pytest.raises(ranks.RankError) as caught:
        ranks.run(PROGRAM, call="meet", arguments=[how])
    assert str(caught.value).startswith(said) and caught.value.rank == 1
    if how == "raises":
        assert '", line 17, in meet\n    raise ValueError' in str(caught.value)
        assert "helpers" not in str(caught.value)
    assert time.monotonic() - started < 60


def test_a_rank_without_its_partner_is_told_of():
    with pytest.raises(ranks.RankError, match=r"^rank 0 of 2 raised .*\(rank 1 returned\)"):
        ranks.run(PROGRAM, call="meet", arguments=["returns"])


def test_ranks_that_wait_are_named_with_the_line_at_which_they_wait():
    with pytest.raises(ranks.RankError) as caught:
        ranks.run(PROGRAM, call="meet", arguments=["sleeps"], seconds=1)
    assert str(caught.value).startswith(
        "not done after 1 s: rank 0 waited at line 28: `dist.all_reduce(total)`; "
        "rank 1 waited at line 26: `time.sleep(100)`. A collective"
    )


def test_an_interrupt_ends_all_ranks(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        with pytest.raises(KeyboardInterrupt):
            ranks.run(PROGRAM, call="meet", arguments=["sleeps"])
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_value_that_cannot_be_sent_is_named():
    with pytest.raises(TypeError, match="rank 0 returned what can't be sent: return tensors"):
        ranks.run("import types\ndef main():\n    return types.SimpleNamespace()", 1, call="main")


def test_faulty_arguments_are_named():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        ranks.run(PROGRAM, 0)
    with pytest.raises(FileNotFoundError, match="no program at .*nowhere.py"):
        ranks.run("nowhere.py")
    with pytest.raises(ranks.RankError, match="has no attribute 'nobody'"):
        ranks.run(PROGRAM, 1, call="nobody")


def test_the_store_listens_on_the_loopback_address_alone():
    with ranks._store() as port:
        addresses = {
            one.laddr.ip
            for one in psutil.Process().net_connections("inet")
            if one.status == psutil.CONN_LISTEN and one.laddr.port == port
        }
    assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize(("last", "printed"), [("", "destroyed\n"), ("destroy()", "")])
def test_the_process_group_is_destroyed_after_the_call(last, printed):
    program = f"""
import torch.distributed as dist

destroy = dist.destroy_process_group


def told():
    destroy()
    print("destroyed")


def meet():
    dist.init_process_group("gloo")
    dist.destroy_process_group = told
    {last}
"""
    ended = ranks.observed(program, 2, call="meet", quiet=True)
    assert [rank.printed for rank in ended] == [printed] * 2


def test_the_main_program_is_there_again():
    main = sys.modules["__main__"]
    ranks.run("pass\n", 1)
    assert sys.modules["__main__"] is main


def test_workers_of_a_rank_find_the_classes_of_its_script(tmp_path, monkeypatch):
    lines = [
        "import torch",
        "from torch.utils.data import DataLoader, Dataset",
        "class Squares(Dataset):",
        "    def __len__(self): return 3",
        "    def __getitem__(self, i): return i * i",
        "def main():",
        "    return [int(b) for b in DataLoader(Squares(), num_workers=1,",
        "            multiprocessing_context='forkserver')]",
    ]
    (tmp_path / "train.py").write_text("\n".join(lines))
    assert ranks.run(tmp_path / "train.py", 1, call="main") == [[0, 1, 4]]


def test_what_a_rank_prints_comes_back_whatever_the_encoding(monkeypatch, capfd):
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    program = "def main():\n    print('é ✓')\n    return 1"
    (rank,) = ranks.observed(program, 1, call="main")
    assert rank == (1, "é ✓\n")


def test_a_rank_that_waits_is_named_below_a_folder_with_umlauts(tmp_path):
    folder = tmp_path / "für alle"
    folder.mkdir()
    (folder / "waits.py").write_text("import time\ndef main():\n    time.sleep(100)")
    with pytest.raises(ranks.RankError, match="waited at line 3"):
        ranks.run(folder / "waits.py", 1, call="main", seconds=2)


def test_an_argument_that_a_rank_cannot_make_is_named(monkeypatch):
    monkeypatch.setattr(OfHere, "__module__", "nowhere")
    monkeypatch.setitem(sys.modules, "nowhere", sys.modules[__name__])
    with pytest.raises(ranks.RankError, match="No module named 'nowhere'"):
        ranks.run("def main(given):\n    pass", 1, call="main", arguments=[OfHere()])


class OfHere:
    """An argument of a class that ranks do not have."""
