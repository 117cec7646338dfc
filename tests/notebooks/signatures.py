"""The types in the signatures of ``helpers``, shapes included, are enforced under test.

In pytest's processes and in the notebooks' kernels alike. The rooms of exercises are left out: what
they hold are answers, wrong ones among them, and those must stay as they are written.
"""

from __future__ import annotations

from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[2]

# Where a float is wanted an integer will do, as in PEP 484 and in every type checker.
typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def enforce() -> None:
    """From now on, ``helpers`` is imported with its signatures enforced."""
    install_import_hook(enforced_modules(), f"{__name__}.typechecked")


def enforced_modules() -> list[str]:
    """The modules of ``helpers`` but for the rooms of exercises, which are named like chapters."""
    # Found as files, since importing ``helpers`` here would hide from a kernel that it is missing.
    rooms = {notebook.stem.partition("_")[2] for notebook in (ROOT / "notebooks").glob("*.ipynb")}
    files = [file.relative_to(ROOT) for file in (ROOT / "helpers").rglob("*.py")]
    return [
        ".".join(file.with_suffix("").parts)
        for file in files
        if not (file.parent.name == "exercises" and file.stem in rooms)
        and file.name != "__init__.py"
    ]
