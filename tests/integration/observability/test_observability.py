"""Logs, metrics and correlation ids of a running service."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import get
from litestar.background_tasks import BackgroundTask
from litestar.response import Response
from litestar.testing import TestClient
from prometheus_client.parser import text_string_to_metric_families
from structlog import get_logger
from structlog.contextvars import get_contextvars

from service.api.middleware.telemetry import TelemetryMiddleware
from service.app import create_app
from service.domain.shutdown import Shutdown
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.helpers.partitions import PARTITIONS
from tests.helpers.polling import wait_until
from tests.helpers.service_process import Service
from tests.integration.server.test_limits import connect

Line = dict[str, Any]

#: Methods that no route supports.
METHODS = ("TRACE", "PROPFIND", "LOCK", "MKCOL", "REPORT", "SEARCH", "PURGE", "COPY", "MOVE")


def lines_of(service: Service, correlation_id: str, count: int = 1) -> list[Line]:
    """The log lines of one request, once there are as many as expected."""

    def found() -> list[Line]:
        lines = [json.loads(line) for line in service.log.splitlines() if line.endswith("}")]
        return [line for line in lines if line.get("correlation_id") == correlation_id]

    return list(wait_until(lambda: len(found()) >= count and found(), f"{count} log lines of {correlation_id}"))


def samples(api: httpx.Client) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample of the metrics by name and label values."""
    page = api.get("/metrics").raise_for_status().text
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_no_counter_has_a_second_series_with_its_creation_time(api: httpx.Client) -> None:
    names = {name for name, _ in samples(api)}
    assert "jobstate_job_changes_total" in names
    assert not [name for name in names if name.endswith("_created")]


def test_a_request_has_one_access_line(api: httpx.Client, shared_service: Service) -> None:
    response = api.post("/v1/jobs", json={"job_id": "j", "input_params": 1}, headers={"X-Correlation-ID": "access-1"})
    assert response.headers["x-correlation-id"] == "access-1"

    [line] = lines_of(shared_service, "access-1")
    assert line.pop("time").endswith("Z")
    assert 0 < line.pop("duration_ms") < 5000
    assert line == {
        "level": "info",
        "event": "request",
        "logger": "service.access",
        "correlation_id": "access-1",
        "job_id": "j",
        "method": "POST",
        "path": "/v1/jobs",
        "route": "/v1/jobs",
        "status": 201,
        "client": "127.0.0.1",
    }


def test_an_access_line_names_the_job_and_the_problem(api: httpx.Client, shared_service: Service) -> None:
    api.patch("/v1/jobs/none", json={"status": "running"}, headers={"X-Correlation-ID": "access-2"})

    [line] = lines_of(shared_service, "access-2")
    assert (line["job_id"], line["route"], line["status"]) == ("none", "/v1/jobs/{job_id}", 404)
    assert line["problem"] == "job-not-found"


@pytest.mark.parametrize(
    "address",
    ["/no%0Awhere", "/v1/jobs/%1b%5b31m", "/v1/jobs/%F0%9F", "/v1/jobs/x?q=%0a", "/%22%7d%0a%7b" + "a" * 9000],
)
def test_no_path_breaks_out_of_its_access_line(api: httpx.Client, shared_service: Service, address: str) -> None:
    sent = api.get(address).headers["x-correlation-id"]

    [line] = lines_of(shared_service, sent)
    assert len(line["path"]) <= 512
    assert address.startswith(line["path"])


def test_every_line_of_a_request_has_its_correlation_id(redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []

    async def later() -> None:
        seen.append(get_contextvars()["correlation_id"])
        get_logger("later").info("in the background")

    @get("/slow")
    async def handler() -> Response[None]:
        seen.append(get_contextvars()["correlation_id"])
        return Response(None, background=BackgroundTask(later))

    settings = Settings.from_environment({"REDIS_PARTITIONS": str(len(PARTITIONS))})
    app = create_app(settings, redis_url)
    app.register(handler)
    with TestClient(TelemetryMiddleware(app, Metrics(), Shutdown())) as client:
        for name in ("first", "second"):
            client.get("/slow", headers={"X-Correlation-ID": name})

    assert seen == ["first", "first", "second", "second"]


def test_a_pipelined_request_inherits_nothing_from_the_previous_one(api: httpx.Client, shared_service: Service) -> None:
    with connect(shared_service) as connection:
        for address, name in [("/v1/jobs/first", "pipe-1"), ("/v1/jobs?limit=1", "pipe-2")]:
            connection.sendall(
                f"GET {address} HTTP/1.1\r\nHost: localhost\r\nX-Correlation-ID: {name}\r\n\r\n".encode()
            )
        [first] = lines_of(shared_service, "pipe-1")
        [second] = lines_of(shared_service, "pipe-2")
    assert first["job_id"] == "first"
    assert "job_id" not in second


def test_background_tasks_have_correlation_ids_of_their_own(redis_url: str, tmp_path: Path) -> None:
    with Service(tmp_path, REDIS_URL=redis_url) as service:
        wait_until(lambda: "Redis connected" in service.log, "the log line")
    lines = [json.loads(line) for line in service.log.splitlines()]
    [line] = [line for line in lines if "Redis connected" in line["event"]]
    assert len(line["correlation_id"]) == 32


def test_a_correlation_id_is_stored_with_its_job_and_returned(api: httpx.Client) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"X-Correlation-ID": "handed-on", "traceparent": traceparent}
    api.post("/v1/jobs", json={"job_id": "j", "input_params": 1}, headers=headers).raise_for_status()

    worker = api.patch("/v1/jobs/j", json={"status": "running"}, headers={"X-Correlation-ID": "another"})
    assert worker.headers["x-correlation-id"] == "another"
    assert worker.json()["correlation_id"] == "handed-on"
    assert worker.json()["traceparent"] == traceparent


def test_requests_changes_and_problems_are_counted(api: httpx.Client) -> None:
    def send_requests() -> None:
        api.post("/v1/jobs", json={"job_id": "j", "input_params": 1})
        api.post("/v1/jobs", json={"job_id": "j", "input_params": 1})
        api.post("/v1/jobs", json={"job_id": "j", "input_params": 2})
        api.patch("/v1/jobs/j", json={"status": "running"})
        api.patch("/v1/jobs/j", json={"status": "running", "progress": {"current": 1}})
        api.patch("/v1/jobs/j", json={"status": "completed", "result": 1})
        api.patch("/v1/jobs/j", json={"status": "completed", "result": 1})
        api.delete("/v1/jobs/j")
        api.request("BREW", "/v1/jobs")
        api.get("/v1/jobs/a/b/c/d")

    before = samples(api)
    send_requests()
    after = samples(api)
    grown = {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}

    changes = {key[1][0]: value for key, value in grown.items() if key[0] == "jobstate_job_changes_total"}
    assert changes == {"created": 1, "running": 1, "progress": 1, "completed": 1, "deleted": 1}
    problems = {key[1][0]: value for key, value in grown.items() if key[0] == "jobstate_http_problems_total"}
    assert problems.pop("malformed-request", 0) + problems.pop("method-not-allowed", 0) == 1
    assert problems == {"job-exists": 1, "unknown-route": 1}
    calls = {key[1]: value for key, value in grown.items() if key[0] == "jobstate_redis_command_duration_seconds_count"}
    assert calls["create", "CREATED"] == calls["create", "REPLAYED"] == calls["create", "EXISTS"] == 1
    assert (calls["update", "CHANGED"], calls["update", "UNCHANGED"], calls["delete", "DELETED"]) == (3, 1, 1)
    requests = {
        key[1]: value for key, value in grown.items() if key[0] == "jobstate_http_request_duration_seconds_count"
    }
    assert requests["POST", "/v1/jobs", "201"] == 2
    assert requests["PATCH", "/v1/jobs/{job_id}", "200"] == 4
    assert after["jobstate_redis_up", ()] == 1


def test_the_jobs_are_counted_by_status(api: httpx.Client) -> None:
    for number in range(3):
        api.post("/v1/jobs", json={"job_id": f"j{number}", "input_params": 1}).raise_for_status()
    api.patch("/v1/jobs/j0", json={"status": "running"}).raise_for_status()
    api.post("/v1/jobs/j1/cancel").raise_for_status()

    found = samples(api)

    jobs = {key[1][0]: value for key, value in found.items() if key[0] == "jobstate_jobs"}
    assert jobs == {"pending": 1, "running": 1, "completed": 0, "failed": 0, "cancelled": 1}
    assert found["jobstate_jobs_running", ("none",)] == 1
    assert found["jobstate_oldest_pending_age_seconds", ()] > 0


def test_no_label_has_values_from_clients(api: httpx.Client) -> None:
    def series() -> set[Any]:
        return {key for key in samples(api) if "_bucket" not in key[0]}

    def send_requests(number: int) -> None:
        for method in ("GET", "PUT", "PATCH", "OPTIONS", METHODS[number % len(METHODS)]):
            api.request(method, f"/v1/jobs/job-{number}")
            api.request(method, f"/nowhere/{number}")
        api.post("/v1/jobs", json={"queue": f"queue-{number}", "slate_id": f"slate-{number}", "input_params": 1})
        api.get("/v1/jobs", params={f"unknown-{number}": "1"})

    send_requests(0)
    before = series()
    for number in range(1, 20):
        send_requests(number)
    assert series() == before


def test_the_metrics_show_that_redis_is_unavailable(tmp_path: Path) -> None:
    with (
        Service(tmp_path, REDIS_URL="redis://127.0.0.1:1/0", SHUTDOWN_DRAIN_SECONDS="0") as service,
        httpx.Client(base_url=service.url) as api,
    ):
        found = samples(api)
    assert found["jobstate_redis_up", ()] == 0
    assert not [key for key in found if key[0].startswith("jobstate_jobs")]


@pytest.mark.parametrize("accept", ["text/plain", "text/plain;version=0.0.4", "application/openmetrics-text", "*/*"])
def test_metrics_are_served_in_the_accepted_format(api: httpx.Client, accept: str) -> None:
    response = api.get("/metrics", headers={"Accept": accept})
    expected = accept.split(";")[0].replace("*/*", "text/plain")
    assert (response.status_code, response.headers["content-type"].split(";")[0]) == (200, expected)
    assert response.headers["content-type"].count("charset=utf-8") == 1


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/openmetrics-text, application/problem+json, text/plain", "text/plain"),
        ("application/problem+json", "text/plain"),
        ("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.4,*/*;q=0.1", "application/openmetrics-text"),
        ("application/openmetrics-text;q=0.4, text/plain;q=0.6", "text/plain"),
    ],
)
def test_openmetrics_is_served_only_to_clients_that_prefer_it(api: httpx.Client, accept: str, expected: str) -> None:
    response = api.get("/metrics", headers={"Accept": accept})
    assert (response.status_code, response.headers["content-type"].split(";")[0]) == (200, expected)


def test_metrics_are_not_served_as_json(api: httpx.Client) -> None:
    assert api.get("/metrics", headers={"Accept": "application/json"}).status_code == 406


@pytest.fixture
def unsafe_service(new_redis: Any, tmp_path: Path) -> Iterator[Service]:
    """A service on a Redis that may lose or evict jobs."""
    redis = new_redis("--appendonly", "no", "--maxmemory-policy", "allkeys-lru")
    with Service(tmp_path, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0") as service:
        yield service


def test_each_durability_risk_of_redis_is_logged(unsafe_service: Service) -> None:
    wait_until(lambda: unsafe_service.log.count("redis durability warning") == 2, "both warnings")
    with httpx.Client(base_url=unsafe_service.url) as api:
        assert samples(api)["jobstate_redis_warnings", ()] == 2
