"""A rate limit that keeps the doctor from slowing down running services."""

import asyncio
import time


class Throttle:
    """Limits the doctor to `rate` keys per second; `None` means no limit."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._free_at = 0.0

    async def acquire(self, keys: int) -> None:
        """Wait for the time that `keys` keys take at this rate."""
        if self._rate is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + keys / self._rate
        await asyncio.sleep(self._free_at - now)
