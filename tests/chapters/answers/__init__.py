"""Answers to the exercises that are not in the course: right ones by other ways, and wrong ones.

Each chapter's module has ``RIGHT``, which maps the name of an exercise to answers that keep every
sentence of its prompt, and ``WRONG``, which maps it to pairs of an answer that breaks one and a
piece of what is said of it. The TOML file beside it lists changes of right answers that are right
too (``tests.mutants``): a table for each answer, with the change and the reason.
"""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from types import ModuleType

from chapters import CHAPTERS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAMES = [chapter.name for chapter in CHAPTERS]


@functools.cache
def of_chapter(chapter: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{chapter}")


@functools.cache
def equivalents(chapter: str) -> dict[str, dict[str, str]]:
    """Answer -> change -> why the changed answer is right too."""
    file = Path(__file__).with_name(f"{chapter}.toml")
    return tomllib.loads(file.read_text("utf-8")) if file.exists() else {}
