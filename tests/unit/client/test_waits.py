import threading
from collections.abc import Callable
from typing import Any

import pytest

from jobstate import RetryPolicy, errors
from jobstate._flow import Flow, call
from jobstate._requests import create_job
from jobstate._responses import Response
from jobstate._retry import Retry
from jobstate._waits import MAX_LONG_POLLS, Waits, changes_of, wait_by_long_poll
from tests.helpers.flow_driver import (
    LOST,
    FlowDriver,
    Outcome,
    frames,
    headers_of,
    json_response,
    problem_response,
    stream_response,
)
from tests.helpers.records import record, record_fields

UNCHANGED = Response(304, {})
DONE = json_response(record_fields("completed", 3, result=7), etag='"1-3"')
RUNNING = json_response(record_fields("running", 2), etag='"1-2"')
BUSY = problem_response(503, "overloaded", retry_after=1)
POLICY = RetryPolicy()


def wait(driver: FlowDriver, seconds: float | None = None, **fields: Any) -> Flow[Any]:
    return wait_by_long_poll("j1", record(**fields), POLICY, driver.deadline(seconds))


def test_a_wait_polls_with_the_etag_of_the_last_response() -> None:
    driver = FlowDriver(RUNNING, UNCHANGED, DONE)
    assert driver.run(wait(driver)).result == 7
    assert headers_of(driver.requests, "If-None-Match") == ["", '"1-2"', '"1-2"']
    assert [request.path for request in driver.requests] == ["/v1/jobs/j1?wait=30"] * 3


BLIPS: list[Outcome] = [
    LOST,
    BUSY,
    problem_response(429, "rate-limited", retry_after=1),
    problem_response(500, "internal-error"),
    problem_response(503, "a-new-problem"),
    Response(404, {"content-type": "text/html"}, b"default backend"),
    Response(302, {}, b"", "redirect to a sign-in page"),
    Response(200, {"content-type": "text/html"}, b"<html>"),
]


@pytest.mark.parametrize("blip", BLIPS, ids=str)
def test_a_wait_survives(blip: Outcome) -> None:
    driver = FlowDriver(RUNNING, *[blip] * 20, DONE)
    assert driver.run(wait(driver)).result == 7
    assert len(driver.sleeps) == 20


def test_a_wait_honours_retry_after() -> None:
    driver = FlowDriver(problem_response(503, "store-loading", retry_after=9), DONE)
    driver.run(wait(driver))
    assert 9 <= driver.sleeps[0] <= 9 * 1.25


def test_a_wait_without_a_time_out_has_no_end() -> None:
    driver = FlowDriver(*[LOST] * 2_000, DONE)
    assert driver.run(wait(driver)).result == 7


def test_a_wait_ends_at_its_time_out_and_the_job_lives_on() -> None:
    driver = FlowDriver(RUNNING, UNCHANGED, seconds_per_request=25)
    with pytest.raises(errors.WaitTimeout, match=r"job j1 has not ended .* its status is `running`") as raised:
        driver.run(wait(driver, 40))
    assert raised.value.job_ids == ("j1",)
    assert isinstance(raised.value, TimeoutError)
    assert [request.path for request in driver.requests] == [
        f"/v1/jobs/j1{query}" for query in ("?wait=30", "?wait=15", "")
    ]
    assert driver.timeouts == [40, 15.5, 0.5]


@pytest.mark.parametrize("response", [UNCHANGED, RUNNING], ids=["304", "200"])
def test_polls_that_are_answered_at_once_without_news_do_not_flood_the_service(response: Response) -> None:
    driver = FlowDriver(RUNNING, response)
    with pytest.raises(errors.WaitTimeout):
        driver.run(wait(driver, 10))
    assert 20 < len(driver.requests) < 200


def test_less_than_a_second_is_slept_and_not_polled() -> None:
    driver = FlowDriver(RUNNING)
    with pytest.raises(errors.WaitTimeout):
        driver.run(wait(driver, 0.5))
    assert driver.sleeps == [0.5]
    assert len(driver.requests) == 2


def test_a_wait_of_no_seconds_looks_once() -> None:
    driver = FlowDriver(DONE)
    assert driver.run(wait(driver, 0)).result == 7


def test_an_outage_until_the_time_out_is_the_cause_of_the_time_out() -> None:
    driver = FlowDriver(BUSY)
    with pytest.raises(errors.WaitTimeout, match="the service was unavailable: Why") as raised:
        driver.run(wait(driver, 10))
    assert isinstance(raised.value.__cause__, errors.Overloaded)
    assert driver.now == pytest.approx(10)


def test_a_job_that_exists_no_more_ends_the_wait() -> None:
    driver = FlowDriver(RUNNING, problem_response(404, "job-not-found"))
    with pytest.raises(errors.JobExpired, match="job j1 exists no more"):
        driver.run(wait(driver))


def test_a_rejection_ends_the_wait() -> None:
    driver = FlowDriver(RUNNING, problem_response(401, "unauthenticated"))
    with pytest.raises(errors.Unauthenticated):
        driver.run(wait(driver))


def test_a_wait_carries_the_correlation_id_of_the_job() -> None:
    driver = FlowDriver(DONE)
    driver.run(wait(driver, correlation_id="c-1"))
    assert headers_of(driver.requests, "X-Correlation-ID") == ["c-1"]


def test_a_change_keeps_its_key_over_all_retries() -> None:
    driver = FlowDriver(LOST, BUSY, Response(502, {}), DONE)
    driver.run(call(create_job({}, None, None, None, {}), Retry(POLICY, driver.deadline(30))))
    keys = headers_of(driver.requests, "Idempotency-Key")
    assert len(keys) == 4
    assert len(set(keys)) == 1


def test_a_call_raises_the_last_outage_when_its_time_is_over() -> None:
    driver = FlowDriver(LOST, BUSY)
    with pytest.raises(errors.Overloaded):
        driver.run(call(create_job({}, None, None, None, {}), Retry(POLICY, driver.deadline(30))))
    assert driver.now <= 30


class Background:
    """Takes the flow of the shared stream in place of a thread; the test executes it when it likes."""

    def __init__(self) -> None:
        self.flows: list[Flow[None]] = []
        self.stopped = 0

    def start(self, flow: Flow[None]) -> Callable[[], None]:
        self.flows.append(flow)
        return self.stop

    def stop(self) -> None:
        self.stopped += 1


class _OutOfScript(Exception):
    pass


class Stream(FlowDriver):
    """Executes the flow of the shared stream until its script is over."""

    def _next(self) -> Any:
        if not self.outcomes:
            raise _OutOfScript
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, errors.ServiceUnavailable):
            raise outcome
        return outcome

    def play(self, flow: Flow[None]) -> None:
        with pytest.raises(_OutOfScript):
            self.run(flow)


def batch(*items: dict[str, Any], not_found: tuple[str, ...] = ()) -> Response:
    return json_response({"items": items, "not_found": not_found})


def final(job_id: str, status: str = "completed") -> dict[str, Any]:
    return record_fields(status, 3, job_id=job_id)


@pytest.fixture
def background() -> Background:
    return Background()


@pytest.fixture
def waits(background: Background) -> Waits:
    return Waits(background.start, threading.Event, POLICY)


def pending(*job_ids: str) -> list[dict[str, Any]]:
    return [record_fields(job_id=job_id) for job_id in job_ids]


def test_jobs_that_have_ended_before_are_read_at_once(waits: Waits, background: Background) -> None:
    driver = FlowDriver(
        batch(final("a"), not_found=("b",)), json_response(final("a")), problem_response(404, "job-not-found")
    )
    outcomes: dict[str, object] = {}
    driver.run(waits.wait_all(["a", "b"], outcomes.__setitem__, None))
    assert outcomes["a"] == record("completed", 3, job_id="a")
    assert type(outcomes["b"]) is errors.JobExpired
    assert background.stopped == 1


def test_an_event_wakes_the_wait_for_its_job_only(waits: Waits, background: Background) -> None:
    driver = FlowDriver(
        batch(*pending("a", "b")), json_response(final("b")), batch(final("a")), json_response(final("a"))
    )
    event = frames(("changed", {"job_id": "b", "status": "completed"}, "2-0"))
    stream = Stream(stream_response(), frames(("hello", {}, "1-0")), batch(*pending("a", "b")), event)
    once = iter([lambda: stream.play(background.flows[0])])
    driver.on_wait = lambda: next(once, lambda: None)()
    ended: list[str] = []
    driver.run(waits.wait_all(["a", "b"], lambda job_id, outcome: ended.append(job_id), None))
    assert ended == ["b", "a"]
    assert [request.path for request in driver.requests] == [
        "/v1/batch-get",
        "/v1/jobs/b",
        "/v1/batch-get",
        "/v1/jobs/a",
    ]


@pytest.mark.parametrize("gap", ["hello", "reset"])
def test_a_gap_makes_the_stream_read_all_jobs_that_are_waited_for(
    gap: str, waits: Waits, background: Background
) -> None:
    """What happens between the first look and `hello`, or within a gap, is found by a batch."""
    driver = FlowDriver(batch(*pending("a")), json_response(final("a")))
    events = frames(("hello", {}, "1-0")) + (frames(("reset", {}, "2-0")) if gap == "reset" else b"")
    found = [batch(*pending("a"))] * (gap == "reset") + [batch(final("a"))]
    stream = Stream(stream_response(), events, *found)
    driver.on_wait = lambda: stream.play(background.flows[0])
    outcomes: dict[str, object] = {}
    driver.run(waits.wait_all(["a"], outcomes.__setitem__, None))
    assert outcomes["a"] == record("completed", 3, job_id="a")
    assert [request.path for request in stream.requests] == ["/v1/events", *["/v1/batch-get"] * len(found)]


def test_a_stream_that_is_resumed_reads_nothing_again(waits: Waits, background: Background) -> None:
    driver = FlowDriver(batch(*pending("a")), json_response(final("a")))
    stream = Stream(
        stream_response(),
        frames(("hello", {}, "1-0")),
        batch(*pending("a")),
        LOST,
        stream_response(),
        frames(("hello", {}, "2-0"), ("changed", {"job_id": "a", "status": "failed"}, "2-0")),
    )
    driver.on_wait = lambda: stream.play(background.flows[0])
    driver.run(waits.wait_all(["a"], lambda job_id, outcome: None, None))
    assert [request.path for request in stream.requests] == ["/v1/events", "/v1/batch-get", "/v1/events"]


def test_the_stream_says_that_a_job_was_deleted(waits: Waits, background: Background) -> None:
    driver = FlowDriver(batch(*pending("a")), problem_response(404, "job-not-found"))
    stream = Stream(
        stream_response(),
        frames(("hello", {}, "1-0")),
        batch(*pending("a")),
        frames(("deleted", {"job_id": "a"}, "2-0")),
    )
    driver.on_wait = lambda: stream.play(background.flows[0])
    outcomes: dict[str, object] = {}
    driver.run(waits.wait_all(["a"], outcomes.__setitem__, None))
    assert type(outcomes["a"]) is errors.JobDeleted


def test_without_a_stream_the_wait_looks_from_time_to_time(waits: Waits) -> None:
    driver = FlowDriver(batch(*pending("a")), batch(*pending("a")), batch(final("a")), json_response(final("a")))
    driver.run(waits.wait_all(["a"], lambda job_id, outcome: None, None))
    assert driver.now == 60


def test_a_shared_wait_ends_at_its_time_out(waits: Waits, background: Background) -> None:
    driver = FlowDriver(batch(*pending("a", "b")))
    with pytest.raises(errors.WaitTimeout, match="2 jobs have not ended") as raised:
        driver.run(waits.wait_all(["a", "b"], lambda job_id, outcome: None, 0))
    assert raised.value.job_ids == ("a", "b")
    assert background.stopped == 1


def test_a_thousand_jobs_are_read_in_one_request(waits: Waits) -> None:
    job_ids = [f"j{number}" for number in range(1_500)]
    driver = FlowDriver(
        batch(*map(final, job_ids[:1_000])), batch(*map(final, job_ids[1_000:])), json_response(final("x"))
    )
    ended: list[str] = []
    driver.run(waits.wait_all(job_ids, lambda job_id, outcome: ended.append(job_id), None))
    assert ended == job_ids
    assert [request.path for request in driver.requests[:3]] == ["/v1/batch-get", "/v1/batch-get", "/v1/jobs/j0"]


def test_many_single_waits_share_the_stream(waits: Waits, background: Background) -> None:
    flows = [waits.wait("j1", record(), None) for _ in range(MAX_LONG_POLLS + 3)]
    paths = [next(flow).request.path for flow in flows]  # type: ignore[union-attr]
    assert paths == ["/v1/jobs/j1?wait=30"] * MAX_LONG_POLLS + ["/v1/batch-get"] * 3
    assert len(background.flows) == 1
    for flow in flows:
        flow.close()
    assert background.stopped == 1
    assert next(waits.wait("j1", record(), None)).request.path == "/v1/jobs/j1?wait=30"  # type: ignore[union-attr]


def test_waits_after_the_last_one_open_the_stream_again(waits: Waits, background: Background) -> None:
    for _ in range(2):
        FlowDriver(batch(final("a")), json_response(final("a"))).run(waits.wait_all(["a"], lambda *_: None, None))
    assert (len(background.flows), background.stopped) == (2, 2)


def changes(*outcomes: Outcome) -> FlowDriver:
    driver = FlowDriver(*outcomes)
    driver.run(changes_of("j1", record(), POLICY))
    return driver


def changed(status: str, revision: int, **fields: Any) -> tuple[str, object, str]:
    return ("changed", record_fields(status, revision, **fields), f"1-{revision}")


def test_changes_resume_and_end_with_the_final_record() -> None:
    driver = changes(
        stream_response(),
        frames(changed("pending", 1), changed("running", 2)),
        LOST,
        BUSY,
        stream_response(),
        frames(changed("running", 2), changed("failed", 3)),
    )
    assert [job.status for job in driver.emitted] == ["pending", "running", "failed"]
    assert headers_of(driver.requests, "Last-Event-ID") == ["", "1-2", "1-2"]


def test_an_expired_lease_is_a_change() -> None:
    driver = changes(
        stream_response(),
        frames(changed("running", 2), changed("running", 2, stale=True), changed("cancelled", 3)),
    )
    assert [job.stale for job in driver.emitted] == [False, True, False]


def test_the_final_state_of_a_deleted_job_is_a_change() -> None:
    last = ("changed", {"job_id": "j1", "status": "completed", "revision": 3, "queue": "default"}, "1-3")
    driver = changes(stream_response(), frames(changed("running", 2), last, ("deleted", {"job_id": "j1"}, "1-3")))
    assert [(job.status, job.revision) for job in driver.emitted] == [("running", 2), ("completed", 3)]
    assert driver.emitted[1].created_at == driver.emitted[0].created_at


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (frames(("deleted", {"job_id": "j1"}, "1-3")), errors.JobDeleted),
        (frames(("expired", {"job_id": "j1"}, "1-3")), errors.JobExpired),
    ],
)
def test_changes_of_a_job_that_is_removed_before_its_end_raise(outcome: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind) as raised:
        changes(stream_response(), outcome)
    assert type(raised.value) is kind


def test_changes_of_an_unknown_job_raise() -> None:
    with pytest.raises(errors.JobExpired):
        changes(problem_response(404, "job-not-found"))


def test_changes_end_if_the_stream_has_nothing_more() -> None:
    assert changes(Response(204, {})).emitted == []


def test_changes_of_a_job_that_was_never_seen_begin_with_its_record() -> None:
    driver = FlowDriver(stream_response(), frames(("changed", record_fields("completed", 3), "1-3")))
    driver.run(changes_of("j1", None, POLICY))
    assert [change.status for change in driver.emitted] == ["completed"]


def test_changes_of_a_deleted_job_that_was_never_seen_raise() -> None:
    partial = {"job_id": "j1", "status": "completed", "revision": 3}
    driver = FlowDriver(stream_response(), frames(("changed", partial, "1-3")))
    with pytest.raises(errors.JobExpired):
        driver.run(changes_of("j1", None, POLICY))
