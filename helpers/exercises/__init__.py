"""Exercises that answer back: not only *wrong*, but *which* mistake it was.

``notation`` tells how a chapter writes them, ``engine`` how the verdict is reached.
"""

from helpers.exercises.compare import Words
from helpers.exercises.engine import Case, Exercise, NotRight, Prediction
from helpers.exercises.notation import Exercises

__all__ = ["Case", "Exercise", "Exercises", "NotRight", "Prediction", "Words"]
