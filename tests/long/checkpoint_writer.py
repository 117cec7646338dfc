"""Processes that save checkpoints until something stops them. `test_checkpoint_faults.py` runs it.

    python checkpoint_writer.py kill FOLDER      SIGKILL at random moments
    python checkpoint_writer.py crash FOLDER     the end of the process at each step of a save

Each prints one JSON object. Importing torch takes longer than the rest, so the processes that are
to be stopped are forked from this one: POSIX only.
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

import torch

from helpers import checkpoint

# What is saved: its parts agree with each other, and tell a checkpoint from the one before.


def parts(step):
    """Four tensors and a list, all filled with ``step``."""
    weights = {f"layer{i}": torch.full((50_000,), float(step)) for i in range(4)}
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


def kill_saves(folder):
    """How many kills left an unfinished file, and after how many the last checkpoint was good."""
    names = ("kills", "in mid-save", "in mid-write", "after a save", "survived")
    seen = dict.fromkeys(names, 0)
    kept = checkpoint.Checkpoints(folder, keep=2)

    def save(step):
        given = parts(step)
        del given["step"]
        kept.save(step, score=step % 7, **given)

    start, last = time.monotonic(), 5
    for step in range(1, last + 1):
        save(step)
    seconds = (time.monotonic() - start) / last
    left = unfinished(folder)
    for wait in itertools.islice(moments(folder, seconds, random.Random(0)), 100):
        finished = killed_after(wait, save, last + 1)
        new, left = unfinished(folder) - left, unfinished(folder)
        state = kept.load()
        seen["kills"] += 1
        seen["in mid-save"] += bool(new)
        seen["in mid-write"] += any(is_cut_off(path) for path in new)
        seen["after a save"] += finished > last
        seen["survived"] += whole(state) and state["step"] >= max(finished, last)
        last = state["step"]
    return seen


def is_cut_off(path):
    try:
        checkpoint.read(path)
    except checkpoint.DamagedError:
        return True
    return False


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
    for name, act in [("Checkpoints", kill_saves), ("torch.save", kill_plain_saves)]:
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    run = {"kill": run_kills, "crash": run_crashes}
    command, place = sys.argv[1:]
    print(json.dumps(run[command](Path(place))))
