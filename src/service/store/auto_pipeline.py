"""Auto-pipelining: commands of concurrent callers are sent together, over few connections of the pool."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from hiredis import pack_command
from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection

from service.domain.errors import Overloaded
from service.store.pool import is_closed

#: The most connections in use at once, even if the pool allows more.
LINES: Final = 64
#: The most calls in one batch. Calls behind a slow one wait for it.
BATCH: Final = 128
#: The most calls that get their replies in one tick of the event loop. Their callers can then send on while the other
#: replies are read. Otherwise the callers and Redis would wait for each other in turn.
SHARE: Final = 16
#: Seconds that an idle connection is kept.
LINGER: Final = 1.0
#: Seconds after which a busy connection is returned to the pool too, because redis-py checks connections there.
TERM: Final = 10.0
#: The smallest pool size at which an idle connection is kept.
ENOUGH: Final = 3
#: The most calls that may wait for a connection; further ones are rejected.
MOST_WAITING: Final = 10_000
#: Seconds after which opening a connection, or one batch, times out.
PATIENCE: Final = 1.5
#: Seconds after that timeout at which a batch is cancelled a second time. Up to Python 3.11 `wait_for`, which redis-py
#: sends with, swallows a cancellation that arrives as it finishes.
SECOND_BELL: Final = 0.2

_Read = Callable[[], Awaitable[Any]]


class _Question(NamedTuple):
    packed: list[bytes]
    answer: asyncio.Future[list[Any]]


class AutoPipeline:
    """Sends the commands of many callers in batches and gives each caller its own replies.

    redis-py connects, authenticates and does TLS. The commands of a cancelled caller are dropped unless they were sent;
    other callers are not affected. A connection that breaks or times out fails only the callers in its batch.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        """Use connections of `pool`, which must not decode replies."""
        self._pool = pool
        #: Leaves one connection to the event reader and one to `FsyncWaiter`.
        self._most_lines = max(1, min(LINES, pool.max_connections - 2))
        self._waiting: deque[_Question] = deque()
        self._lines: set[asyncio.Task[None] | None] = set()
        #: Wakes the task that holds an idle connection. There is at most one.
        self._idle: asyncio.Future[None] | None = None
        self._is_called = False

    async def ask(self, *commands: tuple[Any, ...], until: float | None = None) -> list[Any]:
        """Send commands together and return their replies; an error reply is returned as an exception object.

        Raises `TimeoutError` at `until` (s, as `time.monotonic`), and the connection errors of redis-py; the commands
        may then have run or not. Raises `Overloaded` if `MOST_WAITING` calls wait.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded(f"{MOST_WAITING} Redis calls, the maximum, are waiting for a connection; try again later.")
        loop = asyncio.get_running_loop()
        replies: asyncio.Future[list[Any]] = loop.create_future()
        self._waiting.append(_Question([pack_command(command) for command in commands], replies))
        if not self._is_called and (self._idle is not None or len(self._lines) < self._most_lines):
            self._is_called = True
            loop.call_soon(self._start)
        if until is None:
            return await replies
        bell = loop.call_later(until - time.monotonic(), _be_late, replies)  # a fifth of the cost of asyncio.timeout
        try:
            return await replies
        finally:
            bell.cancel()

    async def aclose(self) -> None:
        """Cancel all calls and open no more connections; waiting callers get a `ConnectionError`."""
        lines = {line for line in self._lines if line is not None}
        while lines:
            for line in lines:
                line.cancel()
            _, lines = await asyncio.wait(lines, timeout=SECOND_BELL)
        _fail(self._waiting, redis_errors.ConnectionError("closed"))
        self._waiting.clear()

    def _start(self) -> None:
        """Send the calls that arrived in this tick of the event loop: on the idle connection, or on a further one."""
        self._is_called = False
        if not self._waiting:
            return
        if self._idle is not None and self._idle.get_loop() is not asyncio.get_running_loop():
            self._idle = None  # it belongs to an event loop that was closed
            self._lines.clear()
        if self._idle is not None:
            _wake(self._idle)
        elif len(self._lines) < self._most_lines:
            self._lines.add(asyncio.create_task(self._serve()))

    async def _serve(self) -> None:
        """Send batches while calls are waiting."""
        try:
            while batch := self._take():
                await self._send(batch)
        finally:  # in the same step as the last check for calls, so that none is left to a task that has finished
            self._lines.discard(asyncio.current_task())

    async def _send(self, batch: list[_Question]) -> None:
        """Send a batch and the following ones over one connection, until it is idle too long, too old, or fails."""
        try:
            async with asyncio.timeout(PATIENCE + SECOND_BELL), asyncio.timeout(PATIENCE):
                connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            release_at = time.monotonic() + TERM
            try:
                while batch:
                    async with asyncio.timeout(PATIENCE + SECOND_BELL), asyncio.timeout(PATIENCE):
                        await _exchange(connection, batch)
                    if time.monotonic() > release_at:
                        break
                    batch = self._take() or await self._linger(connection)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            finally:
                await self._pool.release(connection)
        except (redis_errors.RedisError, OSError, RuntimeError) as error:
            _fail(batch, error)
        except Exception as error:  # a reply that the parsers of redis-py cannot handle
            _fail(batch, redis_errors.InvalidResponse(f"{type(error).__name__}: {error}"))
        except BaseException:
            _fail(batch, redis_errors.ConnectionError("the process is shutting down"))
            raise

    async def _linger(self, connection: AbstractConnection) -> list[_Question]:
        """Wait for the next batch. Returns an empty one after `LINGER`, or if the connection was closed."""
        if self._idle is not None or self._pool.max_connections < ENOUGH:
            return []
        loop = asyncio.get_running_loop()
        self._idle = call = loop.create_future()
        bell = loop.call_later(LINGER, _wake, call)
        try:
            await call
        finally:
            self._idle = None
            bell.cancel()
        return [] if is_closed(connection) else self._take()

    def _take(self) -> list[_Question]:
        """Return the next batch, without the calls of cancelled callers."""
        batch: list[_Question] = []
        while self._waiting and len(batch) < BATCH:
            question = self._waiting.popleft()
            if not question.answer.done():
                batch.append(question)
        return batch


async def _exchange(connection: AbstractConnection, batch: Sequence[_Question]) -> None:
    await connection.send_packed_command([part for question in batch for part in question.packed])
    # The first reply is read through the public method, which records that the connection is alive. The others skip the
    # cost of that method.
    read: _Read = partial(connection.read_response, timeout=math.inf, disconnect_on_error=False)
    for number, (packed, answer) in enumerate(batch, start=1):
        replies = []
        for _ in packed:
            replies.append(await _reply(read))
            read = connection._parser.read_response  # type: ignore[attr-defined]
        if not answer.done():
            answer.set_result(replies)
        if number % SHARE == 0:
            await asyncio.sleep(0)


async def _reply(read: _Read) -> Any:
    """Return one reply. Error replies are returned too, though redis-py raises some of them as connection errors."""
    try:
        return await read()
    except redis_errors.RedisError as error:
        if type(error) in (redis_errors.ConnectionError, redis_errors.TimeoutError, redis_errors.InvalidResponse):
            raise
        return error


def _wake(call: asyncio.Future[None]) -> None:
    if not call.done():
        call.set_result(None)


def _be_late(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _fail(batch: Iterable[_Question], error: Exception) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(error)
