"""A retry makes a failed or cancelled job pending again."""

from datetime import timedelta

import pytest
from msgspec import Raw
from redis.asyncio import ConnectionPool, Redis

from service.domain import errors
from service.domain.jobs import Job, JobFilter, Progress
from service.domain.states import Status
from service.domain.timestamps import parse_timestamp
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.queues import QueueManager
from tests.helpers.partitions import job_key
from tests.helpers.store_operations import Store


async def claim(leases: LeaseManager) -> str:
    claimed = await leases.claim_job(["default"], "w")
    assert claimed
    return claimed.lease.token


async def fail(jobs: JobStateManager, leases: LeaseManager, job_id: str = "j", **options: object) -> tuple[Job, str]:
    """Create a job and let its worker fail it. Return it and the token of its lease."""
    await jobs.create_job(job_id, {"n": 1}, **options)
    token = await claim(leases)
    await jobs.update_job_status(job_id, "running", progress=Progress(3), lease_token=token)
    job = await jobs.update_job_status(job_id, "failed", error="broken", lease_token=token, change_id="end")
    return job, token


async def stored(jobs: JobStateManager) -> Job:
    job = await jobs.get_job("j")
    assert job is not None
    return job


async def test_a_retried_job_is_pending_without_what_its_attempt_left(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    failed, _ = await fail(jobs, leases, max_attempts=3, slate_id="s", queue="default")

    job = await jobs.retry_job("j")

    assert (job.status, job.revision) == (Status.PENDING, failed.revision + 1)
    assert (job.attempt, job.failures, job.max_attempts) == (1, 0, 3)
    left = (job.result, job.error_message, job.progress, job.finished_at, job.cancel_requested_at)
    assert (*left, job.worker, job.lease_seconds, job.lease_expires_at, job.available_at) == (None,) * 9
    assert (job.created_at, job.started_at, job.input_params) == (
        failed.created_at,
        failed.started_at,
        failed.input_params,
    )
    assert await jobs.get_job("j") == job
    kept_for = parse_timestamp(job.expires_at) - parse_timestamp(job.updated_at) // 1000 * 1000
    assert timedelta(microseconds=kept_for) == timedelta(days=7), "the retention counts from the retry"


async def test_a_cancelled_job_can_be_retried_and_finishes(jobs: JobStateManager, leases: LeaseManager) -> None:
    await jobs.create_job("j", 1)
    token = await claim(leases)
    await jobs.cancel_job("j")
    await jobs.cancel_job("j", lease_token=token)

    await jobs.retry_job("j", change_id="again")
    again = await claim(leases)
    done = await jobs.update_job_status("j", "completed", 5, lease_token=again)

    assert (done.status, done.attempt, done.error_message, done.cancel_requested_at) == (
        Status.COMPLETED,
        2,
        None,
        None,
    )


async def test_all_attempts_are_left_after_a_retry(jobs: JobStateManager, leases: LeaseManager) -> None:
    await jobs.create_job("j", 1, max_attempts=2)
    for _ in range(2):
        await leases.release_job("j", await claim(leases), error="broken")

    await jobs.retry_job("j")
    assert (await leases.release_job("j", await claim(leases), error="broken")).status is Status.PENDING
    failed = await leases.release_job("j", await claim(leases), error="broken")

    assert (failed.status, failed.attempt, failed.failures) == (Status.FAILED, 4, 2)


@pytest.mark.parametrize("attempts", [1, 5])
async def test_a_retry_may_change_max_attempts(jobs: JobStateManager, leases: LeaseManager, attempts: int) -> None:
    await fail(jobs, leases, max_attempts=2)

    assert (await jobs.retry_job("j", max_attempts=attempts)).max_attempts == attempts
    assert (await stored(jobs)).max_attempts == attempts


async def test_a_retry_with_a_delay_is_due_later(jobs: JobStateManager, leases: LeaseManager) -> None:
    await fail(jobs, leases)

    job = await jobs.retry_job("j", delay_seconds=3600)

    assert job.available_at is not None
    assert job.available_at > job.updated_at
    assert await leases.claim_job(["default"], "w") is None
    assert (await jobs.get_stats()).delayed == 1


@pytest.mark.parametrize(("field", "value"), [("max_attempts", 0), ("max_attempts", 1001), ("delay_seconds", -1)])
async def test_a_wrong_field_is_named_and_changes_nothing(
    jobs: JobStateManager, leases: LeaseManager, field: str, value: int
) -> None:
    failed, _ = await fail(jobs, leases)
    with pytest.raises(errors.InvalidValue) as raised:
        await jobs.retry_job("j", **{field: value})
    assert raised.value.field == field
    assert await jobs.get_job("j") == failed


@pytest.mark.parametrize("status", ["pending", "running", "completed"])
async def test_only_failed_and_cancelled_jobs_can_be_retried(jobs: JobStateManager, status: str) -> None:
    await jobs.create_job("j", 1)
    for target in {"running": ["running"], "completed": ["running", "completed"]}.get(status, []):
        await jobs.update_job_status("j", target)
    before = await jobs.get_job("j")
    with pytest.raises(errors.IllegalTransition, match="failed or cancelled"):
        await jobs.retry_job("j")
    assert await jobs.get_job("j") == before


async def test_a_retry_of_no_job_or_of_another_version_is_refused(jobs: JobStateManager, leases: LeaseManager) -> None:
    with pytest.raises(errors.JobNotFound):
        await jobs.retry_job("j")
    failed, _ = await fail(jobs, leases)
    with pytest.raises(errors.PreconditionFailed):
        await jobs.retry_job("j", if_match=["1-1"])
    assert (await jobs.retry_job("j", if_match=[failed.version])).status is Status.PENDING


async def test_an_update_cannot_make_a_job_pending(jobs: JobStateManager, leases: LeaseManager) -> None:
    await fail(jobs, leases)
    with pytest.raises(errors.IllegalTransition):
        await jobs.update_job_status("j", "pending")


async def test_a_repeated_retry_does_not_retry_twice(jobs: JobStateManager, leases: LeaseManager) -> None:
    await fail(jobs, leases)
    first = await jobs.retry_job("j", delay_seconds=0, change_id="again")
    assert await jobs.retry_job("j", change_id="again") == first
    token = await claim(leases)
    failed = await jobs.update_job_status("j", "failed", error="again broken", lease_token=token)

    assert await jobs.retry_job("j", change_id="again") == failed
    with pytest.raises(errors.IdempotencyKeyReused):
        await jobs.retry_job("j", max_attempts=7, change_id="again")
    with pytest.raises(errors.IdempotencyKeyReused):
        await jobs.cancel_job("j", change_id="again")
    assert (await jobs.retry_job("j", change_id="once-more")).status is Status.PENDING


async def test_the_key_of_the_change_that_ended_the_attempt_is_not_one_of_a_retry(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    await fail(jobs, leases)
    with pytest.raises(errors.IdempotencyKeyReused):
        await jobs.retry_job("j", change_id="end")


async def test_changes_of_the_ended_attempt_do_not_end_the_new_one(jobs: JobStateManager, leases: LeaseManager) -> None:
    _, token = await fail(jobs, leases)

    async def assert_lost(status: Status) -> None:
        with pytest.raises(errors.LeaseLost):
            await jobs.update_job_status("j", "failed", error="broken", lease_token=token, change_id="end")
        with pytest.raises(errors.LeaseLost):
            await leases.heartbeat("j", token)
        with pytest.raises(errors.LeaseLost):
            await leases.release_job("j", token)
        assert (await stored(jobs)).status is status

    await jobs.retry_job("j")
    await assert_lost(Status.PENDING)
    new = await claim(leases)
    await assert_lost(Status.RUNNING)
    assert (await jobs.update_job_status("j", "completed", lease_token=new)).status is Status.COMPLETED


async def test_repetitions_of_the_last_changes_before_retries_are_refused(jobs: JobStateManager) -> None:
    await jobs.create_job("j", 1)
    for key in ("first", "second"):
        await jobs.cancel_job("j", change_id=key)
        await jobs.retry_job("j")
    await jobs.update_job_status("j", "failed", change_id="third")
    await jobs.retry_job("j", change_id="again")

    for key in ("first", "second"):
        with pytest.raises(errors.IllegalTransition, match="before the job was retried"):
            await jobs.cancel_job("j", change_id=key)
    with pytest.raises(errors.IllegalTransition, match="before the job was retried"):
        await jobs.update_job_status("j", "failed", change_id="third")
    assert (await jobs.cancel_job("j", change_id="fourth")).status is Status.CANCELLED


async def test_a_last_change_before_a_retry_is_forgotten_after_a_minute(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1)
    await jobs.cancel_job("j", change_id="first")
    await jobs.retry_job("j")
    name, remembered = job_key("j"), await redis.hget(job_key("j"), "_ended")
    assert remembered is not None
    change_id, forget_at = remembered.decode().split(":")
    minute = int(forget_at) - (await redis.time())[0] * 1000
    assert 50_000 < minute <= 61_000

    await redis.hset(name, "_ended", f"{change_id}:{int(forget_at) - 61_000}")
    assert (await jobs.cancel_job("j", change_id="first")).status is Status.CANCELLED
    await jobs.retry_job("j")
    assert (await redis.hget(name, "_ended") or b"").count(b":") == 1


async def test_changes_before_a_deletion_do_not_change_the_next_job_of_the_id(jobs: JobStateManager) -> None:
    await jobs.create_job("j", 1)
    await jobs.cancel_job("j", change_id="cancelled")
    await jobs.retry_job("j", change_id="retried")
    await jobs.cancel_job("j", change_id="again")
    await jobs.delete_job("j")
    await jobs.create_job("j", 2)

    for key in ("cancelled", "again"):
        with pytest.raises(errors.JobNotFound):
            await jobs.cancel_job("j", change_id=key)
    await jobs.cancel_job("j")
    with pytest.raises(errors.JobNotFound):
        await jobs.retry_job("j", change_id="retried")


async def test_a_job_can_be_retried_during_a_drain(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    await fail(jobs, leases)
    await queues.start_drain(60)

    assert (await jobs.retry_job("j")).status is Status.PENDING
    await queues.end_drain()
    assert await claim(leases)


async def test_a_retried_job_is_counted_and_listed_as_pending(jobs: JobStateManager, leases: LeaseManager) -> None:
    await fail(jobs, leases, slate_id="s", correlation_id="c")
    await jobs.retry_job("j")

    statuses = (await jobs.get_stats()).statuses
    assert (statuses[Status.PENDING], statuses[Status.FAILED]) == (1, 0)
    for filters in (JobFilter(status=Status.PENDING), JobFilter(slate_id="s"), JobFilter(correlation_id="c")):
        assert [job.job_id for job in (await jobs.list_jobs(filters)).items] == ["j"]
    assert (await jobs.list_jobs(JobFilter(status=Status.FAILED))).items == []


async def test_the_history_has_the_error_of_each_attempt(
    jobs: JobStateManager, leases: LeaseManager, pool: ConnectionPool, redis: Redis
) -> None:
    await jobs.create_job("j", 1, max_attempts=2)
    await leases.release_job("j", await claim(leases), error={"code": 1})
    await jobs.update_job_status("j", "failed", error="second", lease_token=await claim(leases))
    await jobs.retry_job("j")
    await claim(leases)
    await Store(pool, redis).end_lease("j")
    await leases.reap()

    found = await jobs.get_history("j")

    assert found is not None
    assert [(entry.change, entry.attempt) for entry in found.items] == [
        *(("created", None), ("running", None), ("pending", 1), ("running", None), ("failed", 2)),
        *(("retried", None), ("running", None), ("pending", 3)),
    ]
    first, second, third = (entry.error for entry in found.items if entry.error)
    assert (first, second) == ('{"code":1}', '"second"')
    assert "lease" in third


async def test_the_last_ten_errors_are_kept_at_one_kilobyte_each(jobs: JobStateManager, leases: LeaseManager) -> None:
    await jobs.create_job("j", 1, max_attempts=20)
    for number in range(12):
        await leases.release_job("j", await claim(leases), error=f"{number:02}" + "€" * 600)

    found = await jobs.get_history("j")

    assert found is not None
    kept = [entry.error for entry in found.items if entry.error is not None]
    assert [error[1:3] for error in kept] == [f"{number:02}" for number in range(2, 12)]
    assert {len(error.encode()) for error in kept} == {3 + 3 * 340}  # a whole number of characters


async def test_line_breaks_in_the_json_of_an_error_are_space(jobs: JobStateManager) -> None:
    await jobs.create_job("j", 1)
    for text in (b'{"a":\n 1}', b'"two"'):
        await jobs.update_job_status("j", "failed", error=Raw(text))
        await jobs.retry_job("j")

    found = await jobs.get_history("j")

    assert found is not None
    assert [entry.error for entry in found.items if entry.error is not None] == ['{"a":  1}', '"two"']
