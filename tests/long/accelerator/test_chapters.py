"""Each chapter, as shipped, where there is an accelerator: it runs and computes there."""

from __future__ import annotations

import json

import nbformat
import pytest
from nbformat import NotebookNode

from chapters import CHAPTERS
from helpers import checkout
from tests.long.accelerator import plugged
from tests.notebooks.samples import code, notebook
from tools.run import failures, run

USAGE = """\
import json

from tests.long.accelerator import device

print(json.dumps(device.usage()))
"""


def problems(nb: NotebookNode) -> list[str]:
    """What is wrong with a notebook where there is an accelerator: errors, and where it computes.

    Not every step must be taken on the device, since a cell may show what the CPU does.
    """
    nb = NotebookNode(nb, cells=[*nb.cells, code(USAGE, "usage")])
    ran = run(nb, environment=plugged.environment(TUTORIAL_STRICT="1"))
    errors = [f"cell {failure.cell!r}: {failure.error}" for failure in failures(ran.notebook)]
    if errors:
        return errors
    usage = json.loads(ran.notebook.cells[-1].outputs[0].text)
    if usage["cpu_steps"] and not usage["steps"]:
        return [
            f"all {usage['cpu_steps']} steps of optimizers are taken on the CPU: move model and "
            "data with .to(device)"
        ]
    if not usage["operations"]:
        return ["nothing is computed on the accelerator: use runtime.device()"]
    return []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_a_chapter_computes_on_the_accelerator(chapter):
    file = checkout.root() / "notebooks" / f"{chapter.stem}.ipynb"
    assert problems(nbformat.read(file, as_version=4)) == []


TRAINS_ON_THE_CPU = """\
import torch

weight = torch.ones(1, requires_grad=True)
optimizer = torch.optim.SGD([weight])
weight.sum().backward()
optimizer.step()
torch.ones(1, device="mock") + 1
"""


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (TRAINS_ON_THE_CPU, "all 1 steps of optimizers are taken on the CPU"),
        ("import torch", "nothing is computed on the accelerator"),
        ("import torch\n\ntorch.ones(1, device='mock').numpy()", "cell 'one': TypeError"),
    ],
    ids=["trains on the CPU", "computes on the CPU", "fails"],
)
def test_a_notebook_that_does_not_is_reported(source, problem):
    (found,) = problems(notebook(code(source, "one")))
    assert problem in found
