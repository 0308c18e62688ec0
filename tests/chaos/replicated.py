"""The environments of Sentinel and Redis Cluster: masters with replicas, and the service."""

import asyncio
import contextlib
import signal
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Iterator
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

from redis.crc import key_slot

from service.store.deployments import open_deployment
from service.store.partition import Partition
from tests.chaos.environment import Environment, Start, Topology, service_variables
from tests.chaos.history import CLOCK_TOLERANCE
from tests.helpers import network
from tests.helpers.clocks import FakeClock
from tests.helpers.deployments import raw_client
from tests.helpers.partitions import PARTITIONS
from tests.helpers.polling import wait_until
from tests.helpers.redis_cluster import Cluster
from tests.helpers.redis_sentinel import SentinelSet
from tests.helpers.redis_servers import ProcessRedis, ServerProcess
from tests.helpers.service_process import Service

#: How often a tenth of a second is waited for until the sentinels name the master.
MAX_TRIES: Final = 300
#: The replicas of each master.
REPLICAS: Final = {"sentinel": 2, "cluster": 1}


#: The most seconds by which a fault sets the clock of a server ahead or back.
MAX_SKEW: Final = 5.0


class Reached(Enum):
    """Whether the service reaches servers that are cut off from the others."""

    BY_ALL = auto()
    #: Half of its connections do.
    BY_HALF = auto()
    NOT = auto()


class Replicated(Environment):
    """Masters with replicas. Each method returns when what it does is done."""

    #: `/ready` needs one partition only; the counts need all.
    READY_PATHS: ClassVar[tuple[str, ...]] = ("/ready", "/v1/stats")

    def __init__(self, servers: SentinelSet | Cluster, service: Service, wait_replicas: int, replicas: int) -> None:
        super().__init__(service)
        self._servers = servers
        self.wait_replicas = wait_replicas
        #: The replicas of each master.
        self.replicas = replicas

    @contextlib.asynccontextmanager
    async def redis_client(self) -> AsyncIterator[Any]:
        """Yield a client of the present masters."""
        async with raw_client(self.url, socket_timeout=10, protocol=2) as redis:
            yield redis

    @contextlib.asynccontextmanager
    async def open_pool(self) -> AsyncIterator[Any]:
        """Yield a deployment."""
        deployment = open_deployment(self.url, partitions=PARTITIONS.size)
        try:
            yield deployment
        finally:
            await deployment.aclose()

    @property
    def url(self) -> str:
        """The `REDIS_URL` of the service."""
        return self._servers.url

    async def wait_until_whole(self) -> None:
        """Wait until all servers are up and all replicas in sync."""
        await asyncio.to_thread(self._servers.wait_until_whole)

    async def wait_for_failover(self, failed: ProcessRedis, cut_off: Collection[ServerProcess] = ()) -> ProcessRedis:
        """Wait until the servers that are not cut off see another master in place of `failed`, and return it."""
        return await asyncio.to_thread(self._servers.wait_for_failover, failed, cut_off)

    @contextlib.asynccontextmanager
    async def clocks(self) -> AsyncIterator[list[FakeClock]]:
        """Yield the clocks of all servers. Afterwards they are right, and a new event has the right time."""
        clocks = [one.clock for one in self._servers.processes if one.clock]
        self.history.clock_tolerance = CLOCK_TOLERANCE + MAX_SKEW
        try:
            yield clocks
        finally:
            for clock in clocks:
                clock.set(0)
        await asyncio.sleep(MAX_SKEW)  # the time of an event is never before that of the last one

    @contextlib.contextmanager
    def cut_off(self, side: Collection[ServerProcess], reached: Reached) -> Iterator[None]:
        """Cut some servers off from all others, and from the service, unless that reaches them."""
        hosts = {one.host for one in side}
        others = {one.host for one in self._servers.processes if one not in side}
        if reached is Reached.NOT:
            others.add(network.LOCALHOST)
        with network.cut(hosts, others, hosts if reached is Reached.BY_HALF else ()):
            yield

    @abstractmethod
    async def choose_master(self) -> ProcessRedis:
        """Return one of the masters."""

    async def partitions_of(self, master: ProcessRedis) -> frozenset[int]:
        """Return the numbers of the partitions that a master has."""
        return frozenset(range(len(PARTITIONS)))

    @abstractmethod
    async def replicas_of(self, master: ProcessRedis) -> list[ProcessRedis]:
        """Return the replicas of a master."""

    @abstractmethod
    async def plan_failover(self, master: ProcessRedis) -> None:
        """Make a replica the master without the loss of a change, as before work on the master."""

    @abstractmethod
    async def force_failover(self, master: ProcessRedis) -> None:
        """Make a replica the master, although it may lack changes."""


class WithSentinel(Replicated):
    """A master that sentinels name."""

    _servers: SentinelSet

    @contextlib.asynccontextmanager
    async def redis_client(self) -> AsyncIterator[Any]:
        """Yield a client of the master: soon after a failover a sentinel may still name the former one."""
        for _ in range(MAX_TRIES):
            async with super().redis_client() as redis:
                if (await redis.role())[0] == b"master":
                    yield redis
                    return
            await asyncio.sleep(0.1)
        raise TimeoutError("the sentinels do not name the master")

    async def choose_master(self) -> ProcessRedis:
        """Return the master."""
        return await asyncio.to_thread(lambda: self._servers.master)

    async def replicas_of(self, master: ProcessRedis) -> list[ProcessRedis]:
        """Return all other servers."""
        return [server for server in self._servers.servers if server is not master]

    def minority_of(self, master: ProcessRedis) -> list[ServerProcess]:
        """Return the master with one of two replicas and one of three sentinels."""
        replica = self.rng.choice([server for server in self._servers.servers if server is not master])
        return [master, replica, self._servers.sentinels[0]]

    async def plan_failover(self, master: ProcessRedis) -> None:
        """Pause changes, so that both replicas have all of them, then let the sentinels promote one.

        The pause also keeps the sentinels from making the former master a replica.
        """
        await asyncio.to_thread(master.call, "CLIENT", "PAUSE", 20_000, "WRITE")
        promoted = await asyncio.to_thread(self._servers.failover)
        await asyncio.to_thread(master.call, "REPLICAOF", promoted.host, promoted.port)
        await asyncio.to_thread(master.call, "CLIENT", "UNPAUSE")

    async def force_failover(self, master: ProcessRedis) -> None:
        """Let the sentinels promote a replica, while the former master accepts changes for seconds."""
        await asyncio.to_thread(self._servers.failover)


class WithCluster(Replicated):
    """A cluster, whose slots can move."""

    _servers: Cluster

    async def choose_master(self) -> ProcessRedis:
        """Return one of the masters."""
        return self.rng.choice(await self._masters())

    async def partitions_of(self, master: ProcessRedis) -> frozenset[int]:
        """Return the numbers of the partitions that a master has."""
        owners = await asyncio.to_thread(lambda: [self._servers.master_of(one) for one in PARTITIONS])
        return frozenset(number for number, owner in enumerate(owners) if owner is master)

    async def _masters(self) -> list[ProcessRedis]:
        """Return all masters that have slots."""
        return await asyncio.to_thread(lambda: self._servers.masters)

    async def replicas_of(self, master: ProcessRedis) -> list[ProcessRedis]:
        """Return the replicas of a master."""
        return await asyncio.to_thread(self._servers.replicas_of, master)

    async def plan_failover(self, master: ProcessRedis) -> None:
        """Let a replica take over when it has all changes."""
        [replica, *_] = await self.replicas_of(master)
        await asyncio.to_thread(replica.call, "CLUSTER", "FAILOVER")
        await self.wait_for_failover(master)

    async def force_failover(self, master: ProcessRedis) -> None:
        """Let a replica take over at once."""
        [replica, *_] = await self.replicas_of(master)
        await asyncio.to_thread(replica.call, "CLUSTER", "FAILOVER", "TAKEOVER")
        await self.wait_for_failover(master)

    async def move(self, partition: Partition, seconds: float) -> None:
        """Move the keys of a partition to another master, a few at a time, in about `seconds`."""
        source = await asyncio.to_thread(self._servers.master_of, partition)
        target = self.rng.choice([node for node in await self._masters() if node is not source])
        await asyncio.to_thread(_announce, partition, source, target)
        while await asyncio.to_thread(_move_some, partition, source, target):  # noqa: ASYNC110
            await asyncio.sleep(seconds / 20)
        await asyncio.to_thread(self._hand_over, partition, source, target)

    async def move_at_once(self, partition: Partition) -> None:
        """Let the source send a copy of a partition and its changes to another master, and then hand it over."""
        source = await asyncio.to_thread(self._servers.master_of, partition)
        target = self.rng.choice([node for node in await self._masters() if node is not source])
        slot = slot_of(partition)
        await asyncio.to_thread(_migrate, slot, source, target)

    def _hand_over(self, partition: Partition, source: ProcessRedis, target: ProcessRedis) -> None:
        others = [node for node in self._servers.masters if node not in (source, target)]
        for node in (target, source, *others):
            node.call("CLUSTER", "SETSLOT", slot_of(partition), "NODE", target.call("CLUSTER", "MYID"))


def slot_of(partition: Partition) -> int:
    """Return the slot of a partition's keys."""
    return key_slot(partition.root.encode())


def _migrate(slot: int, source: ProcessRedis, target: ProcessRedis) -> None:
    """Move a slot as Valkey 9 does, and wait for the end."""
    target_id = target.call("CLUSTER", "MYID")
    source.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target_id)

    def state() -> str | None:
        [newest, *_] = source.call("CLUSTER", "GETSLOTMIGRATIONS")
        fields = dict(zip(newest[::2], newest[1::2], strict=True))
        return fields["state"] if fields["state"] in {"success", "failed", "canceled"} else None

    ended = wait_until(state, f"the migration of slot {slot}")
    assert ended == "success", f"the migration of slot {slot}: {ended}"


def _announce(partition: Partition, source: ProcessRedis, target: ProcessRedis) -> None:
    slot = slot_of(partition)
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.call("CLUSTER", "MYID"))
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.call("CLUSTER", "MYID"))


def _move_some(partition: Partition, source: ProcessRedis, target: ProcessRedis) -> bool:
    """Move a twentieth of the keys, and return whether any were left."""
    slot = slot_of(partition)
    count = source.call("CLUSTER", "COUNTKEYSINSLOT", slot) // 20 + 5
    if names := source.call("CLUSTER", "GETKEYSINSLOT", slot, count):
        source.call("MIGRATE", target.host, target.port, "", 0, 5000, "KEYS", *names)
    return bool(names)


@contextlib.asynccontextmanager
async def start_replicated(
    backend: str, wait_replicas: int, folder: Path, topology: Topology, source: Path | None
) -> AsyncIterator[Replicated]:
    """Start the servers of a backend and the service."""
    folder.mkdir()  # noqa: ASYNC240
    replicas = REPLICAS[backend]
    start = partial(SentinelSet, folder, replicas) if backend == "sentinel" else partial(Cluster, folder, 3, replicas)
    servers = await asyncio.to_thread(start, has_clocks=topology.has_clocks)
    try:
        variables = {"REDIS_WAIT_REPLICAS": str(wait_replicas), **service_variables(topology, source)}
        service = await asyncio.to_thread(lambda: Service(folder, REDIS_URL=servers.url, **variables))
        try:
            kind = WithSentinel if backend == "sentinel" else WithCluster
            started = kind(servers, service, wait_replicas, replicas)
            await started.wait_until_ready()
            yield started
        finally:
            await asyncio.to_thread(service.stop, signal.SIGINT)
    finally:
        await asyncio.to_thread(servers.remove)


def replicated(backend: str, wait_replicas: int) -> Start:
    """Return what starts the environment of a backend, where `wait_replicas` replicas acknowledge each change."""
    return partial(start_replicated, backend, wait_replicas)
