"""Clients of redis-py for a cluster. What is about a server, not about keys, they ask of all masters at once."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import redis as sync_redis
from redis.asyncio import Redis, RedisCluster

_MASTERS = RedisCluster.PRIMARIES
#: Commands that sentinels, replicas, and clients of redis-py for a cluster send by themselves; and the one in which a
#: paused service waits.
_OF_OTHERS = frozenset(
    ("info", "ping", "publish", "subscribe", "replconf", "role", "cluster|slots", "client|setname", "xread")
)


class _AllMasters:
    """Sends to all masters what redis-py sends to any node."""

    def client_pause(self, timeout: int, all: bool = True) -> Any:
        return super().client_pause(timeout, all, target_nodes=_MASTERS)

    def client_kill_filter(self, **options: Any) -> Any:
        return super().client_kill_filter(**options, target_nodes=_MASTERS)

    def config_resetstat(self) -> Any:
        return super().config_resetstat(target_nodes=_MASTERS)

    def config_set(self, name: str, value: object) -> Any:
        return super().config_set(name, value, target_nodes=_MASTERS)


class ClusterClient(_AllMasters, RedisCluster):
    """A client with asyncio."""


class SyncClusterClient(_AllMasters, sync_redis.RedisCluster):
    """A client without asyncio."""


@contextlib.asynccontextmanager
async def node_clients(redis: Any) -> AsyncIterator[list[Redis]]:
    """Yield a client of each Redis that a client knows."""
    if not isinstance(redis, RedisCluster):
        yield [redis]
        return
    nodes = [Redis(host=node.host, port=node.port) for node in redis.get_primaries()]
    yield nodes
    for node in nodes:
        await node.aclose()


async def infos(redis: Any, section: str) -> list[dict[str, Any]]:
    """Return a section of `INFO` of each Redis that a client knows."""
    if isinstance(redis, RedisCluster):
        return [*(await redis.info(section, target_nodes=_MASTERS)).values()]
    return [await redis.info(section)]


async def clients(redis: Any) -> list[list[dict[str, str]]]:
    """Return the connections to each Redis that a client knows."""
    if isinstance(redis, RedisCluster):
        return [*(await redis.client_list(target_nodes=_MASTERS)).values()]
    return [await redis.client_list()]


def sync_clients(redis: Any) -> list[list[dict[str, str]]]:
    """Return what `clients` returns, for a client without asyncio."""
    if isinstance(redis, sync_redis.RedisCluster):
        return [*redis.client_list(target_nodes=_MASTERS).values()]
    return [redis.client_list()]


def hold_scripts(redis: Any) -> bool:
    """Let all scripts wait for a second from now on, and return whether one waits. Reads go on."""
    redis.client_pause(1000, all=False)
    every = (one for of_node in sync_clients(redis) for one in of_node)
    return any(one["cmd"] == "evalsha" and "b" in one["flags"] for one in every)


async def command_calls(redis: Any) -> Counter[str]:
    """Return how often each command was called on all Redis that a client knows, without those of other programs."""
    return sum(map(_calls, await infos(redis, "commandstats")), Counter())


def sync_command_calls(redis: Any) -> Counter[str]:
    """Return what `command_calls` returns, for a client without asyncio."""
    if isinstance(redis, sync_redis.RedisCluster):
        stats: Iterable[Any] = redis.info("commandstats", target_nodes=_MASTERS).values()
    else:
        stats = [redis.info("commandstats")]
    return sum(map(_calls, stats), Counter())


def _calls(stats: Mapping[str, Any]) -> Counter[str]:
    calls = {name.removeprefix("cmdstat_"): one["calls"] for name, one in stats.items()}
    return Counter({name: number for name, number in calls.items() if name not in _OF_OTHERS})
