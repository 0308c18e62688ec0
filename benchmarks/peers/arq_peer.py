# /// script
# requires-python = ">=3.11"
# dependencies = ["arq==0.28.0", "uvloop==0.23.0"]
# ///
"""arq behind the benchmark protocol."""

import sys
from typing import Any

import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job
from arq.worker import Worker
from protocol import INPUT, run_concurrently, serve


async def noop(ctx: Any, *, text: str) -> None:
    """Do nothing."""


async def main(url: str) -> None:
    """Serve until standard input closes."""
    settings = RedisSettings.from_dsn(url)
    pool = await create_pool(settings)
    keys: list[str] = []

    async def enqueue() -> None:
        job = await pool.enqueue_job("noop", **INPUT)
        assert job is not None
        keys.append(job.job_id)

    async def create(count: int, workers: int) -> None:
        await run_concurrently((enqueue() for _ in range(count)), workers)

    async def read(count: int, workers: int) -> None:
        await run_concurrently((Job(keys[number % len(keys)], pool).info() for number in range(count)), workers)

    async def work(count: int, workers: int) -> None:
        worker = Worker([noop], redis_pool=pool, burst=True, max_jobs=workers, poll_delay=0.01, handle_signals=False)
        await worker.async_run()

    await serve({"create": create, "read": read, "work": work})


uvloop.run(main(sys.argv[1]))
