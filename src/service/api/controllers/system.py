"""Liveness, readiness and metrics over HTTP."""

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

import structlog
from litestar import Controller, Response, get

from service import __version__
from service.api.auth import PUBLIC, requires
from service.api.openapi.examples import METRICS
from service.api.openapi.operations import AUTH_ERRORS, STORE_ERRORS, Success, operation_docs
from service.api.problems import MEDIA_TYPE, RETRY_AFTER
from service.api.request_checks import quality_of
from service.api.schemas import Health
from service.domain import errors
from service.domain.api_keys import Scope
from service.domain.errors import JobStateError
from service.services import HttpRequest, services_of

T = TypeVar("T")

_log = structlog.get_logger(__name__)

TEXT: Final = "text/plain"
OPENMETRICS: Final = "application/openmetrics-text"


class SystemController(Controller):
    """Liveness, readiness, metrics."""

    path = "/"
    tags = ("operations",)

    @get(
        "/health",
        operation_id="getHealth",
        summary="Check liveness",
        **PUBLIC,
        **operation_docs({200: Success("The process lives.", {"alive": Health("ok", __version__)})}),
    )
    async def get_health(self) -> Health:
        """Return 200 while the process is alive, whether or not Redis is available."""
        return Health("ok", __version__)

    @get(
        "/ready",
        operation_id="getReadiness",
        summary="Check readiness",
        **PUBLIC,
        **operation_docs(
            {
                200: Success(
                    "The service is ready.",
                    {"ready": Health("ready", __version__), "partly": Health("ready", __version__, 1, 5)},
                )
            },
            (*STORE_ERRORS, errors.Draining),
        ),
    )
    async def get_readiness(self, request: HttpRequest) -> Health:
        """Return 200 while Redis accepts writes and the process is not stopping, else 503 with the reason.

        Of a Redis Cluster one node is enough.
        After a start, jobs that expired before it are removed first, for at most 10 s.
        """
        services = services_of(request)
        if services.shutdown.has_begun:
            raise errors.Draining(RETRY_AFTER, is_shutdown=True)
        redis = await services.jobs.ping()
        await services.sweeper.require_first_sweep()
        return Health("ready", __version__, redis.nodes_away or None, redis.partitions_away or None)

    @get(
        "/metrics",
        operation_id="getMetrics",
        summary="Get metrics",
        **requires(Scope.READ),
        media_type="text/plain",
        produces=(TEXT, OPENMETRICS, MEDIA_TYPE),
        **operation_docs(
            {
                200: Success(
                    "The metrics in Prometheus' text format, or in OpenMetrics if `Accept` prefers it.",
                    {"jobs": METRICS},
                    extra_media_types=(OPENMETRICS,),
                )
            },
            AUTH_ERRORS,
        ),
    )
    async def get_metrics(self, request: HttpRequest) -> Response[bytes]:
        """Return the metrics of all processes. Those read from Redis are missing while it is unavailable."""
        services = services_of(request)
        availability, stats, health = await asyncio.gather(
            _or_none(services.jobs.ping()),
            _or_none(services.jobs.get_stats()),
            _or_none(services.jobs.get_store_health()),
        )
        accept = request.headers.get("accept", "")
        if quality_of(OPENMETRICS, accept) <= quality_of(TEXT, accept):
            accept = TEXT
        text, media_type = services.metrics.render(accept, availability=availability, stats=stats, health=health)
        if media_type.startswith("text/"):
            media_type = media_type.removesuffix("; charset=utf-8")  # Litestar adds the charset
        return Response(text, media_type=media_type)


async def _or_none(awaitable: Awaitable[T]) -> T | None:
    try:
        return await awaitable
    except JobStateError:
        return None
    except Exception:  # a bug here must not hide the other metrics
        _log.exception("redis metrics failed")
        return None
