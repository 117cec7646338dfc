"""``python -m tests.long.colab FOLDER``: make an environment with the versions that Colab has."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from helpers.checkout import CourseError
from tests.long.colab import environment


def main(argv: list[str]) -> int:
    """Make the environment; 0 if it is there."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.colab", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="about 6 GB")
    parser.add_argument(
        "--python",
        default=environment.colabs_python(),
        help=f"the interpreter; Python {environment.PYTHON} if there is one, as in Colab",
    )
    options = parser.parse_args(argv)
    try:
        made = environment.make(options.folder, options.python)
    except CourseError as error:
        print(f"python -m tests.long.colab: {error}", file=sys.stderr)
        return 1
    print(f"{environment.VARIABLE}={made.folder} python -m pytest -m colab")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
