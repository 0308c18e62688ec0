"""What requests and responses look like on the wire, with the limits as the domain enforces them."""

from typing import Annotated, ClassVar, Final, TypeVar

from litestar.openapi.spec import Schema
from litestar.params import HeaderParameter
from msgspec import UNSET, Raw, Struct, UnsetType

from service.api.document_schemas import known
from service.domain import jobs, rules
from service.domain.jobs import Job, Progress, said
from service.domain.json_text import ALLOWED
from service.domain.states import WITH_ERROR, Status

T = TypeVar("T")

#: An absent JSON value; a JSON null is `Raw(b"null")`.
ABSENT: Final = Raw()


JobId = Annotated[str, rules.JOB_ID.meta("The job's id")]
Queue = Annotated[str, rules.QUEUE.meta("The queue that workers claim it from")]
SlateId = Annotated[str, rules.LABEL.meta("The slate that the job belongs to")]
CorrelationId = Annotated[str, rules.LABEL.meta("What ties the job to the work that caused it")]
ScenarioCount = Annotated[int, rules.COUNT.meta("How many scenarios the job is about")]


LeaseSeconds = Annotated[int, rules.LEASE_SECONDS.meta("Seconds until the lease runs out unless it is extended")]
LeaseToken = Annotated[
    str | None,
    HeaderParameter(
        name="Lease-Token",
        description=f"What a leased job is changed with: {rules.LEASE_TOKEN.allowed}",
        schema_extra=rules.LEASE_TOKEN.keywords,
    ),
]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description=(
            f"Makes it harmless to repeat a creation, a claim or a job's last change: {rules.IDEMPOTENCY_KEY.allowed}"
        ),
        schema_extra=rules.IDEMPOTENCY_KEY.keywords,
    ),
]


def present(value: Raw) -> Raw | None:
    """Return a JSON value of a request as the domain takes it: `None` where it was left out."""
    return value if bytes(value) else None


def progress_of(sent: "NewProgress | UnsetType") -> Progress | None:
    """Return the progress of a request as the domain takes it."""
    return None if isinstance(sent, UnsetType) else Progress(sent.current, given(sent.total), given(sent.message))


def given(value: T | UnsetType) -> T | None:
    """Return a field of a request as the domain takes it: `None` where it was left out."""
    return None if isinstance(value, UnsetType) else value


class NewProgress(Struct, frozen=True, forbid_unknown_fields=True):
    """How far the work has come, in units of the worker's choice."""

    current: Annotated[int, rules.COUNT.meta("How far the work is")]
    total: Annotated[int, rules.COUNT.meta("How far it will be at its end")] | UnsetType = UNSET
    message: Annotated[str, rules.PROGRESS_MESSAGE.meta("What is being done")] | UnsetType = UNSET


def goes_with(*statuses: Status) -> Schema:
    """Return the schema of a body with one of these statuses."""
    return Schema(properties={"status": Schema(enum=list(statuses))})


class CreateJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job to be done. Its id is `job_id`, else follows from the Idempotency-Key, else is made by the service."""

    input_params: Annotated[Raw, rules.described("What the worker needs to know", ALLOWED)]
    job_id: JobId | UnsetType = UNSET
    queue: Queue = rules.DEFAULT_QUEUE
    slate_id: SlateId | UnsetType = UNSET
    scenario_count: ScenarioCount | UnsetType = UNSET
    correlation_id: CorrelationId | UnsetType = UNSET
    max_attempts: Annotated[int, rules.MAX_ATTEMPTS.meta("How often the job may fail before it has failed")] = 1
    retry_delay_seconds: Annotated[int, rules.RETRY_DELAY_SECONDS.meta(rules.RETRY_DELAY_MEANING)] = 0
    delay_seconds: Annotated[int, rules.DELAY_SECONDS.meta("Seconds before the job may be claimed")] = 0


class ChangeJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A move to another status, or new progress of a running job."""

    #: What goes with which status, for the API document.
    KEYWORDS: ClassVar = {
        "dependent_schemas": {
            "result": goes_with(Status.COMPLETED),
            "error_message": goes_with(*sorted(WITH_ERROR)),
        }
    }

    status: Annotated[Status, rules.described("The status to move to", ", ".join(Status))]
    result: Annotated[Raw, rules.described("With status completed only", ALLOWED)] = ABSENT
    error_message: Annotated[Raw, rules.described("With status failed or cancelled only", ALLOWED)] = ABSENT
    progress: NewProgress | UnsetType = UNSET
    scenario_count: ScenarioCount | UnsetType = UNSET


class CancelJob(Struct, frozen=True, forbid_unknown_fields=True):
    """No fields: what is cancelled stands in the address."""


class ClaimJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a worker is ready for."""

    queues: Annotated[
        list[Queue],
        rules.described("The queues to take from", "1 to 100 queues", min_items=1, max_items=rules.CLAIMED_QUEUES.most),
    ]
    worker: Annotated[str, rules.LABEL.meta("Who it is, for people")]
    lease_seconds: LeaseSeconds = rules.DEFAULT_LEASE_SECONDS
    wait_seconds: Annotated[int, rules.WAIT_SECONDS.meta("Seconds to wait for a job if none is due")] = 0


class SendHeartbeat(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That the worker lives; how far it has come."""

    lease_seconds: LeaseSeconds | UnsetType = UNSET
    progress: NewProgress | UnsetType = UNSET


class ReleaseJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That the worker gives the job back; with an `error_message` because its attempt has failed."""

    error_message: Annotated[Raw, rules.described("Why the attempt has failed", ALLOWED)] = ABSENT
    delay_seconds: (
        Annotated[int, rules.DELAY_SECONDS.meta("Seconds before it may be claimed again, if not its own")] | UnsetType
    ) = UNSET


class ConfigureQueue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a queue. A field that is left out stays as it is; `null` clears it."""

    paused: (
        Annotated[bool, rules.described("Whether no jobs are claimed from it", "true, false, or null for false")]
        | UnsetType
        | None
    ) = UNSET
    max_running: (
        Annotated[
            int,
            rules.described(
                "How many of its jobs may run at one time",
                f"{rules.MAX_RUNNING.allowed}, or null for any number",
                **rules.MAX_RUNNING.keywords,
            ),
        ]
        | UnsetType
        | None
    ) = UNSET


class StartDrain(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long no job is created or claimed."""

    seconds: Annotated[int, rules.DRAIN_SECONDS.meta("After so many seconds it ends by itself")] = (
        rules.DEFAULT_DRAIN_SECONDS
    )


class QueueList(Struct, frozen=True):
    """The queues, by name."""

    items: Annotated[list[jobs.Queue], said("Those that have jobs or settings of their own")]


class BatchGet(Struct, frozen=True, forbid_unknown_fields=True):
    """The ids of the jobs to get."""

    job_ids: Annotated[
        list[JobId], rules.described("The jobs to get", "1 to 1,000 ids", min_items=1, max_items=rules.BATCH_SIZE.most)
    ]


class JobList(Struct, frozen=True, omit_defaults=True):
    """Jobs, newest first; `next_cursor` leads to the next page and is absent on the last."""

    items: Annotated[list[Job], said("The jobs, without `input_params` and `result` unless asked for")]
    next_cursor: Annotated[str, said("For `cursor`, with the same filters; absent on the last page")] | None = None


class Health(Struct, frozen=True):
    """That the service lives or is ready, and which version it is."""

    status: Annotated[str, known("How it is", ("ok", "ready"))]
    version: Annotated[str, said("The version of the service")]
