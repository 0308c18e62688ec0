"""What the service returns, as immutable structs. Unknown fields are ignored, so that a newer service is understood.

JSON of unknown content (`input_params`, `result`, `error_message`) is kept byte for byte in the fields `raw_…`. The
properties without `raw_` decode it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from msgspec import Raw, Struct, field

from jobstate._json import decode

#: The statuses after which a job changes no more.
FINAL_STATUSES: Final = frozenset({"completed", "failed", "cancelled"})


class Progress(Struct, frozen=True, omit_defaults=True):
    """The progress of a job, in units that its worker chose."""

    current: int
    total: int | None = None
    message: str | None = None


class Job(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job's record at one moment. Times are in UTC, on the clock of the service.

    Records from lists and event streams come without `input_params` and `result`.
    """

    job_id: str
    #: `pending`, `running`, `completed`, `failed`, `cancelled`; newer services may have more.
    status: str
    queue: str
    #: 1 at creation. Each change adds 1.
    revision: int
    #: How often the job became running.
    attempt: int
    failures: int
    max_attempts: int
    retry_delay_seconds: int
    #: Whether the lease of its worker has expired.
    stale: bool
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    progress: Progress | None = None
    scenario_count: int | None = None
    slate_id: str | None = None
    correlation_id: str | None = None
    labels: Mapping[str, str] = {}
    traceparent: str | None = None
    #: Seconds of seniority: claims give the job with the smallest `created_at` less priority first.
    priority: int = 0
    available_at: datetime | None = None
    start_timeout_seconds: int | None = None
    #: When the job fails unless it was started; until it is.
    start_deadline_at: datetime | None = None
    run_timeout_seconds: int | None = None
    #: When the attempt fails; while the job is running.
    run_deadline_at: datetime | None = None
    #: How long it is kept after its end; `None`: as its queue says, or else the service.
    retention_seconds: int | None = None
    worker: str | None = None
    lease_seconds: int | None = None
    lease_expires_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    #: JSON as it was sent; empty if absent.
    raw_input_params: Raw = field(default=Raw(), name="input_params")
    raw_result: Raw = field(default=Raw(), name="result")
    raw_error_message: Raw = field(default=Raw(), name="error_message")

    @property
    def is_final(self) -> bool:
        """Whether the job has ended: completed, failed or cancelled."""
        return self.status in FINAL_STATUSES

    @property
    def input_params(self) -> Any:
        """The input of the job as Python objects; `None` if absent. Integers are exact."""
        return decode(self.raw_input_params)

    @property
    def result(self) -> Any:
        """The result of the job as Python objects; `None` if absent. Integers are exact."""
        return decode(self.raw_result)

    @property
    def error_message(self) -> Any:
        """Why the job failed or was cancelled, as Python objects; `None` if absent."""
        return decode(self.raw_error_message)


class HistoryEntry(Struct, frozen=True):
    """One change of a job."""

    at: datetime
    revision: int
    #: Such as `created`, `running`, `pending`, `cancel-requested`, `completed`, `retried`.
    change: str
    #: The attempt that ended with an error, and the error as JSON text, cut at 1 KiB.
    attempt: int | None = None
    error: str | None = None
    #: The name of the API key that made it; `None` without API keys, and for changes of the service itself.
    by: str | None = None


class History(Struct, frozen=True):
    """The changes of a job without those of its progress, oldest first; `complete` unless older ones were dropped."""

    items: tuple[HistoryEntry, ...]
    complete: bool


class JobPage(Struct, frozen=True):
    """A page of jobs, newest first. `next_cursor` is absent on the last page only; other pages may be short."""

    items: tuple[Job, ...]
    next_cursor: str | None = None


class CreatedJob(Struct, frozen=True):
    """What became of one job of a batch: the job, or why it was not created."""

    job: Job | None = None
    problem: "Problem | None" = None


class CreatedJobs(Struct, frozen=True):
    """What became of the jobs of a batch, in the order of the request."""

    items: tuple[CreatedJob, ...]


class JobBatch(Struct, frozen=True):
    """The requested jobs that exist, without input and result, and the ids of the others."""

    items: tuple[Job, ...]
    not_found: tuple[str, ...]


class Lease(Struct, frozen=True):
    """A worker's right to finish a job. `token` is the header `Lease-Token` of its requests."""

    token: str
    expires_at: datetime


class Claim(Struct, frozen=True):
    """A claimed job and its lease."""

    job: Job
    lease: Lease


class ClaimList(Struct, frozen=True):
    """Claimed jobs, in the order of claims."""

    items: tuple[Claim, ...]


class Heartbeat(Struct, frozen=True):
    """The response to a heartbeat: the new end of the lease, and whether the worker should stop."""

    lease_expires_at: datetime
    cancel_requested: bool
    #: When the attempt fails; `None` without a time-out.
    run_deadline_at: datetime | None = None


class RunningCount(Struct, frozen=True):
    """The number of running jobs with a live lease, and without one."""

    leased: int
    unleased: int


class OldestJob(Struct, frozen=True):
    """A reference to the oldest job."""

    job_id: str
    queue: str
    created_at: datetime


class Stats(Struct, frozen=True, kw_only=True):
    """Exact counts at the time `at`; those of `queues` are by queue and status."""

    at: datetime
    statuses: Mapping[str, int]
    delayed: int = 0
    queues: Mapping[str, Mapping[str, int]]
    running: RunningCount
    oldest_pending: OldestJob | None = None


class Retention(Struct, frozen=True):
    """How long the jobs of a queue are kept after their end, in seconds. `None`: as long as the service keeps jobs."""

    completed: int | None = None
    failed: int | None = None
    cancelled: int | None = None


class Queue(Struct, frozen=True, kw_only=True):
    """The settings of a queue and its jobs by status. Without `max_running` any number of them may run."""

    queue: str
    paused: bool
    statuses: Mapping[str, int]
    #: Pending jobs whose delay is not over.
    delayed: int = 0
    #: Running jobs under a lease.
    leased: int = 0
    #: Running jobs, and unless the queue is paused the due ones: by this number workers can be scaled.
    demand: int = 0
    #: For how long the next job to be claimed has been due; `None` without due jobs.
    oldest_due_seconds: int | None = None
    max_running: int | None = None
    retention_seconds: Retention | None = None


class QueueList(Struct, frozen=True):
    """All queues, sorted by name."""

    items: tuple[Queue, ...]


class DrainStatus(Struct, frozen=True, kw_only=True):
    """Whether a drain is on, and how many jobs still run."""

    draining: bool
    running: int
    leased: int
    safe_to_stop: bool
    until: datetime | None = None
    oldest: OldestJob | None = None


class FieldError(Struct, frozen=True):
    """What is wrong with one field of a request, and what is allowed."""

    field: str
    detail: str
    allowed: str = ""


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The details of an error response (RFC 9457)."""

    type: str
    title: str = ""
    status: int = 0
    detail: str = ""
    #: Finds the request in the log of the service.
    correlation_id: str = ""
    errors: tuple[FieldError, ...] = ()
    #: The status and the revision of the job that refused a change.
    current_status: str | None = None
    revision: int | None = None
    raw_error_message: Raw = field(default=Raw(), name="error_message")

    @property
    def name(self) -> str:
        """The last part of its type, such as `job-not-found`."""
        return self.type.rpartition(":")[2]
