"""The order of the ASGI middleware."""

from litestar import Litestar
from litestar.types import ASGIApp

from service.api.middleware.admission import AdmissionMiddleware
from service.api.middleware.concurrency import ConcurrencyLimiter
from service.api.middleware.decompression import DecompressionMiddleware
from service.api.middleware.head_requests import HeadMiddleware
from service.api.middleware.header_lines import HeaderLinesMiddleware
from service.api.middleware.origins import PreflightMiddleware
from service.api.middleware.telemetry import TelemetryMiddleware
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
    stack: ASGIApp = app
    if app.cors_config is not None:
        stack = PreflightMiddleware(stack, app.cors_config)
    stack = DecompressionMiddleware(stack)
    stack = AdmissionMiddleware(stack, limiter, hosts, origins)
    stack = HeaderLinesMiddleware(stack)
    stack = HeadMiddleware(stack)
    return TelemetryMiddleware(stack, metrics, shutdown)
