import asyncio
import time
from datetime import timedelta

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from structlog.testing import capture_logs

from service.domain.jobs import JobFilter
from service.domain.states import Status
from service.store.jobs import JobStateManager
from service.store.sweep import SWEEP_BATCH
from tests.helpers.consistency import inconsistencies
from tests.helpers.partitions import PARTITIONS, connect, job_key, key_names
from tests.helpers.polling import TIMEOUT

SHORT = timedelta(milliseconds=60)


@pytest.fixture
def short_lived(pool: BlockingConnectionPool, redis: Redis) -> JobStateManager:
    """A manager whose jobs expire after 60 ms."""
    return JobStateManager(connect(pool), ttl=SHORT)


def lasting(*job_ids: str) -> set[str]:
    """Return the keys that stay when these jobs have expired: the clock and the events of their partitions."""
    partitions = {PARTITIONS.of(job_id) for job_id in job_ids}
    return {name for partition in partitions for name in (partition.meta, partition.events)}


async def wait_until_expired(redis: Redis, *job_ids: str) -> None:
    """Wait until Redis has expired the jobs, without reading them."""
    deadline = time.monotonic() + TIMEOUT
    while await redis.exists(*(job_key(job_id) for job_id in job_ids)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)  # a sweep leaves those of the last 2 ms to the next one


async def test_counts_and_lists_omit_expired_jobs_before_the_sweep(
    short_lived: JobStateManager, jobs: JobStateManager, redis: Redis
) -> None:
    for name in ("r1", "r2"):
        await jobs.create_job(name, 1, slate_id="s")
        await short_lived.update_job_status(name, "running")
    await short_lived.create_job("p", 1, slate_id="s")
    await jobs.create_job("stays", 1, slate_id="s")
    await wait_until_expired(redis, "r1", "r2", "p")

    stats = await jobs.get_stats()

    assert stats.statuses == {**dict.fromkeys(Status, 0), Status.PENDING: 1}
    assert await jobs.get_running_job_count() == 0
    assert stats.oldest_pending
    assert stats.oldest_pending.job_id == "stays"
    for filters in (JobFilter(), JobFilter(slate_id="s"), JobFilter(status=Status.PENDING)):
        assert [job.job_id for job in (await jobs.list_jobs(filters)).items] == ["stays"]


async def test_a_sweep_removes_exactly_the_entries_of_expired_jobs(
    short_lived: JobStateManager, jobs: JobStateManager, redis: Redis
) -> None:
    await short_lived.create_job("p", 1, "c", slate_id="s")
    await jobs.create_job("d", 1, "c", slate_id="s")
    await short_lived.update_job_status("d", "failed")
    await jobs.create_job("stays", 1, "c", slate_id="s")
    await wait_until_expired(redis, "p", "d")

    assert await jobs.sweep() == 2

    assert await inconsistencies(redis) == []
    assert await redis.zcard(PARTITIONS.of("stays").tags) == 2
    assert await jobs.sweep() == 0


async def test_after_all_jobs_expired_a_sweep_leaves_only_clock_and_events(
    short_lived: JobStateManager, jobs: JobStateManager, redis: Redis
) -> None:
    await short_lived.create_job("a", 1, "c", slate_id="s", queue="q1")
    await jobs.create_job("b", 1, "c", slate_id="s", queue="q2")
    await short_lived.update_job_status("b", "running")
    await short_lived.create_job("c", 1, delay_seconds=1)
    await wait_until_expired(redis, "a", "b", "c")

    await short_lived.sweep()

    assert await key_names(redis) == lasting("a", "b", "c")


async def test_with_all_replicas_gone_indexes_stay_and_any_sweep_empties_them(
    short_lived: JobStateManager, jobs: JobStateManager, redis: Redis
) -> None:
    await short_lived.create_job("a", 1, "c", slate_id="s")
    await short_lived.create_job("b", 1, queue="q", delay_seconds=1)
    await wait_until_expired(redis, "a", "b")

    emptied = {PARTITIONS.of("a").tags, PARTITIONS.of("b").delays}
    for job_id, queue, state in (("a", "default", "pending"), ("b", "q", "delayed")):
        partition = PARTITIONS.of(job_id)
        emptied |= {partition.by_expiry, partition.queue_names, partition.by_created(queue, state)}
    stay = lasting("a", "b")
    assert await key_names(redis) == stay | emptied
    assert {await redis.ttl(name) for name in stay | emptied} == {-1}

    assert await jobs.sweep() == 2

    assert await key_names(redis) == stay
    assert {await redis.ttl(name) for name in stay} == {-1}


async def test_an_expired_job_emits_one_event(
    short_lived: JobStateManager, jobs: JobStateManager, redis: Redis
) -> None:
    await jobs.create_job("a", 1)
    await short_lived.update_job_status("a", "running")
    await wait_until_expired(redis, "a")

    await short_lived.sweep()
    await short_lived.sweep()

    events = [event for _, event in await redis.xrange(PARTITIONS.of("a").events)]
    assert [event[b"event"] for event in events] == [b"changed", b"changed", b"expired"]
    created = (events[0][b"queue"], events[0][b"created"])
    assert (events[-1][b"job_id"], events[-1][b"status"]) == (b"a", b"running")
    assert (events[-1][b"queue"], events[-1][b"created"]) == created
    assert b"revision" not in events[-1]


async def test_the_sweep_does_not_touch_a_job_created_again_with_the_same_id(
    short_lived: JobStateManager, jobs: JobStateManager, redis: Redis
) -> None:
    await short_lived.create_job("a", 1, slate_id="s")
    await wait_until_expired(redis, "a")
    again = (await jobs.create_job("a", 2, slate_id="s")).job

    assert await jobs.sweep() == 1

    assert await inconsistencies(redis) == []
    assert [job.created_at for job in (await jobs.list_jobs(JobFilter(slate_id="s"))).items] == [again.created_at]
    assert (await jobs.get_stats()).statuses[Status.PENDING] == 1


async def test_one_sweep_handles_more_than_one_batch(short_lived: JobStateManager, redis: Redis) -> None:
    count = SWEEP_BATCH + 7
    await asyncio.gather(*(short_lived.create_job(f"j{n}", 1, queue=f"q{n % 3}") for n in range(count)))
    await wait_until_expired(redis, *(f"j{n}" for n in range(count)))

    assert await short_lived.sweep() == count

    assert await key_names(redis) == lasting(*(f"j{n}" for n in range(count)))


async def test_an_update_prolongs_the_retention_of_a_job(
    pool: BlockingConnectionPool, jobs: JobStateManager, redis: Redis
) -> None:
    brief = JobStateManager(connect(pool), ttl=timedelta(seconds=2))  # the update must come before
    await brief.create_job("a", 1)
    await jobs.update_job_status("a", "running")
    await brief.create_job("other", 1)
    await wait_until_expired(redis, "other")

    assert await jobs.sweep() == 1

    assert await jobs.get_running_job_count() == 1


async def test_a_delayed_job_is_kept_for_its_delay_plus_the_retention(
    short_lived: JobStateManager, redis: Redis
) -> None:
    job = (await short_lived.create_job("a", 1, delay_seconds=100)).job

    assert await redis.pttl(job_key("a")) > 99_000
    assert job.available_at
    assert job.expires_at > job.available_at


async def test_an_id_created_again_before_the_sweep_is_listed_once_and_correctly(
    short_lived: JobStateManager, jobs: JobStateManager, redis: Redis
) -> None:
    await short_lived.create_job("a", 1, queue="old", slate_id="s")
    await jobs.create_job("b", 1, queue="old")
    await wait_until_expired(redis, "a")
    again = (await jobs.create_job("a", 1, queue="new", slate_id="s")).job

    oldest = (await jobs.get_stats()).oldest_pending
    assert oldest
    assert oldest.job_id == "b"
    assert [job.created_at for job in (await jobs.list_jobs(JobFilter(slate_id="s"))).items] == [again.created_at]
    assert [job.job_id for job in (await jobs.list_jobs(JobFilter())).items] == ["a", "b"]


async def test_a_foreign_entry_does_not_stop_the_sweep(short_lived: JobStateManager, redis: Redis) -> None:
    await short_lived.create_job("a", 1, queue="a")
    await short_lived.create_job("b", 1, queue="b")
    await redis.zadd(PARTITIONS.of("a").by_expiry, {"garbage": 1})
    await wait_until_expired(redis, "a", "b")

    assert await short_lived.sweep() == 2

    assert await key_names(redis) == lasting("a", "b")


@pytest.mark.corrupts_keys
@pytest.mark.parametrize("state", ["pending", "completed"])
async def test_a_key_of_unexpected_type_does_not_stop_the_sweep(
    short_lived: JobStateManager, redis: Redis, state: str
) -> None:
    await short_lived.create_job("a", 1, queue="a", slate_id="s")
    await short_lived.create_job("b", 1, queue="b", slate_id="s")
    await wait_until_expired(redis, "a", "b")
    partition = PARTITIONS.of("a")
    index = partition.by_created("a", state)
    await redis.delete(index)
    await redis.set(index, "foreign", ex=60)

    with capture_logs() as log:
        assert await short_lived.sweep() == 1
        assert await short_lived.sweep() == 0, "the other is put off"

    [entry] = await redis.zrange(partition.by_expiry, 0, -1)
    assert entry.startswith(b"a|")
    assert [(line["log_level"], line["entries"]) for line in log] == [("error", [entry.decode()])]
    assert index in log[0]["errors"][0]
    assert not await redis.exists(PARTITIONS.of("b").by_created("b", "pending"))
    assert await redis.get(index) == b"foreign"
    assert await redis.smembers(partition.queue_names) == {b"a"}

    await redis.delete(index)
    await redis.zadd(partition.by_expiry, {entry.decode(): 1})  # as if the minute had passed
    assert await short_lived.sweep() == 1
    assert await key_names(redis) <= lasting("a", "b") | {partition.by_created("a", "pending")}


async def test_a_clock_ahead_of_time_does_not_extend_the_retention(jobs: JobStateManager, redis: Redis) -> None:
    await redis.hset(PARTITIONS.of("a").meta, "clock", 4_102_444_800_000_000)  # the year 2100

    job = (await jobs.create_job("a", 1)).job
    changed = await jobs.update_job_status("a", "running")

    assert job.created_at > "2100"
    assert await redis.ttl(job_key("a")) <= 7 * 86400
    assert (changed.updated_at >= job.created_at, changed.expires_at < "2100") == (True, True)


async def test_the_event_of_an_expired_job_has_the_tag_of_its_slate(short_lived: JobStateManager, redis: Redis) -> None:
    await short_lived.create_job("a", 1, slate_id="s")
    [tag_member] = await redis.zrange(PARTITIONS.of("a").tags, 0, -1)
    await wait_until_expired(redis, "a")

    await short_lived.sweep()

    [(_, event)] = await redis.xrevrange(PARTITIONS.of("a").events, count=1)
    assert (event[b"event"], event[b"tags"]) == (b"expired", tag_member.split(b":")[0])
