"""What an exercise says: one small card, rich in a notebook and plain in a terminal."""

from __future__ import annotations

import html
import re
import textwrap
from dataclasses import dataclass

#: state -> (symbol, words, colour). The words carry the meaning; colour and symbol repeat it.
_LOOKS = {
    "todo": ("○", "Not tried yet", "var(--jp-info-color1, #1976d2)"),
    "wrong": ("✗", "Not yet", "#d9480f"),
    "right": ("✓", "Right", "var(--jp-success-color1, #2e7d32)"),
    "hint": ("→", "Hint", "var(--jp-info-color1, #1976d2)"),
    "solution": ("≡", "A solution", "var(--jp-info-color1, #1976d2)"),
    "report": ("≡", "Report", "var(--jp-info-color1, #1976d2)"),
}


@dataclass(frozen=True)
class Card:
    """One answer of the course to its reader.

    ``state`` is "todo", "wrong", "right", "hint", "solution" or "report". ``text`` holds
    paragraphs divided by blank lines, with `code` in backticks and *emphasis* in asterisks;
    ``rows`` hold labelled output shown as it stands; ``code`` is a listing.
    """

    state: str
    title: str
    text: str
    rows: tuple[tuple[str, str], ...] = ()
    code: str = ""

    def __str__(self) -> str:
        symbol, words, _ = _LOOKS[self.state]
        parts = [f"{symbol} {words} · {self.title}"]
        parts += [textwrap.fill(paragraph, 96) for paragraph in _paragraphs(self.text)]
        width = max((len(label) for label, _ in self.rows), default=0)
        for label, value in self.rows:
            parts.append(
                textwrap.indent(value, " " * (width + 4)).replace(
                    " " * (width + 4), f"  {label:<{width}}  ", 1
                )
            )
        if self.code:
            parts.append(textwrap.indent(self.code, "    "))
        return "\n".join(parts)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        symbol, words, colour = _LOOKS[self.state]
        # Mixed with the text's own colour, it stands out from a light page and from a dark one.
        legible = f"color-mix(in srgb, {colour} 65%, currentColor)"
        head = f'<b style="color:{legible}">{symbol} {words}</b> · {inline(self.title)}'
        inside = [f"<div>{head}</div>"]
        inside += [
            f'<p style="margin:.4em 0;max-width:52em">{inline(paragraph)}</p>'
            for paragraph in _paragraphs(self.text)
        ]
        if self.rows:
            inside.append(_table(self.rows))
        if self.code:
            inside.append(f'<pre style="{_CODE}">{html.escape(self.code)}</pre>')
        style = f"border-left:4px solid {colour};padding:.2em 0 .2em .9em"
        return f'<div style="{style}">{"".join(inside)}</div>'


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def inline(text: str) -> str:
    """HTML for text with `code` in backticks and *emphasis* in asterisks."""
    parts = re.split(r"`([^`]+)`", html.escape(text, quote=False))
    for place, part in enumerate(parts):
        if place % 2:
            parts[place] = f"<code>{part}</code>"
        else:
            parts[place] = re.sub(r"\*(\w[^*]*)\*", r"<em>\1</em>", part)
    return "".join(parts)


_CODE = "margin:.4em 0;white-space:pre;overflow-x:auto;font-size:var(--jp-code-font-size, 13px)"
_VALUE = "margin:0;white-space:pre-wrap;overflow-wrap:anywhere"


def _table(rows: tuple[tuple[str, str], ...]) -> str:
    cells = "".join(
        f'<span style="opacity:.7">{html.escape(label)}</span>'
        f'<pre style="{_VALUE}">{html.escape(value)}</pre>'
        for label, value in rows
    )
    grid = "display:grid;grid-template-columns:max-content 1fr;gap:.2em 1em;align-items:baseline"
    return f'<div style="{grid};margin:.3em 0">{cells}</div>'
