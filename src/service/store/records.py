"""A job record as a Redis hash and back."""

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

#: The fields that a client may make as large as a body.
LARGE_FIELDS: Final[tuple[str, ...]] = ("input_params", "result", "error_message")
#: The other fields of the hash that a record shows; what a hash has besides is private.
FIELDS: Final[tuple[str, ...]] = tuple(
    name for name in Job.__struct_fields__ if name not in {"job_id", "stale", *LARGE_FIELDS}
)

_DEFAULTS: Final = {"attempt": 0, "failures": 0, "max_attempts": 1, "retry_delay_seconds": 0}
#: How each field that is shown is read; those that are not named here are text.
_DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    **dict.fromkeys(FIELDS, bytes.decode),
    **dict.fromkeys(LARGE_FIELDS, Raw),
    **dict.fromkeys((*_DEFAULTS, "revision", "scenario_count", "lease_seconds"), int),
    "status": {status.encode(): status for status in Status}.__getitem__,
    "progress": msgspec.json.Decoder(Progress).decode,
}
_NAMES: Final = {name.encode(): name for name in _DECODERS}


def decode_hash(reply: Sequence[bytes] | Mapping[bytes, bytes]) -> dict[str, bytes]:
    """Return a hash by the names of its fields: out of a flat reply of field, value, … or of a mapping."""
    pairs = reply.items() if isinstance(reply, Mapping) else zip(reply[::2], reply[1::2], strict=True)
    return {_NAMES.get(name) or name.decode(errors="replace"): value for name, value in pairs}


def decode_job(job_id: str, held: Mapping[str, bytes], now: int) -> Job:
    """Return the record in a hash; `now` (µs) decides whether its lease has run out.

    Raises `StoreCorrupt` where the hash is not one that the store wrote.
    """
    shown: dict[str, Any] = {"job_id": job_id, **_DEFAULTS}
    try:
        for name, value in held.items():
            if (read := _DECODERS.get(name)) is not None:
                shown[name] = read(value)
        stale = "lease_expires_at" in shown and shown["lease_expires_at"] < format_timestamp(now)
        return Job(**shown, stale=stale)
    except (TypeError, ValueError, KeyError, msgspec.DecodeError) as error:
        raise StoreCorrupt(f"job:{job_id} is not a record of ours ({error})") from error


def parse_status(reply: Sequence[bytes]) -> tuple[Status, int]:
    """Return the status and revision that a script's refusal comes with."""
    return Status(reply[0].decode()), int(reply[1])


def ceil_seconds(millis: Any) -> int:
    """Return what is left of something in whole seconds, as `Retry-After` says it."""
    return -(-int(millis) // 1000)


def time_reply_to_micros(time: Sequence[Any]) -> int:
    """Return the reply of Redis TIME as microseconds since 1970."""
    seconds, micros = time
    return int(seconds) * 1_000_000 + int(micros)


def flatten(record: Mapping[str, bytes]) -> list[bytes | str]:
    """Return a mapping as name, value, … for a script's arguments."""
    return [part for pair in record.items() for part in pair]


def encode_fields(fields: Mapping[str, FieldValue]) -> dict[str, bytes]:
    """Return the hash fields for what is there and is not a default anyway."""
    return {
        name: value if isinstance(value, bytes) else str(value).encode()
        for name, value in drop_none(fields).items()
        if _DEFAULTS.get(name) != value
    }


def validate_ttl_ms(duration: timedelta) -> int:
    """Return how long something is kept in whole milliseconds; raises `ValueError` beyond what is allowed."""
    millis = duration // timedelta(milliseconds=1)
    if not millis >= 1 or duration > MAX_RETENTION:
        raise ValueError(f"ttl={duration} is not allowed; allowed: from 1 ms to {MAX_RETENTION.days} days")
    return millis
