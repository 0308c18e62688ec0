"""Time limits for Redis: per call, and for all calls of one HTTP request together."""

from contextvars import ContextVar
from typing import Final

#: Seconds that one request may spend on Redis, including waits for a connection and retries.
REQUEST_TIMEOUT: Final = 3.0


class TimeBudget:
    """The time that one request may still spend on Redis, over all its calls."""

    def __init__(self) -> None:
        self._left = REQUEST_TIMEOUT

    def within(self, timeout: float) -> float:
        """Return `timeout` (s), or the time left if that is less."""
        return max(0.0, min(self._left, timeout))

    def spend(self, seconds: float) -> None:
        """Subtract the duration of a call."""
        self._left -= seconds


#: The budget of the current request. Without one, each call has only its own timeout.
budget: Final[ContextVar[TimeBudget | None]] = ContextVar("budget", default=None)


def new_budget() -> None:
    """Give the current request `REQUEST_TIMEOUT` seconds from now on."""
    budget.set(TimeBudget())
