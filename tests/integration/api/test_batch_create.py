"""`POST /v1/batch-create`; `test_batch_creation.py` tests the store."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.deployments import sync_client
from tests.helpers.partitions import job_key
from tests.helpers.service_process import Service
from tests.integration.api.test_api import invalid, problem

pytestmark = pytest.mark.usefixtures("consistent_store")

BATCH = "/v1/batch-create"
#: Every field of a creation but its id.
FIELDS: dict[str, Any] = {
    **{"queue": "q", "slate_id": "s", "correlation_id": "c", "scenario_count": 2**53 - 1, "max_attempts": 4},
    **{"retry_delay_seconds": 7, "delay_seconds": 60, "run_timeout_seconds": 600, "start_timeout_seconds": 60},
    **{"retention_seconds": 3600, "labels": {"tenant": "acmé", "site": "a:b"}, "priority": -60},
}


def send(api: httpx.Client, *jobs: dict[str, Any], key: str | None = None) -> list[dict[str, Any]]:
    headers = {} if key is None else {"Idempotency-Key": key}
    response = api.post(BATCH, json={"jobs": jobs}, headers=headers)
    assert response.status_code == 200, response.text
    return list(response.json()["items"])


def names(items: list[dict[str, Any]]) -> list[str]:
    """Return the name of the problem of each item, empty for none."""
    return [item.get("problem", {"type": ""})["type"].rpartition(":")[2] for item in items]


def test_jobs_are_created_in_the_order_of_the_request(api: httpx.Client) -> None:
    items = send(api, *({"job_id": f"j{number}", "input_params": number} for number in range(250)))

    assert [(item["job"]["job_id"], item["replayed"]) for item in items] == [(f"j{n}", False) for n in range(250)]
    assert all("input_params" not in item["job"] for item in items)
    assert api.get("/v1/stats").json()["statuses"]["pending"] == 250
    assert api.get("/v1/jobs/j249").json()["input_params"] == 249


def test_a_job_of_a_batch_is_as_one_of_a_request_of_its_own(api: httpx.Client) -> None:
    [item] = send(api, {"job_id": "of-batch", "input_params": {"n": 1}, **FIELDS})
    api.post("/v1/jobs", json={"job_id": "alone", "input_params": {"n": 1}, **FIELDS}).raise_for_status()

    first, second = (api.get(f"/v1/jobs/{job_id}").json() for job_id in ("of-batch", "alone"))
    assert item["job"] == {name: value for name, value in first.items() if name != "input_params"}
    changing = {"job_id", *(name for name in first if name.endswith("_at"))}
    assert {name: value for name, value in first.items() if name not in changing} == {
        name: value for name, value in second.items() if name not in changing
    }
    assert first.keys() == second.keys()
    assert api.get("/v1/jobs/of-batch/history").json()["items"][0]["change"] == "created"
    listed = api.get("/v1/jobs?label=tenant:acmé&slate_id=s").json()["items"]
    assert [job["job_id"] for job in listed] == ["alone", "of-batch"]


def test_the_input_is_kept_as_it_was_sent(api: httpx.Client) -> None:
    sent = '{"n": 12345678901234567890, "x": 1.0, "a":1,"a":2, "é": "\\u00e9"}'
    body = '{"jobs": [{"job_id": "j", "input_params": ' + sent + "}]}"
    api.post(BATCH, content=body.encode(), headers={"Content-Type": "application/json"}).raise_for_status()
    assert sent.encode() in api.get("/v1/jobs/j").content


def test_a_repetition_under_its_key_creates_nothing(api: httpx.Client) -> None:
    jobs = [{"input_params": number} for number in range(3)]
    first, second = send(api, *jobs, key="k"), send(api, *jobs, key="k")

    assert [item["replayed"] for item in first + second] == [False] * 3 + [True] * 3
    assert [item["job"] for item in first] == [item["job"] for item in second]
    assert api.get("/v1/stats").json()["statuses"]["pending"] == 3
    others = send(api, *jobs[:2], {"input_params": "other"}, {"input_params": 3}, key="k")
    assert names(others) == ["", "", "idempotency-key-reused", ""]
    assert api.get("/v1/stats").json()["statuses"]["pending"] == 4


def test_a_replay_has_no_large_fields(api: httpx.Client) -> None:
    send(api, {"job_id": "j", "input_params": "x" * 1000})
    api.patch("/v1/jobs/j", json={"status": "running"}).raise_for_status()
    api.patch("/v1/jobs/j", json={"status": "completed", "result": "y" * 1000}).raise_for_status()
    [item] = send(api, {"job_id": "j", "input_params": "x" * 1000})
    assert (item["replayed"], item["job"]["status"]) == (True, "completed")
    assert {"input_params", "result", "error_message"} & set(item["job"]) == set()
    assert api.get("/v1/jobs/j").json()["result"] == "y" * 1000


def test_a_field_that_comes_twice_is_no_error_of_the_service(api: httpx.Client) -> None:
    body = b'\xef\xbb\xbf{"jobs": [{"input_params": 1, "labels": {"a": 7}}], "jobs": []}'
    response = api.post(BATCH, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text


def test_without_a_key_each_batch_creates_new_jobs(api: httpx.Client) -> None:
    items = [*send(api, {"input_params": 1}), *send(api, {"input_params": 1}, {"input_params": 1})]
    assert len({item["job"]["job_id"] for item in items}) == 3


def test_a_job_that_exists_refuses_no_other(api: httpx.Client) -> None:
    send(api, {"job_id": "a", "input_params": 1})
    items = send(
        *(api, {"job_id": "a", "input_params": 2}, {"job_id": "b", "input_params": 1}),
        *({"job_id": "b", "input_params": 1}, {"job_id": "b", "input_params": 2}, {"job_id": "a", "input_params": 1}),
    )
    assert names(items) == ["job-exists", "", "", "job-exists", ""]
    assert [item.get("replayed") for item in items] == [None, False, True, None, True]
    refused = items[0]["problem"]
    assert (refused["status"], refused["current_status"], refused["revision"]) == (409, "pending", 1)
    assert refused["correlation_id"]


@pytest.mark.parametrize(
    ("jobs", "field"),
    [
        ([{"input_params": 1}, {"input_params": 1, "queue": "a b"}], "jobs[1].queue"),
        ([{"input_params": 1}, {"input_params": 1, "queue": 7}], "jobs[1].queue"),
        ([{"input_params": 1}, {"input_params": 1, "colour": 7}], "jobs[1].colour"),
        ([{"input_params": 1}, {"queue": "q"}], "jobs[1].input_params"),
        ([{"input_params": 1}, {"input_params": 1, "job_id": "a b"}], "jobs[1].job_id"),
        ([{"input_params": 1}, {"input_params": 1, "labels": {"A": "b"}}], "jobs[1].labels"),
        ([{"input_params": 1}, {"input_params": 1, "labels": {"a": 7}}], "jobs[1].labels.a"),
        ([{"input_params": 1}, {"input_params": 1, "priority": 86_401}], "jobs[1].priority"),
        ([], "jobs"),
        ([{"input_params": 1}] * 1001, "jobs"),
        ({"input_params": 1}, "jobs"),
    ],
)
def test_a_wrong_field_refuses_all_jobs_and_is_named(api: httpx.Client, jobs: Any, field: str) -> None:
    response = api.post(BATCH, json={"jobs": jobs})
    invalid(response, field)
    assert api.get("/v1/stats").json()["statuses"]["pending"] == 0


def test_a_wrong_key_is_named(api: httpx.Client) -> None:
    response = api.post(BATCH, json={"jobs": [{"input_params": 1}]}, headers={"Idempotency-Key": "a b"})
    invalid(response, "Idempotency-Key")


def test_a_body_may_have_8_mib(api: httpx.Client) -> None:
    def batch(size: int) -> httpx.Response:
        jobs = [{"job_id": f"{size}-{number}", "input_params": "x" * (size // 5)} for number in range(5)]
        return api.post(BATCH, content=json.dumps({"jobs": jobs}), headers={"Content-Type": "application/json"})

    assert names(batch(8_000_000).raise_for_status().json()["items"]) == [""] * 5
    assert "`MAX_BATCH_BYTES`" in problem(batch(9_000_000), 413, "content-too-large")["detail"]
    large = api.post("/v1/jobs", json={"input_params": "x" * 2_000_000})
    assert "`MAX_BODY_BYTES`" in problem(large, 413, "content-too-large")["detail"]


def test_a_drain_refuses_the_whole_batch(api: httpx.Client) -> None:
    api.post("/v1/drain", json={"seconds": 60}).raise_for_status()
    response = api.post(BATCH, json={"jobs": [{"input_params": 1}] * 3})
    problem(response, 503, "draining")
    assert 0 < int(response.headers["retry-after"]) <= 60


@pytest.mark.corrupts_keys
def test_a_key_of_another_program_refuses_its_job_alone(api: httpx.Client, redis_url: str) -> None:
    with sync_client(redis_url) as client:
        client.set(job_key("b"), "foreign", ex=600)
        try:
            items = send(api, *({"job_id": job_id, "input_params": 1} for job_id in "abc"))
        finally:
            client.delete(job_key("b"))
    assert names(items) == ["", "store-corrupt", ""]
    assert job_key("b") in items[1]["problem"]["detail"]
    assert names(send(api, {"job_id": "b", "input_params": 1})) == [""]


JOB = {"input_params": 1, "queue": "limited"}


@contextlib.contextmanager
def limited(tmp_path: Path, redis_url: str, limit: str) -> Iterator[httpx.Client]:
    with (
        Service(tmp_path, REDIS_URL=redis_url, RATE_LIMIT=limit) as service,
        httpx.Client(base_url=service.url) as api,
    ):
        yield api


def test_the_rate_limit_counts_each_job(tmp_path: Path, redis_url: str) -> None:
    with limited(tmp_path, redis_url, "10/hour") as api:
        response = api.post(BATCH, json={"jobs": [JOB] * 6})
        assert response.headers["ratelimit"].startswith('"default";r=4;')
        refused = api.post(BATCH, json={"jobs": [JOB] * 5})
        problem(refused, 429, "rate-limited")
        assert int(refused.headers["retry-after"]) == 2 * 360, "for one of five jobs, and for the request itself"
        assert refused.headers["ratelimit"].startswith('"default";r=3;')
        response = api.post(BATCH, json={"jobs": [JOB] * 3})
        assert response.headers["ratelimit"].startswith('"default";r=0;')
    with limited(tmp_path, redis_url, "3/hour") as api:
        response = api.post(BATCH, json={"jobs": [JOB] * 4})
        assert "at most 3" in invalid(response, "jobs")["allowed"]
        assert api.get("/v1/queues/limited").json()["demand"] == 9
