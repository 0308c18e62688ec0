"""How many jobs fit into a Redis, and what happens when it is full: `python -m benchmarks.capacity URL`.

It fills the Redis at URL to its `maxmemory` twice and empties it again. The Redis must be empty.
"""

import asyncio
import random
import sys
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from benchmarks.fixtures import BATCH, INPUT, store
from benchmarks.memory import JOB_KINDS, RESULT
from service.domain.errors import IllegalTransition, JobNotFinal, JobNotFound, StoreOutOfMemory
from service.domain.jobs import Progress
from service.store.jobs import JobStateManager

#: One of this many jobs is cancelled at once, so that it can be deleted when the Redis is full.
CANCEL_EVERY = 20
#: The number of rewrites of the append-only file under load.
REWRITES = 5
#: The error of a full Redis, and errors that follow: a job that could not be created or updated before.
EXPECTED_ERRORS = (StoreOutOfMemory, IllegalTransition, JobNotFinal, JobNotFound)


def job_id(number: int) -> str:
    """Return the 36-character id of a job."""
    return str(uuid.UUID(int=number))


async def create(jobs: JobStateManager, number: int) -> None:
    """Create a pending job with slate and correlation id."""
    fields = {name: value(number) for name, value in JOB_KINDS["slate and correlation id"].items()}
    await jobs.create_job(job_id(number), INPUT, **fields)


async def create_pending(jobs: JobStateManager, number: int) -> None:
    """Create a job that stays pending, or one to delete."""
    await create(jobs, number)
    if number % CANCEL_EVERY == 0:
        await jobs.cancel_job(job_id(number))


async def create_completed(jobs: JobStateManager, number: int) -> None:
    """Create a job and complete it with a result of 1 KB."""
    await create(jobs, number)
    await jobs.update_job_status(job_id(number), "running")
    await jobs.update_job_status(job_id(number), "completed", result=RESULT)


async def count_accepted(work: Callable[[int], Awaitable[Any]], numbers: range | list[int]) -> int:
    """Run `work` for a batch of jobs and return how many succeeded."""
    outcomes = await asyncio.gather(*(work(number) for number in numbers), return_exceptions=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    for failure in failures:
        if not isinstance(failure, EXPECTED_ERRORS):
            raise failure
    return len(outcomes) - len(failures)


async def fill(jobs: JobStateManager, make: Callable[[JobStateManager, int], Awaitable[None]]) -> int:
    """Create jobs until none is accepted; return the number of jobs."""
    count = 0
    while await count_accepted(lambda number: make(jobs, number), range(count, count + BATCH)):
        count += BATCH
    return sum((await jobs.get_stats()).statuses.values())


async def is_rewriting(client: Redis) -> bool:
    """Return whether the append-only file is being rewritten."""
    info = await client.info("persistence")
    return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])


async def rewrite(jobs: JobStateManager, client: Redis, made: int) -> str:
    """Rewrite the append-only file while random jobs change; return a description of the result."""

    async def change(number: int) -> None:
        await jobs.update_job_status(job_id(number), "running", progress=Progress(0))

    while await is_rewriting(client):  # noqa: ASYNC110 (Redis may have started one)
        await asyncio.sleep(0.1)
    changes = 0
    await client.bgrewriteaof()
    while await is_rewriting(client):
        changes += await count_accepted(change, random.choices(range(made), k=BATCH))
    info = await client.info("persistence")
    return f"{info['aof_last_bgrewrite_status']} after {info['aof_last_rewrite_time_sec']} s, {changes:,} changes"


async def report(url: str) -> None:
    """Fill the Redis, print what is rejected and what is lost, and empty it."""
    async with Redis.from_url(url, protocol=2) as client, store(url) as jobs:
        if await client.dbsize():
            sys.exit(f"{url} is not empty; name an empty database.")
        limit = (await client.info("memory"))["maxmemory"]
        if not limit:
            sys.exit(f"{url} has no `maxmemory`; set one.")
        print(f"maxmemory {limit / 2**20:.0f} MiB, 36-character ids, 100 bytes of input, slate and correlation")

        made = await fill(jobs, create_pending)
        print(f"pending: {made:,} jobs, then store-out-of-memory")

        deleted = await count_accepted(lambda number: jobs.delete_job(job_id(number)), range(0, made, CANCEL_EVERY))
        left = sum((await jobs.get_stats()).statuses.values())
        print(f"deleted while full: {deleted:,}; {left:,} left, {made - deleted - left} lost")

        for _ in range(REWRITES):
            print(f"rewrite of the append-only file: {await rewrite(jobs, client, made)}")
        left = sum((await jobs.get_stats()).statuses.values())
        print(f"after that: {left:,} left, {made - deleted - left} lost")

        await client.flushall()
        made = await fill(jobs, create_completed)
        print(f"completed with a result of 1 KB: {made:,} jobs, then store-out-of-memory")
        await client.flushall()


if __name__ == "__main__":
    asyncio.run(report(sys.argv[1]))
