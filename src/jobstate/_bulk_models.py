"""Bulk actions as the service returns them, as immutable structs."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from jobstate.models import Problem


class RefusedJob(Struct, frozen=True):
    """A job with which a bulk action could not be carried out."""

    job_id: str
    #: The type of the problem that the request for this job alone would have had.
    type: str

    @property
    def name(self) -> str:
        """The last part of the type, such as `illegal-transition`."""
        return _name(self.type)


class BulkAction(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A bulk action, and how far it is. Times are in UTC, on the clock of the service."""

    bulk_action_id: str
    #: `cancel`, `retry` or `delete`.
    action: str
    #: The filters as the API has them: labels as a list of `key:value`.
    filter: Mapping[str, Any]
    dry_run: bool
    #: `counting`, `running`, `done`, `aborted`; newer services may have more.
    state: str
    #: The jobs that match, as far as they are counted, and those with which it was carried out.
    matched: int
    done: int
    #: The jobs with which it could not be, by the type of the problem. `reasons` has them by its name.
    refused: Mapping[str, int]
    #: Some of the refused jobs, at most ten.
    examples: tuple[RefusedJob, ...]
    created_at: datetime
    expect: int | None = None
    #: Why it was aborted; `None` if a client did that.
    problem: Problem | None = None
    #: The name of the API key that started it; `None` without API keys.
    by: str | None = None
    finished_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether it has ended, and changes no more jobs."""
        return self.finished_at is not None

    @property
    def reasons(self) -> dict[str, int]:
        """How many jobs were refused, by the name of the problem, such as `illegal-transition`."""
        numbers = Counter[str]()
        for type_, number in self.refused.items():
            numbers[_name(type_)] += number
        return dict(numbers)


class BulkActionList(Struct, frozen=True):
    """Bulk actions, newest first."""

    items: tuple[BulkAction, ...]


def _name(problem_type: str) -> str:
    return problem_type.rpartition(":")[2]
