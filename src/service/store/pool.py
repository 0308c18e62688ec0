"""The connection pool for Redis."""

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar, cast
from weakref import WeakValueDictionary

from redis import exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo

from service.store.deadlines import REQUEST_TIMEOUT

T = TypeVar("T")

#: One for all connections, because redis-py would read its version from the metadata of its package for each.
_DRIVER: Final = DriverInfo()

_shared: Final[WeakValueDictionary[tuple[Any, ...], Any]] = WeakValueDictionary()


class RedisPool(BlockingConnectionPool):
    """A pool that runs one name lookup at a time, in a daemon thread.

    asyncio uses a few threads that the process joins at exit: with a name server that hangs, for minutes.
    """

    _lookup: asyncio.Future[Any] | None = None

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Open a connection if it is not open. Raises only errors of redis-py and `OSError`.

        redis-py (8.1) reopens a connection that was closed, but not one that was reset while idle. An unexpected reply
        or an unusable host name makes it raise other errors and leave the connection half open.
        """
        try:
            await self._open(connection)
        except (redis_errors.RedisError, OSError):
            raise
        except Exception as error:
            await connection.disconnect(nowait=True)
            raise redis_errors.ConnectionError(str(error) or type(error).__name__) from error

    async def _open(self, connection: AbstractConnection) -> None:
        transport = transport_of(connection)
        if transport is not None and transport.is_closing():
            await connection.disconnect(nowait=True)
        if not connection.is_connected:
            await self.connect(connection)
        await super().ensure_connection(connection)

    async def connect(self, connection: AbstractConnection) -> None:
        """Open a connection that is closed."""
        if isinstance(connection, Connection):
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._resolve_host(connection.host, connection.port)
        await connection.connect()  # type: ignore[no-untyped-call]

    async def _resolve_host(self, host: str, port: int) -> None:
        """Return once the host name is resolved. Concurrent callers share one lookup. Raises what the lookup raises."""
        if self._lookup is None or self._lookup.done():
            result: concurrent.futures.Future[Any] = concurrent.futures.Future()
            self._lookup = asyncio.wrap_future(result)
            self._lookup.add_done_callback(lambda lookup: lookup.exception())  # retrieved even if no caller is left
            threading.Thread(target=_resolve, args=(result, host, port), daemon=True).start()
        await asyncio.shield(self._lookup)


def transport_of(connection: AbstractConnection) -> asyncio.Transport | None:
    """Return the transport of a connection, if it is open. redis-py (8.1) has no public way to it."""
    writer: asyncio.StreamWriter | None = connection._writer
    return None if writer is None else cast("asyncio.Transport", writer.transport)


def open_transport_of(connection: AbstractConnection) -> asyncio.Transport | None:
    """Return the transport of a connection, unless Redis has closed it. Each reopening has another one.

    redis-py (8.1) has no public way to see that at once: `can_read` waits for the event loop.
    """
    transport = transport_of(connection)
    if transport is None or transport.is_closing() or (connection._reader is not None and connection._reader.at_eof()):
        return None
    return transport


def _resolve(result: concurrent.futures.Future[Any], host: str, port: int) -> None:
    try:
        result.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except Exception as error:
        result.set_exception(error)


def create_pool(url: str, *, max_connections: int = 9, kind: type[RedisPool] = RedisPool) -> RedisPool:
    """Return a pool for `url` (`redis://`, `rediss://`, `unix://`); it connects on first use.

    Timeouts are 3 s, and a connection idle for 30 s is checked before use. The pool does not retry: `StoreClient` does.
    """
    pool = kind.from_url(
        url,
        max_connections=max_connections,
        timeout=REQUEST_TIMEOUT,
        socket_timeout=REQUEST_TIMEOUT,
        socket_connect_timeout=REQUEST_TIMEOUT,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 0),
        driver_info=_DRIVER,
    )
    pool.connection_kwargs.pop("protocol", None)  # a URL may set it, which would change the types of replies
    return pool


def shared(kind: Callable[..., T], pool: ConnectionPool, *options: Hashable) -> T:
    """Return the `kind` of `pool` with these `options`: the one that is in use, or else a new one.

    Pipelines of their own would let two clients hold all connections of the pool, and the event reader would get none.
    """
    found: T | None = _shared.get((kind, pool, *options))
    if found is None:
        _shared[kind, pool, *options] = found = kind(pool, *options)
    return found
