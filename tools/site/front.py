"""The front page: the README, with the chapters first and its links leading to the site's pages."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode

from chapters import Chapter
from helpers.checkout import CourseError
from tools import minutes
from tools.repository import Repository
from tools.site.markdown import buttons
from tools.stamp import colab_url, with_regions


def page(
    folder: Path, notebooks: dict[Chapter, NotebookNode], repository: Repository, source: Path
) -> str:
    """The page's markdown, from the README of the checkout ``folder``.

    The README's pictures are copied into ``source``, the folder of the page. Raises
    ``CourseError`` where the README lacks a region or links to a file that does not exist.
    """
    chapters = list(notebooks)
    text = (folder / "README.md").read_text("utf-8")
    regions = {
        "site": "",
        "badges": _buttons(chapters[0], repository),
        "chapters": _cards(notebooks),
    }
    text = _chapters_first(with_regions(text, regions))
    text = re.sub(r"<!-- .*? -->\n?", "", text)
    pages = {f"notebooks/{chapter.stem}.ipynb": f"{chapter.stem}.ipynb" for chapter in chapters}

    def place(match: re.Match[str]) -> str:
        picture, label, target = match.groups()
        if re.match(r"#|\w+:", target):
            return match[0]
        if target in pages:
            return f"[{label}]({pages[target]})"
        if not (folder / target.partition("#")[0]).exists():
            raise CourseError(f"README.md links to {target!r}, and there is no such file")
        if picture:
            shutil.copy(folder / target, source)
            return f"![{label}]({Path(target).name})"
        return f"[{label}]({repository.url}/blob/{repository.branch}/{target})"

    text = re.sub(r"(!?)\[([^\[\]]*)\]\(([^)\s]+)\)", place, text)
    return f"{text.rstrip()}\n\n{_contents(chapters)}"


def _buttons(first: Chapter, repository: Repository) -> str:
    links = {
        f"Read chapter {first.number}": f"{first.stem}.html",
        "Open it in Colab": colab_url(first, repository),
        "Look up a message": "messages.html",
        "Recap sheet": "recap.html",
    }
    return f"{buttons(links)}\n"


def _cards(notebooks: dict[Chapter, NotebookNode]) -> str:
    cards = "\n".join(
        f'<li><a href="{chapter.stem}.html"><span class="number">{chapter.number}</span>'
        f'<span class="title">{html.escape(chapter.title)}</span></a>'
        f"<span>{html.escape(chapter.question)}</span>"
        f'<span class="minutes">{minutes.of(nb)} min</span></li>'
        for chapter, nb in notebooks.items()
    )
    return f'<ul class="chapters">\n{cards}\n</ul>\n'


def _chapters_first(text: str) -> str:
    """The README with the section that lists the chapters before all others."""
    beginning, *parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    parts.sort(key=lambda part: "<!-- chapters -->" not in part)
    return "".join([beginning, *parts])


def _contents(chapters: Sequence[Chapter]) -> str:
    """What the site's sidebar lists."""
    lists = {
        "Chapters": [chapter.stem for chapter in chapters],
        "To look up": ["messages", "recap"],
    }
    return "\n".join(
        "```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(names) + "\n```\n"
        for caption, names in lists.items()
    )
