"""Parameters that several controllers take, and the declaration of further ones."""

from typing import Annotated, Any, Final

from litestar.openapi.spec import Example, OpenAPIType, Schema
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from service.api.openapi import examples
from service.domain import constraints
from service.domain.states import Status


def in_query(text: str, allowed: constraints.Constraint | None = None, **schema: Any) -> QueryParameter:
    """Return the declaration of a query parameter, with keywords of its schema.

    The handler takes a `str` and parses it: Litestar would also accept the integers `5.0`, `1e2`, `-0` and `null`.
    """
    return QueryParameter(**_documentation(text, allowed, schema))


def in_header(name: str, text: str, allowed: constraints.Constraint | None = None, **schema: Any) -> HeaderParameter:
    """Return the declaration of a header, with keywords of its schema."""
    return HeaderParameter(name=name, **_documentation(text, allowed, schema))


def in_path(text: str, allowed: constraints.Pattern, example: str) -> PathParameter:
    """Return the declaration of a part of the path, which Litestar matches with the pattern."""
    return PathParameter(
        description=f"{text}: {allowed.allowed}", pattern=allowed.regex, examples=[Example(value=example)]
    )


def _documentation(text: str, allowed: constraints.Constraint | None, schema: dict[str, Any]) -> dict[str, Any]:
    if allowed is None:
        return {"description": text, "schema_extra": schema}
    kind = {"type": OpenAPIType.INTEGER} if isinstance(allowed, constraints.Range) else {}
    return {"description": f"{text}: {allowed.allowed}", "schema_extra": kind | allowed.json_schema | schema}


LABEL_SCHEMA: Final = Schema(type=OpenAPIType.STRING, **constraints.LABEL.json_schema)
JobIdInPath = Annotated[str, in_path("The job's id", constraints.JOB_ID, examples.PENDING.job_id)]
StatusFilter = Annotated[
    str | None,  # not an enum: Litestar would convert the word "null" to `None`
    in_query(f"Only jobs with this status: {', '.join(Status)}", enum=list(Status)),
]
QueueFilter = Annotated[str | None, in_query("Only jobs of this queue", constraints.QUEUE)]
SlateFilter = Annotated[str | None, in_query("Only jobs of this slate", constraints.TEXT)]
LabelFilter = Annotated[
    list[str] | None,
    QueryParameter(
        name="label",
        description=f"Only jobs with this label; sent up to {constraints.FILTERED_LABELS} times, only jobs with all of "
        f"them: {constraints.LABEL.allowed}",
        schema_extra={"max_items": constraints.FILTERED_LABELS, "items": LABEL_SCHEMA},
    ),
]
LeaseToken = Annotated[str | None, in_header("Lease-Token", "Required to change a leased job", constraints.LEASE_TOKEN)]
IdempotencyKey = Annotated[
    str | None, in_header("Idempotency-Key", "Makes it safe to repeat the request", constraints.IDEMPOTENCY_KEY)
]
