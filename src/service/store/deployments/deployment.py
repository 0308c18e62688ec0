"""What a deployment of Redis must offer to `StoreClient`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final

from redis.asyncio import ConnectionPool

from service.store.deployments.node import Node
from service.store.partition import Partition
from service.store.partitions import Partitions


class Deployment(ABC):
    """Knows which node has a partition, and what to do when that has changed."""

    #: Whether each partition may be on a node of its own. Then no two partitions share a script or a transaction.
    is_cluster: ClassVar[bool] = False
    #: Whether the nodes are known, so that `node_of` works without `locate`.
    is_located: bool = True
    #: The pool of one node. Texts of errors do not show its passwords.
    pool: ConnectionPool

    def __init__(self, partitions: int) -> None:
        """Raises `ValueError` unless `partitions` is one of `PARTITION_COUNTS`."""
        self.partitions: Final = Partitions(partitions)

    @property
    @abstractmethod
    def nodes(self) -> Sequence[Node]:
        """The nodes that have partitions. A process connects to them on first use."""

    @property
    def masters(self) -> Sequence[Node]:
        """The nodes that may have keys: those of `nodes`, and others that have slots without a partition."""
        return self.nodes

    @abstractmethod
    def node_of(self, partition: Partition) -> Node:
        """Return the node that has a partition. Raises `StorePartitionUnavailable` if none has it, or if it is away."""

    def partitions_on(self, node: Node) -> Sequence[Partition]:
        """Return the partitions that a node has."""
        return self.partitions

    def clock_of(self, partition: Partition) -> Partition:
        """Return the first partition on the node of `partition`. Each node has a clock of its own."""
        return self.partitions.first

    async def locate(self, deadline: float) -> None:
        """Find the nodes, until `deadline` (s, as `time.monotonic`). Raises the errors of `AutoPipeline.ask`."""
        return

    def on_failure(self, node: Node, error: Exception) -> None:
        """Learn that a call to a node has failed. May raise a better error for it."""
        return

    async def handle(self, error: Exception, attempt: int, deadline: float) -> None:
        """Return when a call that Redis refused with `error` should be sent again, or else raise an error.

        Redis has not run the call. `attempt` is how often it was refused before.
        """
        raise error

    @abstractmethod
    async def aclose(self) -> None:
        """End the calls that are under way, and release their connections. Pools that were given stay open."""
