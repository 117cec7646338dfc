"""For authors: the generated parts of the notebooks and the README, brought up to date.

A notebook's header, setup cell, exercise cells and footer come from ``chapters``, the
catalogue of exercises and the repository's address in ``pyproject.toml``. Nobody edits them by
hand; ``python -m helpers stamp`` writes them.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from string import Template

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from helpers import checkout, exercises
from chapters import CHAPTERS, Chapter
from helpers.checkout import CourseError
from tools.repository import Repository


def stamp(folder: Path) -> None:
    """Write the generated parts of a checkout's notebooks and README; name each file changed."""
    _write(folder, outdated(folder))


def adopt(folder: Path, repository: Repository) -> None:
    """Make a checkout name another repository: in ``pyproject.toml`` and in all that is generated.

    Nothing is written before every file is known; ``CourseError`` where one lacks its place.
    """
    pyproject, text = checkout.naming(folder, repository)
    texts = {pyproject: text, **outdated(folder, repository)}
    _write(folder, {path: text for path, text in texts.items() if path.read_text("utf-8") != text})


def outdated(folder: Path, repository: Repository | None = None) -> dict[Path, str]:
    """The files of a checkout whose generated parts are out of date, each with its new text.

    They carry the address of ``repository``, or of the one that ``pyproject.toml`` names.
    """
    repository = repository or checkout.repository(folder)
    notebooks = {folder / "notebooks" / f"{chapter.stem}.ipynb": chapter for chapter in CHAPTERS}
    wanted = {
        path: text_of(_stamped(nbformat.read(path, as_version=4), chapter, repository))
        for path, chapter in notebooks.items()
        if path.exists()
    }
    readme = folder / "README.md"
    wanted[readme] = stamped_readme(readme.read_text("utf-8"), repository)
    return {path: text for path, text in wanted.items() if path.read_text("utf-8") != text}


def _write(folder: Path, texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        path.write_bytes(text.encode())
        print(f"{path.relative_to(folder).as_posix()} is brought up to date.")


def stamped(nb: NotebookNode, chapter: Chapter) -> NotebookNode:
    """A copy of a chapter's notebook with its generated parts brought up to date.

    Outputs, execution counts and metadata other than tags are left out. Stamping a stamped notebook
    changes nothing. Raises ``CourseError`` where a cell is tagged with an unknown exercise.
    """
    return _stamped(nb, chapter, checkout.repository(checkout.root()))


def text_of(nb: NotebookNode) -> str:
    """The notebook as its file holds it: the same notebook gives the same text."""
    return nbformat.writes(nb).rstrip("\n") + "\n"


def stamped_readme(text: str, repository: Repository) -> str:
    """The README with its generated regions brought up to date.

    A region stands between ``<!-- badges -->`` and ``<!-- /badges -->``, for example. Raises
    ``CourseError`` if one is missing.
    """
    for name, content in _readme_regions(repository).items():
        region = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        parts = region.search(text)
        if parts is None:
            raise CourseError(
                f"README.md has no region {name!r}: put its generated part between "
                f"`<!-- {name} -->` and `<!-- /{name} -->`, each on a line of its own"
            )
        text = text[: parts.end(1)] + content + "\n" + text[parts.start(2) :]
    return text


# The notebooks


def _stamped(nb: NotebookNode, chapter: Chapter, repository: Repository) -> NotebookNode:
    authored = [cell for cell in nb.cells if not _is_generated(cell)]
    count = sum(_tagged(cell, "exercise") is not None for cell in authored)
    generated = copy.deepcopy(nb)
    generated.nbformat, generated.nbformat_minor = 4, 5
    generated.metadata = nbformat.from_dict(_METADATA)
    generated.cells = [
        new_markdown_cell(_header(chapter, count, repository), id="header"),
        new_code_cell(setup_source(repository), id="setup", metadata=_FOLDED),
        *_body(authored),
        new_markdown_cell(_footer(chapter), id="footer"),
    ]
    return generated


_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


# The set-up matters in Colab alone and is long: JupyterLab and Colab show it folded.
_FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}


def _is_generated(cell: NotebookNode) -> bool:
    return cell.id in ("header", "setup", "footer") or _tagged(cell, "prompt") is not None


def _tagged(cell: NotebookNode, kind: str) -> str | None:
    """The name in a cell's tag ``kind:name``, if it has one."""
    for tag in cell.metadata.get("tags", []):
        head, _, name = tag.partition(":")
        if head == kind and name:
            return name
    return None


def _body(authored: list[NotebookNode]) -> Iterator[NotebookNode]:
    """What the author wrote, cleaned; each exercise with its prompt before it."""
    for cell in map(_cleaned, authored):
        name = _tagged(cell, "exercise")
        if name is not None:
            prompt, starter = _prompt_and_starter(name, cell.id)
            id_ = re.sub("[._]", "-", name).lower()
            tags = {"tags": [f"prompt:{name}"]}
            yield new_markdown_cell(prompt, id=f"{id_}-ask", metadata=tags)
            cell.id, cell.source = f"{id_}-try", starter
        yield cell


def _cleaned(cell: NotebookNode) -> NotebookNode:
    cell = copy.deepcopy(cell)
    cell.metadata = NotebookNode({"tags": cell.metadata.tags} if cell.metadata.get("tags") else {})
    if cell.cell_type == "code":
        cell.outputs, cell.execution_count = [], None
    return cell


def _prompt_and_starter(name: str, cell_id: str) -> tuple[str, str]:
    known = exercises.catalogue()
    if name not in known:
        raise CourseError(
            f"cell {cell_id!r} is tagged 'exercise:{name}', but there is no such exercise: "
            f"known are {', '.join(known)}"
        )
    return known[name].prompt_cell(), known[name].starter_cell()


def _header(chapter: Chapter, count: int, repository: Repository) -> str:
    before, after = _neighbours(chapter)
    facts = [f"About {chapter.minutes} minutes", f"{count} exercise{'s' * (count != 1)}"]
    facts += [f"previous: {_link(before)}"] if before else []
    facts += [f"next: {_link(after)}"] if after else []
    return "\n\n".join(
        [
            f"# {chapter.number} · {chapter.title}",
            f"*{chapter.question}*",
            _colab_badge(chapter, repository),
            " · ".join(facts),
            "*NameError after a restart of the kernel?* Run the cells above first: "
            "*Run → Run All Above Selected Cell*.",
        ]
    )


def _footer(chapter: Chapter) -> str:
    _, after = _neighbours(chapter)
    onward = f"**Next:** {_link(after)}" if after else "**This is the last chapter so far.**"
    return (
        f"---\n\n{onward}\n\nTo see what you have got right so far, run `exercises.progress()` "
        "after `from helpers import exercises`, or `python -m helpers progress` in a terminal."
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


def setup_source(repository: Repository) -> str:
    """The first code cell of every notebook: in Colab it installs the course."""
    return _SETUP.substitute(url=repository.url, branch=repository.branch).strip()


# Requiring torch, torchvision and numpy in exactly the versions that are there lets pip add what
# is missing and keeps it from moving these three, which the kernel may have loaded. pip clones
# into a folder of its own and takes it away again: no clone of another day and no half of one can
# be in the way. The installation is not editable: a running kernel would not find it.
_SETUP = Template(r"""
# In Colab, this cell installs the course. Elsewhere it does nothing.
import importlib.util
import subprocess
import sys
from importlib.metadata import version

if importlib.util.find_spec("helpers") is None:
    pip = [sys.executable, "-m", "pip", "install"]
    if "google.colab" not in sys.modules:
        raise ImportError(f"Run `{' '.join(pip)} -e .` in the course's folder, then restart.")
    url = "$url"
    course = f"git+{url}@$branch"
    kept = [f"{name}=={version(name)}" for name in ("torch", "torchvision", "numpy")]
    done = subprocess.run([*pip, course, *kept], capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:]
        todo = "Mend what pip says below"
        if "conflicting dependencies" in said:
            todo = "Choose a newer runtime (Runtime → Change runtime type)"
        failed = f"pip could not install the course from {course}."
        raise RuntimeError(f"{failed} {todo}, then run this cell again.\n{said}")
    importlib.invalidate_caches()
""")


# The README


def _readme_regions(repository: Repository) -> dict[str, str]:
    """The content of each generated region."""
    tests = f"{repository.url}/actions/workflows/tests.yml"
    rows = [
        f"| {_notebook_link(chapter)} | {chapter.question} | {chapter.minutes} min |"
        for chapter in CHAPTERS
    ]
    return {
        "badges": f"[![Tests]({tests}/badge.svg)]({tests}) "
        + _colab_badge(CHAPTERS[0], repository),
        "site": (
            f"To look before you run, read\n[the course's site]({repository.site}):\nevery chapter "
            "with its outputs, an index of error messages, and a recap sheet.\n"
            "`python -m helpers site` makes it here."
        ),
        "clone": f"```bash\ngit clone {repository.url}\ncd {repository.name}\n```",
        "chapters": "\n".join(
            ["| Chapter | The question it answers | Core path |", "|---|---|---|", *rows]
        ),
    }


def _notebook_link(chapter: Chapter) -> str:
    return f"[{chapter.number} · {chapter.title}](notebooks/{chapter.stem}.ipynb)"
