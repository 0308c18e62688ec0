"""Counts of jobs by queue and state."""

import itertools
import time
from typing import Final, NamedTuple

from service.domain import errors
from service.store import scripts
from service.store.client import StoreClient
from service.store.deadlines import REQUEST_TIMEOUT
from service.store.partition import Partition
from service.store.sweep import sweep_batch

#: How many expired jobs one run of the script that counts subtracts. It takes 1 ms for them.
MAX_EXPIRED_COUNT: Final = 200


class JobCounts(NamedTuple):
    """Exact numbers at one time; with several partitions each job is counted once, shortly before it."""

    #: The time in µs since 1970.
    now: int
    live_leases: int
    #: Jobs whose delay is not over.
    delayed: int
    #: (queue, state, jobs), several times for a queue and state with several partitions.
    rows: list[tuple[str, str, int]]


async def count_jobs(client: StoreClient, status: str = "", queue: str = "") -> JobCounts:
    """Return the numbers of jobs of a status and queue, or of all for an empty text.

    The numbers of leases and delays are always those of all jobs. More than `MAX_EXPIRED_COUNT` expired jobs are swept
    first. Raises the errors of `StoreClient.run_script`.
    """
    parts = await client.in_all_partitions(lambda partition: _count_in(client, partition, status, queue))
    now, live_leases, delayed, rows = zip(*parts, strict=True)
    return JobCounts(max(now), sum(live_leases), sum(delayed), [*itertools.chain(*rows)])


async def _count_in(client: StoreClient, partition: Partition, status: str, queue: str) -> JobCounts:
    deadline, args = time.monotonic() + REQUEST_TIMEOUT, [status, queue, MAX_EXPIRED_COUNT]
    while (reply := await client.run_script(scripts.COUNT, partition, args))[0] == "MORE":
        if time.monotonic() > deadline:
            raise errors.StoreTimeout("Too many jobs have expired at once to count the others; try again later.")
        await sweep_batch(client, partition)
    _, now, live_leases, delayed, *values = reply
    triples = zip(values[::3], values[1::3], values[2::3], strict=True)
    rows = [(its_queue.decode(), state.decode(), count) for its_queue, state, count in triples]
    return JobCounts(int(now), live_leases, delayed, rows)
