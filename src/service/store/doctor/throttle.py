"""Not faster than a live service can bear."""

import asyncio
import time


class Throttle:
    """So many keys a second at most; `None` is as fast as Redis answers."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._free_at = 0.0

    async def acquire(self, keys: int) -> None:
        """Return when `keys` more may be looked at, and after them others."""
        if self._rate is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + keys / self._rate
        await asyncio.sleep(self._free_at - now)
