"""One Redis, at a fixed address."""

from collections.abc import Sequence

from redis.asyncio import ConnectionPool

from service.store.auto_pipeline import AutoPipeline
from service.store.deployments.deployment import Deployment
from service.store.deployments.node import Node
from service.store.partition import Partition
from service.store.pool import shared


class StandaloneRedis(Deployment):
    """All partitions are on the Redis of a pool."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        pipeline = shared(AutoPipeline, pool)
        self._node = Node("", pool, pipeline, pipeline)
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
