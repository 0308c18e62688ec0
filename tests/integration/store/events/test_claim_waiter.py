"""Waiting claims: what wakes them, and what happens if their client disconnects."""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.errors import StoreTimeout
from service.domain.events import Event, EventKind
from service.domain.jobs import Claim
from service.domain.shutdown import Shutdown
from service.domain.states import Status
from service.store.deadlines import REQUEST_TIMEOUT, TimeBudget, budget
from service.store.events.claim_waiter import ClaimWaiter, PendingClaim
from service.store.events.hub import EventHub
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from tests.helpers.background import Outcomes, in_background
from tests.helpers.cluster_clients import hold_scripts
from tests.helpers.deployments import sync_client
from tests.helpers.polling import free_port, wait_until
from tests.helpers.redis_servers import NewRedis
from tests.helpers.service_process import Service
from tests.integration.server.test_limits import connect

SendClaim = Callable[..., Future[httpx.Response]]


@pytest.fixture
def send_claim(api: httpx.Client) -> Iterator[SendClaim]:
    """Send a waiting claim from a thread."""
    with ThreadPoolExecutor(32) as pool:

        def send_claim(seconds: int = 20, queue: str = "default", **fields: Any) -> Future[httpx.Response]:
            body = {"queues": [queue, "another"], "worker": "w", "wait_seconds": seconds, **fields}
            return pool.submit(api.post, "/v1/claims", json=body, timeout=40)

        yield send_claim


def calls(api: httpx.Client) -> float:
    """Return how often the claim script has run."""
    lines = api.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith('jobstate_redis_command_duration_seconds_count{command="claim"')]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def waits(api: httpx.Client, claims: int) -> None:
    """Wait until this many claims are waiting."""
    now = "jobstate_http_requests_in_progress"

    def found() -> bool:
        [line] = [line for line in api.get("/metrics").text.splitlines() if line.startswith(now)]
        return float(line.rpartition(" ")[2]) == claims + 1

    wait_until(found, "the claims")
    time.sleep(0.1)


def create(api: httpx.Client, job_id: str, **fields: Any) -> None:
    api.post("/v1/jobs", json={"job_id": job_id, "input_params": 1, **fields}).raise_for_status()


def job_of(claim: Future[httpx.Response]) -> str:
    response = claim.result(15)
    assert response.status_code == 200, response.text
    return str(response.json()["job"]["job_id"])


def test_a_claim_waits_for_a_job_without_polling(api: httpx.Client, send_claim: SendClaim) -> None:
    claim = send_claim()
    waits(api, 1)
    before = calls(api)
    time.sleep(2.5)
    assert calls(api) - before <= 1
    create(api, "j")
    assert job_of(claim) == "j"


def test_a_claim_without_a_job_gets_204_after_its_wait(api: httpx.Client, send_claim: SendClaim) -> None:
    started = time.monotonic()
    assert send_claim(seconds=1).result(15).status_code == 204
    assert 0.9 < time.monotonic() - started < 10


def test_every_way_in_which_a_job_becomes_claimable_wakes_a_claim(api: httpx.Client, send_claim: SendClaim) -> None:
    """A delay that ends, a queue resumed, a finished job in a full queue, a released job."""
    create(api, "delayed", delay_seconds=1)
    assert job_of(send_claim()) == "delayed"

    api.put("/v1/queues/paused", json={"paused": True})
    create(api, "paused", queue="paused")
    claim = send_claim(queue="paused")
    waits(api, 1)
    api.put("/v1/queues/paused", json={"paused": False})
    assert job_of(claim) == "paused"

    api.put("/v1/queues/capped", json={"max_running": 1})
    for job_id in ("first", "second"):
        create(api, job_id, queue="capped")
    token = send_claim(queue="capped").result(15).json()["lease"]["token"]
    claim = send_claim(queue="capped")
    waits(api, 1)
    assert not claim.done()
    api.patch("/v1/jobs/first", json={"status": "completed"}, headers={"Lease-Token": token}).raise_for_status()
    token = claim.result(15).json()["lease"]["token"]

    claim = send_claim(queue="capped")
    waits(api, 1)
    api.post("/v1/jobs/second/release", json={}, headers={"Lease-Token": token}).raise_for_status()
    assert job_of(claim) == "second"


def test_each_of_many_waiting_claims_gets_a_job(api: httpx.Client, send_claim: SendClaim) -> None:
    claims = [send_claim() for _ in range(20)]
    waits(api, 20)
    for number in range(20):
        create(api, f"j{number}")
    assert sorted(map(job_of, claims)) == sorted(f"j{number}" for number in range(20))


def test_resuming_a_queue_wakes_a_claim_for_each_job(api: httpx.Client, send_claim: SendClaim) -> None:
    api.put("/v1/queues/paused", json={"paused": True})
    for job_id in ("a", "b"):
        create(api, job_id, queue="paused")
    claims = [send_claim(queue="paused") for _ in range(2)]
    waits(api, 2)
    api.put("/v1/queues/paused", json={"paused": False})
    assert sorted(map(job_of, claims)) == ["a", "b"]


async def test_an_event_is_not_lost_if_the_woken_claim_disconnects(
    hub: EventHub, shutdown: Shutdown, jobs: JobStateManager, leases: LeaseManager
) -> None:
    waiting = ClaimWaiter(hub, shutdown)
    leaving_claim, attempted, proceed = PendingClaim(["default"]), asyncio.Event(), asyncio.Event()

    async def claim_nothing() -> tuple[list[Claim], float | None]:
        attempted.set()
        await proceed.wait()
        return [], None

    def claim_job() -> Any:
        return leases.try_claim(["default"], "w", lease_seconds=30, claim_key=None)

    leaving = asyncio.create_task(waiting.claim(leaving_claim, 20, claim_nothing))
    await attempted.wait()
    staying = asyncio.create_task(waiting.claim(PendingClaim(["default"]), 20, claim_job))
    try:
        await asyncio.sleep(0.3)
        await jobs.create_job("j", 1)
        await asyncio.wait_for(leaving_claim.wakeup.wait(), 5)
        leaving_claim.disconnect()
        proceed.set()
        assert await asyncio.wait_for(leaving, 5) == []
        assert [claim.job.job_id for claim in await asyncio.wait_for(staying, 5)] == ["j"]
    finally:
        staying.cancel()


@pytest.mark.parametrize(
    ("kind", "status", "wakes"),
    [
        ("changed", "pending", True),
        ("changed", "completed", True),
        ("changed", "running", False),
        ("expired", "running", True),
        ("deleted", "failed", True),
    ],
)
async def test_only_events_that_may_free_a_job_wake_a_claim(
    hub: EventHub, shutdown: Shutdown, kind: str, status: str, wakes: bool
) -> None:
    waiting, pending, attempts = ClaimWaiter(hub, shutdown), PendingClaim(["q"]), 0

    async def claim_nothing() -> tuple[Claim | None, float | None]:
        nonlocal attempts
        attempts += 1
        return None, None

    claiming = asyncio.create_task(waiting.claim(pending, 20, claim_nothing))
    await hub.position()
    await asyncio.sleep(0.1)
    before = attempts
    hub.publish(
        [
            Event(
                position="1-1",
                kind=EventKind(kind),
                job_id="j",
                status=Status(status),
                revision=2,
                queue="q",
                created=1,
            )
        ]
    )
    await asyncio.sleep(0.1)
    pending.disconnect()
    await claiming
    assert (attempts > before) is wakes


async def test_a_claim_that_fails_wakes_the_next(hub: EventHub, shutdown: Shutdown) -> None:
    waiting, next_one = ClaimWaiter(hub, shutdown), PendingClaim(["q"])

    async def fail() -> tuple[Claim | None, float | None]:
        raise StoreTimeout("no answer")

    async def claim_nothing() -> tuple[Claim | None, float | None]:
        return None, None

    staying = asyncio.create_task(waiting.claim(next_one, 20, claim_nothing))
    await hub.position()
    await asyncio.sleep(0.1)
    with pytest.raises(StoreTimeout):
        await waiting.claim(PendingClaim(["q"]), 20, fail)
    assert next_one.wakeup.is_set()
    next_one.disconnect()
    await staying


async def test_each_attempt_of_a_claim_has_the_time_budget_of_a_request(hub: EventHub, shutdown: Shutdown) -> None:
    time_left: list[float] = []
    request_budget = TimeBudget()
    budget.set(request_budget)

    async def claim_slowly() -> tuple[Claim | None, float | None]:
        current = budget.get() or request_budget
        time_left.append(current.within(REQUEST_TIMEOUT))
        current.spend(REQUEST_TIMEOUT)
        return None, 0.1

    await ClaimWaiter(hub, shutdown).claim(PendingClaim(["default"]), 1, claim_slowly)
    budget.set(None)
    assert time_left[:3] == [REQUEST_TIMEOUT] * 3


def test_jobs_created_while_the_reader_reconnects_are_not_missed(
    api: httpx.Client, send_claim: SendClaim, redis_url: str
) -> None:
    claims = [send_claim() for _ in range(3)]
    waits(api, 3)
    with sync_client(redis_url) as client:
        for number in range(3):
            client.client_kill_filter(_type="normal", skipme=True)
            create(api, f"j{number}")
    assert sorted(map(job_of, claims)) == ["j0", "j1", "j2"]


def claim_request(wait_seconds: int) -> bytes:
    body = json.dumps({"queues": ["default"], "worker": "gone", "wait_seconds": wait_seconds}).encode()
    key = "Idempotency-Key: gone"  # with a key, an undelivered claim is not released
    lines = (
        "POST /v1/claims HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        *[key] * (wait_seconds > 0),
    )
    head = "\r\n".join((*lines, f"Content-Length: {len(body)}"))
    return f"{head}\r\n\r\n".encode() + body


def test_a_claim_whose_client_disconnected_gets_no_job(
    api: httpx.Client, shared_service: Service, send_claim: SendClaim
) -> None:
    with connect(shared_service) as connection:
        connection.sendall(claim_request(30))
        waits(api, 1)
    left = time.monotonic()
    waits(api, 0)
    assert time.monotonic() - left < 15, "long before the wait of the claim ends"
    create(api, "j")
    assert api.get("/v1/jobs/j").json()["status"] == "pending"
    assert job_of(send_claim()) == "j"


def test_a_claim_retried_with_its_key_keeps_the_job(api: httpx.Client, shared_service: Service, redis_url: str) -> None:
    create(api, "j")
    claim = {"queues": ["default"], "worker": "w"}
    with sync_client(redis_url) as client:
        client.client_pause(800)
        with pytest.raises(httpx.TimeoutException):
            api.post("/v1/claims", json=claim, headers={"Idempotency-Key": "k"}, timeout=0.3)
    again = api.post("/v1/claims", json=claim, headers={"Idempotency-Key": "k"})
    time.sleep(0.5)
    token = {"Lease-Token": again.json()["lease"]["token"]}
    assert api.post("/v1/jobs/j/heartbeat", json={}, headers=token).status_code == 200


def test_a_waiting_claim_fails_soon_when_redis_is_unavailable(tmp_path: Path) -> None:
    with Service(tmp_path, REDIS_URL=f"redis://127.0.0.1:{free_port()}/0", SHUTDOWN_DRAIN_SECONDS="0") as service:
        claim = {"queues": ["default"], "worker": "w", "wait_seconds": 20}
        rejected = httpx.post(f"{service.url}/v1/claims", json=claim, timeout=3.5)
    assert (rejected.status_code, rejected.json()["type"]) == (503, "urn:jobstate:problem:store-unreachable")


def test_a_delayed_job_wakes_a_longer_wait_after_a_shorter_one_has_ended(
    api: httpx.Client, send_claim: SendClaim
) -> None:
    short, long = send_claim(seconds=1), send_claim(seconds=15)
    waits(api, 2)
    create(api, "j", delay_seconds=3)
    started = time.monotonic()
    assert short.result(10).status_code == 204
    assert job_of(long) == "j"
    assert time.monotonic() - started < 10


def test_delayed_jobs_of_other_queues_do_not_make_claims_poll(api: httpx.Client, send_claim: SendClaim) -> None:
    claims = [send_claim(seconds=6) for _ in range(8)]
    waits(api, 8)
    for number in range(10):
        create(api, f"j{number}", queue="other", delay_seconds=1 + number % 3)
    before = calls(api)
    time.sleep(4)
    assert calls(api) - before <= 10
    assert {claim.result(15).status_code for claim in claims} == {204}


def test_a_job_claimed_after_the_client_disconnected_is_released(
    api: httpx.Client, shared_service: Service, redis_url: str
) -> None:
    create(api, "j")
    with sync_client(redis_url) as client, connect(shared_service) as connection:
        hold_scripts(client)
        connection.sendall(claim_request(0))
        wait_until(lambda: hold_scripts(client), "the script of the claim")
        time.sleep(0.1)
    wait_until(lambda: api.get("/v1/jobs/j").json()["attempt"] == 1, "the claim")
    wait_until(lambda: api.get("/v1/jobs/j").json()["status"] == "pending", "the release")
    assert api.get("/v1/jobs/j").json()["failures"] == 0


def test_a_drain_ends_waiting_claims_in_all_replicas(
    api: httpx.Client, send_claim: SendClaim, redis_url: str, tmp_path: Path
) -> None:
    claim = send_claim()
    waits(api, 1)
    with Service(tmp_path, REDIS_URL=redis_url) as replica:
        httpx.post(f"{replica.url}/v1/drain", json={"seconds": 60}).raise_for_status()
    rejected = claim.result(15)
    assert (rejected.status_code, rejected.json()["type"]) == (503, "urn:jobstate:problem:draining")
    assert 0 < int(rejected.headers["retry-after"]) <= 60
    assert api.get("/ready").status_code == 200, "the replica keeps serving"
    assert api.delete("/v1/drain").json()["draining"] is False
    create(api, "j")


@pytest.fixture
def service(spare_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service on a database of its own, without the reaper of another service."""
    with Service(tmp_path, REDIS_URL=spare_url, SHUTDOWN_DRAIN_SECONDS="20") as service:
        yield service


def lease(service: Service) -> dict[str, str]:
    httpx.post(f"{service.url}/v1/jobs", json={"job_id": "j", "input_params": 1}).raise_for_status()
    claim = httpx.post(f"{service.url}/v1/claims", json={"queues": ["default"], "worker": "w", "lease_seconds": 5})
    return {"Lease-Token": claim.json()["lease"]["token"]}


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]], ids=["Ctrl-C", "twice"])
def test_ctrl_c_and_a_second_signal_do_not_wait_for_leases(service: Service, numbers: list[signal.Signals]) -> None:
    token = lease(service)
    started = time.monotonic()
    for number in numbers:
        service.process.send_signal(number)
        time.sleep(0.5)
    service.process.wait(10)
    assert time.monotonic() - started < 4
    service.kill()
    service.start()
    done = httpx.patch(f"{service.url}/v1/jobs/j", json={"status": "completed"}, headers=token)
    assert done.status_code == 200, "the lease lives on in Redis"


@contextmanager
def draining(new_redis: NewRedis, folder: Path) -> Iterator[Service]:
    """A service that waits up to 20 s for leases when it stops."""
    url = f"redis://127.0.0.1:{new_redis().port}/0"
    with Service(folder, REDIS_URL=url, SHUTDOWN_DRAIN_SECONDS="20") as service:
        yield service


def leases_outlast_a_sigterm(new_redis: NewRedis, folder: Path) -> None:
    with draining(new_redis, folder) as service:
        token = lease(service)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                httpx.post,
                f"{service.url}/v1/claims",
                json={"queues": ["default"], "worker": "w", "wait_seconds": 30},
                timeout=40,
            )
            with httpx.Client(base_url=service.url) as api:
                waits(api, 1)
                service.process.send_signal(signal.SIGTERM)
                assert waiting.result(10).status_code == 503
                assert waiting.result().json()["type"] == "urn:jobstate:problem:draining"
        url = service.url
        assert httpx.get(f"{url}/ready").status_code == 503
        assert httpx.post(f"{url}/v1/claims", json={"queues": ["default"], "worker": "w"}).status_code == 503
        for _ in range(4):  # for longer than the lease
            time.sleep(1.5)
            assert httpx.post(f"{url}/v1/jobs/j/heartbeat", json={}, headers=token).status_code == 200
        done = httpx.patch(f"{url}/v1/jobs/j", json={"status": "completed", "result": 1}, headers=token)
        assert done.status_code == 200
        assert service.process.wait(10) == 0
        assert "shutdown leases released" in service.log


def leases_end_after_a_sigterm(new_redis: NewRedis, folder: Path) -> None:
    with draining(new_redis, folder) as service:
        lease(service)
        started = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(15) == 0
        assert 3 < time.monotonic() - started < 15


@pytest.fixture(scope="module", autouse=True)
def waiting(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """The outcomes of the last two tests."""
    with in_background(
        request,
        test_sigterm_waits_for_leases_and_keeps_serving_workers=leases_outlast_a_sigterm,
        test_sigterm_waits_no_longer_than_its_timeout_or_the_leases=leases_end_after_a_sigterm,
    ) as outcomes:
        yield outcomes


def test_sigterm_waits_for_leases_and_keeps_serving_workers(waiting: Outcomes) -> None:
    waiting["test_sigterm_waits_for_leases_and_keeps_serving_workers"].result()


def test_sigterm_waits_no_longer_than_its_timeout_or_the_leases(waiting: Outcomes) -> None:
    waiting["test_sigterm_waits_no_longer_than_its_timeout_or_the_leases"].result()
