"""The chapters of the course, in reading order, with their exercises and your progress in them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helpers.exercises import Exercise
    from helpers.exercises.overview import Overview


@dataclass(frozen=True)
class Chapter:
    """One chapter: the notebook ``notebooks/<stem>.ipynb`` and the package ``chapters.<name>``."""

    stem: str
    title: str
    question: str

    @property
    def number(self) -> str:
        return self.stem.partition("_")[0]

    @property
    def name(self) -> str:
        return self.stem.partition("_")[2]


CHAPTERS = (
    Chapter(
        stem="00_start_here",
        title="Start here",
        question="What happens in the few lines that every training in PyTorch contains?",
    ),
    Chapter(
        stem="01_module",
        title="Module",
        question="What does a model know about itself?",
    ),
    Chapter(
        stem="02_losses",
        title="Losses",
        question="Which question does your loss ask the model?",
    ),
    Chapter(
        stem="03_optimizers",
        title="Optimizers and schedulers",
        question="How far does a weight move in one step, and who decides?",
    ),
    Chapter(
        stem="04_data_loading",
        title="Data loading",
        question="Which samples does your model really see?",
    ),
    Chapter(
        stem="05_serialization",
        title="Saving and loading",
        question="What does a file bring back, and what does it leave behind?",
    ),
    Chapter(
        stem="06_tensorboard",
        title="TensorBoard",
        question="What is happening inside a training, and would you see it go wrong?",
    ),
    Chapter(
        stem="07_augmentation",
        title="Augmentation",
        question="Which changes of an input leave its label true, and do they help?",
    ),
    Chapter(
        stem="08_margin_losses",
        title="Margin losses",
        question="How far apart does a loss push two classes?",
    ),
    Chapter(
        stem="09_scaling_out",
        title="Scaling out",
        question="What must be the same when many do the work of one?",
    ),
    Chapter(
        stem="10_project",
        title="A project",
        question="Could somebody else rely on the program that you wrote?",
    ),
)


def catalogue() -> dict[str, Exercise]:
    """Every exercise of the course by its name ("module.Linear"), in reading order."""
    from helpers.exercises import Exercise

    modules = [
        importlib.import_module(f"chapters.{chapter.name}.exercises") for chapter in CHAPTERS
    ]
    return {
        part.name: part
        for module in modules
        for part in vars(module).values()
        if isinstance(part, Exercise)
    }


def find(name: str) -> Exercise:
    """The exercise with this name; a ``KeyError`` that lists the known ones if there is none."""
    known = catalogue()
    if name not in known:
        raise KeyError(f"unknown exercise {name!r}: known are {', '.join(known)}")
    return known[name]


def progress() -> Overview:
    """What you have tried and got right so far, chapter by chapter."""
    from helpers.exercises.overview import Overview

    known = catalogue()
    return Overview.of(
        {
            f"{chapter.number} {chapter.title}": [
                exercise for exercise in known.values() if exercise.chapter == chapter.name
            ]
            for chapter in CHAPTERS
        }
    )


def reset(name: str = "") -> Overview:
    """Forget your progress in one exercise ("module.Linear"), one chapter ("module"), or in all.

    Raises ``KeyError`` with the known names for any other ``name``. Your notebooks stay as they
    are.
    """
    from helpers.exercises import record

    exercises = list(catalogue())
    names = [chapter.name for chapter in CHAPTERS]
    if name not in ("", *exercises, *names):
        raise KeyError(
            f"cannot reset {name!r}: known chapters are {', '.join(names)}; "
            f"known exercises are {', '.join(exercises)}"
        )
    record.forget(name)
    return progress()
