"""How Redis runs for the tests (`TEST_DEPLOYMENT`): its servers, and clients for any of its databases."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import redis as sync_redis
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode

from service.store.deployments import Deployment, open_deployment
from service.store.pool import create_pool
from tests.helpers.cluster_clients import ClusterClient, SyncClusterClient
from tests.helpers.redis_cluster import Cluster
from tests.helpers.redis_sentinel import MASTER_NAME, SentinelSet
from tests.helpers.redis_servers import Backend, RedisServer, server_program

DEPLOYMENTS: Final = ("standalone", "sentinel", "cluster")
DEPLOYMENT: Final = os.environ.get("TEST_DEPLOYMENT", "standalone")
if DEPLOYMENT not in DEPLOYMENTS:
    raise pytest.UsageError(f"`TEST_DEPLOYMENT` is {DEPLOYMENT!r}; allowed: {', '.join(DEPLOYMENTS)}")

#: For tests that need one Redis at a fixed address, with the reason: they are deselected for other deployments.
standalone_only: Final = pytest.mark.standalone_only
#: For tests of what a cluster does not have, with the reason: they are deselected there.
not_on_cluster: Final = pytest.mark.not_on_cluster


class Databases:
    """Databases by number: of one Redis, of the master that sentinels name, or each a cluster of three masters."""

    def __init__(self, backend: Backend, folder: Path) -> None:
        self._folder = folder
        self._clusters: dict[int, Cluster] = {}
        #: The only Redis, unless there are several.
        self.server: Final[RedisServer | None] = backend.redis(folder) if DEPLOYMENT == "standalone" else None
        self._sentinel = _patient_sentinels(folder) if DEPLOYMENT == "sentinel" else None

    def url(self, number: int) -> str:
        """Return the URL of a database. That of a cluster is started first."""
        if self.server is not None:
            return f"redis://127.0.0.1:{self.server.port}/{number}"
        if self._sentinel is not None:
            return f"{self._sentinel.url}?db={number}"
        if number not in self._clusters:
            self._clusters[number] = _patient_cluster(self._folder / f"cluster{number}")
        return self._clusters[number].url

    def remove(self) -> None:
        """End all servers."""
        for one in (self.server, self._sentinel, *self._clusters.values()):
            if one is not None:
                one.remove()


def _patient_cluster(folder: Path) -> Cluster:
    """Start a cluster whose nodes give up no other one while the machine is busy, nor wait for a busy disk."""
    cluster = Cluster(folder)
    for node in cluster.nodes:
        node.call("CONFIG", "SET", "cluster-node-timeout", 60_000, "appendfsync", "no")
    return cluster


def _patient_sentinels(folder: Path) -> SentinelSet:
    """Start sentinels that replace no master while a test pauses it, and servers that do not wait for a busy disk."""
    servers = SentinelSet(folder)
    for server in servers.servers:
        server.call("CONFIG", "SET", "appendfsync", "no")
    for sentinel in servers.sentinels:
        sentinel.call("SENTINEL", "SET", MASTER_NAME, "down-after-milliseconds", 60_000)
    return servers


#: The URL of what `open_pool` has opened, and what `opened_again` has opened there.
_opened: Final[dict[Deployment, tuple[str, list[Deployment]]]] = {}


def open_pool(url: str, partitions: int | None = None) -> Any:
    """Return what a `StoreClient` of this URL is given: the pool of one Redis, or the deployment."""
    if DEPLOYMENT == "standalone":
        return create_pool(url)
    deployment = open_deployment(url, partitions=partitions)
    _opened[deployment] = (url, [])
    return deployment


def opened_again(pool: Any, partitions: int | None = None) -> Any:
    """Return what a client in another process is given. It is closed with `pool`."""
    if DEPLOYMENT == "standalone":
        return pool
    url, others = _opened[pool]
    others.append(open_deployment(url, partitions=partitions or len(pool.partitions)))
    return others[-1]


async def close_pool(pool: Any) -> None:
    """Close what `open_pool` has returned."""
    if DEPLOYMENT == "standalone":
        await pool.disconnect()
        return
    _, others = _opened.pop(pool)
    for one in (pool, *others):
        await one.aclose()


def raw_client(url: str, **options: Any) -> Any:
    """Return a client of redis-py for all keys of a database, whatever its deployment."""
    if (servers := _seeds(url)) is not None:
        return ClusterClient(startup_nodes=[ClusterNode(*one) for one in servers], **options)
    return Redis.from_url(_server_url(url), **options)


def sync_client(url: str, **options: Any) -> Any:
    """Return a client like `raw_client` without asyncio."""
    if (servers := _seeds(url)) is not None:
        nodes = [sync_redis.cluster.ClusterNode(*one) for one in servers]  # type: ignore[no-untyped-call]
        return SyncClusterClient(startup_nodes=nodes, **options)
    return sync_redis.Redis.from_url(_server_url(url), **options)


def _seeds(url: str) -> list[tuple[str, int]] | None:
    """Return the addresses in the URL of a cluster, or None for another URL."""
    scheme, _, rest = url.partition("://")
    return _addresses(rest) if scheme == "redis+cluster" else None


def _server_url(url: str) -> str:
    """Return the URL of the Redis that has the keys now."""
    scheme, _, rest = url.partition("://")
    if scheme != "redis+sentinel":
        return url
    names, _, path = rest.partition("/")
    master, _, database = path.partition("?db=")
    asked: Any = sync_redis.Sentinel(_addresses(names), socket_timeout=5)  # type: ignore[no-untyped-call]
    try:
        host, port = asked.discover_master(master)
    finally:
        for sentinel in asked.sentinels:
            sentinel.close()
    return f"redis://{host}:{port}/{database or 0}"


def _addresses(text: str) -> list[tuple[str, int]]:
    return [(host, int(port)) for host, _, port in (one.rpartition(":") for one in text.split(","))]


def reads_events(connection: Mapping[str, str]) -> bool:
    """Return whether a connection in a list of Redis waits for events, or polls a cluster for them."""
    if DEPLOYMENT == "cluster":
        return connection["cmd"] == "xrange"
    return connection["cmd"] == "xread" and "b" in connection["flags"]


def without_discovery(lines: Iterable[Any]) -> list[Any]:
    """Return the lines of a log without that of the first connection to a master, which sentinels name."""
    return [line for line in lines if line["event"] != "redis master found"]


def why_not(item: pytest.Item) -> str | None:
    """Return why a test cannot run with this deployment, if it cannot."""
    if DEPLOYMENT == "standalone":
        marker = item.get_closest_marker("replicas_only")
        return None if marker is None else str(marker.args[0])
    for name in ("standalone_only", "not_on_cluster")[: 1 + (DEPLOYMENT == "cluster")]:
        if (marker := item.get_closest_marker(name)) is not None:
            return str(marker.args[0])
    fixtures = getattr(item, "fixturenames", ())
    return "kills or disturbs a Redis of its own" if "new_redis" in fixtures else None


def describe() -> str:
    """Return a line about the deployment, for the report's header."""
    servers = {
        "standalone": "one Redis",
        "sentinel": f"a master, a replica and three sentinels of {server_program()}",
        "cluster": f"clusters of three masters of {server_program()}",
    }
    return f"{DEPLOYMENT}, {servers[DEPLOYMENT]} (`TEST_DEPLOYMENT`)"
