"""The site for people who look before they run: every chapter, executed, as a page.

``running``       executes a notebook away from the checkout
``chapter_page``  makes a page of it
``front``         the first page, from the README
``messages``      the index of errors and warnings
``recap``         what to keep from all chapters, on a sheet
``building``      all of it, from the checkout to a folder of HTML
``sphinx/``       Sphinx's settings, and the site's own style
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from chapters import CHAPTERS, Chapter
from helpers.checkout import CourseError

PACKAGES = ("nbformat", "nbclient", "ipykernel", "sphinx", "myst_nb", "sphinx_book_theme")
PACKAGES += ("latex2mathml",)


def build(folder: Path, out: Path, chapters: Sequence[Chapter] = CHAPTERS) -> None:
    """Execute the notebooks of the checkout ``folder`` and make the site ``out`` of them.

    A former site in ``out`` is replaced when the new one is complete. Raises ``CourseError``, and
    leaves ``out`` as it was, where a cell raises, a page cannot be made, a package is missing, or
    ``out`` holds something that is not a site of this command.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise CourseError(
            f"the site needs {', '.join(missing)}: in the course's folder, run "
            f'`{sys.executable} -m pip install -e ".[site]"`'
        )
    from tools.site import building

    building.build(folder, out.resolve(), chapters)
