"""The composition root: what the application is made of, and what is injected where."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar
from litestar.datastructures import CacheControlHeader, State
from litestar.di import Provide
from litestar.types import ASGIApp

from service import libraries
from service.api.controllers.batch_create import batch_create_router
from service.api.controllers.bulk_actions import BulkActionController
from service.api.controllers.claims import ClaimController
from service.api.controllers.drain import DrainController
from service.api.controllers.events import EventController
from service.api.controllers.job import JobController
from service.api.controllers.jobs import JobsController
from service.api.controllers.queues import QueueController
from service.api.controllers.system import SystemController
from service.api.middleware.concurrency import ConcurrencyLimiter
from service.api.middleware.origins import cors_config
from service.api.middleware.stack import add_middleware
from service.api.openapi.config import openapi_config
from service.api.openapi.schemas import PLUGINS
from service.api.request_bodies import StructDTO
from service.api.request_checks import reject_unchecked_handlers, validate_request
from service.domain.shutdown import Shutdown
from service.observability.metrics import Metrics
from service.observability.tracing import instrument_app, instrument_store
from service.services import SERVICES, open_services
from service.settings import Settings
from service.web import api_docs, dashboard

#: Job data must not be cached. Pages and streams set their own `Cache-Control`.
NO_STORE = CacheControlHeader(no_store=True)


def create_asgi_app(settings: Settings, redis_url: str, metrics: Metrics, shutdown: Shutdown) -> tuple[ASGIApp, State]:
    """Return the application within its middleware, as the server runs it, and the application's state."""
    app = create_app(settings, redis_url, metrics, shutdown)
    limits = (settings.max_concurrent_requests, settings.max_waiting_requests, settings.max_watchers_per_client)
    limiter = ConcurrencyLimiter(*limits, metrics.add_waiting_requests)
    stack = add_middleware(app, metrics, shutdown, limiter, settings.allowed_hosts, settings.cors_origins)
    return instrument_app(stack), app.state


@libraries.without("attr", "attrs", "opentelemetry", "pydantic")  # Litestar's plugins import them
def create_app(
    settings: Settings, redis_url: str, metrics: Metrics | None = None, shutdown: Shutdown | None = None
) -> Litestar:
    """Return the application without middleware; it stores jobs in the Redis at `redis_url`."""
    metrics, shutdown = metrics or Metrics(), shutdown or Shutdown()

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_services(settings, redis_url, metrics, shutdown, instrument_store(metrics)) as services:
            injected = {"redis_pool": services.pool, "redis_client": services.redis, "job_manager": services.jobs}
            app.state.update({SERVICES: services, **injected})
            yield

    app = Litestar(
        route_handlers=[
            SystemController,
            JobsController,
            batch_create_router(settings.max_batch_bytes),
            JobController,
            BulkActionController,
            EventController,
            ClaimController,
            QueueController,
            DrainController,
            dashboard.router(),
        ],
        lifespan=[lifespan],
        dependencies={name: _from_state(name) for name in ("redis_pool", "redis_client", "job_manager")},
        before_request=validate_request,
        cache_control=NO_STORE,
        exception_handlers=dashboard.EXCEPTION_HANDLERS,
        request_max_body_size=settings.max_body_bytes,
        dto=StructDTO,
        return_dto=None,  # else `dto` would also convert responses
        cors_config=cors_config(settings.cors_origins),
        openapi_config=openapi_config(api_docs.router(), api_docs.Page()),
        plugins=PLUGINS,
        logging_config=None,
    )
    reject_unchecked_handlers(app)
    return app


def _from_state(name: str) -> Provide:
    def provide(state: State) -> Any:
        return state[name]

    return Provide(provide, sync_to_thread=False)
