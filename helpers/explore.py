"""Figures with sliders: a chapter's explorer is a drawing function, and this adds the controls.

The figure for the first values is saved with the controls. A page that shows a notebook without
running it, such as GitHub's, has no controls and shows that figure.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from helpers import plots

_VIEW = "application/vnd.jupyter.widget-view+json"


def explore(draw: Callable[..., Figure], alt: str, **controls: Any) -> None:
    """Show ``draw(**values)`` under a control for each argument, and again whenever one moves.

    ``controls`` are what ``ipywidgets.interact`` takes: ``(low, high, step)`` for a slider, a list
    for a menu, a widget for anything else. They begin at the defaults of ``draw``, where it has
    any. ``alt`` is the figure's alternative text. An error in ``draw`` is shown below the controls.
    Raises ``ValueError`` for a control that ``draw`` has no parameter for.
    """
    from IPython import get_ipython
    from IPython.display import clear_output, display
    from ipywidgets import HTML, interactive

    names = list(inspect.signature(draw).parameters)
    if unknown := [name for name in controls if name not in names]:
        raise ValueError(f"no parameter of draw for {', '.join(unknown)}: it has {names}")
    first, errors = [], []
    # Not in the output widget that interactive has: nbclient, which runs notebooks for nbconvert
    # and papermill, plays the front end of such a widget and then may miss the end of the cell.
    picture = HTML()

    def show(**values: Any) -> None:
        if errors:
            errors.clear()
            clear_output()
        open_before = {*plt.get_fignums()}
        try:
            figure = draw(**values)
            data, metadata = plots.bundle(figure, alt)
            plt.close(figure)
        except Exception as error:
            errors.append(error)
            for number in {*plt.get_fignums()} - open_before:
                plt.close(number)
            raise
        picture.value = data["text/html"]
        if not first:
            first.append((data, metadata))

    # interactive takes the first values from the defaults in a signature
    parameters = inspect.signature(draw).parameters.values()
    show.__signature__ = inspect.Signature([one for one in parameters if one.name in controls])
    shown = interactive(show, **controls)
    *above, out = shown.children
    shown.children = [*above, picture, out]
    if not shown.kwargs:  # ipywidgets 7 has not drawn yet
        shown.update()
    if get_ipython() is not None:
        data, metadata = first[0] if first else ({"text/plain": alt}, {})
        view = {"version_major": 2, "version_minor": 0, "model_id": shown.model_id}
        display({**data, _VIEW: view}, metadata=metadata, raw=True)
