"""Traces, as an OpenTelemetry collector receives them."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service
from tests.integration.server.test_limits import connect

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(ThreadingHTTPServer):
    """A collector that stores the received spans by name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: dict[str, Any] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.server.spans.update({span.name: (span, resource.resource) for span in scope.spans})
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def attributes(carrier: Any) -> dict[str, str]:
    return {item.key: item.value.string_value for item in carrier.attributes}


@pytest.fixture
def traced(redis_url: str, tmp_path: Path, collector: Collector) -> Iterator[Service]:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": ".*",
    }
    with Service(tmp_path, REDIS_URL=redis_url, **environment) as service:
        yield service


def test_a_pipelined_request_has_its_own_trace(traced: Service, collector: Collector) -> None:
    paths = {"GET /v1/jobs/{job_id}": "/v1/jobs/j", "GET /v1/jobs/{job_id}/history": "/v1/jobs/j/history"}
    traces = dict(zip(paths, (TRACE, TRACE[::-1]), strict=True))
    with connect(traced) as connection:
        connection.sendall(
            "".join(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\ntraceparent: 00-{traces[name]}-b7ad6b7169203331-01\r\n\r\n"
                for name, path in paths.items()
            ).encode()
        )
        wait_until(lambda: paths.keys() <= collector.spans.keys(), "the spans")
    assert {name: collector.spans[name][0].trace_id.hex() for name in paths} == traces


def test_a_request_and_its_redis_calls_are_spans_of_the_callers_trace(traced: Service, collector: Collector) -> None:
    recorded = {"Authorization": "Bearer jobstate_s3cret", "X-Correlation-ID": "traced"}
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", **recorded}
    httpx.get(f"{traced.url}/v1/jobs/some-job", headers=headers)
    wait_until(lambda: "GET /v1/jobs/{job_id}" in collector.spans, "the span")

    span, resource = collector.spans["GET /v1/jobs/{job_id}"]
    assert span.trace_id.hex() == TRACE
    assert attributes(span)["jobstate.correlation_id"] == "traced"
    assert attributes(resource)["service.name"] == "jobstate"
    assert "http.request.header.x_correlation_id" in str(span)
    assert "s3cret" not in "".join(str(span) for span, _ in collector.spans.values())
    children = [child for child, _ in collector.spans.values() if child.parent_span_id == span.span_id]
    assert children, "the Redis calls"
    assert {child.trace_id.hex() for child in children} == {TRACE}
