"""How long Redis may take: one call, and all the calls of one request together."""

from contextvars import ContextVar
from typing import Final

#: Seconds that one request may spend on Redis, waiting for connections and second tries included.
REQUEST_TIMEOUT: Final = 3.0


class TimeBudget:
    """The seconds of Redis that are left to one request, over all its calls."""

    def __init__(self) -> None:
        self._left = REQUEST_TIMEOUT

    def within(self, deadline: float) -> float:
        """Return how long a call may take that would have `deadline` seconds by itself."""
        return max(0.0, min(self._left, deadline))

    def spend(self, seconds: float) -> None:
        """Take off what a call took."""
        self._left -= seconds


#: The budget of the request that is being answered; what no request asks for has a deadline for each call.
budget: Final[ContextVar[TimeBudget | None]] = ContextVar("budget", default=None)
