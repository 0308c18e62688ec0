"""The states of a job and the table of legal moves between them."""

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """Where a job stands, as every client sees it."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: From each status, those that a change may ask for. Scripts get it as arguments, the documentation is drawn from it.
#: A running job moves to running only with progress that it does not have yet.
TRANSITIONS: Mapping[Status, tuple[Status, ...]] = {
    Status.PENDING: (Status.RUNNING, Status.FAILED, Status.CANCELLED),
    Status.RUNNING: (Status.RUNNING, Status.COMPLETED, Status.FAILED, Status.CANCELLED),
    Status.COMPLETED: (),
    Status.FAILED: (),
    Status.CANCELLED: (),
}

#: The statuses that nothing follows.
FINAL_STATUSES: frozenset[Status] = frozenset(status for status, targets in TRANSITIONS.items() if not targets)

#: The statuses that a change may bring an `error_message` with.
STATUSES_WITH_ERROR: frozenset[Status] = frozenset({Status.FAILED, Status.CANCELLED})


def sources_of(target: Status) -> tuple[Status, ...]:
    """Return the statuses from which a job may move to `target`."""
    return tuple(source for source, targets in TRANSITIONS.items() if target in targets)
