"""What a reader has done so far, in one small file that only ever grows."""

from __future__ import annotations

import json
from pathlib import Path

from helpers import runtime

#: from worst to best; an exercise keeps the best state it reached since its last reset
STATES = ("untried", "tried", "right")


def path() -> Path:
    """The progress file. One line is one event, so that two kernels can write at once and a damaged
    line costs no other."""
    return runtime.scratch("progress") / "progress.jsonl"


def states() -> dict[str, str]:
    """Exercise name -> "tried" or "right". Lines that cannot be read are passed over."""
    best: dict[str, str] = {}
    for event in _events():
        name, state = event.get("exercise"), event.get("state")
        if isinstance(event.get("reset"), str):
            prefix = event["reset"]
            best = {key: kept for key, kept in best.items() if not _covers(prefix, key)}
        elif isinstance(name, str) and state in STATES:
            best[name] = max(best.get(name, "untried"), state, key=STATES.index)
    return best


def note(name: str, state: str) -> str:
    """Note that an exercise was tried or got right. Returns "" or why it could not be noted."""
    if STATES.index(state) <= STATES.index(states().get(name, "untried")):
        return ""
    return _append({"exercise": name, "state": state})


def forget(prefix: str = "") -> str:
    """Forget one exercise ("module.linear"), one chapter ("module") or, with "", everything.

    Returns "" or why it could not be noted.
    """
    return _append({"reset": prefix})


def _covers(prefix: str, name: str) -> bool:
    return prefix in ("", name, name.partition(".")[0])


def _events() -> list[dict]:
    try:
        lines = path().read_bytes().splitlines()
    except OSError:
        return []
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def _append(event: dict) -> str:
    # The leading newline ends a line that another writer left unfinished.
    line = f"\n{json.dumps(event)}\n".encode()
    try:
        # Unbuffered, the line is one write at the end of the file.
        with open(path(), "ab", buffering=0) as file:
            file.write(line)
    except OSError as error:
        return f"Your progress could not be saved: {error.strerror} ({error.filename or path()})."
    return ""
