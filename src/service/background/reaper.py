"""The end of expired leases, and of the delays and time-outs of jobs."""

import math
from collections.abc import Awaitable
from datetime import timedelta
from typing import Final, TypeVar

import structlog

from service.background.sweeper import RECONNECT_INTERVAL
from service.domain import constraints
from service.domain.errors import StoreUnavailable
from service.store.delays import DelaysEnded
from service.store.leases import LeaseManager, ReapedJob
from service.store.partition import Partition

T = TypeVar("T")

#: How long Redis must have been available before leases are reaped: workers could not extend them before.
REAP_GRACE_PERIOD: Final = timedelta(seconds=10)
MIN_INTERVAL: Final = timedelta(seconds=0.1)
#: A new delay that ends before the next run is ended this much late at most.
MAX_INTERVAL: Final = timedelta(seconds=1)
#: No lease that is granted after a look at the leases expires before the next one.
MAX_REAP_INTERVAL: Final = timedelta(seconds=constraints.LEASE_SECONDS.minimum)
#: A longer time between two runs means that Redis, the connection, the process or the machine was suspended.
MAX_CLOCK_GAP: Final = MAX_REAP_INTERVAL + timedelta(seconds=1)

#: Log events. Each is logged again only after a success.
REAP_FAILED: Final = "reap failed"
END_DELAYS_FAILED: Final = "end of delays failed"
TIME_OUT_FAILED: Final = "time-out failed"

#: By the reason.
_LOG_EVENTS: Final = {
    "lease-expired": "lease expired",
    "run-timeout": "run timed out",
    "start-timeout": "start timed out",
}

_log = structlog.get_logger(__name__)


class Reaper:
    """Requeues or fails jobs whose leases or time-outs are over, and makes delayed jobs due, in one or all partitions.

    Times are those of Redis, whose clock continues while the machine is suspended. So the reaper first waits until
    workers had `REAP_GRACE_PERIOD` to send heartbeats and results. Delays are ended at once: nobody can extend them.
    """

    def __init__(self, leases: LeaseManager, partition: Partition | None = None) -> None:
        self._leases = leases
        self._partition = partition
        #: Times of Redis, in seconds since 1970. Leases are reaped from `_next_reap` on, time-outs from `_grace_end`.
        self._last_run = self._next_reap = self._grace_end = -math.inf
        #: The log events of what fails at present.
        self._failures: set[str] = set()

    async def run_once(self) -> float:
        """End what is over, and return the seconds until the next run.

        A run is one call of Redis, and one more each when a lease may have expired, and when a time-out is over.
        """
        try:
            return max(await self._run(), MIN_INTERVAL.total_seconds())
        except StoreUnavailable:  # the sweeper logs it
            self._last_run = -math.inf
            return RECONNECT_INTERVAL.total_seconds()

    async def _run(self) -> float:
        ended = await self._attempt(END_DELAYS_FAILED, self._leases.end_delays(self._partition))
        # Where the delays cannot be read, nothing is known of the time-outs.
        ended = ended or DelaysEnded(await self._leases.get_time(self._partition), None, 0)
        now = ended.now
        if not 0 <= now - self._last_run <= MAX_CLOCK_GAP.total_seconds():
            self._grace_end = self._next_reap = now + REAP_GRACE_PERIOD.total_seconds()
        self._last_run = now
        # Time-outs first: a worker that has stopped at one sends no heartbeat any more.
        pauses = [await self._time_out(now, ended.next_timeout), await self._reap(now)]
        return min(*pauses, _at_most(MAX_INTERVAL, ended.next_delay))

    async def _time_out(self, now: float, next_timeout: float | None) -> float:
        """End what has timed out, and return the seconds until there may be more."""
        due = max(now + (math.inf if next_timeout is None else next_timeout), self._grace_end)
        if now < due:
            return due - now
        following = await self._attempt(TIME_OUT_FAILED, self._logged(self._leases.time_out(self._partition)))
        return _at_most(MAX_INTERVAL, following)

    async def _reap(self, now: float) -> float:
        """End the leases that have expired, and return the seconds until there may be more."""
        if now >= self._next_reap:
            next_expiry = await self._attempt(REAP_FAILED, self._logged(self._leases.reap(self._partition)))
            self._next_reap = now + _at_most(MAX_REAP_INTERVAL, next_expiry)
        return self._next_reap - now

    async def _logged(self, call: Awaitable[tuple[list[ReapedJob], float | None]]) -> float | None:
        reaped, following = await call
        for job in reaped:
            _log.warning(_LOG_EVENTS[job.reason], job_id=job.job_id, status=job.status)
        return following

    async def _attempt(self, failure: str, call: Awaitable[T]) -> T | None:
        """Return the result of `call`, or `None` after an error, which is logged as `failure`.

        Raises `StoreUnavailable`.
        """
        try:
            result = await call
        except StoreUnavailable:
            raise
        except Exception:
            if failure not in self._failures:
                _log.exception(failure)
            self._failures.add(failure)
            return None
        self._failures.discard(failure)
        return result


def _at_most(maximum: timedelta, seconds: float | None) -> float:
    return min(maximum.total_seconds(), math.inf if seconds is None else seconds)
