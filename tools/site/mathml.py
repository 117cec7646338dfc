"""An extension of Sphinx: formulas as MathML, which browsers draw themselves, without a script."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mathml(latex: str, display: str) -> str:
    """A formula's MathML; ``display`` is "inline" or "block"."""
    # The converter leaves no space between a function's name and what it is applied to.
    spaced = re.sub(r"\\(log|exp|sin|cos|max|min)\b\s*(?![_^({])", r"\\\1\\,", latex)
    return convert(spaced, display=display)


def _visit_inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _visit_block(translator: Any, node: nodes.math_block) -> None:
    formula = mathml(node.astext(), "block")
    translator.body.append(f'<div class="formula" tabindex="0">{formula}</div>')
    raise nodes.SkipNode
