"""Waiting for a job without asking Redis again and again: the events of the store say when to look."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from service.domain.errors import Draining
from service.domain.events import ControlEvent, Event, EventKind
from service.domain.jobs import Claim
from service.domain.states import Status
from service.store.deadlines import TimeBudget, budget
from service.store.events.reader import RETRY_DELAY, EventReader

#: Seconds after which a client may claim again from another process, where this one ends.
RETRY_AFTER: Final = 1


class PendingClaim:
    """One claim that waits; its bell rings when there may be something for it, or its client has left."""

    def __init__(self, queues: Sequence[str]) -> None:
        """Wait for jobs of `queues`."""
        self.queues = frozenset(queues)
        self.wakeup = asyncio.Event()
        self.is_disconnected = False

    def disconnect(self) -> None:
        """Note that nobody is there any more to take the job."""
        self.is_disconnected = True
        self.wakeup.set()


class ClaimWaiter:
    """The claims of this process that wait.

    Each event rings one bell: whoever takes a job, or leaves, rings the next, so that no event is lost on somebody who
    does not need it and a thousand workers do not ask at once for one job.
    """

    def __init__(self, feed: EventReader) -> None:
        """Hear of events from `feed` while any claim waits."""
        self._feed = feed
        self._turns: list[PendingClaim] = []
        self._due: asyncio.TimerHandle | None = None
        self._closed = False

    async def claim(
        self, turn: PendingClaim, wait_seconds: int, claim: Callable[[], Awaitable[tuple[Claim | None, float | None]]]
    ) -> Claim | None:
        """Return what `claim` gives, at once or within `wait_seconds`.

        `claim` is `LeaseManager.try_claim` with its arguments. Raises what it raises, and `Draining` as soon as the
        process ends.
        """
        if self._closed:
            raise Draining(RETRY_AFTER)
        if not wait_seconds:
            found, _ = await claim()
            return found
        self._add(turn)
        try:
            return await self._wait(turn, wait_seconds, claim)
        finally:
            self._remove(turn)
            for queue in turn.queues:
                self._wake_next(queue)

    async def _wait(
        self, turn: PendingClaim, seconds: int, claim: Callable[[], Awaitable[tuple[Claim | None, float | None]]]
    ) -> Claim | None:
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            turn.wakeup.clear()
            if self._closed:
                raise Draining(RETRY_AFTER)
            if turn.is_disconnected:
                return None
            budget.set(TimeBudget())  # each look has the time that a request has
            found, due = await claim()
            if found is not None:
                return found
            self._schedule_check(due)
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await turn.wakeup.wait()

    @property
    def is_closed(self) -> bool:
        """Say whether the process is about to end."""
        return self._closed

    def close(self) -> None:
        """Refuse all claims from now on, those first that wait."""
        self._closed = True
        self._wake_all()

    def on_events(self, events: Sequence[Event | ControlEvent]) -> None:
        """Ring for every job that may be claimed now, and every one fewer that is running."""
        for event in events:
            if event.queue is None:
                self._wake_all()
            elif not (isinstance(event, Event) and event.kind is EventKind.CHANGED and event.status is Status.RUNNING):
                self._wake_next(event.queue)

    def on_gap(self, position: str) -> None:
        """Ring every bell, for what was said while nobody listened."""
        self._wake_all()

    def _add(self, turn: PendingClaim) -> None:
        self._turns.append(turn)
        if len(self._turns) == 1:
            self._feed.add(self)

    def _remove(self, turn: PendingClaim) -> None:
        self._turns.remove(turn)
        if not self._turns:
            self._feed.remove(self)
            self._schedule_check(None)

    def _schedule_check(self, seconds: float | None) -> None:
        """Have one claim look when the next delay is over: it puts such jobs into their queues and tells of them."""
        if self._due is not None:
            self._due.cancel()
        self._due = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._wake_first)

    def _wake_first(self) -> None:
        for turn in self._turns[:1]:
            turn.wakeup.set()
            self._schedule_check(RETRY_DELAY)  # unless that claim looks, and knows when the next is over

    def _wake_next(self, queue: str) -> None:
        """Ring the bell of the first that waits for jobs of `queue` and whose bell is still."""
        for turn in self._turns:
            if queue in turn.queues and not turn.wakeup.is_set():
                turn.wakeup.set()
                return

    def _wake_all(self) -> None:
        for turn in self._turns:
            turn.wakeup.set()
