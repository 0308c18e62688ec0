"""Compares the job counts with the jobs found. Valid only if no job changed during the check."""

from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from service.domain.errors import StoreCorrupt
from service.store import scripts
from service.store.client import StoreClient
from service.store.partition import PARTITION
from service.store.queries import MAX_EXPIRED_COUNT


class CountSnapshot(Struct, frozen=True):
    """The job counts at one time, and the last event before it. Equal snapshots mean that no job changed in between."""

    last_event: object
    #: The number of jobs by queue and status.
    counts: dict[tuple[str, str], int]


async def take_snapshot(client: StoreClient) -> CountSnapshot | None:
    """Return the current counts, or `None` if a key is unreadable or many expired jobs are not swept yet."""
    try:
        [events] = await client.read(["XREVRANGE", PARTITION.events, "+", "-", "COUNT", "1"])
        word, *values = await client.run_script(scripts.COUNT, PARTITION, ["", MAX_EXPIRED_COUNT])
    except StoreCorrupt:
        return None
    if word == "MORE":
        return None
    counts: Counter[tuple[str, str]] = Counter()
    for queue, state, count in zip(values[3::3], values[4::3], values[5::3], strict=True):
        counts[queue.decode(errors="replace"), "pending" if state == b"delayed" else state.decode()] += count
    return CountSnapshot(last_event=events[0][0] if events else None, counts=counts)


class JobCounter:
    """Counts jobs per queue and status. A job is counted once, though a key scan may return it twice."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, job_id: str, queue: str, status: str) -> None:
        """Count a job, unless it was counted before."""
        if (job := hash(job_id)) not in self._seen:
            self._seen.add(job)
            self._counts[queue, status] += 1

    def differences(self, snapshot: CountSnapshot) -> Iterator[tuple[str, str]]:
        """Yield the name of an index and a description for each count that differs from the jobs found."""
        for queue, status in sorted({*self._counts, *snapshot.counts}):
            found, counted = self._counts[queue, status], snapshot.counts.get((queue, status), 0)
            if found != counted:
                detail = f"the indexes count {counted} {status} jobs, but there are {found}"
                yield PARTITION.by_created(queue, status), detail
