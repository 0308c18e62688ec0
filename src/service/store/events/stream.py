"""The stream of all job events: recent ones from memory, older ones from Redis."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum, auto
from typing import Final

from msgspec import Struct

from service.domain import constraints, validation
from service.domain.errors import JobStateError
from service.domain.events import Event
from service.domain.jobs import JobFilter
from service.domain.shutdown import Shutdown
from service.store.client import StoreClient
from service.store.events.hub import KEEP_ALIVE_INTERVAL, EventHub, Subscription
from service.store.events.reader import EVENTS_KEPT, RETRY_DELAY, START, decode_entries

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
        self.position = START
        #: Whether it has reached the recent events.
        self.is_live = False
        #: How many gaps it knows of.
        self.gaps = 0


class EventStream:
    """The events of all jobs in order: the latest from memory, the older ones from Redis."""

    def __init__(self, client: StoreClient, hub: EventHub, shutdown: Shutdown) -> None:
        """Subscribe to `hub`, read older events through `client`, and end all streams at `shutdown`."""
        self._client = client
        self._key = client.partitions.first.events
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
        yield StreamMarker(MarkerKind.STARTED, subscription.position)
        if not is_complete:
            yield StreamMarker(MarkerKind.RESET, subscription.position)
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
                yield StreamMarker(MarkerKind.KEEP_ALIVE, subscription.position)
            else:
                continue
            next_keep_alive = time.monotonic() + KEEP_ALIVE_INTERVAL
            await asyncio.sleep(0)  # a client that reads fast must not keep other tasks from running

    async def _next(self, subscription: StreamSubscription, seconds: float) -> StreamMarker | Sequence[Event]:
        """Return the next events, or a RESET or LAGGED marker. Without any, wait up to `seconds` and return none."""
        recent = self._hub.recent
        if subscription.gaps != recent.gaps:
            subscription.gaps, subscription.position = recent.gaps, recent.start
            return StreamMarker(MarkerKind.RESET, subscription.position)
        events = recent.after(subscription.position, BATCH)
        if events is None and subscription.is_live:
            return StreamMarker(MarkerKind.LAGGED, subscription.position)
        if events is None:
            return await self._read_history(subscription)
        subscription.is_live = True
        if events:
            subscription.position = events[-1].position
        else:
            await subscription.wait(seconds)
        return events

    async def _start(self, newest: str, after: str | None, since: int | None) -> tuple[str, bool]:
        """Return the position to start after, and whether all events after it are kept."""
        if after is not None:
            is_kept = after == newest or await self._is_kept(after)
            return after if is_kept else newest, is_kept
        if since is not None:
            position = await self._position_before(since)
            return position, await self._is_kept(position)
        return newest, True

    async def _position_before(self, since: int) -> str:
        """Return the position of the last event before a time (µs), or `START`."""
        before = f"({max(1, since // 1000)}-0"
        [entries] = await self._client.read(["XREVRANGE", self._key, before, "-", "COUNT", "1"])
        return entries[0][0].decode() if entries else START

    async def _is_kept(self, position: str) -> bool:
        """Return whether all events after `position` are in Redis."""
        if not constraints.STREAM_ID.is_valid(position):
            return False
        entry_at = ["XRANGE", self._key, position, position]
        entries, length = await self._client.read(entry_at, ["XLEN", self._key])
        return bool(entries) or (position == START and length < EVENTS_KEPT)

    async def _read_history(self, subscription: StreamSubscription) -> Sequence[Event]:
        """Return the next events from Redis. Without any, continue where the recent events start."""
        start_of_recent = self._hub.recent.start
        command = [
            "XRANGE",
            self._key,
            f"({subscription.position}",
            "+",
            "COUNT",
            str(BATCH),
        ]
        try:
            [entries] = await self._client.read(command)
        except JobStateError:
            await asyncio.sleep(RETRY_DELAY)
            return ()
        subscription.position = entries[-1][0].decode() if entries else start_of_recent
        return [event for event in decode_entries(entries) if isinstance(event, Event)]
