"""Auto-pipelining: the commands of concurrent callers share one connection."""

import asyncio
import math
import time
from collections import deque
from itertools import chain
from typing import Any, Final

from hiredis import pack_command
from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

from service.domain.errors import Overloaded
from service.store.channel import REPLY_TIMEOUT, Call, Channel, Replies, connection_error, fail
from service.store.pool import open_transport_of, transport_of

#: The most calls that may wait to be sent; further ones are rejected.
MAX_WAITING: Final = 10_000
#: The smallest pool size at which an idle connection is kept: the event reader and `FsyncWaiter` need one each.
MIN_POOL_SIZE: Final = 3
#: Seconds after which opening a connection times out.
OPEN_TIMEOUT: Final = REPLY_TIMEOUT
#: Seconds between two checks of the deadlines of calls and of the connection. A timer for each call would take a third
#: of its time.
CHECK_INTERVAL: Final = 0.05
#: Seconds between two cancellations. Up to Python 3.11 `wait_for`, which redis-py connects with, may swallow one.
CANCEL_INTERVAL: Final = 0.2


class AutoPipeline:
    """Sends the commands of many callers over one connection and gives each caller its own replies.

    redis-py connects, authenticates and does TLS. The commands of a cancelled caller are dropped unless they were sent;
    other callers are not affected. A connection that breaks or times out fails only the calls that it has sent.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        """Use connections of `pool`, which must not decode replies."""
        self._pool = pool
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reset()

    def _reset(self) -> None:
        self._waiting: deque[Call] = deque()
        self._is_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        #: Holds a connection while calls use it.
        self._task: asyncio.Task[None] | None = None
        self._channel: Channel | None = None
        #: The last connection that was used. The pool may hold it.
        self._connection: AbstractConnection | None = None

    @property
    def transport(self) -> asyncio.Transport | None:
        """What the last call was sent over, or `None` if that is closed: the next call may reach another Redis."""
        return None if self._connection is None else open_transport_of(self._connection)

    async def ask(self, *commands: tuple[Any, ...], until: float = math.inf) -> list[Any]:
        """Send commands together and return their replies; an error reply is returned as an exception object.

        Raises `TimeoutError` at `until` (s, as `time.monotonic`) or up to `CHECK_INTERVAL` later, and the connection
        errors of redis-py; the commands may then have run or not. Raises `Overloaded` if `MAX_WAITING` calls wait.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the former event loop was closed
            self._reset()
            self._loop = loop
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} Redis calls, the maximum, are waiting for a connection; try again later.")
        packed = b"".join([pack_command(command) for command in commands])
        replies: Replies = loop.create_future()
        self._waiting.append(Call(packed, len(commands), replies, until))
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._send)
        if self._timer is None:
            self._timer = loop.call_later(CHECK_INTERVAL, self._check)
        return await replies

    async def aclose(self) -> None:
        """Fail all calls with a `ConnectionError` and release the connection. A later call opens one again."""
        fail(self._waiting, redis_errors.ConnectionError("closed"))
        task = self._task
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_INTERVAL)

    def _send(self) -> None:
        """Send the calls that arrived in this tick of the event loop, or open a connection for them."""
        self._is_scheduled = False
        if self._channel is not None:
            self._channel.send()
        elif self._task is None and self._has_waiting():
            self._task = asyncio.create_task(self._run())

    def _check(self) -> None:
        """Fail the calls that are past their deadlines, and close a connection that is idle or without replies."""
        now = time.monotonic()
        for call in chain(self._channel.in_flight if self._channel else (), self._waiting):
            if call.until <= now:
                call.fail(TimeoutError())
        if self._channel is not None:
            self._channel.check(now)
        is_needed = self._waiting or self._task is not None
        self._timer = asyncio.get_running_loop().call_later(CHECK_INTERVAL, self._check) if is_needed else None

    async def _run(self) -> None:
        """Hold a connection while calls use it. If it cannot be opened, the waiting calls fail."""
        try:
            while self._has_waiting():
                await self._use_connection()
        except Exception as error:
            fail(self._waiting, connection_error(error))
        finally:  # in the same step as the last check for calls, so that none is left to a task that has finished
            self._task = None
            self._send()  # calls that arrived while `aclose` ended this task

    def _has_waiting(self) -> bool:
        while self._waiting and self._waiting[0].replies.done():
            self._waiting.popleft()
        return bool(self._waiting)

    async def _use_connection(self) -> None:
        connection, transport = await self._open()
        self._connection = connection
        self._channel = channel = self._new_channel(transport)
        is_usable = False
        try:
            channel.send()
            is_usable = await asyncio.shield(channel.closed)
        finally:
            self._channel = None
            channel.close(redis_errors.ConnectionError("closed"))
            if not is_usable:
                await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    def _new_channel(self, transport: asyncio.Transport) -> Channel:
        return Channel(transport, self._waiting, keep_idle=self._pool.max_connections >= MIN_POOL_SIZE)

    async def _open(self) -> tuple[AbstractConnection, asyncio.Transport]:
        async with asyncio.timeout(OPEN_TIMEOUT + CANCEL_INTERVAL), asyncio.timeout(OPEN_TIMEOUT):
            connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                await connection.check_health()  # type: ignore[no-untyped-call]
                transport = transport_of(connection)
                if transport is None or transport.is_closing() or await connection.can_read():
                    raise redis_errors.ConnectionError("the connection was closed, or has unexpected data")
            except BaseException:
                await connection.disconnect(nowait=True)
                await self._pool.release(connection)
                raise
            return connection, transport
