"""What operators watch besides the jobs."""

from msgspec import Struct


class StoreHealth(Struct, frozen=True, kw_only=True):
    """How Redis stands; sizes in bytes, `memory_limit` 0 where there is none."""

    version: str
    memory: int
    memory_limit: int
    #: It may throw away keys, and jobs with them, when its memory is full.
    evicts: bool
    #: Every change is written to a file; without it a restart of Redis loses jobs.
    append_only: bool
    #: The last write to that file and its last rewriting went well.
    writing: bool

    @property
    def concerns(self) -> list[str]:
        """What puts acknowledged jobs at risk, each in a sentence."""
        found = {
            "appendonly is off: a restart of Redis loses jobs; set appendonly yes": not self.append_only,
            "maxmemory-policy evicts: a full Redis throws jobs away; set maxmemory-policy noeviction": self.evicts,
            "Redis cannot write its append-only file: look at its log and its disk": not self.writing,
        }
        return [concern for concern, is_so in found.items() if is_so]
