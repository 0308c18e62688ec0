"""What operators and their tools ask: does the process live, does it get its work done, how much and how fast."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import structlog
from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency

from service import __version__
from service.api.openapi.examples import METRICS
from service.api.openapi.operations import AUTH_ERRORS, STORE_ERRORS, SuccessResponse, operation_docs, problems
from service.api.problems import MEDIA_TYPE
from service.api.request_checks import PRODUCES, quality_of
from service.api.schemas import Health
from service.domain import errors
from service.domain.errors import JobStateError
from service.observability.metrics import Metrics
from service.store.events.claim_waiter import RETRY_AFTER, ClaimWaiter
from service.store.jobs import JobStateManager

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
        summary="Say whether the process lives",
        **operation_docs({200: SuccessResponse("The process lives.", examples={"alive": Health("ok", __version__)})}),
    )
    async def health(self) -> Health:
        """Answer while the process lives, whatever Redis does."""
        return Health("ok", __version__)

    @get(
        "/ready",
        operation_id="getReadiness",
        summary="Say whether jobs can be served",
        **operation_docs(
            {200: SuccessResponse("Redis takes changes.", examples={"ready": Health("ready", __version__)})},
            *STORE_ERRORS,
            *problems(errors.Draining),
        ),
    )
    async def ready(
        self, job_manager: NamedDependency[JobStateManager], waiting: NamedDependency[ClaimWaiter]
    ) -> Health:
        """Answer 200 while Redis takes changes and the process is not about to end, else 503 with a diagnosis."""
        if waiting.is_closed:
            raise errors.Draining(RETRY_AFTER)
        await job_manager.ping()
        return Health("ready", __version__)

    @get(
        "/metrics",
        operation_id="getMetrics",
        summary="Read the metrics",
        media_type="text/plain",
        opt={PRODUCES: (TEXT, OPENMETRICS, MEDIA_TYPE)},
        **operation_docs(
            {
                200: SuccessResponse(
                    "The metrics, in Prometheus' text format or, where it is asked for, in OpenMetrics.",
                    examples={"jobs": METRICS},
                    extra_media_types=(OPENMETRICS,),
                )
            },
            *AUTH_ERRORS,
        ),
    )
    async def metrics(
        self,
        request: Request[Any, Any, Any],
        job_manager: NamedDependency[JobStateManager],
        metrics: NamedDependency[Metrics],
    ) -> Response[bytes]:
        """Return what Prometheus scrapes, of all workers together; without what Redis does not tell."""
        is_up, stats, health = await asyncio.gather(
            _succeeds(job_manager.ping()),
            _or_none(job_manager.get_stats()),
            _or_none(job_manager.get_store_health()),
        )
        accept = request.headers.get("accept", "")
        if quality_of(TEXT, accept) >= quality_of(OPENMETRICS, accept):  # generated clients name both, and read text
            accept = TEXT
        page, media_type = metrics.render(accept, is_up=is_up, stats=stats, health=health)
        if media_type.startswith("text/"):
            media_type = media_type.removesuffix("; charset=utf-8")  # Litestar adds it to any text
        return Response(page, media_type=media_type)


async def _or_none(answer: Awaitable[T]) -> T | None:
    try:
        return await answer
    except JobStateError:
        return None
    except Exception:  # the page has much to say besides, of this failure too
        _log.exception("metrics of Redis failed")
        return None


async def _succeeds(question: Awaitable[None]) -> bool:
    async def ask() -> bool:
        await question
        return True

    return await _or_none(ask()) is True
