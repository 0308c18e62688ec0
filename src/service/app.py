"""The composition root: what the application is made of, and what is injected where."""

from typing import Any

from litestar import Litestar
from litestar.datastructures import CacheControlHeader, State
from litestar.di import Provide
from litestar.types import ASGIApp

from service.api import auth
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
from service.api.problems import ALL_PROBLEM_TYPES
from service.api.request_checks import validate_request
from service.domain.shutdown import Shutdown
from service.lifespan import service_lifespan
from service.observability.metrics import Metrics
from service.observability.tracing import instrument_app
from service.settings import Settings
from service.web import api_docs, dashboard

#: Job data must not be cached. Pages and streams set their own `Cache-Control`.
NO_STORE = CacheControlHeader(no_store=True)
#: The state's values that handlers can take as dependencies. Busy handlers read the state instead, because Litestar
#: (2.25) makes injection costly: it resolves two or more dependencies in a task group.
DEPENDENCIES = (
    "metrics",
    "shutdown",
    "redis_pool",
    "redis_client",
    "job_manager",
    "lease_manager",
    "queue_manager",
    "job_watcher",
    "event_stream",
)


def create_asgi_app(settings: Settings, redis_url: str, metrics: Metrics) -> tuple[ASGIApp, State]:
    """Return the application within its middleware, as the server runs it, and the application's state."""
    app = create_app(settings, redis_url, metrics)
    for problem_type in ALL_PROBLEM_TYPES:
        metrics.init_problem_counter(problem_type.name)
    limiter = ConcurrencyLimiter(
        settings.max_concurrent_requests,
        settings.max_waiting_requests,
        settings.max_watchers_per_client,
        metrics.add_waiting_requests,
    )
    stack = add_middleware(app, metrics, limiter, settings.allowed_hosts, settings.cors_origins)
    return instrument_app(stack), app.state


def create_app(settings: Settings, redis_url: str, metrics: Metrics | None = None) -> Litestar:
    """Return the application without middleware; it stores jobs in the Redis at `redis_url`."""
    metrics = metrics or Metrics()
    state = State({"metrics": metrics, "shutdown": Shutdown(), auth.API_KEYS: settings.api_keys})
    return Litestar(
        route_handlers=[
            SystemController,
            JobsController,
            JobController,
            EventController,
            ClaimController,
            QueueController,
            DrainController,
            dashboard.router(),
        ],
        lifespan=[service_lifespan(redis_url, settings, metrics)],
        state=state,
        dependencies={name: _from_state(state, name) for name in DEPENDENCIES},
        before_request=validate_request,
        cache_control=NO_STORE,
        exception_handlers=dashboard.EXCEPTION_HANDLERS,
        request_max_body_size=settings.max_body_bytes,
        cors_config=cors_config(settings.cors_origins),
        openapi_config=openapi_config(api_docs.router(), api_docs.Page()),
        plugins=PLUGINS,
        logging_config=None,
    )


def _from_state(state: State, name: str) -> Provide:
    """Return a provider of a value of the state; the lifespan sets most of them."""

    def provide() -> Any:
        return state[name]

    return Provide(provide, sync_to_thread=False)
