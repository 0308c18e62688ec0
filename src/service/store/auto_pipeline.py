"""Auto-pipelining: the commands of concurrent callers share one connection, which is written to while it is read."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

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
#: Seconds between two cancellations. Up to Python 3.11 `wait_for`, which redis-py connects with, may swallow one.
CANCEL_INTERVAL: Final = 0.2

_INCOMPLETE: Final = object()
_Replies = asyncio.Future[list[Any]]


class _Call(NamedTuple):
    packed: bytes
    commands: int
    replies: _Replies


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
        #: Holds a connection while calls use it.
        self._task: asyncio.Task[None] | None = None
        self._channel: _Channel | None = None

    async def ask(self, *commands: tuple[Any, ...], until: float | None = None) -> list[Any]:
        """Send commands together and return their replies; an error reply is returned as an exception object.

        Raises `TimeoutError` at `until` (s, as `time.monotonic`), and the connection errors of redis-py; the commands
        may then have run or not. Raises `Overloaded` if `MAX_WAITING` calls wait.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the former event loop was closed
            self._reset()
            self._loop = loop
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} Redis calls, the maximum, are waiting for a connection; try again later.")
        packed = b"".join([pack_command(command) for command in commands])
        replies: _Replies = loop.create_future()
        self._waiting.append(_Call(packed, len(commands), replies))
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._send)
        if until is None:
            return await replies
        timer = loop.call_later(until - time.monotonic(), _time_out, replies)  # a fifth of the cost of asyncio.timeout
        try:
            return await replies
        finally:
            timer.cancel()

    async def aclose(self) -> None:
        """Fail all calls with a `ConnectionError` and release the connection. A later call opens one again."""
        task = self._task
        while task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_INTERVAL)
        _fail(self._waiting, redis_errors.ConnectionError("closed"))

    def _send(self) -> None:
        """Send the calls that arrived in this tick of the event loop, or open a connection for them."""
        self._is_scheduled = False
        if self._channel is not None:
            self._channel.send()
        elif self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Hold a connection while calls use it. If it cannot be opened, the waiting calls fail."""
        try:
            while self._has_waiting():
                await self._use_connection()
        except (redis_errors.RedisError, OSError, RuntimeError) as error:
            _fail(self._waiting, error)
        except Exception as error:  # a reply that the parsers of redis-py cannot handle
            _fail(self._waiting, redis_errors.InvalidResponse(f"{type(error).__name__}: {error}"))
        except BaseException:
            _fail(self._waiting, redis_errors.ConnectionError("the process is shutting down"))
            raise
        finally:  # in the same step as the last check for calls, so that none is left to a task that has finished
            self._task = None

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
        #: The calls in flight, with the number of their replies, and the replies to the first one so far.
        self._in_flight: deque[tuple[int, _Replies]] = deque()
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
        self._active_at = self._loop.time()
        self._release_at = self._active_at + MAX_HOLD
        self._timer = self._loop.call_later(IDLE_TIMEOUT, self._check)
        self._stream_protocol = transport.get_protocol()
        transport.set_protocol(self)

    def send(self) -> None:
        """Send waiting calls as far as the transport accepts them."""
        while self._waiting and self._may_write and not (self._is_draining or self._transport.is_closing()):
            if not self._in_flight:
                self._active_at = self._loop.time()
            if not (packed := self._take()):
                return
            self._transport.write(b"".join(packed))

    def _take(self) -> list[bytes]:
        """Return what to send next, without the calls of cancelled callers."""
        packed, size = [], 0
        while self._waiting and size < WRITE_BYTES and len(self._in_flight) < MAX_IN_FLIGHT:
            call = self._waiting.popleft()
            if not call.replies.done():
                packed.append(call.packed)
                size += len(call.packed)
                self._in_flight.append((call.commands, call.replies))
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
        if not self._in_flight and (self._is_draining or not (self._keep_idle or self._waiting)):
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
            self._active_at = self._loop.time()
        return answered

    def _add(self, reply: Any) -> bool:
        """Add a reply to those of the first call in flight, and return whether it was the last one."""
        if not self._in_flight:
            raise redis_errors.InvalidResponse("a reply without a command")
        expected, future = self._in_flight[0]
        self._replies.append(reply)
        if len(self._replies) < expected:
            return False
        self._in_flight.popleft()
        replies, self._replies = self._replies, []
        if not future.done():
            future.set_result(replies)
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
        self._timer.cancel()
        self._transport.set_protocol(self._stream_protocol)
        if error is not None:
            self._transport.abort()
            _fail_futures((future for _, future in self._in_flight), error)

    def _check(self) -> None:
        """Close a connection that is idle for `IDLE_TIMEOUT`, or without a reply for `REPLY_TIMEOUT`."""
        now = self._loop.time()
        limit = REPLY_TIMEOUT if self._in_flight else IDLE_TIMEOUT
        silence = now - self._active_at
        self._is_draining = now >= self._release_at
        if silence >= limit or (self._is_draining and not self._in_flight):
            self.close(TimeoutError() if self._in_flight else None)
        else:
            self._timer = self._loop.call_later(limit - silence, self._check)


def _time_out(replies: _Replies) -> None:
    if not replies.done():
        replies.set_exception(TimeoutError())


def _fail(waiting: deque[_Call], error: Exception) -> None:
    while waiting:
        _fail_futures([waiting.popleft().replies], error)


def _fail_futures(futures: Iterable[_Replies], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
