"""The number of partitions that Redis has, for commands that work with any."""

from redis.asyncio import ConnectionPool

from service.domain.constraints import PARTITION_COUNTS
from service.domain.errors import StoreCorrupt
from service.store.calls import with_timeout
from service.store.client import StoreClient
from service.store.data_version import PARTITIONS_KEY


async def read_partition_count(pool: ConnectionPool) -> int:
    """Return the stored number of partitions, or 1 if there is none. Raises like `StoreClient.read`."""
    client = StoreClient(pool)
    stored = await client.call("read", with_timeout(lambda: client.redis.get(PARTITIONS_KEY)))
    if stored is not None and not (stored.isdigit() and int(stored) in PARTITION_COUNTS):
        raise StoreCorrupt(f"{PARTITIONS_KEY} holds {stored[:40]!r} instead of a number of partitions")
    return int(stored or 1)
