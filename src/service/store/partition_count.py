"""The number of partitions that Redis has, for commands that work with any."""

from typing import Final

from service.domain.constraints import PARTITION_COUNTS
from service.domain.errors import StoreCorrupt
from service.settings.redis_url import default_partitions
from service.store.calls import Calls
from service.store.data_version import PARTITIONS_KEY
from service.store.deployments import Deployment, open_deployment
from service.store.observer import NullObserver
from service.store.redis_errors import raise_errors

#: Any number above 1: the partition with the key is one of all of them.
_SOME: Final = 2


async def read_partition_count(url: str) -> int:
    """Return the stored number of partitions, or the default if there is none. Raises like `StoreClient.read`."""
    deployment = open_deployment(url, partitions=_SOME, max_connections=1)
    try:
        [stored] = await Calls(NullObserver(), deployment.pool).call("read", lambda until: _read(deployment, until))
    finally:
        await deployment.aclose()
        await deployment.pool.disconnect()
    if stored is not None and not (stored.isdigit() and int(stored) in PARTITION_COUNTS):
        raise StoreCorrupt(f"{PARTITIONS_KEY} holds {stored[:40]!r} instead of a number of partitions")
    return default_partitions(url) if stored is None else int(stored)


async def _read(deployment: Deployment, deadline: float) -> list[bytes | None]:
    if not deployment.is_located:
        await deployment.locate(deadline)
    node = deployment.node_of(deployment.partitions.holding(PARTITIONS_KEY))
    return raise_errors(await node.pipeline.ask(("GET", PARTITIONS_KEY), until=deadline))
