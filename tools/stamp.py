"""The generated parts of the notebooks and the README, brought up to date.

A notebook's header, setup cell and footer and the README's marked regions come from ``chapters``
and from the repository's address in ``pyproject.toml``. ``python -m tools stamp`` writes them.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from string import Template

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

import chapters
from chapters import CHAPTERS, Chapter
from helpers import checkout
from helpers.checkout import CourseError
from tools import minutes
from tools.repository import Repository, naming
from tools.repository import repository as repository_of


def stamp(folder: Path) -> None:
    """Write the generated parts of a checkout's notebooks and README; name each file changed."""
    _write(folder, outdated(folder))


def adopt(folder: Path, repository: Repository) -> None:
    """Make a checkout name another repository, in ``pyproject.toml`` and in all generated parts.

    Every file is made before the first is written. Raises ``CourseError`` where one lacks its
    place for the address.
    """
    pyproject, text = naming(folder, repository)
    texts = {pyproject: text, **outdated(folder, repository)}
    _write(folder, {path: text for path, text in texts.items() if path.read_text("utf-8") != text})


def outdated(folder: Path, repository: Repository | None = None) -> dict[Path, str]:
    """The files of a checkout whose generated parts are out of date, each with its new text.

    They get the address of ``repository``, or of the one that ``pyproject.toml`` names.
    """
    repository = repository or repository_of(folder)
    paths = {chapter: folder / "notebooks" / f"{chapter.stem}.ipynb" for chapter in CHAPTERS}
    notebooks = {
        chapter: stamped(nbformat.read(path, as_version=4), chapter, repository)
        for chapter, path in paths.items()
        if path.exists()
    }
    wanted = {paths[chapter]: text_of(nb) for chapter, nb in notebooks.items()}
    readme = folder / "README.md"
    wanted[readme] = stamped_readme(readme.read_text("utf-8"), notebooks, repository)
    return {path: text for path, text in wanted.items() if path.read_text("utf-8") != text}


def stamped(
    nb: NotebookNode, chapter: Chapter, repository: Repository | None = None
) -> NotebookNode:
    """A copy of a chapter's notebook with its generated parts brought up to date.

    They get the address of ``repository``, or of the one that this checkout names.
    Outputs, execution counts and metadata other than tags are left out; the code of a ``proof`` is
    hidden. A cell called ``half-way`` says how much of the core path lies before it. Stamping a
    stamped notebook changes nothing. Raises ``CourseError`` for a tag of an exercise that the
    chapter does not have.
    """
    repository = repository or repository_of(checkout.root())
    authored = [_cleaned(cell) for cell in nb.cells if cell.id not in GENERATED]
    exercises = [name for cell in authored if (name := exercise_of(cell))]
    _refuse_unknown(exercises, chapter)
    made = copy.deepcopy(nb)
    made.nbformat, made.nbformat_minor = 4, 5
    made.metadata = nbformat.from_dict(_METADATA)
    header = new_markdown_cell(id="header")
    made.cells = [
        header,
        new_code_cell(setup_source(repository), id="setup", metadata=_FOLDED),
        *authored,
        new_markdown_cell(_footer(chapter), id="footer"),
    ]
    header.source = _header(chapter, made, repository)
    for cell in made.cells:
        if cell.id == "half-way":
            cell.source = _half_way(minutes.before(made, cell), minutes.of(made))
    return made


def text_of(nb: NotebookNode) -> str:
    """The notebook as its file holds it: the same notebook gives the same text."""
    return nbformat.writes(nb).rstrip("\n") + "\n"


def exercise_of(cell: NotebookNode) -> str:
    """The name in a cell's tag ``exercise:name``; "" if it has none."""
    tags = cell.metadata.get("tags", [])
    names = [tag.removeprefix("exercise:") for tag in tags if tag.startswith("exercise:")]
    return names[0] if names else ""


def stamped_readme(
    text: str, notebooks: dict[Chapter, NotebookNode], repository: Repository
) -> str:
    """The README with its generated regions brought up to date; raises as ``with_regions``."""
    return with_regions(text, _readme_regions(notebooks, repository))


def with_regions(readme: str, contents: dict[str, str]) -> str:
    """The README with the contents of some regions, given by name, replaced.

    A region stands between ``<!-- badges -->`` and ``<!-- /badges -->``, for example. Raises
    ``CourseError`` if one is missing.
    """
    for name, content in contents.items():
        region = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        parts = region.search(readme)
        if parts is None:
            raise CourseError(
                f"README.md has no region {name!r}: put its generated part between "
                f"`<!-- {name} -->` and `<!-- /{name} -->`, each on a line of its own"
            )
        readme = readme[: parts.end(1)] + content + "\n" + readme[parts.start(2) :]
    return readme


def _write(folder: Path, texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        path.write_bytes(text.encode())
        print(f"{path.relative_to(folder).as_posix()} is brought up to date.")


# The notebooks

GENERATED = ("header", "setup", "footer")

_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

# JupyterLab and Colab fold the setup cell, which matters in Colab alone and is long, and proofs.
_FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}


def _cleaned(cell: NotebookNode) -> NotebookNode:
    cell = copy.deepcopy(cell)
    tags = cell.metadata.get("tags", [])
    cell.metadata = NotebookNode({"tags": tags} if tags else {})
    if "proof" in tags:
        cell.metadata.update(_FOLDED)
    if cell.cell_type == "code":
        cell.outputs, cell.execution_count = [], None
    return cell


def _refuse_unknown(names: list[str], chapter: Chapter) -> None:
    if not names:
        return
    everything = chapters.catalogue().values()
    known = [exercise.short_name for exercise in everything if exercise.chapter == chapter.name]
    for name in names:
        if name not in known:
            raise CourseError(
                f"notebooks/{chapter.stem}.ipynb has a cell with the tag 'exercise:{name}', but "
                f"chapters/{chapter.name}/exercises.py defines no exercise {name!r}: define it or "
                f"change the tag; the chapter has {', '.join(known) or 'none'}"
            )


def facts(nb: NotebookNode) -> list[str]:
    """How long a chapter takes, and how many exercises it has."""
    count = sum(bool(exercise_of(cell)) for cell in nb.cells)
    return [f"About {minutes.of(nb)} minutes", f"{count} exercise{'s' * (count != 1)}"]


def _header(chapter: Chapter, nb: NotebookNode, repository: Repository) -> str:
    before, after = _neighbours(chapter)
    facts_and_links = facts(nb)
    facts_and_links += [f"previous: {_link(before)}"] if before else []
    facts_and_links += [f"next: {_link(after)}"] if after else []
    return "\n\n".join(
        [
            f"# {chapter.number} · {chapter.title}",
            f"*{chapter.question}*",
            _colab_badge(chapter, repository),
            " · ".join(facts_and_links),
            "*NameError after a restart of the kernel?* Run the cells above first: "
            "*Run → Run All Above Selected Cell*.",
        ]
    )


def _half_way(done: int, total: int) -> str:
    return (
        f"---\n\n**A good place to stop.** About {done} of {total} minutes are done. When you come "
        "back, run the cells above first: *Run → Run All Above Selected Cell*."
    )


def _footer(chapter: Chapter) -> str:
    _, after = _neighbours(chapter)
    onward = f"**Next:** {_link(after)}" if after else "**This is the last chapter so far.**"
    return (
        f"---\n\n{onward}\n\nTo see what you have got right so far, run "
        "`import chapters; chapters.progress()` here, or `python -m helpers progress` in a "
        "terminal. If a check was wrong about your answer or had nothing to say, `ex.report()` "
        "writes such answers to a file for you to read and, if you like, to send to us."
    )


def _neighbours(chapter: Chapter) -> tuple[Chapter | None, Chapter | None]:
    """The chapters before and after this one; None where there is none."""
    around = [None, *CHAPTERS, None]
    place = around.index(chapter)
    return around[place - 1], around[place + 1]


def _link(chapter: Chapter) -> str:
    return f"[{chapter.number} · {chapter.title}]({chapter.stem}.ipynb)"


def _colab_badge(chapter: Chapter, repository: Repository) -> str:
    return (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"({colab_url(chapter, repository)})"
    )


def colab_url(chapter: Chapter, repository: Repository) -> str:
    """The address at which Colab opens a chapter's notebook."""
    return (
        f"https://colab.research.google.com/github/{repository.slug}/blob/{repository.branch}"
        f"/notebooks/{chapter.stem}.ipynb"
    )


# The setup cell


def setup_source(repository: Repository) -> str:
    """The first code cell of every notebook: in Colab it installs the course."""
    return _SETUP.substitute(url=repository.url, branch=repository.branch).strip()


# Each package is known by a file that only the course has, so that another package of that name is
# noticed wherever it lies. A folder without ``__init__.py`` has no origin and hides nothing.
# Requiring torch, torchvision and numpy in exactly the versions that are there lets pip add what is
# missing and keeps it from changing these three, which the kernel may have loaded. pip clones into
# a folder of its own and removes it. The installation is not editable: a running kernel would not
# find it.
_SETUP = Template(r"""
# In Colab, this cell installs the course. Elsewhere it says what to run if the course is missing.
import importlib.util
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

own_files = {"helpers": "exercises/notation.py", "chapters": "start_here/exercises.toml"}
missing = []
for package, file in own_files.items():
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        missing.append(package)
    elif not (Path(spec.origin).parent / file).is_file():
        raise ImportError(
            f"The course needs its own `{package}`, but Python finds {spec.origin}. "
            "Rename or remove that, restart the kernel, and run this cell again."
        )
if missing:
    course = "git+$url@$branch"
    if "google.colab" not in sys.modules:
        what = "-e .." if Path("../helpers", own_files["helpers"]).is_file() else course
        line = f"`%pip install {what}` in a new cell (on Kaggle, turn the internet on first)"
        raise ImportError(f"Run {line}, then restart the kernel.")
    pip = [sys.executable, "-m", "pip", "install", course]
    kept = [f"{name}=={version(name)}" for name in ("torch", "torchvision", "numpy")]
    done = subprocess.run([*pip, *kept], capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:]
        todo = "Fix what pip says below"
        if "conflicting dependencies" in said:
            todo = "Choose a newer runtime (Runtime → Change runtime type)"
        raise RuntimeError(f"pip can't install {course}. {todo}, then run this cell again.\n{said}")
    importlib.invalidate_caches()
""")


# The README


def _readme_regions(
    notebooks: dict[Chapter, NotebookNode], repository: Repository
) -> dict[str, str]:
    """The content of each generated region."""
    tests = f"{repository.url}/actions/workflows/tests.yml"
    rows = [
        f"| {_notebook_link(chapter)} | {chapter.question} | {minutes.of(nb)} min |"
        for chapter, nb in notebooks.items()
    ]
    return {
        "badges": f"[![Tests]({tests}/badge.svg)]({tests}) "
        + _colab_badge(CHAPTERS[0], repository),
        "site": (
            f"To look before you run, read\n[the course's site]({repository.site}):\nevery chapter "
            "with its outputs, an index of error messages, and a recap sheet.\n"
            "`python -m tools site` makes it here."
        ),
        "clone": f"```bash\ngit clone {repository.url}\ncd {repository.name}\n```",
        "chapters": "\n".join(
            ["| Chapter | The question it answers | Core path |", "|---|---|---|", *rows]
        ),
    }


def _notebook_link(chapter: Chapter) -> str:
    return f"[{chapter.number} · {chapter.title}](notebooks/{chapter.stem}.ipynb)"
