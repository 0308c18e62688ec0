"""How a worker talks to a service that is away, and what it takes for a function."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from jobstate_worker import JobFailed, JobWorker, RequestRefused, Work
from jobstate_worker.service import Change, Claim, JobLost, Service

CLAIM = Claim({"job_id": "j1", "correlation_id": "request-7"}, "1-token", 30)
Reply = httpx.Response | httpx.TransportError


class FakeService:
    """Gives the replies that a test wants, then success."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies.pop(0) if self.replies else httpx.Response(200, json={"status": "completed"})
        if isinstance(reply, httpx.TransportError):
            raise reply
        return reply

    @property
    def keys(self) -> list[str]:
        return [request.headers["Idempotency-Key"] for request in self.requests]


@pytest.fixture
def fake() -> FakeService:
    return FakeService()


@pytest.fixture
async def service(fake: FakeService) -> AsyncIterator[Service]:
    async with httpx.AsyncClient(base_url="http://service", transport=httpx.MockTransport(fake)) as http:
        yield Service(http)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds between attempts, none of which pass; chance takes its longest."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    return waits


def away(retry_after: str | None = None, status: int = 503) -> httpx.Response:
    return httpx.Response(status, headers={"Retry-After": retry_after} if retry_after else {})


def problem(name: str, status: int = 409) -> httpx.Response:
    return httpx.Response(status, json={"type": f"urn:jobstate:problem:{name}", "title": name})


async def test_a_change_is_repeated_under_its_key_until_it_is_answered(
    fake: FakeService, service: Service, waits: list[float]
) -> None:
    broken = httpx.Response(200, text="<html>")
    fake.replies = [httpx.ConnectError("refused"), away(), httpx.ReadTimeout(""), away(status=429), broken]
    assert await service.change(CLAIM, Change.to("completed", result=0)) == "completed"
    assert len(set(fake.keys)) == 1
    assert {request.content for request in fake.requests} == {b'{"status":"completed","result":0}'}
    assert {request.headers["Lease-Token"] for request in fake.requests} == {"1-token"}
    assert waits == [0.375, 0.75, 1.5, 3.0, 5.0]


async def test_two_changes_have_different_keys(fake: FakeService, service: Service) -> None:
    for _ in range(2):
        await service.change(CLAIM, Change.release())
    assert len(set(fake.keys)) == 2


async def test_a_claim_is_repeated_at_intervals_of_half_a_minute_at_most(
    fake: FakeService, service: Service, waits: list[float]
) -> None:
    fake.replies = [*(away() for _ in range(9)), httpx.Response(204)]
    assert await service.claim(["default"], "ann", 30, "key") is None
    assert waits == [0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 24.0, 30.0, 30.0]
    assert set(fake.keys) == {"key"}


@pytest.mark.parametrize(
    ("asked", "waited"), [("3", 4.5), ("86400", 30.0), ("0", 0.375), ("Fri, 02 Jan 2026 00:00:00 GMT", 0.375)]
)
async def test_the_service_says_when_to_come_back(
    fake: FakeService, service: Service, waits: list[float], asked: str, waited: float
) -> None:
    fake.replies = [away(asked), httpx.Response(204)]
    await service.claim(["default"], "ann", 30, "key")
    assert waits == [waited]


@pytest.mark.parametrize(("lease_seconds", "longest"), [(5, 5 / 3), (3600, 5.0)])
async def test_who_holds_a_lease_comes_back_in_time_for_it(
    fake: FakeService, service: Service, waits: list[float], lease_seconds: int, longest: float
) -> None:
    fake.replies = [away("20"), httpx.Response(200, json={"cancel_requested": True})]
    assert await service.heartbeat(CLAIM._replace(lease_seconds=lease_seconds), None)
    assert waits == [longest]


@pytest.mark.parametrize("name", ["lease-lost", "job-not-found", "illegal-transition", "not-leased"])
async def test_a_job_that_is_anothers_is_lost(fake: FakeService, service: Service, name: str) -> None:
    fake.replies = [problem(name)]
    with pytest.raises(JobLost, match=name):
        await service.heartbeat(CLAIM, None)


@pytest.mark.parametrize("refusal", [problem("invalid-request", 400), httpx.Response(404), httpx.Response(302)])
async def test_what_will_never_be_accepted_is_not_repeated(
    fake: FakeService, service: Service, refusal: httpx.Response
) -> None:
    fake.replies = [refusal]
    with pytest.raises(RequestRefused, match=str(refusal.status_code)):
        await service.change(CLAIM, Change.release())
    assert len(fake.requests) == 1


@pytest.mark.parametrize("wait_seconds", [0, 20])
async def test_a_claim_says_how_long_it_waits(fake: FakeService, service: Service, wait_seconds: int) -> None:
    fake.replies = [httpx.Response(204)]
    await service.claim(["a", "b"], "ann", 30, "key", wait_seconds)
    body = {"queues": ["a", "b"], "worker": "ann", "lease_seconds": 30}
    assert json.loads(fake.requests[0].content) == body | {"wait_seconds": wait_seconds}
    assert fake.requests[0].extensions["timeout"]["read"] == 10 + wait_seconds


@pytest.mark.parametrize(("text", "header"), [("request-7", "request-7"), ("café", None), (" a", None)])
async def test_a_correlation_id_goes_along_where_a_header_can_carry_it(
    fake: FakeService, service: Service, text: str, header: str | None
) -> None:
    await service.change(CLAIM._replace(job={"job_id": "j1", "correlation_id": text}), Change.release())
    assert fake.requests[0].headers.get("X-Correlation-ID") == header


# What is asked of a worker and its functions


async def coroutine(work: Work) -> None: ...


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: JobWorker("http://service", "lineups", coroutine), "list of names"),
        (lambda: JobWorker("http://service", ["a"], coroutine, concurrency=0), "at least 1"),
        (lambda: JobWorker("http://service", ["a"], coroutine, in_="process"), "event loop"),
        (lambda: JobWorker("http://service", ["a"], lambda work: None, in_="process"), "import it by its name"),
    ],
)
def test_a_worker_that_cannot_work_is_refused(build: Callable[[], JobWorker], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        build()


def test_a_work_shows_its_job() -> None:
    work = Work({"job_id": "j1", "attempt": 2, "input_params": [1], "correlation_id": "request-7"})
    assert (work.job_id, work.attempt, work.input_params, work.correlation_id) == ("j1", 2, [1], "request-7")
    assert (Work({"job_id": "j1"}).input_params, Work({"job_id": "j1"}).correlation_id) == (None, None)


def test_the_newest_progress_counts() -> None:
    work = Work({})
    work.progress(1)
    work.progress(2, 3, "two of three")
    assert work.latest == {"current": 2, "total": 3, "message": "two of three"}


@pytest.mark.parametrize(
    ("current", "total", "message"),
    [(-1, None, None), (2**53, None, None), (1, -1, None), (1, 2, ""), (1, 2, "a\nb"), (1, 2, "é" * 513)],
)
def test_progress_that_the_service_would_refuse_is_refused(
    current: int, total: int | None, message: str | None
) -> None:
    with pytest.raises(ValueError, match=r"from 0 to|1 to 1024 bytes"):
        Work({}).progress(current, total, message)


def test_a_failure_is_json() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        JobFailed({1, 2})
