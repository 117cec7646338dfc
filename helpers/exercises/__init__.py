"""Exercises that answer back: not only *wrong*, but *which* mistake it was.

``notation`` tells how a chapter writes them, ``engine`` how the verdict is reached.
"""

from helpers.exercises.compare import Words
from helpers.exercises.engine import Exercise, NotRight, Prediction
from helpers.exercises.notation import Exercises
from helpers.exercises.trial import Case, Shortfall, require

__all__ = [
    "Case",
    "Exercise",
    "Exercises",
    "NotRight",
    "Prediction",
    "Shortfall",
    "Words",
    "require",
]
