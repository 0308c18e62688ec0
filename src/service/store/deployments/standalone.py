"""One Redis, at a fixed address."""

from collections.abc import Sequence

from redis.asyncio import ConnectionPool

from service.store.deployments.deployment import Deployment
from service.store.deployments.node import Node, create_node
from service.store.partition import Partition


class StandaloneRedis(Deployment):
    """All partitions are on the Redis of a pool."""

    def __init__(self, pool: ConnectionPool, partitions: int = 1, *, wait_replicas: int = 0) -> None:
        """Use `pool`, which stays open. A change is acknowledged once `wait_replicas` replicas have it."""
        super().__init__(partitions)
        self.pool = pool
        self._node = create_node("", pool, wait_replicas)
        self._nodes = (self._node,)

    @property
    def nodes(self) -> Sequence[Node]:
        """The only node."""
        return self._nodes

    def node_of(self, partition: Partition) -> Node:
        """Return the only node."""
        return self._node

    async def aclose(self) -> None:
        """End the calls that are under way. The pool stays open; other clients of it send theirs again."""
        await self._node.aclose()
