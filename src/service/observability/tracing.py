"""OpenTelemetry spans of requests and Redis calls, if its variables name a collector and the extra is installed."""

import os
import time
from importlib.util import find_spec
from typing import Any, Final, cast

import structlog
from litestar.types import ASGIApp

from service.api.request_context import correlation_id
from service.store.observer import Observer

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_log = structlog.get_logger(__name__)


def is_enabled() -> bool:
    """Return whether the variables of OpenTelemetry enable traces."""
    is_off = (
        os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    )
    return not is_off and any(os.environ.get(name) for name in _ENDPOINTS)


def instrument_app(app: ASGIApp) -> ASGIApp:
    """Return `app` with a span around every request, or `app` itself if traces are off or packages are missing."""
    if not is_enabled():
        return app
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.util.http import OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS as SANITIZED
        from opentelemetry.util.http import get_custom_headers
    except ImportError as error:
        _log.warning("tracing unavailable, package missing", missing=error.name, hint="install jobstate-server[otel]")
        return app
    name = os.environ.get("OTEL_SERVICE_NAME", "jobstate")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    spans = OpenTelemetryMiddleware(
        _set_span_attributes(app),
        tracer_provider=provider,
        exclude_spans=["receive", "send"],
        http_capture_headers_sanitize_fields=[*get_custom_headers(SANITIZED), "authorization"],
    )
    return cast(ASGIApp, spans)


class TracingObserver:
    """An observer that records each Redis call of a request as a span, and forwards all calls to another observer."""

    def __init__(self, observer: Observer) -> None:
        """Forward to `observer`."""
        from opentelemetry import trace

        self._trace = trace
        self._tracer = trace.get_tracer("jobstate")
        self.on_call_start, self.on_job_change = observer.on_call_start, observer.on_job_change
        self.on_replicas_missing = observer.on_replicas_missing
        self._forward_call_end = observer.on_call_end

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        """Record a call that has just ended."""
        self._forward_call_end(call, outcome, seconds)
        if self._trace.get_current_span().is_recording():
            end = time.time_ns()
            self._tracer.start_span(
                f"redis {call}",
                kind=self._trace.SpanKind.CLIENT,
                attributes={"db.system.name": "redis", "db.operation.name": call, "jobstate.outcome": outcome},
                start_time=end - int(seconds * 1e9),
            ).end(end)


def instrument_store(observer: Observer) -> Observer:
    """Return `observer`, wrapped for traces if they are enabled and installed."""
    return TracingObserver(observer) if is_enabled() and find_spec("opentelemetry") else observer


def _set_span_attributes(app: ASGIApp) -> Any:
    """Return `app` such that it sets the route and the correlation id on its span."""
    from opentelemetry.trace import get_current_span

    async def instrumented(scope: Any, receive: Any, send: Any) -> None:
        async def send_wrapper(message: Any) -> None:
            if message["type"] == "http.response.start":  # not later: the span ends with the last byte
                span = get_current_span()
                if route := scope.get("path_template"):
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attribute("http.route", route)
                span.set_attribute("jobstate.correlation_id", correlation_id(scope))
            await send(message)

        await app(scope, receive, send_wrapper)

    return instrumented
