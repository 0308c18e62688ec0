"""Which version of the data there is, so that an older service never writes to newer data."""

from typing import Any, Final

from redis.asyncio import Redis

from service.domain.errors import DataVersionUnsupported, StoreCorrupt
from service.store import keys

#: What this service reads and writes. One that is to raise it writes the new version, waits `UPGRADE_WAIT` seconds on the
#: clock of Redis, and only then writes anything in the new way.
DATA_VERSION: Final = 1
#: Seconds after which no script runs any more that was sent under an older version: `CLOCK_MAX_AGE` and `FIRST_ATTEMPT_TIMEOUT`.
UPGRADE_WAIT: Final = 12.0


def check_supported(held: bytes | None) -> None:
    """Raise `DataVersionUnsupported` or `StoreCorrupt` unless data under this version may be changed; `None` is version 1."""
    if held is None:
        return
    if not held.isdigit():
        raise StoreCorrupt(f"{keys.VERSION} holds {held[:40]!r} where a version belongs")
    if int(held) > DATA_VERSION:
        raise DataVersionUnsupported(int(held), DATA_VERSION)


async def initialize(redis: Redis) -> Any:
    """Say of data without a version that it is of this one."""
    return await redis.set(keys.VERSION, DATA_VERSION, nx=True)
