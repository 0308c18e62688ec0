"""The protocol of a peer process: it reads `VERB COUNT CONCURRENCY` lines and prints the seconds that each took."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

#: The input of every job: 100 bytes of JSON.
INPUT = {"text": "x" * 89}

Verb = Callable[[int, int], Awaitable[Any]]


async def run_concurrently(work: Iterator[Awaitable[Any]], workers: int) -> None:
    """Await everything, `workers` at a time."""

    async def worker() -> None:
        for awaitable in work:
            await awaitable

    await asyncio.gather(*(worker() for _ in range(workers)))


async def serve(verbs: dict[str, Verb]) -> None:
    """Serve until standard input closes."""
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, count, workers = line.split()
        started = time.perf_counter()
        await verbs[verb](int(count), int(workers))
        print(time.perf_counter() - started, flush=True)
