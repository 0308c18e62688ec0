"""Memory of a job in Redis, in total and by index, and of the service after many requests."""

import asyncio
import sys
import tempfile
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import Redis

from benchmarks.event_latency import request_count, resident_memory
from benchmarks.fixtures import fill, free_port, server, update_jobs
from benchmarks.http_throughput import running
from benchmarks.report import Report, Table
from benchmarks.wrk import run_wrk

JOB_KINDS: dict[str, dict[str, Callable[[int], Any]]] = {
    "no slate or correlation id": {},
    "slate": {"slate_id": lambda number: f"slate-{number % 20}"},
    "slate and correlation id": {
        "slate_id": lambda number: f"slate-{number % 20}",
        "correlation_id": lambda number: f"{number:032x}",
    },
}
RESULT = {"text": "y" * 1000}
JOBS: Final = 50_000
#: Rounds of load on the service, and the seconds of each request kind in a round.
LOAD_ROUNDS, LOAD_SECONDS = 3, 5


async def used_memory(url: str) -> int:
    """Return Redis's `used_memory` in bytes."""
    async with Redis.from_url(url, protocol=2) as client:
        return int((await client.info("memory"))["used_memory"])


async def memory_by_index(url: str) -> dict[str, int]:
    """Return the bytes of one job's hash, and of all entries of each index."""
    async with Redis.from_url(url, protocol=2) as client:
        sizes = {"hash": await client.memory_usage("job:00000000-0000-0000-0000-000000000000", samples=0) or 0}
        for name in [name.decode() for name in await client.keys("jobs:*")]:
            part = name.removeprefix("jobs:").split(":")[0]
            sizes[part] = sizes.get(part, 0) + (await client.memory_usage(name, samples=0) or 0)
        return sizes


async def _add(table: Table, title: str, url: str, empty: int, jobs: int) -> None:
    """Add a row with the memory of a job, without the capped event stream."""
    sizes = await memory_by_index(url)
    total = (await used_memory(url) - empty - sizes["events"]) / jobs
    split = [f"{name} {size // jobs}" for name, size in sizes.items() if name not in {"hash", "events"} and size > jobs]
    table.add_row(title, f"{total:,.0f}", ", ".join([f"hash {sizes['hash']}", *split]))


async def _measure(jobs: int, report: Report) -> None:
    title = f"bytes in Redis per job: {jobs:,} jobs with 36-character ids and 100 bytes of input"
    table = Table(f"{title}, `hash-max-listpack-value 4096`", ("", "bytes", "breakdown"))
    for kind, fields in JOB_KINDS.items():
        with server() as url:
            empty = await used_memory(url)
            await fill(url, jobs, **fields)
            await _add(table, f"pending, {kind}", url, empty, jobs)
    with server() as url:
        empty = await used_memory(url)
        await fill(url, jobs, **JOB_KINDS["slate and correlation id"])
        await update_jobs(url, range(jobs), "running")
        await update_jobs(url, range(jobs), "completed", result=RESULT)
        await _add(table, "completed with 1 KB, slate and correlation id", url, empty, jobs)
        async with Redis.from_url(url, protocol=2) as client:
            events, size = await client.xlen("jobs:events"), (await memory_by_index(url))["events"]
        table.add_row("an event", f"{size / events:,.0f}", f"{events:,} kept")
    report.add(table)


def service_after_load(report: Report) -> None:
    """Add the resident memory of the service at startup and after many requests."""
    with tempfile.TemporaryDirectory() as folder, server(tcp=True) as url:
        port = free_port()
        command = (sys.executable, "-m", "service", "serve", "--redis-url", url, "--port", str(port))
        with running(command, port, folder) as address:
            table = Table("resident memory of the service, in MiB", ("", "MiB"))
            table.add_row("at startup", f"{resident_memory(address) / 2**20:.1f}")
            for number in range(1, LOAD_ROUNDS + 1):
                run_wrk(address, "create", number * 1_000_000, 1_000_000, connections=64, seconds=LOAD_SECONDS)
                run_wrk(address, "get", number * 1_000_000, 1, connections=64, seconds=LOAD_SECONDS)
                run_wrk(address, "list", 0, 1, connections=64, seconds=1)
                table.add_row(
                    f"after {request_count(address):,.0f} requests", f"{resident_memory(address) / 2**20:.1f}"
                )
            report.add(table)


def measure(rounds: int, report: Report) -> None:
    """Measure the memory of pending and completed jobs, and of the service under load."""
    asyncio.run(_measure(JOBS, report))
    service_after_load(report)
