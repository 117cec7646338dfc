"""``python -m tests.long.colab FOLDER``: make an environment with the versions that Colab has."""

import argparse
import sys
from pathlib import Path

from tests.long.colab import environment

parser = argparse.ArgumentParser(prog="python -m tests.long.colab", description=__doc__)
parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder; it needs 6 GB")
parser.add_argument(
    "--python",
    default=sys.executable,
    help=f"an interpreter; Colab has Python {environment.PYTHON}; this one if left out",
)
options = parser.parse_args()
environment.make(options.folder, options.python)
print(f"{environment.VARIABLE}={options.folder} python -m pytest tests/long -m colab")
