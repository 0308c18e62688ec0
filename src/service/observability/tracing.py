"""Spans of requests and Redis calls for OpenTelemetry, where its variables name a collector and its extra is there."""

import os
import time
from importlib.util import find_spec
from typing import Any, Final, cast

import structlog
from litestar.types import ASGIApp

from service.api.correlation import correlation_id
from service.store.observer import Observer

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_log = structlog.get_logger(__name__)


def is_enabled() -> bool:
    """Say whether OpenTelemetry's own variables ask for traces."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    return not off and any(os.environ.get(name) for name in _ENDPOINTS)


def instrument_app(app: ASGIApp) -> ASGIApp:
    """Return `app` with a span around every request, or as it is where traces are not wanted or cannot be made."""
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
        _log.warning("no traces: the extra is missing; install jobstate[otel]", missing=error.name)
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
    """An observer of the store before another: each call that a request makes of Redis is a span of its trace."""

    def __init__(self, observer: Observer) -> None:
        """Tell `observer` all the same."""
        from opentelemetry import trace

        self._trace = trace
        self._tracer = trace.get_tracer("jobstate")
        self.on_call_start, self.on_job_change = observer.on_call_start, observer.on_job_change
        self._called = observer.on_call_end

    def on_call_end(self, call: str, outcome: str, seconds: float) -> None:
        """Note a call that has just ended."""
        self._called(call, outcome, seconds)
        if self._trace.get_current_span().is_recording():
            ended = time.time_ns()
            self._tracer.start_span(
                f"redis {call}",
                kind=self._trace.SpanKind.CLIENT,
                attributes={"db.system.name": "redis", "db.operation.name": call, "jobstate.outcome": outcome},
                start_time=ended - int(seconds * 1e9),
            ).end(ended)


def instrument_store(observer: Observer) -> Observer:
    """Return what observes the store: `observer`, and the traces where there are any."""
    return TracingObserver(observer) if is_enabled() and find_spec("opentelemetry") else observer


def _set_span_attributes(app: ASGIApp) -> Any:
    """Return `app` naming the span that it runs in after its route, and the log lines that belong to it."""
    from opentelemetry.trace import get_current_span

    def describe(scope: Any) -> None:
        span = get_current_span()
        if route := scope.get("path_template"):
            span.update_name(f"{scope['method']} {route}")
            span.set_attribute("http.route", route)
        span.set_attribute("jobstate.correlation_id", correlation_id(scope))

    async def described(scope: Any, receive: Any, send: Any) -> None:
        async def watched(message: Any) -> None:
            if message["type"] == "http.response.start":  # the span ends with the last byte
                describe(scope)
            await send(message)

        await app(scope, receive, watched)

    return described
