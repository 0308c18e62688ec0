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
    str | None,  # Litestar would read the word "null" as none
    QueryParameter(description=f"Only these: {', '.join(Status)}", schema_extra={"enum": list(Status)}),
]
QueueFilter = Annotated[
    str | None,
    QueryParameter(
        description=f"Only of this queue: {constraints.QUEUE.allowed}", schema_extra=constraints.QUEUE.json_schema
    ),
]
SlateFilter = Annotated[
    str | None,
    QueryParameter(
        description=f"Only of this slate: {constraints.LABEL.allowed}", schema_extra=constraints.LABEL.json_schema
    ),
]
LeaseToken = Annotated[
    str | None,
    HeaderParameter(
        name="Lease-Token",
        description=f"What a leased job is changed with: {constraints.LEASE_TOKEN.allowed}",
        schema_extra=constraints.LEASE_TOKEN.json_schema,
    ),
]
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description=(
            f"Makes it harmless to repeat a creation, a claim or a job's last change: {constraints.IDEMPOTENCY_KEY.allowed}"
        ),
        schema_extra=constraints.IDEMPOTENCY_KEY.json_schema,
    ),
]


def integer_parameter(meaning: str, allowed: constraints.Range, **keywords: Any) -> QueryParameter:
    """Return the declaration of a query parameter that is an integer; its handler takes a `str` and parses it.

    Litestar would also convert `5.0`, `1e2`, `-0` and `null` to an integer or `None`.
    """
    extra = {"type": OpenAPIType.INTEGER, **allowed.json_schema, **keywords}
    return QueryParameter(description=f"{meaning}: {allowed.allowed}", schema_extra=extra)
