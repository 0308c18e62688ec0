"""The partitions of a database: which one has a job, and the names of their keys."""

import functools
from binascii import crc_hqx
from collections.abc import Sequence
from typing import Final, overload

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from service.domain.constraints import PARTITION_COUNTS
from service.store.partition import PARTITION, Partition


class Partitions(Sequence[Partition]):
    """The partitions, by number. A job stays in its partition, which follows from its id."""

    def __init__(self, count: int = 1) -> None:
        """Raises `ValueError` unless `count` is one of `PARTITION_COUNTS`."""
        if count not in PARTITION_COUNTS:
            raise ValueError(f"partitions must be a power of two from 1 to {PARTITION_COUNTS[-1]}, not {count}")
        #: How many there are.
        self.size: Final = count
        self._all: Final = (PARTITION,) if count == 1 else _tagged(count)
        #: Its settings of queues and its drain are those that count; the others have copies.
        self.first: Final = self._all[0]
        self._by_root: Final = {one.root: one for one in self._all}

    def of(self, job_id: str) -> Partition:
        """Return the partition of a job."""
        if self.size == 1:
            return self.first
        return self._all[crc_hqx(job_id.encode(), 0) % self.size]  # the CRC16 of Redis Cluster

    def holding(self, key: str) -> Partition:
        """Return the partition that has a key; the first one for a key that is in none."""
        return self._by_root.get(key[: key.find(":") + 1], self.first)

    def home_of(self, name: str) -> Partition:
        """Return the partition of what has a name and no job, such as the digest of a client."""
        return self.of(name)

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, number: int) -> Partition: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Partition]: ...
    def __getitem__(self, number: int | slice) -> Partition | Sequence[Partition]:
        return self._all[number]


@functools.cache
def _tagged(count: int) -> tuple[Partition, ...]:
    """Return partitions whose hash tags spread them evenly over equal ranges of slots.

    The tag of partition i is the `p<n>` with the smallest n whose slot is in the i-th of `count` equal ranges. So
    `{p0}:` is the root of a partition for every `count` above 1.
    """
    roots: dict[int, str] = {}
    n = 0
    while len(roots) < count:
        roots.setdefault(key_slot(b"p%d" % n) * count // REDIS_CLUSTER_HASH_SLOTS, f"{{p{n}}}:")
        n += 1
    return tuple(Partition(roots[number], number) for number in range(count))
