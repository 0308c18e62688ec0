# /// script
# requires-python = ">=3.11"
# dependencies = ["saq[redis,hiredis]==0.26.4", "typing-extensions"]
# ///
"""SAQ."""

import asyncio
import sys
from typing import Any

from saq import Queue, Worker
from turns import INPUT, at_once, serve


async def noop(ctx: Any, *, text: str) -> None:
    """Do nothing."""


async def main(url: str) -> None:
    """Answer until standard input ends."""
    queue = Queue.from_url(url)
    await queue.connect()
    keys: list[str] = []

    async def enqueue() -> None:
        job = await queue.enqueue("noop", **INPUT)
        assert job is not None
        keys.append(job.id)

    async def create(count: int, workers: int) -> None:
        await at_once((enqueue() for _ in range(count)), workers)

    async def read(count: int, workers: int) -> None:
        await at_once((queue.job(keys[number % len(keys)].split(":")[-1]) for number in range(count)), workers)

    async def work(count: int, workers: int) -> None:
        worker = Worker(queue, functions=[noop], concurrency=workers, burst=True, dequeue_timeout=0.1)
        await worker.start()

    await serve({"create": create, "read": read, "work": work})


asyncio.run(main(sys.argv[1]))
