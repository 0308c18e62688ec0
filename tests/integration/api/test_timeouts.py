"""Time-outs over HTTP, with a service whose reaper runs."""

from typing import Any

import httpx
import pytest

from service.domain.timestamps import parse_timestamp
from tests.helpers.polling import wait_until

pytestmark = pytest.mark.usefixtures("consistent_store")


def create(api: httpx.Client, **fields: Any) -> dict[str, Any]:
    response = api.post("/v1/jobs", json={"job_id": "j", "input_params": 1, **fields})
    assert response.status_code == 201, response.text
    return dict(response.json())


def claim(api: httpx.Client) -> tuple[dict[str, Any], dict[str, str]]:
    """Claim a job; return its record, and the headers that its worker sends."""
    response = api.post("/v1/claims", json={"queues": ["default"], "worker": "w"})
    assert response.status_code == 200, response.text
    return response.json()["job"], {"Lease-Token": response.json()["lease"]["token"]}


def is_after(deadline: str, start: str, seconds: int) -> bool:
    """Return whether a deadline is so many seconds after a time: it has whole milliseconds, the time has not."""
    return abs(parse_timestamp(deadline) - parse_timestamp(start) - seconds * 1_000_000) <= 1000


def ended(api: httpx.Client, status: str) -> dict[str, Any]:
    wait_until(lambda: api.get("/v1/jobs/j").json()["status"] == status, status)
    return dict(api.get("/v1/jobs/j").json())


def test_the_record_shows_the_deadlines_while_they_count(api: httpx.Client) -> None:
    created = create(api, run_timeout_seconds=600, start_timeout_seconds=60)
    assert (created["run_timeout_seconds"], created["start_timeout_seconds"]) == (600, 60)
    assert is_after(created["start_deadline_at"], created["created_at"], 60)
    assert "run_deadline_at" not in created

    job, token = claim(api)
    assert is_after(job["run_deadline_at"], job["started_at"], 600)
    assert "start_deadline_at" not in job
    heartbeat = api.post("/v1/jobs/j/heartbeat", headers=token).json()
    assert heartbeat["run_deadline_at"] == job["run_deadline_at"]

    done = api.patch("/v1/jobs/j", json={"status": "completed"}, headers=token).json()
    assert not {"run_deadline_at", "start_deadline_at"} & set(done)
    assert (done["run_timeout_seconds"], done["start_timeout_seconds"]) == (600, 60)


def test_a_job_without_timeouts_shows_none(api: httpx.Client) -> None:
    created = create(api)
    job, token = claim(api)
    heartbeat = api.post("/v1/jobs/j/heartbeat", headers=token).json()
    assert not [
        name for shown in (created, job, heartbeat) for name in shown if "timeout" in name or "deadline" in name
    ]


def test_a_batch_claim_shows_the_deadlines(api: httpx.Client) -> None:
    create(api, run_timeout_seconds=600)
    body = {"queues": ["default"], "worker": "w", "max_jobs": 2}
    [item] = api.post("/v1/batch-claim", json=body).json()["items"]
    assert is_after(item["job"]["run_deadline_at"], item["job"]["started_at"], 600)


@pytest.mark.parametrize(
    ("field", "maximum"), [("run_timeout_seconds", 604_800), ("start_timeout_seconds", 31_536_000)]
)
def test_a_wrong_timeout_names_the_field_and_what_is_allowed(api: httpx.Client, field: str, maximum: int) -> None:
    for value in (0, -1, maximum + 1, 1.5, "60", True):
        rejected = api.post("/v1/jobs", json={"job_id": "j", "input_params": 1, field: value})
        assert rejected.status_code == 400, value
        [error] = rejected.json()["errors"]
        assert (error["field"], error["allowed"]) == (field, f"an integer from 1 to {maximum}"), value
    assert api.get("/v1/jobs/j").status_code == 404
    create(api, **{field: maximum})


def test_an_attempt_ends_at_its_deadline_and_the_next_one_gets_its_own(api: httpx.Client) -> None:
    create(api, run_timeout_seconds=1, max_attempts=2)
    first, token = claim(api)

    job = ended(api, "pending")

    assert job["updated_at"] >= first["run_deadline_at"]
    assert (job["failures"], job["error_message"]["type"]) == (1, "urn:jobstate:problem:run-timeout")
    late = api.patch("/v1/jobs/j", json={"status": "completed"}, headers=token)
    assert (late.status_code, late.json()["type"]) == (409, "urn:jobstate:problem:lease-lost")
    second, _ = claim(api)
    assert is_after(second["run_deadline_at"], second["started_at"], 1)
    assert ended(api, "failed")["finished_at"] >= second["run_deadline_at"]
    history = api.get("/v1/jobs/j/history").json()["items"]
    assert [entry["attempt"] for entry in history if "run-timeout" in entry.get("error", "")] == [1, 2]


def test_a_job_that_nobody_starts_fails_at_its_deadline(api: httpx.Client) -> None:
    created = create(api, start_timeout_seconds=1, max_attempts=3)

    job = ended(api, "failed")

    assert job["finished_at"] >= created["start_deadline_at"]
    assert (job["attempt"], job["error_message"]["type"]) == (0, "urn:jobstate:problem:start-timeout")
    retried = api.post("/v1/jobs/j/retry", json={}).json()
    assert is_after(retried["start_deadline_at"], retried["updated_at"], 1)
