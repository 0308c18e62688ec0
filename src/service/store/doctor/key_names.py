"""Parses the names of Redis keys."""

import re
from typing import Final, NamedTuple

from service.domain import constraints
from service.store.partition import PARTITION, ROOT, STATUS_OF_STATE, TYPES, Partition
from service.store.partitions import Partitions

#: Kinds of keys whose name ends with a digest of client data, with a queue, or with an id.
_WITH_NAME: Final = frozenset({"claim", "aim", "gate", "rate_limit", "bulk"})
#: Kinds of keys of data version 1 that later versions do not use.
_V1_KINDS: Final = frozenset({"list", "exp", "shelves", "due", "clock", "drain", "limit", "synced"})
#: Kinds of keys under `ROOT` with any number of partitions, except on a cluster.
_COMMON_KINDS: Final = frozenset({"version", "fsync"})
_PREFIX: Final = re.compile(rb"job:|jobs:|\{p\d+\}:")


class KeyName(NamedTuple):
    """A parsed key: its kind (`job`, or the first part under the root), the remaining parts, and its partition."""

    kind: str
    parts: tuple[str, ...] = ()
    partition: Partition = PARTITION

    @property
    def type(self) -> str:
        """The Redis type of the key."""
        return TYPES.get(self.kind, "hash")

    @property
    def key(self) -> str:
        """The key with this name."""
        return self.partition.job(self.parts[0]) if self.kind == "job" else self.partition.key(self.kind, *self.parts)


def has_prefix(name: bytes) -> bool:
    """Return whether a key has a prefix of jobstate, with any number of partitions."""
    return _PREFIX.match(name) is not None


class KeyNames:
    """The names of the keys of these partitions."""

    def __init__(self, partitions: Partitions, *, is_cluster: bool = False) -> None:
        #: A pattern that matches all keys of jobstate.
        self.pattern: Final = "job*" if len(partitions) == 1 else "[j{][op]*"
        self._common_kinds: Final = frozenset[str]() if is_cluster else _COMMON_KINDS
        self._roots: Final = {partition.root: partition for partition in partitions}

    def is_managed(self, name: bytes) -> bool:
        """Return whether a key has a prefix of jobstate. Keys like those of partitions are another program's of one."""
        return has_prefix(name) and (len(self._roots) > 1 or not name.startswith(b"{"))

    def parse(self, name: bytes) -> KeyName | None:
        """Return the parsed name, or `None` if jobstate uses no such key."""
        try:
            text = name.decode("ascii")
        except UnicodeDecodeError:
            return None
        root, rest = (ROOT, text) if text.startswith("job:") else _split(text)
        kind, *parts = rest.split(":")
        if (partition := self._roots.get(root)) is None:
            return KeyName(kind) if root == ROOT and kind in self._common_kinds and not parts else None
        if kind == "job":
            is_name = len(parts) == 1 and constraints.JOB_ID.is_valid(parts[0]) and partition.job(parts[0]) == text
        else:
            is_name = kind in TYPES and _is_valid(kind, parts)
        return KeyName(kind, tuple(parts), partition) if is_name else None

    def foreign_detail(self, name: bytes) -> str:
        """Return what is wrong with a managed key that `parse` does not know."""
        kind = name.removeprefix(ROOT.encode()).split(b":")[0].decode(errors="replace")
        if kind in _V1_KINDS:
            return "is of data version 1, and is not used any more"
        if len(self._roots) > 1 and name.startswith(b"job"):
            return "jobstate uses no key of this name with several partitions"
        return "jobstate uses no key of this name"


def _split(name: str) -> tuple[str, str]:
    """Return the root of a key and what follows it."""
    end = name.index(":") + 1
    return name[:end], name[end:]


def _is_valid(kind: str, parts: list[str]) -> bool:
    if kind == "by_created":
        return len(parts) == 2 and constraints.QUEUE.is_valid(parts[0]) and parts[1] in STATUS_OF_STATE
    if kind == "by_priority":
        return len(parts) == 1 and constraints.QUEUE.is_valid(parts[0])
    return len(parts) == 1 if kind in _WITH_NAME else not parts
