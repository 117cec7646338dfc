"""Processes that save checkpoints until something stops them. `test_checkpoint_faults.py` runs it.

    python checkpoint_writer.py kill FOLDER      SIGKILL at random moments
    python checkpoint_writer.py crash FOLDER     the end of the process at each step of a save
    python checkpoint_writer.py limit FOLDER     no byte more than a limit into a file
    python checkpoint_writer.py train FOLDER     trainings, saved half-way and at their end
    python checkpoint_writer.py resume FOLDER    the same, from what was saved half-way

Each prints one JSON object. Importing torch takes longer than the rest, so the processes that are
to be stopped are forked from this one: POSIX only, but for the last two.
"""

import io
import itertools
import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from helpers import checkpoint

# What is saved: its parts agree with each other, and tell a checkpoint from the one before.


def parts(step, n=200_000):
    """Four tensors of ``n`` numbers in all, and a list, all filled with ``step``."""
    weights = {f"layer{i}": torch.full((n // 4,), float(step)) for i in range(4)}
    return {"weights": weights, "log": [step] * 10, "step": step}


def whole(state):
    """Whether a state is that of one step."""
    return not checkpoint.differences(state, parts(state["step"]))


def forked(body):
    """The process id of a copy of this process that runs ``body`` and ends."""
    with warnings.catch_warnings():
        # torch's threads hold no lock that is needed here
        warnings.filterwarnings("ignore", ".*fork.* may lead to deadlocks", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            body()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


# Killed


def killed_after(wait, save, first):
    """Let a process save the steps from ``first`` on, wait, and kill it.

    Returns the last step whose save had returned, or 0.
    """
    reading, writing = os.pipe()
    parent = os.getpid()

    def victim():
        for step in itertools.count(first):
            save(step)
            os.write(writing, step.to_bytes(8, "little"))
            if os.getppid() != parent:
                return

    pid = forked(victim)
    os.close(writing)
    wait()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with open(reading, "rb") as pipe:
        return int.from_bytes(pipe.read()[-8:], "little")


def unfinished(folder):
    return set(folder.glob(".*.tmp"))


def moments(folder, seconds, chance):
    """When to kill: by turns at any moment, and soon after an unfinished file has appeared."""

    def at_any_moment():
        time.sleep(chance.uniform(0, 3 * seconds))

    def soon_after_the_beginning_of_a_file():
        before, patience = unfinished(folder), time.monotonic() + 10
        while unfinished(folder) <= before and time.monotonic() < patience:
            pass
        time.sleep(chance.uniform(0, 0.001))

    return itertools.cycle([at_any_moment, soon_after_the_beginning_of_a_file])


def kill(folder, kills, save, load):
    """How many kills left an unfinished file, and after how many the last checkpoint was good."""
    names = ("kills", "in mid-save", "in mid-write", "after a save", "survived", "steps")
    seen = dict.fromkeys(names, 0)
    start, last = time.monotonic(), 5
    for step in range(1, last + 1):
        save(step)
    seconds = (time.monotonic() - start) / last
    left = unfinished(folder)
    for wait in itertools.islice(moments(folder, seconds, random.Random(0)), kills):
        finished = killed_after(wait, save, last + 1)
        new, left = unfinished(folder) - left, unfinished(folder)
        state = load()
        seen["kills"] += 1
        seen["in mid-save"] += bool(new)
        seen["in mid-write"] += any(is_cut_off(path) for path in new)
        seen["after a save"] += finished > last
        seen["survived"] += whole(state) and state["step"] >= max(finished, last)
        last = state["step"]
    return {**seen, "steps": last}


def is_cut_off(path):
    try:
        checkpoint.read(path)
    except checkpoint.DamagedError:
        return True
    return False


def kill_saves_of_one_file(folder):
    path = folder / "checkpoint.pt"
    return kill(
        folder,
        kills=100,
        save=lambda step: checkpoint.save(path, **parts(step)),
        load=lambda: checkpoint.load(path),
    )


def kill_saves_of_a_folder(folder):
    kept = checkpoint.Checkpoints(folder, keep=2)

    def save(step):
        given = parts(step)
        del given["step"]
        kept.save(step, score=step % 7, **given)

    return kill(folder, kills=100, save=save, load=kept.load)


def kill_plain_saves(folder):
    """The control: after how many kills of ``torch.save`` into the file itself it was lost."""
    path = folder / "checkpoint.pt"
    chance = random.Random(0)
    seen = {"kills": 20, "lost": 0}
    for _ in range(seen["kills"]):
        torch.save(parts(0), path)
        moment = chance.uniform(0.01, 0.05)
        killed_after(
            lambda moment=moment: time.sleep(moment), lambda step: torch.save(parts(step), path), 1
        )
        try:
            seen["lost"] += not whole(torch.load(path))
        except Exception:
            seen["lost"] += 1
    return seen


def run_kills(folder):
    seen = {}
    for name, act in [
        ("save", kill_saves_of_one_file),
        ("Checkpoints", kill_saves_of_a_folder),
        ("torch.save", kill_plain_saves),
    ]:
        (folder / name).mkdir()
        seen[name] = act(folder / name)
    return seen


# Crashed


class Steps:
    """Counts the steps of a save that reach the system, and ends the process at the last of them.

    Each writing is two steps: before it, and when half of it is done.
    """

    def __init__(self, last=None):
        self.taken, self.last = [], last

    def take(self, name):
        if len(self.taken) == self.last:
            os._exit(3)
        self.taken.append(name)

    def watch(self):
        """From now on, in this process."""
        steps = self

        class Raw(io.FileIO):
            def write(self, data):
                steps.take("write")
                if len(steps.taken) == steps.last:
                    super().write(data[: len(data) // 2])
                steps.take("half")
                return super().write(data)

        def watched(name, function):
            def call(*arguments, **options):
                self.take(name)
                return function(*arguments, **options)

            return call

        def opened(path, mode):
            self.take(f"open {mode}")
            return io.BufferedWriter(Raw(path, mode)) if mode == "xb" else open(path, mode)

        checkpoint.open = opened
        for name in ("mkdir", "fsync", "replace", "open", "close", "unlink"):
            setattr(os, name, watched(name, getattr(os, name)))


def run_crashes(folder):
    """For each step: its name, and which checkpoint is there if the process ends before it."""
    path = folder / "checkpoint.pt"
    steps = Steps()

    def names_of_all_steps():
        steps.watch()
        checkpoint.save(path, **parts(1))
        (folder / "steps").write_text(json.dumps(steps.taken))

    os.waitpid(forked(names_of_all_steps), 0)
    names = json.loads((folder / "steps").read_text())
    found = []
    for last, name in enumerate(names):
        checkpoint.save(path, **parts(0))

        def victim(last=last):
            Steps(last).watch()
            checkpoint.save(path, **parts(1))

        _, status = os.waitpid(forked(victim), 0)
        assert os.WEXITSTATUS(status) == 3, f"the process did not end at step {last}, {name}"
        state = checkpoint.load(path)
        found.append([name, state["step"] if whole(state) else None])
    return {"crashes": found}


# Full


def run_limits(folder):
    """What a save says and leaves behind when a file may not grow beyond so many bytes."""
    import resource

    path = folder / "checkpoint.pt"
    checkpoint.save(path, **parts(0, n=4000))
    old, size = path.read_bytes(), path.stat().st_size
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    messages, harmed = set(), []
    limits = sorted({*range(0, size, 61), *range(256), size - 1})
    for limit in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            checkpoint.save(path, **parts(1, n=4000))
            messages.add(f"limit {limit}: it was written")
        except checkpoint.CheckpointError as error:
            messages.add(str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        if path.read_bytes() != old or os.listdir(folder) != [path.name]:
            harmed.append(limit)
    return {"limits": len(limits), "messages": sorted(messages), "harmed": harmed}


# Resumed

N = 7  # steps; an epoch has 6, so both halves of a training end within an epoch

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
}

PIECES = ("model", "buffers", "optimizer", "scheduler", "batches", "torch", "numpy", "python")


class Training:
    """A small training in which everything counts that a checkpoint may forget."""

    def __init__(self, optimizer, seed):
        torch.set_num_threads(1)  # sums depend on how many threads divide them
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        data = torch.Generator().manual_seed(0)
        self.x = torch.randn(47, 4, generator=data)
        self.y = torch.randint(3, (47,), generator=data)
        layers = (nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
        self.model = nn.Sequential(*layers)
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, N + 3, gamma=0.1)
        self.batches = checkpoint.ShuffledBatches(47, 8, seed)
        self.losses = []

    def run(self, steps):
        """Train so many steps more, the noise and the weight of each loss drawn anew."""
        taken = 0
        while taken < steps:
            for rows in itertools.islice(self.batches, steps - taken):
                noise = torch.from_numpy(np.random.normal(0, 0.1, (len(rows), 4))).float()
                logits = self.model(self.x[rows] + noise)
                loss = nn.functional.cross_entropy(logits, self.y[rows]) * random.uniform(0.5, 1)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                self.scheduler.step()
                self.losses.append(loss.item())
                taken += 1

    def parts(self):
        names = ("model", "optimizer", "scheduler", "batches")
        return {name: getattr(self, name) for name in names}

    def save(self, path):
        checkpoint.save(path, **self.parts(), random=checkpoint.random_state(), losses=self.losses)

    def resume(self, path, without=None):
        """Load what was saved, but for one of ``PIECES``."""
        taken = {name: part for name, part in self.parts().items() if name != without}
        own = checkpoint.random_state()
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        rest = checkpoint.load(path, **taken)
        if without == "buffers":
            self.model.load_state_dict(buffers, strict=False)
        generators = rest["random"]
        if without in generators:
            generators[without] = own[without]
        checkpoint.set_random_state(generators)
        self.losses = rest["losses"]


def run_trainings(folder):
    for optimizer in OPTIMIZERS:
        training = Training(optimizer, seed=0)
        training.run(N)
        training.save(folder / f"{optimizer}.pt")
        training.run(N)
        training.save(folder / f"{optimizer} true.pt")
    return {"process": os.getpid()}


def run_resumes(folder):
    for optimizer in OPTIMIZERS:
        for without in (None, *PIECES):
            training = Training(optimizer, seed=1)
            training.resume(folder / f"{optimizer}.pt", without)
            training.run(N)
            training.save(folder / f"{optimizer} without {without}.pt")
    return {"process": os.getpid()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    run = {
        "kill": run_kills,
        "crash": run_crashes,
        "limit": run_limits,
        "train": run_trainings,
        "resume": run_resumes,
    }
    command, place = sys.argv[1:]
    print(json.dumps(run[command](Path(place))))
