"""Acknowledging a change only once Redis has synced it to disk (`WAITAOF`), for all who wait at once."""

import asyncio
from typing import Final

from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ResponseError

from service.domain.errors import StoreAccessDenied, StoreReadOnly, StoreTimeout
from service.store import keys

#: Milliseconds for which Redis waits for its disk; with `appendfsync everysec` a sync comes every second.
WAITAOF_TIMEOUT_MS: Final = 1200
#: Milliseconds for which the key that is written for it is kept.
MARKER_TTL_MS: Final = 60_000
_ATTRIBUTE: Final = "_sync"


class FsyncWaiter:
    """One question for all who want to be sure: a write behind theirs, and whether that one has been synced.

    `WAITAOF` looks at what its own connection has written, and holds that connection up meanwhile; so it is asked once
    for all, and on a connection that carries no calls.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        """Ask through `pool`."""
        self._redis: Redis = Redis(connection_pool=pool)
        self._asking: asyncio.Task[None] | None = None
        self._next: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Return when all that Redis has answered before is on its disk.

        Raises `StoreTimeout` where that takes too long, `StoreReadOnly` without an append-only file, `StoreAccessDenied` by
        a Redis before 7.2, and what a call raises.
        """
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_while_there_are_any())
        await asyncio.shield(self._next)

    async def _ask_while_there_are_any(self) -> None:
        try:
            while (waiting := self._next) is not None:
                self._next = None
                try:
                    await self._ask()
                except Exception as error:
                    waiting.set_exception(error)
                    waiting.exception()  # also where nobody waits any more
                else:
                    waiting.set_result(None)
        finally:
            self._asking = None

    async def _ask(self) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(keys.SYNCED, "1", px=MARKER_TTL_MS)
            pipe.execute_command("WAITAOF", 1, 0, WAITAOF_TIMEOUT_MS)
            written, synced = await pipe.execute(raise_on_error=False)
        if isinstance(written, Exception):
            raise written
        if isinstance(synced, ResponseError) and "unknown command" in str(synced):
            raise StoreAccessDenied(f"{StoreAccessDenied.default_detail} (REDIS_WAITAOF needs a Redis from 7.2 on)")
        if isinstance(synced, ResponseError) and "appendonly" in str(synced):
            raise StoreReadOnly(f"{StoreReadOnly.default_detail} (REDIS_WAITAOF needs `appendonly yes`)")
        if isinstance(synced, Exception):
            raise synced
        if synced[0] < 1:
            raise StoreTimeout(f"{StoreTimeout.default_detail} (the change is applied, but not synced to disk)")


def fsync_waiter_of(pool: ConnectionPool) -> FsyncWaiter:
    """Return the one sync of a pool."""
    sync: FsyncWaiter | None = vars(pool).get(_ATTRIBUTE)
    if sync is None:
        vars(pool)[_ATTRIBUTE] = sync = FsyncWaiter(pool)
    return sync
