"""Creations of one job against creations of several, through the library and over HTTP.

The same callers create the same jobs. Over HTTP the callers are tasks of one Python process, so the process limits the
rates of single creations.
"""

import asyncio
import contextlib
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any, Final

import httpx

from benchmarks.fixtures import AUTHORIZATION, INPUT, cpu_seconds, free_port, server, store
from benchmarks.http_throughput import PERSISTENCE, running
from benchmarks.report import Report, Table
from service.domain.jobs import CreateResult, NewJob
from service.store.creation import Creation
from service.store.jobs import JobStateManager

#: Jobs of a sample, and the callers that create them.
JOBS, CALLERS = 1000, 8
#: The jobs of a request; `None` is a creation of one by its own request.
SIZES: Final = (None, 1, 10, 100, 1000)

#: Creates so many jobs.
Create = Callable[[int | None], Awaitable[None]]


def _creating_directly(jobs: JobStateManager) -> Create:
    async def create(size: int | None) -> None:
        if size is None:
            await jobs.create_job(str(uuid.uuid4()), INPUT)
            return
        results = await jobs.create_jobs([Creation(str(uuid.uuid4()), NewJob(input_params=INPUT)) for _ in range(size)])
        assert all(isinstance(result, CreateResult) for result in results)

    return create


def _creating_over(http: httpx.AsyncClient) -> Create:
    job: dict[str, Any] = {"input_params": INPUT}

    async def create(size: int | None) -> None:
        if size is None:
            (await http.post("/v1/jobs", json=job)).raise_for_status()
            return
        response = (await http.post("/v1/batch-create", json={"jobs": [job] * size})).raise_for_status()
        assert all("job" in item for item in response.json()["items"])

    return create


async def _create_all(create: Create, size: int | None) -> float:
    """Create all jobs and return the seconds."""
    left = iter(range(JOBS // (size or 1)))

    async def call() -> None:
        for _ in left:
            await create(size)

    started = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(CALLERS)))
    return time.perf_counter() - started


async def _measure(rounds: int, report: Report) -> None:
    async with contextlib.AsyncExitStack() as stack:
        url = stack.enter_context(server(*PERSISTENCE, tcp=True))
        folder, port = stack.enter_context(tempfile.TemporaryDirectory()), free_port()
        serve = (sys.executable, "-m", "service", "serve", "--redis-url", url, "--port", str(port))
        address = stack.enter_context(running(serve, port, folder))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=address, headers=AUTHORIZATION))
        jobs = await stack.enter_async_context(store(url))
        paths = {"library": _creating_directly(jobs), "HTTP": _creating_over(http)}
        samples: dict[tuple[str, int | None], list[tuple[float, float]]] = {}
        for _ in range(rounds):
            for name, create in paths.items():
                for size in SIZES:
                    before = cpu_seconds(url)
                    seconds = await _create_all(create, size)
                    cpu = cpu_seconds(url) - before
                    samples.setdefault((name, size), []).append((JOBS / seconds, cpu / JOBS * 1e6))
    for name in paths:
        report.add(_table(name, {size: samples[name, size] for size in SIZES}))


def _table(name: str, samples: dict[int | None, list[tuple[float, float]]]) -> Table:
    table = Table(f"creations of jobs, {name}, {CALLERS} callers", ("", "jobs/s", "× create", "Redis µs/job"))
    for size, own in samples.items():
        row = "create" if size is None else f"batch-create of {size}"
        rate, cpu = (median(sample[column] for sample in own) for column in (0, 1))
        ratio = median(one[0] / single[0] for one, single in zip(own, samples[None], strict=True))
        table.add_row(row, f"{rate:,.0f}", f"×{ratio:.2f}", f"{cpu:.0f}")
    return table


def measure(rounds: int, report: Report) -> None:
    """Create jobs with requests of each size in turn."""
    asyncio.run(_measure(rounds, report))
