"""The job record and what goes with it: what is asked for, what comes back."""

from typing import Annotated

from msgspec import Meta, Raw, Struct

from service.domain import constraints
from service.domain.states import FINAL_STATUSES, Status
from service.domain.timestamps import parse_timestamp


def timestamp_meta(meaning: str) -> Meta:
    """Return a note for a time in ISO 8601, UTC, with microseconds and a Z: as text it sorts as in time."""
    return Meta(description=meaning, extra_json_schema={"extra": {"format": "date-time"}})


def count_meta(meaning: str, least: int = 0) -> Meta:
    """Return a note for a whole number."""
    return Meta(description=meaning, extra_json_schema={"extra": {"minimum": least}})


def description(meaning: str) -> Meta:
    """Return a note in words."""
    return Meta(description=meaning)


class Progress(Struct, frozen=True, omit_defaults=True):
    """How far a running job has come, in units of the worker's choice."""

    current: Annotated[int, constraints.COUNT.meta("How far the work is")]
    total: Annotated[int, constraints.COUNT.meta("How far it will be at its end")] | None = None
    message: Annotated[str, constraints.PROGRESS_MESSAGE.meta("What is being done")] | None = None


class Job(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job and its state.

    In Python an absent field is `None`, and a JSON null is `Raw(b"null")`.
    """

    job_id: Annotated[str, description("What names the job in every address")]
    status: Annotated[Status, description("Where the job stands")]
    queue: Annotated[str, description("The queue that workers take it from")]
    input_params: Annotated[Raw, description("What the worker needs to know: any JSON, as it came")] | None = None
    result: Annotated[Raw, description("What came out of a completed job: any JSON, as it came")] | None = None
    error_message: Annotated[Raw, description("Why the job failed or was cancelled: any JSON, as it came")] | None = (
        None
    )
    progress: Progress | None = None
    scenario_count: Annotated[int, count_meta("How many scenarios the job is about")] | None = None
    slate_id: Annotated[str, description("The slate that the job belongs to")] | None = None
    correlation_id: Annotated[str, description("What ties the job to the work that caused it")] | None = None
    traceparent: Annotated[str, description("The trace context of the request that created it")] | None = None
    revision: Annotated[int, count_meta("Starts at 1; every accepted change adds one", 1)]
    attempt: Annotated[int, count_meta("How often the job moved to running")]
    failures: Annotated[int, count_meta("How often an attempt failed or its lease ran out")]
    max_attempts: Annotated[int, count_meta("How often it may fail before it has failed", 1)]
    retry_delay_seconds: Annotated[int, count_meta(constraints.RETRY_DELAY_MEANING)]
    available_at: Annotated[str, timestamp_meta("Not to be taken before; only where a delay was asked for")] | None = (
        None
    )
    worker: Annotated[str, description("Who holds the lease")] | None = None
    lease_seconds: Annotated[int, count_meta("How long the lease was asked for", 1)] | None = None
    lease_expires_at: Annotated[str, timestamp_meta("When the lease runs out; absent without one")] | None = None
    stale: Annotated[bool, description("The lease has run out and nobody has acted on it yet")]
    cancel_requested_at: Annotated[str, timestamp_meta("When its holder was asked to stop")] | None = None
    created_at: Annotated[str, timestamp_meta("When it was created")]
    started_at: Annotated[str, timestamp_meta("When it last moved to running")] | None = None
    finished_at: Annotated[str, timestamp_meta("When it ended")] | None = None
    updated_at: Annotated[str, timestamp_meta("When it last changed")]
    expires_at: Annotated[str, timestamp_meta("When its retention ends, unless a change starts it again")]

    @property
    def version(self) -> str:
        """What names this state of this job: `<created µs>-<revision>`, with `-stale` while stale."""
        return f"{parse_timestamp(self.created_at)}-{self.revision}{'-stale' if self.stale else ''}"

    @property
    def is_final(self) -> bool:
        """Say whether the job has ended."""
        return self.status in FINAL_STATUSES


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """One change of a job."""

    at: Annotated[str, timestamp_meta("When it happened")]
    revision: Annotated[int, count_meta("The revision of the record from then on", 1)]
    change: Annotated[
        str,
        description(
            "created, running, pending (given back), cancel-requested, completed, failed, cancelled; more may come"
        ),
    ]


class History(Struct, frozen=True, kw_only=True):
    """What has become of a job so far, its progress left out."""

    items: Annotated[list[HistoryEntry], description("Its changes, oldest first")]
    complete: Annotated[bool, description("No older change was left out: the last hundred are kept")]


class CreateResult(Struct, frozen=True):
    """A job that is there after `create_job`; `replayed` if an equal request had created it before."""

    job: Job
    replayed: bool


class Lease(Struct, frozen=True):
    """The right to work on a job and to say how it ends."""

    token: Annotated[str, description("Goes along as `Lease-Token` with everything that the worker says of the job")]
    expires_at: Annotated[str, timestamp_meta("When it runs out unless a heartbeat extends it")]


class Claim(Struct, frozen=True):
    """A job and the lease that its worker has on it."""

    job: Job
    lease: Lease


class HeartbeatResult(Struct, frozen=True):
    """What a worker that is heard of learns."""

    lease_expires_at: Annotated[str, timestamp_meta("When the lease runs out unless it is extended again")]
    cancel_requested: Annotated[bool, description("The worker was asked to stop")]


class Queue(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A queue: whether it gives out jobs, and how many it has."""

    queue: Annotated[str, description("Its name")]
    paused: Annotated[bool, description("It gives out no jobs")]
    max_running: (
        Annotated[int, count_meta("How many of its jobs may run at one time; absent: any number", 1)] | None
    ) = None
    statuses: Annotated[dict[Status, int], description("Its jobs by status; more statuses may come")]


class OldestJob(Struct, frozen=True):
    """The one that was created first."""

    job_id: Annotated[str, description("Its id")]
    queue: Annotated[str, description("Its queue")]
    created_at: Annotated[str, timestamp_meta("When it was created")]


class DrainStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether jobs are created and claimed, and what is still at work."""

    draining: Annotated[bool, description("No job is created or claimed")]
    until: Annotated[str, timestamp_meta("When the drain ends by itself")] | None = None
    running: Annotated[int, count_meta("Running jobs")]
    leased: Annotated[int, count_meta("Of these, those under a live lease")]
    oldest: OldestJob | None = None
    safe_to_stop: Annotated[bool, description("Nothing is given out, and no worker holds a job")]


class JobFilter(Struct, frozen=True, kw_only=True):
    """What a list shows: the jobs that match every field that is given."""

    status: Status | None = None
    queue: str | None = None
    slate_id: str | None = None
    correlation_id: str | None = None


class JobPage(Struct, frozen=True):
    """Some jobs, newest first; `next_before` (created µs) is where the next page starts, `None` at the end."""

    items: list[Job]
    next_before: int | None


class JobBatch(Struct, frozen=True):
    """The jobs that were found, in the order asked for, and the ids that were not."""

    items: Annotated[list[Job], description("The jobs, without `input_params` and `result`")]
    not_found: Annotated[list[str], description("The ids that no job has")]


class RunningCount(Struct, frozen=True):
    """Running jobs with a live lease, and those without one."""

    leased: Annotated[int, count_meta("Running under a live lease")]
    unleased: Annotated[int, count_meta("Running without one")]


class Stats(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Exact counts at the moment `at`."""

    at: Annotated[str, timestamp_meta("When it was counted")]
    statuses: Annotated[dict[Status, int], description("Jobs by status; more statuses may come")]
    delayed: Annotated[int, count_meta("Of the pending ones, those whose delay is not over")]
    queues: Annotated[
        dict[str, dict[Status, int]], description("Jobs by queue and status; queues without jobs are absent")
    ]
    running: RunningCount
    oldest_pending: OldestJob | None = None
