"""Bulk actions of both clients with the service."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from jobstate import AsyncJobs, BulkAction, Jobs, errors
from tests.helpers.polling import TIMEOUT


@pytest.fixture
def jobs(api: httpx.Client) -> Iterator[Jobs]:
    with Jobs(str(api.base_url)) as jobs:
        yield jobs


@pytest.fixture
async def async_jobs(api: httpx.Client) -> AsyncIterator[AsyncJobs]:
    async with AsyncJobs(str(api.base_url)) as jobs:
        yield jobs


def submit(jobs: Jobs, number: int, queue: str = "q") -> list[str]:
    return [job.id for job in jobs.submit_many([{"input_params": at, "queue": queue} for at in range(number)])]


def statuses(jobs: Jobs, queue: str = "q") -> list[str]:
    return sorted(job.status for job in jobs.list(queue=queue))


def test_all_jobs_that_match_are_cancelled_retried_and_deleted(jobs: Jobs) -> None:
    submit(jobs, 3)
    submit(jobs, 1, "other")
    cancelled = jobs.bulk("cancel", queue="q").wait(TIMEOUT)
    assert (cancelled.state, cancelled.matched, cancelled.done) == ("done", 3, 3)
    assert statuses(jobs) == ["cancelled"] * 3

    jobs.bulk("retry", queue="q", status="cancelled", expect=3).wait(TIMEOUT)
    assert statuses(jobs) == ["pending"] * 3

    for job in jobs.list(queue="q", limit=2):
        job.cancel()
    deleted = jobs.bulk("delete", queue="q").wait(TIMEOUT)
    (left,) = (job.id for job in jobs.list(queue="q"))
    assert (deleted.matched, deleted.done, deleted.reasons) == (3, 2, {"job-not-final": 1})
    assert [(job.job_id, job.name) for job in deleted.examples] == [(left, "job-not-final")]
    assert statuses(jobs, "other") == ["pending"]


def test_every_filter_is_applied(jobs: Jobs) -> None:
    wanted = jobs.submit(1, queue="q", slate_id="s", correlation_id="c", labels={"a": "1", "b": "2"})
    for other in ({"queue": "p"}, {"slate_id": "t"}, {"correlation_id": "d"}, {"labels": {"a": "1", "b": "3"}}):
        fields = {"queue": "q", "slate_id": "s", "correlation_id": "c", "labels": {"a": "1", "b": "2"}, **other}
        jobs.submit(1, **fields)
    jobs.submit(1, queue="q", slate_id="s", correlation_id="c", labels={"a": "1", "b": "2"}).cancel()
    late = jobs.submit(1, queue="q", slate_id="s", correlation_id="c", labels={"a": "1", "b": "2"})
    ended = jobs.bulk(
        "cancel",
        status="pending",
        queue="q",
        slate_id="s",
        correlation_id="c",
        labels={"a": "1", "b": "2"},
        created_after="2020-01-01T00:00:00Z",
        created_before=late.record.created_at,
    ).wait(TIMEOUT)
    assert (ended.matched, ended.done) == (1, 1)
    assert wanted.refresh().status == "cancelled"
    assert late.refresh().status == "pending"


def test_a_dry_run_and_another_number_than_expected_change_nothing(jobs: Jobs) -> None:
    submit(jobs, 2)
    counted = jobs.bulk("cancel", queue="q", dry_run=True).wait(TIMEOUT)
    assert (counted.state, counted.matched, counted.done) == ("done", 2, 0)
    action = jobs.bulk("cancel", queue="q", expect=3)
    with pytest.raises(errors.UnexpectedCount, match="2 jobs match, and `expect` is 3") as raised:
        action.wait(TIMEOUT)
    assert raised.value.action == action.record
    assert (action.record.matched, action.state) == (2, "aborted")
    assert statuses(jobs) == ["pending"] * 2


def test_the_same_key_starts_one_bulk_action(jobs: Jobs) -> None:
    submit(jobs, 1)
    first, again = (jobs.bulk("cancel", queue="q", idempotency_key="k") for _ in range(2))
    assert first.id == again.id
    with pytest.raises(errors.IdempotencyKeyReused):
        jobs.bulk("delete", queue="q", idempotency_key="k")
    assert [action.id for action in jobs.list_bulk_actions()] == [first.id]


def test_an_aborted_bulk_action_keeps_what_it_has_done(jobs: Jobs) -> None:
    submit(jobs, 1000)
    action = jobs.bulk("cancel", queue="q")
    ended = action.abort()
    assert (ended.state, ended.is_final, action.state) == ("aborted", True, "aborted")
    assert action.wait(TIMEOUT) == ended
    assert jobs.bulk_action(action.id).refresh() == ended
    assert statuses(jobs).count("cancelled") == ended.done < 1000


def test_a_wrong_value_is_named_by_the_service(jobs: Jobs) -> None:
    with pytest.raises(errors.InvalidRequest, match="`expect`: -1 is not allowed"):
        jobs.bulk("cancel", queue="q", expect=-1)
    with pytest.raises(errors.InvalidRequest, match=r"`filter.created_after`: 'soon' is not allowed"):
        jobs.bulk("cancel", created_after="soon")
    with pytest.raises(errors.BulkActionNotFound, match="There is no bulk action 'nope'"):
        jobs.bulk_action("nope").wait(TIMEOUT)


async def test_the_asynchronous_client_does_the_same(async_jobs: AsyncJobs) -> None:
    await async_jobs.submit_many([{"input_params": at, "queue": "q"} for at in range(300)])
    action = await async_jobs.bulk("cancel", queue="q", expect=300)
    seen: list[BulkAction] = []
    ended = await action.wait(TIMEOUT, on_progress=seen.append)
    assert (ended.state, ended.done) == ("done", 300)
    assert seen[-1] == ended == await action.refresh()
    assert [one.matched for one in seen] == sorted(one.matched for one in seen)
    assert await async_jobs.bulk_action(action.id).abort() == ended
    assert [one.id for one in await async_jobs.list_bulk_actions()] == [action.id]
