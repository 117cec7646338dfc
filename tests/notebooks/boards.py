"""What a cell's outputs say about the TensorBoard it was to show.

A server that does not start is no error to the kernel: ``%tensorboard`` prints a text and the cell
passes. The texts are those of ``tensorboard.notebook.start``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nbformat import NotebookNode

FAILURES = (
    "ERROR: Failed to launch TensorBoard",
    "ERROR: Could not find",
    "ERROR: Failed to start",
    "ERROR: Timed out waiting for TensorBoard",
)


def ports(cell: NotebookNode) -> list[int]:
    """The ports of this machine that the boards shown by ``cell`` are read from."""
    found = [re.search(r"(?:const port = |proxyPort\()(\d+)", frame) for frame in _frames(cell)]
    # Behind a proxy, the frame has an address instead, and 0 for its port.
    return [int(match[1]) for match in found if match and match[1] != "0"]


def failures(cell: NotebookNode) -> list[str]:
    """What TensorBoard said in ``cell`` when it did not start."""
    said = [" ".join(t.split()) for t in _texts(cell, "text/plain") if t.startswith(FAILURES)]
    asked = re.search(r"^\s*%tensorboard\b", cell.source, re.MULTILINE)
    return ["%tensorboard shows no board"] if asked and not _frames(cell) and not said else said


def _frames(cell: NotebookNode) -> list[str]:
    """What shows a board: a frame, or in Colab a script that asks Colab for the board's address."""
    frames = [text for text in _texts(cell, "text/html") if "tensorboard-frame" in text]
    scripts = _texts(cell, "application/javascript")
    return frames + [text for text in scripts if "google.colab.kernel.proxyPort" in text]


def _texts(cell: NotebookNode, mime_type: str) -> Iterator[str]:
    for output in cell.outputs:
        yield from [text for kind, text in output.get("data", {}).items() if kind == mime_type]
