"""The project: its data, its start, its report, and the keeper against programs that misbehave."""

from __future__ import annotations

import html
import json
import os
import signal
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.tensorboard import SummaryWriter

from chapters import CHAPTERS
from chapters.project import data, exam, report, start, trials
from chapters.project.keeper import TOKEN, Ended, Keeper, Limits, Order
from helpers.__main__ import main
from helpers.checkout import CourseError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the examiner needs Linux or macOS")
on_linux = pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks at processes in /proc")

# The data


def test_nobody_is_the_writer_of_two_files():
    writers = [{*data.part(name).writers.tolist()} for name in data.WRITERS]
    assert not writers[0] & writers[1] and not (writers[0] | writers[1]) & writers[2]


@pytest.mark.parametrize("name", data.WRITERS)
def test_rows_are_images_with_a_class_and_a_writer(name):
    images, labels, writers = data.part(name)
    assert images.shape == (len(labels), 16, 16) and len(labels) == len(writers)
    assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
    assert {*labels.tolist()} == set(range(10))


def test_the_training_file_is_what_the_brief_says():
    labels = data.part("train").labels
    counts = np.bincount(labels)
    assert counts[8:].max() < 0.6 * counts[:5].min()
    assert len(labels) > 1500 and len(data.part("unseen").labels) > 400


def test_the_target_as_the_validation_shows_it_is_what_the_chapter_says():
    truth = load_digits().target[data.pictures("train")]
    labels, right = data.part("train").labels, 0.82
    # Of a label's rows: those read right and labelled right, and those read wrong as the label.
    shares = [(truth[labels == label] == label).mean() for label in range(data.CLASSES)]
    assert max(shares[8:]) < min(shares[:5])  # more of the rare digits' rows are labelled wrong
    shown = np.mean([share * right + (1 - share) * (1 - right) / 9 for share in shares])
    assert round(100 * shown) == 77


def test_the_same_seed_gives_the_same_data():
    first = data.part.__wrapped__("test", 3)
    assert all(map(np.array_equal, first, data.part.__wrapped__("test", 3)))
    assert not np.array_equal(first.images[:9], data.part.__wrapped__("test", 4).images[:9])


def test_a_project_begins_with_the_brief_and_the_data(tmp_path, capsys):
    assert main(["exam", "--start", str(tmp_path / "mine")]) == 0
    assert "project.py" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "mine").iterdir())
    assert names == ["brief.md", "data", "project.py"]
    with np.load(tmp_path / "mine" / "data" / "train.npz") as file:
        assert all(map(np.array_equal, (file[n] for n in data.Part._fields), data.part("train")))
    with pytest.raises(CourseError, match="is there already"):
        start.start(tmp_path / "mine")


def test_the_brief_names_the_targets():
    brief = Path(start.__file__).with_name("brief.md").read_text("utf-8")
    targets = trials.TARGETS
    for words in (
        f"at least {targets['accuracy']:.0%}",
        f"at least {targets['worst']:.0%}",
        f"at most {targets['calibration']:.2f}",
        f"at most {targets['letters']:.0%}",
        f"at most {Limits().processor} seconds",
    ):
        assert words.replace("%", " %") in brief


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["exam"], "give a program"),
        (["exam", "gone.py"], "there is no program"),
        (["exam", "gone.py", "--start", "x"], "give a program"),
        (["exam", __file__, "--only", "luck"], "there is no trial luck"),
        (["exam", __file__, "--jobs", "0"], "--jobs"),
    ],
)
def test_a_wrong_command_is_told_what_is_wrong(words, says, capsys):
    assert main(words) == 1
    assert says in capsys.readouterr().err


def test_a_report_that_can_not_be_written_is_told_all_the_same(tmp_path, monkeypatch, capsys):
    verdict = exam.Verdict(trials.TRIALS[0], True, "It took 1 s.", 1.0)
    result = exam.Result(tmp_path / "project.py", [verdict], {})
    monkeypatch.setattr(exam, "examine", lambda *_, **__: result)
    assert main(["exam", "project.py", "--report", str(tmp_path / "no folder" / "exam.html")]) == 1
    told = capsys.readouterr()
    assert "1 of 1 trials passed." in told.out and "Give another place by --report" in told.err


@pytest.mark.parametrize(("words", "waits"), [((), True), (("--final",), False)])
def test_the_trials_for_the_end_wait_for_their_option(words, waits, tmp_path, monkeypatch, capsys):
    asked = {}
    result = exam.Result(tmp_path / "project.py", [], {})
    monkeypatch.setattr(exam, "examine", lambda *_, final: asked.update(final=final) or result)
    assert main(["exam", "project.py", *words]) == 0
    assert asked["final"] is not waits
    assert ("Left for the end" in capsys.readouterr().out) is waits


# What the trials look at


@pytest.fixture
def trained(tmp_path):
    """A folder as a training leaves it: two steps, one validation."""
    out = tmp_path / "out"
    with SummaryWriter(str(out / "logs")) as writer:
        for step in (1, 2):
            for tag in trials.EACH_STEP:
                writer.add_scalar(tag, step, step)
        for tag in trials.EACH_VALIDATION:
            writer.add_scalar(tag, 0.5, 2)
    state = {"model": {"w": torch.tensor([1.0, float("nan")])}, "step": 2}
    for name in ("best", "last"):
        torch.save(state, out / f"{name}.pt")
    return exam.Trained(Ended(0, "", 1.0, 1.0, 0.1, "", (), 0), out)


def test_a_good_training_is_complete(trained):
    trials._complete(trained, 2)
    assert trained.state("best")["step"] == 2
    assert trials._difference(trained, trained) == ""


@pytest.mark.parametrize(
    ("last", "says"), [(3, "has no step 3"), (1, "steps 1 to 2; last.pt is at 1")]
)
def test_a_gap_in_the_log_is_seen(trained, last, says):
    with pytest.raises(exam.Failed, match=says):
        trials._complete(trained, last)


def test_a_step_that_is_there_twice_is_seen(trained):
    with SummaryWriter(str(trained.out / "logs"), filename_suffix=".more") as writer:
        writer.add_scalar("train/loss", 0.0, 2)
    with pytest.raises(exam.Failed, match="train/loss is there 2 times for step 2"):
        trials._complete(trained, 2)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"model": torch.nn.Linear(1, 1), "step": 1}, "does not load"),
        ({"weights": {}}, "does not hold"),
        ({"model": {"w": 1}, "step": 1}, "must hold tensors"),
        ({"model": {"w": torch.ones(1)}, "step": 1.0}, "an int"),
    ],
)
def test_a_checkpoint_of_another_form_is_refused(trained, state, says):
    torch.save(state, trained.out / "best.pt")
    with pytest.raises(exam.Unusable, match=says) as caught:
        trained.state("best")
    assert caught.value.owner == "loads"


def test_one_bit_is_a_difference(trained, tmp_path):
    other = replace(trained, out=tmp_path / "other")
    other.out.mkdir()
    state = trained.state("best")
    torch.save(state, other.out / "last.pt")
    state["model"]["w"][0] = 1 + 2**-23
    torch.save(state, other.out / "best.pt")
    assert "w in best.pt" in trials._difference(trained, other)


def test_a_checkpoint_from_a_gpu_needs_a_map_location(trained, tmp_path):
    path = tmp_path / "gpu.pt"
    exam.as_from_a_gpu(trained.out / "best.pt", path)
    assert torch.load(path, map_location="cpu")["model"]["w"][0] == 1
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(path)


@pytest.mark.parametrize(
    ("shares", "passes"),
    [((0.5,), True), ((0.9, 0.5, 0.6), True), ((1.0, 0.8, 0.95), False)],
)
def test_a_rest_that_seems_long_is_measured_again(shares, passes, trained, monkeypatch):
    killed = replace(trained, ended=replace(trained.ended, processor=shares[0]))
    results = {exam.base: trained, exam.killed: exam.Killed(killed, [1])}
    monkeypatch.setattr(exam, "share_of_the_rest", lambda lab, number: shares[number])
    lab = object.__new__(exam.Lab)
    lab.get = results.get
    if passes:
        assert "from step 1 of 2" in trials.resumes(lab)
    else:
        with pytest.raises(exam.Failed, match="the rest took 95%"):
            trials.resumes(lab)


def test_the_calibration_error_of_known_answers():
    sure = np.eye(10)[[0, 1, 2, 3]]
    assert trials.calibration_error(sure, np.array([0, 1, 2, 3])) == 0
    assert trials.calibration_error(sure, np.array([0, 1, 9, 9])) == pytest.approx(0.5)
    half = np.array([[0.55, 0.45], [0.55, 0.45]])
    assert trials.calibration_error(half, np.array([0, 1])) == pytest.approx(0.05)


def test_each_trial_says_what_its_failure_means():
    assert len({trial.name for trial in trials.TRIALS}) == len(trials._SAID) == len(trials.TRIALS)
    chapters = [f"{chapter.number} · {chapter.title}" for chapter in CHAPTERS]
    for trial in trials.TRIALS:
        assert trial.demand.endswith(".") and trial.meaning.endswith(".")
        assert trial.chapter in chapters


def test_the_report_is_one_page(tmp_path):
    verdicts = [
        exam.Verdict(trials.TRIALS[0], True, "It took 1 s.", 1.0),
        exam.Verdict(trials.TRIALS[1], False, "Seen: `<b>`.", 1.0),
        exam.Verdict(trials.TRIALS[2], None, "No.", 1.0),
    ]
    result = exam.Result(tmp_path / "project.py", verdicts, {"A picture": b"png"})
    report.save(result, tmp_path / "exam.html")
    page = (tmp_path / "exam.html").read_text("utf-8")
    assert "1 of 3 trials passed; 1 could not be tried." in page
    assert "<code>&lt;b&gt;</code>" in page
    assert 'alt="A picture"' in page and html.escape(trials.TRIALS[1].meaning, quote=False) in page
    assert "http" not in page
    told = report.text(result)
    assert trials.TRIALS[1].meaning in told and trials.TRIALS[0].meaning not in told


# The keeper


@pytest.fixture(scope="module")
def keeper():
    keeper = Keeper(warm=False)
    yield keeper
    keeper.close()


@pytest.fixture
def run(keeper, tmp_path):
    """Runs a source in a folder of its own: ``run(source, words, **order) -> Ended``."""

    def run(source: str, *words: str, limits: Limits | None = None, **order) -> Ended:
        for name in ("program", "out", "home"):
            (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / "program" / "project.py").write_text(textwrap.dedent(source), "utf-8")
        folders = {name: str(tmp_path / name) for name in ("out", "home")}
        folder = str(tmp_path / "program")
        limits = limits or Limits(seconds=10, processor=5)
        return keeper.run(Order(words=words, folder=folder, limits=limits, **folders, **order))

    return run


def marked(keeper: Keeper) -> list[int]:
    """The processes of a keeper's runs that are still there."""
    mark, found = f"{TOKEN}={keeper.token}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if keeper.process is None or pid != keeper.process.pid]


def test_a_program_runs_as_it_would_by_itself(run):
    ended = run(
        """
        import os, sys
        print(__name__, sys.argv[1:], os.path.basename(sys.argv[0]), os.path.basename(os.getcwd()))
        import atexit
        atexit.register(print, "the end")
        sys.exit("a word")
        """,
        "train",
        "--seed",
    )
    assert ended.printed.split("\n")[0] == "__main__ ['train', '--seed'] project.py program"
    assert "a word" in ended.printed and ended.printed.endswith("the end\n")
    assert (ended.code, ended.why, ended.deeds, ended.left) == (1, "", (), 0)


def test_a_run_elsewhere_orders_sets_in_its_own_way(tmp_path):
    program = tmp_path / "project.py"
    program.write_text("print(hash('a'))", "utf-8")
    with exam.laboratory(program) as lab:
        for keeper in lab.all_keepers:
            keeper.warm = False
        here, again, there = (
            lab.run((), tmp_path / "out", elsewhere=elsewhere).printed
            for elsewhere in (False, False, True)
        )
    assert here == again != there


@pytest.mark.parametrize(
    ("source", "limits", "why"),
    [
        ("import time; time.sleep(99)", {"seconds": 0.5}, "seconds"),
        ("while True: pass", {"processor": 1}, "processor"),
        ("while True: print('x' * 9999)", {}, "printed"),
        ("import sys\nwhile True: sys.stderr.write('x' * 9999)", {}, "printed"),
        (
            "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(99)",
            {"seconds": 0.5},
            "seconds",
        ),
        (
            "import sys\nfor n in range(999): open(f'{sys.argv[1]}/{n}', 'wb').write(bytes(10**6))",
            {"disk": 10**7},
            "disk",
        ),
    ],
)
def test_a_run_that_needs_too_much_is_ended(run, tmp_path, source, limits, why):
    limits = Limits(**{"seconds": 10, "processor": 5, **limits})
    start = time.monotonic()
    ended = run(source, str(tmp_path / "out"), limits=limits)
    assert ended.why == why and not ended.fine
    assert time.monotonic() - start < 8
    assert "{" not in exam.told(ended, limits)


@on_linux
def test_too_much_memory_ends_it(run):
    source = "import time\nx = bytearray(b'x' * 300_000_000); time.sleep(9)"
    assert run(source, limits=Limits(seconds=10, memory=200 * 2**20)).why == "memory"


def test_a_file_can_only_grow_so_far(run, tmp_path):
    source = "import sys; open(sys.argv[1], 'wb').write(bytes(10**6))"
    ended = run(source, str(tmp_path / "out" / "x"), limits=Limits(file=10**5))
    assert ended.code == 1 and "File too large" in ended.printed
    ended = run(source, str(tmp_path / "out" / "y"), break_at=10**5)
    assert ended.why == "killed" and (tmp_path / "out" / "y").stat().st_size == 10**5


def test_it_is_killed_some_time_after_its_first_change(run, tmp_path):
    source = """
        import sys
        sum(range(3 * 10**6))
        for n in range(10**9):
            if n % 10**5 == 0:
                open(sys.argv[1], "w").write(str(n))
        """
    ended = run(source, str(tmp_path / "out" / "x"), kill_after=0.2)
    assert (ended.code, ended.why) == (-signal.SIGKILL, "killed")
    assert ended.processor >= ended.first + 0.15


FORKS = """
    import os, time
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.1)
    """
HIDES = """
    import os, sys, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(99)"], {})
        os._exit(0)
    """
STAYS = """
    import os, time
    if os.fork() == 0:
        os.setsid()
        time.sleep(99)
    """


@on_linux
def test_forks_without_end_are_ended(run, keeper):
    ended = run(FORKS, limits=Limits(seconds=10, processes=8))
    assert ended.why == "processes" and not marked(keeper)


@on_linux
def test_what_a_program_leaves_behind_is_ended_and_told(run, keeper):
    assert run(STAYS).left == 1
    assert not marked(keeper)


DEEDS = {
    "open('../escaped', 'w')": "change ../escaped",
    "import pathlib; pathlib.Path('project.py').unlink()": "change project.py",
    "import os; os.rename('project.py', 'other.py')": "change project.py",
    "import shutil; shutil.rmtree('..')": "change",
    "import os; os.mkdir('../new')": "change ../new",
    "import os; os.kill(os.getppid(), 9)": "kill a process that it did not start",
    "import os; os.kill(-1, 9)": "kill a process that it did not start",
    "import os; os.system('true')": "start true",
    "import subprocess; subprocess.run(['sleep', '9'])": "start sleep",
    "import os; os.execv('/bin/sleep', ['sleep', '9'])": "start /bin/sleep",
    "import socket; socket.create_connection(('127.0.0.1', 9))": "connect to ('127.0.0.1', 9)",
    "import os; open(f'/proc/{os.getppid()}/environ')": "open /proc/",
}


@pytest.mark.parametrize("source", DEEDS)
def test_what_a_program_may_not_do_is_refused_and_told(run, tmp_path, source):
    before = set(tmp_path.parent.iterdir())
    ended = run(source)
    assert ended.code == 1 and "PermissionError" in ended.printed
    assert " ".join(ended.deeds[0]).startswith(DEEDS[source])
    assert before == set(tmp_path.parent.iterdir())
    assert (tmp_path / "program" / "project.py").is_file()


def test_what_reads_the_examiner_is_refused(run, tmp_path):
    folder = Path(exam.__file__).parent
    for source in (
        f"open({str(folder / 'trials.py')!r})",
        f"import os; os.listdir({str(folder)!r})",
        "import chapters.project.data",
    ):
        ended = run(source, hidden=(str(folder),))
        assert ended.code == 1 and ended.deeds[0][0] == "open", source


def test_an_error_is_told_as_python_tells_it(run, tmp_path):
    hidden = (str(Path(exam.__file__).parent),)
    source = "import traceback\ntraceback.print_stack()\nopen('gone')"
    ended = run(source, hidden=hidden)
    assert ended.code == 1 and not ended.deeds
    assert ended.printed.endswith(
        "FileNotFoundError: [Errno 2] No such file or directory: 'gone'\n"
    )
    (first,) = ended.printed.split("Traceback (most recent call last):\n")[1:]
    assert first.splitlines()[0].endswith('project.py", line 3, in <module>')


def test_what_any_program_does_is_allowed(run, tmp_path):
    ended = run(
        """
        import json, multiprocessing, os, pathlib, sys, tempfile
        out = pathlib.Path(sys.argv[1])
        os.makedirs(os.getcwd(), exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "x").write_text("x")
        (out / "deep").mkdir()
        (out / "x.tmp").write_text(pathlib.Path("project.py").read_text())
        os.replace(out / "x.tmp", out / "deep" / "x")
        worker = multiprocessing.get_context("fork").Process(target=print, args=("worker",))
        worker.start()
        worker.join()
        sleeper = multiprocessing.get_context("fork").Process(target=input)
        sleeper.start()
        sleeper.terminate()
        sleeper.join()
        """,
        str(tmp_path / "out"),
    )
    assert (ended.fine, ended.deeds, ended.left) == (True, (), 0), ended


@on_linux
def test_a_program_that_kills_the_keeper_with_machine_code_is_told(run, keeper):
    source = """
        import ctypes, os, time
        ctypes.CDLL(None).kill(os.getppid(), 9)
        time.sleep(99)
        """
    ended = run(source)
    assert ended.why == "keeper" and ended.deeds
    assert not marked(keeper)
    assert run("print(1)").printed == "1\n"  # the next run has a new keeper


@on_linux
def test_a_program_that_stops_the_keeper_is_ended(run, keeper, monkeypatch):
    monkeypatch.setattr("chapters.project.keeper.GRACE", 0.5)
    source = "import ctypes, os, time; ctypes.CDLL(None).kill(os.getppid(), 19); time.sleep(99)"
    start = time.monotonic()
    ended = run(source, limits=Limits(seconds=0.5))
    assert ended.why == "keeper" and time.monotonic() - start < 5
    assert not marked(keeper)


def test_orders_survive_json():
    order = Order(("a",), "f", "o", "h", limits=Limits(memory=1), kill_after=0.5)
    assert json.loads(json.dumps(order, default=vars))["limits"]["memory"] == 1
