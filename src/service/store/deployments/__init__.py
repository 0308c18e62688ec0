"""Where the partitions are: on one Redis, on the master that Sentinel names, or on the masters of a Redis Cluster.

StoreClient
    |  node_of(partition), handle(error)
deployment.Deployment
    |-- standalone.StandaloneRedis   one node
    |-- sentinel.SentinelRedis       one node, whose pool connects to the present master
    |-- cluster.RedisCluster         a node for each master, and a map of the slots
    |
node.Node                            the connections to one Redis, and its clock
"""

from service.settings.redis_url import default_partitions, parse_redis_url
from service.store.deployments.deployment import Deployment
from service.store.deployments.standalone import StandaloneRedis
from service.store.pool import create_pool

__all__ = ["Deployment", "open_deployment"]


def open_deployment(
    url: str, *, partitions: int | None = None, max_connections: int = 9, wait_replicas: int = 0
) -> Deployment:
    """Return the deployment at a URL of any form that `REDIS_URL` allows; it connects on first use.

    `partitions` is 1 by default, 16 on a cluster. A change is acknowledged once `wait_replicas` replicas have it.
    Connections are counted per node. Raises `ValueError` for an invalid URL, and for one partition on a cluster.
    """
    address = parse_redis_url(url)
    partitions = default_partitions(url) if partitions is None else partitions
    match address.deployment:
        case "sentinel":
            from service.store.deployments.sentinel import SentinelRedis

            return SentinelRedis(address, partitions, max_connections=max_connections, wait_replicas=wait_replicas)
        case "cluster":
            from service.store.deployments.cluster import RedisCluster

            return RedisCluster(address, partitions, max_connections=max_connections, wait_replicas=wait_replicas)
        case _:
            pool = create_pool(url, max_connections=max_connections)
            return StandaloneRedis(pool, partitions, wait_replicas=wait_replicas)
