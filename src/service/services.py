"""Everything that lives as long as the process and uses Redis: opened and closed here."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import structlog
from litestar import Request
from redis.asyncio import ConnectionPool, Redis

from service.background.bulk_runner import BulkRunner
from service.background.reaper import Reaper
from service.background.repeat import running
from service.background.sweeper import Sweeper
from service.domain.api_keys import ApiKey
from service.domain.shutdown import Shutdown
from service.observability.metrics import Metrics
from service.settings import Settings
from service.store.bulk_actions import BulkActions
from service.store.bulk_steps import BulkSteps
from service.store.client import StoreClient
from service.store.deployments import open_deployment
from service.store.events.claim_waiter import ClaimWaiter
from service.store.events.hub import EventHub
from service.store.events.job_watcher import JobWatcher
from service.store.events.stream import EventStream
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.observer import Observer
from service.store.queues import QueueManager
from service.store.rate_limiter import RateLimiter

#: Key in the application's state: its `Services`.
SERVICES: Final = "services"

#: A request; the service uses Litestar's user, auth and state of a request nowhere.
HttpRequest = Request[Any, Any, Any]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What handlers, middleware and the server use."""

    #: Of the first node, if there are several.
    pool: ConnectionPool
    redis: Redis
    jobs: JobStateManager
    leases: LeaseManager
    queues: QueueManager
    bulk_actions: BulkActions
    bulk_runner: BulkRunner
    claim_waiter: ClaimWaiter
    job_watcher: JobWatcher
    event_stream: EventStream
    sweeper: Sweeper
    #: `None` without a limit.
    rate_limiter: RateLimiter | None
    #: Without keys, every request is allowed.
    api_keys: tuple[ApiKey, ...]
    metrics: Metrics
    shutdown: Shutdown


def services_of(request: HttpRequest) -> Services:
    """Return the services of the application that handles `request`.

    Handlers take them from here. Injection by Litestar (2.25) is costly: it resolves dependencies in a task group.
    """
    services: Services = request.app.state[SERVICES]
    return services


@contextlib.asynccontextmanager
async def open_services(
    settings: Settings, redis_url: str, metrics: Metrics, shutdown: Shutdown, observer: Observer
) -> AsyncIterator[Services]:
    """Open the services and run the background tasks inside the `async with` block. `observer` receives Redis calls.

    The service also starts while Redis is unavailable, and answers requests that need Redis with 503 until it recovers.
    """
    deployment = open_deployment(
        redis_url,
        partitions=settings.redis_partitions,
        max_connections=settings.redis_max_connections,
        wait_replicas=settings.redis_wait_replicas,
    )
    pool = deployment.pool
    metrics.set_pool_size(settings.redis_max_connections)
    metrics.set_partitions(settings.redis_partitions)
    client = StoreClient(deployment, observer, waitaof=settings.redis_waitaof)
    limit = settings.rate_limit
    hub, jobs, queues = EventHub(client, shutdown), JobStateManager(client, ttl=settings.ttl), QueueManager(client)
    leases = LeaseManager(client, ttl=settings.ttl)
    services = Services(
        pool=pool,
        redis=Redis(connection_pool=pool),
        jobs=jobs,
        leases=leases,
        queues=queues,
        bulk_actions=BulkActions(client),
        bulk_runner=BulkRunner(BulkSteps(client, ttl=settings.ttl)),
        claim_waiter=ClaimWaiter(hub, shutdown, leases.looker),
        job_watcher=JobWatcher(client, hub, shutdown),
        event_stream=EventStream(client, hub, shutdown),
        sweeper=Sweeper(jobs, queues),
        rate_limiter=None if limit is None else RateLimiter(client, limit),
        api_keys=settings.api_keys,
        metrics=metrics,
        shutdown=shutdown,
    )
    try:
        reapers = [Reaper(leases, partition) for partition in client.partitions]  # one may be away
        tasks = (services.sweeper.run_once, services.bulk_runner.run_once, *(reaper.run_once for reaper in reapers))
        async with running(*tasks):
            yield services
    finally:
        _log.info("Shutting down Redis connection")
        for close in (hub.aclose, client.aclose, services.redis.aclose, pool.disconnect):
            with contextlib.suppress(Exception):  # a failed close must not fail the shutdown
                await close()
