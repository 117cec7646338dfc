"""Every rule of the contract lets a good notebook pass and catches what it is there for."""

from __future__ import annotations

import copy

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_output

import helpers.exercises
import chapters
from tools import stamp
from chapters import Chapter
from tests.notebooks import contract
from tests.notebooks.contract import code, exercises, form, prose, tools
from tests.notebooks.samples import CHAPTER, good, markdown, mended
from tests.notebooks.samples import code as code_cell

BROKEN = []


def breaks(rule):
    """Mark a function that spoils a good notebook in a way that ``rule`` must catch."""

    def add(spoil):
        BROKEN.append(pytest.param(rule, spoil, id=f"{rule.__name__}-{spoil.__name__}"))
        return spoil

    return add


def breaks_as_code(rule, *sources: str):
    """The same for code that ``rule`` must catch in any cell."""
    for number, source in enumerate(sources):

        def spoil(nb: NotebookNode, source: str = source) -> None:
            nb.cells.append(code_cell(source, "spoilt"))

        BROKEN.append(pytest.param(rule, spoil, id=f"{rule.__name__}-{number}"))


def breaks_as_prose(rule, *sources: str):
    """The same for markdown."""
    for number, source in enumerate(sources):

        def spoil(nb: NotebookNode, source: str = source) -> None:
            nb.cells.append(markdown(source, "spoilt"))

        BROKEN.append(pytest.param(rule, spoil, id=f"{rule.__name__}-{number}"))


@breaks(form.listed_in_order)
def a_chapter_that_is_not_listed(nb):
    return Chapter("07_new", "New", "?", 1, 1.0)


@breaks(form.listed_in_order)
def a_chapter_in_another_place(nb):
    return MISPLACED


MISPLACED = Chapter("05_misplaced", "Misplaced", "?", 1, 1.0)


@breaks(form.valid_format)
def an_older_format(nb):
    nb.nbformat_minor = 4


@breaks(form.valid_format)
def a_cell_of_no_type(nb):
    nb.cells[0].cell_type = "prose"


@breaks(form.valid_format)
def a_cell_without_id(nb):
    del nb.cells[0]["id"]


@breaks(form.python3_kernel)
def another_kernel(nb):
    nb.metadata.kernelspec.name = "torch-env"


@breaks(form.python3_kernel)
def a_kernel_without_display_name(nb):
    del nb.metadata.kernelspec["display_name"]


@breaks(form.python3_kernel)
def another_language(nb):
    nb.metadata.language_info.name = "julia"


@breaks(form.nothing_executed)
@breaks(tools.nbstripout_clean)
def an_output(nb):
    nb.cells[1].outputs = [new_output("stream", text="hi")]


@breaks(form.nothing_executed)
def an_execution_count(nb):
    nb.cells[1].execution_count = 3


@breaks(form.nothing_executed)
def the_state_of_a_widget(nb):
    nb.metadata.widgets = {}


@breaks(form.readable_ids)
def an_id_made_by_a_program(nb):
    nb.cells[-1].id = "ab12cd34"


@breaks(form.readable_ids)
def an_id_with_capitals(nb):
    nb.cells[-1].id = "Plot"


@breaks(form.readable_ids)
def an_id_twice(nb):
    nb.cells[-1].id = nb.cells[-2].id


@breaks(form.generated_cells_current)
def an_edited_generated_cell(nb):
    nb.cells[1].source = "import json, torch"


@breaks(form.generated_cells_current)
def a_missing_generated_cell(nb):
    del nb.cells[1]


@breaks(form.generated_cells_current)
def other_metadata(nb):
    nb.metadata.authors = []


@breaks(form.imports_after_setup)
def no_setup(nb):
    nb.cells[1].id = "set-up"


@breaks(form.imports_after_setup)
def no_imports(nb):
    nb.cells[2].metadata.tags = []


@breaks(form.imports_after_setup)
def imports_later(nb):
    nb.cells.insert(2, code_cell("1", "early"))


@breaks(form.imports_after_setup)
def imports_twice(nb):
    nb.cells.append(code_cell("1", "more", ["imports"]))


@breaks(form.nothing_exempt)
def a_cell_that_may_fail(nb):
    nb.cells.append(code_cell("1 / 0", "fails", ["raises-exception"]))


@breaks(form.nothing_exempt)
def a_cell_that_is_skipped(nb):
    nb.cells.append(code_cell("1 / 0", "fails", ["skip-execution"]))


@breaks(form.nothing_exempt)
def a_cell_that_is_mocked(nb):
    nb.cells[2].metadata.nbmake = {"mock": {"epochs": 1}}


@breaks(form.nothing_exempt)
def errors_that_are_allowed(nb):
    nb.metadata.execution = {"allow_errors": True}


@breaks(form.core_length)
def a_long_core(nb):
    reference = nb.cells.pop()
    nb.cells += [code_cell("1", f"cell-{number}") for number in range(60)]
    nb.cells.append(reference)


@breaks(exercises.exercises_complete)
def a_missing_exercise(nb):
    nb.cells[5].metadata.tags = []


@breaks(exercises.exercises_complete)
def an_exercise_twice(nb):
    nb.cells[6:6] = copy.deepcopy(nb.cells[4:6])


@breaks(exercises.exercises_complete)
def an_exercise_of_another_room(nb):
    ask = markdown("?", "ask", ["prompt:other.triple"])
    nb.cells += [ask, code_cell("...", "try", ["exercise:other.triple"])]


@breaks(exercises.exercises_complete)
def an_exercise_without_prompt(nb):
    del nb.cells[4]


@breaks(exercises.exercises_complete)
def an_exercise_behind_code(nb):
    nb.cells[4] = code_cell("1", "code", ["prompt:sample.double"])


@breaks(exercises.exercises_complete)
def an_exercise_in_prose(nb):
    nb.cells[5].cell_type = "markdown"


@breaks(exercises.exercises_regular)
def four_sections_to_read(nb):
    sections = [markdown(f"text\n\n## Section {n}", f"section-{n}") for n in range(4)]
    nb.cells[6:6] = sections


breaks_as_prose(
    prose.links_resolve,
    "[gone](02_gone.ipynb)",
    "[gone](#Gone)",
    "[gone](00_sample.ipynb#gone)",
    "[gone](../README.md#gone)",
    "[outside](../../outside.md)",
    "[absolute](/notebooks/00_sample.ipynb)",
    "[plain](http://example.org)",
    "<http://example.org>",
    "[![badge](gone.svg)](https://example.org)",
    '<a href="gone.md">gone</a>',
    "[a][reference]\n\n[reference]: gone.md",
    "[mail](mailto:nobody@example.org)",
)

breaks_as_prose(
    prose.images_have_text,
    "![](https://example.org/picture.png)",
    '<img src="https://example.org/picture.png">',
    '<img alt="" src="https://example.org/picture.png">',
)

breaks_as_prose(prose.titled_once, "# Another title", "#### Two levels down")

breaks_as_code(
    code.no_device_named,
    'x.to("cuda")',
    'x.to(device="cpu")',
    'device = "cuda:0" if torch.cuda.is_available() else "cpu"',
    'torch.load(file, map_location="cpu")',
    "x.cuda()",
    'device = f"cuda:{rank}"',
    '%time x.to("mps")\nx.to("mps")',
    '%%time\nx.to("mps")',
)

breaks_as_code(
    code.no_import_path_changed,
    'import sys\n\nsys.path.append("..")',
    'from sys import path\n\npath.insert(0, "..")',
)

breaks_as_code(
    code.no_warning_filtered,
    'import warnings\n\nwarnings.filterwarnings("ignore")',
    'warnings.simplefilter("ignore")\n!ls',
    "from warnings import simplefilter",
)

breaks_as_code(code.no_output_hidden, "%%capture\nprint()", "%%capture out\nprint()")

breaks_as_code(
    code.no_absolute_path,
    'open("/tmp/file")',
    'open("C:\\\\data")',
    'open("~/file")',
    "!ls /content/drive",
    "%cd /home/me",
)

breaks_as_code(code.no_figure_without_text, "plt.show()", "%matplotlib inline\nplt.show()")

breaks_as_code(
    code.no_shell_command,
    "!git clone $address",
    "files = !ls",
    "%pip install package",
    "%%bash\npip install package",
    'import os\n\nos.system("pip install package")',
)

breaks_as_code(tools.ruff_clean, "import os", "undefined(1", "l = 1")

breaks_as_code(tools.ruff_formatted, "x = [ 1 ]", "x = 'one'")


@pytest.fixture(autouse=True)
def course(monkeypatch, tmp_path):
    """A course of one chapter, whose notebook is good, in place of the real one."""
    pristine = good()

    def stamped(nb: NotebookNode, chapter: Chapter) -> NotebookNode:
        """The generated parts are the setup cell and the metadata."""
        found = copy.deepcopy(nb)
        found.metadata = pristine.metadata
        others = [cell for cell in found.cells if cell.id not in ("header", "setup")]
        found.cells = [pristine.cells[0], pristine.cells[1], *others]
        return found

    notebooks = tmp_path / "course" / "notebooks"
    notebooks.mkdir(parents=True)
    (tmp_path / "outside.md").write_text("")
    (tmp_path / "course" / "README.md").write_text("# How to *begin*, in two `steps`\n")
    nbformat.write(pristine, notebooks / f"{CHAPTER.stem}.ipynb")
    monkeypatch.setattr(prose, "NOTEBOOKS", notebooks)
    monkeypatch.setattr(authoring, "stamped", stamped)
    monkeypatch.setattr(chapters, "CHAPTERS", (CHAPTER, MISPLACED))
    monkeypatch.setattr(helpers.exercises, "catalogue", mended)


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
def test_a_good_notebook_keeps_every_rule(rule):
    assert list(rule(good(), CHAPTER)) == []


@pytest.mark.parametrize(("rule", "spoil"), BROKEN)
def test_a_rule_catches_the_notebook_that_breaks_it(rule, spoil):
    nb = good()
    chapter = spoil(nb) or CHAPTER
    assert list(rule(nb, chapter))


def test_every_rule_was_seen_to_catch_something():
    assert {parameters.values[0] for parameters in BROKEN} == set(contract.RULES)


@pytest.mark.parametrize(
    "source",
    [
        "[itself](00_sample.ipynb#The-task-of-x)",
        "[up](../README.md#how-to-begin-in-two-steps) and [out](https://example.org/a_b)",
        '<img alt="A loss that falls" src="https://example.org/a.png">',
        "[![Open](https://example.org/badge.svg)](https://example.org)",
        "~~~python\nimage = '![](x.png) [gone](gone.md)'\n~~~",
        "``[gone](gone.md) ` ``",
    ],
)
def test_good_prose_passes(source):
    nb = good()
    nb.cells.append(markdown(source, "prose"))
    for rule in (prose.links_resolve, prose.images_have_text):
        assert list(rule(nb, CHAPTER)) == []


@pytest.mark.parametrize(
    "source",
    [
        'x.cpu()\nx.device.type == "cuda"\nx.device.type in ("cpu", "cuda")',
        'print("a model on the cpu")',
        "torch.cuda.is_available()",
        'torch.device("meta")',
        '"https://example.org/usr/home/tmp" + "/" + "runs/first"',
        "plots.show(figure, alt=title)",
        "warnings.catch_warnings(record=True)",
        "%load_ext tensorboard\n%tensorboard --logdir runs",
        "%%writefile data.py\nimport sys",
        "platform.system()\nsubprocess.run(command, check=True)",
        "this does not parse",
    ],
)
def test_good_code_passes_the_rules_on_code(source):
    nb = good()
    nb.cells.append(code_cell(source, "code"))
    rules = [rule for rule in contract.RULES if rule.__module__ == code.__name__]
    assert [problem for rule in rules for problem in rule(nb, CHAPTER)] == []


def test_cells_tagged_device_names_may_name_one():
    nb = good()
    nb.cells.append(code_cell('torch.device("cuda")', "names", ["device-names"]))
    assert list(code.no_device_named(nb, CHAPTER)) == []


def test_only_the_core_path_is_held_short_and_regular():
    nb = good()
    nb.cells += [code_cell("1", f"look-up-{number}") for number in range(100)]
    nb.cells += [markdown(f"## Look {number} up", f"section-{number}") for number in range(10)]
    assert list(form.core_length(nb, CHAPTER)) == []
    assert list(exercises.exercises_regular(nb, CHAPTER)) == []


def test_three_sections_to_read_may_stand_before_and_after_an_exercise():
    nb = good()
    nb.cells[6:6] = [markdown(f"## After {n}", f"after-{n}") for n in range(3)]
    nb.cells[1:1] = [markdown(f"## Before {n}", f"before-{n}") for n in range(3)]
    assert list(exercises.exercises_regular(nb, CHAPTER)) == []


def test_a_stale_generated_cell_is_named():
    nb = good()
    an_edited_generated_cell(nb)
    (problem,) = form.generated_cells_current(nb, CHAPTER)
    assert "'setup'" in problem
    assert "python -m helpers stamp" in problem
