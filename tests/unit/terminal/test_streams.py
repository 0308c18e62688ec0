"""A job is followed to its end whatever becomes of the connections on the way."""

import re
from collections.abc import Callable

import httpx
import pytest

from jobstate_cli import service as calls
from jobstate_cli import streams
from jobstate_cli.errors import JobGone, Refused, ServiceAway, TimedOut
from jobstate_cli.exits import ENDS, Exit
from jobstate_cli.follow import follow
from jobstate_cli.records import Record
from jobstate_cli.streams import Event
from tests.helpers.mock_transport import (
    RECORD,
    STREAM,
    ScriptedTransport,
    changed_event,
    event,
    job,
    json_response,
    problem,
    stream_response,
)

DONE = json_response(job("completed", 3, result=42))
CUT = httpx.ReadError("cut")


class Seen:
    """A view that remembers."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.losses: list[str] = []
        self.pauses: list[float] = []
        self.returns = 0
        self.outcome = b""

    def changed(self, record: Record) -> None:
        self.states.append(record.job.status)

    def gone(self, event: Event) -> None:
        self.states.append(event.name)

    def ended(self, record: Record) -> None:
        self.outcome = record.job.outcome

    def lost(self, reason: str, pause: float) -> None:
        self.losses.append(reason)
        self.pauses.append(pause)

    def back(self) -> None:
        self.returns += 1


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def scripted() -> ScriptedTransport:
    return ScriptedTransport()


async def see(scripted: ScriptedTransport, seen: Seen, seconds: float | None = 10.0, *, known: bool = False) -> Exit:
    async with scripted.service() as service:
        return await follow(service, "j1", seen, seconds, known=known)


@pytest.mark.parametrize(
    ("last", "code", "outcome"),
    [
        (job("completed", 3, result=[1.10]), Exit.OK, b"[1.1]"),
        (job("failed", 3, error_message={"why": "x"}), Exit.FAILED, b'{"why":"x"}'),
        (job("cancelled", 3), Exit.CANCELLED, b""),
    ],
)
async def test_every_state_is_shown_and_the_end_says_how_it_ended(
    scripted: ScriptedTransport, seen: Seen, last: dict[str, object], code: Exit, outcome: bytes
) -> None:
    parts = (
        changed_event("pending"),
        b": heartbeat\n\n",
        changed_event("running", 2),
        changed_event(str(last["status"]), 3),
    )
    scripted.respond(STREAM, stream_response(*parts)).respond(RECORD, json_response(last))
    assert await see(scripted, seen) is code
    assert seen.states == ["pending", "running", last["status"]]
    assert (seen.outcome, seen.losses) == (outcome, [])


async def test_a_lost_connection_is_made_again_from_the_last_event_on(scripted: ScriptedTransport, seen: Seen) -> None:
    half = changed_event("completed", 3)[:40]
    scripted.respond(
        STREAM,
        stream_response(changed_event("pending"), changed_event("running", 2), half, CUT),
        httpx.ConnectError("refused"),
        stream_response(changed_event("completed", 3)),
    ).respond(RECORD, DONE)
    assert await see(scripted, seen) is Exit.OK
    assert seen.states == ["pending", "running", "completed"]
    assert [request.headers.get("Last-Event-ID") for request in scripted.requests_to(STREAM)] == [None, "1-2", "1-2"]
    assert [re.sub(r" \(.*", "", loss) for loss in seen.losses] == [
        "the connection to http://service was lost",
        "http://service cannot be reached",
    ]
    assert seen.returns == 1


@pytest.mark.parametrize(
    "end",
    [
        pytest.param([], id="closed"),
        pytest.param([CUT], id="cut"),
        pytest.param([httpx.ReadTimeout("silence")], id="silent"),
        pytest.param([httpx.RemoteProtocolError("peer closed")], id="broken off"),
        pytest.param([event("bye", {"reason": "slow"})], id="bye"),
        pytest.param([event("bye", "what")], id="odd bye"),
    ],
)
async def test_no_way_to_lose_a_connection_ends_the_watch(
    scripted: ScriptedTransport, seen: Seen, end: list[bytes | Exception]
) -> None:
    scripted.respond(
        STREAM, stream_response(changed_event("running"), *end), stream_response(changed_event("completed", 2))
    ).respond(RECORD, DONE)
    assert await see(scripted, seen) is Exit.OK
    assert (seen.states, len(seen.losses)) == (["running", "completed"], 1)


async def test_a_bye_says_why(scripted: ScriptedTransport, seen: Seen) -> None:
    bye = event("bye", {"reason": "too slow"})
    scripted.respond(
        STREAM, stream_response(changed_event("running"), bye), stream_response(changed_event("completed", 2))
    ).respond(RECORD, DONE)
    await see(scripted, seen)
    assert seen.losses == ["the service ended the connection (too slow)"]


async def test_an_id_without_an_event_is_where_the_next_connection_begins(
    scripted: ScriptedTransport, seen: Seen
) -> None:
    scripted.respond(
        STREAM,
        stream_response(changed_event("running"), b":\nid: 1-9\n\n"),
        stream_response(changed_event("completed", 10)),
    )
    scripted.respond(RECORD, DONE)
    await see(scripted, seen)
    assert scripted.requests_to(STREAM)[1].headers["Last-Event-ID"] == "1-9"
    assert seen.states == ["running", "completed"]


async def test_what_was_shown_is_not_shown_again(scripted: ScriptedTransport, seen: Seen) -> None:
    again = stream_response(changed_event("running", 2), changed_event("completed", 3))
    scripted.respond(STREAM, stream_response(changed_event("running", 2)), again).respond(RECORD, DONE)
    await see(scripted, seen)
    assert seen.states == ["running", "completed"]


async def test_a_job_that_ended_meanwhile_is_read(scripted: ScriptedTransport, seen: Seen) -> None:
    scripted.respond(STREAM, stream_response(changed_event("completed", 3), CUT), httpx.Response(204)).respond(
        RECORD, DONE
    )
    assert await see(scripted, seen) is Exit.OK
    over = ScriptedTransport().respond(STREAM, httpx.Response(204)).respond(RECORD, DONE)
    assert await see(over, seen) is Exit.OK
    assert seen.outcome == b"42"


async def test_the_end_is_told_although_the_service_is_away_just_then(scripted: ScriptedTransport, seen: Seen) -> None:
    scripted.respond(STREAM, stream_response(changed_event("completed", 3))).respond(
        RECORD, httpx.ConnectError("refused"), DONE
    )
    assert await see(scripted, seen) is Exit.OK
    assert (seen.outcome, len(seen.losses), seen.returns) == (b"42", 1, 1)


async def test_pauses_grow_up_to_the_longest_and_begin_anew_after_an_event(
    scripted: ScriptedTransport, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LONGEST_PAUSE", 0.02)
    refused = [httpx.ConnectError("refused")] * 4
    retry = b"retry: 5\n\n"
    scripted.respond(
        STREAM,
        stream_response(retry, changed_event("running")),
        *refused,
        stream_response(retry, changed_event("running", 2)),
    )
    scripted.respond(STREAM, stream_response(changed_event("completed", 3))).respond(RECORD, DONE)
    await see(scripted, seen)
    for pause, least in zip(seen.pauses, [0.005, 0.01, 0.02, 0.02, 0.02, 0.005], strict=True):
        assert least <= pause <= 1.25 * least


async def test_the_service_says_how_long_it_is_to_be_left_alone(scripted: ScriptedTransport, seen: Seen) -> None:
    draining = problem(503, "store-unreachable", "Redis is away.", **{"Retry-After": "1"})
    scripted.respond(
        STREAM, stream_response(changed_event("running"), CUT), draining, stream_response(changed_event("completed", 3))
    )
    scripted.respond(RECORD, DONE)
    await see(scripted, seen)
    assert seen.losses[1] == "Redis is away."
    assert seen.pauses[1] >= 1


@pytest.mark.parametrize(("name", "words"), [("deleted", "j1 was deleted"), ("expired", "j1 has expired")])
async def test_a_job_that_goes_ends_the_watch(scripted: ScriptedTransport, seen: Seen, name: str, words: str) -> None:
    gone = event(name, {"job_id": "j1", "status": "completed", "revision": 3}, "1-4")
    scripted.respond(STREAM, stream_response(changed_event("running"), gone))
    with pytest.raises(JobGone, match=words):
        await see(scripted, seen)
    assert seen.states == ["running", name]


async def test_a_job_that_goes_between_its_end_and_its_result_has_ended(
    scripted: ScriptedTransport, seen: Seen
) -> None:
    scripted.respond(STREAM, stream_response(changed_event("failed", 2, error_message="no")))
    scripted.respond(RECORD, problem(404, "job-not-found", "There is no job 'j1'."))
    assert await see(scripted, seen) is Exit.FAILED
    assert seen.outcome == b'"no"'


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_an_end_that_is_told_afterwards_says_how_it_ended(
    scripted: ScriptedTransport, seen: Seen, status: str
) -> None:
    """The service had not looked at the record before it went: it knows the status from its history."""
    told = event("changed", {"job_id": "j1", "status": status, "revision": 3, "queue": "default"}, "1-3")
    scripted.respond(
        STREAM, stream_response(told, event("deleted", {"job_id": "j1", "status": status, "revision": 3}, "1-3"))
    )
    scripted.respond(RECORD, problem(404, "job-not-found", "There is no job 'j1'."))
    assert await see(scripted, seen) is ENDS[status]
    assert (seen.states, seen.outcome) == ([status], b"")


async def test_a_result_that_nobody_can_read_any_more_is_no_success(scripted: ScriptedTransport, seen: Seen) -> None:
    scripted.respond(STREAM, stream_response(changed_event("completed", 2)))
    scripted.respond(RECORD, problem(404, "job-not-found", "There is no job 'j1'."))
    with pytest.raises(JobGone, match="j1 has completed, and was gone before its result was read"):
        await see(scripted, seen)


async def test_a_job_that_went_meanwhile_ends_the_watch(scripted: ScriptedTransport, seen: Seen) -> None:
    scripted.respond(
        STREAM, stream_response(changed_event("running"), CUT), problem(404, "job-not-found", "There is no job 'j1'.")
    )
    with pytest.raises(Refused, match="There is no job 'j1'") as refused:
        await see(scripted, seen)
    assert refused.value.exit_code is Exit.GONE


@pytest.mark.parametrize(
    "first",
    [
        lambda: httpx.ConnectError("refused"),
        lambda: problem(503, "store-unreachable", "Redis is away."),
        lambda: stream_response(event("bye", {"reason": "too many"})),
        lambda: json_response({"hello": "world"}),
    ],
    ids=["refused", "503", "bye", "no stream"],
)
async def test_a_job_that_was_never_seen_is_not_waited_for(
    scripted: ScriptedTransport, seen: Seen, first: Callable[[], httpx.Response | Exception]
) -> None:
    scripted.respond(STREAM, first())
    with pytest.raises(ServiceAway):
        await see(scripted, seen)
    assert seen.losses == []


async def test_a_job_that_is_known_is_waited_for_from_the_start(
    scripted: ScriptedTransport, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FIRST_PAUSE", 0.0)
    scripted.respond(STREAM, httpx.ConnectError("refused"), stream_response(changed_event("completed", 3))).respond(
        RECORD, DONE
    )
    assert await see(scripted, seen, known=True) is Exit.OK
    assert len(seen.losses) == 1


async def test_patience_has_an_end_where_one_is_given(
    scripted: ScriptedTransport, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FIRST_PAUSE", 60.0)
    scripted.respond(STREAM, httpx.ConnectError("refused"))
    with pytest.raises(TimedOut, match=r"j1 has not ended within 0\.05 s"):
        await see(scripted, seen, seconds=0.05, known=True)


async def test_silence_of_three_heartbeats_is_a_dead_connection(scripted: ScriptedTransport, seen: Seen) -> None:
    scripted.respond(STREAM, stream_response(changed_event("completed", 3))).respond(RECORD, DONE)
    await see(scripted, seen)
    (request,) = scripted.requests_to(STREAM)
    assert request.extensions["timeout"]["read"] == 45
    assert request.headers["Accept"] == "text/event-stream"


async def test_an_event_of_a_later_version_is_passed_over(scripted: ScriptedTransport, seen: Seen) -> None:
    parts = event("blessed", {"by": "whom"}, "1-1"), changed_event("completed", 3, mood="good")
    scripted.respond(STREAM, stream_response(*parts)).respond(RECORD, DONE)
    assert await see(scripted, seen) is Exit.OK
    assert seen.states == ["completed"]


class TestTheCalls:
    """What is repeated, and what is not."""

    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(calls, "PAUSE", 0.001)

    async def test_a_lost_reply_is_asked_for_again_under_the_same_key(self, scripted: ScriptedTransport) -> None:
        scripted.respond("/v1/jobs", CUT, httpx.RemoteProtocolError("closed"), json_response(job("pending"), 201))
        async with scripted.service() as service:
            assert (await service.create(b"{}", "k1")).job.job_id == "j1"
        sent = [(request.content, request.headers["Idempotency-Key"]) for request in scripted.requests]
        assert sent == [(b"{}", "k1")] * 3

    async def test_a_service_that_is_not_there_is_asked_once(self, scripted: ScriptedTransport) -> None:
        scripted.respond(RECORD, httpx.ConnectError("refused"))
        async with scripted.service() as service:
            with pytest.raises(ServiceAway, match="http://service cannot be reached") as away:
                await service.job("j1")
        assert (len(scripted.requests), away.value.lost) == (1, False)

    async def test_a_silent_service_is_asked_once_and_may_have_heard(self, scripted: ScriptedTransport) -> None:
        scripted.respond(RECORD, httpx.ReadTimeout("silence"))
        async with scripted.service() as service:
            with pytest.raises(ServiceAway, match="http://service does not answer") as away:
                await service.job("j1")
        assert (len(scripted.requests), away.value.lost) == (1, True)

    @pytest.mark.parametrize(("asked_for", "times"), [("1", 2), ("60", 1), ("", 1), ("soon", 1)])
    async def test_a_service_that_asks_for_a_moment_gets_it_if_it_is_short(
        self, scripted: ScriptedTransport, asked_for: str, times: int
    ) -> None:
        busy = problem(429, "rate-limited", "Too often.", **{"Retry-After": asked_for})
        scripted.respond(RECORD, busy, *([json_response(job("running"))] if times > 1 else []))
        async with scripted.service() as service:
            if times > 1:
                assert (await service.job("j1")).job.status == "running"
            else:
                with pytest.raises(ServiceAway, match="Too often"):
                    await service.job("j1")
        assert len(scripted.requests) == times

    async def test_what_another_server_says_is_not_taken_for_the_services(self, scripted: ScriptedTransport) -> None:
        scripted.respond(RECORD, httpx.Response(200, html="<p>Welcome</p>"))
        async with scripted.service() as service:
            with pytest.raises(ServiceAway, match="what answers is no jobstate service"):
                await service.job("j1")

    async def test_a_refusal_without_a_problem_says_its_status(self, scripted: ScriptedTransport) -> None:
        scripted.respond(RECORD, httpx.Response(403, html="<p>Go away</p>"))
        async with scripted.service() as service:
            with pytest.raises(Refused, match="403 Forbidden") as refused:
                await service.job("j1")
        assert refused.value.exit_code is Exit.REFUSED

    async def test_the_services_clock_counts_where_it_is_another(self, scripted: ScriptedTransport) -> None:
        scripted.respond(RECORD, json_response(job("running"), Date="Fri, 20 Nov 2020 12:00:00 GMT"))
        async with scripted.service() as service:
            await service.job("j1")
            assert f"{service.now:%Y-%m-%d %H:%M}" == "2020-11-20 12:00"

    @pytest.mark.parametrize("job_id", ["a/b", "a?b=c", "a#b", "ä", "%2e%2e"])
    async def test_an_id_stays_one_part_of_the_address(self, scripted: ScriptedTransport, job_id: str) -> None:
        scripted.respond(f"/v1/jobs/{job_id}", json_response(job("running")))
        async with scripted.service() as service:
            await service.job(job_id)
        assert scripted.requests[0].url.raw_path.count(b"/") == 3
