"""How often a client may ask, counted in Redis for all workers and replicas together."""

import math
from typing import Any, Final

from redis.asyncio import ConnectionPool

from service.domain.errors import RateLimited
from service.domain.rate_limits import Quota, RateLimit
from service.store import keys, scripts
from service.store.client import StoreClient
from service.store.fingerprints import digest
from service.store.observer import NullObserver, Observer

_SECOND: Final = 1_000_000


class RateLimiter:
    """Gives each client an allowance of requests that fills up evenly: all of it may be spent at once."""

    def __init__(self, pool: ConnectionPool, limit: RateLimit, *, observer: Observer | None = None) -> None:
        """Count through `pool`."""
        self._gateway = StoreClient(pool, observer or NullObserver())
        self._limit = limit

    async def acquire(self, client: str) -> Quota:
        """Take one request off the client's allowance and return what is left.

        Raises `RateLimited` where nothing was left, `StoreUnavailable` when Redis cannot count within 3 s.
        """
        args = [digest(client, self._limit), self._limit.requests, self._limit.window_seconds * _SECOND]
        word, *reply = await self._gateway.run_script(scripts.LIMIT, [keys.ROOT], args)
        if word == "LIMITED":
            whole, soonest = map(_seconds, reply)
            raise RateLimited(Quota(self._limit, 0, whole), soonest)
        return Quota(self._limit, int(reply[0]), _seconds(reply[1]))


def _seconds(micros: Any) -> int:
    """Return a time to wait in whole seconds, rather too long than too short."""
    return math.ceil(int(micros) / _SECOND)
