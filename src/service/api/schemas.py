"""What requests and responses look like on the wire, with the limits as the domain enforces them."""

from typing import Annotated, Final

from litestar.params import HeaderParameter
from msgspec import Raw, Struct

from service.domain import rules
from service.domain.jobs import Job, Progress
from service.domain.json_text import ALLOWED
from service.domain.states import Status

#: An absent JSON value; a JSON null is `Raw(b"null")`.
ABSENT: Final = Raw()


JobId = Annotated[str, rules.JOB_ID.meta("The job's id")]
Queue = Annotated[str, rules.QUEUE.meta("The queue that workers claim it from")]
SlateId = Annotated[str, rules.LABEL.meta("The slate that the job belongs to")]
CorrelationId = Annotated[str, rules.LABEL.meta("What ties the job to the work that caused it")]
ScenarioCount = Annotated[int, rules.COUNT.meta("How many scenarios the job is about")]


IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description=f"Makes a repetition of the request harmless: {rules.IDEMPOTENCY_KEY.allowed}",
    ),
]


class CreateJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job to be done. Its id is `job_id`, else follows from the Idempotency-Key, else is made by the service."""

    input_params: Annotated[Raw, rules.described("What the worker needs to know", ALLOWED)]
    job_id: JobId | None = None
    queue: Queue = rules.DEFAULT_QUEUE
    slate_id: SlateId | None = None
    scenario_count: ScenarioCount | None = None
    correlation_id: CorrelationId | None = None
    max_attempts: Annotated[int, rules.MAX_ATTEMPTS.meta("How often the job may fail before it has failed")] = 1
    retry_delay_seconds: Annotated[
        int, rules.RETRY_DELAY_SECONDS.meta("Seconds before the first retry; each further one doubles them")
    ] = 0
    delay_seconds: Annotated[int, rules.DELAY_SECONDS.meta("Seconds before the job may be claimed")] = 0


class ChangeJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A move to another status, or new progress of a running job."""

    status: Annotated[Status, rules.described("The status to move to", ", ".join(Status))]
    result: Annotated[Raw, rules.described("With status completed only", ALLOWED)] = ABSENT
    error_message: Annotated[Raw, rules.described("With status failed or cancelled only", ALLOWED)] = ABSENT
    progress: Progress | None = None
    scenario_count: ScenarioCount | None = None


class CancelJob(Struct, frozen=True, forbid_unknown_fields=True):
    """No fields: what is cancelled stands in the address."""


class BatchGet(Struct, frozen=True, forbid_unknown_fields=True):
    """The ids of the jobs to get."""

    job_ids: Annotated[
        list[JobId], rules.described("The jobs to get", "1 to 1,000 ids", max_items=rules.BATCH_SIZE.most)
    ]


class JobList(Struct, frozen=True, omit_defaults=True):
    """Jobs, newest first; `next_cursor` leads to the next page and is absent on the last."""

    items: list[Job]
    next_cursor: str | None = None


class Health(Struct, frozen=True):
    """That the service lives or is ready, and which version it is."""

    status: str
    version: str


class FieldError(Struct, frozen=True):
    """A part of the request that is not as it should be."""

    field: str
    detail: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.field}: {self.detail}; allowed: {self.allowed}"


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details after RFC 9457. `type` is stable; `title` and `detail` are for people."""

    type: str
    title: str
    status: int
    detail: str
    correlation_id: str
    errors: list[FieldError] | None = None
    current_status: Status | None = None
    revision: int | None = None
    error_message: Raw | None = None
