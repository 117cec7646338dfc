"""What an exercise says: one small card, rich in a notebook and plain in a terminal."""

from __future__ import annotations

import html
import re
import textwrap
from dataclasses import dataclass

#: state -> (symbol, words, colour). The words carry the meaning; colour and symbol repeat it.
_LOOKS = {
    "todo": ("○", "Not tried yet", "var(--jp-info-color1, #1976d2)"),
    "wrong": ("✗", "Not yet", "var(--jp-warn-color1, #b75c00)"),
    "right": ("✓", "Right", "var(--jp-success-color1, #2e7d32)"),
    "hint": ("→", "Hint", "var(--jp-info-color1, #1976d2)"),
    "solution": ("≡", "A solution", "var(--jp-info-color1, #1976d2)"),
}


@dataclass(frozen=True)
class Card:
    """One answer of the course to its reader.

    ``state`` is "todo", "wrong", "right", "hint" or "solution". ``text`` holds paragraphs divided
    by blank lines, with `code` in backticks; ``rows`` hold labelled output shown as it stands;
    ``code`` is a listing.
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
        inside = [
            f'<div><b style="color:{colour}">{symbol} {words}</b> · {html.escape(self.title)}</div>'
        ]
        inside += [
            f'<p style="margin:.4em 0">{_code_spans(paragraph)}</p>'
            for paragraph in _paragraphs(self.text)
        ]
        inside += [
            f'<div style="margin:.3em 0"><span style="opacity:.7">{html.escape(label)}</span>'
            f"{_listing(value)}</div>"
            for label, value in self.rows
        ]
        if self.code:
            inside.append(_listing(self.code))
        return (
            f'<div style="border-left:4px solid {colour};padding:.2em 0 .2em .9em;max-width:52em">'
            + "".join(inside)
            + "</div>"
        )


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _code_spans(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def _listing(text: str) -> str:
    style = "margin:.1em 0 .1em 1em;white-space:pre-wrap;overflow-wrap:anywhere"
    return f'<pre style="{style}">{html.escape(text)}</pre>'
