"""The environment of a round: Redis, a proxy before it that injects faults, and the service behind the proxy."""

import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx
from redis.asyncio import ConnectionPool, Redis

from tests.chaos.history import History, Window
from tests.chaos.http import open_client
from tests.helpers.redis_servers import ProcessRedis
from tests.helpers.service_process import Service
from tests.helpers.tcp_proxy import FaultProxy
from tests.integration.server.test_supervisor import workers_of

#: Seconds to wait for any condition, on any machine. The report has the measured recovery times.
TIMEOUT: Final = 60.0
DISK_BYTES: Final = 192 * 1024 * 1024


@dataclass
class Topology:
    """The number of processes and connections that the service runs with."""

    name: str
    environment: dict[str, str]
    #: Each server has a clock that can be set.
    has_clocks: bool = False


SINGLE_PROCESS: Final = Topology("one process", {})
#: Two processes whose connection pools are soon exhausted.
TWO_PROCESSES: Final = Topology(
    "two processes, four connections each", {"JOBSTATE_WORKERS": "2", "REDIS_MAX_CONNECTIONS": "4"}
)
OWN_CLOCKS: Final = Topology("one process, servers with clocks of their own", {}, has_clocks=True)


class Environment(ABC):
    """The service of a round, Redis behind it, and the history that the nemesis adds to."""

    #: A request that each of these answers with 200 shows that the service has recovered.
    READY_PATHS: ClassVar[tuple[str, ...]] = ("/ready",)

    def __init__(self, service: Service) -> None:
        self.service = service
        self.history = History()
        self.rng = random.Random(0)
        #: Duration of a fault in seconds.
        self.fault_seconds = 1.0

    @abstractmethod
    def redis_client(self) -> AbstractAsyncContextManager[Any]:
        """Yield a client of redis-py for all keys, which bypasses what stands between the service and Redis."""

    @abstractmethod
    def open_pool(self) -> AbstractAsyncContextManager[Any]:
        """Yield what a `StoreClient` of this Redis is given."""

    async def set_fsync(self, fsync: str) -> None:
        """Set `appendfsync`, where a fault loses what is not on the disk."""
        return

    def record_loss(self, since: float) -> None:
        """Record that Redis may have lost changes acknowledged from `since` until now."""
        self.history.losses.append(Window("loss", since, time.time()))

    def kill_service(self) -> None:
        """Kill all processes of the service."""
        os.killpg(self.service.process.pid, signal.SIGKILL)
        self.service.kill()

    async def start_service(self) -> None:
        """Start the service and wait until it listens."""
        await asyncio.to_thread(self.service.start)

    @property
    def pids(self) -> list[int]:
        """The ids of the processes that serve requests."""
        return workers_of(self.service) or [self.service.process.pid]

    async def wait_until_ready(self) -> float:
        """Return the seconds until the service answers 200 for each of `READY_PATHS`."""
        started = time.monotonic()
        async with open_client(self.service.url, timeout=5) as http:
            for path in self.READY_PATHS:
                while not await _is_ok(http, path):
                    log = self.service.log[-4000:]
                    assert time.monotonic() - started < TIMEOUT, f"the service did not recover\n{log}"
                    await asyncio.sleep(0.02)
        return time.monotonic() - started


async def _is_ok(http: httpx.AsyncClient, path: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return (await http.get(path)).status_code == 200
    return False


class OneRedis(Environment):
    """One Redis behind a proxy that injects faults."""

    def __init__(self, redis: ProcessRedis, folder: Path, proxy: FaultProxy, service: Service, disk: "Disk") -> None:
        super().__init__(service)
        self.redis, self.folder, self.proxy, self.disk = redis, folder, proxy, disk
        self.fsync = "always"

    @contextlib.asynccontextmanager
    async def redis_client(self) -> AsyncIterator[Redis]:
        """Yield a client of Redis that bypasses the proxy."""
        async with Redis(port=self.redis.port, socket_timeout=10, protocol=2) as redis:
            yield redis

    @contextlib.asynccontextmanager
    async def open_pool(self) -> AsyncIterator[ConnectionPool]:
        """Yield a pool that bypasses the proxy."""
        async with self.redis_client() as redis:
            yield redis.connection_pool

    async def set_fsync(self, fsync: str) -> None:
        """Set `appendfsync` to `always` or `everysec`."""
        self.fsync = fsync
        async with self.redis_client() as redis:
            await redis.config_set("appendfsync", fsync)

    async def kill_redis(self) -> None:
        """Kill Redis, and record what that may lose."""
        await asyncio.to_thread(self.redis.kill)
        if self.fsync == "everysec":  # during an fsync Redis replies before it writes, for up to 2 s
            self.record_loss(time.time() - 2)

    async def start_redis(self, *options: str) -> None:
        """Start Redis and wait until it answers."""
        await asyncio.to_thread(self.redis.start, *options)


class Disk:
    """A disk for Redis that can be filled: a small tmpfs, or else a limit on the size of files."""

    def __init__(self, folder: Path, is_mounted: bool) -> None:
        self.folder, self.is_mounted = folder, is_mounted
        self._ballast = folder / "ballast"

    def fill(self, pid: int) -> None:
        """Fill the disk to the last byte."""
        if not self.is_mounted:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            return
        with self._ballast.open("wb", buffering=0) as ballast:
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while True:
                        ballast.write(bytes(size))

    def free(self, pid: int) -> None:
        """Free the space that `fill` took."""
        if self.is_mounted:
            self._ballast.unlink()
        else:
            with contextlib.suppress(ProcessLookupError):  # Redis has exited
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def __str__(self) -> str:
        if self.is_mounted:
            return f"a tmpfs of {DISK_BYTES >> 20} MiB"
        return "a file size limit (RLIMIT_FSIZE), because mounting a tmpfs takes root"


@contextlib.contextmanager
def mount_disk(folder: Path) -> Iterator[Disk]:
    """Yield a disk for Redis in `folder`: a tmpfs where the process may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    is_mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield Disk(folder, is_mounted)
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


#: Starts everything in a folder. The last argument is the `src` directory of another checkout whose service to run.
Start = Callable[[Path, Topology, Path | None], AbstractAsyncContextManager[Environment]]


def service_variables(topology: Topology, source: Path | None) -> dict[str, str]:
    """Return the environment variables of the service, but `REDIS_URL`."""
    variables = {"SHUTDOWN_DRAIN_SECONDS": "0", "LOG_LEVEL": "warning", **topology.environment}
    if source is not None:
        variables["PYTHONPATH"] = str(source)
    return variables


@contextlib.asynccontextmanager
async def start_one_redis(folder: Path, topology: Topology, source: Path | None) -> AsyncIterator[OneRedis]:
    """Start one Redis, the proxy and the service."""
    folder.mkdir()  # noqa: ASYNC240
    variables = service_variables(topology, source)
    options = ("--appendfsync", "always", "--busy-reply-threshold", "1", "--maxmemory-policy", "noeviction")
    with mount_disk(folder / "redis") as redis_disk:
        redis = await asyncio.to_thread(ProcessRedis, redis_disk.folder, *options, "--auto-aof-rewrite-percentage", "0")
        try:
            async with FaultProxy(redis.port).open() as proxy:
                url = f"redis://127.0.0.1:{proxy.port}/0"
                service = await asyncio.to_thread(lambda: Service(folder, REDIS_URL=url, **variables))
                try:
                    started = OneRedis(redis, redis_disk.folder, proxy, service, redis_disk)
                    await started.wait_until_ready()
                    yield started
                finally:
                    await asyncio.to_thread(service.stop, signal.SIGINT)
        finally:
            redis.remove()
            shutil.rmtree(redis_disk.folder / "appendonlydir", ignore_errors=True)
