"""The interface through which the store reports Redis calls and job changes, for metrics and tracing."""

from typing import Protocol


class Observer(Protocol):
    """Receives every Redis call and every job change."""

    def on_call_start(self) -> None:
        """Record that a call has started; it may still wait for a connection."""

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        """Record the end of a script, `read`, `probe`, …: `outcome` is a reply word, `ok`, or the name of an error."""

    def on_job_change(self, change: str, jobs: int = 1) -> None:
        """Record that `jobs` jobs had a change: `created`, `deleted`, `expired`, `progress`, a status, …"""

    def on_replicas_missing(self) -> None:
        """Record a call that failed because too few replicas acknowledged its change."""


class NullObserver:
    """Ignores everything."""

    def on_call_start(self) -> None:
        """Do nothing."""

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        """Do nothing."""

    def on_job_change(self, change: str, jobs: int = 1) -> None:
        """Do nothing."""

    def on_replicas_missing(self) -> None:
        """Do nothing."""
