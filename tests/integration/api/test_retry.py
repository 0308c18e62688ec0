"""A retry over HTTP."""

import httpx
import pytest

from tests.integration.api.test_api import create, invalid, problem

pytestmark = pytest.mark.usefixtures("consistent_store")


def fail(api: httpx.Client, job_id: str = "j") -> None:
    create(api, job_id=job_id)
    body = {"status": "failed", "error_message": {"code": 7}}
    api.patch(f"/v1/jobs/{job_id}", json=body).raise_for_status()


def test_a_retried_job_is_pending_and_its_history_keeps_the_error(api: httpx.Client) -> None:
    fail(api)

    response = api.post("/v1/jobs/j/retry")

    assert response.status_code == 200
    record = response.json()
    assert (record["status"], record["revision"], record["failures"]) == ("pending", 3, 0)
    assert {"error_message", "finished_at", "result"} & set(record) == set()
    assert response.headers["ETag"] == api.get("/v1/jobs/j").headers["ETag"]
    items = api.get("/v1/jobs/j/history").json()["items"]
    assert [(item["change"], item.get("attempt"), item.get("error")) for item in items] == [
        *(("created", None, None), ("failed", None, '{"code":7}'), ("retried", None, None))
    ]


def test_a_retry_takes_attempts_a_priority_and_a_delay(api: httpx.Client) -> None:
    fail(api)
    record = api.post("/v1/jobs/j/retry", json={"max_attempts": 5, "priority": -9, "delay_seconds": 60}).json()
    assert (record["max_attempts"], record["priority"], "available_at" in record) == (5, -9, True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"max_attempts": 0}, "max_attempts"),
        ({"priority": 86_401}, "priority"),
        ({"delay_seconds": "1"}, "delay_seconds"),
        ({"status": "x"}, "status"),
    ],
)
def test_a_wrong_field_is_named(api: httpx.Client, body: dict[str, object], field: str) -> None:
    fail(api)
    invalid(api.post("/v1/jobs/j/retry", json=body), field)
    assert api.get("/v1/jobs/j").json()["status"] == "failed"


def test_a_retry_is_repeated_under_its_key(api: httpx.Client) -> None:
    fail(api)
    first, second = (api.post("/v1/jobs/j/retry", headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.content, first.headers["ETag"]) == (second.content, second.headers["ETag"])
    other = api.post("/v1/jobs/j/retry", json={"max_attempts": 2}, headers={"Idempotency-Key": "k"})
    problem(other, 422, "idempotency-key-reused")


def test_a_retry_is_refused_for_its_status_and_its_version(api: httpx.Client) -> None:
    problem(api.post("/v1/jobs/j/retry"), 404, "job-not-found")
    create(api, job_id="j")
    problem(api.post("/v1/jobs/j/retry"), 409, "illegal-transition")
    api.post("/v1/jobs/j/cancel").raise_for_status()
    problem(api.post("/v1/jobs/j/retry", headers={"If-Match": '"1-1"'}), 412, "precondition-failed")
    etag = api.get("/v1/jobs/j").headers["ETag"]
    assert api.post("/v1/jobs/j/retry", headers={"If-Match": etag}).status_code == 200


def test_the_stream_of_a_job_that_had_ended_may_be_opened_again(api: httpx.Client) -> None:
    fail(api)
    assert api.get("/v1/jobs/j/events").status_code == 200
    api.post("/v1/jobs/j/retry").raise_for_status()

    with api.stream("GET", "/v1/jobs/j/events") as stream:
        lines = stream.iter_lines()
        first = next(line for line in lines if line.startswith("data:"))
        assert '"status":"pending"' in first
        api.post("/v1/jobs/j/cancel").raise_for_status()
        last = next(line for line in lines if line.startswith("data:"))
        assert '"status":"cancelled"' in last


def test_all_events_tell_a_retry_as_changed(api: httpx.Client) -> None:
    fail(api)
    with api.stream("GET", "/v1/events") as stream:
        lines = stream.iter_lines()
        next(line for line in lines if line == "event: hello")
        next(line for line in lines if line.startswith("data:"))
        api.post("/v1/jobs/j/retry").raise_for_status()
        event = next(line for line in lines if line.startswith("event:"))
        data = next(line for line in lines if line.startswith("data:"))
    assert event == "event: changed"
    assert '"status":"pending"' in data
