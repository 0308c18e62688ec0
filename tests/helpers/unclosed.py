"""A run fails if a test leaves a connection open."""

import warnings

import pytest


class UnclosedResources:
    """Collects the warnings of uvloop about transports that are open at the end of an event loop.

    They are no errors at once: uvloop raises them while it closes the loop, and would then wait for ever.
    """

    def __init__(self) -> None:
        self._found: list[str] = []

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, nodeid: str) -> None:
        """Keep a warning with the test that ended last on this event loop."""
        if str(warning_message.message).startswith("unclosed resource"):
            self._found.append(f"{warning_message.message} after {nodeid}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run."""
        if self._found and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name what was left open."""
        if self._found:
            terminalreporter.section("connections that were left open", red=True, bold=True)
            for line in self._found:
                terminalreporter.write_line(line)
