"""A notebook that is open in JupyterLab, and what a reader does in it."""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Callable

from nbformat import NotebookNode, from_dict
from playwright.sync_api import Locator

from tests.labs import Lab
from tests.long.browser.pages import Page

# JupyterLab puts its application on the page when it is started with this option.
OPTIONS = ("--LabApp.expose_app_in_browser=True",)
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
THEMES = (LIGHT, DARK, f"{DARK} High Contrast")
WIDGET = "window.jupyterapp.shell.currentWidget"
MILLISECONDS_TO_OPEN = 120_000
MILLISECONDS_TO_RUN = 300_000


class Notebook:
    """The notebook ``name`` of a running JupyterLab, open on a page with its kernel ready."""

    def __init__(self, page: Page, lab: Lab, name: str):
        self.page = page
        page.page.set_default_timeout(MILLISECONDS_TO_OPEN)
        # A workspace of its own, so that JupyterLab does not open what another test left open.
        workspace = f"{lab.url}/lab/workspaces/{uuid.uuid4().hex}"
        page.page.goto(f"{workspace}/tree/{name}?token={lab.token}")
        session = f"{WIDGET}?.sessionContext?.session"
        page.page.wait_for_function(f"window.jupyterapp && {session}?.kernel?.status === 'idle'")

    def run_all(self) -> NotebookNode:
        """Run every cell as the menu does; return the notebook with its outputs when all have."""
        self.page.page.evaluate(
            """() => {
                window.hasRun = false;
                const run = window.jupyterapp.commands.execute("notebook:run-all-cells");
                run.then(() => { window.hasRun = true; });
            }"""
        )
        self.page.page.wait_for_function("window.hasRun", timeout=MILLISECONDS_TO_RUN)
        return self.content()

    def content(self) -> NotebookNode:
        """The notebook as JupyterLab holds it."""
        return from_dict(self.page.page.evaluate(f"{WIDGET}.content.model.toJSON()"))

    def is_marked_as_changed(self) -> bool:
        return self.page.page.evaluate(f"{WIDGET}.content.model.dirty")

    def cell(self, cell_id: str) -> Locator:
        """A cell on the page, brought into view."""
        place = self._place(cell_id)
        self.page.page.evaluate(f"{WIDGET}.content.scrollToItem({place}, 'start')")
        return self.page.page.locator(".jp-Notebook-cell").nth(place)

    def answer(self, cell_id: str, source: str) -> str:
        """Replace the text of a cell by hand and run it; return the text that then shows below."""
        cell = self.cell(cell_id)
        cell.locator(".cm-content").click()
        return self._type(cell, source)

    def ask_below(self, cell_id: str, source: str) -> str:
        """Type into a new cell below another and run it; return the text that then shows below."""
        cell = self.cell(cell_id)
        cell.locator(".cm-content").click()
        for key in ("Escape", "b", "Enter"):
            self.page.page.keyboard.press(key)
        new = self.content().cells[self._place(cell_id) + 1]
        return self._type(self.cell(new.id), source)

    def _type(self, cell: Locator, source: str) -> str:
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.inner_text()
        for key in ("Control+a", "Delete"):
            self.page.page.keyboard.press(key)
        self.page.page.keyboard.insert_text(source)
        self.page.page.keyboard.press("Shift+Enter")

        def shown() -> str:
            now = prompt.inner_text()
            ran = now != before and re.fullmatch(r"\[\d+\]:", now)
            return cell.locator(".jp-Cell-outputArea").inner_text() if ran else ""

        return self.page.wait_for(shown, f"an answer to {source!r}")

    def move_every_control(self, cell_id: str) -> None:
        """Move each control of an explorer there and back; see another picture each time.

        A slider is moved by the arrow keys, a menu to its next entry, a box is ticked by the space
        bar. Raises ``AssertionError`` where there is no control or the picture stays as it is.
        """
        cell = self.cell(cell_id)
        picture = cell.locator(".widget-interact img")
        self.page.wait_for(picture.count, "the picture of an explorer")
        controls = cell.locator(".widget-interact .widget-inline-hbox:not(.widget-html)").all()
        assert controls, "the explorer has no control"
        for control in controls:
            for move in _there_and_back(control):
                before = picture.get_attribute("src")
                move()
                self.page.wait_for(
                    functools.partial(_is_another, picture, before),
                    f"another picture after {control.inner_text()!r} was moved",
                )

    def use_theme(self, theme: str) -> None:
        """Change JupyterLab's colours, as its settings do; ``theme`` is one of ``THEMES``."""
        self.command("apputils:change-theme", {"theme": theme})
        self.page.page.wait_for_function(
            "theme => document.body.dataset.jpThemeName === theme", arg=theme
        )

    def use_width(self, width: int) -> None:
        """Make the window ``width`` pixels wide and close the side bar, as one does when it is."""
        self.page.page.set_viewport_size({"width": width, "height": 1000})
        if not self.page.page.evaluate("window.jupyterapp.shell.leftCollapsed"):
            self.command("application:toggle-left-area")

    def command(self, name: str, arguments: dict | None = None) -> None:
        """Run one of JupyterLab's commands to its end."""
        self.page.page.evaluate(
            "([name, given]) => window.jupyterapp.commands.execute(name, given)",
            [name, arguments or {}],
        )

    def close(self) -> None:
        """Shut the kernel down."""
        self.page.page.evaluate(f"{WIDGET}.sessionContext.shutdown()")

    def _place(self, cell_id: str) -> int:
        return [cell["id"] for cell in self.content().cells].index(cell_id)


def _is_another(picture: Locator, before: str) -> bool:
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


def errors(nb: NotebookNode) -> list[str]:
    """The exceptions that the cells of a notebook show."""
    return [
        f"cell {cell.id}: {output.ename}: {output.evalue}"
        for cell in nb.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]


def not_run(nb: NotebookNode) -> list[str]:
    """The code cells of a notebook that hold something and have not run."""
    return [
        cell.id
        for cell in nb.cells
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None
    ]
