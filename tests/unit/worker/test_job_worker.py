"""How a worker retries its requests, and what a function can do with a `Work`."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from jobstate_worker import JobFailed, JobWorker, RequestRefused, Work
from jobstate_worker.requests import Claim, ClaimRequest, JobUpdate
from jobstate_worker.service import LeaseLost, WorkerClient
from jobstate_worker.shutdown import MAX_THREADS, DaemonThreadPool
from jobstate_worker.work import failure_update, success_update

CLAIM = Claim({"job_id": "j1", "correlation_id": "request-7"}, "1-token", 30)
ASKING = ClaimRequest(["default"], "ann", 30)
PROBLEM = "application/problem+json"
Reply = httpx.Response | httpx.TransportError


class FakeService:
    """Returns the queued replies, then success."""

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
async def service(fake: FakeService) -> AsyncIterator[WorkerClient]:
    async with httpx.AsyncClient(base_url="http://service", transport=httpx.MockTransport(fake)) as http:
        yield WorkerClient(http)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses between attempts without sleeping; the jitter is at its maximum."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr("random.uniform", lambda minimum, maximum: maximum)
    return waits


def unavailable(retry_after: str | None = None, status: int = 503) -> httpx.Response:
    return httpx.Response(status, headers={"Retry-After": retry_after} if retry_after else {})


def problem(name: str, status: int = 409, prefix: str = "urn:jobstate:problem:", **headers: str) -> httpx.Response:
    headers = {"Content-Type": PROBLEM} | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"type": f"{prefix}{name}", "title": name}, headers=headers)


async def test_an_update_is_retried_under_its_key_until_there_is_a_response(
    fake: FakeService, service: WorkerClient, waits: list[float]
) -> None:
    broken = httpx.Response(200, text="<html>")
    fake.replies = [
        httpx.ConnectError("refused"),
        unavailable(),
        httpx.ReadTimeout(""),
        unavailable(status=429),
        broken,
    ]
    assert await service.update_job(CLAIM, JobUpdate.to("completed", result=0)) == "completed"
    assert len(set(fake.keys)) == 1
    assert {request.content for request in fake.requests} == {b'{"status":"completed","result":0}'}
    assert {request.headers["Lease-Token"] for request in fake.requests} == {"1-token"}
    assert waits == [0.375, 0.75, 1.5, 3.0, 5.0]


@pytest.mark.parametrize(
    "reply",
    [
        *(httpx.Response(status) for status in (408, 429, 500, 502, 504, 520)),
        httpx.RemoteProtocolError("server disconnected"),
        httpx.ProxyError("no way"),
        httpx.PoolTimeout(""),
    ],
    ids=lambda reply: str(getattr(reply, "status_code", type(reply).__name__)),
)
async def test_every_kind_of_outage_is_retried(
    fake: FakeService, service: WorkerClient, waits: list[float], reply: Reply
) -> None:
    fake.replies = [reply]
    assert await service.update_job(CLAIM, JobUpdate.release()) == "completed"
    assert len(waits) == 1


async def test_two_updates_have_different_keys(fake: FakeService, service: WorkerClient) -> None:
    for _ in range(2):
        await service.update_job(CLAIM, JobUpdate.release())
    assert len(set(fake.keys)) == 2


async def test_a_claim_is_retried_at_intervals_of_at_most_30_seconds(
    fake: FakeService, service: WorkerClient, waits: list[float]
) -> None:
    fake.replies = [*(unavailable() for _ in range(9)), httpx.Response(204)]
    assert await service.claim(ASKING, 0) is None
    assert waits == [0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 24.0, 30.0, 30.0]
    assert set(fake.keys) == {ASKING.key}


@pytest.mark.parametrize(
    ("retry_after", "waited"), [("3", 4.5), ("86400", 30.0), ("0", 0.375), ("Fri, 02 Jan 2026 00:00:00 GMT", 0.375)]
)
async def test_retry_after_is_respected(
    fake: FakeService, service: WorkerClient, waits: list[float], retry_after: str, waited: float
) -> None:
    fake.replies = [unavailable(retry_after), httpx.Response(204)]
    await service.claim(ASKING, 0)
    assert waits == [waited]


@pytest.mark.parametrize(("lease_seconds", "max_pause"), [(5, 5 / 3), (3600, 5.0)])
async def test_a_request_under_a_lease_is_retried_before_the_lease_expires(
    fake: FakeService, service: WorkerClient, waits: list[float], lease_seconds: int, max_pause: float
) -> None:
    fake.replies = [unavailable("20"), httpx.Response(200, json={"cancel_requested": True})]
    assert await service.heartbeat(CLAIM._replace(lease_seconds=lease_seconds), None)
    assert waits == [max_pause]


@pytest.mark.parametrize("name", ["lease-lost", "job-not-found", "illegal-transition", "not-leased"])
async def test_a_lease_lost_problem_raises_lease_lost(fake: FakeService, service: WorkerClient, name: str) -> None:
    fake.replies = [problem(name)]
    with pytest.raises(LeaseLost, match=name):
        await service.heartbeat(CLAIM, None)


@pytest.mark.parametrize(
    "rejection", [problem("invalid-request", 400), problem("not-known-yet", 418), httpx.Response(413)]
)
async def test_a_rejected_request_is_not_retried(
    fake: FakeService, service: WorkerClient, rejection: httpx.Response
) -> None:
    fake.replies = [rejection]
    with pytest.raises(RequestRefused, match=str(rejection.status_code)):
        await service.update_job(CLAIM, JobUpdate.release())
    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(404, text="<html>default backend - 404</html>"),
        httpx.Response(302, headers={"Location": "https://login.example"}),
        httpx.Response(403, json={"message": "Forbidden"}),
        httpx.Response(404, json=["no object"], headers={"Content-Type": PROBLEM}),
        problem("job-not-found", 404, Content_Type="application/json"),
        problem("job-not-found", 404, prefix="about:"),
        problem("lease-lost", prefix="urn:another:problem:"),
    ],
    ids=["page", "redirect", "JSON", "array", "media type", "prefix", "other service"],
)
async def test_an_error_response_of_another_server_is_retried(
    fake: FakeService, service: WorkerClient, waits: list[float], response: httpx.Response
) -> None:
    fake.replies = [response]
    assert await service.update_job(CLAIM, JobUpdate.release()) == "completed"
    assert len(set(fake.keys)) == 1
    assert waits == [0.375]


@pytest.mark.parametrize("answer", [{}, {"state": "ok"}, None], ids=["empty", "response", "no content"])
async def test_a_response_that_lacks_a_field_is_retried(
    fake: FakeService, service: WorkerClient, waits: list[float], answer: dict[str, str] | None
) -> None:
    invalid = httpx.Response(204) if answer is None else httpx.Response(200, json=answer)
    fake.replies = [invalid]
    assert await service.update_job(CLAIM, JobUpdate.release()) == "completed"
    fake.replies = [invalid, httpx.Response(200, json={"cancel_requested": False})]
    assert not await service.heartbeat(CLAIM, None)
    assert waits == [0.375, 0.375]


@pytest.mark.parametrize(
    "answer",
    [{}, {"job": {"job_id": "j1"}}, {"job": {}, "lease": {"token": "1-t"}}, {"job": "j1", "lease": {"token": "1-t"}}],
)
async def test_a_claim_response_without_job_or_lease_is_retried(
    fake: FakeService, service: WorkerClient, waits: list[float], answer: dict[str, object]
) -> None:
    job = {"job_id": "j1", "attempt": 1}
    fake.replies = [httpx.Response(200, json=answer), httpx.Response(200, json={"job": job, "lease": {"token": "1-t"}})]
    assert await service.claim(ASKING, 0) == Claim(job, "1-t", 30)
    assert waits == [0.375]


@pytest.mark.parametrize(
    ("busy", "waited"),
    [
        (problem("overloaded", 503, Retry_After="1"), 1.5),
        (problem("draining", 503, Retry_After="1"), 1.5),
        (problem("rate-limited", 429, Retry_After="7"), 10.5),
    ],
)
async def test_a_waiting_claim_that_gets_503_or_429_is_retried(
    fake: FakeService, service: WorkerClient, waits: list[float], busy: httpx.Response, waited: float
) -> None:
    fake.replies = [busy, httpx.Response(204)]
    assert await service.claim(ASKING, 20) is None
    assert waits == [waited]


@pytest.mark.parametrize(("lease_seconds", "seconds"), [(5, 5 / 3), (30, 10), (3600, 10)])
async def test_a_heartbeat_times_out_after_a_third_of_the_lease(
    fake: FakeService, service: WorkerClient, lease_seconds: int, seconds: float
) -> None:
    fake.replies = [httpx.Response(200, json={"cancel_requested": False})]
    await service.heartbeat(CLAIM._replace(lease_seconds=lease_seconds), None)
    assert set(fake.requests[0].extensions["timeout"].values()) == {seconds}


@pytest.mark.parametrize("wait_seconds", [0, 20])
async def test_a_claim_sends_its_wait_seconds(fake: FakeService, service: WorkerClient, wait_seconds: int) -> None:
    fake.replies = [httpx.Response(204)]
    await service.claim(ClaimRequest(["a", "b"], "ann", 30), wait_seconds)
    body = {"queues": ["a", "b"], "worker": "ann", "lease_seconds": 30}
    assert json.loads(fake.requests[0].content) == body | {"wait_seconds": wait_seconds}
    assert fake.requests[0].extensions["timeout"]["read"] == 10 + wait_seconds


@pytest.mark.parametrize(("text", "header"), [("request-7", "request-7"), ("café", None), (" a", None)])
async def test_a_correlation_id_is_sent_if_it_is_valid_in_a_header(
    fake: FakeService, service: WorkerClient, text: str, header: str | None
) -> None:
    await service.update_job(CLAIM._replace(job={"job_id": "j1", "correlation_id": text}), JobUpdate.release())
    assert fake.requests[0].headers.get("X-Correlation-ID") == header


async def test_the_traceparent_of_the_job_is_sent(fake: FakeService, service: WorkerClient) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    fake.replies = [httpx.Response(200, json={"cancel_requested": False})]
    claim = CLAIM._replace(job={"job_id": "j1", "traceparent": trace})
    await service.heartbeat(claim, None)
    await service.update_job(claim, JobUpdate.release())
    await service.update_job(CLAIM, JobUpdate.release())
    assert [request.headers.get("traceparent") for request in fake.requests] == [trace, trace, None]


async def test_a_job_with_a_too_long_integer_can_be_claimed(fake: FakeService, service: WorkerClient) -> None:
    digits = "9" * 5000
    body = f'{{"job": {{"job_id": "j1", "input_params": {digits}}}, "lease": {{"token": "1-t"}}}}'
    fake.replies = [httpx.Response(200, text=body)]
    claim = await service.claim(ASKING, 0)
    assert claim
    assert str(claim.job["input_params"]) == digits


# `JobWorker`, `Work` and the threads of functions


class Unprintable:
    """An object whose `repr` raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


async def coroutine(work: Work) -> None: ...


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: JobWorker("http://service", "lineups", coroutine), "list of names"),
        (lambda: JobWorker("http://service", ["a"], coroutine, concurrency=0), "at least 1"),
        (lambda: JobWorker("http://service", ["a"], coroutine, in_="process"), "event loop"),
        (lambda: JobWorker("http://service", ["a"], lambda work: None, in_="process"), "import it by name"),
        (lambda: JobWorker("http://service", ["a"], coroutine, api_key="s3cret\nX: y"), "visible ASCII"),
        (lambda: JobWorker("http://service", ["a"], coroutine, api_key="s3crét"), "visible ASCII"),
        (lambda: JobWorker("http://me:pass@service", ["a"], coroutine, api_key="s3cret"), "remove one of them"),
    ],
)
def test_invalid_arguments_are_rejected(build: Callable[[], JobWorker], why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        build()
    assert "s3cr" not in str(error.value)


def test_a_work_has_the_fields_of_its_job() -> None:
    work = Work({"job_id": "j1", "attempt": 2, "input_params": [1], "correlation_id": "request-7"})
    assert (work.job_id, work.attempt, work.input_params, work.correlation_id) == ("j1", 2, [1], "request-7")
    assert (Work({"job_id": "j1"}).input_params, Work({"job_id": "j1"}).correlation_id) == (None, None)


def test_the_latest_progress_is_kept() -> None:
    work = Work({})
    work.progress(1)
    work.progress(2, 3, "two of three")
    assert work.latest == {"current": 2, "total": 3, "message": "two of three"}


@pytest.mark.parametrize("current", [-1, 2**53, 10**5000, 0.5, float("nan"), "1", None, Unprintable()], ids=type)
def test_progress_with_an_invalid_current_is_omitted_and_logged_once(
    current: Any, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work({"job_id": "j1"})
    for _ in range(2):
        work.progress(current, 3, "a message")
    assert work.latest is None
    (line,) = caplog.messages
    assert line.startswith("job j1: invalid progress omitted: ")
    assert line.endswith(f" is not an integer from 0 to {2**53 - 1}")


def test_an_invalid_total_is_omitted() -> None:
    work = Work({"job_id": "j1"})
    work.progress(1, -1, "one")
    assert work.latest == {"current": 1, "message": "one"}


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ("a\nb\x00\x9f\u2028", "a b  \u2028"),
        ("\udcff.txt", "\\udcff.txt"),
        ("\ud83d\ude00", "😀"),
        ("é" * 512, "é" * 512),
        ("é" * 513, "é" * 510 + "…"),
        ("\udcff" * 512, ("\\udcff" * 512)[:1021] + "…"),
        (7, "7"),
    ],
)
def test_a_progress_message_is_repaired_and_cut(message: Any, sent: str) -> None:
    work = Work({})
    work.progress(1, message=message)
    assert work.latest == {"current": 1, "message": sent}


def test_an_empty_progress_message_is_omitted() -> None:
    work = Work({})
    work.progress(1, message="")
    assert work.latest == {"current": 1}


def test_none_is_a_result_unless_cancellation_was_requested() -> None:
    work = Work({})
    assert json.loads(success_update(work, None).body) == {"status": "completed", "result": None}
    work.stop()
    assert json.loads(success_update(work, None).body) == {"status": "cancelled"}


def test_a_function_that_cancels_itself_fails_an_attempt() -> None:
    work = Work({"job_id": "j1"})
    assert failure_update(work, asyncio.CancelledError()).path == "/release"
    work.stop()
    assert json.loads(failure_update(work, asyncio.CancelledError()).body) == {"status": "cancelled"}


@pytest.mark.parametrize("kind", [TypeError, ValueError])
@pytest.mark.parametrize(
    ("error_message", "why"),
    [
        ({1, 2}, "not JSON serializable"),
        (float("nan"), "not JSON compliant"),
        ("\udcff", "lone surrogate U\\+DCFF"),
        (nested(100_000), "nested too deep"),
    ],
    ids=["type", "NaN", "surrogate", "nesting"],
)
def test_job_failed_rejects_values_that_are_not_json(kind: type[Exception], error_message: Any, why: str) -> None:
    with pytest.raises(kind, match=why):
        JobFailed(error_message)


def test_a_daemon_thread_pool_runs_all_calls_and_ends_on_shutdown() -> None:
    before = threading.active_count()
    threads = DaemonThreadPool()
    calls = [threads.submit(divmod, number, 3) for number in range(3 * MAX_THREADS)]
    assert [call.result(10) for call in calls] == [divmod(number, 3) for number in range(3 * MAX_THREADS)]
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 1, 0).result(10)
    assert threading.active_count() - before <= MAX_THREADS
    threads.shutdown()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_a_daemon_thread_pool_runs_the_maximum_of_threads_concurrently() -> None:
    threads = DaemonThreadPool()
    barrier = threading.Barrier(MAX_THREADS)
    positions = [threads.submit(barrier.wait, 10) for _ in range(MAX_THREADS)]
    assert sorted(position.result(10) for position in positions) == list(range(MAX_THREADS))
    threads.shutdown()
