"""How long jobs are kept after their end: as they say themselves, or their queue, or the service."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from service.domain.errors import InvalidValue
from service.domain.jobs import Job, Retention
from service.domain.states import Status
from service.domain.timestamps import parse_timestamp
from service.store.client import StoreClient
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.queues import QueueManager
from tests.helpers.partitions import PARTITIONS, job_key
from tests.integration.conftest import WEEK
from tests.integration.store.test_leases import claimed

WEEK_SECONDS = int(WEEK.total_seconds())


def retention(job: Job | None) -> int:
    """Return for how many seconds a job is kept after its last change."""
    assert job is not None
    return round((parse_timestamp(job.expires_at) - parse_timestamp(job.updated_at)) / 1e6)


async def end(jobs: JobStateManager, leases: LeaseManager, status: Status, **options: Any) -> Job:
    """Create a job, claim it, and return it after its end."""
    job_id = f"j-{status}"
    await jobs.create_job(job_id, 1, **options)
    claim = await claimed(leases, options.get("queue", "default"))
    return await jobs.update_job_status(job_id, status, lease_token=claim.lease.token)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_a_job_is_kept_after_its_end_as_long_as_it_says(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, status: Status
) -> None:
    await queues.configure_queue("default", retention_seconds={status: 7200})
    created = (await jobs.create_job("waiting", 1, retention_seconds=3600)).job
    assert (created.retention_seconds, retention(created)) == (3600, WEEK_SECONDS)
    running = (await claimed(leases)).job
    assert (running.retention_seconds, retention(running)) == (3600, WEEK_SECONDS)

    ended = await end(jobs, leases, status, retention_seconds=3600)

    assert (ended.retention_seconds, retention(ended)) == (3600, 3600)
    assert ended == await jobs.get_job(ended.job_id)


async def test_redis_forgets_the_record_when_the_retention_ends(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    ended = await end(jobs, leases, Status.COMPLETED, retention_seconds=3600)
    assert await redis.pexpiretime(job_key(ended.job_id)) == parse_timestamp(ended.expires_at) // 1000


async def test_a_queue_keeps_jobs_by_their_final_status(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    queue = await queues.configure_queue("q", retention_seconds={"completed": 60, "failed": 31_536_000})
    assert queue.retention_seconds == Retention(60, 31_536_000)
    assert (queue.paused, queue.max_running) == (False, None)
    assert retention(await end(jobs, leases, Status.COMPLETED, queue="q")) == 60
    assert retention(await end(jobs, leases, Status.FAILED, queue="q")) == 31_536_000
    assert retention(await end(jobs, leases, Status.CANCELLED, queue="q")) == WEEK_SECONDS
    assert retention(await jobs.get_job("j-completed")) == 60, "each job has its own retention"


async def test_later_settings_leave_what_has_ended(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    await queues.configure_queue("default", retention_seconds={"completed": 600})
    ended = await end(jobs, leases, Status.COMPLETED)
    await queues.configure_queue("default", retention_seconds={"completed": 60})
    assert await jobs.get_job(ended.job_id) == ended
    assert (await jobs.update_job_status(ended.job_id, "completed")).expires_at == ended.expires_at


async def test_a_retry_is_kept_as_long_as_any_pending_job(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    await queues.configure_queue("default", retention_seconds={"failed": 60})
    await end(jobs, leases, Status.FAILED)
    assert retention(await jobs.retry_job("j-failed")) == WEEK_SECONDS


@pytest.mark.parametrize(
    ("options", "running"),
    [({"run_timeout_seconds": 1}, True), ({"start_timeout_seconds": 1}, False), ({}, True)],
    ids=["run time-out", "start time-out", "lease"],
)
@pytest.mark.parametrize("own", [None, 3600])
async def test_a_job_that_the_reaper_ends_is_kept_as_long_as_it_or_its_queue_says(
    jobs: JobStateManager,
    leases: LeaseManager,
    queues: QueueManager,
    redis: Redis,
    options: dict[str, int],
    running: bool,
    own: int | None,
) -> None:
    await queues.configure_queue("default", retention_seconds={"failed": 600})
    given = {} if own is None else {"retention_seconds": own}
    await jobs.create_job("j", 1, **options, **given)
    if running:
        await claimed(leases)
    if not options:
        await redis.zadd(PARTITIONS.of("j").leases, {"j": 1})
        await redis.hset(job_key("j"), "lease_expires_at", "2026-01-01T00:00:00.000000Z")
    else:
        await asyncio.sleep(1.1)

    await (leases.time_out() if options else leases.reap())

    job = await jobs.get_job("j")
    assert job is not None
    assert (job.status, retention(job)) == (Status.FAILED, own or 600)


async def test_the_retention_of_the_queue_applies_to_a_release_and_a_cancel(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    await queues.configure_queue("default", retention_seconds={"failed": 600, "cancelled": 1200})
    await jobs.create_job("failed", 1)
    token = (await claimed(leases)).lease.token
    await leases.release_job("failed", token, error={"reason": "no line-up"})
    await jobs.create_job("cancelled", 1)
    await jobs.cancel_job("cancelled")
    assert [retention(await jobs.get_job(job_id)) for job_id in ("failed", "cancelled")] == [600, 1200]


async def test_each_retention_of_a_queue_is_set_and_cleared_by_itself(queues: QueueManager, redis: Redis) -> None:
    async def configured(retention_seconds: Any = None, **settings: Any) -> tuple[bool, int | None, Retention | None]:
        given = settings if "max_running" in settings else {"retention_seconds": retention_seconds, **settings}
        queue = await queues.configure_queue("q", **given)
        assert [queue] == await queues.get_queues()
        return queue.paused, queue.max_running, queue.retention_seconds

    assert await configured({"completed": 60}) == (False, None, Retention(60))
    assert await configured({"failed": 120}) == (False, None, Retention(60, 120))
    assert await configured(max_running=3) == (False, 3, Retention(60, 120))
    assert await configured({"completed": None, "cancelled": 180}) == (False, 3, Retention(None, 120, 180))
    assert await configured({}, paused=True) == (True, 3, Retention(None, 120, 180))
    assert await configured(None) == (True, 3, None)
    assert [await redis.hgetall(one.queues) for one in PARTITIONS] == [{b"q": b"1:3"}] * len(PARTITIONS)


async def test_a_queue_whose_last_setting_is_cleared_leaves_no_key(queues: QueueManager, redis: Redis) -> None:
    await queues.configure_queue("q", retention_seconds={"failed": 60})
    assert [await redis.hgetall(one.queues) for one in PARTITIONS] == [{b"q": b"0:::60:"}] * len(PARTITIONS)
    await queues.configure_queue("q", retention_seconds={"failed": None})
    assert not any([await redis.exists(one.queues) for one in PARTITIONS])


async def test_a_limited_queue_with_a_retention_gives_jobs(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    await queues.configure_queue("default", max_running=1, retention_seconds={"completed": 60})
    await jobs.create_job("a", 1)
    await jobs.create_job("b", 1)
    assert (await claimed(leases)).job.job_id == "a"
    assert await leases.claim_job(["default"], "w") is None


@pytest.mark.corrupts_keys
@pytest.mark.parametrize("field", ["0:::60", "yes", "0:::x::", "", "0::::0", "0::::59", "0::::" + "9" * 25])
async def test_settings_that_no_client_can_set_do_not_keep_a_job_from_its_end(
    jobs: JobStateManager, store_client: StoreClient, redis: Redis, field: str
) -> None:
    await jobs.create_job("j", 1)
    for partition in PARTITIONS:
        await redis.hset(partition.queues, "default", field)
    [queue] = await QueueManager(store_client).get_queues()
    assert queue.retention_seconds is None
    assert retention(await jobs.cancel_job("j")) == WEEK_SECONDS


@pytest.mark.corrupts_keys
async def test_settings_of_another_type_do_not_keep_a_job_from_its_end(jobs: JobStateManager, redis: Redis) -> None:
    await jobs.create_job("j", 1)
    for partition in PARTITIONS:
        await redis.set(partition.queues, "foreign")
    assert retention(await jobs.cancel_job("j")) == WEEK_SECONDS


@pytest.mark.parametrize(
    ("retention_seconds", "field"),
    [
        ({"completed": 59}, "retention_seconds.completed"),
        ({"failed": 31_536_001}, "retention_seconds.failed"),
        ({"cancelled": True}, "retention_seconds.cancelled"),
        ({"pending": 60}, "retention_seconds"),
    ],
)
async def test_a_wrong_retention_is_rejected_and_changes_nothing(
    queues: QueueManager, retention_seconds: Any, field: str
) -> None:
    with pytest.raises(InvalidValue) as raised:
        await queues.configure_queue("q", paused=True, retention_seconds=retention_seconds)
    assert raised.value.field == field
    assert await queues.get_queues() == []
