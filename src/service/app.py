"""The composition root: what the application is made of and what is injected where."""

from typing import Any

from litestar import Litestar
from litestar.datastructures import CacheControlHeader, State
from litestar.di import Provide
from litestar.types import ASGIApp

from service.api import auth, correlation, rate_limit
from service.api.controllers.claims import ClaimController
from service.api.controllers.drain import DrainController
from service.api.controllers.events import EventController
from service.api.controllers.job import JobController
from service.api.controllers.jobs import JobsController
from service.api.controllers.queues import QueueController
from service.api.controllers.system import SystemController
from service.api.middleware.admission import AdmissionMiddleware, NormalizingCORSConfig, Preflights
from service.api.middleware.concurrency import ConcurrencyLimiter
from service.api.middleware.decompression import RequestDecompression
from service.api.middleware.fast_get import JobReadFastPath
from service.api.middleware.head_requests import HeadRequests
from service.api.middleware.header_lines import HeaderLines
from service.api.middleware.telemetry import TelemetryMiddleware
from service.api.openapi import config
from service.api.openapi.schemas import PLUGINS
from service.api.problems import ALL_PROBLEM_TYPES
from service.api.request_checks import validate_request
from service.lifespan import service_lifespan
from service.observability.metrics import Metrics
from service.observability.tracing import instrument_app
from service.settings import Settings
from service.web import api_docs as document_page
from service.web import dashboard

#: The response headers that a page of another origin may read.
EXPOSED_HEADERS = [
    *("ETag", "Location", "Retry-After", "Idempotency-Replayed", "WWW-Authenticate"),
    *(correlation.HEADER, *rate_limit.HEADERS),
]

#: What is said of jobs is not left lying about; pages and streams say their own.
NO_STORE = CacheControlHeader(no_store=True)
#: What handlers may ask for by these names. The busy ones take it from the state: to be given one costs a twentieth of
#: a request, and two, which Litestar (2.25) resolves in a task group, half of one.
DEPENDENCIES = (
    "metrics",
    "redis_pool",
    "redis_client",
    "job_manager",
    "lease_manager",
    "waiting",
    "watching",
    "timeline",
)


def create_asgi_app(settings: Settings, redis_url: str, metrics: Metrics) -> tuple[ASGIApp, State]:
    """Return the application with what stands around it, which is what is served, and its state."""
    app = create_app(settings, redis_url, metrics)
    for kind in ALL_PROBLEM_TYPES:
        metrics.init_problem_counter(kind.name)
    room = ConcurrencyLimiter(
        settings.max_concurrent_requests,
        settings.max_waiting_requests,
        settings.max_watchers_per_client,
        metrics.add_waiting_requests,
    )
    inner = app if app.cors_config is None else Preflights(app, app.cors_config)
    reading = JobReadFastPath(RequestDecompression(inner), app.state)
    admission = AdmissionMiddleware(reading, settings.allowed_hosts, settings.cors_origins, room)
    return instrument_app(TelemetryMiddleware(HeadRequests(HeaderLines(admission)), metrics, app.state)), app.state


def create_app(settings: Settings, redis_url: str, metrics: Metrics | None = None) -> Litestar:
    """Return the application, working on the Redis at `redis_url`."""
    metrics = metrics or Metrics()
    state = State({"metrics": metrics, auth.API_KEYS: settings.api_keys})
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
        cors_config=NormalizingCORSConfig(allow_origins=list(settings.cors_origins), expose_headers=EXPOSED_HEADERS)
        if settings.cors_origins
        else None,
        openapi_config=config.config(document_page.router(), document_page.Page()),
        plugins=PLUGINS,
        logging_config=None,
    )


def _from_state(state: State, name: str) -> Provide:
    """Provide what stands on the application's state: all but the metrics are put there by the lifespan."""

    def provide() -> Any:
        return state[name]

    return Provide(provide, sync_to_thread=False)
