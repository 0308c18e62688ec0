"""The stream of all job events: recent ones from memory, older ones from Redis."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum, auto
from itertools import chain
from typing import Final

from msgspec import Struct

from service.domain import validation
from service.domain.errors import JobStateError
from service.domain.events import Event
from service.domain.jobs import JobFilter
from service.domain.shutdown import Shutdown
from service.store.client import StoreClient
from service.store.events.hub import KEEP_ALIVE_INTERVAL, EventHub, Subscription
from service.store.events.positions import (
    START,
    Position,
    format_entry_id,
    moved,
    parse_entry_id,
    parse_position,
    with_cursor,
)
from service.store.events.reader import EVENTS_KEPT, RETRY_DELAY, Entry, decode_entries, entry_id, to_entries

#: The most events that are yielded, or read from Redis, at once. Other tasks run in between.
BATCH: Final = 100


class MarkerKind(StrEnum):
    """What a marker in the stream means."""

    #: The stream has started.
    STARTED = auto()
    #: Events are missing; the subscriber must read the jobs again.
    RESET = auto()
    #: There are no further events up to the position.
    KEEP_ALIVE = auto()
    #: The subscriber lagged behind by more than `BUFFER_SIZE`, and the stream ends.
    LAGGED = auto()


class StreamMarker(Struct, frozen=True):
    """An item of the stream that is not an event; `position` is where the stream can be resumed."""

    kind: MarkerKind
    position: str


class StreamSubscription(Subscription):
    """One reader of the stream."""

    def __init__(self) -> None:
        super().__init__(("job", None))
        #: The cursor: the position of the last event that it has.
        self.position: Position
        #: Whether it has reached the recent events.
        self.is_live = False
        #: How many gaps it knows of.
        self.gaps = 0


class EventStream:
    """The events of all jobs in order: the latest from memory, the older ones from Redis."""

    def __init__(self, client: StoreClient, hub: EventHub, shutdown: Shutdown) -> None:
        """Subscribe to `hub`, read older events through `client`, and end all streams at `shutdown`."""
        self._client = client
        self._partitions = client.partitions
        self._hub = hub
        self._shutdown = shutdown

    def subscribe(self) -> AbstractContextManager[StreamSubscription]:
        """Receive events inside the `with` block."""
        return self._hub.subscribe(StreamSubscription())

    async def follow(
        self, subscription: StreamSubscription, after: str | None, filters: JobFilter, *, since: int | None = None
    ) -> AsyncGenerator[StreamMarker | Sequence[Event]]:
        """Yield a STARTED marker, then batches of the events that match, each event once and in order.

        Starts after the position `after`, or else at the time `since` (µs since 1970), or else now. A RESET marker
        follows if older events are no longer kept or were lost. A KEEP_ALIVE marker comes after
        `KEEP_ALIVE_INTERVAL` seconds without events. Ends with a LAGGED marker, or when the process shuts down.

        Raises `InvalidValue`, and `StoreUnavailable` before the first item. Later failures of Redis are waited out.
        """
        validation.validate_filter(filters)
        newest, subscription.gaps = await self._hub.position(), self._hub.recent.gaps
        subscription.position, is_complete = await self._start(newest, after, since)
        yield StreamMarker(MarkerKind.STARTED, str(subscription.position))
        if not is_complete:
            yield StreamMarker(MarkerKind.RESET, str(subscription.position))
        next_keep_alive = time.monotonic() + KEEP_ALIVE_INTERVAL
        while not self._shutdown.has_begun:
            item = await self._next(subscription, next_keep_alive - time.monotonic())
            if isinstance(item, StreamMarker):
                yield item
                if item.kind is MarkerKind.LAGGED:
                    return
            elif matching := [event for event in item if event.matches(filters)]:
                yield matching
            elif time.monotonic() >= next_keep_alive:
                yield StreamMarker(MarkerKind.KEEP_ALIVE, str(subscription.position))
            else:
                continue
            next_keep_alive = time.monotonic() + KEEP_ALIVE_INTERVAL
            await asyncio.sleep(0)  # a client that reads fast must not keep other tasks from running

    async def _next(self, subscription: StreamSubscription, seconds: float) -> StreamMarker | Sequence[Event]:
        """Return the next events, or a RESET or LAGGED marker. Without any, wait up to `seconds` and return none."""
        recent = self._hub.recent
        if subscription.gaps != recent.gaps:
            subscription.gaps, subscription.position = recent.gaps, recent.start
            return StreamMarker(MarkerKind.RESET, str(subscription.position))
        found = recent.after(subscription.position, BATCH)
        if found is None and subscription.is_live:
            return StreamMarker(MarkerKind.LAGGED, str(subscription.position))
        if found is None:
            return await self._read_history(subscription)
        subscription.is_live = True
        events, subscription.position = found
        if not events:
            await subscription.wait(seconds)
        return events

    async def _start(self, newest: Position, after: str | None, since: int | None) -> tuple[Position, bool]:
        """Return the position to start after, and whether all events after it are kept."""
        if after is not None:
            position = parse_position(after, len(self._partitions))
            if position is None or not (position.entries == newest.entries or await self._is_kept(position)):
                return newest, False
            return position, True
        if since is not None:
            position = await self._position_before(since)
            return position, await self._is_kept(position)
        return newest, True

    async def _position_before(self, since: int) -> Position:
        """Return the last entry of each partition before a time (µs), or `START`."""
        before = f"({max(1, since // 1000)}-0"
        commands = [["XREVRANGE", partition.events, before, "-", "COUNT", "1"] for partition in self._partitions]
        found = await self._client.read(*commands)
        return Position(tuple(parse_entry_id(entries[0][0].decode()) if entries else START for entries in found))

    async def _is_kept(self, position: Position) -> bool:
        """Return whether all events after `position` are in Redis."""
        commands: list[list[str]] = []
        for partition, entry in zip(self._partitions, position.entries, strict=True):
            at = format_entry_id(entry)
            commands += ["XRANGE", partition.events, at, at], ["XLEN", partition.events]
        replies = await self._client.read(*commands)
        return all(
            found or (entry == START and length < EVENTS_KEPT)
            for entry, found, length in zip(position.entries, replies[::2], replies[1::2], strict=True)
        )

    async def _read_history(self, subscription: StreamSubscription) -> Sequence[Event]:
        """Return the next events from Redis. Without any in a partition, continue where its recent events start."""
        position, start = subscription.position, self._hub.recent.start
        behind = [one for one in self._partitions if position.entries[one.number] < start.entries[one.number]]
        count = BATCH // len(behind) or 1
        commands = [
            ["XRANGE", one.events, f"({format_entry_id(position.entries[one.number])}", "+", "COUNT", str(count)]
            for one in behind
        ]
        try:
            replies = await self._client.read(*commands)
        except JobStateError:
            await asyncio.sleep(RETRY_DELAY)
            return ()
        for partition, found in zip(behind, replies, strict=True):
            if not found:
                position = moved(position, partition.number, start.entries[partition.number])
        events = []
        for entry in _merged([to_entries(found, one) for one, found in zip(behind, replies, strict=True)], count):
            position = moved(position, entry[1], entry_id(entry))
            events += [with_cursor(one, position) for one in decode_entries([entry]) if isinstance(one, Event)]
        subscription.position = position
        return events


def _merged(found: Sequence[list[Entry]], count: int) -> list[Entry]:
    """Return entries in the order of their ids, up to the first end of a list of `count`, which may go on."""
    ends = [entry_id(entries[-1]) for entries in found if len(entries) == count]
    entries = sorted(chain.from_iterable(found), key=entry_id)
    return [entry for entry in entries if entry_id(entry) <= min(ends)] if ends else entries
