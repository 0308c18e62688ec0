"""A real Redis, a line to it that can be broken, the service over that line, and what is to be known of them."""

import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from redis.asyncio import Redis

from tests.chaos.history import History, Window
from tests.chaos.http import connected
from tests.helpers.redis_servers import ProcessRedis
from tests.helpers.service_process import Service
from tests.helpers.tcp_proxy import FaultProxy
from tests.integration.server.test_supervisor import workers_of

#: Seconds that anything may take to come about, on whatever machine; what is promised is told in the figures.
PATIENCE: Final = 60.0
DISK_BYTES: Final = 192 * 1024 * 1024


@dataclass
class Setting:
    """How a service is set up for some rounds."""

    name: str
    environment: dict[str, str]


#: One process with the pool that it has by itself; two processes whose pools are soon exhausted.
ONE: Final = Setting("one process", {})
NARROW: Final = Setting("two processes, four connections each", {"JOBSTATE_WORKERS": "2", "REDIS_MAX_CONNECTIONS": "4"})


class Stage:
    """What a round plays on. Faults note here what they may have cost."""

    def __init__(self, redis: ProcessRedis, folder: Path, line: FaultProxy, service: Service, disk: "Disk") -> None:
        self.redis, self.folder, self.line, self.service, self.disk = redis, folder, line, service, disk
        self.history = History()
        self.choose = random.Random(0)
        self.fsync = "always"
        #: Seconds for which a fault holds on.
        self.hold = 1.0

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """Talk to Redis behind the line's back."""
        async with Redis(port=self.redis.port, socket_timeout=10, protocol=2) as redis:
            yield redis

    async def sync(self, fsync: str) -> None:
        """Have Redis sync `always` or `everysec`."""
        self.fsync = fsync
        async with self.client() as redis:
            await redis.config_set("appendfsync", fsync)

    async def kill_redis(self) -> None:
        """Kill Redis, and note what that may lose."""
        await asyncio.to_thread(self.redis.kill)
        if self.fsync == "everysec":  # while a sync is under way it answers before it writes, for two seconds at most
            self.lose(time.time() - 2)

    async def start_redis(self, *options: str) -> None:
        """Start Redis, until it answers."""
        await asyncio.to_thread(self.redis.start, *options)

    def lose(self, since: float) -> None:
        """Note that what was acknowledged since then, up to now, may be gone."""
        self.history.losses.append(Window("loss", since, time.time()))

    def kill_service(self) -> None:
        """Kill every process of the service at once."""
        os.killpg(self.service.process.pid, signal.SIGKILL)
        self.service.kill()

    async def start_service(self) -> None:
        """Start the service, until it listens."""
        await asyncio.to_thread(self.service.start)

    @property
    def pids(self) -> list[int]:
        """The processes that serve."""
        return workers_of(self.service) or [self.service.process.pid]

    async def until_ready(self) -> float:
        """Return in how many seconds the service takes changes."""
        started = time.monotonic()
        async with connected(self.service.url, timeout=5) as http:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await http.get("/ready")).status_code == 200:
                        return time.monotonic() - started
                assert time.monotonic() - started < PATIENCE, (
                    f"the service does not recover\n{self.service.log[-4000:]}"
                )
                await asyncio.sleep(0.02)


class Disk:
    """The disk of Redis, which can be made full: a small file system of its own, else a limit on the size of files."""

    def __init__(self, folder: Path, is_mounted: bool) -> None:
        self.folder, self.is_mounted = folder, is_mounted
        self._ballast = folder / "ballast"

    def fill(self, pid: int) -> None:
        """Leave no room for another byte."""
        if not self.is_mounted:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            return
        with self._ballast.open("wb", buffering=0) as ballast:
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        ballast.write(bytes(size))

    def free(self, pid: int) -> None:
        """Make room again."""
        if self.is_mounted:
            self._ballast.unlink()
        else:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def __str__(self) -> str:
        if self.is_mounted:
            return f"a tmpfs of {DISK_BYTES >> 20} MiB, which is filled"
        return "no tmpfs can be mounted here (that takes root): Redis's files may not grow instead (RLIMIT_FSIZE)"


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """Make a disk for Redis in `folder`."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    is_mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield Disk(folder, is_mounted)
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.asynccontextmanager
async def stage(folder: Path, setting: Setting, source: Path | None) -> AsyncIterator[Stage]:
    """Start everything in `folder`; the service out of `source`, the `src` of a checkout, where one is given."""
    folder.mkdir()  # noqa: ASYNC240
    environment = {"SHUTDOWN_DRAIN_SECONDS": "0", "LOG_LEVEL": "warning", **setting.environment}
    if source is not None:
        environment["PYTHONPATH"] = str(source)
    options = ("--appendfsync", "always", "--busy-reply-threshold", "1", "--maxmemory-policy", "noeviction")
    with disk(folder / "redis") as place:
        redis = await asyncio.to_thread(ProcessRedis, place.folder, *options, "--auto-aof-rewrite-percentage", "0")
        try:
            async with FaultProxy(redis.port).open() as line:
                url = f"redis://127.0.0.1:{line.port}/0"
                service = await asyncio.to_thread(lambda: Service(folder, REDIS_URL=url, **environment))
                try:
                    found = Stage(redis, place.folder, line, service, place)
                    await found.until_ready()
                    yield found
                finally:
                    await asyncio.to_thread(service.stop, signal.SIGINT)
        finally:
            redis.remove()
            shutil.rmtree(place.folder / "appendonlydir", ignore_errors=True)
