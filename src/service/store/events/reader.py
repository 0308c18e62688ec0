"""The one reader of the store's events in a process, whatever the number of those who watch and wait."""

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

#: Milliseconds that one reading of the events waits for the next; shorter than the time-out of a connection.
BLOCK_MS: Final = 2000
#: Events taken in at one time.
READ_COUNT: Final = 500
#: Seconds before a Redis that was away is tried again.
RETRY_DELAY: Final = 1.0
#: So many events at least are kept; the twin in Lua is at the top of `prelude.lua`.
EVENTS_KEPT: Final = 100_000
#: The position before the first event there ever was.
START: Final = "0-0"

#: What the log says once when they cannot be read.
READ_FAILED: Final = "the events of Redis cannot be read; those who wait and watch hear nothing until they can"

#: What is answered where the events cannot be read because of a mistake of this service.
UNREAD: Final = "The events of Redis cannot be read."

_log = structlog.get_logger(__name__)


class EventSubscriber(Protocol):
    """Who is told what happens."""

    def on_events(self, events: Sequence[Event | ControlEvent]) -> None:
        """Take in what has happened since the last time, in order."""

    def on_gap(self, position: str) -> None:
        """Take anything for possible: only what comes after `position` is heard."""


class EventReader:
    """Reads the events while anybody listens, and tells every listener each of them once, in order.

    Over a lost connection it goes on where it was. Each reading asks whether that place is still in the history; where
    it is not, it says `look_again`: after a restore of Redis from an older file, in a process that slept too long.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        """Read through `pool`."""
        self._pool = pool
        self._redis = Redis(connection_pool=pool)
        self._subscribers: list[EventSubscriber] = []
        self._reading: asyncio.Task[None] | None = None
        self._is_reading = asyncio.Event()
        self._position: str | None = None
        #: Why the events cannot be read for now.
        self._failure: Exception | None = None
        self._is_closed = False

    def add(self, listener: EventSubscriber) -> None:
        """Tell `listener` what happens from now on, after a `look_again`: at once where reading has begun before."""
        self._subscribers.append(listener)
        if self._reading is None:  # in no request's context: it is nobody's in particular
            self._reading = asyncio.create_task(self._read(), name="events", context=Context())
        elif self._position is not None:
            listener.on_gap(self._position)

    def remove(self, listener: EventSubscriber) -> None:
        """Tell `listener` no more."""
        self._subscribers.remove(listener)

    async def position(self) -> str:
        """Return the place up to which listeners have heard everything. Raises `StoreUnavailable` within 3 s."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._is_reading.wait()
        except TimeoutError as error:
            known = to_domain_error(self._failure or error, self._pool)
            raise known if isinstance(known, StoreUnavailable) else StoreUnreachable(UNREAD) from error
        return self._position or START

    async def aclose(self) -> None:
        """Stop reading."""
        self._is_closed = True  # for a cancellation that redis-py loses
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        self._position, is_deaf = None, False
        try:
            while self._is_wanted:
                try:
                    await self._read_once(None)
                    self._is_reading.set()
                    if is_deaf:
                        _log.info("the events of Redis are read again")
                    is_deaf, self._failure = False, None
                    while self._is_wanted:
                        await self._read_once(BLOCK_MS)
                except Exception as error:
                    self._is_reading.clear()
                    self._failure = error
                    if not is_deaf:
                        known = issubclass(map_error(error), JobStateError)
                        _log.warning(
                            READ_FAILED, detail=error_text(error, self._pool), exc_info=None if known else error
                        )
                    is_deaf = True
                    await asyncio.sleep(RETRY_DELAY)
        finally:
            self._is_reading.clear()
            self._reading = None

    @property
    def _is_wanted(self) -> bool:
        return bool(self._subscribers) and not self._is_closed

    async def _read_once(self, block: int | None) -> None:
        """Take in what has come since, or comes within `block` ms; go on at the end where history has a hole."""
        if self._position is None:
            await self._seek_to_end()
        position = self._position or START
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xread({keys.EVENTS: position}, count=READ_COUNT, block=block)
            pipe.xrange(keys.EVENTS, position, position, count=1)
            read, kept = await pipe.execute()
        if not kept and position != START:
            await self._seek_to_end()
        elif read:
            [(_, entries)] = read
            self._position = entries[-1][0].decode()
            events = decode_entries(entries)
            for listener in list(self._subscribers):
                listener.on_events(events)

    async def _seek_to_end(self) -> None:
        newest: Any = await self._redis.xrevrange(keys.EVENTS, count=1)
        self._position = newest[0][0].decode() if newest else START
        for listener in list(self._subscribers):
            listener.on_gap(self._position)


def decode_entries(entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> list[Event | ControlEvent]:
    """Return what entries of the stream say; what is not ours is passed over."""
    found = []
    for position, entry in entries:
        with contextlib.suppress(KeyError, ValueError):
            found.append(_event(position.decode(), entry))
    return found


def _event(position: str, entry: Mapping[bytes, bytes]) -> Event | ControlEvent:
    match entry[b"event"]:
        case b"drain":
            return ControlEvent(None)
        case b"queue":
            return ControlEvent(entry[b"queue"].decode())
    slate_id, tags = entry.get(b"slate_id"), entry.get(b"tags", b"")
    return Event(
        position=position,
        kind=EventKind(entry[b"event"].decode()),
        job_id=entry[b"job_id"].decode(),
        status=Status(entry[b"status"].decode()),
        revision=int(entry[b"revision"]),
        queue=entry[b"queue"].decode(),
        created=int(entry[b"created"]),
        slate_id=None if slate_id is None else slate_id.decode(),
        tags=tuple(tags.decode().split(",")) if tags else (),
    )
