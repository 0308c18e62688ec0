"""A Redis Cluster of processes on loopback, whose nodes a test may kill; and the library on one partition of it."""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from redis.asyncio import ConnectionPool
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from service.store.auto_pipeline import AutoPipeline
from service.store.client import StoreClient
from service.store.data_check import DataCheck
from service.store.deployments.node import Node
from service.store.observer import Observer
from service.store.partition import Partition
from service.store.partitions import Partitions
from service.store.records import time_reply_to_micros
from tests.helpers.clocks import FakeClock
from tests.helpers.network import address
from tests.helpers.polling import free_ports, wait_until
from tests.helpers.redis_servers import ProcessRedis, ServerProcess, server_program

#: Milliseconds after which the others suspect a node that does not answer.
NODE_TIMEOUT_MS: Final = 1000


class Cluster:
    """Masters with equal ranges of slots, each with its replicas. It needs two seconds until it accepts changes."""

    def __init__(
        self, folder: Path, masters: int = 3, replicas: int = 0, *options: str, has_clocks: bool = False
    ) -> None:
        """Start the servers; `has_clocks` gives each a clock that can be set."""
        count = masters * (1 + replicas)
        hosts = [address(0, number) for number in range(count)]
        ports = free_ports(*hosts, *hosts)  # by default a bus has the node's port plus 10,000, which may be none
        self._options = options

        def start(number: int) -> ProcessRedis:
            own = folder / f"node{number}"
            own.mkdir(parents=True)
            clock = FakeClock(own / "clock") if has_clocks else None
            return _start_node(own, hosts[number], ports[number], ports[count + number], options, clock)

        with ThreadPoolExecutor(count) as threads:
            #: All servers: first those that were started as masters, in the order of their slots, then the replicas.
            self.nodes: Final = list(threads.map(start, range(count)))
        self._ids = [node.call("CLUSTER", "MYID") for node in self.nodes]
        self._join(masters, ports)
        for number, node in enumerate(self.nodes[masters:]):
            master = self._ids[number % masters]
            wait_until(lambda node=node, master=master: master in node.call("CLUSTER", "NODES"), "a known master")
            node.call("CLUSTER", "REPLICATE", master)
        self.wait_until_whole()

    def _join(self, masters: int, ports: list[int]) -> None:
        for number, node in enumerate(self.nodes):
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < masters:
                first, end = (REDIS_CLUSTER_HASH_SLOTS * at // masters for at in (number, number + 1))
                node.call("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            for other in range(number):
                node.call("CLUSTER", "MEET", self.nodes[other].host, ports[other], ports[len(self.nodes) + other])

    @property
    def processes(self) -> list[ServerProcess]:
        """All servers."""
        return [*self.nodes]

    @property
    def urls(self) -> list[str]:
        """The URL of each node, as of a Redis of its own."""
        return [f"redis://{node.name}/0" for node in self.nodes]

    @property
    def url(self) -> str:
        """The URL of the cluster, which names all nodes."""
        return "redis+cluster://" + ",".join(node.name for node in self.nodes)

    @property
    def masters(self) -> list[ProcessRedis]:
        """The nodes that have slots now, in the order of their first slots."""
        slots = sorted(self._ask("CLUSTER", "SLOTS"), key=lambda held: held[0])
        return list({port: self._at(port) for _, _, (_, port, *_), *_ in slots}.values())

    def master_of(self, partition: Partition) -> ProcessRedis:
        """Return the node that has the keys of a partition now."""
        slot = key_slot(partition.root.encode())
        slots = self._ask("CLUSTER", "SLOTS")
        return next(self._at(master[1]) for first, last, master, *_ in slots if first <= slot <= last)

    def replicas_of(self, master: ProcessRedis) -> list[ProcessRedis]:
        """Return the replicas of a master that are connected to it."""
        return [self._at(int(port)) for _, port, _ in master.call("ROLE")[2]] if _is_master(master) else []

    def node(self, name: str) -> ProcessRedis:
        """Return the node with a name (`host:port`)."""
        return next(node for node in self.nodes if node.name == name)

    def wait_until_whole(self) -> None:
        """Wait until every node is up and accepts calls, knows all others, and every replica is in sync."""
        wait_until(lambda: all(map(self._is_whole, self.nodes)), "a whole cluster")

    def wait_for_failover(self, failed: ProcessRedis, cut_off: Collection[ServerProcess] = ()) -> ProcessRedis:
        """Wait until all other nodes see another master in the place of one that had slots. Return the new master.

        Nodes that are `cut_off` are not asked.
        """
        others = [node for node in self.nodes if not (node is failed or node in cut_off or node.has_exited)]
        failed_id = self._ids[self.nodes.index(failed)]

        def is_over() -> bool:
            return all(_holds_all_slots_without(failed_id, node.call("CLUSTER", "NODES")) for node in others)

        held = self._first_slots(failed_id, others[0])
        wait_until(is_over, f"a failover of {failed.name}")
        slots = others[0].call("CLUSTER", "SLOTS")
        return next(self._at(master[1]) for first, _, master, *_ in slots if first in held or not held)

    def _first_slots(self, node_id: str, asked: ProcessRedis) -> set[int]:
        return {first for first, _, master, *_ in asked.call("CLUSTER", "SLOTS") if master[2] == node_id}

    def remove(self) -> None:
        """Kill all nodes."""
        for node in self.nodes:
            node.remove()

    def _at(self, port: int) -> ProcessRedis:
        return next(node for node in self.nodes if node.port == port)

    def _ask(self, *command: str) -> list:  # type: ignore[type-arg]
        return next(node for node in self.nodes if not node.has_exited).call(*command)  # type: ignore[no-any-return]

    def _is_whole(self, node: ProcessRedis) -> bool:
        info = _fields(node.call("CLUSTER", "INFO"))
        if info["cluster_state"] != "ok" or int(info["cluster_known_nodes"]) != len(self.nodes):
            return False
        lines = node.call("CLUSTER", "NODES").splitlines()
        if any(word in line for line in lines for word in ("fail", "handshake", "noaddr", "disconnected")):
            return False
        return _is_master(node) or node.call("ROLE")[3] == "connected"


def _start_node(
    folder: Path, host: str, port: int, bus: int, options: Sequence[str], clock: FakeClock | None
) -> ProcessRedis:
    of_cluster = {
        "cluster-enabled": "yes",
        "cluster-announce-ip": host,
        "cluster-port": str(bus),
        "cluster-node-timeout": str(NODE_TIMEOUT_MS),
        "cluster-require-full-coverage": "no",
        "repl-diskless-sync-delay": "0",
    }
    named = [word for name, value in of_cluster.items() for word in (f"--{name}", value)]
    return ProcessRedis(folder, *named, *options, program=server_program(), port=port, host=host, clock=clock)


def _fields(info: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.split())


def _is_master(node: ProcessRedis) -> bool:
    return bool(node.call("ROLE")[0] == "master")


def _holds_all_slots_without(failed_id: str, nodes: str) -> bool:
    """Return whether the masters of a `CLUSTER NODES` reply have all slots, and the failed node has none."""
    count = 0
    for line in nodes.splitlines():
        node_id, *_ = words = line.split()
        ranges = [word.split("-") for word in words[8:] if not word.startswith("[")]
        if ranges and (node_id == failed_id or "fail" in words[2].split(",")):
            return False
        count += sum(int(held[-1]) - int(held[0]) + 1 for held in ranges)
    return count == REDIS_CLUSTER_HASH_SLOTS


@contextlib.contextmanager
def running_cluster(folder: Path, masters: int = 3, replicas: int = 0, *options: str) -> Iterator[Cluster]:
    """Yield a whole cluster, and kill its nodes at the end."""
    cluster = Cluster(folder, masters, replicas, *options)
    try:
        yield cluster
    finally:
        cluster.remove()


class OnePartition(Partitions):
    """A partition, as if it had all jobs."""

    def __init__(self, partition: Partition) -> None:
        super().__init__()
        self._all = (partition,)
        self.first = partition


class NodeClient(StoreClient):
    """A client of one partition on its node. The version and the number of partitions are on other nodes."""

    def __init__(self, pool: ConnectionPool, partition: Partition, observer: Observer) -> None:
        super().__init__(pool, observer)
        self.partitions = OnePartition(partition)
        self._data = TimeOnly(self.deployment, None)
        self._data.registered.add(partition)


class TimeOnly(DataCheck):
    """Reads the clock only."""

    async def check(self, node: Node, pipeline: AutoPipeline, deadline: float) -> None:
        """Read the clock of a node."""
        [time] = await pipeline.ask(("TIME",), until=deadline)
        node.set_checked(pipeline, time_reply_to_micros(time))
