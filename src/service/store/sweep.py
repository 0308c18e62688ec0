"""The sweep, which removes expired jobs from the indexes."""

from typing import Final, NamedTuple

import structlog

from service.domain.errors import DataVersionUnsupported, PartitionsMismatch, StoreUnavailable
from service.store import scripts
from service.store.client import StoreClient
from service.store.partition import Partition
from service.store.records import decode_skipped

#: How many expired jobs one run of the script removes, about 25 µs each: Redis does nothing else for less than 15 ms,
#: also on a machine that is half as fast as the one where that was measured.
SWEEP_BATCH: Final = 250

_log = structlog.get_logger(__name__)


class Swept(NamedTuple):
    """What a sweep has done."""

    #: How many expired jobs it has removed.
    jobs: int
    #: Why a partition was not swept whose node is not known to be away; `None` if there is none.
    failure: StoreUnavailable | None


async def sweep_reachable(client: StoreClient) -> Swept:
    """Remove all expired jobs from the indexes. On a cluster, partitions that fail are left out.

    Raises like `StoreClient.run_script` if all fail, or if the data is not that of this service.
    """

    async def attempt(partition: Partition) -> int | StoreUnavailable:
        try:
            return await sweep_partition(client, partition)
        except (DataVersionUnsupported, PartitionsMismatch):
            raise
        except StoreUnavailable as error:
            if not client.deployment.is_cluster:
                raise
            return error

    results = await client.in_all_partitions(attempt)
    swept = [result for result in results if isinstance(result, int)]
    failures = {
        partition: result
        for partition, result in zip(client.partitions, results, strict=True)
        if isinstance(result, StoreUnavailable)
    }
    if not swept:
        raise next(iter(failures.values()))
    return Swept(sum(swept), next((failures[one] for one in failures if not client.is_away(one)), None))


async def sweep_partition(client: StoreClient, partition: Partition) -> int:
    """Remove all expired jobs of a partition from the indexes, and return how many there were."""
    total, more = 0, True
    while more:
        swept, more = await sweep_batch(client, partition)
        total += swept
    return total


async def sweep_batch(client: StoreClient, partition: Partition) -> tuple[int, bool]:
    """Remove up to `SWEEP_BATCH` expired jobs from the indexes. Returns how many, and whether there may be more."""
    _, swept, more, skipped = await client.run_script(scripts.SWEEP, partition, [SWEEP_BATCH])
    if swept:
        client.observer.on_job_change("expired", swept)
    if skipped:
        entries, reasons = decode_skipped(skipped)
        _log.error("sweep skipped key of unexpected type", entries=entries, errors=reasons)
    return swept, bool(more)
