"""The constraints on ids, names, texts and numbers: each one checks values and describes itself."""

import random
import re
import secrets
import time
import uuid
from hashlib import sha256
from typing import Any, Final, TypeVar

from msgspec import Meta

from service.domain.errors import InvalidValue
from service.domain.timestamps import parse_rfc3339

T = TypeVar("T")

#: Text without control characters, as a pattern of JSON Schema (ECMA 262).
_NO_CONTROLS: Final = r"^[^\u0000-\u001f\u007f-\u009f]*$"
#: Control characters (Unicode category Cc), and lone surrogates (Cs), which UTF-8 cannot encode.
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
#: A non-negative integer as JSON writes it, with at most as many digits as 2**53.
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,15}")


class Constraint:
    """A rule for the value of a field, as text and as keywords of JSON Schema."""

    def __init__(self, allowed: str, **json_schema: Any) -> None:
        """Set both descriptions; subclasses implement `is_valid`."""
        self.allowed, self.json_schema = allowed, json_schema

    def is_valid(self, value: Any) -> bool:
        """Return whether `value` is allowed."""
        raise NotImplementedError

    def validate(self, field: str, value: T) -> T:
        """Return `value` if it is allowed; raise `InvalidValue` naming `field` otherwise."""
        if not self.is_valid(value):
            raise InvalidValue(field, f"{truncated_repr(value)} is not allowed", self.allowed)
        return value

    def meta(self, description: str) -> Meta:
        """Return the API documentation of a field with this constraint."""
        return documented(description, self.allowed, self, **self.json_schema)


class Pattern(Constraint):
    """Text that matches a regular expression, which Python and JSON Schema read alike."""

    def __init__(self, regex: str, allowed: str) -> None:
        """Require a match of the whole text; `allowed` says in words what matches."""
        super().__init__(allowed, pattern=regex)
        self.regex, self._expression = regex, re.compile(regex)

    def is_valid(self, value: Any) -> bool:
        """Return whether the whole of `value` matches. Python's `$` alone would allow a trailing newline."""
        return isinstance(value, str) and self._expression.fullmatch(value) is not None


class Time(Constraint):
    """A time with its offset from UTC (RFC 3339, section 5.6)."""

    def __init__(self) -> None:
        """Set the descriptions."""
        allowed = "a time with its offset (RFC 3339), such as 2026-11-29T10:00:00Z; a + in a URL is written %2B"
        super().__init__(allowed, format="date-time")

    def is_valid(self, value: Any) -> bool:
        """Return whether `value` is such a time."""
        if not isinstance(value, str):
            return False
        try:
            parse_rfc3339(value)
        except ValueError:
            return False
        return True


class Range(Constraint):
    """The integers from `minimum` to `maximum`, both included."""

    def __init__(self, minimum: int, maximum: int) -> None:
        """Set the limits."""
        super().__init__(f"an integer from {minimum} to {maximum}", minimum=minimum, maximum=maximum)
        self.minimum, self.maximum = minimum, maximum

    def is_valid(self, value: Any) -> bool:
        """Return whether `value` is an integer in the range."""
        return isinstance(value, int) and not isinstance(value, bool) and self.minimum <= value <= self.maximum

    def parse(self, field: str, text: str) -> int:
        """Return the integer that `text` has in decimal digits; raise `InvalidValue` naming `field` otherwise."""
        if _DECIMAL.fullmatch(text) is None:
            allowed = f"{self.allowed}, in plain decimal digits"
            raise InvalidValue(field, f"{truncated_repr(text)} is not allowed", allowed)
        return self.validate(field, int(text))


class BoundedText(Constraint):
    """Text of 1 to `max_bytes` bytes of UTF-8 without control characters."""

    def __init__(self, max_bytes: int) -> None:
        """Set the limit. JSON Schema counts characters instead of bytes, so its keywords are only near it."""
        allowed = f"1 to {max_bytes} bytes of UTF-8 text without control characters"
        super().__init__(allowed, pattern=_NO_CONTROLS, min_length=1, max_length=max_bytes)
        self.max_bytes = max_bytes

    def is_valid(self, value: Any) -> bool:
        """Return whether `value` is allowed."""
        if not isinstance(value, str) or not value or _FORBIDDEN.search(value):
            return False
        return len(value.encode()) <= self.max_bytes


class Labels(Constraint):
    """Names and values by which a job can be found: an object of texts."""

    def __init__(self, maximum: int, key: Pattern, value: BoundedText) -> None:
        """Allow `maximum` labels."""
        allowed = f"at most {maximum} labels; key: {key.allowed}; value: {value.allowed}"
        super().__init__(allowed, max_properties=maximum, property_names={"pattern": key.regex})
        self.maximum, self.key, self.value = maximum, key, value

    def is_valid(self, value: Any) -> bool:
        """Return whether `value` is allowed."""
        is_object = isinstance(value, dict) and len(value) <= self.maximum
        return is_object and all(self.key.is_valid(key) and self.value.is_valid(text) for key, text in value.items())

    def validate(self, field: str, value: T) -> T:
        """Return `value` if it is allowed; raise `InvalidValue` naming `field`, or the label in it, otherwise."""
        if not isinstance(value, dict):
            return super().validate(field, value)
        if len(value) > self.maximum:
            raise InvalidValue(field, f"{len(value)} labels are not allowed", f"at most {self.maximum} labels")
        for key, text in value.items():
            if not self.key.is_valid(key):
                raise InvalidValue(field, f"the key {truncated_repr(key)} is not allowed", self.key.allowed)
            self.value.validate(f"{field}.{key}", text)
        return value


class Label(Constraint):
    """One label as text, `key:value`."""

    def __init__(self, labels: Labels) -> None:
        """Allow those that `labels` allows."""
        allowed = f"key:value; key: {labels.key.allowed}; value: {labels.value.allowed}"
        value = labels.value.json_schema["pattern"].removeprefix("^").removesuffix("*$")
        pattern = f"{labels.key.regex.removesuffix('$')}:{value}+$"
        super().__init__(allowed, pattern=pattern)
        self._labels = labels

    def is_valid(self, value: Any) -> bool:
        """Return whether `value` is allowed."""
        if not isinstance(value, str):
            return False
        key, _, text = value.partition(":")
        return self._labels.is_valid({key: text})


#: How many partitions there can be: the powers of two from 1 to 1,024.
PARTITION_COUNTS: Final = tuple(2**power for power in range(11))
JOB_ID: Final = Pattern(
    r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$",
    "1 to 128 characters: letters, digits and . _ ~ -, starting with a letter or digit",
)
QUEUE: Final = Pattern(
    r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$",
    "1 to 64 characters: letters, digits and . _ ~ -, starting with a letter or digit",
)
IDEMPOTENCY_KEY: Final = Pattern(r"^[\x21-\x7e]{1,255}$", "1 to 255 visible ASCII characters")
TEXT: Final = BoundedText(128)
LABELS: Final = Labels(
    10,
    Pattern(
        r"^[a-z0-9][a-z0-9._-]{0,31}$",
        "1 to 32 characters: lower-case letters, digits and . _ -, starting with a letter or digit",
    ),
    TEXT,
)
LABEL: Final = Label(LABELS)
#: How many labels the filter of a list or of an event stream may name.
FILTERED_LABELS: Final = 5
PROGRESS_MESSAGE: Final = BoundedText(1024)
#: The integers that every JSON parser keeps exactly (RFC 8259, section 6).
COUNT: Final = Range(0, 2**53 - 1)
MAX_ATTEMPTS: Final = Range(1, 1000)
#: Exponential backoff has the same maximum; `MAX_RETRY_DELAY` in `store/lua/lib/transitions.lua` is equal.
RETRY_DELAY_SECONDS: Final = Range(0, 3600)
RETRY_DELAY_MEANING: Final = (
    f"Seconds before the first retry; doubled for each further retry, up to {RETRY_DELAY_SECONDS.maximum} (an hour)"
)
DELAY_SECONDS: Final = Range(0, 365 * 24 * 3600)
RUN_TIMEOUT_SECONDS: Final = Range(1, 7 * 24 * 3600)
START_TIMEOUT_SECONDS: Final = Range(1, 365 * 24 * 3600)
PRIORITY: Final = Range(-24 * 3600, 24 * 3600)
PRIORITY_MEANING: Final = "Seconds of seniority: claims give the job with the smallest `created_at` less priority first"
RETENTION_SECONDS: Final = Range(60, 365 * 24 * 3600)
LEASE_SECONDS: Final = Range(5, 3600)
WAIT_SECONDS: Final = Range(0, 30)
DRAIN_SECONDS: Final = Range(1, 24 * 3600)
DEFAULT_DRAIN_SECONDS: Final = 3600
MAX_RUNNING: Final = Range(1, 1_000_000)
#: How many queues one claim may name.
CLAIMED_QUEUES: Final = Range(1, 100)
#: How many jobs one claim may ask for.
CLAIMED_JOBS: Final = Range(1, 100)
LEASE_TOKEN: Final = Pattern(r"^[\x21-\x7e]{1,255}$", "the lease token as the claim returned it")
TIME: Final = Time()
PAGE_LIMIT: Final = Range(1, 200)
DEFAULT_PAGE_LIMIT: Final = 50
BATCH_SIZE: Final = Range(1, 1000)

DEFAULT_QUEUE: Final = "default"
#: The duration of a lease for which the worker requests none.
DEFAULT_LEASE_SECONDS: Final = 30
#: The `traceparent` header of W3C Trace Context, version 00 (section 3.2).
TRACEPARENT: Final = Pattern(r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$", "version 00 of W3C Trace Context")


def documented(description: str, allowed: str, constraint: Constraint | None = None, **schema: Any) -> Meta:
    """Return API documentation with keywords of JSON Schema that msgspec must not enforce: `constraint` does."""
    text = f"{description}: {allowed}"
    return Meta(
        extra_json_schema={"description": text, "extra": schema}, extra={"allowed": allowed, "constraint": constraint}
    )


def truncated_repr(value: Any) -> str:
    """Return `value` quoted for an error message, truncated to 72 characters."""
    quoted = repr(value)
    return quoted if len(quoted) <= 72 else quoted[:68] + "..." + quoted[-1]


def new_job_id() -> str:
    """Return a new UUIDv7: ordered by time, with 74 random bits (RFC 9562, section 5.7)."""
    millis = time.time_ns() // 1_000_000
    return str(uuid.UUID(int=(millis << 80) | _with_version_bits(secrets.randbits(80), version=7)))


def new_correlation_id() -> str:
    """Return 128 random bits in hexadecimal. The id is unique, but not a secret."""
    return f"{random.getrandbits(128):032x}"


def job_id_for_key(key: str, place: int | None = None) -> str:
    """Return the job id for an `Idempotency-Key`: a UUIDv8 of its SHA-256 (RFC 9562, section 5.8).

    Each place in a batch has an id of its own.
    """
    IDEMPOTENCY_KEY.validate("Idempotency-Key", key)
    hashed = key if place is None else f"{key}\n{place}"  # no key has a line break
    digest = int.from_bytes(sha256(hashed.encode()).digest()[:16])
    return str(uuid.UUID(int=(digest >> 80 << 80) | _with_version_bits(digest & (2**80 - 1), version=8)))


def _with_version_bits(low: int, version: int) -> int:
    """Set the version and variant bits in the low 80 bits of a UUID."""
    low = low & ~(0xF << 76) | version << 76
    return low & ~(0b11 << 62) | 0b10 << 62
