"""``python -m tests.long.versions``: the floors of ``pyproject.toml``, as constraints for pip."""

import sys
from pathlib import Path

from tests.long.versions import constraints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pyproject = Path(__file__).parents[2] / "pyproject.toml"
print("\n".join(constraints(tomllib.loads(pyproject.read_text("utf-8"))["project"])))
