"""Removal of expired jobs from the indexes in Redis."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from service.domain.errors import DataVersionUnsupported, JobStateError, PartitionsMismatch, StoreLoading
from service.store.jobs import JobStateManager
from service.store.queues import QueueManager

SWEEP_INTERVAL: Final = timedelta(seconds=5)
RECONNECT_INTERVAL: Final = timedelta(seconds=1)
#: How long after the start the first sweep may keep the service from being ready.
MAX_FIRST_SWEEP: Final = timedelta(seconds=10)
#: How long one readiness check waits for the first sweep, which nearly always takes milliseconds.
FIRST_SWEEP_WAIT: Final = timedelta(seconds=0.3)

#: Log events. The sweeper logs an event only when it differs from that of the last run.
CONNECTED: Final = "Redis connected, JobStateManager initialized"
REDIS_UNAVAILABLE: Final = "redis unavailable"
REDIS_PARTLY_UNAVAILABLE: Final = "redis partly unavailable"
DATA_VERSION_UNSUPPORTED: Final = "redis data version unsupported"
PARTITIONS_MISMATCH: Final = "redis partitions mismatch"
SWEEP_FAILED: Final = "sweep failed"
DURABILITY_NOT_CHECKED: Final = "redis durability not checked"

_log = structlog.get_logger(__name__)


class Sweeper:
    """Sweeps expired jobs, copies the settings of queues to all partitions, and logs whether Redis is available."""

    def __init__(self, jobs: JobStateManager, queues: QueueManager) -> None:
        self._jobs = jobs
        self._queues = queues
        self._last_event: str | None = None
        self._first_sweep = asyncio.Event()
        self._started_at = time.monotonic()

    async def run_once(self) -> float:
        """Sweep once and return the seconds until the next sweep."""
        try:
            swept = await self._jobs.sweep_reachable()
            self._first_sweep.set()
            await self._queues.copy_settings()
        except Exception as error:
            self._log_failure(error)
            return RECONNECT_INTERVAL.total_seconds()
        if swept.failure is not None:
            self._log_once(REDIS_PARTLY_UNAVAILABLE, _log.warning, swept.failure)
        elif self._last_event != CONNECTED:
            _log.info(CONNECTED)
            await self._on_connected()
            self._last_event = CONNECTED
        if swept.jobs:
            _log.debug("expired jobs swept", jobs=swept.jobs)
        return SWEEP_INTERVAL.total_seconds()

    async def require_first_sweep(self) -> None:
        """Return if the first sweep has ended or the start was `MAX_FIRST_SWEEP` ago, else raise `StoreLoading`.

        Until then counts may be refused: they subtract only a few jobs that have expired and were not swept.
        """
        left = self._started_at + MAX_FIRST_SWEEP.total_seconds() - time.monotonic()
        if left <= 0:
            return
        try:
            async with asyncio.timeout(min(left, FIRST_SWEEP_WAIT.total_seconds())):
                await self._first_sweep.wait()
        except TimeoutError as error:
            raise StoreLoading("The service still removes jobs that expired before its start. Retry later.") from error

    def _log_failure(self, error: Exception) -> None:
        match error:
            case DataVersionUnsupported():
                event, log = DATA_VERSION_UNSUPPORTED, _log.error
            case PartitionsMismatch():
                event, log = PARTITIONS_MISMATCH, _log.error
            case JobStateError():
                event, log = REDIS_UNAVAILABLE, _log.warning
            case _:
                event, log = SWEEP_FAILED, _log.error
        self._log_once(event, log, error)

    def _log_once(self, event: str, log: Callable[..., None], error: Exception) -> None:
        if event != self._last_event:
            log(event, detail=str(error), exc_info=error if event == SWEEP_FAILED else None)
        self._last_event = event

    async def _on_connected(self) -> None:
        """Write the data version where it is missing, and log what puts jobs at risk in Redis."""
        with contextlib.suppress(JobStateError):  # the next recovery writes it
            await self._jobs.write_version()
        try:
            nodes = await self._jobs.get_store_health()
        except JobStateError as error:
            _log.warning(DURABILITY_NOT_CHECKED, detail=str(error))
            return
        for health in nodes:
            node = {"node": health.node} if health.node else {}
            for warning in health.warnings:
                _log.warning("redis durability warning", warning=warning, **node)
