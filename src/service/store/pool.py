"""The pool of connections to Redis."""

import asyncio
import concurrent.futures
import socket
import threading
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.store.deadlines import REQUEST_TIMEOUT


class RedisPool(BlockingConnectionPool):
    """A pool whose name lookups do not pile up.

    asyncio looks names up in a few threads that the end of the process waits for: with a name server that hangs,
    minutes.
    """

    _lookup: asyncio.Future[Any] | None = None

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Make sure that a connection is open before it is handed out.

        redis-py (8.1) sees one that was closed, but not one that was reset while nobody used it. It passes on whatever
        an unexpected reply or an unusable host name leads to, and leaves the connection half open.
        """
        try:
            await self._open(connection)
        except (redis_errors.RedisError, OSError):
            raise
        except Exception as error:
            await connection.disconnect(nowait=True)
            raise redis_errors.ConnectionError(str(error) or type(error).__name__) from error

    async def _open(self, connection: AbstractConnection) -> None:
        if is_closed(connection):
            await connection.disconnect(nowait=True)
        if not connection.is_connected and isinstance(connection, Connection):
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._resolve_host(connection.host, connection.port)
        await super().ensure_connection(connection)

    async def _resolve_host(self, host: str, port: int) -> None:
        """Return when the name server knows the host: one question at a time for all who wait."""
        if self._lookup is None or self._lookup.done():
            answer: concurrent.futures.Future[Any] = concurrent.futures.Future()
            self._lookup = asyncio.wrap_future(answer)
            self._lookup.add_done_callback(lambda lookup: lookup.exception())  # also where nobody waits any more
            threading.Thread(target=_resolve, args=(answer, host, port), daemon=True).start()
        await asyncio.shield(self._lookup)


def is_closed(connection: AbstractConnection) -> bool:
    """Say whether a connection has been closed or reset from the other side while nobody used it."""
    reader: asyncio.StreamReader | None = getattr(connection, "_reader", None)
    return reader is not None and (reader.at_eof() or reader.exception() is not None)


def _resolve(answer: concurrent.futures.Future[Any], host: str, port: int) -> None:
    try:
        answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except Exception as error:
        answer.set_exception(error)


def create_pool(url: str, *, max_connections: int = 9) -> BlockingConnectionPool:
    """Return a pool for `url` (`redis://`, `rediss://`, `unix://`); it connects when it is first used.

    Time-outs of 3 s, a health check of connections idle for 30 s, and no retries of its own: see `StoreClient.run`.
    """
    pool = RedisPool.from_url(
        url,
        max_connections=max_connections,
        timeout=REQUEST_TIMEOUT,
        socket_timeout=REQUEST_TIMEOUT,
        socket_connect_timeout=REQUEST_TIMEOUT,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 0),
    )
    pool.connection_kwargs.pop("protocol", None)  # of a URL: another one would change the shapes of replies
    return pool
