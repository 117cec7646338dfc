"""What the notebooks of *PyTorch by Experiment* import. Importing this package costs nothing."""

import os

if os.environ.get("TUTORIAL_STRICT", "") not in ("", "0"):
    from helpers import strict

    strict.enforce_types()
    strict.raise_warnings()
