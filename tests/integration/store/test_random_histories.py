"""Random histories, compared after every few steps with all hashes."""

import asyncio
import contextlib
import random
from collections import Counter
from datetime import timedelta

import pytest
from redis.asyncio import BlockingConnectionPool, Redis

from service.domain.errors import Conflict, JobNotFound
from service.domain.jobs import JobFilter, Progress, RunningCount
from service.domain.states import Status
from service.domain.timestamps import format_timestamp, parse_timestamp
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from tests.helpers.consistency import inconsistencies
from tests.helpers.partitions import PARTITIONS, connect, job_key

STEPS = 600
CHECK_EVERY = 25
FILTERS = (JobFilter(), JobFilter(slate_id="s1"), JobFilter(correlation_id="c2"), JobFilter(queue="a"))


async def work(choose: random.Random, leases: LeaseManager, tokens: dict[str, str], redis: Redis) -> None:
    """Do a random operation of a worker, with a lease that it holds or once tokens."""
    job_id, token = choose.choice([*tokens.items(), ("j1", "1-none")])
    match choose.randrange(9):
        case 0 | 1 | 2:
            for claim in await leases.claim_jobs(["a", "b"], "w", max_jobs=choose.choice([1, 1, 3])):
                tokens[claim.job.job_id] = claim.lease.token
        case 3:
            await leases.heartbeat(job_id, token, progress=choose.choice([None, Progress(choose.randrange(100))]))
        case 4:
            await leases.release_job(job_id, token, error=choose.choice([None, "broken"]))
        case 5:
            await expire_lease(redis, job_id)
        case 6:
            await expire_job(redis, f"j{choose.randrange(12)}")
        case _:
            await choose.choice([leases.reap, leases.end_delays])()


async def expire_lease(redis: Redis, job_id: str) -> None:
    """Make the lease of a job, if it has one, expire a second ago."""
    seconds, _ = await redis.time()
    past = seconds - 1
    if await redis.hexists(job_key(job_id), "lease_expires_at"):
        await redis.hset(job_key(job_id), "lease_expires_at", format_timestamp(past * 1_000_000))
        await redis.zadd(PARTITIONS.of(job_id).leases, {job_id: past * 1000})


async def expire_job(redis: Redis, job_id: str) -> None:
    """Make a job expire now, whatever its state, and its lease a second ago. Its index entries stay."""
    await expire_lease(redis, job_id)
    fields = await redis.hmget(job_key(job_id), "created_at", "queue", "_tags")
    if fields[0] is None:
        return
    created_at, queue, tags = (value.decode() if value else "" for value in fields)
    seconds, _ = await redis.time()
    member = f"{job_id}|{parse_timestamp(created_at)}|{queue}|{tags}"
    async with redis.pipeline() as pipe:
        pipe.zadd(PARTITIONS.of(job_id).by_expiry, {member: (seconds - 1) * 1000}, xx=True)
        pipe.delete(job_key(job_id))
        await pipe.execute()


async def step(choose: random.Random, manager: JobStateManager) -> None:
    """Do a random operation of a client, on one of a few jobs."""
    job_id = f"j{choose.randrange(12)}"
    try:
        match choose.randrange(8):
            case 0 | 1 | 2:
                await manager.create_job(
                    job_id,
                    choose.randrange(2),
                    choose.choice([None, "c1", "c2"]),
                    queue=choose.choice("ab"),
                    slate_id=choose.choice([None, "s1", "s2"]),
                    delay_seconds=choose.choice([0, 0, 1, 3]),
                    max_attempts=choose.choice([1, 3]),
                )
            case 3 | 4:
                progress = choose.choice([None, Progress(choose.randrange(100))])
                await manager.update_job_status(job_id, "running", progress=progress)
            case 5:
                await manager.update_job_status(job_id, choose.choice(["completed", "failed"]))
            case 6:
                await manager.cancel_job(job_id)
            case 7:
                await manager.delete_job(job_id)
    except (Conflict, JobNotFound):
        pass


async def read_all(redis: Redis) -> list[dict[str, str]]:
    """Return all records, newest first, from their hashes."""
    found = []
    async for name in redis.scan_iter("*job:*"):
        fields = await redis.hgetall(name)
        if fields:
            record = {field.decode(): value.decode() for field, value in fields.items()}
            found.append({**record, "job_id": name.decode().rpartition("job:")[2]})
    return sorted(found, key=lambda record: record["created_at"], reverse=True)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_indexes_counts_and_lists_match_the_records_after_random_histories(
    pool: BlockingConnectionPool, redis: Redis, seed: int
) -> None:
    choose = random.Random(seed)
    brief, lasting = (
        JobStateManager(connect(pool), ttl=timedelta(milliseconds=40)),
        JobStateManager(connect(pool), ttl=timedelta(days=1)),
    )

    leases, tokens = LeaseManager(connect(pool), ttl=timedelta(days=1)), dict[str, str]()

    for number in range(1, STEPS + 1):
        await step(choose, choose.choice([brief, lasting]))
        with contextlib.suppress(Conflict, JobNotFound):
            await work(choose, leases, tokens, redis)
        if choose.random() < 0.02:
            await asyncio.sleep(0.05)  # some short-lived jobs expire
        if choose.random() < 0.1:
            await lasting.sweep()
        if number % CHECK_EVERY == 0:
            await check(redis, lasting)


async def check(redis: Redis, manager: JobStateManager) -> None:
    """Compare what the manager sees with the records, as they are during a check in which no job expires."""
    records: list[dict[str, str]] = []
    after = None
    while after != records:
        records, (seconds, micros) = await read_all(redis), await redis.time()
        lists = {filters: (await manager.list_jobs(filters, limit=200)).items for filters in FILTERS}
        stats = await manager.get_stats()
        await manager.sweep()
        swept, found = await manager.get_stats(), await inconsistencies(redis)
        after = await read_all(redis)

    for filters, listed in lists.items():
        assert [job.job_id for job in listed] == [
            record["job_id"]
            for record in records
            if (filters.slate_id is None or record.get("slate_id") == filters.slate_id)
            and (filters.correlation_id is None or record.get("correlation_id") == filters.correlation_id)
            and (filters.queue is None or record["queue"] == filters.queue)
        ]
    counted = Counter(record["status"] for record in records)
    assert stats.statuses == {status: counted[status] for status in Status}
    now = format_timestamp(seconds * 1_000_000 + micros)
    leased = sum(record.get("lease_expires_at", "") > now for record in records)
    assert stats.running == RunningCount(leased=leased, unleased=counted["running"] - leased)
    pending = [record["job_id"] for record in records if record["status"] == "pending"]
    assert (stats.oldest_pending and stats.oldest_pending.job_id) == (pending[-1] if pending else None)
    assert stats.statuses == swept.statuses
    assert stats.queues == swept.queues
    assert found == []
