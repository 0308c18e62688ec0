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

from service.api.client_identity import client_id
from service.domain import constraints, errors

T = TypeVar("T")

#: Where a request's state keeps its seat, and the moment (s, as `time.perf_counter`) from which it waits.
SLOT: Final = "seat"
WAITING_SINCE: Final = "waits_since"
#: Where it says that the client has sent another request behind it on the same connection, which then cannot tell that
#: the client has left.
PIPELINED: Final = "followed"
#: One preference of a `Prefer` header (RFC 7240, section 2): a comma within quotes does not end it.
_PREFERENCE: Final = re.compile(r'(?:"(?:[^"\\]|\\.?)*"?|[^",])+')
#: The value of the preference `wait` (RFC 7240, section 4.3).
_SECONDS: Final = re.compile(r'("?)([0-9]+)\1')


class ConcurrencyLimiter:
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
        self.max_active = most_answered
        self.max_waiting = most_waiting
        self.max_watching_per_client = most_watching
        self.active = 0
        self.waiting = 0
        self.watching: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Say whether there is no seat for another request."""
        return self.active >= self.max_active


class RequestSlot:
    """The place of one request: among those that are answered, until it waits; left when the request has ended."""

    def __init__(self, room: ConcurrencyLimiter, scope: HTTPScope) -> None:
        """Take a place in `room`, known to `get_slot` until it is left."""
        self._limiter = room
        self._scope = scope
        scope["state"][SLOT] = self
        self._waits = False
        #: What is left with the seat, where there is anything.
        self._stack: ExitStack | None = None
        room.active += 1

    def start_waiting(self) -> None:
        """Move to those that wait. Raises `Overloaded`, or `InvalidValue` where another request follows on at once."""
        room = self._limiter
        if PIPELINED in self._scope["state"]:
            raise errors.InvalidValue("connection", "another request follows on", "nothing sent behind one that waits")
        if room.waiting >= room.max_waiting:
            raise errors.Overloaded(
                f"{room.waiting} requests wait for something to happen, the most (MAX_WAITING_REQUESTS)."
            )
        self._decrement()
        room.waiting += 1
        room.observe(1)
        self._scope["state"][WAITING_SINCE] = time.perf_counter()
        self._waits = True

    def start_watching(self) -> None:
        """Move to those that wait, as one of the few of a client. Raises `TooManyWatchers` or `Overloaded`."""
        watching, client = self._limiter.watching, client_id(self._scope)
        if watching[client] >= self._limiter.max_watching_per_client:
            raise errors.TooManyWatchers(self._limiter.max_watching_per_client)
        self.start_waiting()
        watching[client] += 1

        def stop_watching() -> None:
            watching[client] -= 1
            if not watching[client]:
                del watching[client]

        self._exit_stack.callback(stop_watching)

    def enter_context(self, context: AbstractContextManager[T]) -> T:
        """Enter a context that is left when the request has ended."""
        return self._exit_stack.enter_context(context)

    def release(self) -> None:
        """Give the place free."""
        del self._scope["state"][SLOT]  # or both would wait for the garbage collector, with all that the request holds
        self._decrement()
        if self._stack is not None:
            self._stack.close()

    @property
    def _exit_stack(self) -> ExitStack:
        if self._stack is None:
            self._stack = ExitStack()
        return self._stack

    def _decrement(self) -> None:
        if self._waits:
            self._limiter.waiting -= 1
            self._limiter.observe(-1)
        else:
            self._limiter.active -= 1


def get_slot(scope: Scope) -> RequestSlot:
    """Return the seat of a request."""
    seat: RequestSlot = scope["state"][SLOT]
    return seat


@contextlib.asynccontextmanager
async def on_disconnect(request: Request[Any, Any, Any], leave: Callable[[], None]) -> AsyncIterator[None]:
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


def parse_prefer_wait(prefer: str | None) -> int | None:
    """Return for how many seconds a `Prefer` header would have an answer waited for, as far as is allowed here.

    Of several preferences `wait` the first counts, also where it is not valid.
    """
    for preference in _PREFERENCE.findall(prefer or ""):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            found = _SECONDS.fullmatch(value.strip())
            return None if found is None else min(int(found[2].lstrip("0")[:9] or 0), constraints.WAIT_SECONDS.maximum)
    return None
