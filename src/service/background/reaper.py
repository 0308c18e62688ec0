"""The end of expired leases."""

import math
from datetime import timedelta
from typing import Final

import structlog

from service.background.sweeper import RECONNECT_INTERVAL
from service.domain import constraints
from service.domain.errors import StoreUnavailable
from service.store.leases import LeaseManager

#: How long Redis must have been available before leases are reaped: workers could not extend them before.
REAP_GRACE_PERIOD: Final = timedelta(seconds=10)
MIN_REAP_INTERVAL: Final = timedelta(seconds=0.1)
#: No lease that is granted after a check expires before the next one.
MAX_REAP_INTERVAL: Final = timedelta(seconds=constraints.LEASE_SECONDS.minimum)
#: A longer time between two checks means that Redis, the connection, the process or the machine was suspended.
MAX_CLOCK_GAP: Final = MAX_REAP_INTERVAL + timedelta(seconds=1)

REAP_FAILED: Final = "reap failed"

_log = structlog.get_logger(__name__)


class Reaper:
    """Requeues or fails jobs as soon as their leases expire.

    Times are those of Redis, whose clock continues while the machine is suspended. So the reaper first waits until
    workers had `REAP_GRACE_PERIOD` to send heartbeats.
    """

    def __init__(self, leases: LeaseManager) -> None:
        self._leases = leases
        self._available_since = self._last_check = -math.inf
        self._has_failed = False

    async def run_once(self) -> float:
        """Reap once, if Redis was available long enough, and return the seconds until the next run."""
        delay = MAX_REAP_INTERVAL.total_seconds()
        try:
            now = await self._leases.get_time()
            if not 0 <= now - self._last_check <= MAX_CLOCK_GAP.total_seconds():
                self._available_since = now
            self._last_check = now
            delay = min(delay, self._available_since + REAP_GRACE_PERIOD.total_seconds() - now)
            if delay <= 0:
                delay = await self._reap()
                self._has_failed = False
        except StoreUnavailable:  # the sweeper logs it
            self._last_check, delay = -math.inf, RECONNECT_INTERVAL.total_seconds()
        except Exception:
            if not self._has_failed:
                _log.exception(REAP_FAILED)
            self._has_failed = True
        return max(delay, MIN_REAP_INTERVAL.total_seconds())

    async def _reap(self) -> float:
        reaped, next_expiry = await self._leases.reap()
        for job in reaped:
            _log.warning("lease expired", job_id=job.job_id, status=job.status)
        max_delay = MAX_REAP_INTERVAL.total_seconds()
        return max_delay if next_expiry is None else min(max_delay, next_expiry)
