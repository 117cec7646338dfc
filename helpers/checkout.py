"""Where this checkout of the course lies."""

from __future__ import annotations

from pathlib import Path


class CourseError(RuntimeError):
    """Something that the person at the keyboard can fix; the message says how."""


def root() -> Path:
    """The folder of the checkout that this package runs from. ``CourseError`` if there is none."""
    folder = Path(__file__).resolve().parent.parent
    if not ((folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir()):
        raise CourseError(
            f"helpers runs from {folder}, which is not a checkout of the course: go to the folder "
            "that holds `notebooks` and `pyproject.toml`, and run the command there"
        )
    return folder
