"""The counts, compared with a walk over all jobs: sound only where nothing changed while it lasted."""

from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from service.domain.errors import StoreCorrupt
from service.domain.jobs import Stats
from service.domain.states import Status
from service.store import keys, queries
from service.store.client import StoreClient


class CountSnapshot(Struct, frozen=True):
    """What had happened and what was counted at one time."""

    last_event: object
    statuses: dict[Status, int]
    queues: dict[str, dict[Status, int]]


async def snapshot(gateway: StoreClient) -> CountSnapshot | None:
    """Return what is counted now; `None` where something in the way is not ours."""
    try:
        [events] = await gateway.read(["XREVRANGE", keys.EVENTS, "+", "-", "COUNT", "1"])
        stats: Stats = await queries.stats(gateway)
    except (StoreCorrupt, ValueError):  # or a shelf that there is not
        return None
    return CountSnapshot(last_event=events[0][0] if events else None, statuses=stats.statuses, queues=stats.queues)


class JobCounter:
    """Counts the jobs that are met, each once: a walk over the keys may meet one twice."""

    def __init__(self) -> None:
        self._met: set[int] = set()
        self._found: Counter[tuple[str, str]] = Counter()

    def add(self, job_id: str, queue: str, status: str) -> None:
        """Count a job."""
        if (name := hash(job_id)) not in self._met:
            self._met.add(name)
            self._found[queue, status] += 1

    def differences(self, counted: CountSnapshot) -> Iterator[tuple[str, str]]:
        """Yield the queues and what is wrong with their counts."""
        queues = {**counted.queues, **{queue: counted.queues.get(queue, {}) for queue, _ in self._found}}
        for queue, statuses in sorted(queues.items()):
            for status in Status:
                found, said = self._found[queue, status], statuses.get(status, 0)
                if found != said:
                    yield queue, f"{said} counted as {status}, and there are {found}"
