"""Watching all jobs: the newest events of the store, shared by all who follow them."""

import asyncio
import contextlib
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator, Iterator, Sequence
from enum import StrEnum, auto
from typing import Final, NamedTuple

from msgspec import Struct
from redis.asyncio import ConnectionPool

from service.domain import constraints, validation
from service.domain.errors import JobStateError
from service.domain.events import ControlEvent, Event
from service.domain.jobs import JobFilter
from service.store import keys
from service.store.client import StoreClient
from service.store.events.job_watcher import KEEP_ALIVE_INTERVAL
from service.store.events.reader import EVENTS_KEPT, RETRY_DELAY, START, EventReader, decode_entries
from service.store.observer import NullObserver, Observer

#: How many events one who follows may lag behind before it is dropped; the process holds them once for all.
BUFFER_SIZE: Final = 2000
#: How many events are handed out, or read of the history, at one time: others have their turn between.
BATCH: Final = 100


class MarkerKind(StrEnum):
    """What is said besides events."""

    #: The first that is said.
    STARTED = auto()
    #: What was known before is to be read again: history has a hole.
    RESET = auto()
    #: A sign of life: all that happened up to the position has been told.
    KEEP_ALIVE = auto()
    #: The follower was too slow, and is told no more.
    LAGGED = auto()


class StreamMarker(Struct, frozen=True):
    """A word about where a follower stands in history."""

    kind: MarkerKind
    position: str


class EventBatch(NamedTuple):
    """Some events, in order, and how far they reach in history."""

    events: Sequence[Event]
    end: str


class EventStream:
    """The last events of all jobs in memory, in order, and the history in Redis behind them."""

    def __init__(self, pool: ConnectionPool, feed: EventReader, *, observer: Observer | None = None) -> None:
        """Hear of events from `feed` while anybody follows, and read older ones through `pool`."""
        self._gateway = StoreClient(pool, observer or NullObserver())
        self._feed = feed
        #: The newest events and, beside them, their places, to be searched.
        self._events: list[Event] = []
        self._positions: list[tuple[int, int]] = []
        #: Everything after this position is in memory.
        self._oldest_position = START
        #: How many holes there were.
        self._gaps = 0
        self._followers = 0
        #: Rings once for all who wait, and is replaced.
        self._new_events = asyncio.Event()
        self._closed = False

    async def follow(
        self, since: str | None, wanted: JobFilter, *, moment: int | None = None
    ) -> AsyncGenerator[StreamMarker | Sequence[Event]]:
        """Yield a hello, then every event after `since` that matches, each once and in order.

        Without a position begin at a `moment` (µs since 1970; `None`: now). A place that is not in the history, or no
        longer, is told by a reset. Ends with the process, or with the word that the follower is too slow. To be called
        while `joined`. Raises `InvalidValue`, or `StoreUnavailable` before the hello; later, Redis may come and go.
        """
        validation.validate_filter(wanted)
        newest, holes = await self._feed.position(), self._gaps
        position, is_kept = await self._start(newest, since, moment)
        yield StreamMarker(MarkerKind.STARTED, position)
        if not is_kept:
            yield StreamMarker(MarkerKind.RESET, position)
        said_at, is_live = time.monotonic(), False
        while not self._closed:
            bell = self._new_events
            if holes != self._gaps:
                holes, position = self._gaps, self._oldest_position
                yield StreamMarker(MarkerKind.RESET, position)
            is_live = is_live or self._holds(position)
            batch = await self._next_batch(position, is_live)
            if batch is None:
                yield StreamMarker(MarkerKind.LAGGED, position)
                return
            matching = [event for event in batch.events if event.matches(wanted)]
            is_idle, position = is_live and batch.end == position, batch.end
            if matching:
                yield matching
            elif time.monotonic() - said_at >= KEEP_ALIVE_INTERVAL or (is_idle and not await _wait_for_events(bell)):
                yield StreamMarker(MarkerKind.KEEP_ALIVE, position)
            else:
                continue
            said_at = time.monotonic()
            await asyncio.sleep(0)  # a socket that takes all in would leave nobody else a turn

    def close(self) -> None:
        """End all following."""
        self._closed = True
        self._wake()

    def on_events(self, events: Sequence[Event | ControlEvent]) -> None:
        """Take in what has happened."""
        new = [event for event in events if isinstance(event, Event)]
        self._events += new
        self._positions += [_parse_id(event.position) for event in new]
        if (excess := len(self._events) - BUFFER_SIZE) > 0:
            self._oldest_position = self._events[excess - 1].position
            del self._events[:excess], self._positions[:excess]
        self._wake()

    def on_gap(self, position: str) -> None:
        """Begin anew after `position`."""
        self._events, self._positions = [], []
        self._oldest_position = position
        self._gaps += 1
        self._wake()

    @contextlib.contextmanager
    def subscribed(self) -> Iterator[None]:
        """Hear of events for the length of the block, around every `follow`."""
        if not self._followers:
            self._feed.add(self)
        self._followers += 1
        try:
            yield
        finally:
            self._followers -= 1
            if not self._followers:
                self._feed.remove(self)
                self._events, self._positions = [], []

    async def _start(self, newest: str, since: str | None, moment: int | None) -> tuple[str, bool]:
        """Return where to begin, and whether everything from there on is in the history."""
        if since is not None:
            is_kept = since == newest or await self._is_kept(since)
            return since if is_kept else newest, is_kept
        if moment is not None:
            position = await self._position_before(moment)
            return position, await self._is_kept(position)
        return newest, True

    async def _next_batch(self, position: str, is_live: bool) -> EventBatch | None:
        """Return events after `position`, out of Redis until they are in memory; `None` to who has fallen out of it."""
        if self._holds(position):
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

    def _holds(self, position: str) -> bool:
        return _parse_id(position) >= _parse_id(self._oldest_position)

    async def _position_before(self, moment: int) -> str:
        """Return the last position before a moment (µs); the start where there is none."""
        before = f"({max(1, moment // 1000)}-0"
        [found] = await self._gateway.read(["XREVRANGE", keys.EVENTS, before, "-", "COUNT", "1"])
        return found[0][0].decode() if found else START

    async def _is_kept(self, position: str) -> bool:
        """Say whether everything after `position` is in Redis."""
        if not constraints.STREAM_ID.is_valid(position):
            return False
        there = ["XRANGE", keys.EVENTS, position, position]
        found, length = await self._gateway.read(there, ["XLEN", keys.EVENTS])
        return bool(found) or (position == START and length < EVENTS_KEPT)

    async def _read_history(self, position: str) -> EventBatch:
        """Return events after `position` out of Redis, up to where memory begins if there are none."""
        after = ["XRANGE", keys.EVENTS, f"({position}", "+", "COUNT", str(BATCH)]
        [entries] = await self._gateway.read(after)
        events = [event for event in decode_entries(entries) if isinstance(event, Event)]
        return EventBatch(events, entries[-1][0].decode() if entries else self._oldest_position)

    def _wake(self) -> None:
        self._new_events.set()
        self._new_events = asyncio.Event()


async def _wait_for_events(bell: asyncio.Event) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KEEP_ALIVE_INTERVAL):
            await bell.wait()
    return bell.is_set()


def _parse_id(position: str) -> tuple[int, int]:
    millis, _, number = position.partition("-")
    return int(millis), int(number)
