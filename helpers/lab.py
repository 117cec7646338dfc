"""The reader's working copy of the notebooks, and JupyterLab on it.

Reading does not change the checkout: a reader works on copies in ``work/``, which git ignores.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.checkout import CourseError


def prepare() -> None:
    """Choose JupyterLab and the kernel of this Python. ``CourseError`` if it is not installed."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise CourseError(
            "JupyterLab is not installed: in the course's folder, run "
            f'`{sys.executable} -m pip install -c constraints.txt -e ".[lab]"`'
        )
    # Without this, a kernel that was installed for the user could take the place of this Python's.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"


def update(folder: Path) -> list[str]:
    """Bring the working copy of a checkout up to date without losing an edit.

    Copies what is missing and replaces what the reader has not edited (outputs and empty cells are
    no edits). Returns a line for each notebook that has a newer version and was edited, and which
    therefore stays as it is. Raises ``CourseError`` if the copies cannot be written.
    """
    work = working_copy(folder)
    with _explained(work):
        work.mkdir(exist_ok=True)
        copied = _copied(work)
        before = dict(copied)
        kept = []
        for original in _originals(folder):
            name, copy = original.name, work / original.name
            newest, current = _fingerprint(original), _fingerprint(copy)
            if current in (_ABSENT, copied.get(name)) and current != newest:
                _write(copy, _as_opened(original))
                current = newest
            if current == newest:
                copied[name] = newest
            elif copied.get(name) != newest:
                kept.append(original.stem)
        if copied != before:
            _write(work / _RECORD, json.dumps(copied, indent=1).encode())
    return [
        f"{stem}.ipynb has a newer version; you edited yours, so it stays. To get the new one and "
        f"keep yours beside it: python -m helpers lab --fresh {stem}"
        for stem in kept
    ]


def set_aside(folder: Path, stem: str) -> str | None:
    """Rename the reader's copy of the notebook ``stem``, so that ``update`` copies it anew.

    Returns a line with the name that it has now, or None if there was no copy. Raises
    ``CourseError`` if it cannot be renamed.
    """
    copy = working_copy(folder) / f"{stem}.ipynb"
    if not copy.exists():
        return None
    number = 1
    while (aside := copy.with_name(f"{stem}.yours-{number}.ipynb")).exists():
        number += 1
    with _explained(copy.parent):
        copy.rename(aside)
    return f"Your {copy.name} is now {aside.name}."


def launch(folder: Path, arguments: list[str]) -> None:
    """Run JupyterLab on the working copy until it ends; ``arguments`` are JupyterLab's own.

    Prints the address as soon as the server answers. Raises ``CourseError`` if it cannot start.
    """
    from jupyterlab.labapp import LabApp
    from tornado.ioloop import IOLoop
    from traitlets.config import Config

    work = working_copy(folder)
    # On the command line, since the reader's own settings of Jupyter would win over the defaults.
    where = f"--ServerApp.root_dir={work}"
    start = f"--LabApp.default_url=/lab/tree/{_originals(folder)[0].name}"
    try:
        server = LabApp.initialize_server([where, start, *arguments], config=Config(_defaults()))
    except OSError as error:
        raise CourseError(f"JupyterLab cannot start: {error}") from error
    IOLoop.current().add_callback(_tell, server, work)
    server.start()


@functools.cache
def working_copy(folder: Path) -> Path:
    """Where a checkout's working copy lies: in ``work/``.

    If the checkout is read-only, it lies in a temporary folder of this process, and so do the
    files and the progress of its kernels; a printed line says so.
    """
    work = folder / "work"
    if os.access(work if work.exists() else folder, os.W_OK):
        return work
    temporary = Path(tempfile.mkdtemp(prefix="pytorch-by-experiment-"))
    os.environ.setdefault("TUTORIAL_SCRATCH", str(temporary / "scratch"))
    print(f"{folder} is read-only: your copies and your progress go to {temporary}.")
    print("The next start does not find them. To keep them, copy the course to a folder of yours.")
    return temporary / "work"


def _tell(server: Any, work: Path) -> None:
    """Say where the course is open; the address alone on the last line."""
    asked = server.config["ServerApp"].get("port", server.port)
    if str(asked) != str(server.port):
        print(f"Port {asked} was taken or not allowed; the course has port {server.port} instead.")
    print(f"Your copies of the notebooks are in {work}; the originals stay as they are.")
    print("The course is open (Ctrl-C ends it). If no browser shows it, go to")
    print(server.local_url, flush=True)


def _defaults() -> dict[str, Any]:
    """Settings of JupyterLab that the reader's own settings and arguments may replace."""
    return {
        "Application": {"log_level": "ERROR"},
        "ServerApp": {
            "ip": "127.0.0.1",
            # In a container, everybody is root. This server takes only this machine and its token.
            "allow_root": True,
            "open_browser": _has_display(),
            "tornado_settings": {"page_config_hook": _without_announcements},
        },
    }


def _without_announcements(_: Any, page: dict[str, Any]) -> dict[str, Any]:
    """JupyterLab's page without the part that asks the network for news and updates."""
    disabled = page.get("disabledExtensions", [])
    return {
        **page,
        "disabledExtensions": [*disabled, "@jupyterlab/apputils-extension:announcements"],
    }


def _has_display() -> bool:
    """Whether a browser has a place to show a page. A text browser would take over the terminal."""
    if not sys.platform.startswith("linux"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


@contextmanager
def _explained(work: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CourseError(
            f"cannot write your copies of the notebooks in {work}: {error.strerror}. Make room "
            "there and make sure that you may write, or move the course to another folder"
        ) from error


def _write(file: Path, content: bytes) -> None:
    """Replace a file as a whole: an error leaves the old one, or none, but never half of one."""
    beside = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        beside.write_bytes(content)
        beside.replace(file)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


_RECORD = ".copied.json"  # notebook -> fingerprint of the version that was copied
_ABSENT = "absent"


def _originals(folder: Path) -> list[Path]:
    """The notebooks of the checkout, in reading order."""
    return sorted((folder / "notebooks").glob("*.ipynb"))


def _copied(work: Path) -> dict[str, str]:
    """The record of what was copied. Where it cannot be read, nothing is known to be unedited."""
    try:
        record = json.loads((work / _RECORD).read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _as_opened(notebook: Path) -> bytes:
    """The notebook with what JupyterLab writes into it when it is opened with this Python's kernel.

    Without it, JupyterLab marks a notebook as changed that nobody has touched.
    """
    from ipykernel.ipkernel import IPythonKernel
    from jupyter_client.kernelspec import KernelSpecManager

    spec = KernelSpecManager().get_kernel_spec("python3")
    content = json.loads(notebook.read_bytes())
    content["metadata"] |= {
        "kernelspec": {
            "display_name": spec.display_name,
            "language": spec.language,
            "name": "python3",
        },
        "language_info": IPythonKernel.language_info,
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _fingerprint(notebook: Path) -> str:
    """A digest of the sources of a notebook's cells.

    Empty cells do not count: JupyterLab adds one when the last cell is run.
    """
    if not notebook.exists():
        return _ABSENT
    content = notebook.read_bytes()
    try:
        cells = [
            (cell["cell_type"], "".join(cell["source"])) for cell in json.loads(content)["cells"]
        ]
    except (ValueError, TypeError, KeyError):
        return hashlib.sha256(content).hexdigest()
    sources = json.dumps([cell for cell in cells if cell[1].strip()])
    return hashlib.sha256(sources.encode()).hexdigest()
