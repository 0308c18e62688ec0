"""One Redis server: the connections to it, and what this process knows of its clock and its data."""

import asyncio
from typing import Final

from redis.asyncio import ConnectionPool, Redis

from service.domain.errors import StorePartitionUnavailable
from service.store.auto_pipeline import AutoPipeline
from service.store.pool import shared
from service.store.redis_errors import error_text
from service.store.replicas import ReplicatedPipeline, Wait
from service.store.server_clock import ServerClock


class Node:
    """A Redis server that has partitions."""

    #: Whether it does not answer. Calls that need it fail at once, and those that can do without it leave it out.
    is_away = False

    def __init__(self, name: str, pool: ConnectionPool, pipeline: AutoPipeline, changes: AutoPipeline) -> None:
        #: `host:port`; empty at a fixed address.
        self.name = name
        self.pool: Final = pool
        #: For rare commands, and for its conversions of replies.
        self.redis: Final[Redis] = Redis(connection_pool=pool)
        #: Sends reads, and scripts whose changes need no replicas.
        self.pipeline: Final = pipeline
        #: Sends scripts that acknowledge changes.
        self.changes: Final = changes
        self.clock: Final = ServerClock()
        #: The transports over which the clock and the data were last checked.
        self._checked_over: dict[AutoPipeline, asyncio.Transport | None] = {}

    def is_checked(self, pipeline: AutoPipeline) -> bool:
        """Whether the clock is fresh, and that of the Redis which gets the next call, as far as this process knows."""
        transport = pipeline.transport
        return self.clock.is_fresh and transport is not None and transport is self._checked_over.get(pipeline)

    def set_checked(self, pipeline: AutoPipeline, micros: int) -> None:
        """Set the clock to the time (µs since 1970) in a reply that has just arrived, after a check of the data."""
        self.clock.set(micros)
        self._checked_over[pipeline] = pipeline.transport

    async def aclose(self) -> None:
        """End the calls that are under way, and release their connections. The pool stays open."""
        for pipeline in {self.pipeline, self.changes}:
            await pipeline.aclose()


def partition_unavailable(node: Node, error: Exception | None = None) -> StorePartitionUnavailable:
    """Return the error of a call that needs a node which is away, or has failed by `error`."""
    if isinstance(error, StorePartitionUnavailable):
        return error
    text = f"{node.name}: {error_text(error, node.pool)}" if error else f"{node.name} does not answer"
    return StorePartitionUnavailable(f"{StorePartitionUnavailable.default_detail} ({text})")


def create_node(name: str, pool: ConnectionPool, wait_replicas: int = 0) -> Node:
    """Return the node of a pool. It shares its connections with other nodes of this pool."""
    pipeline = shared(AutoPipeline, pool)
    changes = shared(ReplicatedPipeline, pool, Wait(wait_replicas)) if wait_replicas else pipeline
    return Node(name, pool, pipeline, changes)
