"""What requests and responses look like on the wire, with the limits as the domain enforces them."""

from typing import Annotated, ClassVar, Final, TypeVar

from litestar.openapi.spec import Schema
from msgspec import UNSET, Raw, Struct, UnsetType

from service.api.openapi.schemas import extensible_enum
from service.domain import constraints, jobs
from service.domain.jobs import Job, Progress, description
from service.domain.json_text import ALLOWED
from service.domain.states import STATUSES_WITH_ERROR, Status

T = TypeVar("T")

#: An absent JSON value; a JSON null is `Raw(b"null")`.
EMPTY_RAW: Final = Raw()


JobId = Annotated[str, constraints.JOB_ID.meta("The job's id")]
Queue = Annotated[str, constraints.QUEUE.meta("The queue that workers claim it from")]
SlateId = Annotated[str, constraints.LABEL.meta("The slate that the job belongs to")]
CorrelationId = Annotated[str, constraints.LABEL.meta("What ties the job to the work that caused it")]
ScenarioCount = Annotated[int, constraints.COUNT.meta("How many scenarios the job is about")]


LeaseSeconds = Annotated[int, constraints.LEASE_SECONDS.meta("Seconds until the lease runs out unless it is extended")]


def raw_or_none(value: Raw) -> Raw | None:
    """Return a JSON value of a request as the domain takes it: `None` where it was left out."""
    return value if bytes(value) else None


def progress_of(sent: "ProgressInput | UnsetType") -> Progress | None:
    """Return the progress of a request as the domain takes it."""
    return (
        None
        if isinstance(sent, UnsetType)
        else Progress(sent.current, unset_to_none(sent.total), unset_to_none(sent.message))
    )


def unset_to_none(value: T | UnsetType) -> T | None:
    """Return a field of a request as the domain takes it: `None` where it was left out."""
    return None if isinstance(value, UnsetType) else value


class ProgressInput(Struct, frozen=True, forbid_unknown_fields=True):
    """How far the work has come, in units of the worker's choice."""

    current: Annotated[int, constraints.COUNT.meta("How far the work is")]
    total: Annotated[int, constraints.COUNT.meta("How far it will be at its end")] | UnsetType = UNSET
    message: Annotated[str, constraints.PROGRESS_MESSAGE.meta("What is being done")] | UnsetType = UNSET


def requires_status(*statuses: Status) -> Schema:
    """Return the schema of a body with one of these statuses."""
    return Schema(properties={"status": Schema(enum=list(statuses))})


class CreateJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job to be done. Its id is `job_id`, else follows from the Idempotency-Key, else is made by the service."""

    input_params: Annotated[Raw, constraints.documented("What the worker needs to know", ALLOWED)]
    job_id: JobId | UnsetType = UNSET
    queue: Queue = constraints.DEFAULT_QUEUE
    slate_id: SlateId | UnsetType = UNSET
    scenario_count: ScenarioCount | UnsetType = UNSET
    correlation_id: CorrelationId | UnsetType = UNSET
    max_attempts: Annotated[int, constraints.MAX_ATTEMPTS.meta("How often the job may fail before it has failed")] = 1
    retry_delay_seconds: Annotated[int, constraints.RETRY_DELAY_SECONDS.meta(constraints.RETRY_DELAY_MEANING)] = 0
    delay_seconds: Annotated[int, constraints.DELAY_SECONDS.meta("Seconds before the job may be claimed")] = 0


class ChangeJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A move to another status, or new progress of a running job."""

    #: What goes with which status, for the API document.
    KEYWORDS: ClassVar = {
        "dependent_schemas": {
            "result": requires_status(Status.COMPLETED),
            "error_message": requires_status(*sorted(STATUSES_WITH_ERROR)),
        }
    }

    status: Annotated[Status, constraints.documented("The status to move to", ", ".join(Status))]
    result: Annotated[Raw, constraints.documented("With status completed only", ALLOWED)] = EMPTY_RAW
    error_message: Annotated[Raw, constraints.documented("With status failed or cancelled only", ALLOWED)] = EMPTY_RAW
    progress: ProgressInput | UnsetType = UNSET
    scenario_count: ScenarioCount | UnsetType = UNSET


class CancelJob(Struct, frozen=True, forbid_unknown_fields=True):
    """No fields: what is cancelled stands in the address."""


class ClaimJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a worker is ready for."""

    queues: Annotated[
        list[Queue],
        constraints.documented(
            "The queues to take from", "1 to 100 queues", min_items=1, max_items=constraints.CLAIMED_QUEUES.maximum
        ),
    ]
    worker: Annotated[str, constraints.LABEL.meta("Who it is, for people")]
    lease_seconds: LeaseSeconds = constraints.DEFAULT_LEASE_SECONDS
    wait_seconds: Annotated[int, constraints.WAIT_SECONDS.meta("Seconds to wait for a job if none is due")] = 0


class SendHeartbeat(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That the worker lives; how far it has come."""

    lease_seconds: LeaseSeconds | UnsetType = UNSET
    progress: ProgressInput | UnsetType = UNSET


class ReleaseJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That the worker gives the job back; with an `error_message` because its attempt has failed."""

    error_message: Annotated[Raw, constraints.documented("Why the attempt has failed", ALLOWED)] = EMPTY_RAW
    delay_seconds: (
        Annotated[int, constraints.DELAY_SECONDS.meta("Seconds before it may be claimed again, if not its own")]
        | UnsetType
    ) = UNSET


class ConfigureQueue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a queue. A field that is left out stays as it is; `null` clears it."""

    paused: (
        Annotated[bool, constraints.documented("Whether no jobs are claimed from it", "true, false, or null for false")]
        | UnsetType
        | None
    ) = UNSET
    max_running: (
        Annotated[
            int,
            constraints.documented(
                "How many of its jobs may run at one time",
                f"{constraints.MAX_RUNNING.allowed}, or null for any number",
                **constraints.MAX_RUNNING.json_schema,
            ),
        ]
        | UnsetType
        | None
    ) = UNSET


class StartDrain(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long no job is created or claimed."""

    seconds: Annotated[int, constraints.DRAIN_SECONDS.meta("After so many seconds it ends by itself")] = (
        constraints.DEFAULT_DRAIN_SECONDS
    )


class QueueList(Struct, frozen=True):
    """The queues, by name."""

    items: Annotated[list[jobs.Queue], description("Those that have jobs or settings of their own")]


class BatchGet(Struct, frozen=True, forbid_unknown_fields=True):
    """The ids of the jobs to get."""

    job_ids: Annotated[
        list[JobId],
        constraints.documented(
            "The jobs to get", "1 to 1,000 ids", min_items=1, max_items=constraints.BATCH_SIZE.maximum
        ),
    ]


class JobList(Struct, frozen=True, omit_defaults=True):
    """Jobs, newest first; `next_cursor` leads to the next page and is absent on the last."""

    items: Annotated[list[Job], description("The jobs, without `input_params` and `result` unless asked for")]
    next_cursor: Annotated[str, description("For `cursor`, with the same filters; absent on the last page")] | None = (
        None
    )


class Health(Struct, frozen=True):
    """That the service lives or is ready, and which version it is."""

    status: Annotated[str, extensible_enum("How it is", ("ok", "ready"))]
    version: Annotated[str, description("The version of the service")]
