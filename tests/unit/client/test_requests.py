from typing import Any

import msgspec
import pytest

from jobstate import _requests as requests
from jobstate._requests import Request, trace_headers
from jobstate.models import Progress
from tests.helpers.records import record

JSON = {"Content-Type": "application/json"}
READS: list[tuple[Request[object], str, dict[str, str]]] = [
    (requests.get_job("sunday"), "GET /v1/jobs/sunday", {}),
    (requests.get_job("a/b?c"), "GET /v1/jobs/a%2Fb%3Fc", {}),
    (requests.poll_job("sunday", "", 0), "GET /v1/jobs/sunday", {}),
    (requests.poll_job("sunday", '"1-2"', 30), "GET /v1/jobs/sunday?wait=30", {"If-None-Match": '"1-2"'}),
    (requests.get_result("sunday"), "GET /v1/jobs/sunday/result", {}),
    (requests.get_history("sunday"), "GET /v1/jobs/sunday/history", {}),
    (requests.list_jobs(), "GET /v1/jobs", {}),
    (
        requests.list_jobs(limit=5, cursor="c=", include=["result"], status="failed", queue=None),
        "GET /v1/jobs?status=failed&limit=5&cursor=c%3D&include=result",
        {},
    ),
    (requests.get_stats(), "GET /v1/stats", {}),
    (requests.list_queues(), "GET /v1/queues", {}),
    (requests.get_drain(), "GET /v1/drain", {}),
    (requests.stop_drain(), "DELETE /v1/drain", {}),
    (requests.job_events("j"), "GET /v1/jobs/j/events", {"Accept": "text/event-stream", "Cache-Control": "no-store"}),
    (
        requests.list_jobs(labels={"tenant": "a b", "site": "c:d"}),
        "GET /v1/jobs?label=tenant%3Aa+b&label=site%3Ac%3Ad",
        {},
    ),
    (
        requests.all_events(labels={"tenant": "a b"}),
        "GET /v1/events?label=tenant%3Aa+b",
        {"Accept": "text/event-stream", "Cache-Control": "no-store"},
    ),
    (
        requests.all_events("7-0", queue="q"),
        "GET /v1/events?queue=q",
        {"Accept": "text/event-stream", "Cache-Control": "no-store", "Last-Event-ID": "7-0"},
    ),
]
BODIES: list[tuple[Request[object], str, object]] = [
    (requests.batch_get(["a", "b"]), "POST /v1/batch-get", {"job_ids": ["a", "b"]}),
    (requests.configure_queue("q", max_running=None), "PUT /v1/queues/q", {"max_running": None}),
    (requests.start_drain(60), "POST /v1/drain", {"seconds": 60}),
    (requests.start_drain(), "POST /v1/drain", {}),
]
CHANGES: list[tuple[Request[object], str, object]] = [
    (
        requests.create_job({"seed": 1}, "sunday", "q", None, {"max_attempts": 3, "slate_id": None}),
        "POST /v1/jobs",
        {"job_id": "sunday", "queue": "q", "max_attempts": 3, "input_params": {"seed": 1}},
    ),
    (requests.create_job(None, None, None, None, {}), "POST /v1/jobs", {"input_params": None}),
    (requests.update_job("j", b'{"status":"failed"}'), "PATCH /v1/jobs/j", {"status": "failed"}),
    (requests.cancel_job("j"), "POST /v1/jobs/j/cancel", None),
    (requests.delete_job("j"), "DELETE /v1/jobs/j", None),
    (
        requests.claim_jobs(["q"], "ann", 60, 8, 20),
        "POST /v1/batch-claim",
        {"queues": ["q"], "worker": "ann", "lease_seconds": 60, "max_jobs": 8, "wait_seconds": 20},
    ),
    (requests.heartbeat("j", "1-x"), "POST /v1/jobs/j/heartbeat", {}),
    (
        requests.heartbeat("j", "1-x", Progress(1, 2), 60),
        "POST /v1/jobs/j/heartbeat",
        {"progress": {"current": 1, "total": 2}, "lease_seconds": 60},
    ),
    (requests.release("j", "1-x", b'{"error_message":1}'), "POST /v1/jobs/j/release", {"error_message": 1}),
]


@pytest.mark.parametrize(("request_", "line", "headers"), READS, ids=[line for _, line, _ in READS])
def test_a_read_has_no_body(request_: Request[object], line: str, headers: dict[str, str]) -> None:
    assert (f"{request_.method} {request_.path}", request_.headers, request_.body) == (line, headers, b"")


@pytest.mark.parametrize(("request_", "line", "body"), BODIES)
def test_a_request_that_may_be_repeated_anyway_needs_no_key(request_: Request[object], line: str, body: object) -> None:
    assert (f"{request_.method} {request_.path}", request_.headers) == (line, JSON)
    assert msgspec.json.decode(request_.body) == body


@pytest.mark.parametrize(("request_", "line", "body"), CHANGES)
def test_a_change_has_a_key(request_: Request[object], line: str, body: object) -> None:
    assert f"{request_.method} {request_.path}" == line
    assert len(request_.headers["Idempotency-Key"]) == 36
    assert ("Content-Type" in request_.headers) == (body is not None)
    assert (msgspec.json.decode(request_.body) if request_.body else None) == body


def test_each_change_has_another_key() -> None:
    keys = {requests.cancel_job("j").headers["Idempotency-Key"] for _ in range(10)}
    assert len(keys) == 10


def test_the_key_of_the_caller_is_used() -> None:
    assert requests.create_job(1, None, None, "mine", {}).headers["Idempotency-Key"] == "mine"


def test_a_worker_sends_the_token_of_its_lease() -> None:
    for request in (
        requests.heartbeat("j", "1-x"),
        requests.release("j", "1-x"),
        requests.update_job("j", b"{}", token="1-x"),
    ):
        assert request.headers["Lease-Token"] == "1-x"


def test_a_long_poll_and_a_waiting_claim_have_time_for_their_wait() -> None:
    assert requests.poll_job("j", "", 30).timeout == requests.TIMEOUT + 30
    assert requests.claim_jobs(["q"], "ann", 60, 8, 20).timeout == requests.TIMEOUT + 20


def test_the_input_is_sent_byte_for_byte() -> None:
    text = b'{"b": 1.00, "a": 123456789012345678901234567890}'
    body = requests.create_job(msgspec.Raw(text), "j", None, None, {}).body
    assert body == b'{"job_id":"j","input_params":' + text + b"}"


def test_a_submission_passes_correlation_id_and_trace_context_on() -> None:
    request = requests.create_job(1, "j", None, None, {"correlation_id": "c-1", "traceparent": "00-1-2-01"})
    assert request.headers["X-Correlation-ID"] == "c-1"
    assert request.headers["traceparent"] == "00-1-2-01"
    assert msgspec.json.decode(request.body)["correlation_id"] == "c-1"
    assert b"traceparent" not in request.body


def test_a_correlation_id_that_is_no_header_is_in_the_body_only() -> None:
    request = requests.create_job(1, "j", None, None, {"correlation_id": "löp"})
    assert "X-Correlation-ID" not in request.headers
    assert msgspec.json.decode(request.body)["correlation_id"] == "löp"


def test_requests_about_a_job_carry_its_correlation_id_and_trace_context() -> None:
    assert trace_headers(record(correlation_id="c-1", traceparent="00-1-2-01")) == {
        "X-Correlation-ID": "c-1",
        "traceparent": "00-1-2-01",
    }
    assert trace_headers(record(correlation_id="löp")) == {}


@pytest.mark.parametrize("job_id", ["", ".", ".."])
def test_an_id_that_would_change_the_path_is_refused(job_id: str) -> None:
    with pytest.raises(ValueError, match="is not a job id"):
        requests.get_job(job_id)


@pytest.mark.parametrize("labels", [["tenant:acme"], "tenant:acme", {"n": 1}, {"n": None}, {1: "n"}])
def test_labels_of_a_list_must_be_texts(labels: Any) -> None:
    with pytest.raises(TypeError, match="labels"):
        requests.list_jobs(labels=labels)


def test_a_key_of_a_label_has_no_colon() -> None:
    with pytest.raises(ValueError, match="a:b"):
        requests.list_jobs(labels={"a:b": "c"})
