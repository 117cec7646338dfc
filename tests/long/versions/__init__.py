"""The oldest packages that the course says it runs with: each floor in ``pyproject.toml``, pinned.

``python -m tests.long.versions`` prints them for pip: with ``PIP_CONSTRAINT`` naming a file of these
lines, the README's commands install exactly the floors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from packaging.requirements import Requirement


class Companion(NamedTuple):
    """A package that no list names, in a version that the floors get on with."""

    requirement: str
    reason: str


COMPANIONS = (
    Companion("pyparsing<3.3", "warns of every name that matplotlib before 3.10.8 calls it by"),
)


def constraints(project: Mapping[str, Any]) -> list[str]:
    """What pip is to be held to, a line each: the floors of a ``[project]`` table, and companions.

    Raises what ``floors`` raises.
    """
    return [*floors(project), *(companion.requirement for companion in COMPANIONS)]


def dependencies(project: Mapping[str, Any]) -> Iterator[Requirement]:
    """What a ``[project]`` table depends on, extras included, but for its own extras."""
    extras = project.get("optional-dependencies", {}).values()
    for line in [*project["dependencies"], *(line for extra in extras for line in extra)]:
        requirement = Requirement(line)
        if requirement.name != project["name"]:
            yield requirement


def floors(project: Mapping[str, Any]) -> list[str]:
    """A line ``name==floor`` for each dependency of a ``[project]`` table.

    Raises ``ValueError`` for one without a floor, and for one that stands twice with different
    floors.
    """
    pinned: dict[str, str] = {}
    for requirement in dependencies(project):
        marker = f" ; {requirement.marker}" if requirement.marker else ""
        line = f"{requirement.name}=={_floor(requirement)}{marker}"
        if pinned.setdefault(requirement.name, line) != line:
            raise ValueError(
                f"{requirement.name} has two floors, {pinned[requirement.name]!r} and {line!r}: "
                "give it the same in each list"
            )
    return sorted(pinned.values())


def _floor(requirement: Requirement) -> str:
    given = [part.version for part in requirement.specifier if part.operator == ">="]
    if len(given) != 1:
        raise ValueError(
            f"{str(requirement)!r} has no floor: write it as '{requirement.name}>=1.2'"
        )
    return given[0]
