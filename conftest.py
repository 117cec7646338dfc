"""Set up before any test is collected. The tests of notebooks are made in ``tests/notebooks``."""

import os

from tests.notebooks import signatures

# Two workers with two threads each on two cores take longer than one after the other. Torch reads
# this when it is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

signatures.enforce()

pytest_plugins = (
    "tests.notebooks.summary",
    "tests.notebooks.collection",
    "tests.notebooks.scheduling",
)
