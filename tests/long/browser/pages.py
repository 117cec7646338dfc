"""A page in Chromium, and what goes wrong on it."""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Locator, Playwright, Route

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS_TO_SHOW = 60
ELSEWHERE = re.compile(r"https?://(?!127\.0\.0\.1|localhost)")
OPTIONS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",  # root may not use it
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
    """A page. ``errors`` are the messages on its console and the exceptions of its scripts.

    ``elsewhere`` are the addresses outside this machine that it asked for; it got an empty answer.
    """

    def __init__(self, browser: Browser):
        self.page = browser.new_page(viewport={"width": 1600, "height": 1000})
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self.page.route(ELSEWHERE, self._refuse)
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _refuse(self, route: Route) -> None:
        self.elsewhere.append(route.request.url)
        route.fulfill(status=204)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location['url']})")

    def wait_for(self, look: Callable[[], Found | None], what: str) -> Found:
        """Look again and again until there is something; ``AssertionError`` if there never is."""
        deadline = time.monotonic() + SECONDS_TO_SHOW
        while time.monotonic() < deadline:
            if found := look():
                return found
            self.page.wait_for_timeout(100)
        raise AssertionError(f"the page never showed {what}; its errors: {self.errors}")


def coloured_pixels(locator: Locator) -> int:
    """How many pixels of a part of a page are neither black, nor white, nor grey."""
    pixels = np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"), int)
    return int((np.ptp(pixels, axis=-1) > 20).sum())
