"""Both clients over scripted transports: what httpx raises, what is sent, what is logged."""

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from jobstate import AsyncJobs, Jobs, RetryPolicy, errors
from jobstate._http import SharedClient
from jobstate._requests import get_stats
from jobstate._retry import Deadline
from tests.helpers.records import record_fields

FAST = RetryPolicy(first_delay=0.001, max_delay=0.001)
DONE = httpx.Response(200, json=record_fields("completed", 3, result=7))
Respond = Callable[[httpx.Request], httpx.Response]


def scripted(*outcomes: httpx.Response | Exception) -> tuple[Respond, list[httpx.Request]]:
    """Return a function that responds with each outcome in turn, then always with the last, and the requests."""
    left, requests = list(outcomes), []

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Exception):
            raise outcome
        if not outcome.is_closed:  # a stream
            return outcome
        return httpx.Response(outcome.status_code, headers=outcome.headers, content=outcome.content)

    return respond, requests


def sync_client(respond: Respond, **options: Any) -> Jobs:
    return Jobs("http://service/prefix", transport=httpx.MockTransport(respond), retry=FAST, **options)


def async_client(respond: Respond, **options: Any) -> AsyncJobs:
    return AsyncJobs("http://service/prefix", transport=httpx.MockTransport(respond), retry=FAST, **options)


def submit_sync(respond: Respond, **options: Any) -> str:
    with sync_client(respond, **options) as jobs:
        return jobs.submit({"seed": 1}).id


def submit_async(respond: Respond, **options: Any) -> str:
    async def submit() -> str:
        async with async_client(respond, **options) as jobs:
            return (await jobs.submit({"seed": 1})).id

    return asyncio.run(submit())


both = pytest.mark.parametrize("submit", [submit_sync, submit_async])
LOST: list[Exception] = [
    httpx.ReadError("reset"),
    httpx.WriteError("reset"),
    httpx.RemoteProtocolError("Server disconnected"),
    httpx.ReadTimeout("slow"),
    httpx.ConnectError("refused"),
    httpx.ConnectTimeout(""),
    httpx.PoolTimeout(""),
    httpx.ProxyError("503"),
    httpx.DecodingError("bad gzip"),
]


@both
@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_submission_is_repeated_with_its_key(submit: Callable[..., str], error: Exception) -> None:
    respond, requests = scripted(error, httpx.Response(502), DONE)
    assert submit(respond) == "j1"
    assert len(requests) == 3
    assert len({request.headers["Idempotency-Key"] for request in requests}) == 1
    assert {request.content for request in requests} == {b'{"queue":"default","input_params":{"seed":1}}'}
    assert {str(request.url) for request in requests} == {"http://service/prefix/v1/jobs"}


@both
@pytest.mark.parametrize(
    ("error", "kind", "outcome_unknown"),
    [
        (httpx.ReadError("reset"), errors.ConnectionLost, True),
        (httpx.ReadTimeout("slow"), errors.ConnectionFailed, True),
        (httpx.ConnectError("refused"), errors.ConnectionFailed, False),
        (httpx.DecodingError("bad gzip"), errors.UnexpectedResponse, True),
    ],
)
def test_the_last_failure_is_raised_when_the_time_is_over(
    submit: Callable[..., str],
    error: Exception,
    kind: type[errors.ServiceUnavailable],
    outcome_unknown: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    respond, requests = scripted(error)
    each_takes_a_second = functools.partial(Deadline, clock=lambda: float(len(requests)))
    monkeypatch.setattr("jobstate._handle.Deadline", each_takes_a_second)
    with pytest.raises(kind, match="http://service/prefix") as raised:
        submit(respond, timeout=2.5)
    assert type(raised.value) is kind
    assert raised.value.outcome_unknown is outcome_unknown
    assert len(requests) == 3


@both
def test_a_header_that_cannot_be_sent_is_not_repeated(submit: Callable[..., str]) -> None:
    respond, requests = scripted(httpx.LocalProtocolError("Illegal header value"))
    with pytest.raises(errors.RequestRejected, match="cannot be sent"):
        submit(respond)
    assert len(requests) == 1


@both
def test_a_redirect_says_which_url_to_use(submit: Callable[..., str]) -> None:
    respond, requests = scripted(httpx.Response(301, headers={"Location": "https://other/v1/jobs"}))
    with pytest.raises(errors.Redirected, match="use `https://other` as its URL"):
        submit(respond)
    assert len(requests) == 1


@both
def test_the_api_key_is_sent(submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBSTATE_API_KEY", "from-the-environment")
    respond, requests = scripted(DONE)
    submit(respond)
    submit(respond, api_key="given")
    keys = [request.headers["Authorization"] for request in requests]
    assert keys == ["Bearer from-the-environment", "Bearer given"]


@both
def test_an_outage_is_logged_once(submit: Callable[..., str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jobstate")
    respond, _ = scripted(httpx.ConnectError("refused"), httpx.ConnectError("refused"), DONE)
    submit(respond)
    logged = [entry.getMessage() for entry in caplog.records if entry.name == "jobstate"]
    assert len(logged) == 1
    assert logged[0].startswith("service unavailable, retrying in 0.0 s: http://service/prefix cannot be reached")


@pytest.mark.parametrize("kind", [Jobs, AsyncJobs])
def test_a_transport_of_the_other_kind_is_refused(kind: type[Jobs]) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"`transport` must be an `httpx\..*BaseTransport`"):
        kind("http://service", transport=object())


@pytest.mark.parametrize("kind", [Jobs, AsyncJobs])
def test_an_unusable_proxy_is_a_configuration_error(kind: type[Jobs], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "ftp://proxy")
    with pytest.raises(errors.ConfigurationError, match="`http_proxy`"):
        kind("http://service.example")
    kind("http://127.0.0.1:1")  # is reached without a proxy


def test_a_closed_client_says_so() -> None:
    jobs = sync_client(scripted(DONE)[0])
    job = jobs.submit(1)
    jobs.close()
    for use in (job.refresh, job.wait, lambda: jobs.wait_all([job])):
        with pytest.raises(errors.JobstateError, match="the client is closed"):
            use()


def test_a_wait_that_is_interrupted_frees_its_place() -> None:
    left = [DONE]

    def interrupt(request: httpx.Request) -> httpx.Response:
        if left:
            return left.pop()
        raise KeyboardInterrupt

    with sync_client(interrupt) as jobs:
        job = jobs.submit(1)
        for _ in range(20):
            with pytest.raises(KeyboardInterrupt):
                job.wait()
        assert jobs._waits._long_polls.acquire(blocking=False)


def test_changes_that_are_left_early_close_the_stream() -> None:
    class Body(httpx.SyncByteStream):
        closed = False

        def __iter__(self) -> Any:
            text = httpx.Response(200, json=record_fields("running", 2)).content
            yield b"event: changed\nid: 1-2\ndata: " + text + b"\n\n"

        def close(self) -> None:
            self.closed = True

    body = Body()
    stream = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=body)
    respond, _ = scripted(DONE, stream)
    with sync_client(respond) as jobs:
        for change in jobs.submit(1).changes():
            assert change.status == "running"
            break
    assert body.closed


@pytest.mark.parametrize("is_async", [False, True])
def test_a_request_tells_when_it_was_sent(is_async: bool) -> None:
    """Workers ask for a job that an interrupted claim may have claimed."""
    from msgspec.structs import replace

    from jobstate._http import build

    sent: list[bool] = []
    request = replace(get_stats(), on_sent=lambda: sent.append(True))
    client = httpx.AsyncClient() if is_async else httpx.Client()
    trace = build(client, request, 1.0).extensions["trace"]

    def tell(event: str) -> None:
        outcome = trace(event, {})
        if is_async:
            asyncio.run(outcome)

    tell("http11.send_request_headers.started")
    assert sent == []
    tell("http11.send_request_body.started")
    assert sent == [True]
    asyncio.run(client.aclose()) if isinstance(client, httpx.AsyncClient) else client.close()


def test_requests_about_a_job_carry_its_correlation_id() -> None:
    respond, requests = scripted(httpx.Response(200, json=record_fields("completed", 3, correlation_id="c-1")))
    with sync_client(respond) as jobs:
        job = jobs.submit(1)
        for use in (job.refresh, job.cancel, job.delete, job.result_bytes, job.wait):
            use()
    assert [request.headers.get("X-Correlation-ID") for request in requests] == [None, *["c-1"] * 5]


def test_a_failed_job_is_never_returned_as_if_it_were_fine() -> None:
    respond, _ = scripted(httpx.Response(200, json=record_fields("failed", 3, error_message="no memory")))
    with sync_client(respond) as jobs, pytest.raises(errors.JobFailed, match="job j1 failed: no memory"):
        jobs.submit(1).wait()


def test_connections_are_closed_once_no_thread_uses_them() -> None:
    class Transport(httpx.MockTransport):
        is_closed = False

        def close(self) -> None:
            self.is_closed = True

    transport = Transport(lambda request: httpx.Response(200))
    http = SharedClient(transport=transport)
    with http.in_use():
        http.close()
        assert not transport.is_closed
        with pytest.raises(errors.JobstateError, match="closed"), http.in_use():
            pass
    assert transport.is_closed


def test_a_handle_needs_no_request_and_its_wait_outlasts_the_time_out_of_the_client() -> None:
    outage: list[httpx.Response | Exception] = [httpx.ConnectError("refused")] * 200
    respond, requests = scripted(*outage, DONE)
    with sync_client(respond, timeout=0.0) as jobs:
        job = jobs.handle("j1", result_type=int)
        assert requests == []
        assert (job.id, repr(job)) == ("j1", "<JobHandle j1: not seen yet>")
        for name in ("record", "status", "progress", "is_final"):
            with pytest.raises(errors.JobstateError, match="has not seen job j1 yet: call `refresh`"):
                getattr(job, name)
        assert job.wait() == 7
        assert (len(requests), job.status, job.record.revision) == (201, "completed", 3)


@pytest.mark.parametrize("method", ["refresh", "cancel", "delete", "result_bytes"])
def test_the_methods_of_a_handle_work_at_once(method: str) -> None:
    respond, requests = scripted(DONE)
    with sync_client(respond) as jobs:
        getattr(jobs.handle("j1"), method)()
    assert [str(request.url).partition("/v1/jobs/")[2] for request in requests] == [
        {"cancel": "j1/cancel", "result_bytes": "j1/result"}.get(method, "j1")
    ]


@pytest.mark.parametrize(
    ("job_id", "error", "text"), [(None, TypeError, "`id` must be a string, not NoneType"), ("", ValueError, "`id` ''")]
)
def test_what_is_not_an_id_is_refused_by_name(job_id: Any, error: type[Exception], text: str) -> None:
    respond, requests = scripted(DONE)
    with sync_client(respond) as jobs:
        for method in (jobs.get, jobs.handle):
            with pytest.raises(error, match=text):
                method(job_id)
    assert requests == []


def test_an_unknown_argument_is_refused_before_a_request() -> None:
    respond, requests = scripted(DONE)
    with sync_client(respond) as jobs:
        with pytest.raises(TypeError, match=r"unknown argument `maxattempts`: use one of `slate_id`, .*`max_attempts`"):
            jobs.submit(1, maxattempts=3)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=r"unknown argument `state`: use one of `status`, `queue`"):
            next(jobs.list(state="failed"))  # type: ignore[call-arg]
    assert requests == []


def test_an_absent_result_is_none_only_if_the_type_allows_it() -> None:
    respond, _ = scripted(httpx.Response(200, json=record_fields("completed", 3)))
    with sync_client(respond) as jobs:
        assert jobs.handle("j1").wait() is None
        optional: Any = int | None
        assert jobs.handle("j1", result_type=optional).wait() is None
        with pytest.raises(errors.InvalidResult, match="completed without a result, and its `result_type` is not opt"):
            jobs.handle("j1", result_type=int).wait()
