"""A notebook that is open in JupyterLab."""

from __future__ import annotations

import uuid

from nbformat import NotebookNode, from_dict

from tests.browser.pages import Page
from tests.labs import Lab

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
        self.page.page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        return self.content()

    def content(self) -> NotebookNode:
        """The notebook as JupyterLab holds it."""
        return from_dict(self.page.page.evaluate(f"{WIDGET}.content.model.toJSON()"))

    def scroll_to(self, cell_id: str) -> None:
        """Bring a cell into view."""
        place = [cell["id"] for cell in self.content().cells].index(cell_id)
        self.page.page.evaluate(f"{WIDGET}.content.scrollToItem({place}, 'start')")

    def close(self) -> None:
        """Shut the kernel down."""
        self.page.page.evaluate(f"{WIDGET}.sessionContext.shutdown()")


def errors(nb: NotebookNode) -> list[str]:
    """The exceptions that the cells of a notebook show."""
    return [
        f"cell {cell.id}: {output.ename}: {output.evalue}"
        for cell in nb.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
