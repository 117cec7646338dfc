"""Experiments that need more runs than a notebook has time for, each a command.

``python -m helpers.experiments.augmentation`` is chapter 07's. The notebook runs the same code at a
smaller size.
"""
