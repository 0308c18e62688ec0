"""The master that Sentinel names, which changes with a failover."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final, cast

import structlog
from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

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
        #: The clients of the sentinels, first those that know of the newest failover.
        self._sentinels = [Redis(host=host, port=port, **options) for host, port in address.servers]
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
        failures = []
        for sentinel in tuple(self._sentinels):
            try:
                state = await self._ask(sentinel)
            except (redis_errors.ConnectionError, redis_errors.TimeoutError) as error:
                failures.append(str(error))
            else:
                if state is not None:
                    return await self._use(state)
        reasons = f" ({', '.join(failures)})" if failures else ""
        raise redis_errors.ConnectionError(f"No master found for {self._service!r}{reasons}")

    async def _ask(self, sentinel: Redis) -> dict[str, Any] | None:
        """Return what a sentinel knows of the master; `None` if it knows none that is up."""
        masters: Any = await sentinel.sentinel_masters()
        state: dict[str, Any] | None = masters.get(self._service)
        is_up = state is not None and state["is_master"] and not (state["is_sdown"] or state["is_odown"])
        return state if is_up else None

    async def _use(self, state: dict[str, Any]) -> tuple[str, int]:
        host, port = state["ip"], state["port"]
        name, before = f"{host}:{port}", self._node.name
        if name != before:
            _log.info("redis master found", master=self._service, node=name, before=before or None)
            self._node.name = name
            if before:  # it may go on accepting changes, which are lost
                await self.pool.disconnect()
        return host, int(port)

    def prefer_other_sentinels(self) -> None:
        """Ask another sentinel first from now on: the one that was asked does not know of a failover yet."""
        first, *others = self._sentinels
        self._sentinels = [*others, first]

    async def _look(self) -> float:
        """Ask all sentinels, and use the master of the newest failover.

        A sentinel that is cut off from the others goes on naming the former one. One that does not answer is last.
        """
        asked = self._sentinels
        states = await asyncio.gather(*map(self._ask, asked), return_exceptions=True)
        newest_first = sorted(range(len(asked)), key=lambda at: -_epoch(states[at]))
        self._sentinels = [asked[at] for at in newest_first]
        if isinstance(newest := states[newest_first[0]], dict):  # else the calls fail, and say so
            await self._use(newest)
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
        for sentinel in self._sentinels:
            await sentinel.aclose()


def _epoch(state: dict[str, Any] | BaseException | None) -> int:
    """Return the number of the failover that made a master the master; without one -1."""
    return int(state["config-epoch"]) if isinstance(state, dict) else -1
