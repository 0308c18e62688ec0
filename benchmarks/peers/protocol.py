"""How a peer is asked: a line `VERB COUNT AT_ONCE` on standard input, answered with the seconds that it took."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

#: 100 bytes of JSON, as every peer's job has.
INPUT = {"text": "x" * 89}

Verb = Callable[[int, int], Awaitable[Any]]


async def at_once(work: Iterator[Awaitable[Any]], workers: int) -> None:
    """Await everything, so many at a time."""

    async def worker() -> None:
        for one in work:
            await one

    await asyncio.gather(*(worker() for _ in range(workers)))


async def serve(verbs: dict[str, Verb]) -> None:
    """Do what is asked until standard input ends."""
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, count, workers = line.split()
        started = time.perf_counter()
        await verbs[verb](int(count), int(workers))
        print(time.perf_counter() - started, flush=True)
