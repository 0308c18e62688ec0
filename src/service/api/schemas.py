"""Bodies of requests and responses, with the constraints that the domain enforces."""

from typing import Annotated, ClassVar, Final, TypeVar

from litestar.openapi.spec import Schema
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from service.api.openapi.schemas import extensible_enum
from service.api.problems import Problem
from service.domain import constraints, jobs
from service.domain.jobs import Claim, Job, NewJob, Progress, QueueName, ScenarioCount, description
from service.domain.json_text import ALLOWED
from service.domain.states import STATUSES_WITH_ERROR, Status

T = TypeVar("T")

#: An absent JSON value. A JSON null is `Raw(b"null")`.
EMPTY_RAW: Final = Raw()


JobId = Annotated[str, constraints.JOB_ID.meta("The job's id")]
DelaySeconds = Annotated[
    int, constraints.DELAY_SECONDS.meta("Seconds until the job may be claimed, instead of its retry delay")
]
LeaseSeconds = Annotated[int, constraints.LEASE_SECONDS.meta("Seconds until the lease expires unless it is extended")]
MaxRunning = Annotated[
    int,
    constraints.documented(
        "The maximum number of its jobs that run concurrently",
        f"{constraints.MAX_RUNNING.allowed}, or null for no limit",
        **constraints.MAX_RUNNING.json_schema,
    ),
]
Paused = Annotated[bool, constraints.documented("Whether claims are paused", "true, false, or null for false")]


def raw_or_none(value: Raw) -> Raw | None:
    """Return a JSON value of a request; `None` if it is absent."""
    return value if bytes(value) else None


def progress_of(sent: "ProgressInput | UnsetType") -> Progress | None:
    """Return the progress of a request; `None` if it is absent."""
    if isinstance(sent, UnsetType):
        return None
    return Progress(sent.current, unset_to_none(sent.total), unset_to_none(sent.message))


def unset_to_none(value: T | UnsetType) -> T | None:
    """Return a field of a request; `None` if it is absent."""
    return None if isinstance(value, UnsetType) else value


class ProgressInput(Struct, frozen=True, forbid_unknown_fields=True):
    """The progress of a job, in units of the worker's choice."""

    current: Annotated[int, constraints.COUNT.meta("The completed units")]
    total: Annotated[int, constraints.COUNT.meta("The total units")] | UnsetType = UNSET
    message: Annotated[str, constraints.PROGRESS_MESSAGE.meta("The current step, for people")] | UnsetType = UNSET


def requires_status(*statuses: Status) -> Schema:
    """Return the schema of a body whose status is one of these."""
    return Schema(properties={"status": Schema(enum=list(statuses))})


class CreateJob(NewJob, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new job. Its id is `job_id`, else it is derived from the `Idempotency-Key`, else the service generates it."""

    job_id: JobId | UnsetType = UNSET


class UpdateJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new status, or progress of a running job."""

    #: The status that a field requires, for the API document.
    JSON_SCHEMA: ClassVar = {
        "dependent_schemas": {
            "result": requires_status(Status.COMPLETED),
            "error_message": requires_status(*sorted(STATUSES_WITH_ERROR)),
        }
    }

    status: Annotated[Status, constraints.documented("The new status", ", ".join(Status))]
    result: Annotated[Raw, constraints.documented("With status `completed` only", ALLOWED)] = EMPTY_RAW
    error_message: Annotated[Raw, constraints.documented("With status `failed` or `cancelled` only", ALLOWED)] = (
        EMPTY_RAW
    )
    progress: ProgressInput | UnsetType = UNSET
    scenario_count: ScenarioCount | UnsetType = UNSET


class CancelJob(Struct, frozen=True, forbid_unknown_fields=True):
    """An empty object; the path names the job."""


class RetryJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A retry of a failed or cancelled job."""

    max_attempts: (
        Annotated[int, constraints.MAX_ATTEMPTS.meta("New `max_attempts`; by default those of the job")] | UnsetType
    ) = UNSET
    delay_seconds: Annotated[int, constraints.DELAY_SECONDS.meta("Seconds before the job may be claimed")] = 0
    priority: Annotated[int, constraints.PRIORITY.meta("New `priority`; by default that of the job")] | UnsetType = (
        UNSET
    )
    run_timeout_seconds: (
        Annotated[int, constraints.RUN_TIMEOUT_SECONDS.meta("New `run_timeout_seconds`; by default those of the job")]
        | UnsetType
    ) = UNSET


class ClaimJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The queues that a worker claims from, and the lease that it needs."""

    queues: Annotated[
        list[QueueName],
        constraints.documented(
            "The queues to claim from", "1 to 100 queues", min_items=1, max_items=constraints.CLAIMED_QUEUES.maximum
        ),
    ]
    worker: Annotated[str, constraints.TEXT.meta("The name of the worker, for people")]
    lease_seconds: LeaseSeconds = constraints.DEFAULT_LEASE_SECONDS
    wait_seconds: Annotated[int, constraints.WAIT_SECONDS.meta("Seconds to wait if no job is ready")] = 0


class BatchClaim(ClaimJob, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim of several jobs."""

    max_jobs: Annotated[int, constraints.CLAIMED_JOBS.meta("The most jobs to claim")]


class HeartbeatJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An extension of the lease, with progress if there is any."""

    lease_seconds: LeaseSeconds | UnsetType = UNSET
    progress: ProgressInput | UnsetType = UNSET


class ReleaseJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A release. With an `error_message` the attempt counts as failed."""

    error_message: Annotated[Raw, constraints.documented("Why the attempt failed", ALLOWED)] = EMPTY_RAW
    delay_seconds: DelaySeconds | UnsetType = UNSET


def _retention(status: Status) -> Meta:
    """Return the API documentation of a setting of `RetentionSettings`."""
    return constraints.documented(
        f"For how many seconds {status} jobs are kept",
        f"{constraints.RETENTION_SECONDS.allowed}, or null for the retention of the service",
        **constraints.RETENTION_SECONDS.json_schema,
    )


class RetentionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long jobs are kept after their end. A field that is left out does not change; `null` clears it."""

    completed: Annotated[int, _retention(Status.COMPLETED)] | UnsetType | None = UNSET
    failed: Annotated[int, _retention(Status.FAILED)] | UnsetType | None = UNSET
    cancelled: Annotated[int, _retention(Status.CANCELLED)] | UnsetType | None = UNSET


class ConfigureQueue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a queue. A field that is left out does not change; `null` clears it."""

    paused: Paused | UnsetType | None = UNSET
    max_running: MaxRunning | UnsetType | None = UNSET
    retention_seconds: (
        Annotated[RetentionSettings, description("How long jobs are kept after their end; null clears all of it")]
        | UnsetType
        | None
    ) = UNSET


class StartDrain(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The duration of a drain."""

    seconds: Annotated[int, constraints.DRAIN_SECONDS.meta("Seconds after which the drain ends by itself")] = (
        constraints.DEFAULT_DRAIN_SECONDS
    )


class ClaimList(Struct, frozen=True):
    """Claimed jobs, in the order of claims."""

    items: Annotated[list[Claim], description("The jobs, each with its lease")]


class QueueList(Struct, frozen=True):
    """Queues, sorted by name."""

    items: Annotated[list[jobs.Queue], description("The queues that have jobs or settings")]


class BatchCreate(Struct, frozen=True, forbid_unknown_fields=True):
    """New jobs."""

    jobs: Annotated[
        list[CreateJob],
        constraints.documented(
            "The jobs, each as `POST /v1/jobs` takes it",
            "1 to 1,000 jobs",
            min_items=1,
            max_items=constraints.BATCH_SIZE.maximum,
        ),
    ]


class CreatedJob(Struct, frozen=True, omit_defaults=True):
    """What became of one job of a batch: `job` and `replayed`, or `problem`."""

    job: Annotated[Job, description("The job, without `input_params`, `result` and `error_message`")] | None = None
    replayed: Annotated[bool, description("Whether an equal request had created it before")] | None = None
    problem: Annotated[Problem, description("Why it was not created")] | None = None


class CreatedJobs(Struct, frozen=True):
    """What became of the jobs of a batch."""

    items: Annotated[list[CreatedJob], description("In the order of the request")]


class BatchGet(Struct, frozen=True, forbid_unknown_fields=True):
    """Ids of jobs."""

    job_ids: Annotated[
        list[JobId],
        constraints.documented(
            "The ids of the jobs", "1 to 1,000 ids", min_items=1, max_items=constraints.BATCH_SIZE.maximum
        ),
    ]


class JobList(Struct, frozen=True, omit_defaults=True):
    """A page of jobs, newest first."""

    items: Annotated[list[Job], description("The jobs; `input_params` and `result` only if `include` names them")]
    next_cursor: Annotated[str, description("The `cursor` of the next page; absent on the last page")] | None = None


class Health(Struct, frozen=True, omit_defaults=True):
    """The health and version of the service, and on a Redis Cluster how much of it is away."""

    status: Annotated[str, extensible_enum("The health of the service", ("ok", "ready"))]
    version: Annotated[str, description("The version of the service")]
    nodes_away: (
        Annotated[int, description("Redis nodes that do not accept changes, if there are any; others do")] | None
    ) = None
    partitions_away: Annotated[int, description("Partitions of the jobs on these nodes")] | None = None
