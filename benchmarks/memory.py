"""What a job costs in Redis, what each part of it does, and what the service takes after many requests."""

import asyncio
import sys
import tempfile
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import Redis

from benchmarks.event_latency import answered, resident
from benchmarks.fixtures import fill, free_port, move, server
from benchmarks.http_throughput import running
from benchmarks.report import Report, Table
from benchmarks.wrk import ask

SORTS: dict[str, dict[str, Callable[[int], Any]]] = {
    "neither slate nor correlation": {},
    "slate": {"slate_id": lambda number: f"slate-{number % 20}"},
    "slate and correlation": {
        "slate_id": lambda number: f"slate-{number % 20}",
        "correlation_id": lambda number: f"{number:032x}",
    },
}
RESULT = {"text": "y" * 1000}
JOBS: Final = 50_000
#: Rounds of load on the service, and seconds of each kind in them: some hundred thousand requests.
LOAD_ROUNDS, LOAD_SECONDS = 3, 5


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


async def _add(table: Table, title: str, url: str, empty: int, jobs: int) -> None:
    """Add what a job takes, the capped stream of events left out."""
    sizes = await parts(url)
    total = (await used(url) - empty - sizes["events"]) / jobs
    split = [f"{name} {size // jobs}" for name, size in sizes.items() if name not in {"hash", "events"} and size > jobs]
    table.row(title, f"{total:,.0f}", ", ".join([f"hash {sizes['hash']}", *split]))


async def _measure(jobs: int, report: Report) -> None:
    title = f"bytes in Redis of one of {jobs:,} jobs: ids of 36 characters, 100 bytes of input"
    table = Table(f"{title}, `hash-max-listpack-value 4096`", ("", "bytes", "of these"))
    for sort, fields in SORTS.items():
        with server() as url:
            empty = await used(url)
            await fill(url, jobs, **fields)
            await _add(table, f"pending, {sort}", url, empty, jobs)
    with server() as url:
        empty = await used(url)
        await fill(url, jobs, **SORTS["slate and correlation"])
        await move(url, range(jobs), "running")
        await move(url, range(jobs), "completed", result=RESULT)
        await _add(table, "completed with 1 KB, slate and correlation", url, empty, jobs)
        async with Redis.from_url(url, protocol=2) as client:
            events, size = await client.xlen("jobs:events"), (await parts(url))["events"]
        table.row("an event", f"{size / events:,.0f}", f"{events:,} kept")
    report.add(table)


def service_after_load(report: Report) -> None:
    """Add what the service itself takes at its start and after many requests."""
    with tempfile.TemporaryDirectory() as folder, server(tcp=True) as url:
        port = free_port()
        command = (sys.executable, "-m", "service", "serve", "--redis-url", url, "--port", str(port))
        with running(command, port, folder) as address:
            table = Table("resident memory of the service, in MiB", ("", "MiB"))
            table.row("at its start", f"{resident(address) / 2**20:.1f}")
            for number in range(1, LOAD_ROUNDS + 1):
                ask(address, "create", number * 1_000_000, 1_000_000, connections=64, seconds=LOAD_SECONDS)
                ask(address, "get", number * 1_000_000, 1, connections=64, seconds=LOAD_SECONDS)
                ask(address, "list", 0, 1, connections=64, seconds=1)
                table.row(f"after {answered(address):,.0f} requests", f"{resident(address) / 2**20:.1f}")
            report.add(table)


def measure(rounds: int, report: Report) -> None:
    """Measure jobs of every sort, pending and completed, and the service under load."""
    asyncio.run(_measure(JOBS, report))
    service_after_load(report)
