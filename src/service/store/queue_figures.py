"""The numbers of jobs of queues, and for how long jobs have been due."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.domain.states import Status
from service.store import scripts
from service.store.client import StoreClient
from service.store.job_counts import count_jobs
from service.store.partition import STATUS_OF_STATE
from service.store.queries import MAX_EXPIRED_SCAN


@dataclass
class QueueFigures:
    """What there is of one queue."""

    statuses: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    #: Pending jobs whose delay is not over. Those whose delay ended less than a second ago may still count.
    delayed: int = 0
    #: Running jobs under a lease, which may have expired since the last run of the reaper.
    leased: int = 0
    #: For how many whole seconds the job has been due that the next claim gets; `None` without due jobs.
    oldest_due_seconds: int | None = None

    @property
    def due(self) -> int:
        """Pending jobs that may be claimed."""
        return self.statuses[Status.PENDING] - self.delayed


async def read_figures(client: StoreClient, queue: str = "") -> dict[str, QueueFigures]:
    """Return the figures of the queues that have jobs, by name: of `queue` alone, or of all for an empty text.

    Raises the errors of `StoreClient.run_script`.
    """
    figures: dict[str, QueueFigures] = {}
    for name, state, count in (await count_jobs(client, queue=queue)).rows:
        of_queue = figures.setdefault(name, QueueFigures())
        of_queue.statuses[STATUS_OF_STATE[state]] += count
        if state == "delayed":
            of_queue.delayed += count
        elif state == "running":
            of_queue.leased += count
    replies = await client.run_in_all_partitions(scripts.FIND_DUE, [queue, MAX_EXPIRED_SCAN])
    firsts: dict[str, tuple[int, int]] = {}
    for name, order, seconds in (first for reply in replies for first in _firsts(reply)):
        firsts[name] = min(firsts.get(name, (order, seconds)), (order, seconds))
    for name, (_, seconds) in firsts.items():
        if name in figures and figures[name].due > 0:  # as it was counted, a moment before
            figures[name].oldest_due_seconds = seconds
    return figures


def _firsts(reply: Sequence[Any]) -> Iterator[tuple[str, int, int]]:
    """Yield each queue of a reply of find_due.lua, the place of its next job, and for how long (s) it has been due."""
    _, now, *values = reply
    for queue, order, since in zip(values[::3], values[1::3], values[2::3], strict=True):
        yield queue.decode(), int(order), max(0, int(now) - int(since)) // 1_000_000
