"""Claims that wait for a job without polling Redis: events wake them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from service.domain.errors import Draining
from service.domain.events import ControlEvent, Event, EventKind
from service.domain.jobs import Claim
from service.domain.shutdown import Shutdown
from service.domain.states import Status
from service.store.deadlines import new_budget
from service.store.events.reader import RETRY_DELAY, EventReader

#: Seconds after which a client may claim again, from another process, when this one shuts down.
RETRY_AFTER: Final = 1


class PendingClaim:
    """One waiting claim. It wakes up when there may be a job for it, or when its client has disconnected."""

    def __init__(self, queues: Sequence[str]) -> None:
        """Wait for jobs of `queues`."""
        self.queues = frozenset(queues)
        self.wakeup = asyncio.Event()
        self.is_disconnected = False

    def disconnect(self) -> None:
        """End the wait, because the client has disconnected."""
        self.is_disconnected = True
        self.wakeup.set()


class ClaimWaiter:
    """Holds the claims of this process until a job is available.

    An event that may make a job available in one queue wakes one claim. An event without a queue wakes all. A claim
    that succeeds or is cancelled wakes the next. So no event is lost, and a thousand idle workers do not all query
    Redis for one job.
    """

    def __init__(self, reader: EventReader, *, shutdown: Shutdown) -> None:
        """Subscribe to `reader` while claims are waiting. Reject all claims once `shutdown` begins."""
        self._reader = reader
        self._pending: list[PendingClaim] = []
        self._check_timer: asyncio.TimerHandle | None = None
        self._shutdown = shutdown
        shutdown.on_begin(self._wake_all)

    async def claim(
        self,
        pending: PendingClaim,
        wait_seconds: int,
        claim: Callable[[], Awaitable[tuple[Claim | None, float | None]]],
    ) -> Claim | None:
        """Return the result of `claim` as soon as it is a job, or `None` after `wait_seconds` or a disconnect.

        `claim` is `LeaseManager.try_claim` with its arguments bound. Raises what `claim` raises, and `Draining` when
        the process shuts down.
        """
        if self._shutdown.has_begun:
            raise Draining(RETRY_AFTER, is_shutdown=True)
        if not wait_seconds:
            result, _ = await claim()
            return result
        self._add(pending)
        try:
            return await self._wait(pending, wait_seconds, claim)
        finally:
            self._remove(pending)
            for queue in pending.queues:
                self._wake_next(queue)

    async def _wait(
        self, pending: PendingClaim, seconds: int, claim: Callable[[], Awaitable[tuple[Claim | None, float | None]]]
    ) -> Claim | None:
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            pending.wakeup.clear()
            if self._shutdown.has_begun:
                raise Draining(RETRY_AFTER, is_shutdown=True)
            if pending.is_disconnected:
                return None
            new_budget()  # each attempt gets a new deadline
            result, next_due = await claim()
            if result is not None:
                return result
            self._schedule_check(next_due)
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await pending.wakeup.wait()

    def on_events(self, events: Sequence[Event | ControlEvent]) -> None:
        """Wake one claim for each event after which a queue may have a claimable job."""
        for event in events:
            if event.queue is None:
                self._wake_all()
            elif not (isinstance(event, Event) and event.kind is EventKind.CHANGED and event.status is Status.RUNNING):
                self._wake_next(event.queue)

    def on_gap(self, position: str) -> None:
        """Wake all claims, because events were missed."""
        self._wake_all()

    def _add(self, pending: PendingClaim) -> None:
        self._pending.append(pending)
        if len(self._pending) == 1:
            self._reader.add(self)

    def _remove(self, pending: PendingClaim) -> None:
        self._pending.remove(pending)
        if not self._pending:
            self._reader.remove(self)
            self._schedule_check(None)

    def _schedule_check(self, seconds: float | None) -> None:
        """Wake the first claim in `seconds`, when a delayed job is due: a claim moves due jobs to their queues."""
        if self._check_timer is not None:
            self._check_timer.cancel()
        self._check_timer = (
            None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._wake_first)
        )

    def _wake_first(self) -> None:
        for pending in self._pending[:1]:
            pending.wakeup.set()
            self._schedule_check(RETRY_DELAY)  # in case that claim fails; otherwise it schedules the next check itself

    def _wake_next(self, queue: str) -> None:
        """Wake the first claim that waits for `queue` and is not awake yet."""
        for pending in self._pending:
            if queue in pending.queues and not pending.wakeup.is_set():
                pending.wakeup.set()
                return

    def _wake_all(self) -> None:
        for pending in self._pending:
            pending.wakeup.set()
