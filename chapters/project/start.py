"""Begins a project: the brief, the data, and a program with everything still to do."""

from __future__ import annotations

import shutil
from pathlib import Path

from chapters.project import data
from helpers.checkout import CourseError

EMPTY = '''"""Reads the sorting office's digits; brief.md says what it must do."""

import argparse
import sys
from pathlib import Path


def train(options):
    sys.exit("project.py: train is still to be written")


def predict(options):
    sys.exit("project.py: predict is still to be written")


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train")
    command.add_argument("--data", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--rate", type=float, default=0.01)
    command.add_argument("--eval-every", type=int, default=1)
    command.add_argument("--resume", action="store_true")
    command.set_defaults(run=train)
    command = commands.add_parser("predict")
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--images", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--batch-size", type=int, default=256)
    command.set_defaults(run=predict)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
'''


def start(folder: str | Path) -> Path:
    """Make the folder of a project; ``CourseError`` if it has a ``project.py`` already."""
    folder = Path(folder).expanduser()
    program = folder / "project.py"
    if program.exists():
        raise CourseError(f"{program} is there already: give another folder, or go on with it")
    try:
        data.write(folder / "data")
        shutil.copy(Path(__file__).with_name("brief.md"), folder)
        program.write_text(EMPTY, "utf-8")
    except OSError as error:
        raise CourseError(f"can't begin a project in {folder}: {error}") from error
    return program
