"""The version, memory and durability of each Redis node."""

from typing import Any

from service.domain import errors
from service.domain.errors import StoreAccessDenied, StorePartitionUnavailable
from service.domain.store_health import StoreHealth
from service.store.client import StoreClient
from service.store.deadlines import gather
from service.store.deployments.node import Node, partition_unavailable

#: What a node raises that cannot tell its health now.
_AWAY = (StorePartitionUnavailable, errors.StoreUnreachable, errors.StoreTimeout, errors.StoreLoading)


async def read_store_health(client: StoreClient) -> list[StoreHealth]:
    """Return the health of every node that is not away. Raises `StoreAccessDenied` if INFO lacks a field.

    Raises like `StoreClient.read` if all are away.
    """
    nodes = await client.find_nodes()
    results = await gather(_read(client, node) for node in nodes)
    found = [result for result in results if isinstance(result, StoreHealth)]
    if found:
        return found
    raise next((one for one in results if isinstance(one, Exception)), StorePartitionUnavailable())


async def _read(client: StoreClient, node: Node) -> StoreHealth | Exception:
    if node.is_away:
        return partition_unavailable(node)
    try:
        [info] = await client.read_from(node, ["INFO", "server", "memory", "persistence"])
    except _AWAY as error:
        return error
    return _health_from(info, node.name if client.deployment.is_cluster else "")


def _health_from(info: dict[str, Any], node: str) -> StoreHealth:
    last_aof_writes = {info.get("aof_last_write_status", "ok"), info.get("aof_last_bgrewrite_status", "ok")}
    try:
        return StoreHealth(
            node=node,
            version=str(info.get("valkey_version") or info["redis_version"]),
            memory=info["used_memory"],
            memory_limit=info["maxmemory"],
            can_evict=info["maxmemory_policy"] != "noeviction",
            aof_enabled=bool(info["aof_enabled"]),
            aof_healthy=last_aof_writes == {"ok"},
        )
    except KeyError as error:
        raise StoreAccessDenied(f"{StoreAccessDenied.default_detail} (INFO does not have {error})") from error
