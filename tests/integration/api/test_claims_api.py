"""Claims and leases over HTTP; `test_leases.py` tests the store."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.timestamps import format_timestamp
from tests.helpers.background import Outcomes, in_background
from tests.helpers.deployments import sync_client
from tests.helpers.partitions import PARTITIONS, job_key
from tests.helpers.polling import wait_until
from tests.helpers.redis_servers import NewRedis, RedisServer
from tests.helpers.service_process import Service
from tests.integration.api.test_api import invalid

pytestmark = pytest.mark.usefixtures("consistent_store")


def create(api: httpx.Client, job_id: str = "j", **fields: Any) -> None:
    api.post("/v1/jobs", json={"job_id": job_id, "input_params": {"a": 1}, **fields}).raise_for_status()


def claim(api: httpx.Client, **fields: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Claim a job; return the body, and the headers that its worker sends."""
    response = api.post("/v1/claims", json={"queues": ["default"], "worker": "w-1", **fields})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body, {"Lease-Token": body["lease"]["token"]}


def test_a_worker_claims_and_completes_a_job(api: httpx.Client) -> None:
    create(api, correlation_id="c-1", slate_id="s")
    body, token = claim(api)
    assert (body["job"]["job_id"], body["job"]["status"], body["job"]["input_params"]) == ("j", "running", {"a": 1})
    assert body["job"]["correlation_id"] == "c-1", "a claim returns the correlation id"
    assert body["job"]["lease_expires_at"] == body["lease"]["expires_at"]

    sent = {"progress": {"current": 1, "total": 2}, "lease_seconds": 60}
    heartbeat = api.post("/v1/jobs/j/heartbeat", json=sent, headers=token)
    assert (heartbeat.status_code, heartbeat.json()["cancel_requested"]) == (200, False)
    assert heartbeat.json()["lease_expires_at"] > body["lease"]["expires_at"]
    done = api.patch("/v1/jobs/j", json={"status": "completed", "result": [1]}, headers=token)
    assert (done.status_code, done.json()["status"], done.json()["worker"]) == (200, "completed", "w-1")
    assert api.get("/v1/jobs/j/result").json() == [1]


def test_a_claim_from_an_empty_queue_returns_204(api: httpx.Client) -> None:
    response = api.post("/v1/claims", json={"queues": ["default"], "worker": "w"})
    assert (response.status_code, response.content) == (204, b"")


def test_a_claim_returns_the_traceparent_of_the_creation(api: httpx.Client) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    api.post("/v1/jobs", json={"input_params": 1}, headers={"traceparent": trace})
    body, _ = claim(api)
    assert body["job"]["traceparent"] == trace


def test_a_cancellation_request_reaches_the_worker_with_its_heartbeat(api: httpx.Client) -> None:
    create(api)
    _, token = claim(api)
    asked = api.post("/v1/jobs/j/cancel")
    assert (asked.status_code, asked.json()["status"]) == (202, "running")
    assert asked.json()["cancel_requested_at"]
    assert api.post("/v1/jobs/j/heartbeat", json={}, headers=token).json()["cancel_requested"] is True
    assert api.patch("/v1/jobs/j", json={"status": "cancelled"}, headers=token).status_code == 200
    assert api.post("/v1/jobs/j/cancel").status_code == 200


def test_a_change_without_the_lease_is_rejected_with_the_current_status(api: httpx.Client) -> None:
    create(api)
    claim(api)
    for headers in ({}, {"Lease-Token": "1-another"}):
        rejected = api.patch("/v1/jobs/j", json={"status": "completed"}, headers=headers)
        assert rejected.status_code == 409
        problem = rejected.json()
        assert problem["type"] == "urn:jobstate:problem:lease-lost"
        assert (problem["current_status"], problem["revision"]) == ("running", 2)


def test_a_release_with_an_error_counts_a_failed_attempt(api: httpx.Client) -> None:
    create(api, max_attempts=2)
    for status, failures in (("pending", 1), ("failed", 2)):
        _, token = claim(api)
        released = api.post("/v1/jobs/j/release", json={"error_message": {"why": "broken"}}, headers=token)
        assert (released.json()["status"], released.json()["failures"]) == (status, failures)
        assert released.json()["error_message"] == {"why": "broken"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"worker": "w"}, "queues"),
        ({"queues": [], "worker": "w"}, "queues"),
        ({"queues": ["a", "b c"], "worker": "w"}, "queues[1]"),
        ({"queues": ["a"]}, "worker"),
        ({"queues": ["a"], "worker": "w", "lease_seconds": 3601}, "lease_seconds"),
        ({"queues": ["a"], "worker": "w", "wait_seconds": 31}, "wait_seconds"),
        ({"queues": ["a"], "worker": "w", "color": 1}, "color"),
    ],
)
def test_a_claim_that_is_not_valid_names_the_field(api: httpx.Client, body: Any, field: str) -> None:
    response = api.post("/v1/claims", json=body)
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"content": b""},
        {"content": b"", "headers": {"Content-Type": "text/plain"}},
        {"json": {}},
        {"content": b"null\n"},
    ],
    ids=["missing", "empty", "empty text", "no fields", "null"],
)
def test_a_request_that_needs_no_field_needs_no_body(api: httpx.Client, sent: dict[str, Any]) -> None:
    create(api)
    body, token = claim(api)
    api.put("/v1/queues/default", json={"paused": True, "max_running": 3}).raise_for_status()

    def asked(method: str, path: str) -> Any:
        response = api.request(method, path, **sent | {"headers": sent.get("headers", {}) | token})
        assert response.status_code == 200, response.text
        return response.json()

    assert asked("POST", "/v1/jobs/j/heartbeat")["lease_expires_at"] > body["lease"]["expires_at"]
    assert asked("POST", "/v1/jobs/j/release")["status"] == "pending"
    settings = asked("PUT", "/v1/queues/default")
    assert (settings["paused"], settings["max_running"]) == (True, 3)
    assert asked("POST", "/v1/drain")["draining"] is True
    assert asked("POST", "/v1/jobs/j/cancel")["status"] == "cancelled"
    api.put("/v1/queues/default", json={"paused": None, "max_running": None}).raise_for_status()
    api.delete("/v1/drain").raise_for_status()


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/claims", "/v1/batch-claim", "/v1/batch-get"])
def test_a_request_that_needs_a_field_needs_a_body(api: httpx.Client, path: str) -> None:
    for headers in ({}, {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}):
        rejected = api.post(path, content=b"", headers=headers)
        assert (rejected.status_code, rejected.json()["errors"][0]["field"]) == (400, "body"), rejected.text


@pytest.mark.parametrize("content", [b"[]", b" ", b"{"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/jobs/j/heartbeat"),
        ("POST", "/v1/jobs/j/release"),
        ("POST", "/v1/jobs/j/cancel"),
        ("PUT", "/v1/queues/q"),
        ("POST", "/v1/drain"),
    ],
)
def test_an_optional_body_must_be_an_object_if_it_is_sent(
    api: httpx.Client, method: str, path: str, content: bytes
) -> None:
    rejected = api.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert (rejected.status_code, rejected.json()["errors"][0]["field"]) == (400, "body"), rejected.text
    assert api.get("/v1/drain").json()["draining"] is False


def test_null_clears_a_setting_of_a_queue_and_absent_keeps_it(api: httpx.Client) -> None:
    def configured(**settings: Any) -> tuple[bool, int | None]:
        response = api.put("/v1/queues/q", json=settings)
        assert response.status_code == 200, response.text
        return response.json()["paused"], response.json().get("max_running")

    assert configured(paused=True) == (True, None)
    assert configured(max_running=2) == (True, 2)
    assert configured(paused=None) == (False, 2)
    assert configured(paused=True, max_running=None) == (True, None)
    assert configured(paused=False) == (False, None)
    assert api.get("/v1/queues").json() == {"items": []}


def test_a_queue_shows_its_demand_and_the_end_of_a_delay_without_any_worker(api: httpx.Client) -> None:
    nothing = api.get("/v1/queues/q")
    assert nothing.status_code == 200
    statuses = dict.fromkeys(("pending", "running", "completed", "failed", "cancelled"), 0)
    assert nothing.json() == {
        **{"queue": "q", "paused": False, "statuses": statuses, "delayed": 0, "leased": 0, "demand": 0}
    }
    api.post("/v1/jobs", json={"job_id": "j", "queue": "q", "input_params": 1, "delay_seconds": 1}).raise_for_status()

    wait_until(lambda: api.get("/v1/queues/q").json()["demand"] == 1, "the end of the delay in the demand")

    queue = api.get("/v1/queues/q").json()
    assert (queue["delayed"], queue["statuses"]["pending"], "oldest_due_seconds" in queue) == (0, 1, True)
    assert api.get("/v1/queues").json()["items"][0]["demand"] == 1


def test_a_wrong_name_of_a_queue_is_named(api: httpx.Client) -> None:
    for name in ("a%20b", "x" * 65):
        assert "1 to 64 characters" in invalid(api.get(f"/v1/queues/{name}"), "queue")["allowed"]


def test_a_queue_says_how_long_its_jobs_are_kept(api: httpx.Client) -> None:
    def configured(retention: Any) -> Any:
        response = api.put("/v1/queues/q", json={"retention_seconds": retention})
        assert response.status_code == 200, response.text
        return response.json().get("retention_seconds")

    assert configured({"completed": 3600, "failed": 86400}) == {"completed": 3600, "failed": 86400}
    assert configured({"completed": None}) == {"failed": 86400}
    assert configured({}) == {"failed": 86400}
    assert api.get("/v1/queues").json()["items"][0]["retention_seconds"] == {"failed": 86400}
    assert configured(None) is None
    assert api.get("/v1/queues").json() == {"items": []}


@pytest.mark.parametrize(
    ("retention", "field"),
    [
        ({"failed": 59}, "retention_seconds.failed"),
        ({"cancelled": "1 day"}, "retention_seconds.cancelled"),
        ({"pending": 60}, "retention_seconds.pending"),
        (60, "retention_seconds"),
    ],
)
def test_a_wrong_retention_of_a_queue_is_named(api: httpx.Client, retention: Any, field: str) -> None:
    response = api.put("/v1/queues/q", json={"paused": True, "retention_seconds": retention})
    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]
    assert api.get("/v1/queues").json() == {"items": []}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"paused": 1}, "paused"),
        ({"paused": "true"}, "paused"),
        ({"paused": True, "max_running": 0}, "max_running"),
        ({"paused": True, "max_running": 1_000_001}, "max_running"),
        ({"paused": True, "max_running": True}, "max_running"),
        ({"paused": True, "max_running": 1.0}, "max_running"),
        ({"paused": True, "cap": 1}, "cap"),
    ],
)
def test_an_invalid_setting_is_rejected_and_changes_nothing(
    api: httpx.Client, settings: dict[str, Any], field: str
) -> None:
    rejected = api.put("/v1/queues/q", json=settings)

    assert (rejected.status_code, rejected.json()["errors"][0]["field"]) == (400, field)
    assert api.get("/v1/queues").json() == {"items": []}


def test_an_expired_lease_requeues_the_job_and_is_logged(
    api: httpx.Client, shared_service: Service, redis_url: str
) -> None:
    create(api, max_attempts=2)
    _, token = claim(api, lease_seconds=5)
    started = time.monotonic()
    wait_until(lambda: api.get("/v1/jobs/j").json()["status"] == "pending", "the reaper")
    assert time.monotonic() - started > 4.5
    second, new_token = claim(api, worker="w-2")
    assert second["job"]["attempt"] == 2
    late = api.patch("/v1/jobs/j", json={"status": "completed", "result": "late"}, headers=token)
    assert late.json()["type"] == "urn:jobstate:problem:lease-lost"
    api.patch("/v1/jobs/j", json={"status": "completed", "result": "right"}, headers=new_token).raise_for_status()
    assert api.get("/v1/jobs/j/result").json() == "right"
    lines = [json.loads(line) for line in shared_service.log.splitlines()]
    assert [line["job_id"] for line in lines if line["event"] == "lease expired"][-1:] == ["j"]


def test_a_heartbeat_succeeds_while_redis_is_full(api: httpx.Client, redis_url: str) -> None:
    create(api)
    create(api, "another")
    _, token = claim(api)
    with sync_client(redis_url) as redis:
        redis.config_set("maxmemory", 1)
        try:
            assert api.post("/v1/claims", json={"queues": ["default"], "worker": "w"}).status_code == 503
            for body in ({}, {"progress": {"current": 1}}):
                assert api.post("/v1/jobs/j/heartbeat", json=body, headers=token).status_code == 200
        finally:
            redis.config_set("maxmemory", 0)
    assert api.get("/v1/jobs/j").json()["progress"] == {"current": 1}


def test_a_leases_key_of_an_unexpected_type_is_logged(
    api: httpx.Client, shared_service: Service, redis_url: str
) -> None:
    before = len(shared_service.log)
    with sync_client(redis_url) as redis:
        redis.set(PARTITIONS.first.leases, "foreign")
        try:
            wait_until(lambda: "reap failed" in shared_service.log[before:], "the log line")
        finally:
            redis.delete(PARTITIONS.first.leases)


def an_hour_passes(redis: Any) -> None:
    """Move the ends of all leases an hour into the past."""
    held = [(one, *held) for one in PARTITIONS for held in redis.zrange(one.leases, 0, -1, withscores=True)]
    for partition, job_id, ends in held:
        past = int(ends) - 3_600_000
        redis.zadd(partition.leases, {job_id: past})
        redis.hset(job_key(job_id), "lease_expires_at", format_timestamp(past * 1000))


def live_workers_keep_their_leases(new_redis: NewRedis, tmp_path: Path) -> None:
    apart = f"redis://127.0.0.1:{new_redis().port}/0"
    settings = {"REDIS_URL": apart, "SHUTDOWN_DRAIN_SECONDS": "1"}
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    with (
        Service(folders[0], **settings) as service,
        httpx.Client(base_url=service.url) as api,
        sync_client(apart, decode_responses=True) as redis,
    ):
        for job_id, most in (("kept", 1), ("again", 2), ("spent", 1), ("unwanted", 2)):
            create(api, job_id, max_attempts=most)
        tokens = {found["job"]["job_id"]: token for found, token in (claim(api) for _ in range(4))}
        api.post("/v1/jobs/unwanted/cancel").raise_for_status()
        service.kill()
        an_hour_passes(redis)

        service.start()
        with Service(folders[1], **settings):  # two replicas start; each job is reaped once
            assert {job["stale"] for job in api.get("/v1/jobs").json()["items"]} == {True}
            assert api.post("/v1/jobs/kept/heartbeat", json={}, headers=tokens["kept"]).status_code == 200
            wait_until(lambda: api.get("/v1/stats").json()["statuses"]["running"] == 1, "the reaper")

        found = {job["job_id"]: job for job in api.get("/v1/jobs").json()["items"]}
        assert {job_id: (job["status"], job["failures"], job["revision"]) for job_id, job in found.items()} == {
            "kept": ("running", 0, 2),
            "again": ("pending", 1, 3),
            "spent": ("failed", 1, 3),
            "unwanted": ("cancelled", 0, 4),
        }
        assert found["spent"]["error_message"]["type"] == "urn:jobstate:problem:lease-expired"
        done = {"status": "completed", "result": 1}
        assert api.patch("/v1/jobs/kept", json=done, headers=tokens["kept"]).status_code == 200
        late = api.patch("/v1/jobs/again", json=done, headers=tokens["again"])
        assert (late.status_code, late.json()["type"]) == (409, "urn:jobstate:problem:lease-lost")


def workers_have_time_for_a_heartbeat(new_redis: NewRedis, tmp_path: Path) -> None:
    def killed(redis: RedisServer, service: Service) -> Iterator[None]:
        redis.kill()
        yield
        redis.start()

    def silent(redis: RedisServer, service: Service) -> Iterator[None]:
        redis.send(signal.SIGSTOP)
        yield
        redis.send(signal.SIGCONT)

    def service_stood_still(redis: RedisServer, service: Service) -> Iterator[None]:
        service.process.send_signal(signal.SIGSTOP)
        yield
        service.process.send_signal(signal.SIGCONT)

    outages, services = [], []
    with ExitStack() as stack:
        for outage in (killed, silent, service_stood_still):
            redis, folder = new_redis(), tmp_path / outage.__name__
            folder.mkdir()
            url = f"redis://127.0.0.1:{redis.port}/0"
            service = stack.enter_context(Service(folder, REDIS_URL=url, SHUTDOWN_DRAIN_SECONDS="1"))
            outages.append(contextmanager(outage)(redis, service))
            services.append((outage.__name__, stack.enter_context(httpx.Client(base_url=service.url))))
        tokens = {}
        for name, api in services:  # once all have started, so that no lease ends before its outage
            create(api, "lives")
            create(api, "lost")
            _, tokens[name] = claim(api, lease_seconds=5)
            claim(api, lease_seconds=5)
        with ExitStack() as away:
            for one in outages:
                away.enter_context(one)
            time.sleep(7)  # longer than the leases
        time.sleep(5)  # the worker tries again no more often, and the services are older than 10 s by then
        heartbeat = {"lease_seconds": 60}
        heartbeats = [
            api.post("/v1/jobs/lives/heartbeat", json=heartbeat, headers=tokens[name]) for name, api in services
        ]
        assert [heartbeat.status_code for heartbeat in heartbeats] == [200] * len(services)
        for name, api in services:
            wait_until(lambda api=api: api.get("/v1/jobs/lost").json()["status"] == "failed", f"the reaper, {name}")
            assert api.get("/v1/jobs/lives").json()["status"] == "running", name


@pytest.fixture(scope="module", autouse=True)
def waiting(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """The outcomes of the last two tests."""
    with in_background(
        request,
        test_after_an_hour_without_a_service_only_live_workers_keep_their_leases=live_workers_keep_their_leases,
        test_after_an_outage_workers_have_time_for_a_heartbeat=workers_have_time_for_a_heartbeat,
    ) as outcomes:
        yield outcomes


def test_after_an_hour_without_a_service_only_live_workers_keep_their_leases(waiting: Outcomes) -> None:
    waiting["test_after_an_hour_without_a_service_only_live_workers_keep_their_leases"].result()


def test_after_an_outage_workers_have_time_for_a_heartbeat(waiting: Outcomes) -> None:
    waiting["test_after_an_outage_workers_have_time_for_a_heartbeat"].result()
