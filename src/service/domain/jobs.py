"""The job record, and the other structs that the service takes and returns."""

from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from service.domain import constraints
from service.domain.constraints import Constraint, Range
from service.domain.json_text import ALLOWED as ANY_JSON
from service.domain.states import FINAL_STATUSES, Status
from service.domain.timestamps import parse_timestamp


def timestamp_meta(text: str) -> Meta:
    """Return the API documentation of a time: ISO 8601 in UTC with microseconds and a Z; it sorts by time as text."""
    return Meta(description=text, extra_json_schema={"extra": {"format": "date-time"}})


def count_meta(text: str, minimum: int = 0) -> Meta:
    """Return the API documentation of an integer that is at least `minimum`."""
    constraint = Range(minimum, constraints.COUNT.maximum)
    return Meta(description=text, extra_json_schema={"extra": {"minimum": minimum}}, extra={"constraint": constraint})


def description(text: str, constraint: Constraint | None = None) -> Meta:
    """Return the API documentation of a field; the doctor checks `constraint`, which the document does not show."""
    return Meta(description=text, extra=None if constraint is None else {"constraint": constraint})


QueueName = Annotated[str, constraints.QUEUE.meta("The queue from which workers claim the job")]
ScenarioCount = Annotated[int, constraints.COUNT.meta("The number of scenarios that the job computes")]
CausingId = Annotated[str, constraints.TEXT.meta("An id that connects the job to the request that caused it")]
InputParams = Annotated[Raw, description("The input for the worker: any JSON, returned as it was sent")]
Result = Annotated[Raw, description("The result of a completed job: any JSON, returned as it was sent")]
ErrorMessage = Annotated[Raw, description("Why the job failed or was cancelled: any JSON, returned as sent")]
RunTimeout = Annotated[int, constraints.RUN_TIMEOUT_SECONDS.meta("Seconds from the start of each attempt to its end")]
StartTimeout = Annotated[int, constraints.START_TIMEOUT_SECONDS.meta("Seconds from when it is due to its first start")]
RetentionSeconds = Annotated[
    int, constraints.RETENTION_SECONDS.meta("Seconds for which the record is kept after the job has ended")
]
LabelValue = Annotated[str, constraints.TEXT.meta("The value of a label")]
Labels = Annotated[dict[str, LabelValue], constraints.LABELS.meta("Names and values by which the job can be found")]
TraceParent = Annotated[str, description("The trace context of the request that created it", constraints.TRACEPARENT)]
AvailableAt = Annotated[str, timestamp_meta("When the job can be claimed; present for a delayed job only")]
MaxRunning = Annotated[int, count_meta("How many of its jobs may run concurrently; absent: unlimited", 1)]


class Progress(Struct, frozen=True, omit_defaults=True):
    """The progress of a running job, in units that the worker chooses."""

    current: Annotated[int, constraints.COUNT.meta("Units of work that are done")]
    total: Annotated[int, constraints.COUNT.meta("Units of work in total")] | None = None
    message: Annotated[str, constraints.PROGRESS_MESSAGE.meta("What the worker is doing")] | None = None


class NewJob(Struct, frozen=True, kw_only=True):
    """The fields of a job that its creator chooses. In Python, `None` also means absent.

    The constraint in each annotation validates the field. A field that `Job` also has is stored under its name.
    """

    input_params: Annotated[Raw, constraints.documented("The input of the worker", ANY_JSON)]
    queue: QueueName = constraints.DEFAULT_QUEUE
    slate_id: Annotated[str, constraints.TEXT.meta("The slate that the job belongs to")] | UnsetType = UNSET
    scenario_count: ScenarioCount | UnsetType = UNSET
    correlation_id: CausingId | UnsetType = UNSET
    max_attempts: Annotated[int, constraints.MAX_ATTEMPTS.meta("The failed attempts after which the job is failed")] = 1
    retry_delay_seconds: Annotated[int, constraints.RETRY_DELAY_SECONDS.meta(constraints.RETRY_DELAY_MEANING)] = 0
    delay_seconds: Annotated[int, constraints.DELAY_SECONDS.meta("Seconds before the job may be claimed")] = 0
    priority: Annotated[int, constraints.PRIORITY.meta(constraints.PRIORITY_MEANING)] = 0
    run_timeout_seconds: RunTimeout | UnsetType = UNSET
    start_timeout_seconds: StartTimeout | UnsetType = UNSET
    retention_seconds: RetentionSeconds | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET


class Job(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job and its state.

    In Python an absent field is `None`, and a JSON null is `Raw(b"null")`.
    """

    job_id: Annotated[str, description("The id of the job")]
    status: Annotated[Status, description("The status of the job")]
    queue: Annotated[str, description("The queue that workers claim it from")]
    input_params: InputParams | None = None
    result: Result | None = None
    error_message: ErrorMessage | None = None
    progress: Progress | None = None
    scenario_count: Annotated[int, count_meta("The number of scenarios in the job")] | None = None
    slate_id: Annotated[str, description("The slate that the job belongs to")] | None = None
    correlation_id: Annotated[str, description("The correlation id of the request that created it")] | None = None
    labels: Annotated[dict[str, str], description("By which it can be found")] | None = None
    traceparent: TraceParent | None = None
    revision: Annotated[int, count_meta("Starts at 1; every accepted change adds 1", 1)]
    attempt: Annotated[int, count_meta("How often the job became running")]
    failures: Annotated[int, count_meta("How many attempts failed or lost their lease by expiry")]
    max_attempts: Annotated[int, count_meta("How many failures make the job `failed`", 1)]
    retry_delay_seconds: Annotated[int, count_meta(constraints.RETRY_DELAY_MEANING)]
    priority: Annotated[int, count_meta(f"{constraints.PRIORITY_MEANING}; absent: 0", constraints.PRIORITY.minimum)] = 0
    available_at: AvailableAt | None = None
    start_timeout_seconds: (
        Annotated[int, count_meta("Seconds from when it is due to its first start; it fails after that", 1)] | None
    ) = None
    start_deadline_at: Annotated[str, timestamp_meta("When it fails unless it was started; until it is")] | None = None
    run_timeout_seconds: (
        Annotated[int, count_meta("Seconds from the start of each attempt; it has failed after that", 1)] | None
    ) = None
    run_deadline_at: Annotated[str, timestamp_meta("When the attempt fails; while the job is running")] | None = None
    retention_seconds: (
        Annotated[int, count_meta("Seconds for which it is kept after its end; absent: see its queue", 1)] | None
    ) = None
    worker: Annotated[str, description("The name of the worker that holds the lease", constraints.TEXT)] | None = None
    lease_seconds: Annotated[int, count_meta("The requested duration of the lease in seconds", 1)] | None = None
    lease_expires_at: Annotated[str, timestamp_meta("When the lease expires; absent without a lease")] | None = None
    stale: Annotated[bool, description("The lease has expired and the job is not requeued yet")]
    cancel_requested_at: Annotated[str, timestamp_meta("When cancellation was requested from the worker")] | None = None
    created_at: Annotated[str, timestamp_meta("When it was created")]
    started_at: Annotated[str, timestamp_meta("When it last became running")] | None = None
    finished_at: Annotated[str, timestamp_meta("When it finished")] | None = None
    updated_at: Annotated[str, timestamp_meta("When it last changed")]
    expires_at: Annotated[str, timestamp_meta("When its retention ends; every change starts it anew")]

    @property
    def version(self) -> str:
        """The version of the record: `<created µs>-<revision>`, with the suffix `-stale` while the job is stale."""
        return f"{parse_timestamp(self.created_at)}-{self.revision}{'-stale' if self.stale else ''}"

    @property
    def claim_order(self) -> int:
        """The creation time less the priority (µs since 1970). Claims give the job with the smallest one first."""
        return parse_timestamp(self.created_at) - self.priority * 1_000_000

    @property
    def is_final(self) -> bool:
        """Whether the job is finished."""
        return self.status in FINAL_STATUSES


class HistoryEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of a job."""

    at: Annotated[str, timestamp_meta("When it happened")]
    revision: Annotated[int, count_meta("The revision of the record after the change", 1)]
    change: Annotated[
        str,
        description(
            "created, running, pending (requeued), cancel-requested, completed, failed, cancelled or retried; more may "
            "be added"
        ),
    ]
    by: Annotated[str, description("The name of the API key that made it; absent without API keys")] | None = None
    attempt: Annotated[int, count_meta("The attempt that ended with `error`")] | None = None
    error: (
        Annotated[str, description("Its `error_message` as JSON text, cut at 1 KiB; the last 10 are kept")] | None
    ) = None


class History(Struct, frozen=True, kw_only=True):
    """The changes of a job, except those of its progress."""

    items: Annotated[list[HistoryEntry], description("The changes, oldest first")]
    complete: Annotated[bool, description("Whether `items` has every change; only the last 100 are kept")]


class CreateResult(Struct, frozen=True):
    """The job after `create_job`; `replayed` if an equal request had created it before."""

    job: Job
    replayed: bool


class Lease(Struct, frozen=True):
    """The right of a worker to update and finish a job until `expires_at`."""

    token: Annotated[str, description("The value of `Lease-Token` in every request of the worker about the job")]
    expires_at: Annotated[str, timestamp_meta("When the lease expires, unless a heartbeat extends it")]


class Claim(Struct, frozen=True):
    """A claimed job and its lease."""

    job: Job
    lease: Lease


class HeartbeatResult(Struct, frozen=True, omit_defaults=True):
    """The response to a heartbeat."""

    lease_expires_at: Annotated[str, timestamp_meta("When the lease expires, unless the next heartbeat extends it")]
    cancel_requested: Annotated[bool, description("Whether the worker should stop and cancel the job")]
    run_deadline_at: Annotated[str, timestamp_meta("When the attempt fails; absent without a time-out")] | None = None


class Retention(Struct, frozen=True, omit_defaults=True):
    """How long the jobs of a queue are kept after their end, in seconds. Absent: as long as the service keeps jobs."""

    completed: Annotated[int, count_meta("Seconds for which completed jobs are kept", 1)] | None = None
    failed: Annotated[int, count_meta("Seconds for which failed jobs are kept", 1)] | None = None
    cancelled: Annotated[int, count_meta("Seconds for which cancelled jobs are kept", 1)] | None = None


class Queue(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The settings of a queue and its numbers of jobs."""

    queue: Annotated[str, description("The name of the queue")]
    paused: Annotated[bool, description("Whether claims from the queue are paused")]
    max_running: MaxRunning | None = None
    retention_seconds: Annotated[Retention, description("How long its jobs are kept after their end")] | None = None
    statuses: Annotated[dict[Status, int], description("Its jobs by status; statuses may be added")]
    delayed: Annotated[int, count_meta("Pending jobs whose delay is not over")]
    leased: Annotated[int, count_meta("Running jobs under a lease, until the reaper takes them back")]
    demand: Annotated[
        int, count_meta("Running jobs, and unless it is paused the due ones: by this number workers can be scaled")
    ]
    oldest_due_seconds: (
        Annotated[int, count_meta("For how long the next job to be claimed has been due; absent without due jobs")]
        | None
    ) = None


class OldestJob(Struct, frozen=True):
    """A reference to the oldest job."""

    job_id: Annotated[str, description("The id of the job")]
    queue: Annotated[str, description("The queue of the job")]
    created_at: Annotated[str, timestamp_meta("When it was created")]


class DrainStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether a drain is on, and which jobs still run."""

    draining: Annotated[bool, description("Whether creations and claims are rejected")]
    until: Annotated[str, timestamp_meta("When the drain ends automatically")] | None = None
    running: Annotated[int, count_meta("The number of running jobs")]
    leased: Annotated[int, count_meta("The number of running jobs with an active lease")]
    oldest: OldestJob | None = None
    safe_to_stop: Annotated[bool, description("Whether a drain is on and no worker holds a job")]


class JobFilter(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The filters of a list; a job must match all that are not `None`."""

    status: Status | None = None
    queue: str | None = None
    slate_id: str | None = None
    correlation_id: str | None = None
    #: Times in RFC 3339, both exclusive.
    created_after: str | None = None
    created_before: str | None = None
    #: Each as `key:value`.
    labels: tuple[str, ...] = ()


class JobPage(Struct, frozen=True):
    """Jobs, newest first; the next page starts before `next_before` (created µs), which is `None` on the last page."""

    items: list[Job]
    next_before: int | None


class JobBatch(Struct, frozen=True):
    """The requested jobs that exist, in the requested order, and the ids of the others."""

    items: Annotated[list[Job], description("The jobs, without `input_params` and `result`")]
    not_found: Annotated[list[str], description("The ids of which no job exists")]


class RunningCount(Struct, frozen=True):
    """Running jobs, with and without an active lease."""

    leased: Annotated[int, count_meta("Running jobs with an active lease")]
    unleased: Annotated[int, count_meta("Running jobs without one")]


class Stats(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Exact numbers of jobs at the time `at`; with several partitions each job is counted once, shortly before it."""

    at: Annotated[str, timestamp_meta("When the jobs were counted")]
    statuses: Annotated[dict[Status, int], description("Jobs by status; statuses may be added")]
    delayed: Annotated[int, count_meta("Pending jobs whose delay has not elapsed")]
    queues: Annotated[
        dict[str, dict[Status, int]], description("Jobs by queue and status; queues without jobs are absent")
    ]
    running: RunningCount
    oldest_pending: OldestJob | None = None
