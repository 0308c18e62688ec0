"""`POST /v1/batch-claim`; `test_claim_jobs.py` tests the store."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.cluster_clients import hold_scripts
from tests.helpers.deployments import sync_client
from tests.helpers.partitions import job_key
from tests.helpers.polling import wait_until
from tests.helpers.redis_servers import RedisServer
from tests.helpers.service_process import Service
from tests.integration.server.test_limits import connect
from tests.integration.store.events.test_claim_waiter import calls, create, waits

pytestmark = pytest.mark.usefixtures("consistent_store")

CLAIM = {"queues": ["default"], "worker": "w", "max_jobs": 8}
SendClaim = Callable[..., Future[httpx.Response]]


@pytest.fixture
def send_claim(api: httpx.Client) -> Iterator[SendClaim]:
    """Send a waiting claim from a thread."""
    with ThreadPoolExecutor(8) as pool:

        def send_claim(seconds: int = 20, **fields: Any) -> Future[httpx.Response]:
            body = CLAIM | {"wait_seconds": seconds} | fields
            return pool.submit(api.post, "/v1/batch-claim", json=body, timeout=40)

        yield send_claim


def claim(api: httpx.Client, key: str | None = None, **fields: Any) -> list[dict[str, Any]]:
    headers = {} if key is None else {"Idempotency-Key": key}
    response = api.post("/v1/batch-claim", json=CLAIM | fields, headers=headers)
    assert response.status_code == 200, response.text
    return list(response.json()["items"])


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["job"]["job_id"] for item in items]


def statuses(api: httpx.Client) -> dict[str, str]:
    return {job["job_id"]: job["status"] for job in api.get("/v1/jobs").json()["items"]}


def test_a_worker_claims_several_jobs_and_completes_each_under_its_own_lease(api: httpx.Client) -> None:
    for number in range(5):
        create(api, f"j{number}", queue="other" if number % 2 else "default")
    items = claim(api, queues=["default", "other"], max_jobs=4, lease_seconds=60)

    assert ids(items) == ["j0", "j1", "j2", "j3"]
    for item in items:
        assert set(item) == {"job", "lease"}
        assert (item["job"]["status"], item["job"]["input_params"]) == ("running", 1)
        assert (item["job"]["worker"], item["job"]["lease_seconds"]) == ("w", 60)
        assert item["job"]["lease_expires_at"] == item["lease"]["expires_at"]
    foreign = {"Lease-Token": items[1]["lease"]["token"]}
    rejected = api.patch("/v1/jobs/j0", json={"status": "completed"}, headers=foreign)
    assert rejected.json()["type"] == "urn:jobstate:problem:lease-lost"
    for item in items:
        path, token = f"/v1/jobs/{item['job']['job_id']}", {"Lease-Token": item["lease"]["token"]}
        assert api.patch(path, json={"status": "completed"}, headers=token).status_code == 200


def test_without_a_due_job_it_returns_204(api: httpx.Client) -> None:
    response = api.post("/v1/batch-claim", json=CLAIM)
    assert (response.status_code, response.content) == (204, b"")


def test_max_running_and_paused_queues_count_for_each_job(api: httpx.Client) -> None:
    for number in range(3):
        for queue in ("capped", "paused"):
            create(api, f"{queue}-{number}", queue=queue)
    api.put("/v1/queues/capped", json={"max_running": 2}).raise_for_status()
    api.put("/v1/queues/paused", json={"paused": True}).raise_for_status()

    assert ids(claim(api, queues=["capped", "paused"])) == ["capped-0", "capped-1"]
    assert api.post("/v1/batch-claim", json=CLAIM | {"queues": ["capped", "paused"]}).status_code == 204


def test_the_response_ends_at_8_mib(api: httpx.Client, redis_url: str) -> None:
    with sync_client(redis_url) as client:
        for number in range(4):
            create(api, f"j{number}")
            large = json.dumps("x" * (3 * 1024 * 1024))  # more than the service of the tests accepts
            client.hset(job_key(f"j{number}"), "input_params", large)

    assert [ids(claim(api)) for _ in range(2)] == [["j0", "j1"], ["j2", "j3"]]


def test_its_repetition_returns_the_jobs_that_are_still_held(api: httpx.Client) -> None:
    for number in range(4):
        create(api, f"j{number}")
    first = claim(api, "k", max_jobs=2)
    assert claim(api, "k", max_jobs=2) == first
    assert claim(api, "k", max_jobs=2, wait_seconds=1) == first, "the wait is not a part of the content"

    def finish(item: dict[str, Any]) -> None:
        token = {"Lease-Token": item["lease"]["token"]}
        api.patch(f"/v1/jobs/{item['job']['job_id']}", json={"status": "completed"}, headers=token).raise_for_status()

    finish(first[0])
    assert claim(api, "k", max_jobs=2) == first[1:]
    finish(first[1])
    assert ids(claim(api, "k", max_jobs=2)) == ["j2", "j3"], "none is held: a new claim"


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("/v1/batch-claim", {"max_jobs": 3}),
        ("/v1/batch-claim", {"worker": "another"}),
        ("/v1/batch-claim", {"lease_seconds": 60}),
        ("/v1/batch-claim", {"queues": ["default", "other"]}),
        ("/v1/claims", {}),
    ],
)
def test_its_key_with_other_content_is_rejected(api: httpx.Client, path: str, other: dict[str, Any]) -> None:
    for number in range(6):
        create(api, f"j{number}")
    claim(api, "k", max_jobs=2)
    body = CLAIM | {"max_jobs": 2} | other
    if path == "/v1/claims":
        del body["max_jobs"]

    rejected = api.post(path, json=body, headers={"Idempotency-Key": "k"})

    assert (rejected.status_code, rejected.json()["type"]) == (422, "urn:jobstate:problem:idempotency-key-reused")
    assert list(statuses(api).values()).count("running") == 2


@pytest.mark.parametrize(
    ("wrong", "field", "allowed"),
    [
        ({"max_jobs": None}, "max_jobs", "an integer from 1 to 100"),
        ({"max_jobs": 0}, "max_jobs", "an integer from 1 to 100"),
        ({"max_jobs": 101}, "max_jobs", "an integer from 1 to 100"),
        ({"max_jobs": "8"}, "max_jobs", "an integer from 1 to 100"),
        ({"max_jobs": 8.0}, "max_jobs", "an integer from 1 to 100"),
        ({"queues": []}, "queues", "1 to 100 queues"),
        ({"queues": ["a", "b c"]}, "queues[1]", "letters"),
        ({"worker": ""}, "worker", "bytes"),
        ({"lease_seconds": 4}, "lease_seconds", "an integer from 5 to 3600"),
        ({"wait_seconds": 31}, "wait_seconds", "an integer from 0 to 30"),
        ({"color": 1}, "color", ""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_invalid_is_rejected_with_its_field_and_claims_nothing(
    api: httpx.Client, wrong: dict[str, Any], field: str, allowed: str
) -> None:
    create(api, "j")
    rejected = api.post("/v1/batch-claim", json=CLAIM | wrong)

    assert rejected.status_code == 400
    [error] = rejected.json()["errors"]
    assert error["field"] == field
    assert allowed in error.get("allowed", "")
    assert statuses(api) == {"j": "pending"}


def test_max_jobs_is_required(api: httpx.Client) -> None:
    rejected = api.post("/v1/batch-claim", json={"queues": ["default"], "worker": "w"})
    assert (rejected.status_code, rejected.json()["errors"][0]["field"]) == (400, "max_jobs")


def test_a_single_claim_has_no_max_jobs(api: httpx.Client) -> None:
    rejected = api.post("/v1/claims", json=CLAIM)
    assert (rejected.status_code, rejected.json()["errors"][0]["field"]) == (400, "max_jobs")


def test_it_waits_for_the_first_job_without_polling(api: httpx.Client, send_claim: SendClaim) -> None:
    waiting = send_claim()
    waits(api, 1)
    before = calls(api)
    time.sleep(1.5)
    assert calls(api) - before <= 1
    create(api, "j")
    assert ids(waiting.result(15).json()["items"]) == ["j"]


def test_a_resumed_queue_gives_a_waiting_claim_all_its_jobs(api: httpx.Client, send_claim: SendClaim) -> None:
    api.put("/v1/queues/default", json={"paused": True}).raise_for_status()
    for number in range(3):
        create(api, f"j{number}")
    waiting = send_claim()
    waits(api, 1)
    api.put("/v1/queues/default", json={"paused": False}).raise_for_status()
    assert ids(waiting.result(15).json()["items"]) == ["j0", "j1", "j2"]


def test_a_drain_rejects_claims_but_not_their_repetition(api: httpx.Client, send_claim: SendClaim) -> None:
    create(api, "j")
    first = claim(api, "k")
    waiting = send_claim()
    waits(api, 1)
    api.post("/v1/drain", json={"seconds": 60}).raise_for_status()
    try:
        assert claim(api, "k") == first
        for rejected in (waiting.result(15), api.post("/v1/batch-claim", json=CLAIM)):
            assert (rejected.status_code, rejected.json()["type"]) == (503, "urn:jobstate:problem:draining")
            assert int(rejected.headers["retry-after"]) > 0
    finally:
        api.delete("/v1/drain").raise_for_status()


def request_bytes(**fields: Any) -> bytes:
    body = json.dumps(CLAIM | fields).encode()
    head = "\r\n".join(
        (
            "POST /v1/batch-claim HTTP/1.1",
            "Host: localhost",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
    )
    return f"{head}\r\n\r\n".encode() + body


def test_a_client_that_left_while_it_waited_gets_no_jobs(api: httpx.Client, shared_service: Service) -> None:
    with connect(shared_service) as connection:
        connection.sendall(request_bytes(wait_seconds=30))
        waits(api, 1)
    waits(api, 0)
    create(api, "j")
    assert statuses(api) == {"j": "pending"}


def test_a_client_that_left_gives_back_all_the_jobs_that_were_claimed_for_it(
    api: httpx.Client, shared_service: Service, redis_url: str
) -> None:
    for number in range(20):
        create(api, f"j{number}")
    with sync_client(redis_url) as client:
        hold_scripts(client)  # the claim runs when its client has left
        with connect(shared_service) as connection:
            connection.sendall(request_bytes(max_jobs=20))
            wait_until(lambda: hold_scripts(client), "the script of the claim")
            time.sleep(0.1)
    wait_until(lambda: api.get("/v1/jobs").status_code == 200, "the end of the hold")
    wait_until(
        lambda: [job["attempt"] for job in api.get("/v1/jobs").json()["items"]] == [1] * 20, "the claim of the client"
    )
    wait_until(lambda: set(statuses(api).values()) == {"pending"}, "the release of all jobs")
    assert {job["failures"] for job in api.get("/v1/jobs").json()["items"]} == {0}
    assert ids(claim(api, max_jobs=3)) == ["j0", "j1", "j2"], "in their order"


def test_a_repetition_with_the_key_keeps_the_jobs_of_a_client_that_left(api: httpx.Client, redis_url: str) -> None:
    for number in range(3):
        create(api, f"j{number}")
    with sync_client(redis_url) as client:
        client.client_pause(800)
        with pytest.raises(httpx.TimeoutException):
            api.post("/v1/batch-claim", json=CLAIM, headers={"Idempotency-Key": "k"}, timeout=0.3)
    items = claim(api, "k")
    time.sleep(0.5)
    assert ids(items) == ["j0", "j1", "j2"]
    for item in items:
        token = {"Lease-Token": item["lease"]["token"]}
        assert api.post(f"/v1/jobs/{item['job']['job_id']}/heartbeat", json={}, headers=token).status_code == 200


def test_a_shutdown_ends_a_waiting_claim_and_the_metrics_count_each_job(
    new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    url = f"redis://127.0.0.1:{new_redis().port}/0"
    with (
        Service(tmp_path, REDIS_URL=url, SHUTDOWN_DRAIN_SECONDS="0") as service,
        httpx.Client(base_url=service.url) as api,
        ThreadPoolExecutor(1) as pool,
    ):
        for number in range(3):
            create(api, f"j{number}")
        claim(api)
        assert 'jobstate_job_changes_total{change="running"} 3.0' in api.get("/metrics").text
        waiting = pool.submit(
            httpx.post, f"{service.url}/v1/batch-claim", json=CLAIM | {"wait_seconds": 30}, timeout=40
        )
        waits(api, 1)
        service.process.terminate()
        rejected = waiting.result(15)
    assert (rejected.status_code, rejected.json()["type"]) == (503, "urn:jobstate:problem:draining")
