"""The master that Sentinel names, which changes with a failover."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final, cast

import structlog
from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import Sentinel

from service.settings.redis_url import RedisAddress
from service.store.deployments.deployment import Deployment
from service.store.deployments.node import Node, create_node
from service.store.deployments.retries import retry_delay
from service.store.deployments.watch import Watch
from service.store.partition import Partition
from service.store.pool import RedisPool, create_pool

#: Seconds between two questions to Sentinel.
ASK_INTERVAL: Final = 1.0
#: Seconds that one sentinel has for its answer.
SENTINEL_TIMEOUT: Final = 0.5

_log = structlog.get_logger(__name__)


class SentinelPool(RedisPool):
    """A pool whose connections go to the present master."""

    #: Knows the master.
    deployment: "SentinelRedis"

    async def connect(self, connection: AbstractConnection) -> None:
        """Open a connection to the master. Raises `ConnectionError` for a server that is not a master (any more)."""
        connection.host, connection.port = await self.deployment.find_master()  # type: ignore[attr-defined]
        await super().connect(connection)
        try:
            await connection.send_command("ROLE")
            role, *_ = await connection.read_response()
            if role != b"master":
                self.deployment.prefer_other_sentinels()
                raise redis_errors.ConnectionError(f"{self.deployment.nodes[0].name} is not a master")
        except BaseException:  # else the pool would use it as it is
            await connection.disconnect(nowait=True)
            raise


class SentinelRedis(Deployment):
    """All partitions are on the master that the sentinels name."""

    def __init__(
        self, address: RedisAddress, partitions: int = 1, *, max_connections: int = 9, wait_replicas: int = 0
    ) -> None:
        """Ask the sentinels of `address`. A change is acknowledged once `wait_replicas` replicas have it."""
        super().__init__(partitions)
        self._service = address.master_name
        limits: dict[str, Any] = {"socket_timeout": SENTINEL_TIMEOUT, "socket_connect_timeout": SENTINEL_TIMEOUT}
        options = {**limits, **address.sentinel_options}
        self._sentinel = Sentinel(address.servers, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        any_host = address.url_of("master", 1)
        pool = cast("SentinelPool", create_pool(any_host, max_connections=max_connections, kind=SentinelPool))
        pool.deployment = self
        self.pool = pool
        self._node = create_node("", pool, wait_replicas)
        self._nodes = (self._node,)
        self._watch = Watch(self._look)

    @property
    def nodes(self) -> Sequence[Node]:
        """The node of the master."""
        return self._nodes

    def node_of(self, partition: Partition) -> Node:
        """Return the node of the master."""
        return self._node

    async def find_master(self) -> tuple[str, int]:
        """Return host and port of the master, and close the connections to a former one.

        Raises `ConnectionError` if no sentinel knows a master that is up.
        """
        self._watch.start()
        host, port = await self._sentinel.discover_master(self._service)
        name, before = f"{host}:{port}", self._node.name
        if name != before:
            _log.info("redis master found", master=self._service, node=name, before=before or None)
            self._node.name = name
            if before:  # it may go on accepting changes, which are lost
                await self.pool.disconnect()
        return host, int(port)

    def prefer_other_sentinels(self) -> None:
        """Ask another sentinel first from now on: the one that was asked does not know of a failover yet."""
        sentinels = self._sentinel.sentinels
        sentinels.append(sentinels.pop(0))

    async def _look(self) -> float:
        with contextlib.suppress(redis_errors.RedisError, OSError):  # the calls fail, and say so
            await self.find_master()
        return ASK_INTERVAL

    def on_failure(self, node: Node, error: Exception) -> None:
        """Ask the sentinels at once."""
        self._watch.wake()

    async def handle(self, error: Exception, attempt: int, deadline: float) -> None:
        """Return after a moment if the node is not a master any more: the next connection goes to the present one."""
        delay = retry_delay(attempt)
        if not isinstance(error, redis_errors.ReadOnlyError) or time.monotonic() + delay > deadline:
            raise error
        await self.pool.disconnect()
        await asyncio.sleep(delay)

    async def aclose(self) -> None:
        """End the calls that are under way, and close all connections."""
        await self._watch.aclose()
        await self._node.aclose()
        await self.pool.disconnect()
        await self._sentinel.aclose()
