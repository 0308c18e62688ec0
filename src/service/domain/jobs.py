"""The job record and what goes with it: what is asked for, what comes back."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from msgspec import Meta, Raw, Struct

from service.domain import rules
from service.domain.states import FINAL, Status

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: ISO 8601 in UTC with microseconds and a Z: as text it sorts as in time.
Timestamp = Annotated[
    str,
    Meta(extra_json_schema={"description": "ISO 8601, UTC, with microseconds", "extra": {"format": "date-time"}}),
]


class Progress(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How far a running job has come, in units of the worker's choice."""

    current: Annotated[int, rules.COUNT.meta("How far the work is")]
    total: Annotated[int, rules.COUNT.meta("How far it will be at its end")] | None = None
    message: Annotated[str, rules.PROGRESS_MESSAGE.meta("What is being done")] | None = None


class Job(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job record as it stands in the store. What is `None` is absent; a JSON null is `Raw(b"null")`."""

    job_id: str
    status: Status
    queue: str
    input_params: Raw | None = None
    result: Raw | None = None
    error_message: Raw | None = None
    progress: Progress | None = None
    scenario_count: int | None = None
    slate_id: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    #: Starts at 1; every accepted change adds one.
    revision: int
    #: How often the job moved to running.
    attempt: int
    failures: int
    max_attempts: int
    retry_delay_seconds: int
    #: Not to be claimed before; only where a delay was asked for.
    available_at: Timestamp | None = None
    worker: str | None = None
    lease_seconds: int | None = None
    lease_expires_at: Timestamp | None = None
    #: The lease has run out and nobody has reaped it yet.
    stale: bool
    cancel_requested_at: Timestamp | None = None
    created_at: Timestamp
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    updated_at: Timestamp
    #: When the retention ends, unless a change starts it again.
    expires_at: Timestamp

    @property
    def version(self) -> str:
        """What names this state of this job: `<created µs>-<revision>`, with `-stale` while stale."""
        return f"{micros(self.created_at)}-{self.revision}{'-stale' if self.stale else ''}"

    @property
    def is_final(self) -> bool:
        """Say whether the job has ended."""
        return self.status in FINAL


class Creation(Struct, frozen=True):
    """A job that is there after `create_job`; `replayed` if an equal request had created it before."""

    job: Job
    replayed: bool


class JobFilter(Struct, frozen=True, kw_only=True):
    """What a list shows: the jobs that match every field that is given."""

    status: Status | None = None
    queue: str | None = None
    slate_id: str | None = None
    correlation_id: str | None = None


class Page(Struct, frozen=True):
    """Some jobs, newest first; `next_before` (created µs) is where the next page starts, `None` at the end."""

    items: list[Job]
    next_before: int | None


class Batch(Struct, frozen=True):
    """The jobs that were found, in the order asked for, and the ids that were not."""

    items: list[Job]
    not_found: list[str]


class RunningCount(Struct, frozen=True):
    """Running jobs with a live lease, and those without one."""

    leased: int
    unleased: int


class OldestPending(Struct, frozen=True):
    """The pending job that was created first."""

    job_id: str
    queue: str
    created_at: Timestamp


class Stats(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Exact counts at the moment `at`."""

    at: Timestamp
    statuses: dict[Status, int]
    #: Of the pending ones, those whose delay is not over.
    delayed: int
    queues: dict[str, dict[Status, int]]
    running: RunningCount
    oldest_pending: OldestPending | None = None


def micros(timestamp: str) -> int:
    """Return a record's timestamp as microseconds since 1970."""
    return (datetime.fromisoformat(timestamp) - _EPOCH) // timedelta(microseconds=1)
