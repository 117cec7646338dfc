"""The examiner: it runs a program in copies of its folder, and gives a verdict for each trial.

::

    result = examine("project.py")
    print(result)
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import helpers
from chapters.project import data
from chapters.project.keeper import Ended, Keeper, Limits, Order
from helpers import boards
from helpers.checkout import CourseError
from helpers.exercises.sandbox import first_line

KILLS = (0.25, 0.2, None, 0.2, 0.15)  # shares of a training; None is in the middle of a write
SEEDS = (0, 1, 2)


class Failed(Exception):
    """A trial that the program does not pass; the sentence says what was seen."""


class Unusable(Failed):
    """What a run left can't be used: the trial ``owner`` fails, others can't be tried."""

    def __init__(self, said: str, owner: str):
        super().__init__(said)
        self.owner = owner


class Untried(Exception):
    """A trial that can't be tried; the sentence says why."""


@dataclass(frozen=True)
class Verdict:
    """What became of a trial: passed, failed (``passed`` is False) or not tried (None)."""

    trial: Any
    passed: bool | None
    said: str
    seconds: float

    def __str__(self) -> str:
        word = {True: "passed", False: "FAILED", None: "not tried"}[self.passed]
        return f"{word:>9}  {self.trial.name:<12} {self.said}"


@dataclass(frozen=True, repr=False)
class Result:
    """What became of an examination; ``figures`` are PNGs by what they show."""

    program: Path
    verdicts: list[Verdict]
    figures: dict[str, bytes]

    @property
    def passed(self) -> int:
        return sum(verdict.passed is True for verdict in self.verdicts)

    def _repr_html_(self) -> str:
        from chapters.project import report

        return report.body(self)

    def __str__(self) -> str:
        from chapters.project import report

        return report.text(self)

    __repr__ = __str__


def examine(
    program: str | Path,
    only: Sequence[str] = (),
    jobs: int = 1,
    limits: Limits | None = None,
    show: Callable[[list[Verdict], list[Any]], None] | None = None,
    final: bool = False,
) -> Result:
    """Try a program, and show the progress.

    ``show`` gets the verdicts so far and the trials that are left. Without it there is a line for
    each verdict, in a notebook a table that grows.

    The folder of the program is not changed: copies of ``project.py`` and of the Python files
    beside it are run. ``only`` names trials; without it, those on people whom nobody has seen are
    tried if ``final``. ``jobs`` is how many runs may go on at once. Raises ``CourseError`` if there
    is no such file, for an unknown trial, and on Windows.
    """
    from chapters.project import report
    from chapters.project.trials import TRIALS

    if unknown := set(only) - {trial.name for trial in TRIALS}:
        known = ", ".join(trial.name for trial in TRIALS)
        raise CourseError(f"there is no trial {', '.join(sorted(unknown))}: known are {known}")
    chosen = [t for t in TRIALS if (t.name in only if only else final or not t.final)]
    show = show or report.live()
    verdicts: list[Verdict] = []
    with laboratory(program, jobs, limits) as lab:
        show(verdicts, chosen)
        if not only:
            lab.begin()
        for place, trial in enumerate(chosen, 1):
            verdicts.append(_tried(trial, lab))
            show(verdicts, chosen[place:])
        return Result(lab.program, verdicts, report.figures(lab))


@contextlib.contextmanager
def laboratory(program: str | Path, jobs: int = 1, limits: Limits | None = None) -> Iterator[Lab]:
    """A ``Lab`` for a program, in a folder that is gone afterwards; raises as ``examine`` does."""
    if os.name != "posix":
        raise CourseError(
            "the examiner needs Linux or macOS, which can limit and end what a program starts: on "
            "Windows run the course in WSL"
        )
    program = Path(program).expanduser().resolve()
    if not program.is_file():
        raise CourseError(
            f"there is no program {program}: write one, or begin with "
            "`python -m helpers exam --start FOLDER`"
        )
    with tempfile.TemporaryDirectory(prefix="exam-", ignore_cleanup_errors=True) as folder:
        lab = Lab(program, Path(folder).resolve(), jobs, limits or Limits())
        try:
            yield lab
        finally:
            lab.close()


def _tried(trial: Any, lab: Lab) -> Verdict:
    start = time.monotonic()
    try:
        passed, said = True, trial.check(lab)
    except Unusable as unusable:
        passed, said = (False if unusable.owner == trial.name else None), str(unusable)
    except Failed as failed:
        passed, said = False, str(failed)
    except Untried as untried:
        passed, said = None, str(untried)
    return Verdict(trial, passed, said, time.monotonic() - start)


@dataclass
class Trained:
    """A folder ``OUT`` and how the run that filled it ended."""

    ended: Ended
    out: Path

    def file(self, name: str) -> Path:
        """The file of the checkpoint "best" or "last"; ``Unusable`` if there is none."""
        path = self.out / f"{name}.pt"
        if not path.is_file():
            raise Unusable(f"The training leaves no {path.name}.", "trains")
        return path

    def state(self, name: str, device: str = "cpu") -> dict:
        """The checkpoint "best" or "last", without running code; ``Unusable`` if it won't do."""
        path = self.file(name)
        try:
            state = torch.load(path, map_location=device, weights_only=True)
        except Exception as error:
            raise Unusable(f"{path.name} does not load: {first_line(error)}", "loads") from error
        weights = state.get("model") if isinstance(state, dict) else None
        wrong = ""
        if not isinstance(weights, dict) or not weights:
            wrong = f'{path.name} does not hold a dict with "model", the state dict.'
        elif none := [key for key, part in weights.items() if not isinstance(part, torch.Tensor)]:
            wrong = f'"model" of {path.name} must hold tensors; {none[0]!r} is none.'
        elif type(state.get("step")) is not int:
            wrong = f'{path.name} must hold "step", an int.'
        if wrong:
            raise Unusable(wrong, "loads")
        return state

    def points(self, tag: str) -> list[tuple[int, float]]:
        """Steps and values of what was logged under a tag, in order."""
        try:
            return [(p.step, p.value) for p in boards.scalars(self.out / "logs", tag)]
        except (FileNotFoundError, KeyError):
            return []

    def rows(self) -> dict[str, list[int]]:
        """The split that the program wrote; ``Unusable`` if there is none."""
        try:
            split = json.loads((self.out / "split.json").read_text("utf-8"))
            return {part: [int(row) for row in split[part]] for part in ("train", "val")}
        except FileNotFoundError:
            raise Unusable("The training leaves no split.json.", "trains") from None
        except (ValueError, TypeError, KeyError) as error:
            raise Unusable(
                'split.json must be {"train": [rows], "val": [rows]} with row numbers; '
                f"it is not ({first_line(error)}).",
                "groups",
            ) from error


_SPARE: list[Keeper] = []  # a keeper takes seconds to load torch


@atexit.register
def _close_spare() -> None:
    while _SPARE:
        _SPARE.pop().close()


@dataclass
class _Result:
    """What a function of a lab gave or raised; who asks while it is made waits for the lock."""

    made: bool = False
    value: Any = None
    error: Exception | None = None
    lock: Any = field(default_factory=threading.Lock)


class Lab:
    """The runs of one examination. Each is made when it is first asked for, and kept."""

    def __init__(self, program: Path, folder: Path, jobs: int, limits: Limits):
        self.program, self.folder, self.limits, self.jobs = program, folder, limits, jobs
        self.copy = folder / "program"
        self.copy.mkdir()
        for file in program.parent.glob("*.py"):
            shutil.copy(file, self.copy)
        shutil.copy(program, self.copy / "project.py")
        self.source = (self.copy / "project.py").read_bytes()
        self.data = folder / "data"
        data.write(self.data)
        self.ended: list[Ended] = []
        self.keepers: queue.Queue[Keeper] = queue.Queue()
        self.elsewhere: queue.Queue[Keeper] = queue.Queue()
        self.all_keepers = [_SPARE.pop(0) if _SPARE else Keeper() for _ in range(jobs + 1)]
        for keeper in self.all_keepers[:jobs]:
            self.keepers.put(keeper)
        self.elsewhere.put(self.all_keepers[jobs])
        self.results: dict[Any, _Result] = {}
        self.lock = threading.Lock()
        self.threads: list[threading.Thread] = []
        self.closed = False

    def close(self) -> None:
        """End what is still running. Keepers that are free stay for the next examination."""
        self.closed = True
        for keepers in (self.keepers, self.elsewhere):
            with contextlib.suppress(queue.Empty):
                while True:
                    _SPARE.append(keepers.get_nowait())
        for keeper in self.all_keepers:
            if keeper not in _SPARE:
                keeper.close()
        for thread in self.threads:
            thread.join()

    def begin(self) -> None:
        """Start what a program that does well needs, beside the trials."""
        if self.get(base).ended.fine:
            for _ in range(self.jobs - 1):
                self.threads.append(threading.Thread(target=self._ahead))
                self.threads[-1].start()

    def _ahead(self) -> None:
        for make in (killed, *map(seeded, SEEDS[1:]), mixed, swapped):
            if not self.closed:
                with contextlib.suppress(Exception):  # told to the trial that asks
                    self.get(make)

    def get(self, make: Callable[[Lab], Any]) -> Any:
        """The result of a function of this lab, which is called once; or what it raised."""
        with self.lock:
            result = self.results.setdefault(make, _Result())
        with result.lock:
            if not result.made:
                try:
                    result.value = make(self)
                except Exception as error:
                    result.error = error
                result.made = True
        if result.error is not None:
            raise result.error
        return result.value

    def train(self, name: str, *words: str, source: Path | None = None, **order) -> Trained:
        """Train into the folder ``name``, which may be there already."""
        out = self.folder / "outs" / name
        out.mkdir(parents=True, exist_ok=True)
        words = ("train", "--data", str(source or self.data), "--out", str(out), *words)
        return Trained(self.run(words, out, **order), out)

    def predict(self, model: Path, images: np.ndarray, *words: str, **order) -> np.ndarray:
        """The probabilities that a model gives; ``Failed`` if these are none."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        np.savez(place / "images.npz", images=images)
        out = place / "out" / "predictions.npz"
        out.parent.mkdir()
        given = ("--model", str(model), "--images", str(place / "images.npz"), "--out", str(out))
        ended = self.run(("predict", *given, *words), out.parent, **order)
        if not ended.fine:
            raise Failed(f"`predict` {told(ended, self.limits)}")
        try:
            with np.load(out) as file:
                given = file["probabilities"].astype(np.float64)
        except Exception as error:
            raise Failed(
                f"`predict` writes no file with `probabilities` ({first_line(error)})."
            ) from error
        if given.shape != (len(images), data.CLASSES):
            raise Failed(
                f"`probabilities` has the shape {given.shape} instead of {(len(images), 10)}."
            )
        if not (given >= -1e-6).all() or not np.allclose(given.sum(axis=1), 1, atol=1e-3):
            raise Failed("Rows of `probabilities` are not probabilities: they must sum to 1.")
        return given

    def run(
        self,
        words: Sequence[str],
        out: Path,
        folder: Path | None = None,
        elsewhere: bool = False,
        **order,
    ) -> Ended:
        """Run ``project.py``; ``elsewhere`` is a Python that orders sets in another way."""
        home = tempfile.mkdtemp(dir=self.folder, prefix="home-")
        here = Path(helpers.__file__).parents[1] / "chapters" / "project"
        hidden = (str(here), _digits_file(), *order.pop("hidden", ()))
        file_limit = order.pop("file_limit", None)
        limits = replace(self.limits, file=file_limit) if file_limit else self.limits
        asked = Order(
            words=tuple(words),
            folder=str(folder or self.copy),
            out=str(out),
            home=home,
            hidden=hidden,
            limits=limits,
            **order,
        )
        keepers = self.elsewhere if elsewhere else self.keepers
        keeper = keepers.get()
        try:
            ended = keeper.run(asked)
        finally:
            keepers.put(keeper)
        self.ended.append(ended)
        shutil.rmtree(home, ignore_errors=True)
        return ended


def _digits_file() -> str:
    import sklearn.datasets

    return str(Path(sklearn.datasets.__file__).parent / "data")


LIMITS = {
    "seconds": "was ended after {seconds:.0f} s: it takes too long or waits for something.",
    "processor": "used more than the {processor} s of processor time that it may use.",
    "memory": "used more than {memory:,} bytes of memory.",
    "printed": "printed more than {printed:,} bytes.",
    "file": "wrote a file of more than {file:,} bytes.",
    "disk": "wrote more than {disk:,} bytes.",
    "processes": "started more than {processes} processes.",
}


def told(ended: Ended, limits: Limits) -> str:
    """What became of a run that did not end well, to follow after its name."""
    if ended.why == "keeper":
        return "ended the process that started it."
    if ended.why in LIMITS:
        return LIMITS[ended.why].format(**vars(limits))
    said = last_line(ended)
    how = f"was ended by signal {-ended.code}" if ended.code < 0 else f"ended with {ended.code}"
    return f"{how}{': ' + said if said else '.'}"


def last_line(ended: Ended) -> str:
    lines = [line.strip() for line in ended.printed.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


# The runs that several trials look at


def base(lab: Lab) -> Trained:
    """Seed 0, nothing special."""
    return lab.train("base", "--seed", "0")


def again(lab: Lab) -> Trained:
    """The same once more, in another Python."""
    return lab.train("again", "--seed", "0", elsewhere=True)


def swapped(lab: Lab) -> Trained:
    """The same in another Python, with other test data: labels permuted, images replaced."""
    draw = np.random.default_rng(1)
    part = data.part("test")
    images = draw.random(part.images.shape, dtype=np.float32)
    other = part._replace(images=images, labels=draw.permutation(part.labels))
    return lab.train("swapped", "--seed", "0", source=_variant(lab, "test", other), elsewhere=True)


def moved_images(lab: Lab) -> data.Part:
    """The training rows; the images of the validation rows have changed places among them."""
    part = data.part("train")
    rows = np.array(lab.get(base).rows()["val"])
    images = part.images.copy()
    images[rows] = images[np.random.default_rng(2).permutation(rows)]
    return part._replace(images=images)


def mixed(lab: Lab) -> Trained:
    """Validation images in other places, and validated less often."""
    source = _variant(lab, "train", moved_images(lab))
    return lab.train("mixed", "--seed", "0", "--eval-every", "3", source=source)


def unmatched(lab: Lab) -> Trained:
    """Validation images in other places."""
    return lab.train("unmatched", "--seed", "0", source=_variant(lab, "train", moved_images(lab)))


def seldom(lab: Lab) -> Trained:
    """Validated less often."""
    return lab.train("seldom", "--seed", "0", "--eval-every", "3")


def _seeded(seed: int) -> Callable[[Lab], Trained]:
    return base if seed == 0 else lambda lab: lab.train(f"seed {seed}", "--seed", str(seed))


_SEEDED = {seed: _seeded(seed) for seed in SEEDS}


def seeded(seed: int) -> Callable[[Lab], Trained]:
    return _SEEDED[seed]


@dataclass
class Killed:
    """A training that was killed and resumed."""

    end: Trained | None
    steps: list[int]  # of last.pt after each kill; 0 where there was none


def half(lab: Lab) -> Killed:
    """Seed 0, killed two times."""
    return _killed(lab, "half", KILLS[:2], Killed(None, []))


def killed(lab: Lab) -> Killed:
    """The same three times more, one of them in the middle of a write; then trained to the end."""
    before = lab.get(half)
    shutil.copytree(before.end.out, lab.folder / "outs" / "killed")
    after = _killed(lab, "killed", KILLS[2:], before)
    shutil.copytree(after.end.out, lab.folder / "outs" / "unfinished")
    after.end = lab.train("killed", "--seed", "0", "--resume")
    if not after.end.ended.fine:
        raise Unusable(f"Resumed after five kills, it {told(after.end.ended, lab.limits)}", "kills")
    return after


def share_of_the_rest(lab: Lab, number: int) -> float:
    """What is left after the five kills, as a share of a whole training, both measured anew."""
    name = f"rest {number}"
    shutil.copytree(lab.folder / "outs" / "unfinished", lab.folder / "outs" / name)
    rest = lab.train(name, "--seed", "0", "--resume").ended.processor
    return rest / lab.train(f"whole {number}", "--seed", "0").ended.processor


def _killed(lab: Lab, name: str, kills: tuple, before: Killed) -> Killed:
    first = needed(lab, base)
    work = first.ended.processor - first.ended.first
    end, steps = before.end, list(before.steps)
    for share in kills:
        when: dict[str, Any] = {"break_at": max(first.file("last").stat().st_size - 100, 1)}
        if share is not None:
            seconds = work * share * np.random.default_rng().uniform(0.8, 1.1)
            when = {"kill_after": seconds, "saved": str(lab.folder / "outs" / name / "last.pt")}
        end = lab.train(name, "--seed", "0", *(["--resume"] if steps else []), **when)
        if not (end.ended.fine or end.ended.why == "killed"):
            said = f"Resumed after {len(steps)} kills, it {told(end.ended, lab.limits)}"
            raise Unusable(said, "kills")
        try:
            steps.append(end.state("last")["step"])
        except Unusable:  # none yet, or half of one
            steps.append(0)
    return Killed(end, steps)


def unseen(seed: int) -> Callable[[Lab], np.ndarray]:
    return _UNSEEN[seed]


def _unseen(seed: int) -> Callable[[Lab], np.ndarray]:
    """Probabilities for the unseen digits, and after them for the letters."""
    return lambda lab: answers(lab, needed(lab, seeded(seed)), questions())


_UNSEEN = {seed: _unseen(seed) for seed in SEEDS}


def questions() -> np.ndarray:
    return np.concatenate([data.part("unseen").images, data.letters()])


def answers(lab: Lab, trained: Trained, images: np.ndarray, *words: str) -> np.ndarray:
    """Probabilities for images; ``Unusable`` if ``predict`` does not work at all."""
    trained.file("best")
    try:
        return lab.predict(trained.out, images, *words)
    except Failed as failed:
        raise Unusable(str(failed), "predicts") from failed


def needed(lab: Lab, make: Callable[[Lab], Trained]) -> Trained:
    """A run that has to be fine; ``Failed`` if it is not, ``Untried`` if the first one is not."""
    if not lab.get(base).ended.fine:
        raise Untried("The training does not end as it should, so this could not be tried.")
    trained = lab.get(make)
    if not trained.ended.fine:
        raise Failed(f"`train` {told(trained.ended, lab.limits)}")
    return trained


def _variant(lab: Lab, name: str, part: data.Part) -> Path:
    """A copy of the data folder in which one file holds other rows."""
    folder = Path(tempfile.mkdtemp(dir=lab.folder, prefix="data-"))
    shutil.copytree(lab.data, folder, dirs_exist_ok=True)
    data.save(folder / f"{name}.npz", part)
    return folder


def as_from_a_gpu(source: Path, target: Path) -> None:
    """Copy a checkpoint, with the tensors marked as those of another device."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for record in old.infolist():
            content = old.read(record)
            if record.filename.endswith("data.pkl"):
                content = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            new.writestr(record.filename, content)
