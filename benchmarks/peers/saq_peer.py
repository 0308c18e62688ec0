# /// script
# requires-python = ">=3.11"
# dependencies = ["saq[redis,hiredis]==0.26.4", "typing-extensions", "uvloop==0.23.0"]
# ///
"""SAQ behind the benchmark protocol."""

import sys
from typing import Any

import uvloop
from protocol import INPUT, run_concurrently, serve
from saq import Queue, Worker


async def noop(ctx: Any, *, text: str) -> None:
    """Do nothing."""


async def main(url: str) -> None:
    """Serve until standard input closes."""
    queue = Queue.from_url(url)
    await queue.connect()
    keys: list[str] = []

    async def enqueue() -> None:
        job = await queue.enqueue("noop", **INPUT)
        assert job is not None
        keys.append(job.id)

    async def create(count: int, workers: int) -> None:
        await run_concurrently((enqueue() for _ in range(count)), workers)

    async def read(count: int, workers: int) -> None:
        await run_concurrently((queue.job(keys[number % len(keys)].split(":")[-1]) for number in range(count)), workers)

    async def work(count: int, workers: int) -> None:
        worker = Worker(queue, functions=[noop], concurrency=workers, burst=True, dequeue_timeout=0.1)
        await worker.start()

    await serve({"create": create, "read": read, "work": work})


uvloop.run(main(sys.argv[1]))
