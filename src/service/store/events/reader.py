"""The events in Redis: how they are read and decoded."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import structlog
from msgspec import Struct

from service.domain.errors import JobStateError, StoreUnavailable, StoreUnreachable
from service.domain.events import ControlEvent, Event, EventKind
from service.domain.states import Status
from service.store.client import StoreClient
from service.store.deadlines import REQUEST_TIMEOUT
from service.store.events.positions import EntryId, parse_entry_id
from service.store.events.sources import POLL_INTERVAL, START, BlockingSource, EventSource, Fields, Found, PollingSource
from service.store.partition import Partition
from service.store.redis_errors import error_text, map_error, to_domain_error

#: Milliseconds that one read waits for the next event; less than the timeout of a connection.
BLOCK_MS: Final = 2000
#: Seconds after which the cancellation of a read is repeated.
CANCEL_INTERVAL: Final = 0.02
#: Seconds before a failed read is retried.
RETRY_DELAY: Final = 1.0
#: How many events Redis keeps at least; `lua/lib/events.lua` has the same number.
EVENTS_KEPT: Final = 100_000
#: An entry: its id as Redis writes it, the number of its partition, its fields.
Entry = tuple[str, int, Fields]

#: What an event says, by its bytes in Redis.
_KINDS: Final = {kind.value.encode(): kind for kind in EventKind}
_STATUSES: Final = {status.value.encode(): status for status in Status}

_log = structlog.get_logger(__name__)


class Gap(Struct, frozen=True):
    """Any event of a partition (given by number) up to `position` may have been missed."""

    position: str
    partition: int = 0


class EventReader:
    """Reads new events of partitions, each once, beginning with a gap in each partition.

    The events of a job are in order, those of several partitions about in the order of their times. After a lost
    connection it continues at its last positions. Each read checks that these are still in the streams. One is not if
    Redis was restored from an older file, or if the process stalled for too long. That is a gap.
    """

    def __init__(self, client: StoreClient, wanted: Callable[[], Sequence[Partition]] | None = None) -> None:
        """Read the partitions that `wanted` returns before each read, or else all, through the pool of `client`."""
        self._client = client
        self._source: EventSource = (PollingSource if client.deployment.is_cluster else BlockingSource)(client)
        self._wanted: Callable[[], Sequence[Partition]] = wanted or (lambda: client.partitions)
        self._pool = client.redis.connection_pool
        #: Set while all wanted partitions are read.
        self._is_reading = asyncio.Event()
        #: The last entry read of each partition that is read, as Redis writes its id.
        self._positions: dict[Partition, str] = {}
        #: Set when a read must end because it lacks a wanted partition.
        self._interrupted = asyncio.Event()
        #: Why reads fail at present.
        self._failure: Exception | None = None

    async def position(self) -> tuple[EntryId, ...]:
        """Return the last entry read of every partition. Raises `StoreUnavailable` within 3 s if reads fail."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._is_reading.wait()
        except TimeoutError as error:
            failure = to_domain_error(self._failure or error, self._pool)
            if not isinstance(failure, StoreUnavailable):  # a bug of this service
                failure = StoreUnreachable("The events of Redis cannot be read.")
            raise failure from error
        return tuple(parse_entry_id(self._positions.get(one, START)) for one in self._client.partitions)

    def include_wanted(self) -> None:
        """Read again at once if there is a wanted partition that is not read."""
        if self._missing():
            self._is_reading.clear()
            self._interrupted.set()

    def _missing(self) -> list[Partition]:
        return [partition for partition in self._wanted() if partition not in self._positions]

    async def read(self) -> Sequence[Event | ControlEvent | Gap]:
        """Return the next events, or none after `BLOCK_MS` or a failure. A failure is logged and delays the return."""
        try:
            items, failure = await self._read_wanted()
        except Exception as error:
            self._is_reading.clear()
            self._note(error)
            await asyncio.sleep(RETRY_DELAY)
            return ()
        self._note(failure)
        if failure is None and not self._missing():
            self._is_reading.set()
        else:  # others may be wanted since then, or a position is gone
            self._is_reading.clear()
        if failure is not None:
            await asyncio.sleep(POLL_INTERVAL)
        return items

    def _note(self, failure: Exception | None) -> None:
        """Keep why a read has failed, and log it if the read before did not fail."""
        if failure is None and self._failure is not None:
            _log.info("event stream read resumed")
        if failure is not None and self._failure is None:
            is_expected = issubclass(map_error(failure), JobStateError)
            detail = error_text(failure, self._pool)
            _log.warning("event stream read failed", detail=detail, exc_info=None if is_expected else failure)
        self._failure = failure

    async def _read_wanted(self) -> tuple[list[Event | ControlEvent | Gap], Exception | None]:
        """Return new events of the wanted partitions, and why some could not be read.

        Start at the end of those that are not read yet.
        """
        wanted, missing = self._wanted(), self._missing()
        ends, failure = await self._source.read_ends(missing) if missing else ({}, None)
        known = {**self._positions, **ends}
        positions = {partition: known[partition] for partition in wanted if partition in known}
        found = await self._read_after(positions)
        entries: list[Entry] = []
        for one, new in found.entries.items():
            if one not in found.gone:
                positions[one] = new[-1][0].decode()
                entries += to_entries(new, one)
        for one in found.gone:
            del positions[one]
        self._positions = positions
        if len(found.entries) > 1:
            entries.sort(key=entry_id)
        gaps = [Gap(position, partition.number) for partition, position in ends.items()]
        return [*gaps, *decode_entries(entries)], failure or found.failure

    async def _read_after(self, positions: Mapping[Partition, str]) -> Found:
        """Return new entries. Wait for them if all wanted partitions are read."""
        if not self._is_reading.is_set():
            return await self._source.read(positions, None)
        read = self._source.read(positions, BLOCK_MS)
        if len(positions) == len(self._client.partitions):  # none can be missing
            return await read
        return await self._unless_interrupted(read) or Found({})

    async def _unless_interrupted(self, read: Coroutine[Any, Any, Found]) -> Found | None:
        """Return the result of a read, or `None` if `include_wanted` interrupts it."""
        self._interrupted.clear()
        reading, interruption = asyncio.create_task(read), asyncio.create_task(self._interrupted.wait())
        try:
            await asyncio.wait((reading, interruption), return_when=asyncio.FIRST_COMPLETED)
            is_complete = reading.done()
        finally:
            interruption.cancel()
            while not reading.done():
                reading.cancel()  # again, in case redis-py swallowed the cancellation
                await asyncio.wait((reading,), timeout=CANCEL_INTERVAL)
        if is_complete:
            return reading.result()
        if not reading.cancelled():
            reading.exception()  # otherwise asyncio would log it
        return None


def to_entries(found: Sequence[tuple[bytes, Fields]], partition: Partition) -> list[Entry]:
    """Return what Redis replied for the stream of a partition."""
    return [(position.decode(), partition.number, fields) for position, fields in found]


def entry_id(entry: Entry) -> EntryId:
    """Return the id of an entry, for sorting."""
    return parse_entry_id(entry[0])


def decode_entries(entries: Sequence[Entry]) -> list[Event | ControlEvent]:
    """Return the events in entries, without entries that cannot be decoded."""
    events = []
    for position, partition, fields in entries:
        try:
            events.append(_decode_entry(position, partition, fields))
        except (KeyError, ValueError):
            continue
    return events


def _decode_entry(position: str, partition: int, fields: Fields) -> Event | ControlEvent:
    if (kind := _KINDS.get(fields[b"event"])) is None:
        return _decode_control_entry(fields)
    slate_id, tags = fields.get(b"slate_id"), fields.get(b"tags", b"")
    return Event(
        position=position,
        kind=kind,
        job_id=fields[b"job_id"].decode(),
        status=_STATUSES[fields[b"status"]],
        revision=int(fields[b"revision"]) if b"revision" in fields else None,
        queue=fields[b"queue"].decode(),
        created=int(fields[b"created"]),
        slate_id=None if slate_id is None else slate_id.decode(),
        tags=tuple(tags.decode().split(",")) if tags else (),
        partition=partition,
    )


def _decode_control_entry(fields: Fields) -> ControlEvent:
    match fields[b"event"]:
        case b"drain":
            return ControlEvent(None)
        case b"queue":
            return ControlEvent(fields[b"queue"].decode())
    raise ValueError("unknown event")
