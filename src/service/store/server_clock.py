"""The time of Redis without a call."""

import math
import time
from typing import Final

#: Seconds after which the time of Redis is read again. Clocks drift by less than 0.1 ms in that time.
CLOCK_MAX_AGE: Final = 10.0


class ServerClock:
    """The time of Redis, estimated from its last reply. Apart from drift it is never ahead of Redis."""

    def __init__(self) -> None:
        self._offset = 0
        self._read_at = -math.inf

    @property
    def is_fresh(self) -> bool:
        """Whether the time was read in the last `CLOCK_MAX_AGE` seconds."""
        return time.monotonic() - self._read_at < CLOCK_MAX_AGE

    @property
    def now(self) -> int:
        """The time in microseconds since 1970."""
        return self._offset + time.monotonic_ns() // 1000

    def set(self, micros: int) -> None:
        """Set the clock to the time (µs since 1970) in a reply that has just arrived."""
        self._offset = micros - time.monotonic_ns() // 1000
        self._read_at = time.monotonic()
