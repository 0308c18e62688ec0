"""How long a call waits that Redis refuses for a short time."""

from typing import Final

_FIRST_DELAY: Final = 0.02
_MAX_DELAY: Final = 0.3


def retry_delay(attempt: int) -> float:
    """Return the seconds before a call is sent again that was refused `attempt` times before: 20 to 300 ms."""
    return min(_FIRST_DELAY * 2.0 ** min(attempt, 10), _MAX_DELAY)
