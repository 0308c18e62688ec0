"""What the store tells whoever measures it."""

from typing import Protocol


class Observer(Protocol):
    """Is told of every call of Redis and of every change of a job."""

    def on_call_start(self) -> None:
        """Note that a call begins; it waits for a connection first."""

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        """Note that a call has ended: a script or a reading, and the word it was answered with or the error's name."""

    def on_job_change(self, change: str, jobs: int = 1) -> None:
        """Note that jobs were created, moved to a status, given progress, deleted, or have expired."""


class NullObserver:
    """Measures nothing."""

    def on_call_start(self) -> None:
        """Do nothing."""

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        """Do nothing."""

    def on_job_change(self, change: str, jobs: int = 1) -> None:
        """Do nothing."""
