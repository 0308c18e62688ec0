"""Claims of one job against claims of several, through the library and over HTTP.

The same callers empty the same queue. The jobs are not completed. Over HTTP the callers are tasks of one Python
process, as those of a worker are, so the process limits the rates of small claims.
"""

import asyncio
import contextlib
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from statistics import median
from typing import Any, Final

import httpx

from benchmarks.fixtures import AUTHORIZATION, INPUT, WEEK, cpu_seconds, free_port, run_in_batches, server
from benchmarks.http_throughput import PERSISTENCE, running
from benchmarks.report import Report, Table
from service.store.client import StoreClient
from service.store.jobs import JobStateManager
from service.store.leases import LeaseManager
from service.store.pool import create_pool

#: Jobs of a sample, and the callers that claim them.
JOBS, CALLERS = 1000, 8
#: The most jobs of a claim; `None` is a claim of one by its own request.
SIZES: Final = (None, 1, 8, 100)

#: Claims up to so many jobs, and returns how many it got.
Claim = Callable[[int | None], Awaitable[int]]


def _claiming_directly(leases: LeaseManager) -> Claim:
    async def claim(size: int | None) -> int:
        if size is None:
            return int(await leases.claim_job(["default"], "bench") is not None)
        return len(await leases.claim_jobs(["default"], "bench", max_jobs=size))

    return claim


def _claiming_over(http: httpx.AsyncClient) -> Claim:
    async def claim(size: int | None) -> int:
        body: dict[str, Any] = {"queues": ["default"], "worker": "bench"}
        if size is None:
            return int((await http.post("/v1/claims", json=body)).raise_for_status().status_code == 200)
        response = (await http.post("/v1/batch-claim", json={**body, "max_jobs": size})).raise_for_status()
        return len(response.json()["items"]) if response.status_code == 200 else 0

    return claim


async def _empty_queue(claim: Claim, size: int | None) -> float:
    """Claim all jobs and return the seconds."""

    async def call() -> int:
        claimed = 0
        while found := await claim(size):
            claimed += found
        return claimed

    started = time.perf_counter()
    claimed = await asyncio.gather(*(call() for _ in range(CALLERS)))
    seconds = time.perf_counter() - started
    assert sum(claimed) == JOBS, claimed
    return seconds


@contextlib.asynccontextmanager
async def _store(url: str) -> AsyncIterator[tuple[JobStateManager, LeaseManager]]:
    pool = create_pool(url)
    client = StoreClient(pool)
    yield JobStateManager(client, ttl=WEEK), LeaseManager(client, ttl=WEEK)
    await client.aclose()
    await pool.disconnect()


async def _measure(rounds: int, report: Report) -> None:
    async with contextlib.AsyncExitStack() as stack:
        url = stack.enter_context(server(*PERSISTENCE, tcp=True))
        folder, port = stack.enter_context(tempfile.TemporaryDirectory()), free_port()
        serve = (sys.executable, "-m", "service", "serve", "--redis-url", url, "--port", str(port))
        address = stack.enter_context(running(serve, port, folder))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=address, headers=AUTHORIZATION))
        jobs, leases = await stack.enter_async_context(_store(url))
        paths = {"library": _claiming_directly(leases), "HTTP": _claiming_over(http)}
        samples: dict[tuple[str, int | None], list[tuple[float, float]]] = {}
        for _ in range(rounds):
            for name, claim in paths.items():
                for size in SIZES:
                    await run_in_batches(JOBS, lambda _: jobs.create_job(str(uuid.uuid4()), INPUT))
                    before = cpu_seconds(url)
                    seconds = await _empty_queue(claim, size)
                    cpu = cpu_seconds(url) - before
                    samples.setdefault((name, size), []).append((JOBS / seconds, cpu / JOBS * 1e6))
    for name in paths:
        report.add(_table(name, {size: samples[name, size] for size in SIZES}))


def _table(name: str, samples: dict[int | None, list[tuple[float, float]]]) -> Table:
    table = Table(f"claims of jobs, {name}, {CALLERS} callers", ("", "jobs/s", "× claim", "Redis µs/job"))
    for size, own in samples.items():
        row = "claim" if size is None else f"batch-claim of {size}"
        rate, cpu = (median(sample[column] for sample in own) for column in (0, 1))
        ratio = median(one[0] / single[0] for one, single in zip(own, samples[None], strict=True))
        table.add_row(row, f"{rate:,.0f}", f"×{ratio:.2f}", f"{cpu:.0f}")
    return table


def measure(rounds: int, report: Report) -> None:
    """Claim the jobs of a queue with claims of each size in turn."""
    asyncio.run(_measure(rounds, report))
