"""Event streams: latency from a change to its event, memory per subscriber, and the effect on other requests.

One service process with 1,000 event streams on loopback; `wrk` (Debian's package) sends the other requests.
"""

import asyncio
import contextlib
import re
import tempfile
import time
from collections.abc import AsyncIterator
from statistics import median, quantiles
from typing import Final

import httpx

from benchmarks.fixtures import AUTHORIZATION, server
from benchmarks.report import Report, Table
from benchmarks.telemetry_overhead import requests_per_second, running
from benchmarks.wrk import require_wrk

#: The number of measured changes, and the seconds between them.
CHANGES: Final = 200
CHANGE_INTERVAL: Final = 0.02
#: The number of changes that all subscribers receive.
BROADCAST_CHANGES: Final = 20
SUBSCRIBERS: Final = 1000


class Streams:
    """Open event streams, each read by a task that records when it receives an event."""

    def __init__(self, address: str) -> None:
        """Connect to `address`, such as `http://127.0.0.1:8000`."""
        host, _, port = address.removeprefix("http://").partition(":")
        self._host, self._port = host, int(port)
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._new_event = asyncio.Event()
        #: The times at which streams received each (job id, revision), in seconds as `time.perf_counter`.
        self.received_at: dict[tuple[str, int], list[float]] = {}

    async def open(self, paths: list[str]) -> None:
        """Open a stream for each path; return when each has received its first event."""
        firsts = []
        for path in paths:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            headers = {"Host": "localhost", "Accept": "text/event-stream", **AUTHORIZATION}
            lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
            writer.write("\r\n".join(lines).encode())
            self._writers.append(writer)
            first = asyncio.Event()
            firsts.append(first.wait())
            self._tasks.append(asyncio.create_task(self._read(reader, first)))
        await asyncio.gather(*firsts)

    async def close(self) -> None:
        """Close all streams."""
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader, first: asyncio.Event) -> None:
        while line := await reader.readline():
            if line.startswith(b"data:"):
                first.set()
                job, revision = re.search(rb'"job_id":"([^"]+)"', line), re.search(rb'"revision":(\d+)', line)
                if job and revision:
                    key = (job[1].decode(), int(revision[1]))
                    self.received_at.setdefault(key, []).append(time.perf_counter())
                    self._new_event.set()

    async def wait_for_receipts(self, job_id: str, revision: int, count: int) -> list[float]:
        """Return the receive times of a revision when `count` streams have it. Raises `TimeoutError` after 10 s."""
        async with asyncio.timeout(10):
            while len(times := self.received_at.get((job_id, revision), [])) < count:
                self._new_event.clear()
                await self._new_event.wait()
        return times


async def latencies(
    http: httpx.AsyncClient, streams: Streams, jobs: list[str], changes: int, count: int
) -> list[float]:
    """Change jobs in turn; return for each received event the milliseconds since its change was sent."""
    times = []
    for number in range(changes):
        job_id = jobs[number % len(jobs)]
        sent = time.perf_counter()
        answer = await http.patch(
            f"/v1/jobs/{job_id}",
            json={"status": "completed" if number // len(jobs) else "running", "progress": {"current": number}},
        )
        answer.raise_for_status()
        times += [
            (at - sent) * 1000 for at in await streams.wait_for_receipts(job_id, answer.json()["revision"], count)
        ]
        await asyncio.sleep(CHANGE_INTERVAL)
    return times


async def create(http: httpx.AsyncClient, job_ids: list[str]) -> None:
    """Create jobs with 100 bytes of input."""
    for start in range(0, len(job_ids), 50):
        created = [
            http.post("/v1/jobs", json={"job_id": job_id, "input_params": {"text": "x" * 89}})
            for job_id in job_ids[start : start + 50]
        ]
        for answer in await asyncio.gather(*created):
            answer.raise_for_status()


@contextlib.asynccontextmanager
async def open_streams(address: str, paths: list[str]) -> AsyncIterator[Streams]:
    """Yield open streams, and close them when the block ends."""
    streams = Streams(address)
    await streams.open(paths)
    try:
        yield streams
    finally:
        await streams.close()


def resident_memory(address: str) -> int:
    """Return the service's resident memory in bytes, from its metrics."""
    match = re.search(r"^process_resident_memory_bytes ([\d.e+]+)", _metrics(address), re.MULTILINE)
    assert match
    return int(float(match[1]))


def request_count(address: str) -> float:
    """Return the number of requests that the service has answered, from its metrics."""
    counts = re.findall(r"^jobstate_http_request_duration_seconds_count{.*} (\S+)", _metrics(address), re.MULTILINE)
    return sum(map(float, counts))


def _metrics(address: str) -> str:
    return httpx.get(f"{address}/metrics", headers=AUTHORIZATION).raise_for_status().text


def _add(table: Table, name: str, times: list[float]) -> None:
    cuts = quantiles(times, n=100)
    table.add_row(name, f"{median(times):.1f}", f"{cuts[98]:.1f}", str(len(times)))


async def measure_latency(address: str, subscribers: int, report: Report) -> None:
    """Measure the latency for subscribers of many jobs, of one job and of all jobs, and the memory."""
    table = Table("latency from the request to the event, in ms", ("", "p50", "p99", "events"))
    async with httpx.AsyncClient(base_url=address, headers=AUTHORIZATION, timeout=30) as http:
        many = [f"m{number}" for number in range(subscribers)]
        await create(http, [*many, *(f"one{number}" for number in range(BROADCAST_CHANGES)), "all"])
        before = resident_memory(address)
        async with open_streams(address, [f"/v1/jobs/{job_id}/events" for job_id in many]) as streams:
            each = (resident_memory(address) - before) / subscribers / 1024
            times = await latencies(http, streams, many, CHANGES, 1)
        _add(table, f"{subscribers} subscribers, a job each", times)
        async with open_streams(address, ["/v1/jobs/one0/events"] * subscribers) as streams:
            times = await latencies(http, streams, ["one0"], 2, subscribers)
        _add(table, f"{subscribers} subscribers of one job, all events", times)
        one = [f"one{number}" for number in range(1, BROADCAST_CHANGES)]
        async with open_streams(address, ["/v1/events"] * subscribers) as streams:
            times = await latencies(http, streams, one, len(one), subscribers)
        _add(table, f"{subscribers} subscribers of all jobs, all events", times)
    report.add(table)
    memory = Table("memory per subscriber, in KiB", ("", "KiB"))
    memory.add_row(f"{subscribers} subscribers, a job each", f"{each:.1f}")
    report.add(memory)


async def measure_interference(addresses: dict[str, str], subscribers: int, rounds: int, report: Report) -> None:
    """Compare the rate of get requests at a process with subscribers and at one without, in turn."""
    rates: dict[str, list[float]] = {name: [] for name in addresses}
    paths = [f"/v1/jobs/m{CHANGES + number}/events" for number in range(subscribers - CHANGES)]
    async with open_streams(addresses["subscribed"], paths):
        for _ in range(rounds):
            for name, address in addresses.items():
                rates[name].append(await asyncio.to_thread(requests_per_second, f"{address}/v1/jobs/all", 16))
    ratios = [one / other for one, other in zip(rates["subscribed"], rates["idle"], strict=True)]
    report.add_text(
        f"get, 16 connections, with {len(paths)} idle subscribers: ×{median(ratios):.2f} of a process without."
    )


def measure(rounds: int, report: Report) -> None:
    """Measure latency and memory at one process, and interference with a second one."""
    require_wrk()
    with contextlib.ExitStack() as stack:
        url, folder = stack.enter_context(server()), stack.enter_context(tempfile.TemporaryDirectory())
        addresses = {
            name: stack.enter_context(running("jobstate", 8920 + number, url, folder))
            for number, name in enumerate(("subscribed", "idle"))
        }
        asyncio.run(measure_latency(addresses["subscribed"], SUBSCRIBERS, report))
        asyncio.run(measure_interference(addresses, SUBSCRIBERS, rounds, report))
