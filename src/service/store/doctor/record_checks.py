"""Checks one job record without its indexes. Large fields are not checked: the API validates them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from service.domain import constraints
from service.domain.annotations import field_specs
from service.domain.constraints import Labels, Range
from service.domain.errors import StoreCorrupt
from service.domain.jobs import Job, NewJob
from service.domain.states import FINAL_STATUSES
from service.domain.tags import tags_of
from service.domain.timestamps import format_timestamp, parse_timestamp
from service.store.history import history_from
from service.store.records import FIELDS, decode_job

#: The fields of a hash that `find_issues` needs.
CHECKED_FIELDS: Final = (
    *(*FIELDS, "_creation", "_change", "_token", "_progress_event"),
    *("_history", "_tags", "_errors", "_by"),
)

_REQUIRED: Final = (
    *("status", "queue", "revision", "created_at", "updated_at", "expires_at"),
    *("_creation", "_change"),
)
_LEASED: Final = ("worker", "lease_seconds", "_token")
#: The status in which each deadline counts.
_DEADLINES: Final = (("run_deadline_at", "running"), ("start_deadline_at", "pending"))
#: The constraint of each field that has one. A field of a creation has the constraint that creations have.
_CONSTRAINTS: Final = {
    name: spec.constraint
    for name, spec in {**field_specs(Job), **field_specs(NewJob)}.items()
    if spec.constraint is not None and name in FIELDS
}
#: Those of fields that are not text.
_DECODED: Final = {name: one for name, one in _CONSTRAINTS.items() if isinstance(one, Range | Labels)}
_TEXTS: Final[Mapping[str, Callable[[str], bool]]] = {
    **{name: one.is_valid for name, one in _CONSTRAINTS.items() if name not in _DECODED},
    "_progress_event": str.isdigit,
}


def find_issues(job_id: str, fields: Mapping[str, bytes]) -> list[str]:
    """Return descriptions of what is wrong with a record; `fields` are those of `CHECKED_FIELDS` that the hash has."""
    if missing := [f"no {name}" for name in _REQUIRED if name not in fields]:
        return missing
    if unreadable := list(_unreadable(fields)):
        return unreadable
    try:
        job = decode_job(job_id, fields, 0)
        texts = (fields.get(name, b"").decode() for name in ("_history", "_errors", "_by"))
        history_from(job_id, job.created_at, *texts)
    except StoreCorrupt as error:
        return [str(error.__cause__)]
    values = ((name, allowed, getattr(job, name)) for name, allowed in _DECODED.items())
    wrong = [
        f"{name} is {value}" for name, allowed, value in values if value is not None and not allowed.is_valid(value)
    ]
    return [*wrong, *_inconsistencies(job, fields)]


def _unreadable(fields: Mapping[str, bytes]) -> Iterator[str]:
    for name, value in fields.items():
        text = value.decode(errors="backslashreplace")
        if (name.endswith("_at") and not _is_timestamp(text)) or (name in _TEXTS and not _TEXTS[name](text)):
            yield f"{name} is {constraints.truncated_repr(text)}"


def _is_timestamp(text: str) -> bool:
    try:
        return format_timestamp(parse_timestamp(text)) == text
    except (ValueError, TypeError, OverflowError):
        return False


def _inconsistencies(job: Job, fields: Mapping[str, bytes]) -> Iterator[str]:
    status = job.status
    if (status in FINAL_STATUSES) is not ("finished_at" in fields):
        yield f"{status} with{'out' if status in FINAL_STATUSES else ''} finished_at"
    if "lease_expires_at" in fields:
        if status != "running":
            yield f"{status} with a lease"
        yield from (f"a lease without {name}" for name in _LEASED if name not in fields)
    yield from (f"{status} with {name}" for name, counts in _DEADLINES if name in fields and status != counts)
    tags = ",".join(tags_of(job.slate_id, job.correlation_id, job.labels))
    if fields.get("_tags", b"").decode(errors="replace") != tags:
        yield f"_tags must be {tags!r}"
    if fields["updated_at"] < fields["created_at"]:
        yield "updated_at is before created_at"
