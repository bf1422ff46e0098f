"""Which tests may be run again: those that look at a clock, once each, and few in one run.

A test that is starved of CPU may miss a moment that it measures. Every other failure is a fault of
the test or of the program, however seldom it shows, and a second run would hide it.
"""

from __future__ import annotations

import pytest

# More than this many in one run is no bad luck: the run fails.
MOST_RERUNS = 3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("flaky"):
            raise pytest.UsageError(f"{item.nodeid}: mark what looks at a clock with `clock`")
        if item.get_closest_marker("clock"):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("reruns", None) or config.getoption("force_reruns", None):
        raise pytest.UsageError("only tests marked `clock` are rerun: leave out --reruns")
    config.pluginmanager.register(_Count(), "count-of-reruns")


class _Count:
    """Hears of every report: with xdist only the controlling process hears of all."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome: str = report.outcome
        if outcome == "rerun":  # a word of pytest-rerunfailures
            self._names.append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if len(self._names) > MOST_RERUNS and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._names:
            return
        terminalreporter.section("tests that look at a clock and ran twice")
        for name in self._names:
            terminalreporter.line(name)
        if len(self._names) > MOST_RERUNS:
            terminalreporter.line(f"more than {MOST_RERUNS} reruns fail the run", red=True)
