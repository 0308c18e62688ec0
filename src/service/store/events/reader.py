"""The one reader of the event stream in a process, however many subscribers there are."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from contextvars import Context
from typing import Any, Final, Protocol

import structlog
from redis.asyncio import ConnectionPool, Redis

from service.domain.errors import JobStateError, StoreUnavailable, StoreUnreachable
from service.domain.events import ControlEvent, Event, EventKind
from service.domain.states import Status
from service.store import keys
from service.store.deadlines import REQUEST_TIMEOUT
from service.store.redis_errors import error_text, map_error, to_domain_error

#: Milliseconds that one read waits for the next event; less than the timeout of a connection.
BLOCK_MS: Final = 2000
#: The most events of one read.
READ_COUNT: Final = 500
#: Seconds before a failed read is retried.
RETRY_DELAY: Final = 1.0
#: How many events Redis keeps at least; `lua/prelude.lua` has the same number.
EVENTS_KEPT: Final = 100_000
#: The position before the first event.
START: Final = "0-0"

#: Logged once when reads start to fail.
READ_FAILED: Final = "event stream read failed"

#: The error detail if reads fail because of a bug of this service.
UNREADABLE: Final = "The events of Redis cannot be read."

_log = structlog.get_logger(__name__)


class EventSubscriber(Protocol):
    """Receives events from an `EventReader`."""

    def on_events(self, events: Sequence[Event | ControlEvent]) -> None:
        """Receive the events since the last call, in order."""

    def on_gap(self, position: str) -> None:
        """Assume that any event was missed: only events after `position` will be received."""


class EventReader:
    """Reads the events while there are subscribers, and passes each event once, in order, to every subscriber.

    After a lost connection it continues at its last position. Each read checks that this position is still in the
    stream. It is not if Redis was restored from an older file, or if the process stalled for too long. Then the reader
    calls `on_gap`.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        """Read through one connection of `pool`."""
        self._pool = pool
        self._redis = Redis(connection_pool=pool)
        self._subscribers: list[EventSubscriber] = []
        self._task: asyncio.Task[None] | None = None
        self._is_reading = asyncio.Event()
        self._position: str | None = None
        #: Why reads fail at present.
        self._failure: Exception | None = None
        self._is_closed = False

    def add(self, subscriber: EventSubscriber) -> None:
        """Pass `on_gap` and then all new events to `subscriber`; `on_gap` at once if the reader has a position."""
        self._subscribers.append(subscriber)
        if self._task is None:  # in an empty context: the task belongs to no request
            self._task = asyncio.create_task(self._read(), name="events", context=Context())
        elif self._position is not None:
            subscriber.on_gap(self._position)

    def remove(self, subscriber: EventSubscriber) -> None:
        """Pass no more events to `subscriber`."""
        self._subscribers.remove(subscriber)

    async def position(self) -> str:
        """Return the position up to which subscribers have all events. Raises `StoreUnavailable` within 3 s."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._is_reading.wait()
        except TimeoutError as error:
            failure = to_domain_error(self._failure or error, self._pool)
            raise failure if isinstance(failure, StoreUnavailable) else StoreUnreachable(UNREADABLE) from error
        return self._position or START

    async def aclose(self) -> None:
        """Stop reading."""
        self._is_closed = True  # in case redis-py swallows the cancellation
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        self._position, has_failed = None, False
        try:
            while self._is_wanted:
                try:
                    await self._read_once(None)
                    self._is_reading.set()
                    if has_failed:
                        _log.info("event stream read resumed")
                    has_failed, self._failure = False, None
                    while self._is_wanted:
                        await self._read_once(BLOCK_MS)
                except Exception as error:
                    self._is_reading.clear()
                    self._failure = error
                    if not has_failed:
                        is_expected = issubclass(map_error(error), JobStateError)
                        detail = error_text(error, self._pool)
                        _log.warning(READ_FAILED, detail=detail, exc_info=None if is_expected else error)
                    has_failed = True
                    await asyncio.sleep(RETRY_DELAY)
        finally:
            self._is_reading.clear()
            self._task = None

    @property
    def _is_wanted(self) -> bool:
        return bool(self._subscribers) and not self._is_closed

    async def _read_once(self, block: int | None) -> None:
        """Read and pass on new events, waiting up to `block` ms for one. After a gap, continue at the end."""
        if self._position is None:
            await self._seek_to_end()
        position = self._position or START
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xread({keys.EVENTS: position}, count=READ_COUNT, block=block)
            pipe.xrange(keys.EVENTS, position, position, count=1)
            streams, last_read = await pipe.execute()
        if not last_read and position != START:
            await self._seek_to_end()
        elif streams:
            [(_, entries)] = streams
            self._position = entries[-1][0].decode()
            events = decode_entries(entries)
            for subscriber in list(self._subscribers):
                subscriber.on_events(events)

    async def _seek_to_end(self) -> None:
        newest: Any = await self._redis.xrevrange(keys.EVENTS, count=1)
        self._position = newest[0][0].decode() if newest else START
        for subscriber in list(self._subscribers):
            subscriber.on_gap(self._position)


def decode_entries(entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> list[Event | ControlEvent]:
    """Return the events in entries of the stream, without entries that cannot be decoded."""
    events = []
    for position, fields in entries:
        with contextlib.suppress(KeyError, ValueError):
            events.append(_decode_entry(position.decode(), fields))
    return events


def _decode_entry(position: str, fields: Mapping[bytes, bytes]) -> Event | ControlEvent:
    match fields[b"event"]:
        case b"drain":
            return ControlEvent(None)
        case b"queue":
            return ControlEvent(fields[b"queue"].decode())
    slate_id, tags = fields.get(b"slate_id"), fields.get(b"tags", b"")
    return Event(
        position=position,
        kind=EventKind(fields[b"event"].decode()),
        job_id=fields[b"job_id"].decode(),
        status=Status(fields[b"status"].decode()),
        revision=int(fields[b"revision"]),
        queue=fields[b"queue"].decode(),
        created=int(fields[b"created"]),
        slate_id=None if slate_id is None else slate_id.decode(),
        tags=tuple(tags.decode().split(",")) if tags else (),
    )
