"""How the cost of a call grows with the number of jobs, and what others feel while it runs."""

import asyncio
import contextlib
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, Final

import httpx
import redis

from benchmarks.fixtures import INPUT, WEEK, fill, free_port, interleaved, move, server, store
from benchmarks.http_throughput import running
from benchmarks.report import Report, Table
from benchmarks.wrk import ask
from service.domain.jobs import JobFilter
from service.domain.states import Status
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.pool import create_pool

SIZES: Final = (1_000, 100_000, 1_000_000)
#: Calls of each kind for the medians.
CALLS: Final = 300
#: Connections over which jobs are got while another client calls something else, and seconds of a round.
CONNECTIONS, SECONDS = 64, 2
#: What that client calls, and how `requests.lua` names it.
BESIDE: Final = {
    "the counts (`/v1/stats`)": "stats",
    "a list of 50": "list",
    "create": "create",
    "claim, complete": "claim",
}

Call = Callable[[], Awaitable[Any]]


def calls(jobs: JobStateManager, leases: LeaseManager) -> dict[str, Call]:
    """Return the calls to compare."""
    return {
        "running count": jobs.get_running_job_count,
        "stats": jobs.get_stats,
        "get": lambda: jobs.get_job(str(uuid.UUID(int=0))),
        "list of 50": lambda: jobs.list_jobs(JobFilter()),
        "list of 50 by slate": lambda: jobs.list_jobs(JobFilter(slate_id="slate-7")),
        "list of 50 running": lambda: jobs.list_jobs(JobFilter(status=Status.RUNNING)),
        "create": lambda: jobs.create_job(str(uuid.uuid4()), INPUT),
        "claim": lambda: leases.claim_job(["default"], "bench"),
        "sweep of nothing": jobs.sweep,
    }


def count_by_scanning(url: str) -> float:
    """Return the milliseconds of the plan's count: look at every job."""
    client = redis.Redis.from_url(url, decode_responses=True)
    started = time.perf_counter()
    sum(client.hget(key, "status") == "running" for key in client.scan_iter("job:*", count=1000))
    return (time.perf_counter() - started) * 1000


async def _measure(rounds: int, report: Report) -> None:
    async with contextlib.AsyncExitStack() as stack:
        urls = {size: stack.enter_context(server("--maxmemory", "4gb")) for size in SIZES}
        stores = {}
        for size, url in urls.items():
            await fill(url, size, slate_id=lambda number: f"slate-{number % 20}")
            await move(url, range(0, size, 10), "running")
            pool = create_pool(url)
            stack.push_async_callback(pool.disconnect)
            stores[size] = (await stack.enter_async_context(store(url)), LeaseManager(pool, ttl=WEEK))
            assert await stores[size][0].get_running_job_count() == size // 10
        smallest, largest = SIZES[0], SIZES[-1]
        columns = ("", *(f"{size:,} jobs" for size in SIZES), f"{largest:,} / {smallest:,}")
        table, drawn = Table(f"median of {CALLS} calls, in µs", columns), dict[str, list[float]]()
        for name in calls(*stores[smallest]):
            times = await interleaved({str(size): calls(*stores[size])[name] for size in SIZES}, CALLS)
            ratio = times[str(largest)] / times[str(smallest)]
            drawn[name] = [times[str(size)] for size in SIZES]
            table.row(name, *(f"{times[str(size)]:,.0f}" for size in SIZES), f"{ratio:.2f}")
        scans = {size: count_by_scanning(url) * 1000 for size, url in urls.items() if size < largest}
        table.row("the plan's count (`SCAN`, `HGET`)", *(f"{scans[size]:,.0f}" for size in scans), "", "")
        drawn["the plan's count"] = list(scans.values())
        report.add(table)
        report.lines("growth", "a call among so many jobs", list(SIZES), drawn, "µs")
        await asyncio.to_thread(_beside, rounds, report, urls[largest])


def _beside(rounds: int, report: Report, url: str) -> None:
    """Add how long those who get a job over HTTP wait while another client calls something else all the time."""
    found: dict[str, list[float]] = {name: [] for name in ("nothing", *BESIDE)}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as another:
        port = free_port()
        serve = (sys.executable, "-m", "service", "serve", "--redis-url", url, "--port", str(port))
        with running(serve, port, folder) as address:
            httpx.post(f"{address}/v1/jobs", json={"job_id": "bench-0", "input_params": INPUT}).raise_for_status()
            for number in range(rounds):
                for place, name in enumerate(found):
                    first = 1 + (number * len(found) + place) * 1_000_000
                    going = (
                        another.submit(ask, address, BESIDE[name], first, 1_000_000, connections=1, seconds=SECONDS + 1)
                        if name in BESIDE
                        else None
                    )
                    found[name].append(ask(address, "get", 0, 1, connections=CONNECTIONS, seconds=SECONDS).p99)
                    if going:
                        going.result()
    title = f"get's p99 over {CONNECTIONS} connections at {SIZES[-1]:,} jobs, in ms, while another client calls …"
    table = Table(title, ("", "p99", "× idle"))
    for name, times in found.items():
        ratio = median(one / idle for one, idle in zip(times, found["nothing"], strict=True))
        table.row(name, f"{median(times):.1f}", f"{ratio:.2f}")
    report.add(table)


def measure(rounds: int, report: Report) -> None:
    """Fill servers of each size, a tenth of the jobs running, and compare the same calls on all."""
    asyncio.run(_measure(rounds, report))
