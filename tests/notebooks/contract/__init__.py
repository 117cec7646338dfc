"""What must hold for the file of a chapter's notebook, before anything runs.

A rule takes the notebook and its chapter and yields the problems it finds, one sentence each, which
name the cell. Each notebook is held to all of ``RULES``.
"""

from __future__ import annotations

from pathlib import Path

import nbformat.v4
from nbformat import NotebookNode

from tests.notebooks.contract import code, exercises, form, prose, tools

RULES = (
    form.listed_in_order,
    form.valid_format,
    form.python3_kernel,
    form.nothing_executed,
    form.readable_ids,
    form.generated_cells_current,
    form.imports_after_setup,
    form.nothing_exempt,
    form.core_length,
    exercises.exercises_complete,
    exercises.exercises_regular,
    prose.links_resolve,
    prose.images_have_text,
    prose.titled_once,
    code.no_device_named,
    code.no_import_path_changed,
    code.no_warning_filtered,
    code.no_output_hidden,
    code.no_absolute_path,
    code.no_figure_without_text,
    code.no_shell_command,
    tools.ruff_clean,
    tools.ruff_formatted,
    tools.nbstripout_clean,
)


def read(path: Path) -> NotebookNode:
    """The notebook as its file has it: unlike ``nbformat.read``, this repairs nothing."""
    return nbformat.v4.reads(path.read_text("utf-8"))
