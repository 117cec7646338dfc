"""The front page: the README, with the chapters first and its links led to the site's pages."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tools import stamp
from chapters import Chapter
from helpers.checkout import CourseError
from tools.repository import Repository

NAME = "index"


def page(folder: Path, chapters: Sequence[Chapter], repository: Repository, images: Path) -> str:
    """The page's markdown, from the README of the checkout ``folder``.

    The README's pictures are copied into ``images``, a folder beside the page. Raises
    ``CourseError`` where the README lacks a region or links to a file that is not there.
    """
    text = (folder / "README.md").read_text("utf-8")
    text = _region(text, "site", "")
    text = _region(text, "badges", _buttons(chapters[0], repository))
    text = _region(text, "chapters", _cards(chapters))
    text = _chapters_first(text)
    text = re.sub(r"<!-- .*? -->\n?", "", text)
    text = _outside_code(text, lambda part: _led(part, folder, chapters, repository, images))
    return f"{text.rstrip()}\n\n{_contents(chapters)}"


def _region(text: str, name: str, content: str) -> str:
    """The text with the content of one of the README's generated regions replaced."""
    parts = text.split(f"<!-- {name} -->\n"), text.split(f"<!-- /{name} -->")
    if not all(len(part) == 2 for part in parts):
        raise CourseError(
            f"README.md has no region {name!r}, or more than one: expected is one that begins with "
            f"`<!-- {name} -->` and ends with `<!-- /{name} -->`"
        )
    # A line with this comment is left, by which the section is found.
    return f"{parts[0][0]}<!-- {name} -->\n{content}\n{parts[1][1]}"


def _buttons(first: Chapter, repository: Repository) -> str:
    links = {
        f"Read chapter {first.number}": f"{first.stem}.html",
        "Open it in Colab": stamp.colab_url(first, repository),
        "Look up a message": "messages.html",
        "Recap sheet": "recap.html",
    }
    buttons = "\n".join(
        f'<a class="button" href="{html.escape(url)}">{label}</a>' for label, url in links.items()
    )
    return f'<p class="buttons">\n{buttons}\n</p>\n'


def _cards(chapters: Sequence[Chapter]) -> str:
    cards = "\n".join(
        f'<li><a href="{chapter.stem}.html"><span class="number">{chapter.number}</span>'
        f'<span class="title">{html.escape(chapter.title)}</span></a>'
        f"<span>{html.escape(chapter.question)}</span>"
        f'<span class="minutes">{chapter.minutes} min</span></li>'
        for chapter in chapters
    )
    return f'<ul class="chapters">\n{cards}\n</ul>\n'


def _chapters_first(text: str) -> str:
    """The README with the section that lists the chapters before all others."""
    beginning, *parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    parts.sort(key=lambda part: "<!-- chapters -->" not in part)
    return "".join([beginning, *parts])


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = map(change, parts[::2])
    return "".join(parts)


def _led(
    text: str,
    folder: Path,
    chapters: Sequence[Chapter],
    repository: Repository,
    images: Path,
) -> str:
    """The text, each relative link in it leading to a page, a picture or the repository."""
    pages = {f"notebooks/{chapter.stem}.ipynb": f"{chapter.stem}.ipynb" for chapter in chapters}

    def led(match: re.Match[str]) -> str:
        picture, label, target = match.groups()
        if re.match(r"#|\w+:", target):
            return match[0]
        if target in pages:
            return f"[{label}]({pages[target]})"
        if not (folder / target).exists():
            raise CourseError(f"README.md links to {target!r}, and there is no such file")
        if picture:
            shutil.copy(folder / target, images)
            return f"![{label}]({images.name}/{Path(target).name})"
        return f"[{label}]({repository.url}/blob/{repository.branch}/{target})"

    return re.sub(r"(!?)\[([^\[\]]*)\]\(([^)\s]+)\)", led, text)


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
