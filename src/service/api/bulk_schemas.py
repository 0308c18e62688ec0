"""Bodies of requests and responses about bulk actions."""

from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Struct, UnsetType, structs

from service.api.openapi.schemas import extensible_enum
from service.api.problems import PROBLEM_TYPES, TYPE_PREFIX, Problem, problem_of
from service.api.schemas import unset_to_none
from service.domain import bulk, constraints, jobs
from service.domain.bulk import BulkKind, BulkState
from service.domain.errors import InvalidValue, JobStateError
from service.domain.jobs import JobFilter, description
from service.domain.states import Status


class BulkFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The jobs of a bulk action: those that match all of these. At least one is needed."""

    JSON_SCHEMA: ClassVar = {"min_properties": 1}

    status: Annotated[Status, constraints.documented("Only jobs with this status", ", ".join(Status))] | UnsetType = (
        UNSET
    )
    queue: Annotated[str, constraints.QUEUE.meta("Only jobs of this queue")] | UnsetType = UNSET
    slate_id: Annotated[str, constraints.TEXT.meta("Only jobs of this slate")] | UnsetType = UNSET
    correlation_id: Annotated[str, constraints.TEXT.meta("Only jobs with this correlation id")] | UnsetType = UNSET
    label: (
        Annotated[
            list[Annotated[str, constraints.LABEL.meta("A label")]],
            constraints.documented(
                "Only jobs with all of these labels",
                f"1 to {constraints.FILTERED_LABELS} labels",
                min_items=1,
                max_items=constraints.FILTERED_LABELS,
            ),
        ]
        | UnsetType
    ) = UNSET
    created_after: Annotated[str, constraints.TIME.meta("Only jobs created after this")] | UnsetType = UNSET
    created_before: Annotated[str, constraints.TIME.meta("Only jobs created before this")] | UnsetType = UNSET


class StartBulkAction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do with all jobs that match."""

    action: Annotated[BulkKind, constraints.documented("What to do with each job", ", ".join(BulkKind))]
    filter: BulkFilter
    dry_run: Annotated[bool, constraints.documented("Whether to count the jobs only", "true or false")] = False
    expect: (
        Annotated[int, constraints.COUNT.meta("How many jobs must match; otherwise none is changed")] | UnsetType
    ) = UNSET


class RefusedJob(Struct, frozen=True):
    """A job with which a bulk action could not be carried out."""

    job_id: Annotated[str, description("The id of the job")]
    type: Annotated[str, description("The type of the problem that the request for this job alone would have had")]


class BulkAction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bulk action, and how far it is."""

    bulk_action_id: Annotated[str, description("The id of the bulk action")]
    action: Annotated[BulkKind, description("What it does with each job")]
    filter: BulkFilter
    dry_run: Annotated[bool, description("Whether it only counts the jobs")]
    expect: Annotated[int, jobs.count_meta("How many jobs must match")] | None = None
    state: Annotated[
        str,
        extensible_enum("counting, then running, unless it is a dry run; at the end done or aborted", BulkState),
    ]
    matched: Annotated[int, jobs.count_meta("The jobs that matched, as far as they are counted")]
    done: Annotated[int, jobs.count_meta("The jobs with which it was carried out")]
    refused: Annotated[dict[str, int], description("The jobs with which it could not be, by the type of the problem")]
    examples: Annotated[list[RefusedJob], description("Some of the refused jobs, at most ten")]
    problem: Annotated[Problem, description("Why it was aborted, unless a client did that")] | None = None
    by: Annotated[str, description("The name of the API key that started it; absent without API keys")] | None = None
    created_at: Annotated[str, jobs.timestamp_meta("When it was started")]
    finished_at: Annotated[str, jobs.timestamp_meta("When it ended")] | None = None


class BulkActionList(Struct, frozen=True):
    """Bulk actions, newest first."""

    items: Annotated[list[BulkAction], description("At most 100: those that changed last")]


def filter_of(sent: BulkFilter) -> JobFilter:
    """Return the filter of a request. Raises `InvalidValue` for an empty list of labels."""
    fields: dict[str, Any] = {name: unset_to_none(getattr(sent, name)) for name in sent.__struct_fields__}
    label = fields.pop("label")
    if label == []:
        raise InvalidValue("filter.label", "0 labels are not allowed", f"1 to {constraints.FILTERED_LABELS} labels")
    return JobFilter(**fields, labels=tuple(label or ()))


def from_domain(action: bulk.BulkAction, request_id: str) -> BulkAction:
    """Return the response with a bulk action; `request_id` is the correlation id."""
    filters = structs.asdict(action.filters)
    filters["label"] = [*filters.pop("labels")] or None
    return BulkAction(
        bulk_action_id=action.action_id,
        action=action.kind,
        filter=BulkFilter(**{name: value for name, value in filters.items() if value is not None}),
        dry_run=action.dry_run,
        expect=action.expect,
        state=action.state,
        matched=action.matched,
        done=action.done,
        refused={_type(error): number for error, number in action.refused.items()},
        examples=[RefusedJob(job_id, _type(error)) for job_id, error in action.examples],
        problem=None if action.problem is None else problem_of(action.problem, request_id),
        by=action.by or None,
        created_at=action.created_at,
        finished_at=action.finished_at,
    )


def _type(error: type[JobStateError]) -> str:
    return TYPE_PREFIX + PROBLEM_TYPES[error].name
