"""Requests that wait for something to happen: how many may, for how long, and for whom no longer."""

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final, TypeVar

from litestar import Request
from litestar.types import HTTPScope, Scope

from service.api.client_identity import client_of
from service.domain import constraints, errors

T = TypeVar("T")

#: Where a request's state keeps its seat, and the moment (s, as `time.perf_counter`) from which it waits.
SEAT: Final = "seat"
WAITS_SINCE: Final = "waits_since"
#: Where it says that the client has sent another request behind it on the same connection, which then cannot tell that
#: the client has left.
FOLLOWED: Final = "followed"
#: One preference of a `Prefer` header (RFC 7240, section 2): a comma within quotes does not end it.
_PREFERENCE: Final = re.compile(r'(?:"(?:[^"\\]|\\.?)*"?|[^",])+')
#: The value of the preference `wait` (RFC 7240, section 4.3).
_SECONDS: Final = re.compile(r'("?)([0-9]+)\1')


class Room:
    """How many requests of one process are answered, and how many wait, in all and for each client."""

    def __init__(
        self,
        most_answered: int,
        most_waiting: int,
        most_watching: int,
        observe: Callable[[int], None] = lambda change: None,
    ) -> None:
        """Let so many be answered at one time, so many wait besides, and so many watch for one client.

        Tell `observe` how many more wait.
        """
        self.observe = observe
        self.most_answered = most_answered
        self.most_waiting = most_waiting
        self.most_watching = most_watching
        self.answered = 0
        self.waiting = 0
        self.watching: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Say whether there is no seat for another request."""
        return self.answered >= self.most_answered


class Seat:
    """The place of one request: among those that are answered, until it waits; left when the request has ended."""

    def __init__(self, room: Room, scope: HTTPScope) -> None:
        """Take a place in `room`, known to `seat_of` until it is left."""
        self._room = room
        self._scope = scope
        scope["state"][SEAT] = self
        self._waits = False
        #: What is left with the seat, where there is anything.
        self._stack: ExitStack | None = None
        room.answered += 1

    def wait(self) -> None:
        """Move to those that wait. Raises `Overloaded`, or `InvalidValue` where another request follows on at once."""
        room = self._room
        if FOLLOWED in self._scope["state"]:
            raise errors.InvalidValue("connection", "another request follows on", "nothing sent behind one that waits")
        if room.waiting >= room.most_waiting:
            raise errors.Overloaded(f"{room.waiting} requests wait for something to happen, the most (MAX_WATCHERS).")
        self._free()
        room.waiting += 1
        room.observe(1)
        self._scope["state"][WAITS_SINCE] = time.perf_counter()
        self._waits = True

    def wait_as_watcher(self) -> None:
        """Move to those that wait, as one of the few of a client. Raises `TooManyWatchers` or `Overloaded`."""
        watching, client = self._room.watching, client_of(self._scope)
        if watching[client] >= self._room.most_watching:
            raise errors.TooManyWatchers(self._room.most_watching)
        self.wait()
        watching[client] += 1

        def stop_watching() -> None:
            watching[client] -= 1
            if not watching[client]:
                del watching[client]

        self._kept.callback(stop_watching)

    def keep(self, context: AbstractContextManager[T]) -> T:
        """Enter a context that is left when the request has ended."""
        return self._kept.enter_context(context)

    def leave(self) -> None:
        """Give the place free."""
        del self._scope["state"][SEAT]  # or both would wait for the garbage collector, with all that the request holds
        self._free()
        if self._stack is not None:
            self._stack.close()

    @property
    def _kept(self) -> ExitStack:
        if self._stack is None:
            self._stack = ExitStack()
        return self._stack

    def _free(self) -> None:
        if self._waits:
            self._room.waiting -= 1
            self._room.observe(-1)
        else:
            self._room.answered -= 1


def seat_of(scope: Scope) -> Seat:
    """Return the seat of a request."""
    seat: Seat = scope["state"][SEAT]
    return seat


@contextlib.asynccontextmanager
async def until_left(request: Request[Any, Any, Any], leave: Callable[[], None]) -> AsyncIterator[None]:
    """Call `leave` when the client of `request` leaves within the block."""

    async def listen() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        leave()

    listening = asyncio.create_task(listen())
    try:
        yield
    finally:
        listening.cancel()


def preferred_wait(prefer: str | None) -> int | None:
    """Return for how many seconds a `Prefer` header would have an answer waited for, as far as is allowed here.

    Of several preferences `wait` the first counts, also where it is not valid.
    """
    for preference in _PREFERENCE.findall(prefer or ""):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            found = _SECONDS.fullmatch(value.strip())
            return None if found is None else min(int(found[2].lstrip("0")[:9] or 0), constraints.WAIT_SECONDS.most)
    return None
