"""A page in Chromium, what goes wrong on it, and what can be seen on it."""

from __future__ import annotations

import functools
import io
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Error, Frame, Locator, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS_TO_SHOW = 60
ELSEWHERE = re.compile(r"https?://(?!127\.0\.0\.1|localhost)")
# Root may not use the sandbox; the rest keeps the browser from everything but the pages.
OPTIONS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
)
Found = TypeVar("Found")


def program() -> str | None:
    """The path of the browser: ``COURSE_BROWSER`` or one of ``NAMES``; None if there is none."""
    asked = os.environ.get("COURSE_BROWSER", "required")
    names = NAMES if asked == "required" else (asked,)
    return next(filter(None, map(shutil.which, names)), None)


def is_required() -> bool:
    """Whether a missing browser is a failure and not a reason to skip."""
    return "COURSE_BROWSER" in os.environ


def launch(playwright: Playwright) -> Browser:
    """Start the browser, without a window and with an empty profile of its own."""
    return playwright.chromium.launch(executable_path=program(), args=OPTIONS)


class Page:
    """A page and the errors it reports: messages on its console and exceptions of its scripts.

    Nothing but this machine is asked: what the page wants from elsewhere is an empty answer.
    """

    def __init__(self, browser: Browser):
        self.page = browser.new_page(viewport={"width": 1600, "height": 1000})
        self.errors: list[str] = []
        self.page.route(ELSEWHERE, lambda route: route.fulfill(status=204))
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location['url']})")

    def see(self, selector: str) -> Locator:
        """What a selector stands for, on the page or in a frame, as soon as it can be seen."""
        look = functools.partial(self._seen, lambda: self.page.frames, selector)
        return self.wait_for(look, selector)

    def see_in_frame(self, selector: str) -> Locator:
        """The same in a frame, where what the page itself shows does not count."""
        look = functools.partial(self._seen, lambda: self.page.frames[1:], selector)
        return self.wait_for(look, f"a frame with {selector}")

    def see_drawn(self, selector: str, pixels: int = 100) -> None:
        """See what a selector stands for, with so many pixels of it in colour."""
        drawn = self.see(selector)
        self.wait_for(lambda: coloured_pixels(drawn) > pixels, f"{selector} in colour")

    def _seen(self, frames: Callable[[], list[Frame]], selector: str) -> Locator | None:
        for frame in frames():
            try:
                for found in frame.locator(selector).all():
                    if found.is_visible():
                        return found
            except Error:  # the frame is being loaded or taken away
                continue
        return None

    def wait_for(self, look: Callable[[], Found | None], what: str) -> Found:
        """Look again and again until there is something; ``AssertionError`` if there never is."""
        deadline = time.monotonic() + SECONDS_TO_SHOW
        while time.monotonic() < deadline:
            if found := look():
                return found
            self.page.wait_for_timeout(100)
        raise AssertionError(f"the page never showed {what}; its errors: {self.errors}")

    def screenshot(self, path: Path) -> None:
        self.page.screenshot(path=path)

    def close(self) -> None:
        self.page.close()


def coloured_pixels(locator: Locator) -> int:
    """How many pixels of a part of a page are neither black, nor white, nor grey."""
    pixels = np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"), int)
    return int((np.ptp(pixels, axis=-1) > 20).sum())
