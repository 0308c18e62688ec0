"""How many jobs an empty Redis takes, and what it does when it is full: `python -m benchmarks.capacity URL`.

It fills the Redis at URL to its `maxmemory` twice and empties it again, so it refuses one that has anything in it.
"""

import asyncio
import random
import sys
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from benchmarks.fixtures import BATCH, INPUT, store
from benchmarks.memory import RESULT, SORTS
from service.domain.errors import IllegalTransition, JobNotFinal, JobNotFound, StoreOutOfMemory
from service.domain.jobs import Progress
from service.store.jobs import JobStateManager

#: Every so many jobs one is cancelled at once, so that there is something to delete when the Redis is full.
CANCELLED = 20
#: How often the append-only file is rewritten under load.
REWRITES = 5
#: What a full Redis answers, and what follows from it: a job that could not be made or moved before.
REFUSALS = (StoreOutOfMemory, IllegalTransition, JobNotFinal, JobNotFound)


def job_id(number: int) -> str:
    """Return the 36 characters that name a job."""
    return str(uuid.UUID(int=number))


async def create(jobs: JobStateManager, number: int) -> None:
    """Create a pending job with slate and correlation."""
    fields = {name: value(number) for name, value in SORTS["slate and correlation"].items()}
    await jobs.create_job(job_id(number), INPUT, **fields)


async def create_pending(jobs: JobStateManager, number: int) -> None:
    """Create a job that stays pending, or one to delete."""
    await create(jobs, number)
    if number % CANCELLED == 0:
        await jobs.cancel_job(job_id(number))


async def create_completed(jobs: JobStateManager, number: int) -> None:
    """Create a job and complete it with a result of 1 KB."""
    await create(jobs, number)
    await jobs.update_job_status(job_id(number), "running")
    await jobs.update_job_status(job_id(number), "completed", result=RESULT)


async def accepted(work: Callable[[int], Awaitable[Any]], numbers: range | list[int]) -> int:
    """Do `work` for a batch of jobs and return how many were not refused."""
    outcomes = await asyncio.gather(*(work(number) for number in numbers), return_exceptions=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for failure in failures:
        if not isinstance(failure, REFUSALS):
            raise failure
    return len(outcomes) - len(failures)


async def fill(jobs: JobStateManager, make: Callable[[JobStateManager, int], Awaitable[None]]) -> int:
    """Make jobs until none is accepted any more and return how many there are."""
    made = 0
    while await accepted(lambda number: make(jobs, number), range(made, made + BATCH)):
        made += BATCH
    return sum((await jobs.get_stats()).statuses.values())


async def rewriting(client: Redis) -> bool:
    """Say whether the append-only file is being rewritten."""
    found = await client.info("persistence")
    return bool(found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"])


async def rewrite(jobs: JobStateManager, client: Redis, made: int) -> str:
    """Rewrite the append-only file while jobs all over the memory change; say what came of it."""

    async def change(number: int) -> None:
        await jobs.update_job_status(job_id(number), "running", progress=Progress(0))

    while await rewriting(client):  # noqa: ASYNC110 (one that Redis began by itself)
        await asyncio.sleep(0.1)
    changes = 0
    await client.bgrewriteaof()
    while await rewriting(client):
        changes += await accepted(change, random.choices(range(made), k=BATCH))
    found = await client.info("persistence")
    return f"{found['aof_last_bgrewrite_status']} after {found['aof_last_rewrite_time_sec']} s, {changes:,} changes"


async def report(url: str) -> None:
    """Fill, see what is refused and what is lost, and empty again."""
    async with Redis.from_url(url, protocol=2) as client, store(url) as jobs:
        if await client.dbsize():
            sys.exit(f"{url} is not empty.")
        limit = (await client.info("memory"))["maxmemory"]
        if not limit:
            sys.exit(f"{url} has no maxmemory.")
        print(f"maxmemory {limit / 2**20:.0f} MiB, 36-character ids, 100 bytes of input, slate and correlation")

        made = await fill(jobs, create_pending)
        print(f"pending: {made:,} jobs, then store-out-of-memory")

        removed = await accepted(lambda number: jobs.delete_job(job_id(number)), range(0, made, CANCELLED))
        left = sum((await jobs.get_stats()).statuses.values())
        print(f"deleted while full: {removed:,}; {left:,} left, {made - removed - left} lost")

        for _ in range(REWRITES):
            print(f"rewrite of the append-only file: {await rewrite(jobs, client, made)}")
        left = sum((await jobs.get_stats()).statuses.values())
        print(f"after that: {left:,} left, {made - removed - left} lost")

        await client.flushall()
        made = await fill(jobs, create_completed)
        print(f"completed with a result of 1 KB: {made:,} jobs, then store-out-of-memory")
        await client.flushall()


if __name__ == "__main__":
    asyncio.run(report(sys.argv[1]))
