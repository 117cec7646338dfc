"""How the outputs of a notebook look on a page: figures, legible text, what is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from playwright.sync_api import Locator, Page

LEAST_CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3: text of usual size
OUTPUTS = ".jp-Cell-outputArea"
# What the course draws as HTML; all else has the colours of JupyterLab.
OWN = f'{OUTPUTS} [data-mime-type="text/html"]'

Colour = Sequence[float]  # red, green and blue from 0 to 255, and the opacity from 0 to 1


class Figure(NamedTuple):
    """An image in an output. ``colours`` is 2 if it has two or more, ``width`` that on the page."""

    text: str
    width: int
    colours: int


def figures(cell: Locator) -> list[Figure]:
    """The images that a cell shows; one that cannot be decoded has no colours."""
    images = cell.locator(f"{OUTPUTS} img").all()
    return [Figure(*image.evaluate(_FIGURE)) for image in images]


def too_faint(page: Page) -> list[str]:
    """The texts in the outputs of the course whose contrast is below ``LEAST_CONTRAST``."""
    return [
        f"{text!r}: {contrast(colour, *backgrounds):.1f}"
        for text, colour, backgrounds in page.evaluate(_TEXTS, OWN)
        if contrast(colour, *backgrounds) < LEAST_CONTRAST
    ]


def too_wide(page: Page) -> list[str]:
    """The outputs of the course that are wider than their cell, by the beginning of their text."""
    return page.evaluate(_TOO_WIDE, OWN)


def contrast(text: Colour, *backgrounds: Colour) -> float:
    """WCAG's contrast ratio of a text on backgrounds, the uppermost first: 1 to 21."""
    ground = np.full(3, 255.0)
    for background in reversed(backgrounds):
        ground = _over(background, ground)
    lighter, darker = sorted((_luminance(_over(text, ground)), _luminance(ground)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _over(colour: Colour, ground: np.ndarray) -> np.ndarray:
    *parts, opacity = colour
    return opacity * np.asarray(parts) + (1 - opacity) * ground


def _luminance(colour: np.ndarray) -> float:
    parts = colour / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


_FIGURE = """async image => {
    const colours = async () => {
        try {
            await image.decode();
        } catch {
            return 0;
        }
        const {naturalWidth: width, naturalHeight: height} = image;
        const context = new OffscreenCanvas(width, height).getContext("2d");
        context.drawImage(image, 0, 0);
        const pixels = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
        return pixels.some(pixel => pixel !== pixels[0]) ? 2 : 1;
    };
    return [image.alt.trim(), image.getBoundingClientRect().width, await colours()];
}"""

# A canvas reads every way of writing a colour.
_TEXTS = """selector => {
    const context = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
    const colour = (written, opacity) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = written;
        context.fillRect(0, 0, 1, 1);
        const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
        return [red, green, blue, alpha / 255 * opacity];
    };
    const found = [];
    for (const output of document.querySelectorAll(selector)) {
        const walker = document.createTreeWalker(output, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
            const text = walker.currentNode.textContent.trim();
            const parent = walker.currentNode.parentElement;
            if (!text || ["SCRIPT", "STYLE"].includes(parent.tagName)) continue;
            let opacity = 1;
            const backgrounds = [];
            for (let around = parent; around; around = around.parentElement) {
                const style = getComputedStyle(around);
                opacity *= style.opacity;
                backgrounds.push(colour(style.backgroundColor, 1));
            }
            found.push([text, colour(getComputedStyle(parent).color, opacity), backgrounds]);
        }
    }
    return found;
}"""

_TOO_WIDE = """selector => [...document.querySelectorAll(selector)]
    .filter(output => output.scrollWidth > output.clientWidth + 1)
    .map(output => output.innerText.slice(0, 60) || output.innerHTML.slice(0, 60))"""
