"""Markdown as the pages are written in it: anchors, links, text that means itself."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from chapters import Chapter


def anchor(heading: str) -> str:
    """The anchor of a heading, given as it is rendered: the one that JupyterLab makes."""
    return heading.replace(" ", "-")


def rendered(heading: str) -> str:
    """A heading's text without the marks of code and emphasis."""
    linked = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[`*]|(?<!\w)_|_(?!\w)", "", linked)


def link_to(chapter: Chapter, heading: str = "") -> str:
    """A link to a chapter's page, or to the section under a heading of it."""
    title = f"{chapter.number} · {chapter.title}"
    if not heading:
        return f"[{title}]({chapter.stem}.ipynb)"
    return f"[{title}: {heading}](<{chapter.stem}.ipynb#{anchor(rendered(heading))}>)"


def literal(text: str) -> str:
    """The text as a code span, whatever backticks it holds."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}"


def escaped(text: str) -> str:
    """Text with `code` and *emphasis* in which nothing else is markup."""
    parts = re.split(r"(`[^`]+`)", text)
    parts[::2] = [re.sub(r"([\\<>_$#~|\[\]{}])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def buttons(links: dict[str, str]) -> str:
    """A row of links, given by their labels, that look like buttons."""
    made = []
    for label, url in links.items():
        download = " download" if url.startswith("notebooks/") else ""
        made.append(f'<a class="button" href="{html.escape(url)}"{download}>{label}</a>')
    return "\n".join(['<p class="buttons">', *made, "</p>"])


def folded(summary: str, content: str, kind: str) -> str:
    """Markdown that shows ``content`` when its summary is clicked; ``kind`` is a class for CSS."""
    opened = f'<details class="{kind}"><summary>{summary}</summary>'
    return f"{opened}\n\n{content}\n\n</details>"


def sections(markdown: str) -> Iterator[tuple[str, str]]:
    """The heading and the content of each part that begins with a heading of any level."""
    parts = re.split(r"^#{1,6} +(.+)$", markdown, flags=re.MULTILINE)
    yield from zip(parts[1::2], map(str.strip, parts[2::2]), strict=True)
