"""The stream of all job events: recent ones from memory, older ones from Redis."""

import asyncio
import contextlib
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator, Iterator, Sequence
from enum import StrEnum, auto
from typing import Final, NamedTuple

from msgspec import Struct

from service.domain import constraints, validation
from service.domain.errors import JobStateError
from service.domain.events import ControlEvent, Event
from service.domain.jobs import JobFilter
from service.domain.shutdown import Shutdown
from service.store import keys
from service.store.client import StoreClient
from service.store.events.job_watcher import KEEP_ALIVE_INTERVAL
from service.store.events.reader import EVENTS_KEPT, RETRY_DELAY, START, EventReader, decode_entries

#: How many events the process keeps for all subscribers. One that lags behind by more is dropped.
BUFFER_SIZE: Final = 2000
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


class EventBatch(NamedTuple):
    """Events in order, and the position that they reach."""

    events: Sequence[Event]
    end: str


class EventStream:
    """The events of all jobs in order: the latest in memory, shared by all subscribers, and the older ones in Redis."""

    def __init__(self, client: StoreClient, reader: EventReader, *, shutdown: Shutdown) -> None:
        """Subscribe to `reader` while there are subscribers, and read older events through `client`.

        All streams end once `shutdown` begins.
        """
        self._client = client
        self._reader = reader
        #: The latest events, and their positions in the same order, for the binary search.
        self._events: list[Event] = []
        self._positions: list[tuple[int, int]] = []
        #: All events after this position are in memory.
        self._oldest_position = START
        #: How many gaps there were.
        self._gaps = 0
        self._subscribers = 0
        #: Set for all waiting subscribers when events arrive, and then replaced.
        self._new_events = asyncio.Event()
        self._shutdown = shutdown
        shutdown.on_begin(self._wake)

    async def follow(
        self, after: str | None, filters: JobFilter, *, since: int | None = None
    ) -> AsyncGenerator[StreamMarker | Sequence[Event]]:
        """Yield a STARTED marker, then batches of the events that match, each event once and in order.

        Starts after the position `after`, or else at the time `since` (µs since 1970), or else now. A RESET marker
        follows if older events are no longer kept or were lost. A KEEP_ALIVE marker comes every
        `KEEP_ALIVE_INTERVAL` seconds without events. Ends with a LAGGED marker, or when the process shuts down.

        Call it inside a `subscribed` block. Raises `InvalidValue`, and `StoreUnavailable` before the first item. Later
        failures of Redis are waited out.
        """
        validation.validate_filter(filters)
        newest, gaps = await self._reader.position(), self._gaps
        position, is_complete = await self._start(newest, after, since)
        yield StreamMarker(MarkerKind.STARTED, position)
        if not is_complete:
            yield StreamMarker(MarkerKind.RESET, position)
        last_sent, is_live = time.monotonic(), False
        while not self._shutdown.has_begun:
            new_events = self._new_events
            if gaps != self._gaps:
                gaps, position = self._gaps, self._oldest_position
                yield StreamMarker(MarkerKind.RESET, position)
            is_live = is_live or self._is_in_memory(position)
            batch = await self._next_batch(position, is_live)
            if batch is None:
                yield StreamMarker(MarkerKind.LAGGED, position)
                return
            matching = [event for event in batch.events if event.matches(filters)]
            is_idle, position = is_live and batch.end == position, batch.end
            if matching:
                yield matching
            elif time.monotonic() - last_sent >= KEEP_ALIVE_INTERVAL or (
                is_idle and not await _wait_for_events(new_events)
            ):
                yield StreamMarker(MarkerKind.KEEP_ALIVE, position)
            else:
                continue
            last_sent = time.monotonic()
            await asyncio.sleep(0)  # a client that reads fast must not keep other tasks from running

    def on_events(self, events: Sequence[Event | ControlEvent]) -> None:
        """Add events to the buffer, and drop the oldest ones beyond `BUFFER_SIZE`."""
        new = [event for event in events if isinstance(event, Event)]
        self._events += new
        self._positions += [_parse_id(event.position) for event in new]
        if (excess := len(self._events) - BUFFER_SIZE) > 0:
            self._oldest_position = self._events[excess - 1].position
            del self._events[:excess], self._positions[:excess]
        self._wake()

    def on_gap(self, position: str) -> None:
        """Clear the buffer and continue after `position`; every stream gets a RESET marker."""
        self._events, self._positions = [], []
        self._oldest_position = position
        self._gaps += 1
        self._wake()

    @contextlib.contextmanager
    def subscribed(self) -> Iterator[None]:
        """Receive events inside the `with` block, which every `follow` needs around it."""
        if not self._subscribers:
            self._reader.add(self)
        self._subscribers += 1
        try:
            yield
        finally:
            self._subscribers -= 1
            if not self._subscribers:
                self._reader.remove(self)
                self._events, self._positions = [], []

    async def _start(self, newest: str, after: str | None, since: int | None) -> tuple[str, bool]:
        """Return the position to start after, and whether all events after it are kept."""
        if after is not None:
            is_kept = after == newest or await self._is_kept(after)
            return after if is_kept else newest, is_kept
        if since is not None:
            position = await self._position_before(since)
            return position, await self._is_kept(position)
        return newest, True

    async def _next_batch(self, position: str, is_live: bool) -> EventBatch | None:
        """Return the events after `position`, from memory or Redis.

        Returns `None` for a stream that has reached the buffer before (`is_live`) and has now fallen behind it.
        """
        if self._is_in_memory(position):
            first = bisect_right(self._positions, _parse_id(position))
            events = self._events[first : first + BATCH]
            return EventBatch(events, events[-1].position if events else position)
        if is_live:
            return None
        try:
            return await self._read_history(position)
        except JobStateError:
            await asyncio.sleep(RETRY_DELAY)
            return EventBatch([], position)

    def _is_in_memory(self, position: str) -> bool:
        """Return whether all events after `position` are in memory."""
        return _parse_id(position) >= _parse_id(self._oldest_position)

    async def _position_before(self, since: int) -> str:
        """Return the position of the last event before a time (µs), or `START`."""
        before = f"({max(1, since // 1000)}-0"
        [entries] = await self._client.read(["XREVRANGE", keys.EVENTS, before, "-", "COUNT", "1"])
        return entries[0][0].decode() if entries else START

    async def _is_kept(self, position: str) -> bool:
        """Return whether all events after `position` are in Redis."""
        if not constraints.STREAM_ID.is_valid(position):
            return False
        entry_at = ["XRANGE", keys.EVENTS, position, position]
        entries, length = await self._client.read(entry_at, ["XLEN", keys.EVENTS])
        return bool(entries) or (position == START and length < EVENTS_KEPT)

    async def _read_history(self, position: str) -> EventBatch:
        """Return the events after `position` from Redis. Without any, the batch ends where the buffer starts."""
        command = ["XRANGE", keys.EVENTS, f"({position}", "+", "COUNT", str(BATCH)]
        [entries] = await self._client.read(command)
        events = [event for event in decode_entries(entries) if isinstance(event, Event)]
        return EventBatch(events, entries[-1][0].decode() if entries else self._oldest_position)

    def _wake(self) -> None:
        self._new_events.set()
        self._new_events = asyncio.Event()


async def _wait_for_events(new_events: asyncio.Event) -> bool:
    """Return whether events have arrived, at the latest after `KEEP_ALIVE_INTERVAL`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KEEP_ALIVE_INTERVAL):
            await new_events.wait()
    return new_events.is_set()


def _parse_id(position: str) -> tuple[int, int]:
    millis, _, sequence = position.partition("-")
    return int(millis), int(sequence)
