"""The order of the ASGI middleware."""

from litestar import Litestar
from litestar.types import ASGIApp

from service.api.middleware.admission import admit_requests
from service.api.middleware.concurrency import ConcurrencyLimiter
from service.api.middleware.decompression import decompress_bodies
from service.api.middleware.head_requests import answer_head
from service.api.middleware.header_lines import join_header_lines
from service.api.middleware.origins import reject_preflights
from service.api.middleware.telemetry import TelemetryMiddleware
from service.api.problems import ALL_PROBLEM_TYPES
from service.domain.shutdown import Shutdown
from service.observability.metrics import Metrics


def add_middleware(
    app: Litestar,
    metrics: Metrics,
    shutdown: Shutdown,
    limiter: ConcurrencyLimiter,
    hosts: tuple[str, ...] | None,
    origins: tuple[str, ...],
) -> ASGIApp:
    """Return `app` within its middleware. A request passes them from the last line to the first."""
    for problem_type in ALL_PROBLEM_TYPES:
        metrics.init_problem_counter(problem_type.name)
    stack: ASGIApp = app
    if app.cors_config is not None:
        stack = reject_preflights(stack, app.cors_config)
    stack = decompress_bodies(stack)
    stack = admit_requests(stack, limiter, hosts, origins)
    stack = join_header_lines(stack)
    stack = answer_head(stack)
    return TelemetryMiddleware(stack, metrics, shutdown)
