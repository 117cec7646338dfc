"""What must hold for the file of a chapter's notebook, before anything runs.

A rule takes the notebook and yields the problems that it finds, one sentence each, which name the
cell. ``problems`` asks all rules.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

import nbformat
from nbformat import NotebookNode

from tests.notebooks import prose
from tests.notebooks.cells import (
    bound_names,
    code_cells,
    exercises,
    name,
    tags,
    tree,
    used_names,
)
from tools import minutes
from tools.minutes import core

MOST_MINUTES = 130
ONE_SITTING = 90  # minutes
MOST_SECTIONS = 3  # without an exercise, in the core path
TAKE_ALONG_LINES = range(20, 61)

# besides exercise:<name>
TAGS = ("device-names", "imports", "proof", "reference", "remove-output", "take-along")
EXPECTATIONS = ("as_expected", "expect_error", "expect_warning", "show_traceback")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
READABLE_ID = re.compile(r"[a-z][a-z0-9-]*")
CHANCE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{8}")

DEVICE_NAME = re.compile(r"(cpu|cuda|hpu|mps|mtia|xla|xpu)(:\d*)?")
MOVES = ("cuda", "hpu", "mtia", "xpu")  # methods of tensors and modules
SHELLS = ("get_ipython().system", "get_ipython().getoutput", "os.system")
MAGICS = ("get_ipython().run_line_magic", "get_ipython().run_cell_magic")
SHELL_MAGICS = ("bash", "conda", "mamba", "pip", "script", "sh", "sx", "system", "uv")
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/])(/(bin|content|etc|home|kaggle|mnt|opt|root|tmp|usr|Users|var|work)\b|~/)"
    r"|\b[A-Z]:[\\/]"
)
# what is not to be used -> what to do instead
FORBIDDEN = {
    "sys.path": "install the course instead",
    "warnings.filterwarnings": "expect a warning with helpers.expect.expect_warning",
    "warnings.simplefilter": "expect a warning with helpers.expect.expect_warning",
    "plt.show": "show figures with plots.show(figure, alt=...)",
    "pyplot.show": "show figures with plots.show(figure, alt=...)",
}


def problems(nb: NotebookNode, chapter: str, known: Sequence[str]) -> list[str]:
    """All that is wrong with a chapter's notebook; ``known`` are the names of its exercises."""
    found = [problem for rule in (*FORM, *PROSE) for problem in rule(nb)]
    found += exercises_complete(nb, chapter, known)
    broken = list(not_python(nb))  # the rules on code can't be asked then
    return found + (broken or [problem for rule in CODE for problem in rule(nb)])


# The form of the file


def valid_format(nb: NotebookNode) -> Iterator[str]:
    """The file is valid nbformat 4.5 or newer, the first with cell ids."""
    if (nb.nbformat, nb.nbformat_minor) < (4, 5):
        yield f"nbformat is {nb.nbformat}.{nb.nbformat_minor}: cell ids need 4.5 or newer"
        return
    ids = Counter(cell.get("id") for cell in nb.cells)
    repeated = [f"{count} cells have the id {id!r}" for id, count in ids.items() if count > 1]
    if repeated or None in ids:
        yield from repeated or ["a cell has no id"]
        return
    try:
        nbformat.validate(nb)  # would repair ids
    except nbformat.ValidationError as error:
        yield f"not a valid notebook: {str(error).splitlines()[0]}"


def plain_metadata(nb: NotebookNode) -> Iterator[str]:
    """The kernel is the one that every installation has, and nothing else is said."""
    if nb.metadata != METADATA:
        yield f"the notebook's metadata are {dict(nb.metadata)}: they must be {METADATA}"
    for cell in nb.cells:
        for key in cell.metadata.keys() - {"tags", "jupyter", "cellView"}:
            yield f"{name(cell)} has the metadata {key!r}: remove it, tests and readers run it all"


def nothing_executed(nb: NotebookNode) -> Iterator[str]:
    """No outputs and execution counts are kept in the repository."""
    for cell in code_cells(nb):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield f"{name(cell)} was executed: run `python -m tools stamp`"


def readable_ids(nb: NotebookNode) -> Iterator[str]:
    """Every cell has an id given by a person: it is what messages call the cell.

    JupyterLab and nbformat draw ids by chance, as a UUID and as its first eight digits.
    """
    for cell_id in [cell.get("id", "") for cell in nb.cells]:
        if not READABLE_ID.fullmatch(cell_id) or CHANCE_ID.fullmatch(cell_id):
            yield f"the id {cell_id!r} is not readable: use words such as 'plot-losses'"


def imports_after_setup(nb: NotebookNode) -> Iterator[str]:
    """The first code cell is the setup; the second, and no other, is tagged ``imports``."""
    cells = code_cells(nb)
    if not cells or cells[0].get("id") != "setup":
        yield "the first code cell must be 'setup': run `python -m tools stamp`"
    tagged = [place for place, cell in enumerate(cells) if "imports" in tags(cell)]
    if tagged != [1]:
        found = ", ".join(name(cells[place]) for place in tagged) or "no cell"
        yield f"the code cell after 'setup', and no other, must be tagged 'imports'; it is {found}"


def known_tags(nb: NotebookNode) -> Iterator[str]:
    """Every tag means something to the course; none skips a cell or allows it to fail."""
    for cell in nb.cells:
        for tag in tags(cell):
            if tag in ("raises-exception", "skip-execution"):
                yield f"{name(cell)} is tagged {tag!r}: show an error with expect.expect_error"
            elif tag not in TAGS and not tag.startswith("exercise:"):
                known = ", ".join([*TAGS, "exercise:<name>"])
                yield f"{name(cell)} has the unknown tag {tag!r}: known are {known}"


def core_length(nb: NotebookNode) -> Iterator[str]:
    """The core path takes two sittings at most, and the place to stop is about half way."""
    total = minutes.of(nb)
    if total > MOST_MINUTES:
        yield (
            f"the core path takes {total} minutes, {MOST_MINUTES} at most are allowed: move what "
            "is looked up rather than read behind the cell tagged 'reference'"
        )
    stops = [cell for cell in core(nb) if cell.get("id") == "half-way"]
    if not stops and total > ONE_SITTING:
        yield (
            f"the core path takes {total} minutes and has no place to stop: put a markdown cell "
            "'half-way' between two sections and run `python -m tools stamp`"
        )
    for cell in stops:
        done = minutes.before(nb, cell)
        if not 0.35 * total <= done <= 0.65 * total:
            yield f"{name(cell)} comes after {done} of {total} minutes: move it to the middle"


# Exercises


def exercises_complete(nb: NotebookNode, chapter: str, known: Sequence[str]) -> Iterator[str]:
    """Each exercise of the chapter has one code cell, behind the markdown cell that asks it.

    That the prompt has the exercise's title is tested in ``tests/chapters/test_catalogue.py``.
    """
    module = f"chapters/{chapter}/exercises.py"
    found = Counter(exercise for cell in nb.cells for exercise in exercises(cell))
    for exercise in known:
        if found[exercise] != 1:
            yield (
                f"the exercise {exercise!r} of {module} has {found[exercise]} cells, it needs one: "
                f"tag the code cell in which it is answered 'exercise:{exercise}'"
            )
    for before, cell in pairwise(nb.cells):
        for exercise in exercises(cell):
            if exercise not in known:
                yield (
                    f"{name(cell)} is tagged 'exercise:{exercise}', but {module} has no "
                    f"{exercise!r}: define it there and in exercises.toml, or correct the tag"
                )
            if (before.cell_type, cell.cell_type) != ("markdown", "code"):
                yield (
                    f"{name(cell)} is tagged 'exercise:{exercise}': it must be a code cell behind "
                    "the markdown cell that asks the exercise"
                )


def exercises_regular(nb: NotebookNode) -> Iterator[str]:
    """In the core path, the reader does something every few sections."""
    for has_exercise, run in groupby(_sections(nb), key=lambda section: section[1]):
        titles = [title for title, _ in run]
        if not has_exercise and len(titles) > MOST_SECTIONS:
            yield (
                f"{len(titles)} sections from {titles[0]!r} to {titles[-1]!r} pass without an "
                f"exercise, {MOST_SECTIONS} at most are allowed"
            )


def _sections(nb: NotebookNode) -> list[tuple[str, bool]]:
    """The sections of the core path (``##``), and whether each has an exercise."""
    sections: list[tuple[str, bool]] = []
    for cell in core(nb):
        if cell.cell_type == "markdown":
            headings = prose.headings(cell.source)
            sections += [(text, False) for level, text in headings if level == 2]
        elif sections and exercises(cell):
            sections[-1] = sections[-1][0], True
    return sections


# Predictions, proofs and what a reader takes along


def predictions_unspoiled(nb: NotebookNode) -> Iterator[str]:
    """The code that answers a prediction asserts nothing: the reader would read the answer there.

    It is the code between the markdown cell with "**Predict" and the next markdown cell, without
    exercises and proofs.
    """
    asked = False
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            asked = "**Predict" in cell.source
        elif asked and not (exercises(cell) or "proof" in tags(cell)) and _asserts(tree(cell)):
            yield (
                f"{name(cell)} answers a prediction and asserts the answer: move the assertion to "
                "a cell behind it, tagged 'proof'"
            )


def proofs_can_fail(nb: NotebookNode) -> Iterator[str]:
    """A cell tagged ``proof`` asserts something."""
    for cell in code_cells(nb):
        if "proof" in tags(cell) and not _asserts(tree(cell)):
            yield f"{name(cell)} is tagged 'proof' and asserts nothing"


def something_to_take_along(nb: NotebookNode) -> Iterator[str]:
    """The core path ends with code for the reader's own project, which needs no course.

    That it runs alone is tested in ``tests/long/test_take_along.py``.
    """
    tagged = [cell for cell in nb.cells if "take-along" in tags(cell)]
    if tagged != [cell for cell in core(nb) if cell.cell_type == "code"][-1:]:
        found = ", ".join(map(name, tagged)) or "no cell"
        yield (
            "the last code cell of the core path, and no other, must be tagged 'take-along'; "
            f"it is {found}"
        )
    for cell in tagged:
        lines = sum(bool(line.strip()) for line in cell.source.splitlines())
        if lines not in TAKE_ALONG_LINES:
            first, last = TAKE_ALONG_LINES[0], TAKE_ALONG_LINES[-1]
            yield f"{name(cell)} has {lines} lines, it must have {first} to {last}"
        for package in sorted(_imported_packages(tree(cell)) & {"helpers", "chapters"}):
            yield f"{name(cell)} imports {package}, which the reader's project does not have"


def _asserts(module: ast.Module) -> bool:
    called = {
        getattr(node.func, "attr", getattr(node.func, "id", ""))
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
    }
    has_assert = any(isinstance(node, ast.Assert) for node in ast.walk(module))
    return has_assert or any(name.startswith("assert_") or name in EXPECTATIONS for name in called)


def _imported_packages(module: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {imported.partition(".")[0] for imported in names}


# Code


def not_python(nb: NotebookNode) -> Iterator[str]:
    """Every code cell is Python, apart from magics."""
    for cell in code_cells(nb):
        try:
            tree(cell)
        except SyntaxError as error:
            yield f"{name(cell)} is not Python: {error.msg}, line {error.lineno}"


def no_answer_used(nb: NotebookNode) -> Iterator[str]:
    """No later cell uses a name that an exercise defines, unless it binds it anew.

    It can bind it to ``ex.name.yours()``. So whatever a reader answers, the chapter goes on, and
    running it with all answers in place would prove no more than running it as it is.
    """
    defined: dict[str, str] = {}  # name -> the exercise that defines it
    for cell in code_cells(nb):
        module = tree(cell)
        for used in sorted(used_names(*module.body) & defined.keys()):
            yield (
                f"{name(cell)} uses {used!r}, which the exercise {defined[used]!r} defines: "
                f"write `{used} = ex.{defined[used]}.yours()` first, or take another name"
            )
        for bound in bound_names(*module.body):
            defined.pop(bound, None)
            if exercises(cell):
                defined[bound] = exercises(cell)[0]


def no_device_named(nb: NotebookNode) -> Iterator[str]:
    """No code selects a device by its name; comparing with one is allowed, and ``.cpu()`` is.

    Cells tagged ``device-names`` are left out.
    """
    for cell in code_cells(nb):
        if "device-names" not in tags(cell):
            for device in _named_devices(tree(cell)):
                yield f"{name(cell)} names the device {device}: ask helpers.runtime.device()"


def nothing_forbidden(nb: NotebookNode) -> Iterator[str]:
    """The import path stays, warnings are seen, and figures have an alternative text."""
    for cell in code_cells(nb):
        for used in sorted(FORBIDDEN.keys() & _dotted_names(tree(cell))):
            yield f"{name(cell)} uses {used}: {FORBIDDEN[used]}"


def no_output_hidden(nb: NotebookNode) -> Iterator[str]:
    """The reader sees what the cell says, and so do the tests."""
    for cell in code_cells(nb):
        if re.match(r"\s*%%capture\b", cell.source):
            yield f"{name(cell)} hides its output with %%capture"


def no_absolute_path(nb: NotebookNode) -> Iterator[str]:
    """No string holds a path that only some machines have."""
    for cell in code_cells(nb):
        for node in ast.walk(tree(cell)):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and ABSOLUTE_PATH.search(text):
                yield f"{name(cell)} holds an absolute path: {text!r}; use runtime.scratch(name)"


def no_shell_command(nb: NotebookNode) -> Iterator[str]:
    """No ``!command`` and no ``%pip``: where one fails, the notebook goes on as if it had not."""
    for cell in code_cells(nb):
        for command in _shell_commands(tree(cell)):
            yield f"{name(cell)} runs {command}: use subprocess.run(command, check=True)"


def _named_devices(module: ast.Module) -> Iterator[str]:
    compared = {
        id(node)
        for comparison in ast.walk(module)
        if isinstance(comparison, ast.Compare)
        for node in ast.walk(comparison)
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if DEVICE_NAME.fullmatch(node.value) and id(node) not in compared:
                yield repr(node.value)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) in MOVES:
            yield f".{node.func.attr}()"


def _shell_commands(module: ast.Module) -> Iterator[str]:
    for call in ast.walk(module):
        if isinstance(call, ast.Call) and call.args:
            called, first = ast.unparse(call.func), ast.unparse(call.args[0])
            if called in SHELLS:
                yield f"the command {first}"
            elif called in MAGICS and ast.literal_eval(first) in SHELL_MAGICS:
                yield f"the magic {first}"


def _dotted_names(module: ast.Module) -> set[str]:
    """Every ``a.b`` in the code, and every ``b`` imported from ``a``."""
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FORM = (
    valid_format,
    plain_metadata,
    nothing_executed,
    readable_ids,
    imports_after_setup,
    known_tags,
    core_length,
    exercises_regular,
)
PROSE = (prose.links_resolve, prose.images_have_text, prose.titled_once)
CODE = (
    predictions_unspoiled,
    proofs_can_fail,
    something_to_take_along,
    no_answer_used,
    no_device_named,
    nothing_forbidden,
    no_output_hidden,
    no_absolute_path,
    no_shell_command,
)
