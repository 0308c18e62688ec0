# /// script
# requires-python = ">=3.11"
# dependencies = ["rq==3.0.0", "hiredis"]
# ///
"""RQ behind the benchmark protocol; concurrency by threads, except for its worker, which runs one job at a time."""

import asyncio
import logging
import sys
from concurrent.futures import ThreadPoolExecutor

from protocol import INPUT, serve
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job


async def main(url: str) -> None:
    """Serve until standard input closes."""
    logging.disable(logging.INFO)
    client = Redis.from_url(url)
    queue = Queue(connection=client)
    keys: list[str] = []

    def run_in_threads(work: object, count: int, workers: int) -> None:
        with ThreadPoolExecutor(workers) as threads:
            list(threads.map(work, range(count)))  # type: ignore[arg-type]

    async def create(count: int, workers: int) -> None:
        run_in_threads(lambda _: keys.append(queue.enqueue("builtins.dict", kwargs=INPUT).id), count, workers)

    async def read(count: int, workers: int) -> None:
        run_in_threads(
            lambda number: Job.fetch(keys[number % len(keys)], connection=client).get_status(), count, workers
        )

    async def work(count: int, workers: int) -> None:
        SimpleWorker([queue], connection=client).work(burst=True, logging_level="ERROR")

    await serve({"create": create, "read": read, "work": work})


asyncio.run(main(sys.argv[1]))
