"""The client and the service: whole lives of jobs, synchronous and asynchronous."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest

from jobstate import AsyncJobs, Jobs, NewJob, errors
from tests.helpers.polling import TIMEOUT, wait_until


class Lineups(msgspec.Struct):
    best: list[int]
    score: Decimal


RESULT = b'{"best": [3, 1, 2], "score": 1.10, "big": 1180591620717411303424}'


@pytest.fixture
def jobs(api: httpx.Client) -> Iterator[Jobs]:
    with Jobs(str(api.base_url)) as jobs:
        yield jobs


@pytest.fixture
async def async_jobs(api: httpx.Client) -> AsyncIterator[AsyncJobs]:
    async with AsyncJobs(str(api.base_url)) as jobs:
        yield jobs


def end(api: httpx.Client, job_id: str, status: str = "completed", **fields: Any) -> None:
    api.patch(f"/v1/jobs/{job_id}", json={"status": "running"})
    api.patch(f"/v1/jobs/{job_id}", json={"status": status, **fields}).raise_for_status()


def complete(api: httpx.Client, job_id: str, result: bytes) -> None:
    api.patch(f"/v1/jobs/{job_id}", json={"status": "running"})
    body = b'{"status":"completed","result":' + result + b"}"
    api.patch(f"/v1/jobs/{job_id}", content=body, headers={"Content-Type": "application/json"}).raise_for_status()


def test_a_result_has_its_type_and_exact_numbers(jobs: Jobs, api: httpx.Client) -> None:
    job = jobs.submit({"seed": 2**70}, queue="lineups", id="sunday", result_type=Lineups)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(job.wait, TIMEOUT)
        complete(api, "sunday", RESULT)
        assert waiting.result() == Lineups([3, 1, 2], Decimal("1.10"))
    assert job.status == "completed"
    assert job.record.input_params == {"seed": 2**70}
    assert job.result_bytes() == RESULT
    assert jobs.get("sunday").wait()["big"] == 2**70
    assert [entry.change for entry in job.history().items] == ["created", "running", "completed"]


def test_a_result_of_another_type_is_an_error_of_its_own(jobs: Jobs, api: httpx.Client) -> None:
    job = jobs.submit(1, result_type=list[int])
    complete(api, job.id, b'["a"]')
    with pytest.raises(errors.InvalidResult, match=r"`result_type`: Expected `int`, got `str`"):
        job.wait(TIMEOUT)


def test_a_job_without_a_result_has_none(jobs: Jobs, api: httpx.Client) -> None:
    job, typed = jobs.submit(1), jobs.submit(1, result_type=int)
    end(api, job.id)
    end(api, typed.id)
    assert job.wait(TIMEOUT) is None
    assert job.result_bytes() is None
    with pytest.raises(errors.InvalidResult):
        typed.wait(TIMEOUT)


def test_a_failed_job_raises_its_error(jobs: Jobs, api: httpx.Client) -> None:
    job = jobs.submit(1)
    end(api, job.id, "failed", error_message={"type": "Boom", "message": "no memory"})
    with pytest.raises(errors.JobFailed, match=f"job {job.id} failed: Boom: no memory") as raised:
        job.wait(TIMEOUT)
    assert raised.value.error_message == {"type": "Boom", "message": "no memory"}
    with pytest.raises(errors.JobFailed):
        job.result_bytes()
    with pytest.raises(errors.JobFailed):
        jobs.wait_all([job], timeout=TIMEOUT)


def test_a_cancelled_job_raises(jobs: Jobs) -> None:
    job = jobs.submit(1)
    assert job.cancel().status == "cancelled"
    assert job.is_final
    with pytest.raises(errors.JobCancelled, match="was cancelled"):
        job.wait(TIMEOUT)


def test_a_finished_job_cannot_be_cancelled(jobs: Jobs, api: httpx.Client) -> None:
    job = jobs.submit(1)
    end(api, job.id)
    with pytest.raises(errors.IllegalTransition) as raised:
        job.cancel()
    assert raised.value.problem is not None
    assert raised.value.problem.current_status == "completed"


def test_a_failed_job_is_retried_and_waited_for(jobs: Jobs, api: httpx.Client) -> None:
    job = jobs.submit(1)
    end(api, job.id, status="failed", error_message="broken")
    with pytest.raises(errors.JobFailed):
        job.wait(TIMEOUT)

    retried = job.retry(max_attempts=2)

    assert (retried.status, retried.max_attempts, job.is_final) == ("pending", 2, False)
    with pytest.raises(errors.IllegalTransition, match="failed or cancelled"):
        job.retry()
    complete(api, job.id, b"5")
    assert job.wait(TIMEOUT) == 5
    assert [(entry.change, entry.attempt, entry.error) for entry in job.history().items[2:4]] == [
        ("failed", 1, '"broken"'),
        ("retried", None, None),
    ]


def test_a_time_out_leaves_the_job_alone(jobs: Jobs) -> None:
    job = jobs.submit(1)
    with pytest.raises(errors.WaitTimeout):
        job.wait(timeout=0.2)
    with pytest.raises(errors.WaitTimeout):
        jobs.wait_all([job], timeout=0.2)
    assert job.refresh().status == "pending"


def test_a_job_that_is_deleted_meanwhile_has_expired(jobs: Jobs, api: httpx.Client) -> None:
    job = jobs.submit(1)
    end(api, job.id)
    jobs.get(job.id).delete()
    with pytest.raises(errors.JobExpired):
        job.wait(TIMEOUT)
    with pytest.raises(errors.JobExpired):
        jobs.wait_all([job], timeout=TIMEOUT)
    with pytest.raises(errors.JobExpired):
        next(job.changes())
    with pytest.raises(errors.JobNotFound) as raised:
        job.refresh()
    assert type(raised.value) is errors.JobNotFound


def test_the_same_submission_is_the_same_job(jobs: Jobs) -> None:
    assert jobs.submit({"a": 1}, id="once").id == jobs.submit({"a": 1}, id="once").id
    first = jobs.submit(1, idempotency_key="k")
    assert jobs.submit(1, idempotency_key="k").id == first.id
    with pytest.raises(errors.JobExists):
        jobs.submit({"a": 2}, id="once")
    with pytest.raises(errors.IdempotencyKeyReused):
        jobs.submit(2, idempotency_key="k")


def test_the_options_of_a_job_reach_its_record(jobs: Jobs) -> None:
    record = jobs.submit(
        None,
        slate_id="s",
        scenario_count=5,
        correlation_id="c-1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        max_attempts=3,
        retry_delay_seconds=7,
        delay_seconds=60,
    ).record
    assert (record.slate_id, record.scenario_count, record.correlation_id) == ("s", 5, "c-1")
    assert (record.max_attempts, record.retry_delay_seconds) == (3, 7)
    assert record.available_at is not None
    assert record.traceparent is not None
    assert record.traceparent.startswith("00-0af7651916cd43dd8448eb211c80319c-")


def test_an_invalid_option_names_its_field(jobs: Jobs) -> None:
    with pytest.raises(errors.InvalidRequest) as raised:
        jobs.submit(1, queue="no spaces")
    assert raised.value.problem is not None
    assert [error.field for error in raised.value.problem.errors] == ["queue"]


def test_changes_show_progress_until_the_end(jobs: Jobs, api: httpx.Client) -> None:
    job = jobs.submit(1)
    seen: list[str] = []
    for change in job.changes():
        seen.append(change.status)
        if change.status == "pending":
            api.patch(f"/v1/jobs/{job.id}", json={"status": "running", "progress": {"current": 1, "total": 2}})
        elif change.status == "running":
            assert job.progress is not None
            assert (job.progress.current, job.progress.total) == (1, 2)
            end(api, job.id, "failed")
    assert seen == ["pending", "running", "failed"]


def test_a_list_goes_over_all_pages(jobs: Jobs, api: httpx.Client) -> None:
    submitted = [jobs.submit(number, queue="many").id for number in range(205)]
    assert [job.id for job in jobs.list(queue="many")] == submitted[::-1]
    assert [job.id for job in jobs.list(queue="many", limit=3)] == submitted[:-4:-1]
    assert [job.record.input_params for job in jobs.list(limit=2, include=["input_params"])] == [204, 203]
    assert list(jobs.list(status="failed")) == []
    labels = {"team": "blue", "tenant": "a c&d=e"}
    blue = jobs.submit(1, labels=labels, retention_seconds=3600, priority=-5)
    assert (blue.record.labels, blue.record.retention_seconds, blue.record.priority) == (labels, 3600, -5)
    assert [job.id for job in jobs.list(labels={"tenant": "a c&d=e", "team": "blue"})] == [blue.id]
    assert [*jobs.list(labels={"team": "blue", "tenant": "other"})] == []
    [third, _, first] = (job.record.created_at for job in jobs.list(queue="many", limit=3))
    assert [job.id for job in jobs.list(queue="many", created_after=first, created_before=third)] == [submitted[-2]]
    assert jobs.stats().queues["many"]["pending"] == 205


def test_many_jobs_are_submitted_with_few_requests_and_once(jobs: Jobs, api: httpx.Client) -> None:
    def submit() -> list[str]:
        made = ({"input_params": number, "queue": "many", "priority": number % 2} for number in range(1005))
        return [job.id for job in jobs.submit_many(made, idempotency_key="k")]

    ids = submit()
    assert len(set(ids)) == 1005
    assert submit() == ids
    assert jobs.stats().queues["many"]["pending"] == 1005
    assert api.get(f"/v1/jobs/{ids[-1]}").json()["input_params"] == 1004
    assert jobs.submit_many([]) == []


def test_a_job_that_exists_is_an_error_in_its_place(jobs: Jobs) -> None:
    made: list[NewJob] = [{"input_params": 1, "id": "a"}, {"input_params": 2, "id": "a"}, {"input_params": 3}]
    first, second, third = jobs.submit_many(made, return_exceptions=True)
    assert isinstance(second, errors.JobExists)
    assert [job.record.status for job in (first, third) if not isinstance(job, Exception)] == ["pending"] * 2
    with pytest.raises(errors.JobExists):
        jobs.submit_many(made)
    with pytest.raises(errors.InvalidRequest, match=r"jobs\[0\]\.queue"):
        jobs.submit_many([{"input_params": 1, "queue": "a b"}])


async def test_many_jobs_are_submitted_by_an_asynchronous_client(async_jobs: AsyncJobs) -> None:
    made: list[NewJob] = [{"input_params": number, "labels": {"team": "blue"}} for number in range(3)]
    submitted = await async_jobs.submit_many(made)
    assert [job.record.labels for job in submitted] == [{"team": "blue"}] * 3


def test_many_waits_use_one_stream(jobs: Jobs, api: httpx.Client) -> None:
    submitted = [jobs.submit(number) for number in range(120)]
    with ThreadPoolExecutor(len(submitted)) as threads:  # more than the watchers that a client may have
        waiting = [threads.submit(job.wait, TIMEOUT) for job in submitted]
        for number, job in enumerate(submitted):
            complete(api, job.id, str(number).encode())
        assert [result.result(TIMEOUT) for result in waiting] == list(range(120))
    wait_until(
        lambda: "jobstate-events" not in {thread.name for thread in threading.enumerate()}, "the end of the stream"
    )


def test_wait_all_returns_results_in_order_or_errors_in_their_places(jobs: Jobs, api: httpx.Client) -> None:
    good, bad, late = jobs.submit(1), jobs.submit(2), jobs.submit(3)
    complete(api, good.id, b"1")
    end(api, bad.id, "failed")
    results = jobs.wait_all([late, bad, good, good], timeout=0.5, return_exceptions=True)
    assert [type(result) for result in results] == [errors.WaitTimeout, errors.JobFailed, int, int]
    assert jobs.wait_all([], timeout=1) == []


def test_closing_the_client_ends_the_waits_that_share_a_stream(jobs: Jobs, api: httpx.Client) -> None:
    submitted = [jobs.submit(number) for number in range(12)]
    with ThreadPoolExecutor(12) as threads:
        waiting = [threads.submit(job.wait) for job in submitted]
        wait_until(lambda: "jobstate-events" in {thread.name for thread in threading.enumerate()}, "a shared stream")
        jobs.close()
        wait_until(lambda: sum(result.done() for result in waiting) >= 4, "the end of the shared waits")
        for result in [result for result in waiting if result.done()]:
            with pytest.raises(errors.JobstateError, match="closed"):
                result.result()
        for job in submitted:  # ends the long polls, which are on their way
            end(api, job.id)


async def test_the_asynchronous_client_does_the_same(async_jobs: AsyncJobs, api: httpx.Client) -> None:
    job = await async_jobs.submit({"seed": 1}, id="sunday", result_type=Lineups)
    waiting = asyncio.create_task(job.wait(TIMEOUT))
    await asyncio.to_thread(complete, api, "sunday", RESULT)
    assert await waiting == Lineups([3, 1, 2], Decimal("1.10"))
    assert await job.result_bytes() == RESULT
    assert (await (await async_jobs.get("sunday")).wait())["big"] == 2**70
    assert (await job.history()).complete
    assert (await job.refresh()).status == "completed"
    assert [change.status async for change in job.changes()] == ["completed"]
    assert [listed.id async for listed in async_jobs.list()] == ["sunday"]
    assert (await async_jobs.stats()).statuses["completed"] == 1
    with pytest.raises(errors.IllegalTransition):
        await job.cancel()
    with pytest.raises(errors.IllegalTransition):
        await job.retry()
    await job.delete()
    with pytest.raises(errors.JobNotFound):
        await async_jobs.get("sunday")


async def test_many_asynchronous_waits_use_one_stream(async_jobs: AsyncJobs, api: httpx.Client) -> None:
    submitted = [await async_jobs.submit(number) for number in range(120)]
    waiting = asyncio.gather(
        async_jobs.wait_all(submitted[:60], timeout=TIMEOUT), *(j.wait(TIMEOUT) for j in submitted[60:])
    )
    for number, job in enumerate(submitted):
        await asyncio.to_thread(complete, api, job.id, str(number).encode())
    first, *rest = await waiting
    assert [*first, *rest] == list(range(120))


async def test_a_cancelled_wait_leaves_nothing_behind(async_jobs: AsyncJobs) -> None:
    submitted = [await async_jobs.submit(number) for number in range(20)]
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await asyncio.gather(*(job.wait() for job in submitted))
    for _ in range(100):
        if asyncio.all_tasks() <= before:
            break
        await asyncio.sleep(0.05)
    assert asyncio.all_tasks() <= before


async def test_a_handle_follows_and_waits_for_a_job_of_an_earlier_run(jobs: Jobs, async_jobs: AsyncJobs) -> None:
    job_id = jobs.submit({"seed": 1}, correlation_id="c-1").id
    assert next(jobs.handle(job_id).changes()).status == "pending"
    assert jobs.handle(job_id).cancel().correlation_id == "c-1"
    assert [change.status async for change in async_jobs.handle(job_id).changes()] == ["cancelled"]
    with pytest.raises(errors.JobCancelled):
        jobs.handle(job_id).wait(TIMEOUT)
    with pytest.raises(errors.JobCancelled):
        await async_jobs.wait_all([async_jobs.handle(job_id)], timeout=TIMEOUT)
