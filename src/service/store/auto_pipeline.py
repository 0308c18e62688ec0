"""Auto-pipelining: what callers ask of Redis at one moment goes out together, over few connections of the pool."""

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

#: The most pipelines that are on their way at one time, whatever the pool allows.
LINES: Final = 64
#: The most questions in one pipeline: what stands behind a slow one waits for it.
BATCH: Final = 128
#: The most questions that are answered in one turn of the event loop: what the first of them lead to is on its way to
#: Redis, and to clients, while the others are answered. Else all would wait for Redis, and Redis for all, in turn.
SHARE: Final = 16
#: Seconds for which a line that has nothing to send keeps its connection.
LINGER: Final = 1.0
#: Seconds after which a line gives its connection back all the same: that is where redis-py looks after it.
TERM: Final = 10.0
#: The fewest connections of a pool that leave one to a line that has nothing to send.
ENOUGH: Final = 3
#: Questions that wait for a line; further ones are refused.
MOST_WAITING: Final = 10_000
#: Seconds after which a connection that is not there yet, or a pipeline without all its replies, is given up.
PATIENCE: Final = 1.5
#: Seconds after it at which a pipeline that slept through it is cancelled again: up to Python 3.11 `wait_for`, which
#: redis-py sends with, swallows a cancellation that comes as it finishes.
SECOND_BELL: Final = 0.2

_ATTRIBUTE: Final = "_auto_pipeline"

_Read = Callable[[], Awaitable[Any]]


class _Question(NamedTuple):
    packed: list[bytes]
    answer: asyncio.Future[list[Any]]


class AutoPipeline:
    """Takes commands from many callers and gives each its own replies, in the order in which they asked.

    Connecting, authentication and TLS are redis-py's. A caller that is cancelled takes its commands along if they have
    not been sent, and harms no other; a connection that breaks or falls silent fails those alone that it was to answer.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        """Use connections of `pool`, which must not decode replies."""
        self._pool = pool
        #: One connection is left to who reads the events, one to who waits for syncs.
        self._most_lines = max(1, min(LINES, pool.max_connections - 2))
        self._waiting: deque[_Question] = deque()
        self._lines: set[asyncio.Task[None] | None] = set()
        #: What calls the one line that keeps its connection although it has nothing to send.
        self._idle: asyncio.Future[None] | None = None
        self._is_called = False

    async def ask(self, *commands: tuple[Any, ...], until: float | None = None) -> list[Any]:
        """Return the replies to commands that are sent in one piece; a reply that is an error stands in its place.

        Raises `TimeoutError` at `until` (s, as `time.monotonic`), and what redis-py raises of connections; after it
        nobody knows which of the commands have run. Raises `Overloaded` where too many wait.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded(f"{MOST_WAITING} calls of Redis wait for a connection, the most.")
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
        """Give up what is under way, so that no connection is opened any more; whoever waits is told."""
        lines = [line for line in self._lines if line is not None]
        for line in lines:
            line.cancel()
        await asyncio.gather(*lines, return_exceptions=True)
        _fail(self._waiting, redis_errors.ConnectionError("closed"))
        self._waiting.clear()

    def _start(self) -> None:
        """Have sent what has come together in this turn of the event loop."""
        self._is_called = False
        if not self._waiting:
            return
        if self._idle is not None and self._idle.get_loop() is not asyncio.get_running_loop():
            self._idle = None  # of an event loop that was closed under it
            self._lines.clear()
        if self._idle is not None:
            _wake(self._idle)
        elif len(self._lines) < self._most_lines:
            self._lines.add(asyncio.create_task(self._serve()))

    async def _serve(self) -> None:
        """Send pipelines over one connection while there is something to send."""
        try:
            while batch := self._take():
                await self._send(batch)
        finally:  # in the same step as the last look, so that no question counts on a line that has ended
            self._lines.discard(asyncio.current_task())

    async def _send(self, batch: list[_Question]) -> None:
        """Send a batch, and what comes meanwhile, until there is nothing more or the connection fails."""
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
        except Exception as error:  # the parsers of redis-py were not made for such a reply
            _fail(batch, redis_errors.InvalidResponse(f"{type(error).__name__}: {error}"))
        except BaseException:
            _fail(batch, redis_errors.ConnectionError("the process is about to end"))
            raise

    async def _linger(self, connection: AbstractConnection) -> list[_Question]:
        """Return what there is to send next over a connection; nothing after a while, or where it has been closed."""
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
        """Return the next that wait, without those who have left."""
        batch: list[_Question] = []
        while self._waiting and len(batch) < BATCH:
            question = self._waiting.popleft()
            if not question.answer.done():
                batch.append(question)
        return batch


def pipeline_of(pool: ConnectionPool) -> AutoPipeline:
    """Return the pipeline of a pool, which all who work through the pool share."""
    pipeline: AutoPipeline | None = vars(pool).get(_ATTRIBUTE)
    if pipeline is None:
        vars(pool)[_ATTRIBUTE] = pipeline = AutoPipeline(pool)
    return pipeline


async def _exchange(connection: AbstractConnection, batch: Sequence[_Question]) -> None:
    await connection.send_packed_command([part for question in batch for part in question.packed])
    # The first reply is read the public way, which notes that the connection is alive; the others without all that that
    # way does for each.
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
    """Return one reply, also where it is an error: some of those are, to redis-py, errors of the connection."""
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
