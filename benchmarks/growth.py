"""How the cost of a call grows with the number of jobs, and what others feel while it runs."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable
from statistics import median, quantiles
from typing import Any, Final

import redis

from benchmarks.ground import INPUT, WEEK, fill, interleaved, move, server, store
from benchmarks.report import Report, Table
from service.domain.jobs import JobFilter
from service.domain.states import Status
from service.store.leases import LeaseManager
from service.store.manager import JobStateManager
from service.store.pool import connect

SIZES: Final = (1_000, 100_000, 1_000_000)
#: Calls of each kind for the medians, and reads beside them for the hundredth that is slowest.
CALLS, READS = 300, 1500

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


async def slowest_read(jobs: JobStateManager, beside: Call | None) -> float:
    """Return the 99th percentile (ms) of reading a job, one read after another, while something else goes on."""
    going = asyncio.create_task(_repeat(beside)) if beside else None
    times = []
    for _ in range(READS):
        started = time.perf_counter()
        await jobs.get_job(str(uuid.UUID(int=0)))
        times.append((time.perf_counter() - started) * 1000)
    if going:
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
    return quantiles(times, n=100)[98]


async def _repeat(call: Call) -> None:
    while True:
        await call()
        await asyncio.sleep(0.001)


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
            pool = connect(url)
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
        await _beside(rounds, report, *stores[largest])


async def _beside(rounds: int, report: Report, jobs: JobStateManager, leases: LeaseManager) -> None:
    """Add how long others take meanwhile."""
    beside: dict[str, Call | None] = {
        "nothing": None,
        **{name: call for name, call in calls(jobs, leases).items() if name not in ("get", "sweep of nothing")},
    }
    found: dict[str, list[float]] = {name: [] for name in beside}
    for _ in range(rounds):
        for name, call in beside.items():
            found[name].append(await slowest_read(jobs, call))
    table = Table(f"get's p99 at {SIZES[-1]:,} jobs, in ms, while another client calls …", ("", "p99", "× idle"))
    for name, times in found.items():
        ratio = median(one / idle for one, idle in zip(times, found["nothing"], strict=True))
        table.row(name, f"{median(times):.2f}", f"{ratio:.2f}")
    report.add(table)


def measure(rounds: int, report: Report) -> None:
    """Fill servers of each size, a tenth of the jobs running, and compare the same calls on all."""
    asyncio.run(_measure(rounds, report))
