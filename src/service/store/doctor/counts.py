"""Compares the job counts with the jobs found. Valid only if no job changed during the check."""

from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from msgspec import Struct

from service.domain.errors import StoreCorrupt
from service.store import scripts
from service.store.client import StoreClient
from service.store.job_counts import MAX_EXPIRED_COUNT
from service.store.partition import STATUS_OF_STATE

T = TypeVar("T", bound=Hashable)


class CountSnapshot(Struct, frozen=True):
    """The job counts at one time, and the last events before it. Equal snapshots mean that no job changed in between.

    With several partitions this holds for each of them.
    """

    #: The id of the last event of each partition.
    last_events: list[object]
    #: The number of jobs of each queue and status, by the name of the index, in each partition.
    counts: dict[str, int]


async def take_snapshot(client: StoreClient) -> CountSnapshot | None:
    """Return the current counts, or `None` if a key is unreadable or many expired jobs are not swept yet."""
    try:
        last_events = await read_last_events(client)
        replies = await client.run_in_all_partitions(scripts.COUNT, ["", "", MAX_EXPIRED_COUNT])
    except StoreCorrupt:
        return None
    counts: Counter[str] = Counter()
    for partition, (word, *values) in zip(client.partitions, replies, strict=True):
        if word == "MORE":
            return None
        for queue, state, count in zip(values[3::3], values[4::3], values[5::3], strict=True):
            status = STATUS_OF_STATE[state.decode()]
            counts[partition.by_created(queue.decode(errors="replace"), status)] += count
    return CountSnapshot(last_events, counts)


async def read_last_events(client: StoreClient) -> list[object]:
    """Return the id of the last event of each partition, or `None` for one without events."""
    commands = (["XREVRANGE", partition.events, "+", "-", "COUNT", "1"] for partition in client.partitions)
    return [events[0][0] if events else None for events in await client.read(*commands)]


class JobCounter(Generic[T]):
    """Counts jobs per place, such as an index. A job is counted once, though a key scan may return it twice."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        #: The number of jobs by their place.
        self.counts: Counter[T] = Counter()

    def add(self, key: str, place: T) -> None:
        """Count the job with this key in a place, unless it was counted before."""
        if (job := hash(key)) not in self._seen:
            self._seen.add(job)
            self.counts[place] += 1


def differences(jobs: Counter[str], snapshot: CountSnapshot) -> Iterator[tuple[str, str]]:
    """Yield the name of an index and a description for each count that differs from the jobs found."""
    for index in sorted({*jobs, *snapshot.counts}):
        found, counted = jobs[index], snapshot.counts.get(index, 0)
        if found != counted:
            status = index.rpartition(":")[2]
            yield index, f"the indexes count {counted} {status} jobs, but there are {found}"
