"""Request limits per client, counted in Redis across all processes and replicas."""

import math
from typing import Any, Final

from service.domain.errors import RateLimited
from service.domain.rate_limits import Quota, RateLimit
from service.store import scripts
from service.store.client import StoreClient
from service.store.fingerprints import digest

_SECOND: Final = 1_000_000


class RateLimiter:
    """Limits each client to N requests per window; unused requests come back evenly and may be spent in a burst."""

    def __init__(self, client: StoreClient, limit: RateLimit) -> None:
        self._client = client
        self._limit = limit

    @property
    def limit(self) -> RateLimit:
        """The limit of each client."""
        return self._limit

    async def acquire(self, client: str, count: int = 1) -> Quota:
        """Count requests of `client` and return what is left of its quota.

        Raises `RateLimited` if less than `count` is left, and counts none then; `StoreUnavailable` within 3 s if Redis
        cannot count.
        """
        counter = digest("rate-limit", {"client": client, "limit": self._limit})
        args = [counter, self._limit.requests, self._limit.window_seconds * _SECOND, count]
        partition = self._client.partitions.home_of(counter)
        word, *reply = await self._client.run_script(scripts.RATE_LIMIT, partition, args)
        if word == "LIMITED":
            reset, retry_after = map(_seconds, reply)
            window = self._limit.window_seconds * _SECOND
            left = max(0, window - int(reply[0])) * self._limit.requests // window
            raise RateLimited(Quota(self._limit, left, reset), retry_after)
        return Quota(self._limit, int(reply[0]), _seconds(reply[1]))


def _seconds(micros: Any) -> int:
    """Return microseconds as whole seconds, rounded up."""
    return math.ceil(int(micros) / _SECOND)
