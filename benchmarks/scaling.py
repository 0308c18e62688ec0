"""How call latency depends on the number of jobs, and how one client's calls slow down another client."""

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

from benchmarks.fixtures import AUTHORIZATION, INPUT, WEEK, fill, free_port, medians_in_turn, server, store, update_jobs
from benchmarks.http_throughput import running
from benchmarks.report import Report, Table
from benchmarks.wrk import run_wrk
from service.domain.jobs import JobFilter
from service.domain.states import Status
from service.store.client import StoreClient
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.pool import create_pool

SIZES: Final = (1_000, 100_000, 1_000_000)
#: The number of calls for each median.
CALLS: Final = 300
#: Connections that send get requests while another client sends other calls, and the seconds of a round.
CONNECTIONS, SECONDS = 64, 2
#: The calls of the other client, and their names in `requests.lua`.
OTHER_CALLS: Final = {
    "counts (`/v1/stats`)": "stats",
    "list of 50": "list",
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
        "sweep without expired jobs": jobs.sweep,
    }


def count_by_scanning(url: str) -> float:
    """Return the milliseconds of the baseline's count, which reads every job."""
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
            await update_jobs(url, range(0, size, 10), "running")
            pool = create_pool(url)
            stack.push_async_callback(pool.disconnect)
            stores[size] = (await stack.enter_async_context(store(url)), LeaseManager(StoreClient(pool), ttl=WEEK))
            assert await stores[size][0].get_running_job_count() == size // 10
        smallest, largest = SIZES[0], SIZES[-1]
        columns = ("", *(f"{size:,} jobs" for size in SIZES), f"{largest:,} / {smallest:,}")
        table, charted = Table(f"median of {CALLS} calls, in µs", columns), dict[str, list[float]]()
        for name in calls(*stores[smallest]):
            times = await medians_in_turn({str(size): calls(*stores[size])[name] for size in SIZES}, CALLS)
            ratio = times[str(largest)] / times[str(smallest)]
            charted[name] = [times[str(size)] for size in SIZES]
            table.add_row(name, *(f"{times[str(size)]:,.0f}" for size in SIZES), f"{ratio:.2f}")
        scans = {size: count_by_scanning(url) * 1000 for size, url in urls.items() if size < largest}
        table.add_row("baseline's count (`SCAN`, `HGET`)", *(f"{scans[size]:,.0f}" for size in scans), "", "")
        charted["baseline's count"] = list(scans.values())
        report.add(table)
        report.line_chart("growth", "call latency by number of jobs", list(SIZES), charted, "µs")
        await asyncio.to_thread(_measure_interference, rounds, report, urls[largest])


def _measure_interference(rounds: int, report: Report, url: str) -> None:
    """Add the p99 of get requests while another client sends other calls continuously."""
    p99_of: dict[str, list[float]] = {name: [] for name in ("none", *OTHER_CALLS)}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as another:
        port = free_port()
        serve = (sys.executable, "-m", "service", "serve", "--redis-url", url, "--port", str(port))
        with running(serve, port, folder) as address:
            job = {"job_id": "bench-0", "input_params": INPUT}
            httpx.post(f"{address}/v1/jobs", json=job, headers=AUTHORIZATION).raise_for_status()
            for number in range(rounds):
                for place, name in enumerate(p99_of):
                    first = 1 + (number * len(p99_of) + place) * 1_000_000
                    running_call = (
                        another.submit(
                            run_wrk, address, OTHER_CALLS[name], first, 1_000_000, connections=1, seconds=SECONDS + 1
                        )
                        if name in OTHER_CALLS
                        else None
                    )
                    p99_of[name].append(run_wrk(address, "get", 0, 1, connections=CONNECTIONS, seconds=SECONDS).p99)
                    if running_call:
                        running_call.result()
    title = f"p99 of get over {CONNECTIONS} connections at {SIZES[-1]:,} jobs, in ms, by calls of another client"
    table = Table(title, ("", "p99", "× idle"))
    for name, times in p99_of.items():
        ratio = median(p99 / idle for p99, idle in zip(times, p99_of["none"], strict=True))
        table.add_row(name, f"{median(times):.1f}", f"{ratio:.2f}")
    report.add(table)


def measure(rounds: int, report: Report) -> None:
    """Fill servers of each size, a tenth of the jobs running, and compare the same calls on all of them."""
    asyncio.run(_measure(rounds, report))
