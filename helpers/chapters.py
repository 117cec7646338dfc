"""The chapters of the course, in reading order: the one list that headers, links and tests use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chapter:
    """One notebook.

    ``stem`` is the file's name without its ending, ``room`` the module of ``helpers.exercises``
    with its exercises, ``minutes`` the time a reader needs for the core path and ``cpu_seconds``
    the processor time that a whole run may take after the import cell, with one torch thread.
    """

    stem: str
    title: str
    question: str
    minutes: int
    cpu_seconds: float

    @property
    def number(self) -> str:
        return self.stem.partition("_")[0]

    @property
    def room(self) -> str:
        return self.stem.partition("_")[2]


CHAPTERS = (
    Chapter(
        stem="00_start_here",
        title="Start here",
        question="What happens in the twelve lines that every PyTorch program contains?",
        minutes=75,
        cpu_seconds=10,
    ),
    Chapter(
        stem="01_module",
        title="Module",
        question="What does a model know about itself?",
        minutes=90,
        cpu_seconds=10,
    ),
    Chapter(
        stem="02_losses",
        title="Losses",
        question="Which question does your loss ask the model?",
        minutes=90,
        cpu_seconds=10,
    ),
    Chapter(
        stem="03_optimizers",
        title="Optimizers and schedulers",
        question="How far does a weight move in one step, and who decides?",
        minutes=90,
        cpu_seconds=10,
    ),
    Chapter(
        stem="04_data_loading",
        title="Data loading",
        question="Which samples does your model really see?",
        minutes=90,
        cpu_seconds=25,
    ),
    Chapter(
        stem="05_serialization",
        title="Saving and loading",
        question="What does a file bring back, and what does it leave behind?",
        minutes=90,
        cpu_seconds=15,
    ),
    Chapter(
        stem="06_tensorboard",
        title="TensorBoard",
        question="What is happening inside a training, and would you see it go wrong?",
        minutes=90,
        cpu_seconds=25,
    ),
    Chapter(
        stem="07_augmentation",
        title="Augmentation",
        question="Which changes of an input leave its label true, and do they help?",
        minutes=90,
        cpu_seconds=20,
    ),
    Chapter(
        stem="08_margin_losses",
        title="Margin losses",
        question="How far apart does a loss push two classes?",
        minutes=90,
        cpu_seconds=20,
    ),
)
