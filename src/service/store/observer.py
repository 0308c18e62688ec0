"""The interface through which the store reports Redis calls and job changes, for metrics and tracing."""

from typing import Protocol


class Observer(Protocol):
    """Receives every Redis call and every job change."""

    def on_call_start(self) -> None:
        """Record that a call has started; it may still wait for a connection."""

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        """Record that a call has ended.

        `call` is the name of the script, or `read`, `probe`, …; `outcome` is the script's reply word, `ok`, or the
        class name of the error.
        """

    def on_job_change(self, change: str, jobs: int = 1) -> None:
        """Record that `jobs` jobs had a change: `created`, `deleted`, `expired`, `progress`, a status, …"""


class NullObserver:
    """Ignores everything."""

    def on_call_start(self) -> None:
        """Do nothing."""

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        """Do nothing."""

    def on_job_change(self, change: str, jobs: int = 1) -> None:
        """Do nothing."""
