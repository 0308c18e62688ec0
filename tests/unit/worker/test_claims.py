"""How a worker claims for its free slots, against a service in memory."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from jobstate import JobContext, Worker
from jobstate.worker.claims import ClaimLoop
from tests.helpers.records import LEASE, record_fields

PROBLEM = {"Content-Type": "application/problem+json"}


class MemoryService(httpx.AsyncBaseTransport):
    """Gives jobs in batches, and records what is sent."""

    def __init__(self, jobs: int) -> None:
        self.due = [f"j{number}" for number in range(jobs)]
        self.claims: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.ended: dict[str, str] = {}
        #: The jobs whose releases are rejected.
        self.lost: set[str] = set()
        #: Called before the response to a claim.
        self.before_response: Callable[[], Any] = lambda: asyncio.sleep(0)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path, body = request.url.path, json.loads(request.content or b"{}")
        if path == "/v1/batch-claim":
            return await self._claim(body, request.headers["Idempotency-Key"], request.extensions["trace"])
        job_id, _, action = path.removeprefix("/v1/jobs/").partition("/")
        if action == "release" and job_id in self.lost:
            problem = {"type": "urn:jobstate:problem:lease-lost", "title": "lost"}
            return httpx.Response(409, json=problem, headers=PROBLEM)
        await asyncio.sleep(int(job_id[1:]) % 8 / (20 if action else 1000))  # so that jobs do not end together
        self.ended[job_id] = action or body["status"]
        return httpx.Response(200, json=record_fields("completed", job_id=job_id))

    async def _claim(self, body: dict[str, Any], key: str, trace: Any) -> httpx.Response:
        self.claims.append(body)
        repeated = self.keys.count(key)
        self.keys.append(key)
        if not repeated:
            self.given, self.due = self.due[: body["max_jobs"]], self.due[body["max_jobs"] :]
        given = self.given
        await trace("http11.send_request_body.started", {})  # as httpx does
        await self.before_response()
        items = [{"job": record_fields("running", job_id=job_id), "lease": LEASE} for job_id in given]
        return httpx.Response(200, json={"items": items}) if items else httpx.Response(204)

    @property
    def asked(self) -> list[int]:
        """How many jobs each claim asked for."""
        return [claim["max_jobs"] for claim in self.claims]


@pytest.fixture
def long_claim_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A free slot waits until the other jobs have ended, however slow the machine is."""
    monkeypatch.setattr("jobstate.worker.claims.CLAIM_DELAY", 60)


async def end_at_once(context: JobContext) -> None: ...


def worker(service: MemoryService, function: Callable[[JobContext], Any] = end_at_once, **options: Any) -> Worker:
    return Worker("http://service", ["default"], function, transport=service, **options)


@pytest.mark.usefixtures("long_claim_delay")
@pytest.mark.parametrize("concurrency", [1, 8])
async def test_one_claim_fills_all_free_slots(concurrency: int) -> None:
    service = MemoryService(40)
    assert await worker(service, concurrency=concurrency).serve_until_idle() == 40
    assert service.asked == [concurrency] * (40 // concurrency + 1), "the last one gets no job"
    assert set(service.ended.values()) == {"completed"}
    assert len(set(service.keys)) == len(service.keys), "each claim has its own key"


async def test_a_claim_asks_for_the_free_slots_only() -> None:
    service, finish = MemoryService(3), asyncio.Event()

    async def wait(context: JobContext) -> None:
        await finish.wait()

    async def finish_after_the_second_claim() -> None:
        if len(service.claims) == 2:
            finish.set()

    service.before_response = finish_after_the_second_claim
    assert await worker(service, wait, concurrency=8).serve_until_idle() == 3
    assert service.asked[:2] == [8, 5]


async def test_a_free_slot_does_not_wait_for_a_job_that_still_runs() -> None:
    service, finish = MemoryService(6), asyncio.Event()

    async def first_runs_until_the_others_have_ended(context: JobContext) -> None:
        if context.job_id == "j0":
            await finish.wait()
        elif context.job_id == "j5":
            finish.set()

    async with asyncio.timeout(10):
        assert await worker(service, first_runs_until_the_others_have_ended, concurrency=2).serve_until_idle() == 6
    assert service.asked[:4] == [2, 1, 1, 1]


async def test_a_limited_run_claims_no_more_than_its_limit() -> None:
    service = MemoryService(9)
    assert await worker(service, concurrency=3).serve_until_idle(max_jobs=4) == 4
    assert service.asked[0] == 3
    assert sum(service.asked) >= 4
    assert len(service.ended) == 4
    assert service.due == [f"j{number}" for number in range(4, 9)]


async def test_a_claim_asks_for_100_jobs_at_most() -> None:
    service = MemoryService(150)
    assert await worker(service, concurrency=150).serve_until_idle() == 150
    assert service.asked[0] == 100


@pytest.fixture
async def stopped_in_a_claim() -> MemoryService:
    """A worker that was stopped while the response to its first claim was on its way."""
    service = MemoryService(3)
    service.lost = {"j1"}
    stopping = worker(service, concurrency=3)

    async def stop_and_wait() -> None:
        if len(service.claims) == 1:
            stopping.stop()
            await asyncio.sleep(60)

    service.before_response = stop_and_wait
    async with asyncio.timeout(10):
        await stopping.serve()
    return service


async def test_a_stop_repeats_the_claim_and_releases_all_its_jobs(stopped_in_a_claim: MemoryService) -> None:
    first, again = stopped_in_a_claim.claims
    assert again == first | {"wait_seconds": 0}
    assert len(set(stopped_in_a_claim.keys)) == 1
    assert stopped_in_a_claim.ended == {"j0": "release", "j2": "release"}, "whatever becomes of another release"


async def test_jobs_that_end_while_the_worker_begins_to_wait_for_them_do_not_stop_it() -> None:
    loop = ClaimLoop(None, None, 1, 0)  # type: ignore[arg-type]
    task = asyncio.create_task(end_at_once(None))  # type: ignore[arg-type]
    task.add_done_callback(loop._running.discard)
    loop._running.add(task)
    await asyncio.sleep(0)
    assert task.done()
    assert loop._running, "its callback runs next"
    await loop._wait_for_running(asyncio.FIRST_COMPLETED)
    assert not loop._running
