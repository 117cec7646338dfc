"""Every rule on runs lets a good run pass and catches what it is there for."""

from __future__ import annotations

import re
import socket
from dataclasses import replace

import pytest

from chapters import CHAPTERS
from tests.long.accelerator import plugged
from tests.notebooks import behaviour
from tests.notebooks.behaviour import START_SECONDS, Allowed
from tests.notebooks.running import SAMPLE_SECONDS, Run
from tests.notebooks.samples import CHAPTER, code

GOOD = (
    "import warnings\n\nwith warnings.catch_warnings(record=True):\n    warnings.warn('expected')",
    "lines = !echo three words here\nassert lines == ['three words here']",
    "!exit 0",
    "from ipywidgets import interact\n\ninteract(lambda x: print(x), x=3);",
    "try:\n    1 / 0\nexcept ZeroDivisionError:\n    print('as expected')",
    "from IPython.display import display\n\n"
    "display({'image/png': '', 'text/html': '<img alt=\"A line\">'}, raw=True)\n"
    "display({'image/png': ''}, metadata={'image/png': {'alt': 'A line'}}, raw=True)",
)

FRAME = """\
from IPython.display import HTML

HTML('<iframe id="tensorboard-frame-1"></iframe><script>const port = {port};</script>')"""

BROKEN = {
    behaviour.no_error: [
        "1 / 0",
        "this does not parse",
        "%no_such_magic",
        "raise SystemExit",
        "import os\n\nos._exit(1)",
    ],
    behaviour.no_error_output: [
        "get_ipython().showtraceback((ValueError, ValueError('shown'), None))",
        "get_ipython().events.register('post_execute', lambda: 1 / 0)",
        "from ipywidgets import interact\n\ninteract(lambda x: 1 / 0, x=3);",
    ],
    behaviour.no_warning: [
        "import warnings\n\nwarnings.warn('unexpected', DeprecationWarning)",
        "print('\\d')",
        "import warnings\n\nwarn = 'warnings.warn(\"again\")'\n"
        "with warnings.catch_warnings(record=True):\n    exec(warn)\nexec(warn)",
    ],
    behaviour.no_failed_command: [
        "!exit 3",
        "lines = !no_such_program",
        "!!exit 3",
        "%pip install --no-index no-such-package",
        "def run(code):\n    !exit {code}\n\n\nrun(2)",
    ],
    behaviour.boards_start: [
        "import os\n\nos.environ['TENSORBOARD_BINARY'] = 'no-such-program'\n"
        "%load_ext tensorboard\n%tensorboard --logdir runs",
        "import os, sys\n\nos.environ['TENSORBOARD_BINARY'] = sys.executable\n"
        "%load_ext tensorboard\n%tensorboard --logdir runs",
        "%alias_magic tensorboard pwd\n%tensorboard --logdir runs",
    ],
    behaviour.no_process_left: [
        "import subprocess, sys\n\nsleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "server = subprocess.Popen(sleep, start_new_session=True)",
    ],
    behaviour.within_budget: [
        "import time\n\nend = time.process_time() + 1\nwhile time.process_time() < end:\n    pass",
        "import subprocess, sys\n\nwork = 'import time\\nwhile time.process_time() < 1: pass'\n"
        "subprocess.run([sys.executable, '-c', work]);",
        "import subprocess, sys, time\n\nwork = 'while True: pass'\n"
        "worker = subprocess.Popen([sys.executable, '-c', work])\ntime.sleep(2)",
    ],
    behaviour.figures_have_text: [
        "from IPython.display import display\n\ndisplay({'image/png': ''}, raw=True)",
        "from IPython.display import display\n\n"
        "display({'image/png': '', 'text/html': '<img alt=\"\">'}, raw=True)",
    ],
}
SHORT = replace(CHAPTER, cpu_seconds=0.1)
IMPORTS = code("import math", "imports", ["imports"])


def test_a_good_run_keeps_every_rule(run_cells):
    assert behaviour.problems(run_cells(IMPORTS, *GOOD), CHAPTER) == []


@pytest.mark.parametrize(
    ("rule", "source"),
    [(rule, source) for rule, sources in BROKEN.items() for source in sources],
    ids=[f"{rule.__name__}-{n}" for rule, sources in BROKEN.items() for n in range(len(sources))],
)
def test_a_rule_catches_the_run_that_breaks_it(rule, source, run_cells):
    found = list(rule(run_cells(IMPORTS, source), SHORT))
    assert found
    if rule is not behaviour.no_process_left:
        assert "cell-1" in found[0]


def test_every_rule_was_seen_to_catch_something():
    assert BROKEN.keys() | {behaviour.quick_start} == set(behaviour.RULES)


def test_imports_that_take_long_are_caught_and_later_cells_are_not_counted(run_cells, monkeypatch):
    busy = (
        "import time\n\nend = time.process_time() + 1\nwhile time.process_time() < end:\n    pass"
    )
    setup = code("import math", "setup")
    quick = with_samples(run_cells(setup, IMPORTS, busy), SAMPLE_SECONDS)
    slow = with_samples(run_cells(setup, code(busy, "imports", ["imports"])), SAMPLE_SECONDS)
    between = (quick.seconds_to_start + slow.seconds_to_start) / 2
    monkeypatch.setattr(behaviour, "START_SECONDS", between)
    assert list(behaviour.quick_start(quick, CHAPTER)) == []
    (problem,) = behaviour.quick_start(slow, CHAPTER)
    assert "'imports'" in problem

    assert list(behaviour.quick_start(with_samples(slow, 3 * SAMPLE_SECONDS), CHAPTER)) == []


def with_samples(run, seconds):
    """The run as it would be, had each sample of work taken so long."""
    notes = [note | {"sample": seconds} if "sample" in note else note for note in run.journal]
    return replace(run, journal=notes)


@pytest.mark.parametrize(("platform", "seconds"), [("linux", 10), ("darwin", 20), ("win32", 20)])
def test_where_workers_import_torch_anew_a_chapter_has_more_time(platform, seconds, monkeypatch):
    monkeypatch.setattr(behaviour.sys, "platform", platform)
    nothing = Run(None, journal=[], dead_boards=[], left_over=[])
    assert behaviour.seconds_allowed(nothing, CHAPTER) == seconds


def test_on_a_slower_machine_a_chapter_has_more_time_and_nowhere_less(monkeypatch):
    monkeypatch.setattr(behaviour.sys, "platform", "linux")
    for samples, times in (((1, 3, 2), 3), ((0.1, 0.2, 0.3), 1), ((9, *[1] * 18, 2), 2)):
        usage = [{"kind": "usage", "sample": sample * SAMPLE_SECONDS} for sample in samples]
        run = Run(None, journal=usage, dead_boards=[], left_over=[])
        assert behaviour.seconds_allowed(run, CHAPTER) == pytest.approx(10 * times)


def test_a_run_is_held_to_the_time_that_its_machine_allows(run_cells):
    busy = (
        "import time\n\nend = time.process_time() + 1\nwhile time.process_time() < end:\n    pass"
    )
    run = run_cells(IMPORTS, busy)
    assert all(note["sample"] > 0 for note in run.notes("usage"))
    tight = replace(CHAPTER, cpu_seconds=0.7)
    assert list(behaviour.within_budget(with_samples(run, 2 * SAMPLE_SECONDS), tight)) == []
    (problem,) = behaviour.within_budget(with_samples(run, SAMPLE_SECONDS), tight)
    assert "the chapter has 0.7 s here" in problem


def test_all_chapters_fit_two_minutes_of_two_cores():
    spent = sum(chapter.cpu_seconds + START_SECONDS for chapter in CHAPTERS)
    assert spent <= 2 * 120


def test_a_cell_that_takes_too_long_is_named(run_cells):
    (problem,) = behaviour.no_error(run_cells("1", "import time; time.sleep(60)", timeout=1), SHORT)
    assert "cell-1" in problem


def test_a_board_behind_a_port_where_nobody_listens_is_caught(run_cells):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        listening = run_cells(FRAME.format(port=port))
    assert list(behaviour.boards_start(listening, CHAPTER)) == []
    dead = run_cells(FRAME.format(port=port))
    assert list(behaviour.boards_start(dead, CHAPTER))


def test_a_real_board_starts_and_ends_with_its_kernel(run_cells):
    run = run_cells(
        "import os, sys\n\nprogram = os.path.join(os.path.dirname(sys.executable), 'tensorboard')\n"
        "os.environ['TENSORBOARD_BINARY'] = program",
        "%load_ext tensorboard\n%tensorboard --logdir runs --port 0",
    )
    assert behaviour.problems(run, CHAPTER) == []


def test_the_imports_do_not_count(run_cells):
    busy = "import time\n\nwhile time.process_time() < 1.5:\n    pass"
    run = run_cells(code(busy, "imports", ["imports"]), "1")
    assert list(behaviour.within_budget(run, SHORT)) == []


def test_a_warning_repeated_in_a_cell_is_reported_once_and_again_for_the_next_cell(run_cells):
    cell = "import warnings\n\nfor _ in range(3):\n    warnings.warn('again')"
    found = list(behaviour.no_warning(run_cells(cell, cell), CHAPTER))
    assert len(found) == 2


def test_a_warning_that_is_allowed_passes_and_no_other_does(run_cells, monkeypatch):
    run = run_cells("import warnings\n\nwarnings.warn('old api')\nwarnings.warn('other')")
    allowed = Allowed("UserWarning", "old", "", "a third party's")
    monkeypatch.setattr(behaviour, "ALLOWED_WARNINGS", (allowed,))
    (problem,) = behaviour.no_warning(run, CHAPTER)
    assert "other" in problem


TRAINING = """\
import torch

device = torch.accelerator.current_accelerator(check_available=True)
model = torch.nn.Linear(2, 1).to({device})
optimizer = torch.optim.SGD(model.parameters())
model(torch.ones(1, 2, device={device})).sum().backward()
optimizer.step()"""
ON_CPU, ON_DEVICE = (TRAINING.format(device=device) for device in ("'cpu'", "device"))
CHECKED = code(ON_CPU, "try", ["exercise:losses.huber"])
MOVED = "torch.ones(2, device=device) + 1"


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        (["1"], "had no accelerator"),
        (["import torch"], "nothing is computed on it"),
        ([ON_CPU], "all 1 steps .* on the CPU, in 'cell-0'"),
        ([CHECKED, ON_CPU], "all 1 steps .* on the CPU, in 'cell-1'"),
        ([CHECKED], "nothing is computed on it"),
        ([CHECKED, MOVED], None),
        ([ON_DEVICE], None),
        ([ON_CPU, ON_DEVICE], None),
    ],
)
def test_with_an_accelerator_a_chapter_computes_on_it(cells, problem, run_cells):
    run = run_cells(*cells, **plugged.environment())
    found = behaviour.problems_on_accelerator(run, CHAPTER)
    assert len(found) == (problem is not None)
    assert all(re.search(problem, one) for one in found)


def test_on_an_accelerator_every_rule_holds_but_those_of_time(run_cells):
    run = run_cells(IMPORTS, "1 / 0", **plugged.environment())
    assert (
        "cell 'cell-1' raises ZeroDivisionError"
        in behaviour.problems_on_accelerator(run, replace(CHAPTER, cpu_seconds=0))[0]
    )
