"""Parses the names of Redis keys."""

from typing import Final, NamedTuple

from service.domain import constraints
from service.domain.states import Status
from service.store.partition import PARTITION, ROOT, TYPES

STATES: Final = frozenset({*Status, "delayed"})
#: Kinds of keys whose name ends with a digest of client data, or with a queue.
_BY_CLIENT: Final = frozenset({"claim", "aim", "gate", "rate_limit"})
#: Kinds of keys of data version 1 that later versions do not use.
_V1_KINDS: Final = frozenset({"list", "exp", "shelves", "due", "clock", "drain", "limit", "synced"})
_JOB: Final = PARTITION.job("")
#: A pattern that matches all keys of jobstate.
SCAN_PATTERN: Final = "job*"


class KeyName(NamedTuple):
    """A parsed key: its kind (`job`, or the first part under `ROOT`) and the remaining parts."""

    kind: str
    parts: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """The Redis type of the key."""
        return TYPES.get(self.kind, "hash")


def is_managed(name: bytes) -> bool:
    """Return whether a key has a prefix of jobstate."""
    return name.startswith((_JOB.encode(), ROOT.encode()))


def parse(name: bytes) -> KeyName | None:
    """Return the parsed name, or `None` if jobstate uses no such key."""
    try:
        text = name.decode("ascii")
    except UnicodeDecodeError:
        return None
    if text.startswith(_JOB):
        job_id = text.removeprefix(_JOB)
        return KeyName("job", (job_id,)) if constraints.JOB_ID.is_valid(job_id) else None
    kind, *parts = text.removeprefix(ROOT).split(":")
    return KeyName(kind, tuple(parts)) if kind in TYPES and _is_valid(kind, parts) else None


def foreign_detail(name: bytes) -> str:
    """Return what is wrong with a managed key that `parse` does not know."""
    kind = name.removeprefix(ROOT.encode()).split(b":")[0].decode(errors="replace")
    if kind in _V1_KINDS:
        return "is of data version 1, and is not used any more"
    return "jobstate uses no key of this name"


def _is_valid(kind: str, parts: list[str]) -> bool:
    if kind == "by_created":
        return len(parts) == 2 and constraints.QUEUE.is_valid(parts[0]) and parts[1] in STATES
    return len(parts) == 1 if kind in _BY_CLIENT else not parts
