"""The health of Redis."""

from msgspec import Struct


class StoreHealth(Struct, frozen=True, kw_only=True):
    """Version, memory and durability of a Redis; sizes in bytes, `memory_limit` is 0 if there is none."""

    #: `host:port` of a node of a cluster; else empty.
    node: str = ""
    version: str
    memory: int
    memory_limit: int
    #: Redis may evict keys, and jobs with them, when its memory is full.
    can_evict: bool
    #: The append-only file is on; without it a restart of Redis loses jobs.
    aof_enabled: bool
    #: The last write and the last rewrite of the append-only file succeeded.
    aof_healthy: bool

    @property
    def labelled_warnings(self) -> list[str]:
        """The warnings, each after the node that it is about, if there are several."""
        return [f"{self.node}: {warning}" if self.node else warning for warning in self.warnings]

    @property
    def warnings(self) -> list[str]:
        """Each setting or fault that puts acknowledged jobs at risk, and what to do about it."""
        conditions = {
            "`appendonly` is off, so a restart of Redis loses jobs: set `appendonly yes`": not self.aof_enabled,
            "`maxmemory-policy` evicts jobs when Redis is full: set `maxmemory-policy noeviction`": self.can_evict,
            "Redis cannot write its append-only file: check its log and its disk": not self.aof_healthy,
        }
        return [warning for warning, applies in conditions.items() if applies]


class StoreAvailability(Struct, frozen=True, kw_only=True):
    """How much of Redis takes changes. Without a cluster there is one node."""

    #: The nodes that have partitions.
    nodes: int
    nodes_away: int
    partitions_away: int
