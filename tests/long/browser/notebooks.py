"""A notebook that is open in JupyterLab, and what a reader does in it."""

from __future__ import annotations

import re
import uuid

from nbformat import NotebookNode, from_dict
from playwright.sync_api import Locator

from tests.long.browser.pages import Page
from tests.long.labs import Lab

# JupyterLab puts its application on the page when it is started with this option.
OPTIONS = ("--LabApp.expose_app_in_browser=True",)
# No news and no updates are looked for.
SETTINGS = {
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {
        "checkForUpdates": False,
        "doNotDisturbMode": True,
        "fetchNews": "false",
    }
}
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
THEMES = (LIGHT, DARK, f"{DARK} High Contrast")
WIDGET = "window.jupyterapp.shell.currentWidget"
SECONDS_TO_RUN = 300


class Notebook:
    """The notebook ``name`` of a running JupyterLab, open on a page with its kernel ready."""

    def __init__(self, page: Page, lab: Lab, name: str):
        self.page = page
        # A workspace of its own, so that JupyterLab does not open what another test left open.
        workspace = f"{lab.url}/lab/workspaces/{uuid.uuid4().hex}"
        page.page.goto(f"{workspace}/tree/{name}?token={lab.token}")
        session = f"{WIDGET}?.sessionContext?.session"
        ready = f"window.jupyterapp && {session}?.kernel?.status === 'idle'"
        page.page.wait_for_function(ready, timeout=SECONDS_TO_RUN * 1000)

    def run_all(self) -> NotebookNode:
        """Run every cell as the menu does; return the notebook with its outputs when all have."""
        self.page.page.set_default_timeout(SECONDS_TO_RUN * 1000)
        self.command("notebook:run-all-cells")
        return self.content()

    def content(self) -> NotebookNode:
        """The notebook as JupyterLab holds it."""
        return from_dict(self.page.page.evaluate(f"{WIDGET}.content.model.toJSON()"))

    def scroll_to(self, cell_id: str) -> None:
        """Bring a cell into view."""
        place = self._place(cell_id)
        self.page.page.evaluate(f"{WIDGET}.content.scrollToItem({place}, 'start')")

    def cell(self, cell_id: str) -> Locator:
        """A cell on the page, in view."""
        self.scroll_to(cell_id)
        return self.page.page.locator(".jp-Notebook-cell").nth(self._place(cell_id))

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
