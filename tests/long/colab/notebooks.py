"""A notebook run on a machine like one of Colab's, in a kernel of that machine."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

from tests.long.colab.machine import Machine
from tests.notebooks import running
from tests.notebooks.running import ROOT, Room, Run


def run(notebook: Path, machine: Machine, **variables: str) -> Run:
    """Run ``notebook`` in the machine's working directory; ``variables`` are its kernel's."""
    make_room = functools.partial(ColabRoom, machine=machine)
    return running.run(notebook, machine.content, make_room=make_room, **variables)


class ColabRoom(Room):
    """A place for a kernel on a machine; of the running environment, it sees nothing."""

    def __init__(self, path: Path, folder: Path, variables: Mapping[str, str], machine: Machine):
        self.machine = machine
        super().__init__(path, folder, variables)
        # Temporary files, too: the path of a worker's socket must be a short one.
        names = ("IPYTHONDIR", "OMP_NUM_THREADS", "TMPDIR", "TEMP", "TMP")
        own = {name: self.environment[name] for name in names}
        self.environment = {**machine.environment, **own, **variables}

    def kernel(self) -> dict[str, Any]:
        return super().kernel() | {"kernel_spec_manager": OneKernel(self.machine.python)}

    def startup(self) -> str:
        return f"""\
def _start():
    import sys
    import warnings

    import google.colab

    sys.path.insert(0, {str(ROOT)!r})
    from tests.notebooks import watcher

    sys.path.remove({str(ROOT)!r})
    watcher.watch(get_ipython(), {str(self.cell_file)!r}, {str(self.journal)!r})
    # Colab's jupyter_client warns of itself with each message, and each warning is a message.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="jupyter_client")


_start()
del _start
"""


class OneKernel(KernelSpecManager):
    """Where every kernel is IPython's, of one interpreter."""

    def __init__(self, python: Path):
        super().__init__(kernel_dirs=[])
        self.python = str(python)

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [self.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name=kernel_name, language="python")
