"""Fixtures of the benchmarks: Redis servers, filled with jobs through the library in pipelines."""

import asyncio
import contextlib
import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final

import redis

from service.domain.api_keys import hash_key
from service.embedded.binary import find
from service.store.jobs import JobStateManager
from service.store.pool import create_pool

#: Concurrent changes while filling.
BATCH: Final = 500
WEEK: Final = timedelta(days=7)
#: The service is measured with API keys, as it runs in production: its key as `API_KEYS` has it, and what clients send.
_KEY: Final = "key-of-the-benchmarks"
API_KEYS: Final = f"benchmarks:read+write+work:{hash_key(_KEY.encode()).hex()}"
AUTHORIZATION: Final = {"Authorization": f"Bearer {_KEY}"}
#: 100 bytes of JSON.
INPUT: Final = {"text": "x" * 89}
assert len(json.dumps(INPUT, separators=(",", ":"))) == 100


def server_binary() -> str:
    """Return the installed Redis server, or else the embedded one, which has no jemalloc."""
    return shutil.which("redis-server") or shutil.which("valkey-server") or str(find().path)


def describe_server() -> str:
    """Return the product, version and allocator of the server."""
    output = subprocess.run([server_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"(\w+) server v=(\S+).* malloc=(\S+)", output)
    assert match is not None
    return f"{match[1]} {match[2]} with {match[3]}"


def free_port() -> int:
    """Return a free TCP port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def server(*more: str, tcp: bool = False) -> Iterator[str]:
    """Run an empty server and yield its URL. It has no persistence unless the `more` options enable it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "redis.sock"
        port = free_port() if tcp else 0
        options = ["--port", str(port), "--unixsocket", str(path), "--dir", folder, "--save", ""]
        process = subprocess.Popen(
            [server_binary(), *options, "--hash-max-listpack-value", "4096", *more], stdout=subprocess.DEVNULL
        )
        try:
            while not path.exists():
                if process.poll() is not None:
                    raise SystemExit(f"{server_binary()} did not start with {' '.join(options)} {' '.join(more)}")
                time.sleep(0.01)
            yield f"redis://127.0.0.1:{port}/0" if tcp else f"unix://{path}"
        finally:
            process.terminate()
            process.wait()


@contextlib.asynccontextmanager
async def store(url: str) -> AsyncIterator[JobStateManager]:
    """Yield a `JobStateManager` on the server at `url`."""
    pool = create_pool(url)
    yield JobStateManager(pool, ttl=WEEK)
    await pool.disconnect()


def cpu_seconds(url: str) -> float:
    """Return the CPU time that a Redis has used."""
    cpu: dict[str, Any] = redis.Redis.from_url(url).info("cpu")
    return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])


async def run_in_batches(count: int, work: Callable[[int], Awaitable[Any]]) -> None:
    """Run `work` for 0 … count - 1, a batch concurrently."""
    for start in range(0, count, BATCH):
        await asyncio.gather(*(work(number) for number in range(start, min(start + BATCH, count))))


async def fill(url: str, count: int, **fields: Callable[[int], Any]) -> None:
    """Create pending jobs with 36-character ids and 100 bytes of input."""

    async def create(number: int) -> None:
        values = {name: value(number) for name, value in fields.items()}
        await manager.create_job(str(uuid.UUID(int=number)), INPUT, **values)

    async with store(url) as manager:
        await run_in_batches(count, create)


async def update_jobs(url: str, numbers: Sequence[int], status: str, **content: Any) -> None:
    """Update the status of jobs that `fill` created."""

    async def change(index: int) -> None:
        await manager.update_job_status(str(uuid.UUID(int=numbers[index])), status, **content)

    async with store(url) as manager:
        await run_in_batches(len(numbers), change)


async def medians_in_turn(calls: dict[str, Callable[[], Awaitable[Any]]], rounds: int) -> dict[str, float]:
    """Return the median latency of each call in microseconds, all measured in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            await call()
            times[name].append((time.perf_counter() - started) * 1e6)
    return {name: median(values) for name, values in times.items()}
