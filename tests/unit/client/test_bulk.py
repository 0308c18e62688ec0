"""Bulk actions of both clients over scripted transports: what is sent, and how the end is waited for."""

import asyncio
import json
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest

from jobstate import BulkAction, Jobs, RetryPolicy, errors
from jobstate._bulk import ended_flow, get_bulk_action
from jobstate._flow import FlowRun, Send, Sleep, Step
from jobstate._responses import Response
from jobstate._retry import Deadline, Retry
from tests.helpers.bulk_records import ILLEGAL, NOT_FINAL, action_fields, unexpected_count
from tests.unit.client.test_clients import Respond, async_client, scripted, sync_client

Wait = Callable[..., BulkAction]


def started(**fields: Any) -> httpx.Response:
    return httpx.Response(202, json=action_fields("counting", **fields))


def read(state: str, **fields: Any) -> httpx.Response:
    return httpx.Response(200, json=action_fields(state, **fields))


def bulk_sync(respond: Respond, action: Any = "cancel", *, wait: dict[str, Any] | None = None, **options: Any) -> Any:
    """Start a bulk action, and wait for its end if `wait` has arguments."""
    with sync_client(respond) as jobs:
        handle = jobs.bulk(action, **options)
        return handle.record if wait is None else handle.wait(**wait)


def bulk_async(respond: Respond, action: Any = "cancel", *, wait: dict[str, Any] | None = None, **options: Any) -> Any:
    async def run() -> BulkAction:
        async with async_client(respond) as jobs:
            handle = await jobs.bulk(action, **options)
            return handle.record if wait is None else await handle.wait(**wait)

    return asyncio.run(run())


both = pytest.mark.parametrize("bulk", [bulk_sync, bulk_async])


@both
def test_a_bulk_action_that_is_sent_again_is_started_once(bulk: Wait) -> None:
    respond, requests = scripted(httpx.ReadError("reset"), httpx.Response(502), started())
    assert bulk(respond, queue="q").bulk_action_id == "b1"
    assert len(requests) == 3
    assert len({request.headers["Idempotency-Key"] for request in requests}) == 1
    assert {str(request.url) for request in requests} == {"http://service/prefix/v1/bulk-actions"}


@both
def test_each_bulk_action_has_a_key_of_its_own_unless_one_is_given(bulk: Wait) -> None:
    respond, requests = scripted(started())
    for options in ({}, {}, {"idempotency_key": "k"}):
        bulk(respond, queue="q", **options)
    first, second, third = (request.headers["Idempotency-Key"] for request in requests)
    assert first != second
    assert third == "k"


@both
def test_the_filters_are_sent_as_the_api_has_them(bulk: Wait) -> None:
    respond, requests = scripted(started())
    moment = datetime(2026, 11, 29, 10, tzinfo=UTC)
    bulk(respond, "retry", status="failed", slate_id=None, labels={"a": "1", "b": "2"}, created_after=moment)
    bulk(respond, "delete", queue="q", dry_run=True, expect=0)
    assert [json.loads(request.content) for request in requests] == [
        {
            "action": "retry",
            "filter": {"status": "failed", "label": ["a:1", "b:2"], "created_after": "2026-11-29T10:00:00Z"},
            "dry_run": False,
        },
        {"action": "delete", "filter": {"queue": "q"}, "dry_run": True, "expect": 0},
    ]


@both
@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"action": "requeue", "queue": "q"}, ValueError, "`action` is 'requeue': use one of 'cancel', 'retry'"),
        ({}, ValueError, "no filter is given, so that all jobs would match: use one or more of `status`, `queue`"),
        ({"queue": None, "labels": {}}, ValueError, "no filter is given"),
        ({"colour": "red"}, TypeError, "unknown argument `colour`"),
        ({"labels": ["a:1"]}, TypeError, "`labels` is"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_sent(
    bulk: Wait, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    respond, requests = scripted(started())
    with pytest.raises(kind, match=text):
        bulk(respond, **options)
    assert requests == []


@both
def test_the_wait_reports_each_change_once_and_returns_the_end(bulk: Wait) -> None:
    counted = read("running", matched=3)
    respond, requests = scripted(
        started(), started(), counted, counted, httpx.Response(502), read("done", matched=3, done=3)
    )
    seen: list[tuple[str, int]] = []
    ended = bulk(respond, queue="q", wait={"on_progress": lambda action: seen.append((action.state, action.done))})
    assert (ended.state, ended.done, ended.is_final) == ("done", 3, True)
    assert seen == [("counting", 0), ("running", 0), ("done", 3)]
    assert {(request.method, request.url.path) for request in requests[1:]} == {("GET", "/prefix/v1/bulk-actions/b1")}


@both
def test_another_number_of_jobs_than_expected_is_an_error_with_the_bulk_action(bulk: Wait) -> None:
    respond, _ = scripted(started(), httpx.Response(200, json=unexpected_count()))
    with pytest.raises(errors.UnexpectedCount, match="2 jobs match, and `expect` is 3") as raised:
        bulk(respond, queue="q", expect=3, wait={})
    assert raised.value.action is not None
    assert (raised.value.action.matched, raised.value.action.state) == (2, "aborted")


def test_an_abortion_for_a_reason_from_the_future_is_raised_by_its_status() -> None:
    problem = {"type": "urn:jobstate:problem:new", "title": "New", "status": 409}
    respond, _ = scripted(started(), read("aborted", problem=problem))
    with pytest.raises(errors.Conflict, match=r"New \(new\)"):
        bulk_sync(respond, queue="q", wait={})


def test_one_that_a_client_has_aborted_is_returned() -> None:
    respond, _ = scripted(started(), read("aborted", matched=3, done=1))
    ended = bulk_sync(respond, queue="q", wait={})
    assert (ended.state, ended.done, ended.is_final) == ("aborted", 1, True)


def test_a_state_from_the_future_ends_the_wait_only_if_the_bulk_action_has_ended() -> None:
    finished = read("partly-done", finished_at="2026-11-29T10:00:09.000000Z", new_field={"a": 1})
    respond, requests = scripted(started(), read("sorting"), finished)
    assert bulk_sync(respond, queue="q", wait={"timeout": 2}).state == "partly-done"
    assert len(requests) == 3


@both
def test_a_bulk_action_that_goes_on_after_the_time_out_is_an_error(bulk: Wait) -> None:
    respond, _ = scripted(started(), read("running"))
    with pytest.raises(errors.WaitTimeout, match="within the time-out; its state is `running`"):
        bulk(respond, queue="q", wait={"timeout": 0})


def test_an_outage_until_the_time_out_is_the_cause_of_the_error() -> None:
    respond, _ = scripted(started(), httpx.ConnectError("refused"))
    with pytest.raises(errors.WaitTimeout, match="the service was unavailable") as raised:
        bulk_sync(respond, queue="q", wait={"timeout": 0.02})
    assert isinstance(raised.value.__cause__, errors.ConnectionFailed)


def test_the_maximum_of_attempts_does_not_end_the_wait() -> None:
    respond, requests = scripted(started(), *[httpx.ConnectError("refused")] * 3, read("done"))
    policy = RetryPolicy(first_delay=0.001, max_attempts=2)
    with Jobs("http://service", transport=httpx.MockTransport(respond), retry=policy) as jobs:
        assert jobs.bulk("cancel", queue="q").wait().state == "done"
    assert len(requests) == 5


def test_an_unknown_bulk_action_is_an_error_of_its_own() -> None:
    body = {"type": "urn:jobstate:problem:bulk-action-not-found", "title": "", "status": 404, "detail": "no"}
    respond, _ = scripted(httpx.Response(404, json=body, headers={"Content-Type": "application/problem+json"}))
    with sync_client(respond) as jobs:
        for use in (jobs.bulk_action("b1").wait, jobs.bulk_action("b1").refresh, jobs.bulk_action("b1").abort):
            with pytest.raises(errors.BulkActionNotFound):
                use()


def steps_of(action_run: FlowRun[BulkAction], state: str, number: int) -> Generator[Step | None]:
    """Yield the steps of a flow that reads a bulk action in this state so often."""
    step = action_run.proceed()
    for _ in range(number):
        yield step
        body = msgspec.json.encode(action_fields(state))
        is_read = isinstance(step, Send)
        step = action_run.proceed(Response(200, {"content-type": "application/json"}, body) if is_read else None)


def test_the_pauses_between_the_reads_grow_up_to_two_seconds() -> None:
    retry = Retry(RetryPolicy(), Deadline(None), persistent=True)
    run = FlowRun(ended_flow(get_bulk_action("b1"), retry, lambda _: None))
    pauses = [step.seconds for step in steps_of(run, "running", 16) if isinstance(step, Sleep)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_the_last_pause_ends_with_the_time_out() -> None:
    retry = Retry(RetryPolicy(), Deadline(5.0, clock=lambda: 0.0), persistent=True)
    retry.deadline = Deadline(0.05, clock=lambda: 0.0)
    run = FlowRun(ended_flow(get_bulk_action("b1"), retry, lambda _: None))
    assert [step.seconds for step in steps_of(run, "running", 2) if isinstance(step, Sleep)] == [0.05]


def test_a_handle_by_id_sends_nothing_and_has_no_record_until_it_is_read() -> None:
    respond, requests = scripted(read("running", matched=7))
    with sync_client(respond) as jobs:
        handle = jobs.bulk_action("b1")
        assert requests == []
        with pytest.raises(errors.JobstateError, match="has not seen bulk action b1 yet: call `refresh` or `wait`"):
            handle.record  # noqa: B018
        assert repr(handle) == "<BulkActionHandle b1: not seen yet>"
        assert handle.refresh().matched == 7
        assert (handle.state, handle.is_final) == ("running", False)
        with pytest.raises(ValueError, match="`id` '' is not the id of a bulk action"):
            jobs.bulk_action("")
        with pytest.raises(TypeError, match="`id` must be a string"):
            jobs.bulk_action(7)  # type: ignore[arg-type]


def abort_sync(respond: Respond, id: str) -> BulkAction:
    with sync_client(respond) as jobs:
        return jobs.bulk_action(id).abort()


def abort_async(respond: Respond, id: str) -> BulkAction:
    async def abort() -> BulkAction:
        async with async_client(respond) as jobs:
            return await jobs.bulk_action(id).abort()

    return asyncio.run(abort())


@pytest.mark.parametrize("abort", [abort_sync, abort_async])
def test_an_abortion_deletes_the_bulk_action_whose_id_is_one_segment_of_the_path(
    abort: Callable[[Respond, str], BulkAction],
) -> None:
    respond, requests = scripted(read("aborted"))
    assert abort(respond, "a/../b").state == "aborted"
    assert (requests[0].method, requests[0].url.raw_path) == ("DELETE", b"/prefix/v1/bulk-actions/a%2F..%2Fb")


def test_the_refused_jobs_have_the_names_of_their_problems() -> None:
    examples = [{"job_id": "j1", "type": NOT_FINAL}, {"job_id": "j2", "type": ILLEGAL}]
    respond, _ = scripted(read("done", refused={NOT_FINAL: 2, ILLEGAL: 1}, examples=examples))
    with sync_client(respond) as jobs:
        action = jobs.bulk_action("b1").refresh()
    assert action.refused == {NOT_FINAL: 2, ILLEGAL: 1}
    assert action.reasons == {"job-not-final": 2, "illegal-transition": 1}
    assert [(job.job_id, job.name) for job in action.examples] == [
        ("j1", "job-not-final"),
        ("j2", "illegal-transition"),
    ]
