"""Rules on the code in a notebook's cells."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from chapters import Chapter
from tests.notebooks.contract.cells import code_cells, name, tags

DEVICE_NAME = re.compile(r"(cpu|cuda|hpu|mps|mtia|xla|xpu)(:\d*)?")
MOVES = ("cuda", "hpu", "mtia", "xpu")  # methods of tensors and modules
SHELLS = ("get_ipython().system", "get_ipython().getoutput", "os.system")
MAGICS = ("get_ipython().run_line_magic", "get_ipython().run_cell_magic")
SHELL_MAGICS = ("bash", "conda", "mamba", "pip", "script", "sh", "sx", "system", "uv")
PYTHON_MAGICS = ("capture", "prun", "time", "timeit")
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/])(/(bin|content|etc|home|kaggle|mnt|opt|root|tmp|usr|Users|var|work)\b|~/)"
    r"|\b[A-Z]:[\\/]"
)


def no_device_named(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """No code selects a device by its name; comparing with one is allowed, and ``.cpu()`` is.

    Cells tagged ``device-names`` are left out.
    """
    for cell in code_cells(nb):
        if "device-names" not in tags(cell):
            for device in _named_devices(tree(cell)):
                yield f"{name(cell)} names the device {device}: ask helpers.runtime.device()"


def no_import_path_changed(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """``helpers`` is installed; nothing touches ``sys.path``."""
    for cell in code_cells(nb):
        if "sys.path" in _dotted_names(tree(cell)):
            yield f"{name(cell)} uses sys.path: install the course instead"


def no_warning_filtered(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """No code hides warnings: an expected one goes through ``expect_warning``."""
    filters = {f"warnings.{function}" for function in ("filterwarnings", "simplefilter")}
    for cell in code_cells(nb):
        for used in sorted(filters & _dotted_names(tree(cell))):
            yield f"{name(cell)} calls {used}: expect a warning with helpers.expect.expect_warning"


def no_output_hidden(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """No ``%%capture``: the reader sees what the cell says, and so do the tests."""
    for cell in code_cells(nb):
        if re.match(r"\s*%%capture\b", cell.source):
            yield f"{name(cell)} hides its output with %%capture"


def no_absolute_path(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """No string holds a path that only some machines have."""
    for cell in code_cells(nb):
        for text in _strings(tree(cell)):
            if ABSOLUTE_PATH.search(text):
                yield f"{name(cell)} holds an absolute path: {text!r}; use runtime.scratch(name)"


def no_figure_without_text(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """Figures are shown by ``plots.show(figure, alt=...)``, which gives them a text."""
    for cell in code_cells(nb):
        if {"plt.show", "pyplot.show"} & _dotted_names(tree(cell)):
            yield f"{name(cell)} calls plt.show: show figures with plots.show(figure, alt=...)"


def no_shell_command(nb: NotebookNode, chapter: Chapter) -> Iterator[str]:
    """No ``!command`` and no ``%pip``: where one fails, the notebook goes on as if it had not."""
    for cell in code_cells(nb):
        for command in _shell_commands(tree(cell)):
            yield f"{name(cell)} runs {command}: use subprocess.run(command, check=True)"


def tree(cell: NotebookNode) -> ast.Module:
    """The cell's syntax tree, magics and commands turned into calls of IPython's.

    A cell magic that runs Python is left out and its body taken. Code that does not parse gives an
    empty tree: ruff reports it.
    """
    magic = re.match(r"\s*%%(\w+)[^\n]*\n?", cell.source)
    source = cell.source[magic.end() :] if magic and magic[1] in PYTHON_MAGICS else cell.source
    try:
        return ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


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


def _strings(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
