"""What operators watch besides the jobs."""

from msgspec import Struct


class StoreHealth(Struct, frozen=True, kw_only=True):
    """How Redis stands; sizes in bytes, `memory_limit` 0 where there is none."""

    version: str
    memory: int
    memory_limit: int
    #: It may throw away keys, and jobs with them, when its memory is full.
    can_evict: bool
    #: Every change is written to a file; without it a restart of Redis loses jobs.
    aof_enabled: bool
    #: The last write to that file and its last rewriting went well.
    aof_healthy: bool

    @property
    def warnings(self) -> list[str]:
        """What puts acknowledged jobs at risk, each in a sentence."""
        found = {
            "appendonly is off: a restart of Redis loses jobs; set appendonly yes": not self.aof_enabled,
            "maxmemory-policy evicts: a full Redis throws jobs away; set maxmemory-policy noeviction": self.can_evict,
            "Redis cannot write its append-only file: look at its log and its disk": not self.aof_healthy,
        }
        return [concern for concern, is_so in found.items() if is_so]
