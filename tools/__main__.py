"""``python -m tools``: the authors' commands."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from chapters import CHAPTERS
from helpers import checkout
from helpers.__main__ import chapter_named
from helpers.checkout import CourseError
from helpers.exercises.engine import FaultyExercise


def main(argv: list[str]) -> int:
    """Run one command; 0 if it did what it should."""
    options = _parser().parse_args(argv)
    try:
        return options.run(options)
    except (CourseError, FaultyExercise) as error:
        print(f"python -m tools: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools", description="For authors of PyTorch by Experiment."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    stamp = commands.add_parser("stamp", help="bring the generated parts up to date")
    stamp.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    stamp.set_defaults(run=_stamp)

    site = commands.add_parser("site", help="run the notebooks and make the site")
    site.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        help="where to make it; `site` in the course's folder if left out",
    )
    site.set_defaults(run=_site)

    drift = commands.add_parser(
        "drift",
        help="tell what the chapters claim that the installed torch no longer does",
        epilog="Ends with 1 if something has changed.",
    )
    drift.add_argument("chapters", nargs="*", metavar="CHAPTER", type=chapter_named)
    drift.add_argument(
        "--markdown", metavar="FILE", type=Path, help="write the report here too, as Markdown"
    )
    drift.set_defaults(run=_drift)

    adopt = commands.add_parser("adopt", help="for forks: make the links lead to your repository")
    adopt.add_argument("url", nargs="?", help="its address; git's remote 'origin' if left out")
    adopt.add_argument("--branch", help="the branch to link to; of 'origin' the default one")
    adopt.set_defaults(run=_adopt)
    return parser


# Each command imports what it needs, so that the others work without it.

RUNNER = ("nbformat", "nbclient", "ipykernel")
SPHINX = ("sphinx", "myst_nb", "sphinx_book_theme", "latex2mathml")


def _need(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise CourseError(
            f"this command needs {', '.join(missing)}: in the course's folder, run "
            f'`{sys.executable} -m pip install -e ".[site]"`'
        )


def _stamp(options: argparse.Namespace) -> int:
    _need("nbformat")
    from tools import stamp

    folder = checkout.root()
    if not options.check:
        stamp.stamp(folder)
        return 0
    names = [path.relative_to(folder).as_posix() for path in stamp.outdated(folder)]
    for name in names:
        print(f"{name} is out of date: run `python -m tools stamp`")
    return 1 if names else 0


def _site(options: argparse.Namespace) -> int:
    _need(*RUNNER, *SPHINX)
    from tools import site

    folder = checkout.root()
    out = options.out or folder / "site"
    site.build(folder, out)
    print(f"The site is complete: {out / 'index.html'}")
    return 0


def _drift(options: argparse.Namespace) -> int:
    _need(*RUNNER)
    from tools import drift

    return drift.report(checkout.root(), options.chapters or CHAPTERS, options.markdown)


def _adopt(options: argparse.Namespace) -> int:
    _need("nbformat")
    from tools import repository, stamp

    folder = checkout.root()
    adopted = repository.to_adopt(folder, options.url, options.branch)
    stamp.adopt(folder, adopted)
    print(f"The links lead to {adopted.url}, branch {adopted.branch}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
