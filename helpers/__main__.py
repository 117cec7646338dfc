"""``python -m helpers``: open the course, see your progress; for authors, stamp and adopt."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from helpers import checkout
from chapters import CHAPTERS, Chapter
from helpers.checkout import CourseError


def main(argv: list[str]) -> int:
    """Run one command; 0 if it did what it should. Words after ``--`` go to JupyterLab."""
    own, for_jupyter = _split(argv)
    options = _parser().parse_args(own or ["lab"])
    options.for_jupyter = for_jupyter
    try:
        return options.run(options)
    except CourseError as error:
        print(f"python -m helpers: {error}", file=sys.stderr)
        return 1


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    place = argv.index("--") if "--" in argv else len(argv)
    return argv[:place], argv[place + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers",
        description="PyTorch by Experiment. Without a command: lab.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    lab = commands.add_parser(
        "lab",
        help="open your working copy of the notebooks in JupyterLab",
        epilog="What follows `--` goes to JupyterLab: lab -- --no-browser --port 9999",
    )
    lab.add_argument(
        "--fresh",
        metavar="CHAPTER",
        type=_chapter,
        action="append",
        default=[],
        help="set your copy of this chapter aside and start with a new one",
    )
    lab.set_defaults(run=_lab)

    progress = commands.add_parser("progress", help="show what you have got right so far")
    progress.set_defaults(run=_progress)

    reset = commands.add_parser("reset", help="forget your progress; your notebooks stay")
    reset.add_argument("chapter", nargs="?", type=_chapter, help="in this chapter only")
    reset.set_defaults(run=_reset)

    stamp = commands.add_parser("stamp", help="for authors: bring the generated parts up to date")
    stamp.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    stamp.set_defaults(run=_stamp)

    site = commands.add_parser("site", help="for authors: execute the notebooks, make the site")
    site.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        help="where to make it; `site` in the course's folder if left out",
    )
    site.set_defaults(run=_site)

    drift = commands.add_parser(
        "drift",
        help="for authors: run what the chapters claim against the installed torch",
        epilog="Ends with 1 if something has changed.",
    )
    drift.add_argument("chapters", nargs="*", metavar="CHAPTER", type=_chapter)
    drift.add_argument(
        "--markdown", metavar="FILE", type=Path, help="write the report here too, for a page"
    )
    drift.set_defaults(run=_drift)

    adopt = commands.add_parser("adopt", help="for forks: make the links lead to your repository")
    adopt.add_argument("url", nargs="?", help="its address; git's remote 'origin' if left out")
    adopt.add_argument("--branch", help="the branch to link to; of 'origin' the default one")
    adopt.set_defaults(run=_adopt)
    return parser


def _chapter(text: str) -> Chapter:
    for chapter in CHAPTERS:
        if text in (chapter.stem, chapter.number, chapter.room):
            return chapter
    known = ", ".join(chapter.stem for chapter in CHAPTERS)
    raise argparse.ArgumentTypeError(f"unknown chapter {text!r}: known are {known}")


# Each command imports what it needs, so that the others do not wait for torch.


def _lab(options: argparse.Namespace) -> int:
    from helpers import lab

    folder = checkout.root()
    lines = [lab.set_aside(folder, chapter) for chapter in options.fresh] + lab.update(folder)
    for line in filter(None, lines):
        print(line)
    lab.launch(folder, options.for_jupyter)
    return 0


def _progress(options: argparse.Namespace) -> int:
    from helpers import exercises

    print(exercises.progress())
    return 0


def _reset(options: argparse.Namespace) -> int:
    from helpers import exercises

    print(exercises.reset(options.chapter.room if options.chapter else ""))
    return 0


def _stamp(options: argparse.Namespace) -> int:
    from tools import stamp

    folder = checkout.root()
    if not options.check:
        stamp.stamp(folder)
        return 0
    names = [path.relative_to(folder).as_posix() for path in stamp.outdated(folder)]
    for name in names:
        print(f"{name} is out of date: run `python -m helpers stamp`")
    return 1 if names else 0


def _site(options: argparse.Namespace) -> int:
    from helpers import site

    folder = checkout.root()
    out = options.out or folder / "site"
    site.build(folder, out)
    print(f"The site is complete: {out / 'index.html'}")
    return 0


def _drift(options: argparse.Namespace) -> int:
    from helpers import drift

    chapters = options.chapters or CHAPTERS
    return drift.report(checkout.root(), chapters, options.markdown)


def _adopt(options: argparse.Namespace) -> int:
    from tools import stamp

    folder = checkout.root()
    repository = checkout.to_adopt(folder, options.url, options.branch)
    stamp.adopt(folder, repository)
    print(f"The links lead to {repository.url}, branch {repository.branch}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
