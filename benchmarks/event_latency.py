"""What watching costs: from the request that changes a job to its receipt by watchers, memory, what others feel.

One service process, 1,000 event streams on loopback; `wrk` (Debian's package) asks for a job meanwhile.
"""

import asyncio
import contextlib
import re
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from statistics import median, quantiles
from typing import Final

import httpx

from benchmarks.fixtures import server
from benchmarks.report import Report, Table
from benchmarks.telemetry_overhead import running
from benchmarks.wrk import need_wrk

#: Changes that are timed in each scene, and seconds between two of them.
CHANGES: Final = 200
PAUSE: Final = 0.02
#: Of what goes to all watchers at once there are fewer.
WIDE_CHANGES: Final = 20
WATCHERS: Final = 1000
SECONDS: Final = 2


class Streams:
    """Open event streams, each read by a task that notes when it last heard of something."""

    def __init__(self, address: str) -> None:
        """Watch at `address`, which is http://host:port."""
        host, _, port = address.removeprefix("http://").partition(":")
        self._host, self._port = host, int(port)
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._news = asyncio.Event()
        #: When each stream heard of each revision: (path, revision) → moments (s, as `time.perf_counter`).
        self.heard: dict[tuple[str, int], list[float]] = {}

    async def open(self, paths: list[str]) -> None:
        """Open a stream for each path, and return once all have heard their first event."""
        firsts = []
        for path in paths:
            reader, writer = await asyncio.open_connection(self._host, self._port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
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
                    self.heard.setdefault(key, []).append(time.perf_counter())
                    self._news.set()

    async def receipts(self, job_id: str, revision: int, most: int) -> list[float]:
        """Return when a revision was heard of, once so many streams have; raises `TimeoutError` after 10 s."""
        async with asyncio.timeout(10):
            while len(found := self.heard.get((job_id, revision), [])) < most:
                self._news.clear()
                await self._news.wait()
        return found


async def latencies(http: httpx.AsyncClient, streams: Streams, jobs: list[str], changes: int, each: int) -> list[float]:
    """Change jobs in turn and return, for each receipt, the milliseconds since the change was sent."""
    found = []
    for number in range(changes):
        job_id = jobs[number % len(jobs)]
        sent = time.perf_counter()
        answer = await http.patch(
            f"/v1/jobs/{job_id}",
            json={"status": "completed" if number // len(jobs) else "running", "progress": {"current": number}},
        )
        answer.raise_for_status()
        found += [(at - sent) * 1000 for at in await streams.receipts(job_id, answer.json()["revision"], each)]
        await asyncio.sleep(PAUSE)
    return found


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
async def watched(address: str, paths: list[str]) -> AsyncIterator[Streams]:
    """Have streams for the length of the block."""
    streams = Streams(address)
    await streams.open(paths)
    try:
        yield streams
    finally:
        await streams.close()


def resident(address: str) -> int:
    """Return the service's resident memory in bytes, as it says itself."""
    found = re.search(r"^process_resident_memory_bytes ([\d.e+]+)", httpx.get(f"{address}/metrics").text, re.MULTILINE)
    assert found
    return int(float(found[1]))


def answered(address: str) -> float:
    """Return how many requests the service has answered, as it says itself."""
    page = httpx.get(f"{address}/metrics").text
    return sum(float(one) for one in re.findall(r"^jobstate_http_request_duration_seconds_count{.*} (\S+)", page, re.M))


def _add(table: Table, name: str, found: list[float]) -> None:
    cuts = quantiles(found, n=100)
    table.row(name, f"{median(found):.1f}", f"{cuts[98]:.1f}", str(len(found)))


async def scenes(address: str, watchers: int, report: Report) -> None:
    """Time receipts by watchers of many jobs, of one job, of all jobs; and measure memory."""
    table = Table("from the request that changes a job to its receipt, in ms", ("", "p50", "p99", "receipts"))
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        many = [f"m{number}" for number in range(watchers)]
        await create(http, [*many, *(f"one{number}" for number in range(WIDE_CHANGES)), "all"])
        before = resident(address)
        async with watched(address, [f"/v1/jobs/{job_id}/events" for job_id in many]) as streams:
            each = (resident(address) - before) / watchers / 1024
            found = await latencies(http, streams, many, CHANGES, 1)
        _add(table, f"{watchers} watchers of as many jobs", found)
        async with watched(address, ["/v1/jobs/one0/events"] * watchers) as streams:
            found = await latencies(http, streams, ["one0"], 2, watchers)
        _add(table, f"{watchers} watchers of one job, every receipt", found)
        one = [f"one{number}" for number in range(1, WIDE_CHANGES)]
        async with watched(address, ["/v1/events"] * watchers) as streams:
            found = await latencies(http, streams, one, len(one), watchers)
        _add(table, f"{watchers} watchers of all jobs, every receipt", found)
    report.add(table)
    memory = Table("memory for each watcher, in KiB", ("", "KiB"))
    memory.row(f"{watchers} watchers of as many jobs", f"{each:.1f}")
    report.add(memory)


def per_second(address: str) -> float:
    """Ask for a job as often as goes for a round."""
    command = ["wrk", "-t1", "-c16", f"-d{SECONDS}s", f"{address}/v1/jobs/all"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if "Non-2xx" in text or not found:
        raise SystemExit(text)
    return float(found[1])


async def others(addresses: dict[str, str], watchers: int, rounds: int, report: Report) -> None:
    """Compare what other requests get of a process with watchers and of one without, in turn."""
    found: dict[str, list[float]] = {name: [] for name in addresses}
    paths = [f"/v1/jobs/m{CHANGES + number}/events" for number in range(watchers - CHANGES)]
    async with watched(addresses["watched"], paths):
        for _ in range(rounds):
            for name, address in addresses.items():
                found[name].append(await asyncio.to_thread(per_second, address))
    ratios = [one / other for one, other in zip(found["watched"], found["alone"], strict=True)]
    report.say(f"get, 16 connections, beside {len(paths)} quiet watchers: ×{median(ratios):.2f} of a process without.")


def measure(rounds: int, report: Report) -> None:
    """Open event streams on one process, and change jobs one after another."""
    need_wrk()
    with contextlib.ExitStack() as stack:
        url, folder = stack.enter_context(server()), stack.enter_context(tempfile.TemporaryDirectory())
        addresses = {
            name: stack.enter_context(running("jobstate, limits and all", 8920 + number, url, folder))
            for number, name in enumerate(("watched", "alone"))
        }
        asyncio.run(scenes(addresses["watched"], WATCHERS, report))
        asyncio.run(others(addresses, WATCHERS, rounds, report))
