"""Conversion of job records to and from Redis hashes."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, TypedDict

import msgspec
import structlog
from msgspec import Raw

from service.domain.annotations import field_specs
from service.domain.errors import StoreCorrupt
from service.domain.jobs import Job
from service.domain.states import Status
from service.domain.timestamps import parse_timestamp
from service.domain.validation import CREATION_DEFAULTS, FieldValue
from service.settings import MAX_RETENTION

#: Milliseconds for which a deletion and the last change before it are remembered, so that a retry of either has no
#: effect on a new job with the same id.
DELETION_RECORD_TTL_MS: Final = 60_000
#: The types of the fields that the hash stores.
_TYPES: Final = {name: spec.type for name, spec in field_specs(Job).items() if name not in {"job_id", "stale"}}
#: The fields that may be as large as a request body.
LARGE_FIELDS: Final = tuple(name for name, kind in _TYPES.items() if kind is Raw)
#: The other public fields of the hash. Fields in neither list are private to the store.
FIELDS: Final = tuple(name for name in _TYPES if name not in LARGE_FIELDS)

#: The integers that the hash does not store while they have this value.
_DEFAULTS: Final = {
    **{"attempt": 0, "failures": 0},
    **{name: value for name, value in CREATION_DEFAULTS.items() if _TYPES.get(name) is int},
}
#: The decoders of values that are not stored as JSON.
_BY_TYPE: Final[Mapping[Any, Callable[[bytes], Any]]] = {
    int: int,
    str: bytes.decode,
    Raw: Raw,
    Status: {status.encode(): status for status in Status}.__getitem__,
}
_DECODERS: Final = {name: _BY_TYPE.get(kind) or msgspec.json.Decoder(kind).decode for name, kind in _TYPES.items()}
#: The name and decoder of each field by its name as text and as bytes.
_BY_NAME: Final[Mapping[str | bytes, tuple[str, Callable[[bytes], Any]]]] = {
    **{name: (name, decode) for name, decode in _DECODERS.items()},
    **{name.encode(): (name, decode) for name, decode in _DECODERS.items()},
}
#: The fields that are stored as JSON, and how they are decoded from text.
_JSON: Final = {name: decode for name, decode in _DECODERS.items() if _TYPES[name] not in {int, str, Status}}
#: The decoder of packed records, in which all values are text. It skips the fields of other programs, which may hold
#: any bytes.
_PACKED: Final = msgspec.msgpack.Decoder(
    TypedDict(  # type: ignore[operator]
        "_Packed",
        {name: str if name in _JSON else kind for name, kind in _TYPES.items()} | {"_token": str},
        total=False,
    ),
    strict=False,
)
_UNREADABLE: Final = (TypeError, ValueError, KeyError, msgspec.DecodeError)

_log = structlog.get_logger(__name__)


def decode_hash(reply: Mapping[bytes, bytes]) -> dict[str, bytes]:
    """Return a hash with its names as text."""
    return {name.decode(errors="replace"): value for name, value in reply.items()}


def decode_packed(job_id: str, reply: bytes, now: int) -> tuple[Job, str]:
    """Return the job in a record that a script has packed, and its lease token (empty for none).

    `now` and errors are those of `decode_job`.
    """
    try:
        values: dict[str, Any] = _PACKED.decode(reply)
        token = values.pop("_token", "")
        for name, decode in _JSON.items():
            if name in values:
                values[name] = decode(values[name].encode())
        return make_job(job_id, values, now), token
    except _UNREADABLE as error:
        raise _unreadable(job_id, error) from error


def decode_job(job_id: str, fields: Mapping[bytes, bytes] | Mapping[str, bytes], now: int) -> Job:
    """Return the job in the fields of a hash. It is `stale` if its lease has expired at `now` (µs since 1970).

    Raises `StoreCorrupt` if a field is missing or unreadable.
    """
    values = {}
    try:
        for field, value in fields.items():
            if (known := _BY_NAME.get(field)) is not None:
                name, decode = known
                values[name] = decode(value)
        return make_job(job_id, values, now)
    except _UNREADABLE as error:
        raise _unreadable(job_id, error) from error


def make_job(job_id: str, values: Mapping[str, Any], now: int = 0) -> Job:
    """Return the job with these values, some of which may be absent. `now`, that of `decode_job`, serves a lease."""
    lease_end = values.get("lease_expires_at")
    stale = lease_end is not None and parse_timestamp(lease_end) < now
    return Job(**{"job_id": job_id, "stale": stale, **_DEFAULTS, **values})


def _unreadable(job_id: str, error: Exception) -> StoreCorrupt:
    return StoreCorrupt(f"job:{job_id} holds an unreadable record ({error})")


def parse_status(reply: Sequence[bytes]) -> tuple[Status, int]:
    """Return the status and revision in the error reply of a script."""
    return Status(reply[0].decode()), int(reply[1])


def decode_skipped(reply: Sequence[bytes]) -> tuple[list[str], list[str]]:
    """Return the names of what a script has skipped, and the error of each, from name, error, …"""
    texts = [value.decode(errors="replace") for value in reply]
    return texts[::2], texts[1::2]


def log_skipped(event: str, skipped: Sequence[bytes]) -> None:
    """Log jobs that a script could not move, given as id, error, … It retries them after a minute."""
    if skipped:
        job_ids, reasons = decode_skipped(skipped)
        _log.error(event, job_ids=job_ids, errors=reasons)


def ceil_seconds(millis: Any) -> int:
    """Return milliseconds as whole seconds, rounded up, as in `Retry-After`."""
    return -(-int(millis) // 1000)


def time_reply_to_micros(time: Sequence[Any]) -> int:
    """Return the reply to `TIME` as microseconds since 1970."""
    seconds, micros = time
    return int(seconds) * 1_000_000 + int(micros)


def field_args(fields: Mapping[str, FieldValue]) -> list[FieldValue]:
    """Return fields as name, value, … for the arguments of a script, without `None` and without default values."""
    args: list[FieldValue] = []
    for name, value in fields.items():
        if value is not None and value != _DEFAULTS.get(name):
            args += (name, value)
    return args


def validate_ttl_ms(duration: timedelta) -> int:
    """Return a retention in whole milliseconds. Raises `ValueError` outside 1 ms to `MAX_RETENTION`."""
    millis = duration // timedelta(milliseconds=1)
    if not millis >= 1 or duration > MAX_RETENTION:
        raise ValueError(f"ttl={duration} is not allowed; allowed: from 1 ms to {MAX_RETENTION.days} days")
    return millis
