"""A Redis Cluster of two masters, and the library on one partition of it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis as sync_redis
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
from tests.helpers.polling import free_port, wait_until
from tests.helpers.redis_servers import ProcessRedis

MASTERS = 2


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[list[int]]:
    """Yield the ports of masters that have equal ranges of slots, in the order of the slots."""
    with contextlib.ExitStack() as started:
        ports: list[int] = []
        buses: list[int] = []
        for number in range(MASTERS):
            own = folder / f"node{number}"
            own.mkdir()
            bus = free_port()  # by default the port plus 10,000, which may be none
            options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", str(bus))
            server = ProcessRedis(own, *options)
            started.callback(server.remove)
            ports.append(server.port)
            buses.append(bus)
        nodes: list[Any] = [started.enter_context(contextlib.closing(sync_redis.Redis(port=port))) for port in ports]
        for number, node in enumerate(nodes):
            first, end = (REDIS_CLUSTER_HASH_SLOTS * at // MASTERS for at in (number, number + 1))
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            node.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0], buses[0])
        for node in nodes:
            wait_until(lambda node=node: _is_whole(node), "a whole cluster")
        yield ports


def _is_whole(node: Any) -> bool:
    info = node.execute_command("CLUSTER", "INFO")
    held = info if isinstance(info, dict) else dict(line.split(":", 1) for line in info.decode().split())
    return held["cluster_state"] == "ok" and int(held["cluster_known_nodes"]) == MASTERS


def port_of(partition: Partition, ports: list[int]) -> int:
    """Return the port of the master that has the keys of a partition."""
    return ports[key_slot(partition.root.encode()) * len(ports) // REDIS_CLUSTER_HASH_SLOTS]


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


class TimeOnly(DataCheck):
    """Reads the clock only."""

    async def check(self, node: Node, pipeline: AutoPipeline, deadline: float) -> None:
        """Read the clock of a node."""
        [time] = await pipeline.ask(("TIME",), until=deadline)
        node.set_checked(pipeline, time_reply_to_micros(time))
