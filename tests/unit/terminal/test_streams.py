"""Following a job across lost connections, and the retries of the HTTP client."""

import re
from collections.abc import Callable

import httpx
import pytest
from msgspec import Raw

from jobstate import JobDeleted, JobExpired, JobNotFound, RetryPolicy, ServiceUnavailable, WaitTimeout
from jobstate._requests import create_job, get_job
from jobstate._sse import Event
from jobstate.cli import connection
from jobstate.cli.exit_codes import STATUS_EXIT_CODES, Exit, exit_code
from jobstate.cli.follow import Change, follow
from tests.helpers.mock_transport import (
    RECORD,
    STREAM,
    ScriptedTransport,
    changed_event,
    event,
    json_response,
    problem,
    stream_response,
)
from tests.helpers.records import record_fields as job

DONE = json_response(job("completed", 3, result=42))
CUT = httpx.ReadError("cut")


class RecordingView:
    """A view that records its calls."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.losses: list[str] = []
        self.pauses: list[float] = []
        self.reconnects = 0
        self.outcome = b""

    def changed(self, change: Change) -> None:
        self.states.append(change.status)

    def removed(self, event: Event) -> None:
        self.states.append(event.name)

    def finished(self, change: Change) -> None:
        self.outcome = change.outcome

    def on_disconnect(self, reason: str, pause: float) -> None:
        self.losses.append(reason)
        self.pauses.append(pause)

    def on_reconnect(self) -> None:
        self.reconnects += 1


@pytest.fixture(autouse=True)
def reconnects(monkeypatch: pytest.MonkeyPatch) -> Callable[[RetryPolicy], None]:
    """Sets the policy of reconnects; without a call they come at once."""

    def replace(policy: RetryPolicy) -> None:
        monkeypatch.setattr(connection, "RECONNECTS", policy)

    replace(RetryPolicy(first_delay=0.0))
    return replace


@pytest.fixture
def view() -> RecordingView:
    return RecordingView()


@pytest.fixture
def scripted() -> ScriptedTransport:
    return ScriptedTransport()


async def run_follow(
    scripted: ScriptedTransport, view: RecordingView, seconds: float | None = 10.0, *, already_exists: bool = False
) -> Exit:
    async with scripted.client() as client:
        return await follow(client, "j1", view, seconds, already_exists=already_exists)


@pytest.mark.parametrize(
    ("last", "code", "outcome"),
    [
        (job("completed", 3, result=[1.10]), Exit.OK, b"[1.1]"),
        (job("failed", 3, error_message={"why": "x"}), Exit.FAILED, b'{"why":"x"}'),
        (job("cancelled", 3), Exit.CANCELLED, b""),
    ],
)
async def test_every_change_is_shown_and_the_exit_code_is_that_of_the_status(
    scripted: ScriptedTransport, view: RecordingView, last: dict[str, object], code: Exit, outcome: bytes
) -> None:
    parts = (
        changed_event("pending"),
        b": heartbeat\n\n",
        changed_event("running", 2),
        changed_event(str(last["status"]), 3),
    )
    scripted.respond(STREAM, stream_response(*parts)).respond(RECORD, json_response(last))
    assert await run_follow(scripted, view) is code
    assert view.states == ["pending", "running", last["status"]]
    assert (view.outcome, view.losses) == (outcome, [])


async def test_a_reconnect_continues_after_the_last_event(scripted: ScriptedTransport, view: RecordingView) -> None:
    half = changed_event("completed", 3)[:40]
    scripted.respond(
        STREAM,
        stream_response(changed_event("pending"), changed_event("running", 2), half, CUT),
        httpx.ConnectError("refused"),
        stream_response(changed_event("completed", 3)),
    ).respond(RECORD, DONE)
    assert await run_follow(scripted, view) is Exit.OK
    assert view.states == ["pending", "running", "completed"]
    assert [request.headers.get("Last-Event-ID") for request in scripted.requests_to(STREAM)] == [None, "1-2", "1-2"]
    assert [re.sub(r" \(.*", "", loss) for loss in view.losses] == [
        "the connection to http://service was lost",
        "http://service cannot be reached",
    ]
    assert view.reconnects == 1


@pytest.mark.parametrize(
    "end",
    [
        pytest.param([], id="closed"),
        pytest.param([CUT], id="cut"),
        pytest.param([httpx.ReadTimeout("timed out")], id="timed out"),
        pytest.param([httpx.RemoteProtocolError("peer closed")], id="incomplete"),
        pytest.param([event("bye", {"reason": "slow"})], id="bye"),
        pytest.param([event("bye", "what")], id="odd bye"),
    ],
)
async def test_every_kind_of_disconnect_is_survived(
    scripted: ScriptedTransport, view: RecordingView, end: list[bytes | Exception]
) -> None:
    scripted.respond(
        STREAM, stream_response(changed_event("running"), *end), stream_response(changed_event("completed", 2))
    ).respond(RECORD, DONE)
    assert await run_follow(scripted, view) is Exit.OK
    assert (view.states, len(view.losses)) == (["running", "completed"], 1)


async def test_the_reason_of_a_bye_is_reported(scripted: ScriptedTransport, view: RecordingView) -> None:
    bye = event("bye", {"reason": "too slow"})
    scripted.respond(
        STREAM, stream_response(changed_event("running"), bye), stream_response(changed_event("completed", 2))
    ).respond(RECORD, DONE)
    await run_follow(scripted, view)
    assert view.losses == ["the service closed the event stream (too slow)"]


async def test_a_reconnect_continues_after_an_id_without_an_event(
    scripted: ScriptedTransport, view: RecordingView
) -> None:
    scripted.respond(
        STREAM,
        stream_response(changed_event("running"), b":\nid: 1-9\n\n"),
        stream_response(changed_event("completed", 10)),
    )
    scripted.respond(RECORD, DONE)
    await run_follow(scripted, view)
    assert scripted.requests_to(STREAM)[1].headers["Last-Event-ID"] == "1-9"
    assert view.states == ["running", "completed"]


async def test_no_change_is_shown_twice(scripted: ScriptedTransport, view: RecordingView) -> None:
    again = stream_response(changed_event("running", 2), changed_event("completed", 3))
    scripted.respond(STREAM, stream_response(changed_event("running", 2)), again).respond(RECORD, DONE)
    await run_follow(scripted, view)
    assert view.states == ["running", "completed"]


async def test_a_job_that_finished_during_a_disconnect_is_read(
    scripted: ScriptedTransport, view: RecordingView
) -> None:
    scripted.respond(STREAM, stream_response(changed_event("completed", 3), CUT), httpx.Response(204)).respond(
        RECORD, DONE
    )
    assert await run_follow(scripted, view) is Exit.OK
    finished = ScriptedTransport().respond(STREAM, httpx.Response(204)).respond(RECORD, DONE)
    assert await run_follow(finished, view) is Exit.OK
    assert view.outcome == b"42"


async def test_the_final_record_is_read_after_an_outage(scripted: ScriptedTransport, view: RecordingView) -> None:
    scripted.respond(STREAM, stream_response(changed_event("completed", 3))).respond(
        RECORD, httpx.ConnectError("refused"), DONE
    )
    assert await run_follow(scripted, view) is Exit.OK
    assert (view.outcome, len(view.losses), view.reconnects) == (b"42", 1, 1)


async def test_pauses_grow_to_the_maximum_and_are_reset_by_an_event(
    scripted: ScriptedTransport, view: RecordingView, reconnects: Callable[[RetryPolicy], None]
) -> None:
    reconnects(RetryPolicy(first_delay=0.005, max_delay=0.02))
    failures = [httpx.ConnectError("refused")] * 4
    retry = b"retry: 5\n\n"  # the minimum
    scripted.respond(
        STREAM,
        stream_response(retry, changed_event("running")),
        *failures,
        stream_response(retry, changed_event("running", 2)),
    )
    scripted.respond(STREAM, stream_response(changed_event("completed", 3))).respond(RECORD, DONE)
    await run_follow(scripted, view)
    for pause, minimum in zip(view.pauses, [0.005, 0.01, 0.02, 0.02, 0.02, 0.005], strict=True):
        assert minimum <= pause <= 1.25 * minimum


async def test_a_reconnect_waits_for_retry_after(scripted: ScriptedTransport, view: RecordingView) -> None:
    draining = problem(503, "store-unreachable", "Redis is unavailable.", **{"Retry-After": "1"})
    scripted.respond(
        STREAM, stream_response(changed_event("running"), CUT), draining, stream_response(changed_event("completed", 3))
    )
    scripted.respond(RECORD, DONE)
    await run_follow(scripted, view)
    assert view.losses[1] == "Redis is unavailable."
    assert view.pauses[1] >= 1


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [("deleted", JobDeleted, "j1 was deleted"), ("expired", JobExpired, "j1 has expired")],
)
async def test_a_deleted_or_expired_job_ends_the_watch(
    scripted: ScriptedTransport, view: RecordingView, name: str, error: type[JobExpired], words: str
) -> None:
    removed = event(name, {"job_id": "j1", "status": "completed", "revision": 3}, "1-4")
    scripted.respond(STREAM, stream_response(changed_event("running"), removed))
    with pytest.raises(error, match=words):
        await run_follow(scripted, view)
    assert view.states == ["running", name]


async def test_a_failed_job_that_is_deleted_before_it_is_read_has_failed(
    scripted: ScriptedTransport, view: RecordingView
) -> None:
    scripted.respond(STREAM, stream_response(changed_event("failed", 2, error_message="no")))
    scripted.respond(RECORD, problem(404, "job-not-found", "There is no job 'j1'."))
    assert await run_follow(scripted, view) is Exit.FAILED
    assert view.outcome == b'"no"'


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_a_final_status_without_a_record_has_its_exit_code(
    scripted: ScriptedTransport, view: RecordingView, status: str
) -> None:
    """The service read no record before the job was deleted. It knows the status from the history."""
    final = event("changed", {"job_id": "j1", "status": status, "revision": 3, "queue": "default"}, "1-3")
    scripted.respond(
        STREAM, stream_response(final, event("deleted", {"job_id": "j1", "status": status, "revision": 3}, "1-3"))
    )
    scripted.respond(RECORD, problem(404, "job-not-found", "There is no job 'j1'."))
    assert await run_follow(scripted, view) is STATUS_EXIT_CODES[status]
    assert (view.states, view.outcome) == ([status], b"")


async def test_a_completed_job_that_is_deleted_before_it_is_read_is_no_success(
    scripted: ScriptedTransport, view: RecordingView
) -> None:
    scripted.respond(STREAM, stream_response(changed_event("completed", 2)))
    scripted.respond(RECORD, problem(404, "job-not-found", "There is no job 'j1'."))
    with pytest.raises(JobDeleted, match="j1 completed, but was deleted before its result was read"):
        await run_follow(scripted, view)


async def test_a_job_that_was_deleted_during_a_disconnect_ends_the_watch(
    scripted: ScriptedTransport, view: RecordingView
) -> None:
    scripted.respond(
        STREAM, stream_response(changed_event("running"), CUT), problem(404, "job-not-found", "There is no job 'j1'.")
    )
    with pytest.raises(JobNotFound, match="There is no job 'j1'") as error:
        await run_follow(scripted, view)
    assert exit_code(error.value) is Exit.NOT_FOUND


@pytest.mark.parametrize(
    "first",
    [
        lambda: httpx.ConnectError("refused"),
        lambda: problem(503, "store-unreachable", "Redis is unavailable."),
        lambda: stream_response(event("bye", {"reason": "too many"})),
        lambda: json_response({"hello": "world"}),
    ],
    ids=["refused", "503", "bye", "no stream"],
)
async def test_an_outage_before_the_first_event_ends_the_watch(
    scripted: ScriptedTransport, view: RecordingView, first: Callable[[], httpx.Response | Exception]
) -> None:
    scripted.respond(STREAM, first())
    with pytest.raises(ServiceUnavailable):
        await run_follow(scripted, view)
    assert view.losses == []


async def test_an_outage_before_the_first_event_of_an_existing_job_is_retried(
    scripted: ScriptedTransport, view: RecordingView
) -> None:
    scripted.respond(STREAM, httpx.ConnectError("refused"), stream_response(changed_event("completed", 3))).respond(
        RECORD, DONE
    )
    assert await run_follow(scripted, view, already_exists=True) is Exit.OK
    assert len(view.losses) == 1


async def test_the_timeout_ends_the_watch(
    scripted: ScriptedTransport, view: RecordingView, reconnects: Callable[[RetryPolicy], None]
) -> None:
    reconnects(RetryPolicy(first_delay=60.0, max_delay=60.0))
    scripted.respond(STREAM, httpx.ConnectError("refused"))
    with pytest.raises(WaitTimeout, match=r"j1 did not finish within 0\.05 s"):
        await run_follow(scripted, view, seconds=0.05, already_exists=True)


async def test_a_stream_times_out_after_three_heartbeats(scripted: ScriptedTransport, view: RecordingView) -> None:
    scripted.respond(STREAM, stream_response(changed_event("completed", 3))).respond(RECORD, DONE)
    await run_follow(scripted, view)
    (request,) = scripted.requests_to(STREAM)
    assert request.extensions["timeout"]["read"] == 45
    assert request.headers["Accept"] == "text/event-stream"


async def test_an_unknown_event_is_ignored(scripted: ScriptedTransport, view: RecordingView) -> None:
    parts = event("blessed", {"by": "whom"}, "1-1"), changed_event("completed", 3, mood="good")
    scripted.respond(STREAM, stream_response(*parts)).respond(RECORD, DONE)
    assert await run_follow(scripted, view) is Exit.OK
    assert view.states == ["completed"]


class TestRequests:
    """Which requests are retried."""

    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "ATTEMPTS", RetryPolicy(first_delay=0.001, max_attempts=3))

    def test_a_request_whose_response_was_lost_is_retried_under_the_same_key(self, scripted: ScriptedTransport) -> None:
        scripted.respond("/v1/jobs", CUT, httpx.RemoteProtocolError("closed"), json_response(job("pending"), 201))
        with scripted.blocking_client() as client:
            assert client.send(create_job(Raw(b"{}"), None, None, "k1", {})).job.job_id == "j1"
        sent = [(request.content, request.headers["Idempotency-Key"]) for request in scripted.requests]
        assert sent == [(b'{"input_params":{}}', "k1")] * 3

    def test_a_request_that_was_not_sent_is_not_retried(self, scripted: ScriptedTransport) -> None:
        scripted.respond(RECORD, httpx.ConnectError("refused"))
        with (
            scripted.blocking_client() as client,
            pytest.raises(ServiceUnavailable, match="http://service cannot be reached") as error,
        ):
            client.send(get_job("j1"))
        assert (len(scripted.requests), error.value.outcome_unknown) == (1, False)

    def test_a_timeout_is_not_retried_and_its_outcome_is_unknown(self, scripted: ScriptedTransport) -> None:
        scripted.respond(RECORD, httpx.ReadTimeout("timed out"))
        with (
            scripted.blocking_client() as client,
            pytest.raises(ServiceUnavailable, match="http://service did not respond") as error,
        ):
            client.send(get_job("j1"))
        assert (len(scripted.requests), error.value.outcome_unknown) == (1, True)

    @pytest.mark.parametrize(("retry_after", "times"), [("1", 2), ("60", 1), ("", 1), ("soon", 1)])
    def test_a_short_retry_after_is_waited_for(self, scripted: ScriptedTransport, retry_after: str, times: int) -> None:
        busy = problem(429, "rate-limited", "Too often.", **{"Retry-After": retry_after})
        scripted.respond(RECORD, busy, *([json_response(job("running"))] if times > 1 else []))
        with scripted.blocking_client() as client:
            if times > 1:
                assert client.send(get_job("j1")).job.status == "running"
            else:
                with pytest.raises(ServiceUnavailable, match="Too often"):
                    client.send(get_job("j1"))
        assert len(scripted.requests) == times

    def test_a_response_of_another_server_is_an_outage(self, scripted: ScriptedTransport) -> None:
        scripted.respond(RECORD, httpx.Response(200, html="<p>Welcome</p>"))
        with (
            scripted.blocking_client() as client,
            pytest.raises(ServiceUnavailable, match="the response is not from a jobstate service"),
        ):
            client.send(get_job("j1"))

    def test_an_error_response_without_a_problem_is_reported_with_its_status(self, scripted: ScriptedTransport) -> None:
        scripted.respond(RECORD, httpx.Response(403, html="<p>Go away</p>"))
        with (
            scripted.blocking_client() as client,
            pytest.raises(ServiceUnavailable, match="the response 403 is not from a jobstate service") as error,
        ):
            client.send(get_job("j1"))
        assert exit_code(error.value) is Exit.ERROR
        assert len(scripted.requests) == 1

    async def test_now_is_the_time_on_the_clock_of_the_service(self, scripted: ScriptedTransport) -> None:
        scripted.respond(RECORD, json_response(job("running"), Date="Fri, 20 Nov 2020 12:00:00 GMT"))
        async with scripted.client() as client:
            await client.send(get_job("j1"))
            assert f"{client.now:%Y-%m-%d %H:%M}" == "2020-11-20 12:00"

    @pytest.mark.parametrize("job_id", ["a/b", "a?b=c", "a#b", "ä", "%2e%2e"])
    def test_a_job_id_is_one_segment_of_the_path(self, scripted: ScriptedTransport, job_id: str) -> None:
        scripted.respond(f"/v1/jobs/{job_id}", json_response(job("running")))
        with scripted.blocking_client() as client:
            client.send(get_job(job_id))
        assert scripted.requests[0].url.raw_path.count(b"/") == 3
