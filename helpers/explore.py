"""Figures with sliders: a chapter's explorer is a drawing function, and this adds the controls.

Where widgets cannot be shown, the figure for the first values stands there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

from helpers import plots


def explore(draw: Callable[..., Figure], alt: str, **controls: Any) -> None:
    """Show ``draw(**values)`` under a control for each argument, and again whenever one moves.

    ``controls`` are what ``ipywidgets.interact`` takes: ``(low, high, step)`` for a slider, a list
    for a menu, a widget for anything else. They begin at the defaults of ``draw``, where it has
    any. ``alt`` is the figure's alternative text. An error in ``draw`` is shown below the controls.
    """
    from ipywidgets import interact

    def show(**values: Any) -> None:
        plots.show(draw(**values), alt=alt)

    # interact takes the first values from the defaults in a signature
    parameters = inspect.signature(draw).parameters.values()
    show.__signature__ = inspect.Signature([one for one in parameters if one.name in controls])
    interact(show, **controls)
