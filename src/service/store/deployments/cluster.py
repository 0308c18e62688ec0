"""The masters of a Redis Cluster, and which of them has which partition."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final

import structlog
from redis import exceptions as redis_errors
from redis.crc import key_slot

from service.domain.errors import StorePartitionUnavailable, StoreUnreachable
from service.settings.redis_url import RedisAddress
from service.store.deadlines import gather
from service.store.deployments.deployment import Deployment
from service.store.deployments.node import Node, create_node, partition_unavailable
from service.store.deployments.retries import retry_delay
from service.store.deployments.watch import Watch
from service.store.partition import Partition
from service.store.pool import create_pool
from service.store.redis_errors import NODE_ERRORS, REDIRECTIONS, error_text, map_error, parse_reply, raise_errors

#: Seconds between two reads of the map of slots, and while a node is away or a partition has none.
MAP_INTERVAL: Final = 10.0
AWAY_INTERVAL: Final = 0.5
#: Seconds that a node has to tell the map, and to show that it is not away.
ANSWER_TIMEOUT: Final = 0.5
#: How often a call follows the address in a `MOVED` reply at once.
MAX_MOVES: Final = 3

_log = structlog.get_logger(__name__)


class RedisCluster(Deployment):
    """The partitions are on the masters of a cluster.

    A call goes to the node that the map names. It never follows `ASK`: a script that runs where a partition is moved to
    would not see the keys that are not moved yet.
    """

    is_cluster: ClassVar[bool] = True
    is_located = False

    def __init__(
        self, address: RedisAddress, partitions: int = 16, *, max_connections: int = 9, wait_replicas: int = 0
    ) -> None:
        """Learn the nodes from the seed nodes of `address`. `max_connections` and `wait_replicas` are those per node.

        Raises `ValueError` for one partition, whose keys have no common slot.
        """
        super().__init__(partitions)
        if partitions == 1:
            raise ValueError("a cluster needs several partitions")
        self._address = address
        self._max_connections, self._wait_replicas = max_connections, wait_replicas
        #: All nodes that were ever named, by host and port. Most of them come back.
        self._known: dict[tuple[str, int], Node] = {}
        seeds = [self._node_at(*server) for server in address.servers]
        self.pool = seeds[0].pool
        self._slots: Final = [key_slot(one.root.encode()) for one in self.partitions]
        #: The node of each partition, by number.
        self._owners: list[Node | None] = [None] * len(self._slots)
        #: The nodes that have slots, as the map was last read.
        self._masters: list[Node] = []
        #: Nodes whose last call failed.
        self._suspects: set[Node] = set()
        #: The node that reported the map, and one that reported a map in which a node replied `CLUSTERDOWN`. A node
        #: that is cut off from the others replies so, and goes on reporting that it has its slots.
        self._reporter: Node | None = None
        self._doubted: Node | None = None
        #: Whether the last read of the map failed.
        self._has_failed = False
        self._reading: asyncio.Task[None] | None = None
        self._watch = Watch(self._look)

    @property
    def nodes(self) -> Sequence[Node]:
        """The nodes that have partitions, in the order of the partitions."""
        return [node for node in dict.fromkeys(self._owners) if node is not None]

    @property
    def masters(self) -> Sequence[Node]:
        """The nodes that have slots, first those that have partitions."""
        return [*dict.fromkeys((*self.nodes, *self._masters))]

    def node_of(self, partition: Partition) -> Node:
        """Return the node that has a partition. Raises `StorePartitionUnavailable` if none has it, or if it is away."""
        node = self._owners[partition.number]
        if node is None:
            raise StorePartitionUnavailable(f"{StorePartitionUnavailable.default_detail} (no node has its slot)")
        if node.is_away:
            raise partition_unavailable(node)
        return node

    def partitions_on(self, node: Node) -> Sequence[Partition]:
        """Return the partitions that a node has."""
        return [one for one, owner in zip(self.partitions, self._owners, strict=True) if owner is node]

    def clock_of(self, partition: Partition) -> Partition:
        """Return the first partition on the node of `partition`, or `partition` itself if that is not known."""
        owner = self._owners[partition.number]
        return partition if owner is None else self.partitions[self._owners.index(owner)]

    async def locate(self, deadline: float) -> None:
        """Read the map of slots for the first time. Concurrent callers share one read."""
        self._watch.start()
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_map())
            self._reading.add_done_callback(lambda reading: reading.cancelled() or reading.exception())  # retrieved
        async with asyncio.timeout(deadline - time.monotonic()):
            await asyncio.shield(self._reading)

    def on_failure(self, node: Node, error: Exception) -> None:
        """Look at once whether a node is away. Raises `StorePartitionUnavailable` for a broken connection."""
        kind = map_error(error)
        if isinstance(error, TimeoutError | redis_errors.TimeoutError) or kind is StoreUnreachable:
            self._suspects.add(node)
            self._watch.wake()
        if kind is StoreUnreachable:
            raise partition_unavailable(node, error) from error

    async def handle(self, error: Exception, attempt: int, deadline: float) -> None:
        """Return when the map is corrected, or after a moment for a partition that is on its way."""
        if not isinstance(error, REDIRECTIONS):
            raise error
        if isinstance(error, redis_errors.ClusterDownError):
            self._doubted = self._reporter
        self._watch.wake()
        if isinstance(error, redis_errors.MovedError) and error.host and attempt < MAX_MOVES:
            self._set_owner(error.slot_id, self._node_at(error.host, error.port))
            return
        delay = retry_delay(attempt)
        if time.monotonic() + delay > deadline:
            raise error
        await asyncio.sleep(delay)

    async def aclose(self) -> None:
        """End the calls that are under way, and close all connections."""
        await self._watch.aclose()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        for node in self._known.values():
            await node.aclose()
            await node.pool.disconnect()

    def _node_at(self, host: str, port: int) -> Node:
        if (host, port) not in self._known:
            pool = create_pool(self._address.url_of(host, port), max_connections=self._max_connections)
            self._known[host, port] = create_node(f"{host}:{port}", pool, self._wait_replicas)
        return self._known[host, port]

    def _set_owner(self, slot: int, node: Node) -> None:
        for number, own in enumerate(self._slots):
            if own == slot:
                self._owners[number] = node

    async def _read_map(self) -> None:
        """Take the map of slots from the first node that tells it. Raises why the last one did not."""
        failure: Exception | None = None
        for node in self._candidates():
            try:
                asked = node.pipeline.ask(("CLUSTER", "SLOTS"), until=time.monotonic() + ANSWER_TIMEOUT)
                ranges = parse_reply("CLUSTER SLOTS", _parse_ranges, *raise_errors(await asked))
            except NODE_ERRORS as error:
                failure = error
                continue
            self._masters = []
            for start, end, host, port in ranges:
                owner = self._node_at(host or node.name.rpartition(":")[0], port)
                self._masters.append(owner)
                for number, slot in enumerate(self._slots):
                    if start <= slot <= end:
                        self._owners[number] = owner
            covered = [any(start <= slot <= end for start, end, *_ in ranges) for slot in self._slots]
            self._owners = [owner if is_in else None for owner, is_in in zip(self._owners, covered, strict=True)]
            self.is_located = True
            self._reporter = node
            return
        assert failure
        raise failure

    def _candidates(self) -> Iterator[Node]:
        """Yield the nodes to ask for the map: those that have partitions, then the others that are known."""
        known = [*dict.fromkeys((*self.nodes, *self._known.values()))]
        yield from sorted(known, key=lambda node: node.is_away or node in self._suspects or node is self._doubted)

    async def _look(self) -> float:
        """Read the map, and find out which nodes are away. Returns the seconds until the next look."""
        try:
            await self._read_map()
            self._has_failed = False
        except NODE_ERRORS as error:
            if not self._has_failed:
                _log.warning("cluster map read failed", detail=error_text(error, self.pool))
            self._has_failed = True
        holders = self.nodes
        self._suspects.update(node for node in holders if node.is_away)
        self._suspects.intersection_update(holders)
        await gather(map(self._examine, [*self._suspects]))
        return AWAY_INTERVAL if self._suspects or None in self._owners else MAP_INTERVAL

    async def _examine(self, node: Node) -> None:
        try:
            await _ping(node)
        except NODE_ERRORS as error:
            if not node.is_away:
                _log.warning("redis node away", node=node.name, detail=error_text(error, node.pool))
            node.is_away = True
        else:
            if node.is_away:
                _log.info("redis node back", node=node.name)
            node.is_away = False
            self._suspects.discard(node)


async def _ping(node: Node) -> None:
    """Return if a node answers. It is asked again over a new connection if the connection breaks meanwhile."""
    deadline = time.monotonic() + ANSWER_TIMEOUT
    try:
        await node.pipeline.ask(("PING",), until=deadline)
    except redis_errors.ConnectionError:
        await node.pipeline.ask(("PING",), until=deadline)


def _parse_ranges(reply: list[Any]) -> list[tuple[int, int, str, int]]:
    """Return the first and last slot of each range, and host and port of its master. An empty host is the one asked."""
    return [(start, end, (host or b"").decode(), port) for start, end, [host, port, *_], *_ in reply]
