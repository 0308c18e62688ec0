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
from service.domain.events import Event, Notice
from service.domain.jobs import JobFilter
from service.store import keys
from service.store.client import Gateway
from service.store.events.job_watcher import SIGN_OF_LIFE
from service.store.events.reader import AGAIN, EVENTS_KEPT, START, Feed, events_of
from service.store.observer import NoObserver, Observer

#: How many events one who follows may lag behind before it is dropped; the process holds them once for all.
LAG: Final = 2000
#: How many events are handed out, or read of the history, at one time: others have their turn between.
BATCH: Final = 100


class MarkKind(StrEnum):
    """What is said besides events."""

    #: The first that is said.
    HELLO = auto()
    #: What was known before is to be read again: history has a hole.
    RESET = auto()
    #: A sign of life: all that happened up to the position has been told.
    ALIVE = auto()
    #: The follower was too slow, and is told no more.
    SLOW = auto()


class Mark(Struct, frozen=True):
    """A word about where a follower stands in history."""

    kind: MarkKind
    position: str


class Batch(NamedTuple):
    """Some events, in order, and how far they reach in history."""

    events: Sequence[Event]
    end: str


class Timeline:
    """The last events of all jobs in memory, in order, and the history in Redis behind them."""

    def __init__(self, pool: ConnectionPool, feed: Feed, *, observer: Observer | None = None) -> None:
        """Hear of events from `feed` while anybody follows, and read older ones through `pool`."""
        self._gateway = Gateway(pool, observer or NoObserver())
        self._feed = feed
        #: The newest events and, beside them, their places, to be searched.
        self._events: list[Event] = []
        self._places: list[tuple[int, int]] = []
        #: Everything after this position is in memory.
        self._floor = START
        #: How many holes there were.
        self._holes = 0
        self._followers = 0
        #: Rings once for all who wait, and is replaced.
        self._bell = asyncio.Event()
        self._closed = False

    async def follow(
        self, since: str | None, wanted: JobFilter, *, moment: int | None = None
    ) -> AsyncGenerator[Mark | Sequence[Event]]:
        """Yield a hello, then every event after `since` that matches, each once and in order.

        Without a position begin at a `moment` (µs since 1970; `None`: now). A place that is not in the history, or no
        longer, is told by a reset. Ends with the process, or with the word that the follower is too slow. To be called
        while `joined`. Raises `InvalidValue`, or `StoreUnavailable` before the hello; later, Redis may come and go.
        """
        validation.check_filter(wanted)
        newest, holes = await self._feed.position(), self._holes
        position, is_kept = await self._start(newest, since, moment)
        yield Mark(MarkKind.HELLO, position)
        if not is_kept:
            yield Mark(MarkKind.RESET, position)
        said_at, is_live = time.monotonic(), False
        while not self._closed:
            bell = self._bell
            if holes != self._holes:
                holes, position = self._holes, self._floor
                yield Mark(MarkKind.RESET, position)
            is_live = is_live or self._holds(position)
            batch = await self._after(position, is_live)
            if batch is None:
                yield Mark(MarkKind.SLOW, position)
                return
            matching = [event for event in batch.events if event.matches(wanted)]
            is_idle, position = is_live and batch.end == position, batch.end
            if matching:
                yield matching
            elif time.monotonic() - said_at >= SIGN_OF_LIFE or (is_idle and not await _rings(bell)):
                yield Mark(MarkKind.ALIVE, position)
            else:
                continue
            said_at = time.monotonic()
            await asyncio.sleep(0)  # a socket that takes all in would leave nobody else a turn

    def close(self) -> None:
        """End all following."""
        self._closed = True
        self._wake()

    def hear(self, events: Sequence[Event | Notice]) -> None:
        """Take in what has happened."""
        new = [event for event in events if isinstance(event, Event)]
        self._events += new
        self._places += [_place(event.position) for event in new]
        if (excess := len(self._events) - LAG) > 0:
            self._floor = self._events[excess - 1].position
            del self._events[:excess], self._places[:excess]
        self._wake()

    def look_again(self, position: str) -> None:
        """Begin anew after `position`."""
        self._events, self._places = [], []
        self._floor = position
        self._holes += 1
        self._wake()

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
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
                self._events, self._places = [], []

    async def _start(self, newest: str, since: str | None, moment: int | None) -> tuple[str, bool]:
        """Return where to begin, and whether everything from there on is in the history."""
        if since is not None:
            is_kept = since == newest or await self._is_kept(since)
            return since if is_kept else newest, is_kept
        if moment is not None:
            position = await self._before(moment)
            return position, await self._is_kept(position)
        return newest, True

    async def _after(self, position: str, is_live: bool) -> Batch | None:
        """Return events after `position`, out of Redis until they are in memory; `None` to who has fallen out of it."""
        if self._holds(position):
            first = bisect_right(self._places, _place(position))
            events = self._events[first : first + BATCH]
            return Batch(events, events[-1].position if events else position)
        if is_live:
            return None
        try:
            return await self._older(position)
        except JobStateError:
            await asyncio.sleep(AGAIN)
            return Batch([], position)

    def _holds(self, position: str) -> bool:
        return _place(position) >= _place(self._floor)

    async def _before(self, moment: int) -> str:
        """Return the last position before a moment (µs); the start where there is none."""
        before = f"({max(1, moment // 1000)}-0"
        [found] = await self._gateway.read(["XREVRANGE", keys.EVENTS, before, "-", "COUNT", "1"])
        return found[0][0].decode() if found else START

    async def _is_kept(self, position: str) -> bool:
        """Say whether everything after `position` is in Redis."""
        if not constraints.POSITION.accepts(position):
            return False
        there = ["XRANGE", keys.EVENTS, position, position]
        found, length = await self._gateway.read(there, ["XLEN", keys.EVENTS])
        return bool(found) or (position == START and length < EVENTS_KEPT)

    async def _older(self, position: str) -> Batch:
        """Return events after `position` out of Redis, up to where memory begins if there are none."""
        after = ["XRANGE", keys.EVENTS, f"({position}", "+", "COUNT", str(BATCH)]
        [entries] = await self._gateway.read(after)
        events = [event for event in events_of(entries) if isinstance(event, Event)]
        return Batch(events, entries[-1][0].decode() if entries else self._floor)

    def _wake(self) -> None:
        self._bell.set()
        self._bell = asyncio.Event()


async def _rings(bell: asyncio.Event) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SIGN_OF_LIFE):
            await bell.wait()
    return bell.is_set()


def _place(position: str) -> tuple[int, int]:
    millis, _, number = position.partition("-")
    return int(millis), int(number)
