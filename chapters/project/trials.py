"""The trials: each one demand of the brief, tried on what the program does."""

from __future__ import annotations

import contextlib
import math
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from chapters.project import data, exam
from chapters.project.exam import Failed, Lab, Trained, Untried, answers, needed, told

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TARGETS = {"accuracy": 0.82, "worst": 0.55, "calibration": 0.10, "letters": 0.35, "sure": 0.9}
EACH_STEP = ("train/loss", "rate", "gradient norm")
EACH_VALIDATION = ("val/loss", "val/accuracy")
_SAID = tomllib.loads(Path(__file__).with_name("trials.toml").read_text("utf-8"))


@dataclass(frozen=True)
class Trial:
    """A demand in a sentence, what its failure means at work, and the chapter to read again.

    ``check`` returns what it saw, or raises ``Failed`` or ``Untried`` with a sentence. ``final`` is
    a trial on people and letters that nobody has seen: for the end of a project.
    """

    name: str
    check: Callable[[Lab], str]
    demand: str
    meaning: str
    chapter: str
    final: bool = False


TRIALS: list[Trial] = []


def trial(check: Callable[[Lab], str]) -> Callable[[Lab], str]:
    said = _SAID[check.__name__]
    demand = said["demand"].format(**TARGETS)
    TRIALS.append(Trial(check.__name__, check, **{**said, "demand": demand}))
    return check


@trial
def trains(lab: Lab) -> str:
    base = lab.get(exam.base)
    if not base.ended.fine:
        raise Failed(f"`train` {told(base.ended, lab.limits)}")
    missing = [
        name for name in ("best.pt", "last.pt", "split.json") if not (base.out / name).exists()
    ]
    missing += [] if (base.out / "logs").is_dir() else ["logs"]
    if missing:
        raise Failed(f"The training leaves no {' and no '.join(missing)}.")
    return f"It took {base.ended.processor:.1f} s of processor time."


@trial
def repeats(lab: Lab) -> str:
    one = needed(lab, exam.base)
    if not _difference(one, needed(lab, exam.swapped)):
        return "Two trainings gave the same bits."
    if found := _difference(one, needed(lab, exam.again)):
        raise Failed(f"Two trainings with the same seed differ: {found}")
    return "Two trainings gave the same bits."


@trial
def seeds(lab: Lab) -> str:
    if not _difference(needed(lab, exam.base), needed(lab, exam.seeded(1)), files=("best",)):
        raise Failed("Seeds 0 and 1 gave the same weights: `--seed` does nothing.")
    return "Seeds 0 and 1 gave different weights."


@trial
def test(lab: Lab) -> str:
    one = needed(lab, exam.base)
    if not _difference(one, needed(lab, exam.swapped)):
        return "With other images and labels in test.npz, the weights are the same."
    if _difference(one, needed(lab, exam.again)):
        raise Untried(
            "Weights differ from run to run, so that the test file's share can't be seen."
        )
    raise Failed(
        "With other images and labels in test.npz, the weights are others: the training or the "
        "choice looks at the test file."
    )


@trial
def groups(lab: Lab) -> str:
    rows = needed(lab, exam.base).rows()
    part = data.part("train")
    train, val = rows["train"], rows["val"]
    outside = [row for row in train + val if not 0 <= row < len(part.labels)]
    if outside:
        raise Failed(f"split.json names row {outside[0]}; train.npz has {len(part.labels)} rows.")
    if len(set(val)) < 100 or not train:
        raise Failed(f"split.json has {len(train)} training and {len(val)} validation rows.")
    if both := set(train) & set(val):
        raise Failed(f"{len(both)} rows are in training and in validation, such as {min(both)}.")
    if both := {*part.writers[train].tolist()} & {*part.writers[val].tolist()}:
        raise Failed(
            f"{len(both)} writers are in training and in validation, such as writer {min(both)}."
        )
    return f"{len(train)} rows to train on, {len(val)} of other writers to validate."


@trial
def apart(lab: Lab) -> str:
    one = needed(lab, exam.base)
    if _first_change(one, needed(lab, exam.mixed)):
        other = needed(lab, exam.unmatched)
        if other.rows() != one.rows():
            raise Failed("With other images in the validation rows, split.json is another one.")
        if step := _first_change(one, other):
            raise Failed(
                "The images of the validation rows have changed places, and train/loss is another "
                f"one from step {step} on: the training uses these rows."
            )
    return "With other images in the validation rows, each step of the training is the same."


@trial
def chooses(lab: Lab) -> str:
    runs = [exam.base, exam.mixed, exam.seeded(1), exam.seeded(2)]
    for trained in [needed(lab, run) for run in runs]:
        step = trained.state("best")["step"]
        accuracy, loss = (trained.points(tag) for tag in ("val/accuracy", "val/loss"))
        if not accuracy or not loss:
            raise Untried("val/accuracy or val/loss is not in the logs.")
        best = {s for s, value in accuracy if value == max(value for _, value in accuracy)}
        best |= {s for s, value in loss if value == min(value for _, value in loss)}
        if step not in best:
            raise Failed(
                f'"step" of best.pt is {step}. The log has its highest val/accuracy or lowest '
                f"val/loss at step {' or '.join(map(str, sorted(best)))}."
            )
    return "In four trainings, best.pt is from the best validation."


@trial
def promised(lab: Lab) -> str:
    one = needed(lab, exam.base)
    step, rows, part = one.state("best")["step"], one.rows()["val"], data.part("train")
    logged = dict(one.points("val/accuracy")).get(step)
    if logged is None:
        raise Untried(f"The log has no val/accuracy at step {step}, which best.pt names.")
    right = answers(lab, one, part.images[rows]).argmax(axis=1) == part.labels[rows]
    if abs(right.mean() - logged) > 0.005 + 1 / len(rows):
        raise Failed(
            f"On the validation rows, `predict` is right for {right.mean():.1%}. The log says "
            f"{logged:.1%} at step {step}, which best.pt names."
        )
    return f"Both say {logged:.1%}."


@trial
def validation(lab: Lab) -> str:
    one, other = needed(lab, exam.base), needed(lab, exam.mixed)
    if _first_change(one, other, whatever_rate=True):
        other = needed(lab, exam.seldom)
        if step := _first_change(one, other, whatever_rate=True):
            raise Failed(
                f"With `--eval-every 3`, train/loss is another one from step {step} on: validating "
                "changes the mode, the statistics or the random numbers of the training."
            )
    often, less = (len(run.points("val/loss")) for run in (one, other))
    if not often:
        raise Untried("val/loss is not in the logs.")
    if less >= often:
        raise Failed(f"`--eval-every 3` validates {less} times, `--eval-every 1` {often} times.")
    return f"{often} or {less} validations, the same training."


@trial
def batches(lab: Lab) -> str:
    one = needed(lab, exam.base)
    images = data.part("unseen").images
    order = np.random.default_rng(3).permutation(len(images))
    whole = answers(lab, one, images, "--batch-size", "64")
    if np.abs(lab.predict(one.out, images[order], "--batch-size", "7") - whole[order]).max() < 1e-4:
        return "Batches of 64, and of 7 in another order, gave the same."
    if (gap := np.abs(lab.predict(one.out, images, "--batch-size", "7") - whole).max()) > 1e-4:
        raise Failed(f"With batches of 7 instead of 64, a probability changes by {gap:.2g}.")
    raise Failed("With the images in another order, probabilities change.")


@trial
def kills(lab: Lab) -> str:
    one = needed(lab, exam.base)
    end = lab.get(exam.killed).end
    if found := _difference(one, end):
        raise Failed(f"Killed and resumed, the training ends differently: {found}")
    return "The same bits as the training that nobody stopped."


@trial
def resumes(lab: Lab) -> str:
    one, killed = needed(lab, exam.base), lab.get(exam.killed)
    share = killed.end.ended.processor / one.ended.processor
    step, last = killed.steps[-1], one.state("last")["step"]
    if share > 0.85:  # or the machine had other work to do
        shares = [share, *(exam.share_of_the_rest(lab, number) for number in (1, 2))]
        share = statistics.median(shares)
    if share > 0.85:
        raise Failed(
            f"After five kills, last.pt was at step {step} of {last}; the rest took {share:.0%} of "
            "the time of a whole training."
        )
    return f"After five kills, it went on from step {step} of {last}."


@trial
def loads(lab: Lab) -> str:
    one = needed(lab, exam.base)
    for name in ("best", "last"):
        one.state(name)
        one.state(name, device="meta")
    weights = one.state("best")["model"].values()
    return f"{sum(tensor.numel() for tensor in weights):,} numbers in {len(weights)} tensors."


@trial
def predicts(lab: Lab) -> str:
    one = needed(lab, exam.base)
    given = answers(lab, one, data.part("test").images)
    return f"{given.shape[0]} images, {given.shape[1]} probabilities each."


@trial
def device(lab: Lab) -> str:
    one = needed(lab, exam.base)
    images = data.part("unseen").images[:50]
    there = Path(tempfile.mkdtemp(dir=lab.folder))
    exam.as_from_a_gpu(one.file("best"), there / "best.pt")
    _same(answers(lab, one, images), lab.predict(there, images), "a checkpoint from a GPU")
    return "A checkpoint whose tensors are marked as those of a GPU gives the same."


@trial
def moves(lab: Lab) -> str:
    one = needed(lab, exam.base)
    images = data.part("unseen").images[:50]
    here = answers(lab, one, images)
    there = Path(tempfile.mkdtemp(dir=lab.folder))
    shutil.copytree(lab.copy, there / "program")
    shutil.copy(one.file("best"), there)
    hidden = tuple(map(str, (lab.data, lab.copy, lab.folder / "outs")))
    moved = lab.predict(there, images, folder=there / "program", hidden=hidden)
    _same(here, moved, "another folder")
    return "In another folder, with best.pt alone, it gives the same."


@trial
def logs(lab: Lab) -> str:
    one = needed(lab, exam.base)
    _complete(one, one.state("last")["step"])
    norms = [value for _, value in one.points("gradient norm")]
    if min(norms) < 0 or len(set(norms)) < len(norms) / 2:
        raise Failed("The gradient norm is the same in most steps: it is not that of each step.")
    if min(value for _, value in one.points("rate")) < 0:
        raise Failed("A rate is negative.")
    return f"{len(norms)} steps, {len(one.points('val/loss'))} validations."


@trial
def whole(lab: Lab) -> str:
    one = needed(lab, exam.base)
    end = lab.get(exam.killed).end
    _complete(end, end.state("last")["step"])
    for tag in EACH_VALIDATION:
        wanted, got = ([step for step, _ in run.points(tag)] for run in (one, end))
        if wanted != got:
            raise Failed(
                f"{tag} was logged at steps {_some(wanted)}; after resuming at {_some(got)}."
            )
    return "Each step once."


@trial
def label(lab: Lab) -> str:
    part = data.part("train")
    row = needed(lab, exam.base).rows()["train"][17]
    labels = part.labels.copy()
    labels[row] = 10
    return _refuses(lab, part._replace(labels=labels), ("train.npz", row))


@trial
def image(lab: Lab) -> str:
    part = data.part("train")
    row = needed(lab, exam.base).rows()["train"][23]
    images = part.images.copy()
    images[row, 3, 4] = math.nan
    return _refuses(lab, part._replace(images=images), ("train.npz", row))


@trial
def empty(lab: Lab) -> str:
    return _refuses(lab, None, ("train.npz",))


@trial
def rate(lab: Lab) -> str:
    for wrong in ("-0.1", "0", "nan"):
        said = _refuses(lab, data.part("train"), ("rate",), "--rate", wrong)
    return said


@trial
def disk(lab: Lab) -> str:
    one = needed(lab, exam.base)
    if not lab.get(exam.half).steps[-1]:
        raise Untried("There was no last.pt after two kills, so that nothing could be lost.")
    words = ("last.pt", "best.pt", "space", "disk", "too large")
    limit = one.file("last").stat().st_size - 100
    out = _refused(lab, lab.data, words, any, file_limit=max(limit, 1))
    end = lab.train(out.name, "--seed", "0", "--resume")
    if not end.ended.fine:
        raise Failed(f"With space again, `train --resume` {told(end.ended, lab.limits)}")
    if found := _difference(one, end):
        raise Failed(f"With space again and resumed, the training ends differently: {found}")
    return "It says so, and with space again it ends with the same bits."


@trial
def accuracy(lab: Lab) -> str:
    hits = [(answers.argmax(axis=1) == truth).mean() for answers, truth in _answers(lab)]
    each = ", ".join(f"{hit:.1%}" for hit in hits)
    said = f"{statistics.mean(hits):.1%} on average: {each} with three seeds."
    if statistics.mean(hits) < TARGETS["accuracy"]:
        raise Failed(f"{said} The target is {TARGETS['accuracy']:.0%}.")
    return said


@trial
def rare(lab: Lab) -> str:
    recalls = recall(lab)
    worst = int(recalls.argmin())
    said = f"The worst is {worst}, of which {recalls[worst]:.1%} are read right."
    if recalls[worst] < TARGETS["worst"]:
        raise Failed(f"{said} The target is {TARGETS['worst']:.0%}.")
    return said


@trial
def calibration(lab: Lab) -> str:
    errors = [calibration_error(answers, truth) for answers, truth in _answers(lab)]
    confidence = statistics.mean(answers.max(axis=1).mean() for answers, _ in _answers(lab))
    right = statistics.mean((a.argmax(axis=1) == truth).mean() for a, truth in _answers(lab))
    said = (
        f"{statistics.mean(errors):.3f}: it says {confidence:.1%} on average and is right in "
        f"{right:.1%}."
    )
    if statistics.mean(errors) > TARGETS["calibration"]:
        raise Failed(f"{said} The target is {TARGETS['calibration']}.")
    return said


@trial
def letters(lab: Lab) -> str:
    count = len(data.part("unseen").labels)
    shares = [
        (answers[count:].max(axis=1) > TARGETS["sure"]).mean() for answers in _all_answers(lab)
    ]
    said = f"{statistics.mean(shares):.1%} of the letters."
    if statistics.mean(shares) > TARGETS["letters"]:
        raise Failed(f"{said} The target is {TARGETS['letters']:.0%}.")
    return said


@trial
def folder(lab: Lab) -> str:
    lab.get(exam.base)
    deeds = [deed for ended in lab.ended for deed in ended.deeds]
    if deeds:
        kind, what = deeds[0]
        raise Failed(f"It tried to {kind} {what}.")
    if left := max(ended.left for ended in lab.ended):
        raise Failed(f"When it had ended, {left} of its processes were still there.")
    if (lab.copy / "project.py").read_bytes() != lab.source:
        raise Failed("It changed project.py.")
    return f"In {len(lab.ended)} runs, it did nothing else."


# What several trials need


def recall(lab: Lab) -> np.ndarray:
    """The share of each digit that is read right, the mean of three seeds."""
    hits = [(answers.argmax(axis=1) == truth, truth) for answers, truth in _answers(lab)]
    return np.array(
        [np.mean([hit[truth == c].mean() for hit, truth in hits]) for c in range(data.CLASSES)]
    )


def calibration_error(answers: np.ndarray, truth: np.ndarray, bins: int = 10) -> float:
    """Guo et al. 2017, equation 3: |accuracy - confidence| in each bin, weighed by its size."""
    confidence, hit = answers.max(axis=1), answers.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    inside = [place == b for b in range(bins) if (place == b).any()]
    return float(sum(abs(hit[b].mean() - confidence[b].mean()) * b.mean() for b in inside))


def _all_answers(lab: Lab) -> list[np.ndarray]:
    needed(lab, exam.base)
    return [lab.get(exam.unseen(seed)) for seed in exam.SEEDS]


def _answers(lab: Lab) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each seed: probabilities for the unseen digits, and what they are."""
    truth = data.part("unseen").labels
    return [(answers[: len(truth)], truth) for answers in _all_answers(lab)]


def _difference(one: Trained, other: Trained, files=("best", "last")) -> str:
    """The first difference of two trainings' weights, in words; "" if there is none."""
    for name in files:
        ours, theirs = one.state(name)["model"], other.state(name)["model"]
        if ours.keys() != theirs.keys():
            return f"{name}.pt holds other names."
        for key in ours:
            if ours[key].shape != theirs[key].shape or ours[key].dtype != theirs[key].dtype:
                return f"{key} in {name}.pt has another form."
            if not torch.equal(_bits(ours[key]), _bits(theirs[key])):
                gap = (ours[key].double() - theirs[key].double()).abs().max().item()
                return f"{key} in {name}.pt by up to {gap:.2g}."
    return ""


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).contiguous().view(torch.uint8)


def _first_change(one: Trained, other: Trained, whatever_rate: bool = False) -> int | None:
    """The first step whose train/loss differs, where the rates were the same up to there."""
    ours, theirs = (dict(run.points("train/loss")) for run in (one, other))
    rates = [dict(run.points("rate")) for run in (one, other)]
    if not ours or not theirs:
        raise Untried("train/loss is not in the logs.")
    for step in sorted(ours.keys() & theirs.keys()):
        if not whatever_rate and rates[0].get(step) != rates[1].get(step):
            return None  # validation chose the rate, as it may
        if not math.isclose(ours[step], theirs[step], rel_tol=1e-3, abs_tol=1e-4):
            return step
    return None


def _same(one: np.ndarray, other: np.ndarray, where: str) -> None:
    if (gap := np.abs(one - other).max()) > 1e-4:
        raise Failed(f"With {where}, a probability changes by {gap:.2g}.")


def _complete(trained: Trained, last: int) -> None:
    """Each tag is there, each step once, each number finite."""
    for tag in EACH_STEP + EACH_VALIDATION:
        points = trained.points(tag)
        if not points:
            raise Failed(f"{tag} is not in the logs.")
        steps = [step for step, _ in points]
        if broken := [step for step, value in points if not math.isfinite(value)]:
            raise Failed(f"{tag} is not finite at step {broken[0]}.")
        if twice := [step for step in set(steps) if steps.count(step) > 1]:
            raise Failed(f"{tag} is there {steps.count(min(twice))} times for step {min(twice)}.")
        wanted = range(1, last + 1) if tag in EACH_STEP else [last]
        if gaps := set(wanted) - set(steps):
            raise Failed(f"{tag} has no step {min(gaps)}; last.pt says that {last} were done.")
        if max(steps) > last or min(steps) < 1:
            raise Failed(f"{tag} has steps {min(steps)} to {max(steps)}; last.pt is at {last}.")


def _some(steps: list[int]) -> str:
    return ", ".join(map(str, steps[:4])) + ("…" if len(steps) > 4 else "")


def _refuses(lab: Lab, part: data.Part | None, words: tuple, *more: str) -> str:
    source = Path(tempfile.mkdtemp(dir=lab.folder, prefix="data-"))
    if part is not None:
        shutil.copytree(lab.data, source, dirs_exist_ok=True)
        data.save(source / "train.npz", part)
    needed(lab, exam.base)
    out = _refused(lab, source, words, all, *more)
    shutil.rmtree(out)
    return "It says what is wrong and where, and the checkpoints are as they were."


def _refused(lab: Lab, source: Path, words: tuple, enough: Callable, *more: str, **order) -> Path:
    """Resume a training that must be refused; the folder, whose checkpoints are as they were."""
    out = Path(tempfile.mkdtemp(dir=lab.folder / "outs", prefix="refused-"))
    begun, resume = lab.get(exam.base).out, []
    with contextlib.suppress(Failed):  # it can't resume
        half = lab.get(exam.half)
        if half.steps[-1]:  # the last kill left a whole last.pt
            begun, resume = half.end.out, ["--resume"]
    shutil.copytree(begun, out, dirs_exist_ok=True)
    before = _checkpoints(out)
    trained = lab.train(out.name, "--seed", "0", *resume, *more, source=source, **order)
    ended, said = trained.ended, exam.last_line(trained.ended)
    if ended.fine:
        raise Failed("It ends as if nothing were wrong.")
    if ended.why or ended.code < 0:
        raise Failed(f"It {told(ended, lab.limits)}")
    whole = _whole(out) if enough is any else set()  # a full disk may come after a good save
    if lost := [
        name for name in before.items() - _checkpoints(out).items() if name[0] not in whole
    ]:
        raise Failed(f"It stops, but {min(lost)[0]} is not what it was before.")
    missing = [str(word) for word in words if str(word).lower() not in said.lower()]
    if missing and (enough is all or len(missing) == len(words)):
        wanted = " and ".join(missing) if enough is all else "the file or the lack of space"
        raise Failed(f"It stops, but its last line does not name {wanted}: {said!r}")
    return out


def _whole(out: Path) -> set[str]:
    """The names of the checkpoints that load, whatever is in them."""
    found = set()
    for path in out.glob("*.pt"):
        with contextlib.suppress(Exception):
            torch.load(path, map_location="cpu", weights_only=True)
            found.add(path.name)
    return found


def _checkpoints(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.pt"))}
