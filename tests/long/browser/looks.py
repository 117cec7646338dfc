"""How a page looks: figures, contrast, what is cut off."""

from __future__ import annotations

from typing import NamedTuple

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page

OUTPUTS = ".jp-Cell-outputArea"
# What the course draws as HTML; all else has the colours of JupyterLab.
OWN = f'{OUTPUTS} [data-mime-type="text/html"]'

TRIES = 20  # to find a text, half a second apart


class Figure(NamedTuple):
    """An image in an output. ``colours`` is 2 if it has two or more, ``width`` that on the page."""

    text: str
    width: int
    colours: int


def figures(cell: Locator) -> list[Figure]:
    """The images that a cell shows; one that cannot be decoded has no colours."""
    images = cell.locator(f"{OUTPUTS} img").all()
    return [Figure(*image.evaluate(_FIGURE)) for image in images]


def too_faint(page: Page, selector: str = OWN) -> list[str]:
    """The texts inside ``selector`` whose contrast is less than WCAG asks for: 4.5, or 3 if large.

    Raises ``AssertionError`` if axe finds no text to judge.
    """
    # JupyterLab's body has no height, and axe believes that nothing in it can be seen.
    page.add_style_tag(content="body { min-height: 100vh }")
    for _ in range(TRIES):
        found = _axe(page, {"include": [[selector]]}, {"runOnly": ["color-contrast"]})
        if found["passes"] or found["violations"]:
            return _said(found)
        page.wait_for_timeout(500)  # the page is not laid out yet
    raise AssertionError(f"axe finds no text in {selector}")


def faults(page: Page) -> list[str]:
    """What axe finds serious or critical on the whole page, without contrast."""
    rules = {"color-contrast": {"enabled": False}}
    return _said(_axe(page, None, {"rules": rules}))


def _axe(page: Page, context: dict | None, options: dict) -> dict:
    # To describe also the many places where all is well takes four times as long.
    options |= {"iframes": False, "resultTypes": ["violations"]}
    return Axe().run(page, context, options).response


def _said(found: dict) -> list[str]:
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    return [
        f"{one['id']}: {node['target']}: {node['failureSummary']}"
        for one in serious
        for node in one["nodes"][:3]
    ]


def too_wide(page: Page) -> list[str]:
    """The outputs of the course that are wider than their cell, by the beginning of their text."""
    return page.evaluate(_TOO_WIDE, OWN)


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

_TOO_WIDE = """selector => [...document.querySelectorAll(selector)]
    .filter(output => output.scrollWidth > output.clientWidth + 1)
    .map(output => output.innerText.slice(0, 60) || output.innerHTML.slice(0, 60))"""
