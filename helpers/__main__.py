"""``python -m helpers``: open the course, see or forget your progress, explain, examine."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from helpers import checkout
from helpers.checkout import CourseError

if TYPE_CHECKING:
    from chapters import Chapter


def main(argv: list[str]) -> int:
    """Run one command; 0 if it did what it should.

    Without a command it is ``lab``. What ``lab`` does not know goes to JupyterLab, and so does
    everything after ``--``.
    """
    # Whatever stands behind ``explain`` is a message, also what looks like an option.
    asks = argv[:1] == ["explain"] and argv[1:] not in (["-h"], ["--help"])
    names_a_command = argv and (not argv[0].startswith("-") or argv[0] in ("-h", "--help"))
    words = argv if names_a_command else ["lab", *argv]
    end = words.index("--") if "--" in words else len(words)
    parser = _parser()
    options, unknown = parser.parse_known_args(words[:1] if asks else words[:end])
    if asks:
        options.message, end = argv[1:], len(words)
    options.for_jupyter = unknown + words[end + 1 :]
    if options.for_jupyter and options.run is not _lab:
        parser.error(f"unrecognized arguments: {' '.join(options.for_jupyter)}")
    try:
        done = options.run(options)
        sys.stdout.flush()
    except CourseError as error:
        print(f"python -m helpers: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # what reads the answer has enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return done


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m helpers",
        description="PyTorch by Experiment. Without a command: lab.",
        epilog="Commands for authors: python -m tools --help",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    lab = commands.add_parser(
        "lab",
        help="open your working copy of the notebooks in JupyterLab",
        epilog="Other options go to JupyterLab, for example: --no-browser --port 9999",
        allow_abbrev=False,
    )
    lab.add_argument(
        "--fresh",
        metavar="CHAPTER",
        type=chapter_named,
        action="append",
        default=[],
        help="rename your copy of this chapter and start with a new one",
    )
    lab.set_defaults(run=_lab)

    progress = commands.add_parser("progress", help="show what you have got right so far")
    progress.set_defaults(run=_progress)

    reset = commands.add_parser("reset", help="forget your progress; your notebooks stay")
    reset.add_argument(
        "chapter", metavar="CHAPTER", nargs="?", type=chapter_named, help="in this chapter only"
    )
    reset.set_defaults(run=_reset)

    explain = commands.add_parser(
        "explain",
        help="say what a message of torch means and what helps",
        description="Say what a message means and what helps: of torch 2 or later, torchvision, "
        "TensorBoard, a notebook, or the plain Python around them.",
        allow_abbrev=False,
    )
    explain.add_argument(
        "message",
        metavar="MESSAGE",
        nargs="*",
        help="the message or a whole traceback; without one it is read from standard input",
    )
    explain.set_defaults(run=_explain)

    exam = commands.add_parser(
        "exam",
        help="run your project of the last chapter and say what would go wrong at work",
        allow_abbrev=False,
    )
    exam.add_argument("program", metavar="PROJECT.PY", nargs="?", help="the program to examine")
    exam.add_argument("--start", metavar="FOLDER", help="write the brief, data and a project.py")
    exam.add_argument("--only", metavar="TRIAL", nargs="+", default=[], help="these trials alone")
    exam.add_argument("--final", action="store_true", help="the trials for the end, too")
    exam.add_argument("--jobs", metavar="N", type=int, default=1, help="runs at once; default 1")
    exam.add_argument("--report", metavar="FILE", help="the page; default exam.html beside it")
    exam.set_defaults(run=_exam)
    return parser


def chapter_named(text: str) -> Chapter:
    """The chapter with this stem, number or name, for the parser of a command."""
    from chapters import CHAPTERS

    for chapter in CHAPTERS:
        if text in (chapter.stem, chapter.number, chapter.name):
            return chapter
    known = ", ".join(chapter.stem for chapter in CHAPTERS)
    raise argparse.ArgumentTypeError(f"unknown chapter {text!r}: known are {known}")


# Each command imports what it needs, so that the others do not wait for torch.


def _lab(options: argparse.Namespace) -> int:
    from helpers import lab

    folder = checkout.root()
    lab.prepare()
    lines = [lab.set_aside(folder, chapter.stem) for chapter in options.fresh]
    lines += lab.update(folder)
    for line in filter(None, lines):
        print(line)
    lab.launch(folder, options.for_jupyter)
    return 0


def _progress(options: argparse.Namespace) -> int:
    import chapters

    print(chapters.progress())
    return 0


def _reset(options: argparse.Namespace) -> int:
    import chapters

    print(chapters.reset(options.chapter.name if options.chapter else ""))
    return 0


def _explain(options: argparse.Namespace) -> int:
    from helpers import explain

    if not options.message and sys.stdin.isatty():
        print("Paste the message, then end with Ctrl-D (on Windows Ctrl-Z and Enter).")
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")  # a log may hold anything
    text = " ".join(options.message) or sys.stdin.read()
    if not text.strip():
        raise CourseError("there is no message to explain: give one, or paste a traceback")
    is_known, said = explain.answer(text)
    print(said)
    return 0 if is_known else 1


def _exam(options: argparse.Namespace) -> int:
    if (options.program is None) == (options.start is None):
        where = " (before --only, which takes all words behind it)" if options.only else ""
        raise CourseError(f"give a program to examine{where}, or --start and a folder")
    if options.start is not None:
        from chapters.project.start import start

        print(f"{start(options.start)} is yours to write; brief.md beside it says what it must do.")
        return 0
    if options.jobs < 1:
        raise CourseError(f"--jobs must be at least 1, got {options.jobs}")
    from pathlib import Path

    from chapters.project import exam, report

    result = exam.examine(options.program, options.only, options.jobs, final=options.final)
    page = Path(options.report) if options.report else result.program.with_name("exam.html")
    print(f"\n{report.told(result)}\n")
    if not (options.only or options.final):
        print("Left for the end: the trials on people whom the program has never seen (--final).\n")
    try:
        report.save(result, page)
    except OSError as error:
        raise CourseError(f"can't write {page}: {error}. Give another place by --report") from None
    print(f"The whole report with figures: {page}")
    return 0 if result.passed == len(result.verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
