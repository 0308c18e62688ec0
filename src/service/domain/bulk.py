"""Bulk actions: one request that cancels, retries or deletes all jobs that match filters."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from service.domain import constraints
from service.domain.errors import InvalidValue, JobStateError
from service.domain.jobs import JobFilter
from service.domain.validation import validate_filter


class BulkActionNotFound(JobStateError):
    """The bulk action does not exist, or no longer."""

    default_detail = "No bulk action has this id. Bulk actions are kept for a day after their last change."

    def __init__(self, action_id: str) -> None:
        super().__init__(f"There is no bulk action {action_id!r}. They are kept for a day after their last change.")


class UnexpectedCount(JobStateError):
    """A bulk action matched another number of jobs than expected."""

    default_detail = "Another number of jobs matched the bulk action than `expect`. It changed none of them."

    def __init__(self, expected: int, matched: int) -> None:
        super().__init__(f"{matched} jobs match, and `expect` is {expected}. No job was changed.")


class BulkKind(StrEnum):
    """What a bulk action does to each job."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"


class BulkState(StrEnum):
    """How far a bulk action is: it first counts the jobs, then acts on them."""

    COUNTING = "counting"
    RUNNING = "running"
    DONE = "done"
    ABORTED = "aborted"


#: The states of bulk actions that have ended.
ENDED_STATES: Final = frozenset({BulkState.DONE, BulkState.ABORTED})


class NewBulkAction(Struct, frozen=True, kw_only=True):
    """What a client asks for."""

    kind: BulkKind
    filters: JobFilter
    #: Whether the jobs are only counted.
    dry_run: bool = False
    #: How many jobs must match, or else none is changed.
    expect: int | None = None

    def validate(self) -> None:
        """Raise `InvalidValue` naming the member that is wrong, such as `filter.queue`."""
        if self.filters == JobFilter():
            allowed = "one or more of status, queue, slate_id, correlation_id, label, created_after, created_before"
            raise InvalidValue("filter", "it is empty, so that all jobs would match", allowed)
        try:
            validate_filter(self.filters)
        except InvalidValue as error:
            raise InvalidValue(f"filter.{error.field}", error.detail, error.allowed) from error
        if self.expect is not None:
            constraints.COUNT.validate("expect", self.expect)


class BulkAction(NewBulkAction, frozen=True, kw_only=True):
    """A bulk action, and what it has done so far."""

    action_id: str
    state: BulkState
    #: How many jobs matched when they were counted.
    matched: int
    #: For how many jobs the request was carried out.
    done: int
    #: How many jobs were refused, by the error that the request for one of them would raise.
    refused: Mapping[type[JobStateError], int]
    #: The first refused jobs, each with its error.
    examples: Sequence[tuple[str, type[JobStateError]]]
    #: The name of the API key; empty without one.
    by: str
    created_at: str
    finished_at: str | None = None
    #: Why it was aborted, unless a client did that.
    problem: JobStateError | None = None
