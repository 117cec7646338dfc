"""Programs that break one demand of the project's brief, as edits of the worked solutions.

``python -m tests.long.broken_projects [TRIAL …]`` lets each of them try all trials that do not need
a long training, and prints which trials refuse it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chapters.project import exam
from chapters.project.keeper import Limits
from chapters.project.trials import TRIALS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SOLUTIONS = Path(__file__).parents[1] / "chapters" / "project_solutions"
QUALITY = tuple(trial.name for trial in TRIALS if trial.final)
# A shorter training breaks the same demands.
SHORTER = {
    "plain": ("EPOCHS, BATCH, CLASSES = 15", "EPOCHS, BATCH, CLASSES = 7"),
    "with_helpers": ("EPOCHS = 12", "EPOCHS = 6"),
    "with_classes": ("EPOCHS, PATIENCE, BATCH = 10", "EPOCHS, PATIENCE, BATCH = 5"),
}
LIMITS = Limits(seconds=60, processor=12)


@dataclass(frozen=True)
class Broken:
    """An edit of a solution: pairs of a piece that occurs once, and what stands in its place.

    ``trial`` refuses it with ``says``; the trials in ``also`` may refuse it, too.
    """

    trial: str
    solution: str
    says: str
    edit: Sequence[str]
    also: Sequence[str] = ()

    def source(self) -> str:
        text = (SOLUTIONS / f"{self.solution}.py").read_text("utf-8")
        shorter = () if self.trial in QUALITY else SHORTER[self.solution]
        edits = [*shorter, *self.edit]
        for piece, other in zip(edits[::2], edits[1::2], strict=True):
            assert text.count(piece) == 1, (self.trial, piece, text.count(piece))
            text = text.replace(piece, other)
        return text

    def verdicts(self, only: Sequence[str]) -> dict[str, exam.Verdict]:
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder, "project.py")
            program.write_text(self.source(), "utf-8")
            verdicts = exam.examine(program, only, limits=LIMITS).verdicts
        return {verdict.trial.name: verdict for verdict in verdicts}


def broken() -> Iterator[Broken]:
    """All of them, by trial."""
    tables = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    for trial, entries in tables.items():
        for entry in entries:
            yield Broken(trial, **entry)


def main(wanted: Sequence[str]) -> int:
    easy = [trial.name for trial in TRIALS if trial.name not in QUALITY]
    missed = 0
    for number, one in enumerate(broken()):
        if wanted and one.trial not in wanted:
            continue
        verdicts = one.verdicts(QUALITY if one.trial in QUALITY else easy)
        mine = verdicts[one.trial]
        refused = [name for name, v in verdicts.items() if v.passed is False]
        others = [name for name in refused if name not in (one.trial, *one.also)]
        right = mine.passed is False and one.says in mine.said
        missed += not right or bool(others)
        print(f"{number:3} {one.trial:<12} {'ok' if right and not others else '??'}", end=" ")
        print(f"also {refused}" if others else "", "" if right else repr(mine.said), flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) > 0)
