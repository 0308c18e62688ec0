"""The composition root: what the application is made of and what is injected where."""

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.types import ASGIApp
from redis.asyncio import ConnectionPool, Redis

from service.api import correlation, document, page, quotas
from service.api.admission import Admission
from service.api.collection import Collection
from service.api.document_schemas import PLUGINS
from service.api.health import Operation
from service.api.jobs import Jobs
from service.api.observation import Observation
from service.api.problems import ALL_KINDS, EXCEPTION_HANDLERS
from service.api.requests import check
from service.api.work import Work
from service.lifespan import store
from service.metrics import Metrics
from service.settings import Settings
from service.store.leases import LeaseManager
from service.store.manager import JobStateManager
from service.tracing import traced

#: The response headers that a page of another origin may read.
EXPOSED_HEADERS = ["ETag", "Location", "Retry-After", "Idempotency-Replayed", correlation.HEADER, *quotas.HEADERS]


def create_service(settings: Settings, redis_url: str, metrics: Metrics) -> ASGIApp:
    """Return the application with what stands around it: what is served."""
    app = create_app(settings, redis_url, metrics)
    for kind in ALL_KINDS:
        metrics.foresee(kind.name)
    admission = Admission(app, settings.allowed_hosts, settings.cors_origins, settings.max_concurrent_requests)
    return traced(Observation(admission, metrics))


def create_app(settings: Settings, redis_url: str, metrics: Metrics | None = None) -> Litestar:
    """Return the application, working on the Redis at `redis_url`."""
    metrics = metrics or Metrics()
    return Litestar(
        route_handlers=[Operation, Collection, Jobs, Work],
        lifespan=[store(redis_url, settings, metrics)],
        state=State({"metrics": metrics}),
        dependencies={
            "metrics": Provide(provide_metrics, sync_to_thread=False),
            "redis_pool": Provide(redis_pool, sync_to_thread=False),
            "redis_client": Provide(redis_client, sync_to_thread=False),
            "job_manager": Provide(job_manager, sync_to_thread=False),
            "lease_manager": Provide(lease_manager, sync_to_thread=False),
        },
        before_request=check,
        before_send=[correlation.add_header, quotas.add_headers],
        exception_handlers=EXCEPTION_HANDLERS,
        request_max_body_size=settings.max_body_bytes,
        cors_config=CORSConfig(allow_origins=list(settings.cors_origins), expose_headers=EXPOSED_HEADERS)
        if settings.cors_origins
        else None,
        openapi_config=document.config(page.router(), page.Page()),
        plugins=PLUGINS,
        logging_config=None,
    )


def provide_metrics(state: State) -> Metrics:
    """Provide what the process measures."""
    metrics: Metrics = state.metrics
    return metrics


def redis_pool(state: State) -> ConnectionPool:
    """Provide the pool of connections."""
    pool: ConnectionPool = state.redis_pool
    return pool


def redis_client(state: State) -> Redis:
    """Provide a client on the pool."""
    client: Redis = state.redis_client
    return client


def job_manager(state: State) -> JobStateManager:
    """Provide the repository of jobs."""
    manager: JobStateManager = state.job_manager
    return manager


def lease_manager(state: State) -> LeaseManager:
    """Provide the leases of workers on jobs."""
    manager: LeaseManager = state.lease_manager
    return manager
