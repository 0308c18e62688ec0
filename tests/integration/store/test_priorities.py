"""Claims give the job with the smallest `created_at` less priority first."""

import pytest
from redis.asyncio import Redis

from service.domain import errors
from service.domain.jobs import JobFilter
from service.domain.states import Status
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.queues import QueueManager
from tests.helpers.partitions import PARTITIONS, id_in
from tests.helpers.store_operations import Store
from tests.integration.store.test_leases import claimed


async def claim_all(leases: LeaseManager, *queues: str) -> list[str]:
    """Claim jobs one by one until there are none, and return their ids."""
    ids = []
    while claim := await leases.claim_job(queues or ["default"], "w"):
        ids.append(claim.job.job_id)
    return ids


async def pass_time(redis: Redis, seconds: float) -> None:
    """Let the next job be created this much later than the ones before. Claims do not look at the time."""
    for partition in PARTITIONS:
        now, micros = await redis.time()
        clock = int((await redis.hget(partition.meta, "clock")) or 0)
        await redis.hset(
            partition.meta, "clock", str(max(clock, int(now) * 1_000_000 + int(micros)) + int(seconds * 1e6))
        )


async def test_jobs_are_claimed_by_creation_time_less_priority(jobs: JobStateManager, leases: LeaseManager) -> None:
    for job_id, priority in {"a": 0, "b": 10, "c": 86_400, "d": -86_400, "e": 0, "f": 10, "g": -1}.items():
        await jobs.create_job(job_id, 1, priority=priority)

    assert await claim_all(leases) == ["c", "b", "f", "a", "e", "g", "d"]


async def test_a_priority_counts_seconds_so_that_no_job_waits_for_ever(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    await jobs.create_job("old", 1)
    await pass_time(redis, 9)
    await jobs.create_job("before", 1, priority=10)
    await pass_time(redis, 9)
    await jobs.create_job("after", 1, priority=10)

    assert await claim_all(leases) == ["before", "old", "after"]


async def test_a_claim_of_several_jobs_and_queues_keeps_the_order(jobs: JobStateManager, leases: LeaseManager) -> None:
    for number in range(40):
        await jobs.create_job(f"{number:02}", 1, queue="ab"[number % 2], priority=[0, 1000, 2000, 0][number % 4])

    claims = await leases.claim_jobs(["a", "b"], "w", max_jobs=30)

    by_order = sorted(range(40), key=lambda number: (-[0, 1000, 2000, 0][number % 4], number))
    assert [int(claim.job.job_id) for claim in claims] == by_order[:30]
    assert [int(job_id) for job_id in await claim_all(leases, "b", "a")] == by_order[30:]


async def test_a_priority_shortens_no_delay(jobs: JobStateManager, leases: LeaseManager, store: Store) -> None:
    await jobs.create_job("later", 1, delay_seconds=60, priority=1000)
    await jobs.create_job("now", 1)
    assert (await claimed(leases)).job.job_id == "now"
    assert await leases.claim_job(["default"], "w") is None
    await jobs.create_job("plain", 1)

    await store.end_delay("later")

    assert await claim_all(leases) == ["later", "plain"]


async def test_a_released_job_keeps_its_priority(jobs: JobStateManager, leases: LeaseManager) -> None:
    await jobs.create_job("plain", 1)
    await jobs.create_job("urgent", 1, priority=10)
    first = await claimed(leases)
    assert (first.job.job_id, first.job.priority) == ("urgent", 10)

    released = await leases.release_job("urgent", first.lease.token)

    assert released.priority == 10
    assert await claim_all(leases) == ["urgent", "plain"]


async def test_a_job_whose_lease_has_expired_keeps_its_priority(
    jobs: JobStateManager, leases: LeaseManager, store: Store
) -> None:
    await jobs.create_job("plain", 1)
    await jobs.create_job("urgent", 1, priority=10, max_attempts=2)
    assert (await claimed(leases)).job.job_id == "urgent"

    await store.end_lease("urgent")
    assert [one.job_id for partition in PARTITIONS for one in (await leases.reap(partition))[0]] == ["urgent"]

    assert await claim_all(leases) == ["urgent", "plain"]


async def test_jobs_of_the_same_place_are_all_claimed_also_behind_jobs_that_are_not_there(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    """A claim that reads on must not leave out those with the score of the last one that it read."""
    names = [id_in(PARTITIONS.first, f"j{number}") for number in range(12)]
    for name in names:
        await jobs.create_job(name, 1, priority=10)
    by_priority = PARTITIONS.first.by_priority("default")
    first = await redis.zscore(by_priority, names[0]) or 0
    gone = {f"gone-{number}": first for number in range(3)}
    await redis.zadd(by_priority, gone)

    claims = await leases.claim_jobs(["default", "b", "c", "d"], "w", max_jobs=4)
    assert [claim.job.job_id for claim in claims] == names[:4]
    assert await claim_all(leases, "default", "b") == names[4:]
    await redis.zrem(by_priority, *gone)


async def test_a_retry_with_a_delay_and_a_priority(jobs: JobStateManager, leases: LeaseManager, store: Store) -> None:
    await jobs.create_job("retried", 1)
    await jobs.cancel_job("retried")
    await jobs.create_job("plain", 1)
    await jobs.retry_job("retried", delay_seconds=60, priority=-10)
    assert await claim_all(leases) == ["plain"]
    await jobs.create_job("later", 1)

    await store.end_delay("retried")

    assert await claim_all(leases) == ["later", "retried"]


@pytest.mark.parametrize(
    ("given", "kept", "order"),
    [
        ({}, 10, ["retried", "plain"]),
        ({"priority": 0}, 0, ["retried", "plain"]),
        ({"priority": -1000}, -1000, ["plain", "retried"]),
        ({"priority": 20}, 20, ["retried", "plain"]),
    ],
)
async def test_a_retried_job_keeps_its_seniority_unless_the_retry_changes_it(
    jobs: JobStateManager, leases: LeaseManager, given: dict[str, int], kept: int, order: list[str]
) -> None:
    await jobs.create_job("retried", 1, priority=10)
    await jobs.cancel_job("retried")
    await jobs.create_job("plain", 1)

    job = await jobs.retry_job("retried", **given)

    assert job == await jobs.get_job("retried")
    assert job.priority == kept
    assert await claim_all(leases) == order


async def test_a_retry_gives_a_priority_to_a_job_without_one(jobs: JobStateManager, leases: LeaseManager) -> None:
    for job_id in ("first", "second"):
        await jobs.create_job(job_id, 1)
    await jobs.cancel_job("second")
    await jobs.retry_job("second", priority=5)
    assert await claim_all(leases) == ["second", "first"]


async def test_pause_and_max_running_hold_for_jobs_with_and_without_priority_together(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    for number in range(4):
        await jobs.create_job(f"j{number}", 1, priority=number % 2)
    await queues.configure_queue("default", paused=True)
    assert await claim_all(leases) == []
    await queues.configure_queue("default", paused=False, max_running=3)

    assert [claim.job.job_id for claim in await leases.claim_jobs(["default"], "w", max_jobs=10)] == ["j1", "j3", "j0"]


async def test_max_running_counts_jobs_without_a_lease(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    for number in range(4):
        await jobs.create_job(f"j{number}", 1)
    await queues.configure_queue("default", max_running=2)
    await jobs.update_job_status("j0", "running")
    assert await claim_all(leases) == ["j1"]


async def test_a_prioritized_job_is_a_pending_one(jobs: JobStateManager, redis: Redis) -> None:
    urgent = (await jobs.create_job("urgent", 1, priority=10)).job
    await jobs.create_job("plain", 1)
    stats = await jobs.get_stats()
    assert (stats.statuses[Status.PENDING], stats.delayed) == (2, 0)
    assert stats.oldest_pending
    assert (stats.oldest_pending.job_id, stats.oldest_pending.created_at) == ("urgent", urgent.created_at)
    listed = await jobs.list_jobs(JobFilter(status=Status.PENDING, queue="default"))
    assert [job.job_id for job in listed.items] == ["plain", "urgent"]


async def test_a_priority_of_0_is_none(jobs: JobStateManager) -> None:
    await jobs.create_job("j", 1)
    assert (await jobs.create_job("j", 1, priority=0)).replayed
    with pytest.raises(errors.JobExists):
        await jobs.create_job("j", 1, priority=1)


@pytest.mark.parametrize("priority", [-86_401, 86_401, 1.5, "1", True])
async def test_a_priority_out_of_range_is_refused_by_name(jobs: JobStateManager, priority: object) -> None:
    await jobs.create_job("done", 1)
    await jobs.cancel_job("done")
    for call in (jobs.create_job("j", 1, priority=priority), jobs.retry_job("done", priority=priority)):
        with pytest.raises(errors.InvalidValue, match="-86400 to 86400") as raised:
            await call
        assert raised.value.field == "priority"
    assert await jobs.get_job("j") is None
