"""How a worker retries its requests, and what a function can do with its `JobContext`."""

import asyncio
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobstate import JobContext, PermanentFailure, Progress, RequestRejected, Worker
from jobstate.errors import ContentTooLarge
from jobstate.worker.client import LEASE_LOST, ClaimRequest, WorkerClient
from jobstate.worker.outcomes import JobUpdate, failure_update, success_update
from jobstate.worker.shutdown import MAX_THREADS, DaemonThreadPool
from tests.helpers.paths import ROOT
from tests.helpers.records import LEASE, claim, record, record_fields

CLAIM = claim(correlation_id="request-7")
ASKING = ClaimRequest(["default"], "ann", 30, 8)
CLAIMED = {"job": record_fields("running"), "lease": LEASE}
HEARTBEAT = {"lease_expires_at": "2026-11-20T12:01:00Z", "cancel_requested": False}
PROBLEM = "application/problem+json"
Reply = httpx.Response | httpx.TransportError


class FakeService:
    """Returns the queued replies, then success."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies.pop(0) if self.replies else httpx.Response(200, json=record_fields("completed"))
        if isinstance(reply, httpx.TransportError):
            raise reply
        return reply

    @property
    def keys(self) -> list[str]:
        return [request.headers["Idempotency-Key"] for request in self.requests]


@pytest.fixture
def fake() -> FakeService:
    return FakeService()


def client_of(http: httpx.AsyncClient, lease_seconds: int = 30) -> WorkerClient:
    return WorkerClient(http, ["default"], "ann", lease_seconds)


@pytest.fixture
async def http(fake: FakeService) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url="http://service", transport=httpx.MockTransport(fake)) as http:
        yield http


@pytest.fixture
def service(http: httpx.AsyncClient) -> WorkerClient:
    return client_of(http)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses between attempts without sleeping; the jitter is at its maximum."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr("jobstate._retry._JITTER", (1.25, 1.25))
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
    assert waits == [0.3125, 0.625, 1.25, 2.5, 5.0]


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
    assert await service.claim(ASKING, 0) == ()
    assert waits == [0.3125, 0.625, 1.25, 2.5, 5.0, 10.0, 20.0, 30.0, 30.0]
    assert set(fake.keys) == {ASKING.key}


@pytest.mark.parametrize(
    ("retry_after", "waited"), [("3", 3.75), ("86400", 30.0), ("0", 0.3125), ("Fri, 02 Jan 2026 00:00:00 GMT", 0.3125)]
)
async def test_retry_after_is_respected(
    fake: FakeService, service: WorkerClient, waits: list[float], retry_after: str, waited: float
) -> None:
    fake.replies = [unavailable(retry_after), httpx.Response(204)]
    await service.claim(ASKING, 0)
    assert waits == [waited]


@pytest.mark.parametrize(("lease_seconds", "max_pause"), [(5, 5 / 3), (3600, 5.0)])
async def test_a_request_under_a_lease_is_retried_before_the_lease_expires(
    fake: FakeService, http: httpx.AsyncClient, waits: list[float], lease_seconds: int, max_pause: float
) -> None:
    fake.replies = [unavailable("20"), httpx.Response(200, json=HEARTBEAT | {"cancel_requested": True})]
    assert await client_of(http, lease_seconds).heartbeat(CLAIM, None)
    assert waits == [max_pause]


@pytest.mark.parametrize("name", ["lease-lost", "job-not-found", "illegal-transition", "not-leased"])
async def test_a_lease_lost_problem_raises_lease_lost(fake: FakeService, service: WorkerClient, name: str) -> None:
    fake.replies = [problem(name)]
    with pytest.raises(LEASE_LOST, match=name):
        await service.heartbeat(CLAIM, None)


@pytest.mark.parametrize(
    ("rejection", "why"),
    [
        (problem("invalid-request", 400), "invalid-request"),
        (problem("not-known-yet", 418), "not-known-yet"),
        (httpx.Response(413), "413"),
    ],
)
async def test_a_rejected_request_is_not_retried(
    fake: FakeService, service: WorkerClient, rejection: httpx.Response, why: str
) -> None:
    fake.replies = [rejection]
    with pytest.raises(RequestRejected, match=why):
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
    assert waits == [0.3125]


@pytest.mark.parametrize("answer", [{}, {"state": "ok"}, None], ids=["empty", "response", "no content"])
async def test_a_response_that_lacks_a_field_is_retried(
    fake: FakeService, service: WorkerClient, waits: list[float], answer: dict[str, str] | None
) -> None:
    invalid = httpx.Response(204) if answer is None else httpx.Response(200, json=answer)
    fake.replies = [invalid]
    assert await service.update_job(CLAIM, JobUpdate.release()) == "completed"
    fake.replies = [invalid, httpx.Response(200, json=HEARTBEAT)]
    assert not await service.heartbeat(CLAIM, None)
    assert waits == [0.3125, 0.3125]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"job": record_fields("running"), "lease": LEASE},
        {"items": [{"job": record_fields()}]},
        {"items": [{"job": {}, "lease": LEASE}]},
        {"items": [CLAIMED, {"job": "j1", "lease": LEASE}]},
    ],
)
async def test_a_claim_response_without_jobs_or_leases_is_retried(
    fake: FakeService, service: WorkerClient, waits: list[float], answer: dict[str, object]
) -> None:
    fake.replies = [
        httpx.Response(200, json=answer),
        httpx.Response(200, json={"items": [CLAIMED, CLAIMED]}),
    ]
    assert await service.claim(ASKING, 0) == (claim(), claim())
    assert waits == [0.3125]


@pytest.mark.parametrize(
    ("busy", "waited"),
    [
        (problem("overloaded", 503, Retry_After="1"), 1.25),
        (problem("draining", 503, Retry_After="1"), 1.25),
        (problem("rate-limited", 429, Retry_After="7"), 8.75),
    ],
)
async def test_a_waiting_claim_that_gets_503_or_429_is_retried(
    fake: FakeService, service: WorkerClient, waits: list[float], busy: httpx.Response, waited: float
) -> None:
    fake.replies = [busy, httpx.Response(204)]
    assert await service.claim(ASKING, 20) == ()
    assert waits == [waited]


@pytest.mark.parametrize(("wait_seconds", "later"), [(20, 1), (0, 0)])
async def test_a_claim_waits_a_second_at_most_after_a_failure_so_that_a_recovery_is_noticed_early(
    fake: FakeService, service: WorkerClient, waits: list[float], wait_seconds: int, later: int
) -> None:
    fake.replies = [httpx.ConnectError("refused"), unavailable(), httpx.Response(204), httpx.Response(204)]
    claim_request = ClaimRequest(["default"], "ann", 30, 8)
    assert await service.claim(claim_request, wait_seconds) == ()
    assert set(fake.keys) == {claim_request.key}
    assert await service.claim(ASKING, wait_seconds) == ()
    sent = [json.loads(request.content)["wait_seconds"] for request in fake.requests]
    assert sent == [wait_seconds, later, later, wait_seconds]


@pytest.mark.parametrize(("lease_seconds", "seconds"), [(5, 5 / 3), (30, 10), (3600, 10)])
async def test_a_heartbeat_times_out_after_a_third_of_the_lease(
    fake: FakeService, http: httpx.AsyncClient, lease_seconds: int, seconds: float
) -> None:
    fake.replies = [httpx.Response(200, json=HEARTBEAT)]
    await client_of(http, lease_seconds).heartbeat(CLAIM, None)
    timeouts = fake.requests[0].extensions["timeout"]
    assert timeouts.pop("connect") == min(seconds, 5)
    assert set(timeouts.values()) == {seconds}


@pytest.mark.parametrize("wait_seconds", [0, 20])
async def test_a_claim_sends_its_wait_seconds(fake: FakeService, service: WorkerClient, wait_seconds: int) -> None:
    fake.replies = [httpx.Response(204)]
    await service.claim(ClaimRequest(["a", "b"], "ann", 30, 8), wait_seconds)
    body = {"queues": ["a", "b"], "worker": "ann", "lease_seconds": 30, "max_jobs": 8}
    assert json.loads(fake.requests[0].content) == body | {"wait_seconds": wait_seconds}
    assert fake.requests[0].extensions["timeout"]["read"] == 10 + wait_seconds


@pytest.mark.parametrize(("text", "header"), [("request-7", "request-7"), ("café", None), (" a", None)])
async def test_a_correlation_id_is_sent_if_it_is_valid_in_a_header(
    fake: FakeService, service: WorkerClient, text: str, header: str | None
) -> None:
    await service.update_job(claim(correlation_id=text), JobUpdate.release())
    assert fake.requests[0].headers.get("X-Correlation-ID") == header


async def test_the_traceparent_of_the_job_is_sent(fake: FakeService, service: WorkerClient) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    fake.replies = [httpx.Response(200, json=HEARTBEAT)]
    traced = claim(traceparent=trace)
    await service.heartbeat(traced, None)
    await service.update_job(traced, JobUpdate.release())
    await service.update_job(CLAIM, JobUpdate.release())
    assert [request.headers.get("traceparent") for request in fake.requests] == [trace, trace, None]


async def test_a_job_with_a_too_long_integer_can_be_claimed(fake: FakeService, service: WorkerClient) -> None:
    digits = "9" * 5000
    body = json.dumps({"items": [{"job": record_fields("running", input_params=0), "lease": LEASE}]})
    body = body.replace('"input_params": 0', f'"input_params": {digits}')
    fake.replies = [httpx.Response(200, text=body)]
    [claimed] = await service.claim(ASKING, 0)
    assert str(claimed.job.input_params) == digits


async def test_an_outage_is_logged_once_for_all_requests_and_its_end(
    fake: FakeService, service: WorkerClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(0))
    caplog.set_level(logging.INFO)
    fake.replies = [unavailable() for _ in range(4)]
    await asyncio.gather(*(service.update_job(CLAIM, JobUpdate.release()) for _ in range(2)))
    first, last = [record.getMessage() for record in caplog.records if record.name == "jobstate"]
    assert first.startswith("service unavailable, retrying in ")
    assert last.startswith("service recovered after ")


@pytest.mark.parametrize("rejection", [problem("invalid-request", 400), problem("lease-lost")])
async def test_a_rejection_ends_an_outage(
    fake: FakeService,
    service: WorkerClient,
    waits: list[float],
    rejection: httpx.Response,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    fake.replies = [unavailable(), rejection]
    with pytest.raises(RequestRejected):
        await service.heartbeat(CLAIM, None)
    assert caplog.messages[-1].startswith("service recovered after ")


LARGE = JobUpdate.to("completed", result="x" * 100_000)
LOST = httpx.WriteError("broken pipe")


async def test_a_large_body_is_too_large_if_only_small_requests_get_a_response(
    fake: FakeService, service: WorkerClient, waits: list[float]
) -> None:
    fake.replies = [*(reply for _ in range(3) for reply in (LOST, httpx.Response(200, json=HEARTBEAT)))]
    with pytest.raises(ContentTooLarge, match="100034 bytes, but accepts small requests"):
        await service.update_job(CLAIM, LARGE)
    assert [request.url.path for request in fake.requests] == ["/v1/jobs/j1", "/v1/jobs/j1/heartbeat"] * 3


@pytest.mark.parametrize("update", [LARGE, JobUpdate.to("completed", result="x")], ids=["large", "small"])
async def test_lost_connections_of_a_service_that_is_down_say_nothing_about_the_size(
    fake: FakeService, service: WorkerClient, waits: list[float], update: JobUpdate
) -> None:
    fake.replies = [LOST] * 12
    assert await service.update_job(CLAIM, update) == "completed"


async def test_a_lost_lease_is_noticed_while_the_size_is_checked(fake: FakeService, service: WorkerClient) -> None:
    fake.replies = [LOST, problem("lease-lost")]
    with pytest.raises(LEASE_LOST):
        await service.update_job(CLAIM, LARGE)


# `Worker`, `JobContext` and the threads of functions


class Unprintable:
    """An object whose `repr` raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


async def coroutine(context: JobContext) -> None: ...


FORK: Any = "fork"


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: Worker("http://service", "lineups", coroutine), "list of names"),
        (lambda: Worker("http://service", ["a"], coroutine, concurrency=0), "at least 1"),
        (lambda: Worker("http://service", [], coroutine), "number of `queues` must be from 1 to 100, not 0"),
        (lambda: Worker("http://service", ["a"] * 101, coroutine), "number of `queues` must be from 1 to 100"),
        (lambda: Worker("http://service", ["a"], coroutine, lease_seconds=4), "`lease_seconds` must be from 5 to 3600"),
        (lambda: Worker("http://service", ["a"], coroutine, lease_seconds=3601), "`lease_seconds` must be from"),
        (lambda: Worker("http://service", ["a"], coroutine, wait_seconds=31), "`wait_seconds` must be from 0 to 30"),
        (lambda: Worker("http://service", ["a"], coroutine, wait_seconds=-1), "`wait_seconds` must be from 0 to 30"),
        (lambda: Worker("http://service", ["a"], repr, executor=FORK), '`executor` must be "thread" or "process", not'),
        (lambda: Worker("http://service", ["a"], coroutine, executor="process"), "event loop"),
        (lambda: Worker("http://service", ["a"], lambda context: None, executor="process"), "import it by name"),
        (lambda: Worker("http://service", ["a"], coroutine, api_key="s3cret\nX: y"), "visible ASCII"),
        (lambda: Worker("http://service", ["a"], coroutine, api_key="s3crét"), "visible ASCII"),
        (lambda: Worker("http://me:pass@service", ["a"], coroutine, api_key="s3cret"), "remove one of them"),
    ],
)
def test_invalid_arguments_are_rejected(build: Callable[[], Worker], why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        build()
    assert "s3cr" not in str(error.value)


@pytest.mark.parametrize(
    "start",
    [Worker.run, Worker.run_until_idle, lambda worker: asyncio.run(worker.serve())],
    ids=["run", "run_until_idle", "serve"],
)
def test_a_worker_does_not_start_while_a_child_process_imports_the_main_module(
    fake: FakeService, monkeypatch: pytest.MonkeyPatch, start: Callable[[Worker], object]
) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    fake.replies = [problem("unauthenticated", 401)]
    worker = Worker("http://service", ["a"], coroutine, transport=httpx.MockTransport(fake))
    with pytest.raises(RuntimeError, match='under `if __name__ == "__main__":`'):
        start(worker)
    assert not fake.requests


UNGUARDED = """
import asyncio, threading
from jobstate.worker import executors
from jobstate.worker.context import JobContext
from tests.helpers.records import record

def double(context):
    return context.input_params * 2

executors.check_not_importing()
run = executors.runner_for(double, "process").run
print(asyncio.run(run(JobContext(record(input_params="x" * 500_000)), threading.Event())).body.decode())
"""


def test_the_hint_at_the_guard_does_not_depend_on_the_size_of_the_input(tmp_path: Path) -> None:
    (tmp_path / "unguarded.py").write_text(UNGUARDED)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "unguarded.py")]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60).stdout
    message = json.loads(output)["error_message"]
    assert message["type"] == "ProcessDied"
    assert 'under `if __name__ == "__main__":`' in message["message"]


def test_a_context_has_the_fields_of_its_job() -> None:
    context = JobContext(record("running", attempt=2, input_params=[1], correlation_id="request-7"))
    fields = (context.job_id, context.attempt, context.input_params, context.correlation_id)
    assert fields == ("j1", 2, [1], "request-7")
    assert context.input_params is context.input_params
    assert (JobContext(record()).input_params, JobContext(record()).correlation_id) == (None, None)


def test_the_latest_progress_is_kept() -> None:
    context = JobContext(record())
    context.progress(1)
    context.progress(2, 3, "two of three")
    assert context.latest == Progress(2, 3, "two of three")


@pytest.mark.parametrize("current", [-1, 2**53, 10**5000, 0.5, float("nan"), "1", None, Unprintable()], ids=type)
def test_progress_with_an_invalid_current_is_omitted_and_logged_once(
    current: Any, caplog: pytest.LogCaptureFixture
) -> None:
    context = JobContext(record())
    for _ in range(2):
        context.progress(current, 3, "a message")
    assert context.latest is None
    (line,) = caplog.messages
    assert line.startswith("job j1: invalid progress omitted: ")
    assert line.endswith(f" is not an integer from 0 to {2**53 - 1}")


def test_an_invalid_total_is_omitted() -> None:
    context = JobContext(record())
    context.progress(1, -1, "one")
    assert context.latest == Progress(1, message="one")


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
    context = JobContext(record())
    context.progress(1, message=message)
    assert context.latest == Progress(1, message=sent)


def test_an_empty_progress_message_is_omitted() -> None:
    context = JobContext(record())
    context.progress(1, message="")
    assert context.latest == Progress(1)


def test_none_is_a_result_unless_cancellation_was_requested() -> None:
    context = JobContext(record())
    assert json.loads(success_update(context, None).body) == {"status": "completed", "result": None}
    context.stop()
    assert json.loads(success_update(context, None).body) == {"status": "cancelled"}


def test_a_function_that_cancels_itself_fails_an_attempt() -> None:
    context = JobContext(record())
    assert failure_update(context, asyncio.CancelledError()).is_release
    context.stop()
    assert json.loads(failure_update(context, asyncio.CancelledError()).body) == {"status": "cancelled"}


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
def test_a_permanent_failure_rejects_what_is_not_json(kind: type[Exception], error_message: Any, why: str) -> None:
    with pytest.raises(kind, match=why):
        PermanentFailure(error_message)


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
