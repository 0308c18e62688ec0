"""Compares the job counts with the jobs found. Valid only if no job changed during the check."""

from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from service.domain.errors import StoreCorrupt
from service.domain.states import Status
from service.store.client import StoreClient
from service.store.partition import PARTITION
from service.store.queries import JobReader


class CountSnapshot(Struct, frozen=True):
    """The job counts at one time, and the last event before it. Equal snapshots mean that no job changed in between."""

    last_event: object
    statuses: dict[Status, int]
    queues: dict[str, dict[Status, int]]


async def take_snapshot(client: StoreClient) -> CountSnapshot | None:
    """Return the current counts, or `None` if a key is unreadable."""
    try:
        [events] = await client.read(["XREVRANGE", PARTITION.events, "+", "-", "COUNT", "1"])
        stats = await JobReader(client).get_stats()
    except (StoreCorrupt, ValueError):
        return None
    return CountSnapshot(last_event=events[0][0] if events else None, statuses=stats.statuses, queues=stats.queues)


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
        """Yield each queue and a description for each count that differs from the jobs found."""
        queues = {**snapshot.queues, **{queue: snapshot.queues.get(queue, {}) for queue, _ in self._counts}}
        for queue, statuses in sorted(queues.items()):
            for status in Status:
                found, counted = self._counts[queue, status], statuses.get(status, 0)
                if found != counted:
                    yield queue, f"the indexes count {counted} {status} jobs, but there are {found}"
