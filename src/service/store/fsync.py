"""Waits until Redis has written changes to disk (`WAITAOF`), one wait for all concurrent callers."""

import asyncio
from typing import Final

from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ConnectionError, ResponseError

from service.domain.errors import StoreAccessDenied, StoreReadOnly, StoreTimeout
from service.store.partition import PARTITION

#: Milliseconds that Redis waits for its disk. With `appendfsync everysec` it writes to disk every second.
WAITAOF_TIMEOUT_MS: Final = 1200
#: Milliseconds until the marker key expires.
MARKER_TTL_MS: Final = 60_000
#: Seconds between two cancellations of a wait: up to Python 3.11 `wait_for`, in redis-py, may swallow one.
CANCEL_INTERVAL: Final = 0.2


class FsyncWaiter:
    """Waits until the changes of all current callers are on the disk of Redis.

    `WAITAOF` covers only writes of its own connection and blocks it. So the waiter writes a marker on a connection that
    carries no other commands, after the changes of its callers, and waits for the marker.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._redis: Redis = Redis(connection_pool=pool)
        self._task: asyncio.Task[None] | None = None
        #: What the callers of the current wait, and those of the next one, get.
        self._current: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Return once every change that Redis has acknowledged before this call is on its disk.

        Raises `StoreTimeout` after `WAITAOF_TIMEOUT_MS`, `StoreReadOnly` without an append-only file,
        `StoreAccessDenied` before Redis 7.2, and the errors of redis-py.
        """
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        await asyncio.shield(self._next)

    async def aclose(self) -> None:
        """End all waits; their callers get a `ConnectionError`."""
        task = self._task
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_INTERVAL)
        for waiting in (self._current, self._next):
            if waiting is not None and not waiting.done():
                _fail(waiting, ConnectionError("closed"))
        self._task = self._next = None

    async def _run(self) -> None:
        try:
            while (waiting := self._next) is not None:
                self._current, self._next = waiting, None
                try:
                    await self._wait_once()
                except Exception as error:
                    _fail(waiting, error)
                else:
                    waiting.set_result(None)
        finally:
            self._task = None

    async def _wait_once(self) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(PARTITION.fsync, "1", px=MARKER_TTL_MS)
            pipe.execute_command("WAITAOF", 1, 0, WAITAOF_TIMEOUT_MS)
            marker_reply, reply = await pipe.execute(raise_on_error=False)
        if isinstance(marker_reply, Exception):
            raise marker_reply
        if isinstance(reply, ResponseError) and "unknown command" in str(reply):
            raise StoreAccessDenied(f"{StoreAccessDenied.default_detail} (`REDIS_WAITAOF` needs Redis 7.2 or later)")
        if isinstance(reply, ResponseError) and "appendonly" in str(reply):
            raise StoreReadOnly(f"{StoreReadOnly.default_detail} (`REDIS_WAITAOF` needs `appendonly yes`)")
        if isinstance(reply, Exception):
            raise reply
        if reply[0] < 1:
            raise StoreTimeout(f"{StoreTimeout.default_detail} (the change is applied, but not synced to disk)")


def _fail(waiting: asyncio.Future[None], error: Exception) -> None:
    waiting.set_exception(error)
    waiting.exception()  # retrieved even if no caller is left
