"""Conversion of job records to and from Redis hashes."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec
from msgspec import Raw

from service.domain.errors import StoreCorrupt
from service.domain.jobs import Job, Progress
from service.domain.states import Status
from service.domain.timestamps import format_timestamp
from service.domain.validation import FieldValue, drop_none
from service.settings import MAX_RETENTION

#: The fields that may be as large as a request body.
LARGE_FIELDS: Final[tuple[str, ...]] = ("input_params", "result", "error_message")
#: The other public fields of the hash. Fields in neither list are private to the store.
FIELDS: Final[tuple[str, ...]] = tuple(
    name for name in Job.__struct_fields__ if name not in {"job_id", "stale", *LARGE_FIELDS}
)

_DEFAULTS: Final = {"attempt": 0, "failures": 0, "max_attempts": 1, "retry_delay_seconds": 0}
#: The decoder of each public field.
_DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    **dict.fromkeys(FIELDS, bytes.decode),
    **dict.fromkeys(LARGE_FIELDS, Raw),
    **dict.fromkeys((*_DEFAULTS, "revision", "scenario_count", "lease_seconds"), int),
    "status": {status.encode(): status for status in Status}.__getitem__,
    "progress": msgspec.json.Decoder(Progress).decode,
}
_NAMES: Final = {name.encode(): name for name in _DECODERS}


def decode_hash(reply: Sequence[bytes] | Mapping[bytes, bytes]) -> dict[str, bytes]:
    """Return a hash as field name → value, from a flat reply (field, value, …) or from a mapping."""
    pairs = reply.items() if isinstance(reply, Mapping) else zip(reply[::2], reply[1::2], strict=True)
    return {_NAMES.get(name) or name.decode(errors="replace"): value for name, value in pairs}


def decode_job(job_id: str, fields: Mapping[str, bytes], now: int) -> Job:
    """Return the job in the fields of a hash. It is `stale` if its lease has expired at `now` (µs since 1970).

    Raises `StoreCorrupt` if a field is missing or unreadable.
    """
    values: dict[str, Any] = {"job_id": job_id, **_DEFAULTS}
    try:
        for name, value in fields.items():
            if (decode := _DECODERS.get(name)) is not None:
                values[name] = decode(value)
        stale = "lease_expires_at" in values and values["lease_expires_at"] < format_timestamp(now)
        return Job(**values, stale=stale)
    except (TypeError, ValueError, KeyError, msgspec.DecodeError) as error:
        raise StoreCorrupt(f"job:{job_id} holds an unreadable record ({error})") from error


def parse_status(reply: Sequence[bytes]) -> tuple[Status, int]:
    """Return the status and revision in the error reply of a script."""
    return Status(reply[0].decode()), int(reply[1])


def ceil_seconds(millis: Any) -> int:
    """Return milliseconds as whole seconds, rounded up, as in `Retry-After`."""
    return -(-int(millis) // 1000)


def time_reply_to_micros(time: Sequence[Any]) -> int:
    """Return the reply to `TIME` as microseconds since 1970."""
    seconds, micros = time
    return int(seconds) * 1_000_000 + int(micros)


def flatten(fields: Mapping[str, bytes]) -> list[bytes | str]:
    """Return a mapping as name, value, … for the arguments of a script."""
    return [part for pair in fields.items() for part in pair]


def encode_fields(fields: Mapping[str, FieldValue]) -> dict[str, bytes]:
    """Return the fields of a hash, without `None` and without default values."""
    return {
        name: value if isinstance(value, bytes) else str(value).encode()
        for name, value in drop_none(fields).items()
        if _DEFAULTS.get(name) != value
    }


def validate_ttl_ms(duration: timedelta) -> int:
    """Return a retention in whole milliseconds. Raises `ValueError` outside 1 ms to `MAX_RETENTION`."""
    millis = duration // timedelta(milliseconds=1)
    if not millis >= 1 or duration > MAX_RETENTION:
        raise ValueError(f"ttl={duration} is not allowed; allowed: from 1 ms to {MAX_RETENTION.days} days")
    return millis
