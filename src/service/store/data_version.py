"""The version of the data format, which keeps an older service from writing to newer data."""

from typing import Final

from service.domain.errors import DataVersionUnsupported, StoreCorrupt
from service.store import keys

#: The version that this service reads and writes. A service that raises it writes the new version, waits
#: `UPGRADE_WAIT` seconds on the clock of Redis, and only then writes data in the new format.
DATA_VERSION: Final = 1
#: Seconds after which no script of an older version runs: more than `CLOCK_MAX_AGE` + `FIRST_ATTEMPT_TIMEOUT`.
UPGRADE_WAIT: Final = 12.0


def check_supported(version: bytes | None) -> None:
    """Raise `DataVersionUnsupported` or `StoreCorrupt` unless this service supports `version`; `None` is version 1."""
    if version is None:
        return
    if not version.isdigit():
        raise StoreCorrupt(f"{keys.VERSION} holds {version[:40]!r} instead of a version number")
    if int(version) > DATA_VERSION:
        raise DataVersionUnsupported(int(version), DATA_VERSION)
