"""What must hold for each run of a notebook, beyond running to its end.

A rule takes the run and the chapter and returns the problems it finds, one sentence each, which
name the cell. ``problems`` asks all of ``RULES``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

from nbformat import NotebookNode

from chapters import Chapter
from tests.notebooks import boards
from tests.notebooks.contract.cells import tagged_names
from tests.notebooks.running import Run


class Allowed(NamedTuple):
    """A third party's warning that no change of ours can avoid."""

    category: str
    message: str  # a part of it
    file: str  # a part of the path of the file it comes from
    reason: str


ALLOWED_WARNINGS = (
    Allowed(
        "ResourceWarning",
        "is still running",
        "subprocess.py",
        "TensorBoard's manager starts its server and forgets it; one left over is a problem anyway",
    ),
    Allowed(
        "DeprecationWarning",
        "use of forkpty() may lead to deadlocks",
        "pty.py",
        "IPython runs `!command` that way; from Python 3.12 on, that warns",
    ),
    Allowed(
        "DeprecationWarning",
        "ipykernel",
        "ipywidgets",
        "ipywidgets 7, which Colab has, calls what ipykernel 6 has renamed",
    ),
    Allowed(
        "DeprecationWarning",
        "`torch.jit.script_method` is deprecated",
        "_script.py",
        "torch 2.11 calls it itself, from torch.compile",
    ),
    Allowed(
        "UserWarning",
        "The given buffer is not writable",
        "_package.py",
        "torch 2.11 reads its own torch.export files that way",
    ),
)


START_SECONDS = 8.0  # processor time for the kernel's start and the import cell, in any chapter


def problems(run: Run, chapter: Chapter) -> list[str]:
    """All that is wrong with a run."""
    return [problem for rule in RULES for problem in rule(run, chapter)]


def problems_on_accelerator(run: Run, chapter: Chapter) -> list[str]:
    """All that is wrong with a run on the pretended accelerator, which is slower than the CPU."""
    rules = [rule for rule in RULES if rule not in (within_budget, quick_start)]
    return [problem for rule in [*rules, computes_there] for problem in rule(run, chapter)]


def no_error(run: Run, chapter: Chapter) -> Iterator[str]:
    """Every cell ends without an exception; usage errors of magics are exceptions too."""
    noted = run.notes("error")
    for note in noted:
        yield f"cell {note['cell']!r} raises {note['error']}"
    error = run.result.error
    if error is not None and not noted:
        cell = run.result.nb.cells[error.failing_cell_index]
        yield f"cell {cell.id!r}: {error.summary}"


def no_error_output(run: Run, chapter: Chapter) -> Iterator[str]:
    """No cell shows a traceback, not even one that did not stop it, such as a widget's."""
    raised = {note["cell"] for note in run.notes("error")}
    for cell in _code_cells(run):
        for output in cell.outputs:
            if output.output_type == "error" and cell.id not in raised:
                yield f"cell {cell.id!r} shows {output.ename}: {output.evalue}"


def no_warning(run: Run, chapter: Chapter) -> Iterator[str]:
    """No warning is shown. An expected one goes through ``helpers.expect.expect_warning``."""
    seen = set()
    for note in run.notes("warning"):
        key = note["cell"], note["category"], note["message"]
        if key not in seen and not any(_is_allowed(note, allowed) for allowed in ALLOWED_WARNINGS):
            seen.add(key)
            place = f"{note['file']}:{note['line']}"
            yield f"cell {note['cell']!r} warns: {note['category']}: {note['message']} ({place})"


def no_failed_command(run: Run, chapter: Chapter) -> Iterator[str]:
    """Every shell command succeeds."""
    for note in run.notes("command"):
        yield f"cell {note['cell']!r}: `{note['command']}` ended with exit code {note['code']}"


def boards_start(run: Run, chapter: Chapter) -> Iterator[str]:
    """Every TensorBoard that is asked for is there and answers."""
    for cell in _code_cells(run):
        for failure in boards.failures(cell):
            yield f"cell {cell.id!r}: {failure}"
    for cell_id in run.dead_boards:
        yield f"cell {cell_id!r} shows a TensorBoard that does not answer"


def no_process_left(run: Run, chapter: Chapter) -> Iterator[str]:
    """Every process that the notebook starts ends with its kernel."""
    for line in run.left_over:
        yield f"{line} outlived the kernel"


def within_budget(run: Run, chapter: Chapter) -> Iterator[str]:
    """After the import cell, kernel and children use the chapter's processor time at most."""
    spent = run.seconds_by_cell
    total = sum(spent.values())
    allowed = seconds_allowed(run, chapter)
    if total > allowed:
        costly = sorted(spent, key=spent.__getitem__, reverse=True)[:3]
        shares = ", ".join(f"{cell!r} {spent[cell]:.1f} s" for cell in costly)
        yield (
            f"the run takes {total:.1f} s of processor time after the imports, "
            f"the chapter has {allowed:.3g} s here; the most by {shares}"
        )


def seconds_allowed(run: Run, chapter: Chapter) -> float:
    """The chapter's budget; more where this run met a slower machine than that of the budgets.

    Twice as much again where a worker process does not start as a copy: there it imports torch
    anew. The budgets are meant for Linux, where it is forked.
    """
    return chapter.cpu_seconds * run.slowness * (1 if sys.platform == "linux" else 2)


def quick_start(run: Run, chapter: Chapter) -> Iterator[str]:
    """The kernel's start and the import cell keep within the processor time for them."""
    allowed = START_SECONDS * run.slowness
    if run.seconds_to_start > allowed:
        tagged = [
            cell.id for cell in _code_cells(run) if "imports" in cell.metadata.get("tags", [])
        ]
        yield (
            f"the start takes {run.seconds_to_start:.1f} s of processor time up to cell "
            f"{tagged[0]!r}, {allowed:.3g} s are allowed here: import in the cells what only they "
            "need"
        )


def figures_have_text(run: Run, chapter: Chapter) -> Iterator[str]:
    """Every image that a cell shows has an alternative text."""
    for cell in _code_cells(run):
        if any(_lacks_text(output) for output in cell.outputs):
            yield (
                f"cell {cell.id!r} shows an image without alternative text: "
                "show figures with plots.show(figure, alt=...)"
            )


def computes_there(run: Run, chapter: Chapter) -> Iterator[str]:
    """With an accelerator, the chapter computes on it, and does not train on the CPU alone.

    What an exercise's check trains does not count: its cases lie on the CPU, whatever there is.
    """
    counted = run.notes("device")
    if not counted:
        yield "the kernel had no accelerator: tests/accelerator/plug was not loaded"
        return
    total = counted[-1]
    exercises = {cell.id for cell in _code_cells(run) if tagged_names(cell, "exercise")}
    before = [0, *(note["cpu_steps"] for note in counted)]
    steps = {
        note["cell"]: note["cpu_steps"] - earlier
        for note, earlier in zip(counted, before, strict=False)
        if note["cpu_steps"] > earlier and note["cell"] not in exercises
    }
    if steps and not total["steps"]:
        yield (
            f"an accelerator is there, and all {sum(steps.values())} steps of optimizers are taken "
            f"on the CPU, in {', '.join(map(repr, steps))}: move model and data with .to(device)"
        )
    elif not total["operations"]:
        yield "an accelerator is there, and nothing is computed on it: use runtime.device()"


RULES = (
    no_error,
    no_error_output,
    no_warning,
    no_failed_command,
    boards_start,
    no_process_left,
    within_budget,
    quick_start,
    figures_have_text,
)


def _code_cells(run: Run) -> list[NotebookNode]:
    return [cell for cell in run.result.nb.cells if cell.cell_type == "code"]


def _is_allowed(note: dict, allowed: Allowed) -> bool:
    return (
        note["category"] == allowed.category
        and allowed.message in note["message"]
        and allowed.file in note["file"]
    )


def _lacks_text(output: NotebookNode) -> bool:
    data, metadata = output.get("data", {}), output.get("metadata", {})
    return not re.search(r'alt="[^"]', data.get("text/html", "")) and any(
        kind.startswith("image/") and not metadata.get(kind, {}).get("alt") for kind in data
    )
