"""The version of the data format. A service serves and changes no data of another version."""

from typing import Final

from service.domain.errors import DataVersionUnsupported, StoreCorrupt
from service.store.partition import PARTITION, ROOT

#: The version that this service reads and writes. A service that raises it writes the new version, waits
#: `UPGRADE_WAIT` seconds on the clock of Redis, and only then writes data in the new format.
DATA_VERSION: Final = 2
#: Seconds after which no script of an older version runs: more than `CLOCK_MAX_AGE` + `FIRST_ATTEMPT_TIMEOUT`.
UPGRADE_WAIT: Final = 12.0
#: Keys of version 1 that no later version has. Any database with jobs of version 1 has the first.
V1_KEYS: Final = tuple(ROOT + name for name in ("clock", "shelves", "due"))
#: Commands whose replies `check_version` takes.
READ_VERSION: Final = (("GET", PARTITION.version), ("EXISTS", *V1_KEYS))


def check_version(version: bytes | None, v1_keys: int) -> None:
    """Raise `DataVersionUnsupported` or `StoreCorrupt` unless this service supports the version of the data.

    `version` is what the version key holds; `v1_keys` is how many of `V1_KEYS` exist. Data with such keys has version
    1, unless it has a later one. Without them, a missing version and version 1 mean that there is no data yet.
    """
    if version is not None and not version.isdigit():
        raise StoreCorrupt(f"{PARTITION.version} holds {version[:40]!r} instead of a version number")
    found = int(version or 1)
    if found > DATA_VERSION or (found < DATA_VERSION and v1_keys):
        raise DataVersionUnsupported(found, DATA_VERSION)
