# /// script
# requires-python = ">=3.11"
# dependencies = ["celery[redis]==5.7.0", "hiredis"]
# ///
"""Celery behind the benchmark protocol, with Redis as broker and result backend; concurrency by threads."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

from celery import Celery
from celery.result import AsyncResult
from protocol import INPUT, serve


async def main(url: str) -> None:
    """Serve until standard input closes."""
    app = Celery("bench", broker=url, backend=url)
    keys: list[str] = []

    def run_in_threads(work: object, count: int, workers: int) -> None:
        with ThreadPoolExecutor(workers) as threads:
            list(threads.map(work, range(count)))  # type: ignore[arg-type]

    async def create(count: int, workers: int) -> None:
        run_in_threads(lambda _: keys.append(app.send_task("noop", kwargs=INPUT).id), count, workers)

    async def read(count: int, workers: int) -> None:
        run_in_threads(lambda number: AsyncResult(keys[number % len(keys)], app=app).state, count, workers)

    await serve({"create": create, "read": read})


asyncio.run(main(sys.argv[1]))
