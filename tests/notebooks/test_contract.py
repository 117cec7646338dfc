"""Each chapter's notebook keeps the contract, and each rule of it catches what it is there for."""

from __future__ import annotations

import sys

import pytest
from nbformat.v4 import new_output

from chapters import CHAPTERS
from tests.notebooks import contract
from tests.notebooks.cells import NOTEBOOKS, read
from tests.notebooks.samples import code, markdown, notebook

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

UUID = "a3f1c2d4-5b6e-4f70-8a91-b2c3d4e5f607"  # begins like a word


def test_the_notebooks_are_the_chapters_in_order():
    stems = [chapter.stem for chapter in CHAPTERS]
    assert stems == sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    assert [chapter.number for chapter in CHAPTERS] == [f"{n:02}" for n in range(len(stems))]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_a_notebook_keeps_the_contract(chapter):
    said = NOTEBOOKS.parent / "chapters" / chapter.name / "exercises.toml"
    known = tomllib.loads(said.read_text("utf-8"))
    problems = contract.problems(read(NOTEBOOKS / f"{chapter.stem}.ipynb"), chapter.name, [*known])
    assert not problems, "\n".join([f"notebooks/{chapter.stem}.ipynb:", *problems])


def good():
    return notebook(
        markdown("# 00 · Sample\n\nSee [the task](#The-task-of-x).", "header"),
        code("import json", "setup"),
        code("import math", "imports", ["imports"]),
        markdown("## The task of `x`\n\nNot a link: `[x](y)`.\n\n```\n## [z](z)\n```", "task"),
        markdown("### ★ Double it", "double-ask"),
        code("doubled = ...\nhalf = 2", "double-try", ["exercise:double"]),
        code("half = 1\nprint(json.dumps([math.pi, half]))", "show"),
        markdown("**Predict** what it prints.", "guess"),
        code("print(math.pi)", "answer"),
        code("assert math.pi > 3", "proof", ["proof"]),
        code("import torch\n" + "print(torch.ones(2))\n" * 19, "take", ["take-along"]),
        markdown("## Reference", "reference", ["reference"]),
    )


def problems(nb):
    return contract.problems(nb, "sample", ["double"])


def test_a_good_notebook_has_no_problems():
    assert problems(good()) == []


def place(nb, id):
    return [cell.id for cell in nb.cells].index(id)


def changed(cell_id, /, **fields):
    """A function that sets fields of a cell."""

    def change(nb):
        nb.cells[place(nb, cell_id)].update(fields)

    return change


def tagged(id, *tags):
    return changed(id, metadata={"tags": [*tags]})


def inserted(id, *cells):
    """A function that puts cells before the one with this id."""

    def change(nb):
        nb.cells[place(nb, id) : place(nb, id)] = cells

    return change


def an_older_format(nb):
    nb.nbformat_minor = 4


def no_id(nb):
    del nb.cells[0]["id"]


def another_kernel(nb):
    nb.metadata.kernelspec.name = "torch-env"


def the_state_of_a_widget(nb):
    nb.metadata.widgets = {}


def errors_allowed(nb):
    nb.metadata.execution = {"allow_errors": True}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (an_older_format, "nbformat is 4.4"),
        (no_id, "a cell has no id"),
        (changed("task", cell_type="prose"), "not a valid notebook"),
        (another_kernel, "metadata are"),
        (the_state_of_a_widget, "metadata are"),
        (errors_allowed, "metadata are"),
        (changed("show", metadata={"nbmake": {"mock": {}}}), "'show' has the metadata 'nbmake'"),
        (changed("show", outputs=[new_output("stream")]), "'show' was executed"),
        (changed("show", execution_count=3), "'show' was executed"),
        (changed("show", id=UUID), f"'{UUID}' is not readable"),
        (changed("show", id="ab12cd34"), "'ab12cd34' is not readable"),
        (changed("show", id="Plot"), "'Plot' is not readable"),
        (changed("show", id="task"), "2 cells have the id 'task'"),
        (changed("setup", id="set-up"), "the first code cell must be 'setup'"),
        (tagged("imports"), "it is no cell"),
        (tagged("show", "imports"), "it is cell 'imports', cell 'show'"),
        (tagged("show", "raises-exception"), "'show' is tagged 'raises-exception'"),
        (tagged("show", "skip-execution"), "'show' is tagged 'skip-execution'"),
        (tagged("double-try", "exercize:double"), "has the unknown tag 'exercize:double'"),
        (inserted("task", code("1\n" * 1330, "long")), "130 at most are allowed"),
        (inserted("task", code("1\n" * 950, "long")), "has no place to stop"),
        (inserted("task", code("1\n" * 100, "long"), markdown("", "half-way")), "10 of 15 minutes"),
        (changed("answer", source="assert math.pi > 3"), "'answer' answers a prediction"),
        (changed("answer", source="expect_error(TypeError, '')"), "'answer' answers a prediction"),
        (inserted("proof", code("expect.as_expected(True, '')", "more")), "'more' answers a pred"),
        (changed("answer", source="testing.assert_close(half, 1)"), "'answer' answers a pred"),
        (changed("proof", source="print(1)"), "'proof' is tagged 'proof' and asserts nothing"),
        (tagged("take"), "must be tagged 'take-along'; it is no cell"),
        (tagged("show", "take-along"), "it is cell 'show', cell 'take'"),
        (inserted("reference", code("1", "last")), "it is cell 'take'"),
        (changed("take", source="import math"), "'take' has 1 lines, it must have 20 to 60"),
        (changed("take", source="from helpers import data\n" * 20), "'take' imports helpers"),
        (changed("take", source="import chapters.module\n" * 20), "'take' imports chapters"),
        (tagged("double-try"), "'double' of chapters/sample/exercises.py has 0 cells"),
        (tagged("show", "exercise:double"), "has 2 cells, it needs one"),
        (tagged("show", "exercise:triple"), "chapters/sample/exercises.py has no 'triple'"),
        (inserted("double-try", code("1", "one")), "'double-try' is tagged 'exercise:double': it"),
        (
            inserted("show", *[markdown(f"## Section {n}", f"n{n}") for n in range(4)]),
            "4 sections from 'Section 0' to 'Section 3'",
        ),
        (inserted("show", code("undefined(1", "broken")), "'broken' is not Python"),
        (changed("show", source="print(doubled)"), "'show' uses 'doubled', which the exercise"),
    ],
)
def test_a_broken_form_is_caught(change, problem):
    nb = good()
    change(nb)
    assert any(problem in found for found in problems(nb)), problems(nb)


@pytest.mark.parametrize(
    "source",
    [
        "double = doubled + 1",
        "doubled += 1",
        "print(doubled)\ndoubled = 2",
        "def show():\n    return doubled",
        "class Show:\n    def show(self):\n        return doubled",
        "[n for n in [1] if doubled]",
    ],
)
def test_a_use_of_an_answer_is_caught(source):
    nb = good()
    changed("show", source=source)(nb)
    assert len(problems(nb)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "doubled = 2\nprint(doubled)",
        "def doubled(n):\n    return doubled(n - 1)",
        "def show():\n    doubled = 2\n    return doubled",
        "for doubled in (1, 2):\n    print(doubled)",
        "[doubled for doubled in (1, 2)]",
    ],
)
def test_a_name_bound_anew_is_no_answer(source):
    nb = good()
    changed("show", source=source)(nb)
    inserted("take", code("print(1)", "after"))(nb)
    assert problems(nb) == []


def test_a_name_bound_anew_may_be_used_later():
    nb = good()
    inserted("take", code("doubled = ex.double.yours()", "again"), code("print(doubled)", "after"))(
        nb
    )
    assert problems(nb) == []


def with_cell(cell):
    nb = good()
    nb.cells.append(cell)
    return nb


@pytest.mark.parametrize(
    "source",
    [
        "[gone](02_gone.ipynb)",
        "[gone](#Gone)",
        "[gone](00_start_here.ipynb#gone)",
        "[gone](../README.md#gone)",
        "[outside](../../outside.md)",
        "[absolute](/notebooks/00_start_here.ipynb)",
        "[plain](http://example.org)",
        "<http://example.org>",
        "[![badge](gone.svg)](https://example.org)",
        '<a href="gone.md">gone</a>',
        "[a][reference]\n\n[reference]: gone.md",
        "[mail](mailto:nobody@example.org)",
        "![](https://example.org/picture.png)",
        '<img src="https://example.org/picture.png">',
        '<img alt="" src="https://example.org/picture.png">',
        "# Another title",
        "#### Two levels down",
    ],
)
def test_broken_prose_is_caught(source):
    assert len(problems(with_cell(markdown(source, "prose")))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "[itself](#The-task-of-x) and [another](00_start_here.ipynb#The-loop)",
        "[up](../README.md#start) and [out](https://example.org/a_b)",
        '<img alt="A loss that falls" src="https://example.org/a.png">',
        "[![Open](https://example.org/badge.svg)](https://example.org)",
        "~~~python\nimage = '![](x.png) [gone](gone.md)'\n~~~",
        "``[gone](gone.md) ` ``",
    ],
)
def test_good_prose_passes(source):
    assert problems(with_cell(markdown(source, "prose"))) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ('x.to("cuda")', "device"),
        ('x.to(device="cpu")', "device"),
        ('device = "cuda:0" if torch.cuda.is_available() else "cpu"', "device"),
        ("x.cuda()", "device"),
        ('device = f"cuda:{rank}"', "device"),
        ('%time x.to("mps")\nx.to("mps")', "device"),
        ('%%time\nx.to("mps")', "device"),
        ('import sys\n\nsys.path.append("..")', "sys.path"),
        ('from sys import path\n\npath.insert(0, "..")', "sys.path"),
        ('import warnings\n\nwarnings.filterwarnings("ignore")', "expect_warning"),
        ("from warnings import simplefilter", "expect_warning"),
        ("%matplotlib inline\nplt.show()", "plots.show"),
        ("%%capture\nprint()", "hides its output"),
        ('open("/tmp/file")', "absolute path"),
        ('open("C:\\\\data")', "absolute path"),
        ('open("~/file")', "absolute path"),
        ("%cd /home/me", "absolute path"),
        ("!git clone $address", "the command"),
        ("files = !ls", "the command"),
        ("%pip install package", "the magic 'pip'"),
        ("%%bash\npip install package", "the magic 'bash'"),
        ('import os\n\nos.system("pip install package")', "the command"),
    ],
)
def test_broken_code_is_caught(source, problem):
    found = problems(with_cell(code(source, "code")))
    assert found and all("cell 'code'" in one and problem in one for one in found)


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
    ],
)
def test_good_code_passes(source):
    assert problems(with_cell(code(source, "code"))) == []


def test_cells_tagged_device_names_may_name_one():
    assert problems(with_cell(code('torch.device("cuda")', "code", ["device-names"]))) == []


def test_only_the_core_path_is_held_short_and_regular():
    nb = good()
    nb.cells += [code("1", f"look-up-{number}") for number in range(100)]
    nb.cells += [markdown(f"## Look {number} up", f"section-{number}") for number in range(10)]
    assert problems(nb) == []
