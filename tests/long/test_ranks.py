"""Ranks in new Pythons: torchrun, spawned ranks, and ranks whose starter ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from helpers import loading, ranks
from tests.helpers.test_ranks import PROGRAM
from tools.run import clean_environment

PROGRAM = PROGRAM.replace("meet())", "meet(*sys.argv[1:2]))")


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


ASKS_THE_STORE = """
import os
import psutil
connections = psutil.Process(os.getppid()).net_connections("inet")
listening = {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
print("torchrun listens on", *listening)
"""


def test_torchrun_runs_a_script_in_each_rank_and_listens_on_all_interfaces(script, capfd):
    script.write_text(ASKS_THE_STORE + PROGRAM)
    ended = ranks.torchrun(script, arguments=["a", 1], environment={"NAME": "value"})
    for rank in range(2):
        found = re.search(rf"\[rank {rank}\] process (\d+) port (\d+)\n", ended.printed)
        assert found and not lives(int(found[1]))
        said = f"[rank {rank}] ['a', '1'] __main__ {{'total': tensor([3.]), 'rank': {rank}"
        assert said in ended.printed
    assert re.search(r"listens on (::|0\.0\.0\.0)\n", ended.printed)
    assert capfd.readouterr().out == ended.printed


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", "rank 1 of 2 raised ValueError: no such\nthing (rank 0 "),
        ("exits", "rank 1 of 2 left by sys.exit(3) (rank 0 "),
        ("is killed", "rank 1 of 2 was ended by signal 9 (SIGKILL) (rank 0 "),
    ],
)
def test_a_rank_of_torchrun_that_fails_is_named(script, how, said):
    with pytest.raises(ranks.RankError) as caught:
        ranks.torchrun(script, arguments=[how])
    assert str(caught.value).startswith(said) and caught.value.rank == 1


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ('raise ValueError("mine")', "raised ValueError: mine"),
        ("os.kill(os.getpid(), signal.SIGTERM)", r"was ended by signal 15 \(SIGTERM\)"),
    ],
)
def test_a_rank_that_torchrun_ends_for_another_one_is_not_named_first(script, failure, said):
    lines = ["import os, signal, time", "if os.environ['RANK'] == '0':", "    time.sleep(100)"]
    script.write_text("\n".join([*lines, failure]))
    said = f"^rank 1 of 2 {said} .rank 0 was ended by signal 15"
    with pytest.raises(ranks.RankError, match=said):
        ranks.torchrun(script)


def test_ranks_of_torchrun_that_wait_are_named(script, capfd):
    started = time.monotonic()
    with pytest.raises(ranks.RankError, match=r"(?s)rank 0 waited at line 28.*at line 26"):
        ranks.torchrun(script, arguments=["sleeps"], seconds=25)
    assert time.monotonic() - started < 30
    pids = re.findall(r"process (\d+)", capfd.readouterr().out)
    assert len(pids) == 3 and not any(map(lives, map(int, pids)))


RESUMES = """
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

folder, fails = Path(sys.argv[1]), sys.argv[2] == "fails"
dist.init_process_group("gloo")
torch.manual_seed(0)
net = DistributedDataParallel(nn.Linear(3, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
path, first = folder / "last.pt", 0
if path.exists():
    saved = torch.load(path)
    net.module.load_state_dict(saved["net"])
    optimizer.load_state_dict(saved["optimizer"])
    first = saved["step"]
print("from step", first)
for step in range(first, 6):
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(10 * step + dist.get_rank()))
    optimizer.zero_grad()
    net(x).pow(2).mean().backward()
    optimizer.step()
    if dist.get_rank() == 0:
        state = {"net": net.module.state_dict(), "optimizer": optimizer.state_dict()}
        if fails and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and step == 3:
            (folder / "last.new").write_bytes(b"half a checkpoint")
            os.kill(os.getpid(), 9)
        torch.save({**state, "step": step + 1}, folder / "last.new")
        os.replace(folder / "last.new", path)
    dist.barrier()
"""


def test_after_a_restart_the_training_goes_on_at_the_last_whole_checkpoint(tmp_path):
    script = tmp_path / "resumes.py"
    script.write_text(RESUMES)
    saved = {}
    for how in ("fails", "runs through"):
        folder = tmp_path / how
        folder.mkdir()
        ended = ranks.torchrun(script, arguments=[folder, how], restarts=1)
        lives = {"fails": ["0", "3"], "runs through": ["0"]}[how]
        for rank in range(2):
            assert re.findall(rf"\[rank {rank}\] from step (\d)", ended.printed) == lives
        saved[how] = torch.load(folder / "last.pt")
    for name, weight in saved["fails"]["net"].items():
        assert torch.equal(weight, saved["runs through"]["net"][name])


STARTER = """
import signal
from helpers import loading, ranks

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores in the background

print("starter")
try:
    ranks.{start}({script!r}, arguments=["sleeps"])
finally:
    print("ended", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("start", ["run", "torchrun"])
def test_ranks_end_with_their_starter(start, how, script, tmp_path):
    notes = tmp_path / "pids"
    script.write_text(
        f"import os\nopen({str(notes)!r}, 'a').write(f'{{os.getpid()}}\\n')\n" + PROGRAM
    )
    starter = tmp_path / "starter.py"
    starter.write_text(STARTER.format(start=start, script=str(script)))
    with (
        subprocess.Popen(
            [sys.executable, starter],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        contextlib.ExitStack() as afterwards,
    ):
        afterwards.callback(process.kill)
        until = time.monotonic() + 60
        while not notes.exists() or len(notes.read_text().splitlines()) < 2:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.1)
        time.sleep(1)
        os.kill(process.pid, how)
        process.wait(20)
        printed, errors = process.communicate(timeout=20)
    assert printed.count("starter") == 1  # the ranks do not run the starter again
    if how == signal.SIGINT:
        assert "ended" in printed and "KeyboardInterrupt" in errors
    pids = [int(line) for line in notes.read_text().splitlines()]
    until = time.monotonic() + 5
    while any(map(lives, pids)):
        assert time.monotonic() < until, "a rank has outlived its starter"
        time.sleep(0.1)
    assert not list(Path(tempfile.gettempdir()).glob(f"ranks-{process.pid}-*"))


def test_ranks_are_spawned_where_the_server_has_no_place_for_its_socket(tmp_path, script):
    folder = tmp_path / ("a long name " * 6)
    folder.mkdir()
    program = "from helpers import ranks\nprint(ranks._context().get_start_method())\n"
    program += f"print([one['rank'] for one in ranks.run({str(script)!r}, 3, call='meet')])\n"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(TMPDIR=str(folder)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[0] == "spawn"
    assert ended.stdout.splitlines()[-1] == "[0, 1, 2]"
    assert not list(folder.glob("ranks-*"))


def test_ranks_have_torch_also_after_workers_of_a_loader_were_started():
    data = TensorDataset(torch.ones(4))
    assert len(list(DataLoader(data, **loading.workers(data, 1)))) == 4
    program = "import sys\ndef main():\n    return 'torch._dynamo' in sys.modules"
    assert ranks.run(program, 1, call="main") == [True]


def test_a_rank_of_torchrun_imports_the_modules_of_its_project(tmp_path, monkeypatch, capfd):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "data.py").write_text("NAME = 'mine'")
    script = tmp_path / "script.py"
    script.write_text("import data\nprint(data.NAME)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "src"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert ranks.torchrun(script, 1).printed == "[rank 0] mine\n"
    assert not [*tmp_path.glob("torchelastic*")]
