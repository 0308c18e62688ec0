"""What requests and responses look like on the wire, with the limits as the domain enforces them."""

from typing import Annotated, Any, Final

from litestar.openapi.spec import Schema
from litestar.params import HeaderParameter
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition
from msgspec import Meta, Raw, Struct

from service.domain import rules
from service.domain.jobs import Job, Progress
from service.domain.json_text import ALLOWED
from service.domain.states import Status

#: An absent JSON value; a JSON null is `Raw(b"null")`.
ABSENT: Final = Raw()


def _text(rule: rules.Pattern, meaning: str) -> Meta:
    return Meta(extra_json_schema={"description": f"{meaning}: {rule.allowed}", "extra": {"pattern": rule.regex}})


def _label(rule: rules.Label, meaning: str) -> Meta:
    lengths = {"min_length": 1, "max_length": rule.most}
    return Meta(extra_json_schema={"description": f"{meaning}: {rule.allowed}", "extra": lengths})


def _integer(rule: rules.Range, meaning: str) -> Meta:
    bounds = {"minimum": rule.least, "maximum": rule.most}
    return Meta(extra_json_schema={"description": f"{meaning}: {rule.allowed}", "extra": bounds})


def _json(meaning: str) -> Meta:
    return Meta(extra_json_schema={"description": f"{meaning}: {ALLOWED}"})


JobId = Annotated[str, _text(rules.JOB_ID, "The job's id")]
Queue = Annotated[str, _text(rules.QUEUE, "The queue that workers claim it from")]
SlateId = Annotated[str, _label(rules.LABEL, "The slate that the job belongs to")]
CorrelationId = Annotated[str, _label(rules.LABEL, "What ties the job to the work that caused it")]
ScenarioCount = Annotated[int, _integer(rules.COUNT, "How many scenarios the job is about")]


IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description=f"Makes a repetition of the request harmless: {rules.IDEMPOTENCY_KEY.allowed}",
    ),
]


class CreateJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job to be done. Without `job_id` the Idempotency-Key determines the id, without either the service makes one."""

    input_params: Annotated[Raw, _json("What the worker needs to know")]
    job_id: JobId | None = None
    queue: Queue = rules.DEFAULT_QUEUE
    slate_id: SlateId | None = None
    scenario_count: ScenarioCount | None = None
    correlation_id: CorrelationId | None = None
    max_attempts: Annotated[int, _integer(rules.MAX_ATTEMPTS, "How often the job may fail before it has failed")] = 1
    retry_delay_seconds: Annotated[
        int, _integer(rules.RETRY_DELAY_SECONDS, "Seconds before the first retry; each further one doubles them")
    ] = 0
    delay_seconds: Annotated[int, _integer(rules.DELAY_SECONDS, "Seconds before the job may be claimed")] = 0


class ChangeJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A move to another status, or new progress of a running job."""

    status: Annotated[Status, Meta(extra_json_schema={"description": f"The status to move to: {', '.join(Status)}"})]
    result: Annotated[Raw, _json("With status completed only")] = ABSENT
    error_message: Annotated[Raw, _json("With status failed or cancelled only")] = ABSENT
    progress: Progress | None = None
    scenario_count: ScenarioCount | None = None


class CancelJob(Struct, frozen=True, forbid_unknown_fields=True):
    """No fields: what is cancelled stands in the address."""


class BatchGet(Struct, frozen=True, forbid_unknown_fields=True):
    """The ids of the jobs to get."""

    job_ids: Annotated[
        list[JobId], Meta(extra_json_schema={"description": "1 to 1,000 ids of jobs", "extra": {"max_items": 1000}})
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


class AnyJson(OpenAPISchemaPlugin):
    """Shows a value that passes through unparsed as what it is to a client: any JSON."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        """Say whether `value` is such a type."""
        return value is Raw or value == Raw | None

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """Return the schema that accepts everything."""
        return Schema()
