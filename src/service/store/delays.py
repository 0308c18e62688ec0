"""The end of the delays of jobs."""

from typing import Final, NamedTuple

from service.store import scripts
from service.store.client import StoreClient
from service.store.partition import Partition
from service.store.records import log_skipped

#: How many delays one run of the script ends.
DELAYS_BATCH: Final = 500


class DelaysEnded(NamedTuple):
    """What is known once delays are ended."""

    #: The time of Redis in seconds since 1970.
    now: float
    #: Seconds until the next delay is over: 0 if it already is, `None` without delays.
    next_delay: float | None
    #: Seconds until the next time-out of a job is over: 0 if it already is, `None` without time-outs.
    next_timeout: float | None


async def end_delays(client: StoreClient, partition: Partition) -> DelaysEnded:
    """Make up to `DELAYS_BATCH` jobs of a partition due whose delays are over, and wake the claims that wait.

    Raises the errors of `StoreClient.run_script`.
    """
    reply = await client.run_script(scripts.END_DELAYS, partition, [DELAYS_BATCH])
    _, time, next_delay, next_timeout, skipped = reply
    log_skipped("delay skipped unreadable job", skipped)
    now = int(time)
    return DelaysEnded(
        now / 1e6,
        max(0.0, (int(next_delay) - now) / 1e6) if next_delay else None,
        max(0.0, int(next_timeout) / 1e3 - now / 1e6) if next_timeout else None,
    )
