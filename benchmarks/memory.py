"""What a job costs in Redis, and what each part of it does: `python -m benchmarks.memory [JOBS]`."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from benchmarks.ground import fill, move, server
from service.embedded.binary import find

SORTS: dict[str, dict[str, Callable[[int], Any]]] = {
    "neither slate nor correlation": {},
    "slate": {"slate_id": lambda number: f"slate-{number % 20}"},
    "slate and correlation": {
        "slate_id": lambda number: f"slate-{number % 20}",
        "correlation_id": lambda number: f"{number:032x}",
    },
}
RESULT = {"text": "y" * 1000}


async def used(url: str) -> int:
    """Return the bytes that the server uses."""
    async with Redis.from_url(url, protocol=2) as client:
        return int((await client.info("memory"))["used_memory"])


async def parts(url: str) -> dict[str, int]:
    """Return the bytes of one job's hash and of all entries of each index."""
    async with Redis.from_url(url, protocol=2) as client:
        sizes = {"hash": await client.memory_usage("job:00000000-0000-0000-0000-000000000000", samples=0) or 0}
        for name in [name.decode() for name in await client.keys("jobs:*")]:
            part = name.removeprefix("jobs:").split(":")[0]
            sizes[part] = sizes.get(part, 0) + (await client.memory_usage(name, samples=0) or 0)
        return sizes


async def report(title: str, url: str, empty: int, jobs: int) -> None:
    """Print what a job takes, the capped stream of events left out."""
    sizes = await parts(url)
    total = (await used(url) - empty - sizes["events"]) / jobs
    split = ", ".join(
        f"{name} {size // jobs}" for name, size in sizes.items() if name not in {"hash", "events"} and size > jobs
    )
    print(f"{title:46}{total:8,.0f} bytes   (hash {sizes['hash']}, {split})")


async def main(jobs: int) -> None:
    """Measure jobs of every sort, pending and completed."""
    print(f"{find()}, {jobs:,} jobs, 36-character ids, 100 bytes of input, hash-max-listpack-value 4096")
    for sort, fields in SORTS.items():
        with server() as url:
            empty = await used(url)
            await fill(url, jobs, **fields)
            await report(f"pending, {sort}", url, empty, jobs)
    with server() as url:
        empty = await used(url)
        await fill(url, jobs, **SORTS["slate and correlation"])
        await move(url, range(jobs), "running")
        await move(url, range(jobs), "completed", result=RESULT)
        await report("completed with 1 KB, slate and correlation", url, empty, jobs)
        async with Redis.from_url(url, protocol=2) as client:
            events, size = await client.xlen("jobs:events"), (await parts(url))["events"]
        print(f"{'an event':46}{size / events:8,.0f} bytes   ({events:,} kept)")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000))
