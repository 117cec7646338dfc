"""The explorers of a chapter, and their controls, moved as a reader moves them."""

from __future__ import annotations

import functools
from collections.abc import Callable

from nbformat import NotebookNode
from playwright.sync_api import Locator

from tests.long.browser.pages import Page

VIEW = "application/vnd.jupyter.widget-view+json"


def with_explorer(nb: NotebookNode) -> list[str]:
    """The ids of the cells that show an explorer."""
    return [
        cell.id
        for cell in nb.cells
        if any(VIEW in output.get("data", {}) for output in cell.get("outputs", []))
    ]


def move_every_control(page: Page, cell: Locator) -> None:
    """Move each control of the explorer in a cell there and back; see another picture each time.

    A slider is moved by the arrow keys, a menu to its next entry, a box is ticked by the space bar.
    Raises ``AssertionError`` where there is no control or the picture stays as it is.
    """
    picture = cell.locator(".widget-interact img")
    page.wait_for(picture.count, "the picture of an explorer")
    controls = cell.locator(".widget-interact .widget-inline-hbox").all()
    assert controls, "the explorer has no control"
    for control in controls:
        for move in _there_and_back(control):
            before = picture.get_attribute("src")
            move()
            page.wait_for(
                functools.partial(_another, picture, before),
                f"another picture after {control.inner_text()!r} was moved",
            )


def _another(picture: Locator, before: str) -> bool:
    # While it is drawn anew, there may be none for a moment.
    return any(shown.get_attribute("src") != before for shown in picture.all())


def _there_and_back(control: Locator) -> list[Callable[[], object]]:
    slider, menu = control.locator(".noUi-handle"), control.locator("select")
    if slider.count():
        at_end = slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemax")
        keys = ("ArrowLeft", "ArrowRight") if at_end else ("ArrowRight", "ArrowLeft")
        return [functools.partial(slider.press, key) for key in keys]
    if menu.count():
        now, count = menu.evaluate("menu => [menu.selectedIndex, menu.length]")
        places = ((now + 1) % count, now)
        return [functools.partial(menu.select_option, index=place) for place in places]
    box = control.locator("input[type=checkbox]")
    return [functools.partial(box.press, "Space")] * 2
