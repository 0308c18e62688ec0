"""Start and shutdown of everything that uses Redis while the process serves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import structlog
from litestar import Litestar
from redis.asyncio import Redis

from service.background.reaper import Reaper
from service.background.repeat import repeat
from service.background.sweeper import Sweeper
from service.observability.metrics import Metrics
from service.observability.tracing import instrument_store
from service.settings import Settings
from service.store.auto_pipeline import pipeline_of
from service.store.client import StoreClient
from service.store.events.claim_waiter import ClaimWaiter
from service.store.events.hub import EventHub
from service.store.events.job_watcher import JobWatcher
from service.store.events.stream import EventStream
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.pool import create_pool
from service.store.queues import QueueManager
from service.store.rate_limiter import RateLimiter

_log = structlog.get_logger(__name__)


def service_lifespan(
    redis_url: str, settings: Settings, metrics: Metrics
) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    """Return a lifespan that puts the objects that use Redis on `app.state`, and runs the background tasks.

    The service also starts while Redis is unavailable, and answers requests that need Redis with 503 until it recovers.
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
        app.state.queue_manager = QueueManager(pool, observer=observer, waitaof=settings.redis_waitaof)
        client, shutdown = StoreClient(pool, observer), app.state.shutdown
        hub = EventHub(client, shutdown)
        app.state.claim_waiter = ClaimWaiter(hub, shutdown)
        app.state.job_watcher = JobWatcher(client, hub, shutdown)
        app.state.event_stream = EventStream(client, hub, shutdown)
        limit = settings.rate_limit
        app.state.rate_limiter = None if limit is None else RateLimiter(pool, limit, observer=observer)
        stopping = asyncio.Event()
        tasks = [
            asyncio.create_task(repeat(Sweeper(app.state.job_manager).run_once, stopping), name="sweeper"),
            asyncio.create_task(repeat(Reaper(app.state.lease_manager).run_once, stopping), name="reaper"),
        ]
        try:
            yield
        finally:
            stopping.set()  # ends a task that swallowed its cancellation
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, hub.aclose(), return_exceptions=True)
            _log.info("Shutting down Redis connection")
            await pipeline_of(pool).aclose()
            for close in (app.state.redis_client.aclose, pool.disconnect):
                with contextlib.suppress(Exception):  # a failed close must not fail the shutdown
                    await close()

    return lifespan
