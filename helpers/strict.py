"""What tests ask of the course beyond running: loaded where ``TUTORIAL_STRICT`` is set.

Types and shapes in signatures are enforced, and a warning that the course causes is an error. (A
check that finds an answer wrong raises too: ``helpers.exercises.engine`` sees to that.) Readers
need none of this, so nothing else imports this module, and beartype is a package for tests only.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]
OURS = r"(__main__|helpers|chapters)(\.|$)"  # notebook cells, and the modules they import

# Where a float is wanted an integer will do, as in PEP 484 and in every type checker.
typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def enforce_types() -> None:
    """From now on, modules are imported with the types and shapes of their signatures enforced.

    Exercises are left out: they hold wrong answers, which must stay as they are written, and their
    comparisons go through every number of an answer. ``explain`` has no tensors, and goes through
    thousands of wordings.
    """
    files = [*(ROOT / "chapters").glob("*/*.py"), *(ROOT / "helpers").glob("*.py")]
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    modules |= {
        f"helpers.{folder.parent.name}" for folder in (ROOT / "helpers").glob("*/__init__.py")
    }
    left_out = {name for name in modules if name.endswith((".exercises", ".__init__", ".explain"))}
    install_import_hook(sorted(modules - left_out), f"{__name__}.typechecked")


def raise_warnings() -> None:
    """From now on, a warning that a reader would see is an error, unless it is addressed to others.

    What Python or a library itself filters out stays filtered out. A deprecation is addressed to
    the module it names: call this in another way. If that module is not ours, no change of ours can
    avoid it.
    """
    warnings.simplefilter("error", append=True)  # applies where no other filter does
    warnings.filterwarnings("default", category=FutureWarning)
    for kind in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
        warnings.filterwarnings("error", category=kind, module=OURS)
    # torch 2.11 itself reads its torch.export files so that it warns.
    warnings.filterwarnings("ignore", "The given buffer is not writable", module=r"torch\.export")
