"""Sixteen partitions: operations by id, and those that span all partitions."""

import asyncio
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from service.domain import errors
from service.domain.jobs import Progress
from service.domain.rate_limits import RateLimit
from service.domain.states import Status
from service.domain.timestamps import parse_timestamp
from service.store import scripts
from service.store.client import StoreClient
from service.store.deadlines import budget, new_budget
from service.store.fingerprints import digest
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.partition import Partition
from service.store.partitions import Partitions
from service.store.queues import QueueManager
from service.store.rate_limiter import RateLimiter
from service.store.scripts import Script
from tests.helpers.cluster_clients import command_calls
from tests.helpers.deployments import DEPLOYMENT
from tests.helpers.polling import TIMEOUT

pytestmark = pytest.mark.partitions(16)

PARTITIONS = Partitions(16)
DAY = timedelta(days=1)
#: The id of a job in each partition.
IDS = [next(f"j{n}" for n in count() if PARTITIONS.of(f"j{n}") is partition) for partition in PARTITIONS]
every_partition = pytest.mark.parametrize("partition", PARTITIONS, ids=lambda one: one.root)


async def lease(leases: LeaseManager, job_id: str) -> str:
    """Claim `job_id`, the only job that is due."""
    claim = await leases.claim_job(["default"], "w")
    assert claim is not None
    assert claim.job.job_id == job_id
    return claim.lease.token


async def keys(redis: Redis) -> set[str]:
    return {name.decode() async for name in redis.scan_iter(count=1000)}


@every_partition
async def test_all_operations_on_a_job_use_the_keys_of_its_partition_alone(
    jobs: JobStateManager,
    leases: LeaseManager,
    redis: Redis,
    partition: Partition,
) -> None:
    job_id = IDS[partition.number]
    created = await jobs.create_job(job_id, {"a": 1}, "c", slate_id="s", max_attempts=3)
    assert (await jobs.create_job(job_id, {"a": 1}, "c", slate_id="s", max_attempts=3)).replayed
    assert await jobs.get_job(job_id) == created.job
    assert await redis.hget(f"{partition.root}job:{job_id}", "status") == b"pending"

    token = await lease(leases, job_id)
    await leases.heartbeat(job_id, token, progress=Progress(1))
    assert (await leases.release_job(job_id, token)).status is Status.PENDING
    token = await lease(leases, job_id)
    assert (await jobs.cancel_job(job_id)).cancel_requested_at
    assert (await jobs.update_job_status(job_id, "completed", {"b": 2}, lease_token=token)).status is Status.COMPLETED
    assert (await jobs.get_result(job_id)).status is Status.COMPLETED
    history = await jobs.get_history(job_id)
    assert history is not None
    assert len(history.items) == 6
    assert [job.job_id for job in (await jobs.get_jobs([job_id])).items] == [job_id]
    others = {*(await keys(redis))} - {one.version for one in PARTITIONS} - {one.partitions for one in PARTITIONS}
    common = set() if DEPLOYMENT == "cluster" else {"jobs:version"}
    assert {name for name in others if not name.startswith(partition.root)} == common

    await jobs.delete_job(job_id)
    assert await jobs.get_job(job_id) is None
    with pytest.raises(errors.JobNotFound):
        await jobs.cancel_job(job_id)


async def test_creation_times_are_unique_over_all_partitions(jobs: JobStateManager, redis: Redis) -> None:
    seconds, micros = await redis.time()
    ahead = (int(seconds) + 1000) * 1_000_000 + int(micros)
    for partition in PARTITIONS:  # so that all partitions continue from the same time
        await redis.hset(partition.meta, "clock", ahead)

    ids = [f"job-{number}" for number in range(200)]
    created = await asyncio.gather(*(jobs.create_job(job_id, 1) for job_id in ids))

    times = {one.job.job_id: parse_timestamp(one.job.created_at) for one in created}
    assert len(set(times.values())) == 200
    assert all(time % 16 == PARTITIONS.of(job_id).number for job_id, time in times.items())
    assert min(times.values()) > ahead
    assert max(times.values()) <= ahead + 16 * 200


@pytest.mark.partitions(1)
async def test_one_partition_gives_every_microsecond(jobs: JobStateManager, redis: Redis) -> None:
    ahead = 4_000_000_000_000_000
    await redis.hset("jobs:meta", "clock", ahead)
    times = [parse_timestamp((await jobs.create_job(f"j{number}", 1)).job.created_at) for number in range(3)]
    assert times == [ahead + 1, ahead + 2, ahead + 3]


async def test_counts_are_those_of_all_partitions(
    jobs: JobStateManager, queues: QueueManager, leases: LeaseManager
) -> None:
    for job_id in IDS:
        await jobs.create_job(job_id, 1)
    for job_id in IDS[:5]:
        await jobs.update_job_status(job_id, "running")
    for job_id in IDS[5:8]:
        await lease(leases, job_id)
        await jobs.create_job(f"{job_id}-later", 1, queue="q", delay_seconds=60)

    stats = await jobs.get_stats()

    assert (stats.statuses[Status.PENDING], stats.statuses[Status.RUNNING], stats.delayed) == (11, 8, 3)
    assert (stats.running.leased, stats.running.unleased) == (3, 5)
    assert stats.queues["default"][Status.PENDING] == 8
    assert stats.queues["q"][Status.PENDING] == 3
    assert await jobs.get_running_job_count() == 8
    assert {queue.queue: queue.statuses[Status.PENDING] for queue in await queues.get_queues()} == {
        **{"default": 8, "q": 3},
    }


async def test_counts_are_exact_although_many_jobs_of_one_partition_have_expired(
    pool: BlockingConnectionPool, client: StoreClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.job_counts.MAX_EXPIRED_COUNT", 0)
    jobs, brief = JobStateManager(client, ttl=DAY), JobStateManager(client, ttl=timedelta(milliseconds=20))
    for job_id in IDS:
        await (jobs if job_id in IDS[:3] else brief).create_job(job_id, 1)
    async with asyncio.timeout(10):
        while any([await jobs.get_job(job_id) for job_id in IDS[3:]]):
            pass

    assert (await jobs.get_stats()).statuses[Status.PENDING] == 3


async def test_a_batch_has_jobs_of_all_partitions_in_the_order_of_their_ids(jobs: JobStateManager) -> None:
    for job_id in IDS:
        await jobs.create_job(job_id, 1)
    batch = await jobs.get_jobs([*reversed(IDS), "missing"])
    assert [job.job_id for job in batch.items] == [*reversed(IDS)]
    assert batch.not_found == ["missing"]


async def test_the_sweep_removes_the_expired_jobs_of_all_partitions(
    client: StoreClient, redis: Redis, jobs: JobStateManager
) -> None:
    brief = JobStateManager(client, ttl=timedelta(milliseconds=20))
    for job_id in IDS:
        await brief.create_job(job_id, 1)
    swept = 0
    async with asyncio.timeout(10):
        while swept < 16:
            swept += await jobs.sweep()
    assert [await redis.zcard(partition.by_expiry) for partition in PARTITIONS] == [0] * 16


async def test_leases_and_delays_end_in_all_partitions(
    jobs: JobStateManager, leases: LeaseManager, redis: Redis
) -> None:
    past = "2020-01-01T00:00:00.000000Z"
    for job_id in IDS:
        await jobs.create_job(job_id, 1)
        await lease(leases, job_id)
        partition = PARTITIONS.of(job_id)
        await redis.hset(partition.job(job_id), "lease_expires_at", past)
        await redis.zadd(partition.leases, {job_id: parse_timestamp(past) // 1000})
        await jobs.create_job(f"{job_id}-later", 1, queue="q", delay_seconds=60)
        later = PARTITIONS.of(f"{job_id}-later")
        await redis.hset(later.job(f"{job_id}-later"), "available_at", past)
        await redis.zadd(later.delays, {f"q:{job_id}-later": parse_timestamp(past)})

    reaped, next_expiry = await leases.reap()
    ended = await leases.end_delays()

    assert ({job.job_id for job in reaped}, next_expiry, ended.next_delay) == (set(IDS), None, None)
    assert ended.now > 1e9
    stats = await jobs.get_stats()
    assert (stats.statuses[Status.FAILED], stats.statuses[Status.PENDING], stats.delayed) == (16, 16, 0)


async def test_the_next_lease_and_the_next_delay_are_the_earliest_of_all_partitions(
    jobs: JobStateManager, leases: LeaseManager
) -> None:
    for number, job_id in enumerate(IDS[:3]):
        await jobs.create_job(job_id, 1)
        await lease(leases, job_id)
        await jobs.create_job(f"{job_id}-later", 1, queue="q", delay_seconds=1000 - 300 * number)
    _, next_expiry = await leases.reap()
    next_delay = (await leases.end_delays()).next_delay
    assert next_expiry is not None
    assert next_delay is not None
    assert 0 < next_expiry <= 60
    assert 300 < next_delay <= 400


async def test_settings_of_a_queue_are_in_all_partitions(queues: QueueManager, redis: Redis) -> None:
    async def held() -> set[Any]:
        return {await redis.hget(partition.queues, "q") for partition in PARTITIONS}

    await queues.configure_queue("q", paused=True, max_running=5)
    assert await held() == {b"1:5"}
    await queues.configure_queue("q", paused=None)
    assert await held() == {b"0:5"}
    [queue] = await queues.get_queues()
    assert (queue.paused, queue.max_running) == (False, 5)
    await queues.configure_queue("q", max_running=None)
    assert await held() == {None}


async def test_a_drain_holds_in_all_partitions(jobs: JobStateManager, queues: QueueManager, redis: Redis) -> None:
    started = await queues.start_drain(60)
    assert started.draining
    for job_id in IDS:
        with pytest.raises(errors.Draining):
            await jobs.create_job(job_id, 1)
    assert len({await redis.hget(partition.meta, "drain") for partition in PARTITIONS}) == 1
    assert (await queues.get_drain()).draining

    assert not (await queues.end_drain()).draining
    for job_id in IDS:
        await jobs.create_job(job_id, 1)


async def test_what_an_interrupted_change_of_settings_left_is_made_equal(queues: QueueManager, redis: Redis) -> None:
    await queues.configure_queue("same", max_running=3)
    first, *others = PARTITIONS
    await redis.hset(first.queues, mapping={"new": "1:", "other": "0:7:60:120:180", "unreadable": "x"})
    await redis.hset(others[0].queues, mapping={"other": "0:9:60::120", "old": "1:1"})
    await redis.hset(others[1].meta, "drain", 4_000_000_000_000)
    await redis.hset(others[2].meta, "clock", 5)

    await queues.copy_settings()

    expected = {b"same": b"0:3", b"new": b"1:", b"other": b"0:7:60:120:180"}
    assert [await redis.hgetall(partition.queues) for partition in others] == [expected] * 15
    assert {await redis.hget(partition.meta, "drain") for partition in PARTITIONS} == {None}
    await queues.start_drain(60)
    ends = await redis.hget(first.meta, "drain")
    await redis.hdel(others[3].meta, "drain")
    await queues.copy_settings()
    assert {await redis.hget(partition.meta, "drain") for partition in PARTITIONS} == {ends}
    await redis.hdel(first.queues, "unreadable")


async def test_a_drain_that_one_partition_lacks_is_not_safe_to_stop(queues: QueueManager, redis: Redis) -> None:
    assert (await queues.start_drain(60)).safe_to_stop
    await redis.hdel(PARTITIONS[3].meta, "drain")

    drain = await queues.get_drain()

    assert (drain.draining, drain.leased, drain.safe_to_stop) == (True, 0, False)
    await queues.copy_settings()
    assert (await queues.get_drain()).safe_to_stop


async def test_a_partition_that_fails_does_not_keep_the_others_from_their_settings(
    queues: QueueManager, store_client: StoreClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queues.configure_queue("q", paused=True)
    _, failing, *others = PARTITIONS
    for partition in (failing, *others):
        await redis.hdel(partition.queues, "q")
    run, left, done = store_client.run_script, {*others}, asyncio.Event()

    async def run_script(script: Script, partition: Partition, *args: Any) -> list[Any]:
        if partition is failing:
            async with asyncio.timeout(TIMEOUT):
                await done.wait()
            raise errors.StoreReadOnly
        reply = await run(script, partition, *args)
        left.remove(partition)
        if not left:
            done.set()
        return reply

    with monkeypatch.context() as patched:
        patched.setattr(store_client, "run_script", run_script)
        with pytest.raises(errors.StoreReadOnly):
            await queues.copy_settings()
    assert [await redis.hget(partition.queues, "q") for partition in others] == [b"1:"] * 14
    await queues.copy_settings()


@pytest.mark.corrupts_keys
async def test_settings_of_an_unexpected_type_are_left_alone(queues: QueueManager, redis: Redis) -> None:
    await queues.configure_queue("q", paused=True)
    await redis.delete(PARTITIONS[1].queues, PARTITIONS[2].meta)
    await redis.set(PARTITIONS[1].queues, "foreign")
    await redis.set(PARTITIONS[2].meta, "foreign")
    await redis.hdel(PARTITIONS[3].queues, "q")

    await queues.copy_settings()

    assert await redis.hget(PARTITIONS[3].queues, "q") == b"1:"
    assert await redis.get(PARTITIONS[1].queues) == b"foreign"


@pytest.mark.usefixtures("only_caller")
@pytest.mark.partitions(1)
async def test_one_partition_needs_no_copies_of_settings(queues: QueueManager, redis: Redis) -> None:
    before = await command_calls(redis)
    await queues.copy_settings()
    assert await command_calls(redis) == before


async def test_a_rate_limit_is_in_the_partition_of_its_digest(client: StoreClient, redis: Redis) -> None:
    limit = RateLimit(2, 60)
    for number in range(20):
        limiter = RateLimiter(client, limit)
        assert (await limiter.acquire(f"client-{number}")).remaining == 1
        counter = digest("rate-limit", {"client": f"client-{number}", "limit": limit})
        assert await redis.exists(PARTITIONS.home_of(counter).rate_limit(counter))
    await limiter.acquire("client-19")
    with pytest.raises(errors.RateLimited):
        await limiter.acquire("client-19")


async def test_a_script_in_all_partitions_replies_in_their_order(client: StoreClient, redis: Redis) -> None:
    for partition in PARTITIONS:
        await redis.hset(partition.meta, "drain", 4_000_000_000_000 + partition.number * 1_000_000_000)
    replies = await client.run_in_all_partitions(scripts.DRAIN, ["look"])
    remaining = [reply[2] for reply in replies]
    assert len(remaining) == 16
    assert remaining == sorted(remaining)
    await redis.delete(*(partition.meta for partition in PARTITIONS))


async def test_the_budget_of_a_request_counts_simultaneous_calls_once(client: StoreClient) -> None:
    async def wait(_: Partition) -> None:
        started = asyncio.get_running_loop().time()
        own = budget.get()
        assert own is not None
        await asyncio.sleep(0.05)
        own.spend(asyncio.get_running_loop().time() - started)

    new_budget()
    left = budget.get()
    assert left is not None
    await client.in_all_partitions(wait)
    assert budget.get() is left
    assert 0.05 * 16 > 3 - left.within(3) >= 0.04
    budget.set(None)
