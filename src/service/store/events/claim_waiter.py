"""Claims that wait for a job without polling Redis: events wake them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import Final

from service.domain.errors import Draining
from service.domain.jobs import Claim
from service.domain.shutdown import Shutdown
from service.store.deadlines import new_budget
from service.store.events.hub import EventHub, Subscription
from service.store.events.queue_watch import QueueWatch
from service.store.events.reader import RETRY_DELAY
from service.store.look import Looker

#: Seconds after which a client may claim again, from another process, when this one shuts down.
RETRY_AFTER: Final = 1

#: `LeaseManager.try_claim` with its arguments bound.
TryClaim = Callable[[], Awaitable[tuple[list[Claim], float | None]]]


class PendingClaim(Subscription):
    """One waiting claim. It wakes up when there may be a job for it, or when its client has disconnected."""

    def __init__(self, queues: Sequence[str]) -> None:
        self.queues = frozenset(queues)
        super().__init__(("queue", None), *(("queue", queue) for queue in self.queues))


class ClaimWaiter:
    """Holds the claims of this process until a job is available.

    An event that may make a job available in one queue wakes one claim. An event without a queue wakes all. A claim
    that succeeds or is cancelled wakes the next. So no event is lost, and a thousand idle workers do not all query
    Redis for one job.

    With several partitions a claim is also woken by a look at all of them, one for all the claims that wait.
    """

    def __init__(self, hub: EventHub, shutdown: Shutdown, looker: Looker | None = None) -> None:
        """Subscribe to `hub` while claims are waiting, and reject them after `shutdown`.

        `looker` looks for jobs in several partitions; `None` with one.
        """
        self._hub = hub
        self._shutdown = shutdown
        self._watch = None if looker is None else QueueWatch(looker, hub)
        self._check_timer: asyncio.TimerHandle | None = None

    async def claim(self, pending: PendingClaim, wait_seconds: int, claim: TryClaim) -> list[Claim]:
        """Return the result of `claim` as soon as it has a job, or none after `wait_seconds` or a disconnect.

        Raises what `claim` raises, and `Draining` when the process shuts down.
        """
        self._reject_if_shutting_down()
        if not wait_seconds:
            result, _ = await claim()
            return result
        try:
            with self._hub.subscribe(pending), self._watch.include(pending.queues) if self._watch else nullcontext():
                return await self._wait(pending, wait_seconds, claim)
        finally:
            for queue in pending.queues:
                self._hub.wake_next(("queue", queue))

    async def _wait(self, pending: PendingClaim, seconds: int, claim: TryClaim) -> list[Claim]:
        deadline = asyncio.get_running_loop().time() + seconds
        while not pending.is_disconnected:
            self._reject_if_shutting_down()
            new_budget()  # each attempt gets a new deadline
            result, next_due = await claim()
            if result:
                return result
            self._schedule_check(next_due)
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return []
            await pending.wait(left)
        return []

    def _reject_if_shutting_down(self) -> None:
        if self._shutdown.has_begun:
            raise Draining(RETRY_AFTER, is_shutdown=True)

    def _schedule_check(self, seconds: float | None) -> None:
        """Wake a claim in `seconds`, when a delayed job is due: a claim moves due jobs to their queues."""
        if self._check_timer is not None:
            self._check_timer.cancel()
        self._check_timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._check)

    def _check(self) -> None:
        if self._hub.wake_next(("queue", None)):
            self._schedule_check(RETRY_DELAY)  # in case that claim fails; otherwise it schedules the next check itself
