"""Parameters that several controllers take."""

from typing import Annotated, Any

from litestar.openapi.spec import Example, OpenAPIType
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from service.api.openapi import examples
from service.domain import constraints
from service.domain.states import Status

JobIdInPath = Annotated[
    str,
    PathParameter(
        description=f"The job's id: {constraints.JOB_ID.allowed}",
        pattern=constraints.JOB_ID.regex,
        examples=[Example(value=examples.PENDING.job_id)],
    ),
]
StatusFilter = Annotated[
    str | None,  # not an enum: Litestar would convert the word "null" to `None`
    QueryParameter(description=f"Only jobs with this status: {', '.join(Status)}", schema_extra={"enum": list(Status)}),
]
QueueFilter = Annotated[
    str | None,
    QueryParameter(
        description=f"Only jobs of this queue: {constraints.QUEUE.allowed}", schema_extra=constraints.QUEUE.json_schema
    ),
]
SlateFilter = Annotated[
    str | None,
    QueryParameter(
        description=f"Only jobs of this slate: {constraints.LABEL.allowed}", schema_extra=constraints.LABEL.json_schema
    ),
]
LeaseToken = Annotated[
    str | None,
    HeaderParameter(
        name="Lease-Token",
        description=f"Required to change a leased job: {constraints.LEASE_TOKEN.allowed}",
        schema_extra=constraints.LEASE_TOKEN.json_schema,
    ),
]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description=f"Makes it safe to repeat the request: {constraints.IDEMPOTENCY_KEY.allowed}",
        schema_extra=constraints.IDEMPOTENCY_KEY.json_schema,
    ),
]


def integer_parameter(text: str, allowed: constraints.Range, **keywords: Any) -> QueryParameter:
    """Return the declaration of an integer query parameter. The handler takes a `str` and parses it.

    Litestar would also accept `5.0`, `1e2`, `-0` and `null`.
    """
    extra = {"type": OpenAPIType.INTEGER, **allowed.json_schema, **keywords}
    return QueryParameter(description=f"{text}: {allowed.allowed}", schema_extra=extra)
