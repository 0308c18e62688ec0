"""Auto-pipelining: the commands of concurrent callers share one connection, which is written to while it is read."""

import asyncio
import math
import time
from collections import deque
from itertools import chain
from typing import Any, Final

from hiredis import PushNotification, Reader, pack_command
from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection, DefaultParser

from service.domain.errors import Overloaded
from service.store.pool import transport_of

#: The most calls that may wait to be sent; further ones are rejected.
MAX_WAITING: Final = 10_000
#: The most calls that are sent and not yet answered. It bounds the memory for replies.
MAX_IN_FLIGHT: Final = 1000
#: Bytes after which one write ends. Further calls wait while the transport does not accept more.
WRITE_BYTES: Final = 65_536
#: The most calls that get their replies in one tick of the event loop. Their callers can then send on while the other
#: replies are read. Otherwise the callers and Redis would wait for each other in turn.
REPLIES_PER_TICK: Final = 16
#: Seconds after which opening a connection times out, and a connection without a reply is closed.
REPLY_TIMEOUT: Final = 1.5
#: Seconds after which an idle connection is returned to the pool, and after which a busy one is returned too, because
#: redis-py checks connections there.
IDLE_TIMEOUT: Final = 1.0
MAX_HOLD: Final = 10.0
#: The smallest pool size at which an idle connection is kept: the event reader and `FsyncWaiter` need one each.
MIN_POOL_SIZE: Final = 3
#: Seconds between two checks of the deadlines of calls and of the connection. One timer for all costs less than one for
#: each call, which takes a third of its time.
CHECK_INTERVAL: Final = 0.05
#: Seconds between two cancellations. Up to Python 3.11 `wait_for`, which redis-py connects with, may swallow one.
CANCEL_INTERVAL: Final = 0.2

_INCOMPLETE: Final = object()
_Replies = asyncio.Future[list[Any]]


class _Call:
    """Commands of one caller: packed until they are sent, with the time (`time.monotonic`) at which they fail."""

    __slots__ = ("commands", "packed", "replies", "until")

    def __init__(self, packed: bytes, commands: int, replies: _Replies, until: float) -> None:
        self.packed = packed
        self.commands = commands
        self.replies = replies
        self.until = until

    def fail(self, error: Exception) -> None:
        if not self.replies.done():
            self.replies.set_exception(error)


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
        self._waiting: deque[_Call] = deque()
        self._is_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        #: Holds a connection while calls use it.
        self._task: asyncio.Task[None] | None = None
        self._channel: _Channel | None = None

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
        replies: _Replies = loop.create_future()
        self._waiting.append(_Call(packed, len(commands), replies, until))
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._send)
        if self._timer is None:
            self._timer = loop.call_later(CHECK_INTERVAL, self._check)
        return await replies

    async def aclose(self) -> None:
        """Fail all calls with a `ConnectionError` and release the connection. A later call opens one again."""
        _fail(self._waiting, redis_errors.ConnectionError("closed"))
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
        in_flight = self._channel.in_flight if self._channel is not None else ()
        for call in chain(in_flight, self._waiting):
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
        except (redis_errors.RedisError, OSError, RuntimeError) as error:
            _fail(self._waiting, error)
        except Exception as error:  # a reply that the parsers of redis-py cannot handle
            _fail(self._waiting, redis_errors.InvalidResponse(f"{type(error).__name__}: {error}"))
        finally:  # in the same step as the last check for calls, so that none is left to a task that has finished
            self._task = None
            self._send()  # calls that arrived while `aclose` ended this task

    def _has_waiting(self) -> bool:
        while self._waiting and self._waiting[0].replies.done():
            self._waiting.popleft()
        return bool(self._waiting)

    async def _use_connection(self) -> None:
        connection, transport = await self._open()
        keep_idle = self._pool.max_connections >= MIN_POOL_SIZE
        self._channel = channel = _Channel(transport, self._waiting, keep_idle=keep_idle)
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

    async def _open(self) -> tuple[AbstractConnection, asyncio.Transport]:
        async with asyncio.timeout(REPLY_TIMEOUT + CANCEL_INTERVAL), asyncio.timeout(REPLY_TIMEOUT):
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


class _Channel(asyncio.Protocol):
    """Sends waiting calls over a connection of redis-py, and gives them their replies.

    It replaces the protocol of the connection's transport, and puts it back when it is closed.
    """

    def __init__(self, transport: asyncio.Transport, waiting: deque[_Call], *, keep_idle: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._waiting = waiting
        self._keep_idle = keep_idle
        #: The calls that are sent and not yet answered, and the replies to the first one so far.
        self.in_flight: deque[_Call] = deque()
        self._replies: list[Any] = []
        self._reader = Reader(
            protocolError=redis_errors.InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_INCOMPLETE,
        )
        self._may_write = True
        self._is_draining = False
        #: Whether the connection can be used further, once it is closed for calls.
        self.closed: asyncio.Future[bool] = self._loop.create_future()
        #: When the last reply arrived, or the first call was sent to an idle connection.
        self._active_at = time.monotonic()
        self._release_at = self._active_at + MAX_HOLD
        self._stream_protocol = transport.get_protocol()
        transport.set_protocol(self)

    def send(self) -> None:
        """Send waiting calls as far as the transport accepts them."""
        while self._waiting and self._may_write and not (self._is_draining or self._transport.is_closing()):
            if not self.in_flight:
                self._active_at = time.monotonic()
            if not (packed := self._take()):
                return
            self._transport.write(b"".join(packed))

    def _take(self) -> list[bytes]:
        """Return what to send next, without the calls of cancelled callers."""
        packed, size = [], 0
        while self._waiting and size < WRITE_BYTES and len(self.in_flight) < MAX_IN_FLIGHT:
            call = self._waiting.popleft()
            if not call.replies.done():
                packed.append(call.packed)
                size += len(call.packed)
                call.packed = b""
                self.in_flight.append(call)
        return packed

    def pause_writing(self) -> None:
        """Let calls wait."""
        self._may_write = False

    def resume_writing(self) -> None:
        """Send the calls that wait."""
        self._may_write = True
        self.send()

    def data_received(self, data: bytes) -> None:
        """Give replies to their calls."""
        self._reader.feed(data)
        self._deliver()

    def _deliver(self) -> None:
        """Give some replies to their calls now, and the others in the next ticks of the event loop."""
        if self._answer(REPLIES_PER_TICK) == REPLIES_PER_TICK:
            self._loop.call_soon(self._deliver)
        if self._waiting:
            self.send()
        if not self.in_flight and (self._is_draining or not (self._keep_idle or self._waiting)):
            self.close()

    def _answer(self, limit: int) -> int:
        """Give up to `limit` calls their replies, and return how many got them."""
        answered = 0
        try:
            while answered < limit and (reply := self._reader.gets()) is not _INCOMPLETE:
                if type(reply) is not PushNotification:
                    answered += self._add(reply)
        except redis_errors.RedisError as error:
            self.close(error)
        except Exception as error:  # an error reply that redis-py cannot parse
            self.close(redis_errors.InvalidResponse(f"{type(error).__name__}: {error}"))
        if answered:
            self._active_at = time.monotonic()
        return answered

    def _add(self, reply: Any) -> bool:
        """Add a reply to those of the first call in flight, and return whether it was the last one."""
        if not self.in_flight:
            raise redis_errors.InvalidResponse("a reply without a command")
        call = self.in_flight[0]
        self._replies.append(reply)
        if len(self._replies) < call.commands:
            return False
        self.in_flight.popleft()
        replies, self._replies = self._replies, []
        if not call.replies.done():
            call.replies.set_result(replies)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the calls whose replies have not arrived."""
        self._answer(MAX_IN_FLIGHT)
        self.close(redis_errors.ConnectionError(str(error or "Connection closed by server.")))
        self._stream_protocol.connection_lost(error)

    def close(self, error: Exception | None = None) -> None:
        """Use the connection no longer. Calls in flight fail with `error`; without one, it can be used by others."""
        if self.closed.done():
            return
        self.closed.set_result(error is None)
        self._may_write = False
        self._transport.set_protocol(self._stream_protocol)
        if error is not None:
            self._transport.abort()
            _fail(self.in_flight, error)

    def check(self, now: float) -> None:
        """Close a connection without a reply for `REPLY_TIMEOUT`, and one that is idle too long or held too long."""
        silence = now - self._active_at
        self._is_draining = now >= self._release_at
        if self.in_flight and silence >= REPLY_TIMEOUT:
            self.close(TimeoutError())
        elif not self.in_flight and (self._is_draining or silence >= IDLE_TIMEOUT):
            self.close()


def _fail(calls: deque[_Call], error: Exception) -> None:
    while calls:
        calls.popleft().fail(error)
