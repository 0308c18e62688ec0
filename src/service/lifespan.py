"""What lives as long as the process serves: the connection to Redis, the sweep, the reaper of leases."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Final

import structlog
from litestar import Litestar
from redis.asyncio import Redis

from service.api.correlation import new_correlation_id
from service.domain import constraints
from service.domain.errors import DataVersionUnsupported, JobStateError, StoreUnavailable
from service.observability.metrics import Metrics
from service.observability.tracing import instrument_store
from service.settings import Settings
from service.store.auto_pipeline import pipeline_of
from service.store.events.claim_waiter import ClaimWaiter
from service.store.events.job_watcher import JobWatcher
from service.store.events.reader import EventReader
from service.store.events.stream import EventStream
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.pool import create_pool
from service.store.rate_limiter import RateLimiter

#: How often expired jobs are taken out of the indexes, and how soon a store that was away is tried again.
SWEEP_INTERVAL: Final = timedelta(seconds=5)
RECONNECT_INTERVAL: Final = timedelta(seconds=1)

#: How long Redis must have been there before jobs are taken from workers: nobody could hear them before.
REAP_GRACE_PERIOD: Final = timedelta(seconds=10)
MIN_REAP_INTERVAL: Final = timedelta(seconds=0.1)
#: By how much a look at Redis may be late. Where it is later, something stood still meanwhile: Redis, the line to it,
#: this process, or the machine.
MAX_CLOCK_GAP: Final = timedelta(seconds=1)

#: What the log says when Redis comes and goes.
CONNECTED: Final = "Redis connected, JobStateManager initialized"
REDIS_UNAVAILABLE: Final = "Redis is away; answering 503 until it is back"
DATA_VERSION_UNSUPPORTED: Final = (
    "the data in Redis is newer than this service; answering 503 until a newer one is started"
)
SWEEP_FAILED: Final = "sweep failed"
REAPER_FAILED: Final = "reaper failed"
#: Redis works, and does not say whether it keeps what it acknowledges.
UNCHECKED: Final = "durability not checked"

_log = structlog.get_logger(__name__)


def service_lifespan(
    redis_url: str, settings: Settings, metrics: Metrics
) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    """Return a lifespan that puts what works on Redis on the app's state, under the names that `app` provides it by.

    The service starts and serves also while Redis is away; requests that need it are answered 503 until it is back.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        pool = create_pool(redis_url, max_connections=settings.redis_max_connections)
        metrics.set_pool_size(settings.redis_max_connections)
        observer = instrument_store(metrics)
        app.state.redis_pool = pool
        app.state.redis_client = Redis(connection_pool=pool)
        app.state.job_manager = JobStateManager(
            pool, ttl=settings.ttl, observer=observer, waitaof=settings.redis_waitaof
        )
        app.state.lease_manager = LeaseManager(
            pool, ttl=settings.ttl, observer=observer, waitaof=settings.redis_waitaof
        )
        feed = EventReader(pool)
        app.state.claim_waiter = ClaimWaiter(feed)
        app.state.job_watcher = JobWatcher(pool, feed, observer=observer)
        app.state.event_stream = EventStream(pool, feed, observer=observer)
        limit = settings.rate_limit
        app.state.rate_limiter = None if limit is None else RateLimiter(pool, limit, observer=observer)
        stopping = asyncio.Event()
        tasks = [
            asyncio.create_task(_sweep_loop(app.state.job_manager, stopping), name="upkeep"),
            asyncio.create_task(_reap_loop(app.state.lease_manager, stopping), name="reaper"),
        ]
        try:
            yield
        finally:
            stopping.set()  # for a cancellation that is lost on the way
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, feed.aclose(), return_exceptions=True)
            _log.info("Shutting down Redis connection")
            await pipeline_of(pool).aclose()
            for close in (app.state.redis_client.aclose, pool.disconnect):
                with contextlib.suppress(Exception):  # a connection that cannot be closed must not fail the shutdown
                    await close()

    return lifespan


async def _sweep_loop(manager: JobStateManager, stopping: asyncio.Event) -> None:
    """Say when Redis comes and goes, and sweep while it is there."""
    said: str | None = None
    while not stopping.is_set():
        structlog.contextvars.bind_contextvars(correlation_id=new_correlation_id())
        try:
            swept = await manager.sweep()
        except Exception as error:
            said = _log_failure(error, said)
        else:
            if said != CONNECTED:
                _log.info(CONNECTED)
                await _on_connected(manager)
            said = CONNECTED
            if swept:
                _log.debug("expired jobs swept", jobs=swept)
        await _sleep_or_stop((SWEEP_INTERVAL if said == CONNECTED else RECONNECT_INTERVAL).total_seconds(), stopping)


def _log_failure(error: Exception, last: str | None) -> str:
    """Log that the sweep failed and return the event; nothing is logged where `last` was the same."""
    match error:
        case DataVersionUnsupported():
            event, tell = DATA_VERSION_UNSUPPORTED, _log.error
        case JobStateError():
            event, tell = REDIS_UNAVAILABLE, _log.warning
        case _:
            event, tell = SWEEP_FAILED, _log.error
    if event != last:
        tell(event, detail=str(error), exc_info=error if event == SWEEP_FAILED else None)
    return event


async def _reap_loop(leases: LeaseManager, stopping: asyncio.Event) -> None:
    """Take jobs from workers that have fallen silent, as soon as their leases run out.

    Only while workers could be heard: the clock is that of Redis, which goes on while the machine sleeps.
    """
    every: float = constraints.LEASE_SECONDS.minimum  # no lease that is given meanwhile runs out before
    there_since = looked = -math.inf
    has_failed = False
    while not stopping.is_set():
        structlog.contextvars.bind_contextvars(correlation_id=new_correlation_id())
        pause = every
        try:
            now = await leases.get_time()
            if not 0 <= now - looked <= every + MAX_CLOCK_GAP.total_seconds():
                there_since = now
            looked = now
            pause = min(pause, there_since + REAP_GRACE_PERIOD.total_seconds() - now)
            if pause <= 0:
                pause = await _reap_batch(leases, every)
                has_failed = False
        except StoreUnavailable:  # the upkeep says so
            looked, pause = -math.inf, RECONNECT_INTERVAL.total_seconds()
        except Exception:
            if not has_failed:
                _log.exception(REAPER_FAILED)
            has_failed = True
        await _sleep_or_stop(max(pause, MIN_REAP_INTERVAL.total_seconds()), stopping)


async def _reap_batch(leases: LeaseManager, at_most: float) -> float:
    """Take jobs from workers, and return in how many seconds to look again."""
    reaped, following = await leases.reap()
    for job in reaped:
        _log.warning("a lease has run out", job_id=job.job_id, status=job.status)
    return at_most if following is None else min(at_most, following)


async def _sleep_or_stop(seconds: float, stopping: asyncio.Event) -> None:
    """Wait, but not longer than the process lives."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()


async def _on_connected(manager: JobStateManager) -> None:
    """Mark the data with its version, and log what puts jobs at risk, or that Redis does not let the service see it."""
    with contextlib.suppress(JobStateError):
        await manager.write_version()
    try:
        health = await manager.get_store_health()
    except JobStateError as error:
        _log.warning(UNCHECKED, detail=str(error))
        return
    for concern in health.warnings:
        _log.warning("acknowledged jobs are at risk", concern=concern)
