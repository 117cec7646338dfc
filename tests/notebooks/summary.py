"""What the terminal says at the end: how much was proved, and what the notebooks cost.

A test that proves one says ``record_property("proved", "exercise")``; the same word is counted
over all tests that passed, in whichever process they ran.
"""

from __future__ import annotations

from collections import Counter

import pytest

PROVED = "proved"
USAGE = "notebook usage"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Summary())


class Summary:
    """Collects what the tests' reports bring along."""

    def __init__(self):
        self.proved: Counter[str] = Counter()
        self.usage: list[tuple[str, float, float, float, int]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        properties = report.user_properties
        if report.passed:
            self.proved.update(kind for name, kind in properties if name == PROVED)
        self.usage += [tuple(usage) for name, usage in properties if name == USAGE]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in [*self.usage_lines(), *self.proved_lines()]:
            terminalreporter.write_line(line)

    def usage_lines(self) -> list[str]:
        if not self.usage:
            return []
        width = max(len(name) for name, *_ in self.usage)
        head = "notebooks: processor seconds, of those allowed; to start and import; peak memory"
        lines = [
            f"  {name:{width}}  {seconds:5.1f} of {allowed:4.3g} s  {start:4.1f} s  "
            f"{memory / 1e6:6.0f} MB"
            for name, seconds, allowed, start, memory in sorted(self.usage)
        ]
        total = sum(seconds + start for _, seconds, _, start, _ in self.usage)
        return [head, *lines, f"  all {len(lines)} runs: {total:.0f} s of processor time"]

    def proved_lines(self) -> list[str]:
        counts = [f"{n} {kind}{'s' * (n != 1)}" for kind, n in sorted(self.proved.items())]
        return [f"proved: {', '.join(counts)}"] if counts else []
