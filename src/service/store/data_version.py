"""What data Redis has: the version of its format, and its number of partitions. A service serves no other data."""

from typing import Final

from service.domain.errors import DataVersionUnsupported, PartitionsMismatch, StoreCorrupt, StoreLoading
from service.store.partition import COMMON_ROOT, PARTITION, ROOT, Partition

#: The version that this service reads and writes. A service that raises it writes the new version, waits
#: `UPGRADE_WAIT` seconds on the clock of Redis, and only then writes data in the new format.
DATA_VERSION: Final = 2
#: Seconds after which no script of an older version runs: more than `CLOCK_MAX_AGE` + `FIRST_ATTEMPT_TIMEOUT`.
UPGRADE_WAIT: Final = 12.0
#: Keys of version 1 that no later version has. Any database with jobs of version 1 has the first.
V1_KEYS: Final = tuple(ROOT + name for name in ("clock", "shelves", "due"))
#: The key with the number of partitions that is read whatever the setting says. Every number above 1 has it.
PARTITIONS_KEY: Final = Partition(COMMON_ROOT).partitions
#: The keys that tell what data there is, as the scripts get them. The third exists if one partition ever had a job.
VERSION_KEYS: Final = (PARTITION.version, PARTITIONS_KEY, PARTITION.meta, *V1_KEYS)
#: What the key of the version begins with while `jobstate copy` fills the database. Services of before refuse it, too.
COPY_MARK: Final = b"copy "
#: Commands whose replies `check_version` takes.
READ_VERSION: Final = (
    ("GET", PARTITION.version),
    ("EXISTS", *V1_KEYS),
    ("GET", PARTITIONS_KEY),
    ("EXISTS", PARTITION.meta),
)


def check_version(
    version: bytes | None,
    v1_keys: int,
    stored: bytes | None = None,
    has_meta: int = 0,
    *,
    partitions: int = 1,
    copy: bytes | None = None,
    partition: Partition | None = None,
) -> bool:
    """Return whether Redis has all that it must have about data of this service, whose number of partitions is given.

    `version` and `stored` are what the keys of the version and of the number of partitions hold; `v1_keys` is how many
    of `V1_KEYS` exist. Data with such keys has version 1, unless it has a later one. Without them, a missing version
    and version 1 mean that there is no data yet. Data without a number of partitions has one partition.

    With `copy`, the mark of a copy, this must be the version: the data is that of the copy alone. On a cluster
    `partition` is the one that has the keys; there a missing number of partitions is one that was lost.

    Raises `DataVersionUnsupported` or `PartitionsMismatch` for other data, `StoreLoading` during a copy, and
    `StoreCorrupt`.
    """
    if copy is not None or (version or b"").startswith(COPY_MARK):
        if version != copy:
            raise StoreLoading(
                "`jobstate copy` fills this database, or was interrupted. Wait for its end, or run it again."
            )
        return True
    names = (PARTITION.version, PARTITIONS_KEY) if partition is None else (partition.version, partition.partitions)
    for name, value in zip(names, (version, stored), strict=True):
        if value is not None and not value.isdigit():
            raise StoreCorrupt(f"{name} holds {value[:40]!r} instead of a number")
    found = int(version or 1)
    if found > DATA_VERSION or (found < DATA_VERSION and v1_keys):
        raise DataVersionUnsupported(found, DATA_VERSION)
    has_data = stored is not None or (partition is None and (found == DATA_VERSION or has_meta))
    if has_data and int(stored or 1) != partitions:
        raise PartitionsMismatch(int(stored or 1), partitions)
    return partitions == 1 or (stored is not None and found == DATA_VERSION)
