"""The end of the delays of jobs."""

from typing import Final

from service.store import scripts
from service.store.client import StoreClient
from service.store.partition import Partition
from service.store.records import log_skipped

#: How many delays one run of the script ends.
DELAYS_BATCH: Final = 500


async def end_delays(client: StoreClient, partition: Partition) -> tuple[float, float | None]:
    """Make up to `DELAYS_BATCH` jobs of a partition due whose delays are over, and wake the claims that wait.

    Returns the time of Redis in seconds since 1970, and the seconds until the next delay is over: 0 if it already is,
    `None` without delays. Raises the errors of `StoreClient.run_script`.
    """
    _, time, next_delay, skipped = await client.run_script(scripts.END_DELAYS, partition, [DELAYS_BATCH])
    log_skipped("delay skipped unreadable job", skipped)
    now = int(time)
    return now / 1e6, max(0.0, (int(next_delay) - now) / 1e6) if next_delay else None
