"""Small notebooks to test the machinery on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from chapters import Chapter

CHAPTER = Chapter(stem="00_sample", title="Sample", question="?", minutes=1, cpu_seconds=10)


@dataclass(frozen=True)
class FakeExercise:
    """As much of an exercise as the machinery asks for."""

    solution: str

    def solved_cell(self) -> str:
        return self.solution


def code(source: str, id: str, tags: Sequence[str] = ()) -> NotebookNode:
    return new_code_cell(source, id=id, metadata={"tags": list(tags)} if tags else {})


def markdown(source: str, id: str, tags: Sequence[str] = ()) -> NotebookNode:
    return new_markdown_cell(source, id=id, metadata={"tags": list(tags)} if tags else {})


def notebook(*cells: NotebookNode) -> NotebookNode:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return new_notebook(cells=list(cells), metadata=metadata)


def good() -> NotebookNode:
    """A notebook of the chapter ``CHAPTER`` with the exercise ``sample.double``."""
    return notebook(
        markdown("# 00 · Sample\n\nSee [the task](#The-task-of-x).", "header"),
        code("import json", "setup"),
        code("import math", "imports", ["imports"]),
        markdown("## The task of `x`\n\nNot a link: `[x](y)`.\n\n```\n## [z](z)\n```", "task"),
        markdown("Double it.", "sample-double-ask", ["prompt:sample.double"]),
        code("doubled = ...", "sample-double-try", ["exercise:sample.double"]),
        code("print(json.dumps([math.pi, str(doubled)]))", "show"),
        markdown("## Reference", "reference", ["reference"]),
    )


def on_the_device() -> NotebookNode:
    """``good()``, with a cell that computes on the device that torch names."""
    nb = good()
    device = "torch.accelerator.current_accelerator(check_available=True)"
    nb.cells.append(code(f"import torch\n\nx = torch.ones(2, device={device}) + 1", "compute"))
    return nb


def mended() -> dict[str, FakeExercise]:
    """A catalogue for ``good()``."""
    strictly = "import os\n\ndoubled = 2 * int(os.environ['TUTORIAL_STRICT'])"
    return {"sample.double": FakeExercise(strictly)}
