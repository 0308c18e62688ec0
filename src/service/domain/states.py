"""The state machine of a job."""

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """The status of a job."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: From each status, those that an update may request. Scripts get this table as arguments; docs/state-machine.md is
#: generated from it. The transition from running to running needs progress that differs from the stored one.
TRANSITIONS: Mapping[Status, tuple[Status, ...]] = {
    Status.PENDING: (Status.RUNNING, Status.FAILED, Status.CANCELLED),
    Status.RUNNING: (Status.RUNNING, Status.COMPLETED, Status.FAILED, Status.CANCELLED),
    Status.COMPLETED: (),
    Status.FAILED: (),
    Status.CANCELLED: (),
}

#: The statuses of finished jobs.
FINAL_STATUSES: frozenset[Status] = frozenset(status for status, targets in TRANSITIONS.items() if not targets)

#: The statuses of jobs that can be retried, which makes them pending. An update cannot do that.
RETRYABLE_STATUSES: tuple[Status, ...] = (Status.FAILED, Status.CANCELLED)

#: The statuses with which an update may set `error_message`.
STATUSES_WITH_ERROR: frozenset[Status] = frozenset({Status.FAILED, Status.CANCELLED})


def sources_of(target: Status) -> tuple[Status, ...]:
    """Return the statuses from which a transition to `target` is legal."""
    return tuple(source for source, targets in TRANSITIONS.items() if target in targets)
