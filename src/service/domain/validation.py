"""Validation of values that callers send, and their conversion to stored fields."""

from collections.abc import Mapping
from typing import Any

import msgspec

from service.domain import constraints
from service.domain.errors import InvalidValue
from service.domain.jobs import JobFilter, Progress
from service.domain.json_text import ALLOWED, to_json
from service.domain.states import STATUSES_WITH_ERROR, Status

#: The value of a stored field: JSON as bytes, text, or an integer. `None` is absent.
FieldValue = bytes | str | int | None


def creation_fields(
    input_params: Any,
    queue: str,
    slate_id: str | None,
    scenario_count: int | None,
    correlation_id: str | None,
    max_attempts: int,
    retry_delay_seconds: int,
) -> dict[str, FieldValue]:
    """Return the stored fields of a new job. Raises `InvalidValue` naming the field that breaks a rule."""
    input_json = to_json("input_params", input_params)
    if input_json is None:
        raise InvalidValue("input_params", "missing", ALLOWED)
    return {
        "queue": constraints.QUEUE.validate("queue", queue),
        "input_params": input_json,
        "slate_id": validate_label("slate_id", slate_id),
        "scenario_count": _count("scenario_count", scenario_count),
        "correlation_id": validate_label("correlation_id", correlation_id),
        "max_attempts": constraints.MAX_ATTEMPTS.validate("max_attempts", max_attempts),
        "retry_delay_seconds": constraints.RETRY_DELAY_SECONDS.validate("retry_delay_seconds", retry_delay_seconds),
    }


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
        "scenario_count": _count("scenario_count", scenario_count),
    }


def parse_status(value: Status | str) -> Status:
    """Return `value` as a status. Raises `InvalidValue`."""
    try:
        return Status(value)
    except ValueError as error:
        raise InvalidValue("status", f"{value!r} is not a status", ", ".join(Status)) from error


def validate_label(field: str, value: str | None) -> str | None:
    """Return an optional label such as `slate_id`. Raises `InvalidValue` naming `field`."""
    return None if value is None else constraints.LABEL.validate(field, value)


def validate_lease_token(value: str | None) -> str:
    """Return a lease token, or the empty string for none. Raises `InvalidValue`."""
    return "" if value is None else constraints.LEASE_TOKEN.validate("Lease-Token", value)


def validate_filter(filters: JobFilter) -> None:
    """Raise `InvalidValue` naming a filter that no job can match."""
    if filters.status is not None:
        parse_status(filters.status)
    if filters.queue is not None:
        constraints.QUEUE.validate("queue", filters.queue)
    validate_label("slate_id", filters.slate_id)
    validate_label("correlation_id", filters.correlation_id)


def drop_none(fields: Mapping[str, FieldValue]) -> dict[str, bytes | str | int]:
    """Return the fields that are not absent."""
    return {name: value for name, value in fields.items() if value is not None}


def encode_progress(progress: Progress | None) -> bytes | None:
    """Return progress as stored JSON. Raises `InvalidValue` naming the member that breaks a rule."""
    return None if progress is None else _progress(progress)


def _progress(progress: Progress) -> bytes:
    constraints.COUNT.validate("progress.current", progress.current)
    _count("progress.total", progress.total)
    if progress.message is not None:
        constraints.PROGRESS_MESSAGE.validate("progress.message", progress.message)
    return msgspec.json.encode(progress)


def _count(field: str, value: int | None) -> int | None:
    return None if value is None else constraints.COUNT.validate(field, value)
