"""Watching all jobs: the newest events of the store, shared by all who follow them."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from enum import StrEnum, auto
from itertools import takewhile
from typing import Final, NamedTuple

from msgspec import Struct
from redis.asyncio import ConnectionPool

from service.domain import content
from service.domain.errors import JobStateError
from service.domain.events import Event, Notice
from service.domain.jobs import JobFilter
from service.store import keys
from service.store.connection import Gateway
from service.store.feed import AGAIN, EVENTS, START, Feed, events_of
from service.store.observer import NoObserver, Observer
from service.store.watching import SIGN_OF_LIFE

#: How many events one who follows may lag behind before it is dropped; the process holds them once for all.
LAG: Final = 2000


class MarkKind(StrEnum):
    """What is said besides events."""

    #: The first that is said.
    HELLO = auto()
    #: What was known before is to be read again: history has a hole.
    RESET = auto()
    #: All that happened up to the position has been told; a sign of life.
    ALIVE = auto()
    #: The follower was too slow, and is told no more.
    SLOW = auto()


class Mark(Struct, frozen=True):
    """A word about where a follower stands in history."""

    kind: MarkKind
    position: str


class _Page(NamedTuple):
    """Some of the history, and how far it reaches."""

    events: list[Event]
    end: str


class Timeline:
    """The last events of all jobs in memory, in order, and the history in Redis behind them."""

    def __init__(self, pool: ConnectionPool, feed: Feed, *, observer: Observer | None = None) -> None:
        """Hear of events from `feed` while anybody follows, and read older ones through `pool`."""
        self._gateway = Gateway(pool, observer or NoObserver())
        self._feed = feed
        self._events: deque[Event] = deque()
        #: Everything after this position is in memory.
        self._floor = START
        #: How many holes there were.
        self._holes = 0
        self._followers = 0
        #: Rings once for all who wait, and is replaced.
        self._bell = asyncio.Event()
        self._closed = False

    async def follow(self, since: str | None, wanted: JobFilter) -> AsyncGenerator[Event | Mark]:
        """Yield a hello, then every event after `since` (`None`: from now on) that matches, each once and in order.

        A position that is not in the history, or no longer, is told by a reset. Ends with the process, or with the word
        that the follower is too slow. To be called while `joined`. Raises `InvalidValue`, or
        `StoreUnavailable` before the hello; later, Redis may come and go.
        """
        content.check_filter(wanted)
        position, holes = await self._feed.position(), self._holes
        is_kept = since is None or await self._older(since) is not None
        if since is not None and is_kept:
            position = since
        yield Mark(MarkKind.HELLO, position)
        if not is_kept:
            yield Mark(MarkKind.RESET, position)
        said_at = time.monotonic()
        async for said in self._everything(position, holes):
            is_wanted = isinstance(said, Mark) or said.matches(wanted)
            if is_wanted or time.monotonic() - said_at >= SIGN_OF_LIFE:
                yield said if is_wanted else Mark(MarkKind.ALIVE, said.position)
                said_at = time.monotonic()

    def close(self) -> None:
        """End all following."""
        self._closed = True
        self._wake()

    def hear(self, events: Sequence[Event | Notice]) -> None:
        """Take in what has happened."""
        self._events += [event for event in events if isinstance(event, Event)]
        while len(self._events) > LAG:
            self._floor = self._events.popleft().position
        self._wake()

    def look_again(self, position: str) -> None:
        """Begin anew after `position`."""
        self._events.clear()
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
                self._events.clear()

    async def _everything(self, position: str, holes: int) -> AsyncGenerator[Event | Mark]:
        async for said in self._past(position):
            yield said
            position = said.position
        async for said in self._present(position, holes):
            yield said

    async def _past(self, position: str) -> AsyncGenerator[Event | Mark]:
        """Yield what comes after `position` out of Redis, until it goes on in memory."""
        while not self._holds(position) and not self._closed:
            try:
                page = await self._older(position)
            except JobStateError:
                await asyncio.sleep(AGAIN)
                yield Mark(MarkKind.ALIVE, position)
                continue
            if page is None:
                yield Mark(MarkKind.RESET, self._floor)
                return
            for event in page.events:
                yield event
            position = self._floor if page.end == position else page.end
            yield Mark(MarkKind.ALIVE, position)

    async def _present(self, position: str, holes: int) -> AsyncGenerator[Event | Mark]:
        """Yield what comes after `position` out of memory; whoever falls out of it is too slow."""
        while not self._closed:
            bell = self._bell
            if holes != self._holes:
                holes, position = self._holes, self._floor
                yield Mark(MarkKind.RESET, position)
            elif not self._holds(position):
                yield Mark(MarkKind.SLOW, position)
                return
            newer = self._newer(position)
            for event in newer:
                yield event
                position = event.position
            if not newer and not await _rings(bell):
                yield Mark(MarkKind.ALIVE, position)

    def _holds(self, position: str) -> bool:
        return _place(position) >= _place(self._floor)

    def _newer(self, position: str) -> list[Event]:
        """Return what is in memory after `position`."""
        after = _place(position)
        newer = list(takewhile(lambda event: _place(event.position) > after, reversed(self._events)))
        return newer[::-1]

    async def _older(self, position: str) -> _Page | None:
        """Return events after `position` out of Redis; `None` if it is not in the history, or no longer."""
        there = ["XRANGE", keys.EVENTS, position, position]
        after = ["XRANGE", keys.EVENTS, f"({position}", "+", "COUNT", str(EVENTS)]
        found, entries = await self._gateway.read(there, after)
        if not found:
            return None
        events = [event for event in events_of(entries) if isinstance(event, Event)]
        return _Page(events, entries[-1][0].decode() if entries else position)

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
