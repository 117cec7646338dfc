"""Event files on disk: which runs a log directory has, and what each run logged, in order."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

LogDir = str | os.PathLike[str]
MOST_KEPT = 64  # files whose events are kept


def runs(logdir: LogDir) -> list[str]:
    """The runs below ``logdir``, sorted, each named as TensorBoard names it.

    A run is a directory with event files. Its name is its path below ``logdir``, with ``/`` on
    every system; ``logdir`` itself is the run ``"."``. Raises ``FileNotFoundError`` if ``logdir``
    does not exist or has no event file.
    """
    return list(files(logdir))


def next_second() -> None:
    """Wait until the clock shows another second, before a run gets a second writer.

    TensorBoard reads the files of a run in the order of their names. They begin with the second in
    which the writer was made. (The readers here need no pause: they know a name's numbers.)
    """
    now = int(time.time())
    while int(time.time()) == now:
        time.sleep(0.01)


def files(logdir: LogDir) -> dict[str, list[Path]]:
    """The event files of each run, by its name, the oldest first. Raises as ``runs`` does."""
    root = Path(logdir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"no log directory at {str(root)!r} (seen from {str(Path.cwd())!r}): give the "
            "directory that the SummaryWriter got, or one above it"
        )
    found: dict[str, list[Path]] = {}
    for folder, names in _folders(root, ()):
        events = sorted((name for name in names if "tfevents" in name), key=by_number)
        if events:
            run = Path(folder).relative_to(root).as_posix()
            found[run] = [Path(folder, name) for name in events]
    if not found:
        raise FileNotFoundError(
            f"no event file in {str(root)!r} or below: a SummaryWriter makes one named "
            "'events.out.tfevents.…' in its log directory as soon as it is made"
        )
    return dict(sorted(found.items()))


def _folders(folder: Path, above: tuple[Path, ...]) -> Iterator[tuple[Path, list[str]]]:
    """A folder and those below, each with its files; links are followed, but in no circle."""
    real = folder.resolve()
    if real in above:
        return
    try:
        inside = list(folder.iterdir())
    except OSError:  # of somebody else, or just removed
        if not above:
            raise
        return
    folders = [path for path in inside if _is_folder(path)]
    yield folder, [path.name for path in inside if path not in folders]
    for path in folders:
        yield from _folders(path, (*above, real))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def events(paths: list[Path], purge: bool) -> Iterator[Event]:
    """The events of one run, from its files in order.

    A file is read as far as it is whole: a writer that was killed leaves half a record at its end.
    With ``purge``, a restart that was announced by ``purge_step=T`` hides the summaries that the
    run logged before it for the steps from ``T`` on.
    """
    logged = []
    for path in paths:
        logged += _read(path.resolve())
    if not purge:
        yield from logged
        return
    first_lost_step = float("inf")
    kept = []
    for event in reversed(logged):
        if event.step < first_lost_step or not event.HasField("summary"):
            kept.append(event)
        if event.session_log.status == SessionLog.START:
            first_lost_step = min(first_lost_step, event.step)
    yield from reversed(kept)


def by_number(name: str) -> list[str | int]:
    """Sorts ``….9`` before ``….10``: the names end in the time and a counter of the process."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)]


_kept: dict[Path, tuple[tuple[int, int], tuple[Event, ...]]] = {}


def _read(path: Path) -> tuple[Event, ...]:
    # The checksums cost a second for each few megabytes. Size and time tell an unchanged file.
    status = path.stat()
    version = status.st_size, status.st_mtime_ns
    if path not in _kept or _kept[path][0] != version:
        _kept.pop(path, None)
        while len(_kept) >= MOST_KEPT:
            del _kept[next(iter(_kept))]
        _kept[path] = version, tuple(LegacyEventFileLoader(str(path)).Load())
    return _kept[path][1]
