"""Which tests stay together where several workers share the work (``-n``).

The pages of the site, whose first test makes it, and the tests that share a JupyterLab: no worker
then makes what another has, or waits for it. And the items of one notebook. Groups come first, the
largest in front, so that many short tests are left to fill the end.
"""

from __future__ import annotations

import pytest

SITE = "tests/browser/test_site.py"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Replace what ``-n`` takes by default; another ``--dist`` is somebody's choice."""
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class InGroups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return InGroups(config, log)


def group(nodeid: str) -> str:
    """The name of a test's group; its own where it stands alone."""
    file = nodeid.partition("::")[0]
    if file == SITE or file.endswith(".ipynb"):
        return file
    return "lab" if file.startswith("tests/browser/") else nodeid
