"""What a bulk action over many jobs costs the other clients, and whether it survives a kill in its middle.

The service runs as one process, and is killed in the second run. The clients are tasks of one Python process, which
shares the CPUs with the service and Redis. They pause between two requests, so nothing is saturated without the action.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final, NamedTuple

import httpx
from redis.asyncio import Redis

from benchmarks.fixtures import API_KEYS, AUTHORIZATION, INPUT, cpu_seconds, fill, free_port, server, update_jobs
from benchmarks.http_throughput import PERSISTENCE
from benchmarks.report import Report, Table
from service.store.partition import PARTITION

#: Jobs that have failed, and are retried by one action.
FAILED: Final = 100_000
#: Clients that create, claim, read and complete jobs, and the seconds that each pauses between two requests.
CLIENTS, PAUSE = 64, 0.1
#: Seconds of work before the action.
BEFORE: Final = 10.0
#: Seconds between two reads of the action.
POLL: Final = 0.5
_FAILED, _BUSY = "failed", "busy"
_CALLS: Final = ("create", "claim", "get", "complete")


class Clients:
    """Clients that work, and the milliseconds of their requests, by name and whether the action was running."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.is_during = self.is_over = False
        self.times: dict[tuple[str, bool], list[float]] = defaultdict(list)

    async def run(self) -> None:
        """Work until `is_over`."""
        await asyncio.gather(*(self._work() for _ in range(CLIENTS)))

    async def _work(self) -> None:
        while not self.is_over:
            with contextlib.suppress(httpx.HTTPError):  # while the service is down
                await self._run_one_job()

    async def _run_one_job(self) -> None:
        await self._send("create", "POST", "/v1/jobs", {"queue": _BUSY, "input_params": INPUT})
        claim = await self._send("claim", "POST", "/v1/claims", {"queues": [_BUSY], "worker": "bench"})
        if claim.status_code != 200:
            return
        path, token = f"/v1/jobs/{claim.json()['job']['job_id']}", claim.json()["lease"]["token"]
        await self._send("get", "GET", path, None)
        await self._send("complete", "PATCH", path, {"status": "completed"}, {"Lease-Token": token})

    async def _send(self, name: str, method: str, path: str, body: Any, headers: Any = None) -> httpx.Response:
        await asyncio.sleep(PAUSE)
        during, started = self.is_during, time.perf_counter()
        response = await self._http.request(method, path, json=body, headers=headers)
        self.times[name, during].append((time.perf_counter() - started) * 1000)
        return response.raise_for_status()


class Run(NamedTuple):
    """What one action did."""

    clients: Clients
    seconds: float
    action: dict[str, Any]
    #: CPU time of Redis in µs for each retried job, with what the other clients cost meanwhile.
    redis: float
    #: How often jobs were changed since they had failed, and how many jobs each.
    changes: dict[int, int]


class Service:
    """The service, which can be killed."""

    def __init__(self, url: str, folder: str) -> None:
        self._url, self._folder, self._port = url, folder, free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start it, and return when it answers."""
        command = (sys.executable, "-m", "service", "serve", "--redis-url", self._url, "--port", str(self._port))
        with Path(self._folder, "service.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "API_KEYS": API_KEYS})
        while True:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"{self.address}/health")
                return
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it (SIGKILL)."""
        self._process.kill()
        self._process.wait()


async def _follow(http: httpx.AsyncClient, service: Service, *, kills: bool) -> dict[str, Any]:
    """Start the action, and return it at its end."""
    body = {"action": "retry", "filter": {"queue": _FAILED, "status": "failed"}}
    started = (await http.post("/v1/bulk-actions", json=body)).raise_for_status()
    while True:
        await asyncio.sleep(POLL)
        with contextlib.suppress(httpx.HTTPError):
            action: dict[str, Any] = (await http.get(started.headers["Location"])).raise_for_status().json()
            if action["state"] == "done":
                return action
            if kills and action["done"] > FAILED // 2:
                kills = False
                await asyncio.to_thread(service.kill)
                await asyncio.to_thread(service.start)


async def _run(*, kills: bool) -> Run:
    with server(*PERSISTENCE, tcp=True) as url, tempfile.TemporaryDirectory() as folder:
        await fill(url, FAILED, queue=lambda _: _FAILED)
        await update_jobs(url, range(FAILED), "failed", error="broken")
        service = Service(url, folder)
        try:
            async with httpx.AsyncClient(base_url=service.address, headers=AUTHORIZATION, timeout=30) as http:
                clients = Clients(http)
                working = asyncio.create_task(clients.run())
                await asyncio.sleep(BEFORE)
                clients.is_during = True
                cpu, started = cpu_seconds(url), time.perf_counter()
                action = await _follow(http, service, kills=kills)
                seconds = time.perf_counter() - started
                cpu = cpu_seconds(url) - cpu
                clients.is_during, clients.is_over = False, True
                await working
            return Run(clients, seconds, action, cpu / FAILED * 1e6, await _retries(url))
        finally:
            service.kill()


async def _retries(url: str) -> dict[int, int]:
    """Return how many of the jobs were changed how often after their failure."""
    found: dict[int, int] = defaultdict(int)
    async with Redis.from_url(url) as redis:
        for start in range(0, FAILED, 1000):
            pipeline = redis.pipeline(transaction=False)
            for number in range(start, start + 1000):
                pipeline.hget(PARTITION.job(str(uuid.UUID(int=number))), "revision")
            for revision in await pipeline.execute():
                found[int(revision) - 2] += 1
    return dict(found)


def _report(report: Report, run: Run) -> None:
    table = Table(
        f"{FAILED:,} failed jobs are retried by one action: requests of {CLIENTS} clients, in ms",
        ("", "p50 before", "p50 meanwhile", "p99 before", "p99 meanwhile", "longest meanwhile"),
    )
    for name in _CALLS:
        before, meanwhile = run.clients.times[name, False], run.clients.times[name, True]
        cells = (median(before), median(meanwhile), _p99(before), _p99(meanwhile), max(meanwhile))
        table.add_row(name, *(f"{cell:.1f}" for cell in cells))
    report.add(table)
    report.add_text(f"{_summary(run)} Redis used {run.redis:.0f} µs for each job, with what the clients cost.")


def _summary(run: Run) -> str:
    once, refused = run.changes.get(1, 0), sum(run.action["refused"].values())
    return (
        f"The action took {run.seconds:.0f} s: {run.action['matched']:,} matched, {run.action['done']:,} done, "
        f"{refused:,} refused. {once:,} jobs were changed once, {FAILED - once:,} otherwise."
    )


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


def measure(_rounds: int, report: Report) -> None:
    """Add the results of one run, and those of one in which the service is killed and started in the middle."""
    _report(report, asyncio.run(_run(kills=False)))
    report.add_text(f"With a SIGKILL of the service in its middle: {_summary(asyncio.run(_run(kills=True)))}")
