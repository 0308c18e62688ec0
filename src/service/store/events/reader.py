"""The events in Redis: how they are read and decoded."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from msgspec import Struct

from service.domain.errors import JobStateError, StoreUnavailable, StoreUnreachable
from service.domain.events import ControlEvent, Event, EventKind
from service.domain.states import Status
from service.store.client import StoreClient
from service.store.deadlines import REQUEST_TIMEOUT
from service.store.redis_errors import error_text, map_error, to_domain_error

#: Milliseconds that one read waits for the next event; less than the timeout of a connection.
BLOCK_MS: Final = 2000
#: The most events of one read.
READ_COUNT: Final = 500
#: Seconds before a failed read is retried.
RETRY_DELAY: Final = 1.0
#: How many events Redis keeps at least; `lua/lib/events.lua` has the same number.
EVENTS_KEPT: Final = 100_000
#: The position before the first event.
START: Final = "0-0"

_log = structlog.get_logger(__name__)


class Gap(Struct, frozen=True):
    """Any event up to `position` may have been missed."""

    position: str


class EventReader:
    """Reads new events, each once and in order, beginning with a gap.

    After a lost connection it continues at its last position. Each read checks that this position is still in the
    stream. It is not if Redis was restored from an older file, or if the process stalled for too long. That is a gap.
    """

    def __init__(self, client: StoreClient) -> None:
        """Read through one connection of the pool of `client`."""
        self._client = client
        self._redis = client.redis
        self._key = client.partitions.first.events
        self._pool = client.redis.connection_pool
        self._is_reading = asyncio.Event()
        self._position: str | None = None
        #: Why reads fail at present.
        self._failure: Exception | None = None

    async def position(self) -> str:
        """Return the position of the last event read. Raises `StoreUnavailable` within 3 s if reads fail."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._is_reading.wait()
        except TimeoutError as error:
            failure = to_domain_error(self._failure or error, self._pool)
            if not isinstance(failure, StoreUnavailable):  # a bug of this service
                failure = StoreUnreachable("The events of Redis cannot be read.")
            raise failure from error
        return self._position or START

    async def read(self) -> Sequence[Event | ControlEvent | Gap]:
        """Return the next events, or none after `BLOCK_MS` or a failure. A failure is logged and delays the return."""
        try:
            block = BLOCK_MS if self._is_reading.is_set() else None
            items, self._position = await self._read_after(self._position, block)
        except Exception as error:
            self._is_reading.clear()
            if self._failure is None:
                is_expected = issubclass(map_error(error), JobStateError)
                detail = error_text(error, self._pool)
                _log.warning("event stream read failed", detail=detail, exc_info=None if is_expected else error)
            self._failure = error
            await asyncio.sleep(RETRY_DELAY)
            return ()
        if self._failure is not None:
            _log.info("event stream read resumed")
        self._failure = None
        self._is_reading.set()
        return items

    async def _read_after(
        self, position: str | None, block: int | None
    ) -> tuple[list[Event | ControlEvent | Gap], str]:
        """Return new events and the new position. Without a position, or if it is gone, start at the end."""
        if position is None:
            [newest] = await self._client.read(["XREVRANGE", self._key, "+", "-", "COUNT", "1"])
            position = newest[0][0].decode() if newest else START
            items, end = await self._read_after(position, None)
            return [Gap(position), *items], end
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xread({self._key: position}, count=READ_COUNT, block=block)
            pipe.xrange(self._key, position, position, count=1)
            streams, last_read = await pipe.execute()
        if not last_read and position != START:
            return await self._read_after(None, None)
        if not streams:
            return [], position
        [(_, entries)] = streams
        return [*decode_entries(entries)], entries[-1][0].decode()


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
        revision=int(fields[b"revision"]) if b"revision" in fields else None,
        queue=fields[b"queue"].decode(),
        created=int(fields[b"created"]),
        slate_id=None if slate_id is None else slate_id.decode(),
        tags=tuple(tags.decode().split(",")) if tags else (),
    )
