"""The numbers of a queue: jobs by status, delays, leases, demand, and for how long its next job has been due."""

import asyncio
from datetime import timedelta

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from service.domain import errors
from service.domain.jobs import Queue
from service.domain.states import Status
from service.domain.timestamps import format_timestamp
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.queues import QueueManager
from tests.helpers.partitions import connect, job_key, neighbour_of
from tests.helpers.store_operations import Store
from tests.integration.store.test_leases import claimed


async def figures(queues: QueueManager, queue: str = "default") -> tuple[int, int, int]:
    """Return `delayed`, `leased` and `demand`, which are the same in the list of all queues."""
    found = await queues.get_queue(queue)
    listed = {one.queue: one for one in await queues.get_queues()}
    assert _without_age(listed.get(queue, found)) == _without_age(found)
    return found.delayed, found.leased, found.demand


def _without_age(queue: Queue) -> list[object]:
    return [getattr(queue, name) for name in queue.__struct_fields__ if name != "oldest_due_seconds"]


async def make_due_since(redis: Redis, job_id: str, seconds: int, field: str = "updated_at") -> None:
    """Let the last move of a job to pending, or the end of its delay, be some seconds ago."""
    now, micros = await redis.time()
    since = (int(now) - seconds) * 1_000_000 + int(micros)
    await redis.hset(job_key(job_id), field, format_timestamp(since))


async def test_a_queue_without_jobs_and_settings_has_zeros(queues: QueueManager) -> None:
    queue = await queues.get_queue("none")
    assert queue == Queue(queue="none", paused=False, statuses=dict.fromkeys(Status, 0), delayed=0, leased=0, demand=0)
    assert await queues.get_queues() == []


@pytest.mark.parametrize("name", ["", "a b", "a:b", "x" * 65])
async def test_a_wrong_name_is_refused(queues: QueueManager, name: str) -> None:
    with pytest.raises(errors.InvalidValue) as raised:
        await queues.get_queue(name)
    assert raised.value.field == "queue"


async def test_demand_is_what_runs_and_what_is_due(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager
) -> None:
    for number in range(6):
        await jobs.create_job(f"j{number}", 1, priority=number % 2)
    await jobs.create_job("later", 1, delay_seconds=60)
    await jobs.create_job("elsewhere", 1, queue="other")
    assert await figures(queues) == (1, 0, 6)

    for _ in range(2):
        await claimed(leases)
    await jobs.update_job_status("j0", "running")
    await jobs.cancel_job("j2")
    assert await figures(queues) == (1, 2, 5)

    await queues.configure_queue("default", paused=True)
    assert await figures(queues) == (1, 2, 3)
    assert await figures(queues, "other") == (0, 0, 1)


async def test_a_delay_that_is_over_counts_as_demand_once_it_is_ended(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, store: Store
) -> None:
    await jobs.create_job("j", 1, delay_seconds=60)
    await store.end_delay("j")
    await leases.end_delays()
    assert await figures(queues) == (0, 0, 1)


async def test_the_age_counts_from_the_last_move_to_pending(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, redis: Redis
) -> None:
    await jobs.create_job("j", 1)
    await make_due_since(redis, "j", 90)
    assert (await queues.get_queue("default")).oldest_due_seconds == 90
    assert [queue.oldest_due_seconds for queue in await queues.get_queues()] == [90]

    claim = await claimed(leases)
    assert (await queues.get_queue("default")).oldest_due_seconds is None

    await leases.release_job("j", claim.lease.token)
    assert (await queues.get_queue("default")).oldest_due_seconds == 0


async def test_the_age_counts_from_the_end_of_a_delay(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, redis: Redis, store: Store
) -> None:
    await jobs.create_job("j", 1, delay_seconds=60)
    await make_due_since(redis, "j", 90)
    assert (await queues.get_queue("default")).oldest_due_seconds is None

    await store.end_delay("j")
    await leases.end_delays()

    assert (await queues.get_queue("default")).oldest_due_seconds == 1
    await claimed(leases)


async def test_the_age_is_that_of_the_job_that_the_next_claim_gets(
    jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, redis: Redis
) -> None:
    for job_id, priority, seconds in (("plain", 0, 30), ("urgent", 10, 20), ("deferred", -10, 40)):
        await jobs.create_job(job_id, 1, priority=priority)
        await make_due_since(redis, job_id, seconds)
    ages = []
    for _ in range(3):
        ages.append((await queues.get_queue("default")).oldest_due_seconds)
        await claimed(leases)
    assert ages == [20, 30, 40]


async def test_jobs_that_have_expired_have_no_age(
    pool: BlockingConnectionPool, jobs: JobStateManager, leases: LeaseManager, queues: QueueManager, redis: Redis
) -> None:
    short_lived = JobStateManager(connect(pool), ttl=timedelta(milliseconds=20))
    for number in range(20):
        await short_lived.create_job(f"expired-{number}", 1, priority=number % 2)
    await asyncio.sleep(0.05)
    assert (await queues.get_queue("default")).oldest_due_seconds is None
    await jobs.create_job("alive", 1)
    await make_due_since(redis, "alive", 50)

    queue = await queues.get_queue("default")

    assert (queue.demand, queue.oldest_due_seconds) == (1, 50)
    await claimed(leases)


async def test_a_clock_that_was_ahead_gives_no_negative_age(
    jobs: JobStateManager, queues: QueueManager, redis: Redis
) -> None:
    await jobs.create_job("j", 1)
    await make_due_since(redis, "j", -100)
    assert (await queues.get_queue("default")).oldest_due_seconds == 0


@pytest.mark.corrupts_keys
async def test_a_record_of_another_program_hides_no_other_job(
    jobs: JobStateManager, queues: QueueManager, redis: Redis
) -> None:
    first, second = "j", neighbour_of("j")
    for job_id in (first, second):
        await jobs.create_job(job_id, 1)
    await make_due_since(redis, second, 50)
    await redis.delete(job_key(first))
    await redis.set(job_key(first), "foreign")

    assert (await queues.get_queue("default")).oldest_due_seconds == 50
