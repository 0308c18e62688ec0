"""Validation of values that callers send, and their conversion to stored fields."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from service.domain import constraints
from service.domain.annotations import FieldSpec, field_specs
from service.domain.constraints import Range
from service.domain.errors import InvalidValue
from service.domain.jobs import JobFilter, NewJob, Progress
from service.domain.json_text import ALLOWED, to_json
from service.domain.states import STATUSES_WITH_ERROR, Status

#: The value of a stored field: JSON as bytes, text, or an integer. `None` is absent.
FieldValue = bytes | str | int | None

#: The fields of a job that a list contains only on request.
OPTIONAL_FIELDS: Final = ("input_params", "result")

_NEW_JOB: Final = field_specs(NewJob)
#: The value of each field of a new job that is left out.
CREATION_DEFAULTS: Final[Mapping[str, FieldValue]] = {
    name: spec.default if isinstance(spec.default, int | str) else None for name, spec in _NEW_JOB.items()
}


def _validator(spec: FieldSpec) -> Callable[[str, Any], FieldValue]:
    """Return the function that raises `InvalidValue` or returns the value to store."""
    if spec.type is Raw:
        return _required_json
    if spec.constraint is constraints.LABELS:
        return _labels
    assert spec.constraint is not None, "every field of a creation has a constraint"
    return spec.constraint.validate


def _required_json(field: str, value: Any) -> bytes:
    text = to_json(field, value)
    if text is None:
        raise InvalidValue(field, "missing", ALLOWED)
    return text


def _labels(field: str, value: Any) -> bytes | None:
    """Return labels as JSON in the order of their keys; no labels are the same as an absent field."""
    labels = constraints.LABELS.validate(field, value)
    return msgspec.json.encode(labels, order="sorted") if labels else None


#: Name, default and validator of each field of a new job.
_CREATION: Final = [(name, spec.default, _validator(spec)) for name, spec in _NEW_JOB.items()]


def creation_fields(new_job: NewJob) -> dict[str, FieldValue]:
    """Return the fields of a new job, `None` for absent ones. Raises `InvalidValue` naming the field that is wrong."""
    fields = dict(CREATION_DEFAULTS)
    for name, default, validate in _CREATION:
        value = getattr(new_job, name)
        if value is not default and not (value is None and default is UNSET):
            fields[name] = validate(name, value)
    return fields


def change_fields(
    target: Status, result: Any, error: Any, progress: Progress | None, scenario_count: int | None
) -> dict[str, FieldValue]:
    """Return the stored fields that an update to `target` sets. Raises `InvalidValue` naming the wrong field."""
    if result is not None and target is not Status.COMPLETED:
        raise InvalidValue("result", f"it is not allowed with status {target}", "status completed")
    if error is not None and target not in STATUSES_WITH_ERROR:
        raise InvalidValue("error_message", f"it is not allowed with status {target}", "status failed or cancelled")
    return {
        "result": to_json("result", result),
        "error_message": to_json("error_message", error),
        "progress": encode_progress(progress),
        "scenario_count": _optional(constraints.COUNT, "scenario_count", scenario_count),
    }


def retry_fields(
    max_attempts: int | None, priority: int | None, run_timeout_seconds: int | None
) -> dict[str, FieldValue]:
    """Return the stored fields that a retry sets, `None` for absent ones. Raises `InvalidValue` naming a wrong one."""
    return {
        "max_attempts": _optional(constraints.MAX_ATTEMPTS, "max_attempts", max_attempts),
        "priority": _optional(constraints.PRIORITY, "priority", priority),
        "run_timeout_seconds": _optional(constraints.RUN_TIMEOUT_SECONDS, "run_timeout_seconds", run_timeout_seconds),
    }


def parse_status(value: Status | str) -> Status:
    """Return `value` as a status. Raises `InvalidValue`."""
    try:
        return Status(value)
    except ValueError as error:
        raise InvalidValue("status", f"{value!r} is not a status", ", ".join(Status)) from error


def validate_text(field: str, value: str | None) -> str | None:
    """Return an optional text such as `slate_id`. Raises `InvalidValue` naming `field`."""
    return None if value is None else constraints.TEXT.validate(field, value)


def validate_lease_token(value: str | None) -> str:
    """Return a lease token, or the empty string for none. Raises `InvalidValue`."""
    return "" if value is None else constraints.LEASE_TOKEN.validate("Lease-Token", value)


def validate_filter(filters: JobFilter) -> None:
    """Raise `InvalidValue` naming a filter that no job can match."""
    if filters.status is not None:
        parse_status(filters.status)
    if filters.queue is not None:
        constraints.QUEUE.validate("queue", filters.queue)
    validate_text("slate_id", filters.slate_id)
    validate_text("correlation_id", filters.correlation_id)
    if len(filters.labels) > constraints.FILTERED_LABELS:
        allowed = f"at most {constraints.FILTERED_LABELS} labels"
        raise InvalidValue("label", f"{len(filters.labels)} labels are not allowed", allowed)
    for label in filters.labels:
        constraints.LABEL.validate("label", label)
    for name in ("created_after", "created_before"):
        if (time := getattr(filters, name)) is not None:
            constraints.TIME.validate(name, time)


def validate_claim(queues: Sequence[str], worker: str, lease_seconds: int, max_jobs: int | None) -> None:
    """Raise `InvalidValue` unless a claim may have these values."""
    if len(queues) not in range(constraints.CLAIMED_QUEUES.minimum, constraints.CLAIMED_QUEUES.maximum + 1):
        allowed = f"{constraints.CLAIMED_QUEUES.minimum} to {constraints.CLAIMED_QUEUES.maximum} queues"
        raise InvalidValue("queues", f"{len(queues)} queues are not allowed", allowed)
    for index, queue in enumerate(queues):
        constraints.QUEUE.validate(f"queues[{index}]", queue)
    constraints.TEXT.validate("worker", worker)
    constraints.LEASE_SECONDS.validate("lease_seconds", lease_seconds)
    if max_jobs is not None:
        constraints.CLAIMED_JOBS.validate("max_jobs", max_jobs)


def encode_progress(progress: Progress | None) -> bytes | None:
    """Return progress as stored JSON. Raises `InvalidValue` naming the member that breaks a rule."""
    if progress is None:
        return None
    constraints.COUNT.validate("progress.current", progress.current)
    _optional(constraints.COUNT, "progress.total", progress.total)
    if progress.message is not None:
        constraints.PROGRESS_MESSAGE.validate("progress.message", progress.message)
    return msgspec.json.encode(progress)


def _optional(constraint: Range, field: str, value: int | None) -> int | None:
    return None if value is None else constraint.validate(field, value)
