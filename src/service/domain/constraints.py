"""The rules for ids, names and numbers, each stated once: its pattern or range, and its words."""

import re
import secrets
import time
import uuid
from hashlib import sha256
from typing import Any, Final, NamedTuple

from msgspec import Meta

from service.domain.errors import InvalidValue

#: Text without control characters, as JSON Schema (ECMA 262) writes it.
NO_CONTROLS: Final = r"^[^\u0000-\u001f\u007f-\u009f]*$"
#: Control characters (Unicode's category Cc), and lone surrogates (Cs), which UTF-8 cannot say.
_UNWRITABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
#: A non-negative integer as JSON writes it, no longer than the largest that JSON keeps.
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,15}")


class Pattern(NamedTuple):
    """A regular expression that JSON Schema shares with Python, and what it means in words."""

    expression: re.Pattern[str]
    allowed: str

    @property
    def regex(self) -> str:
        """The expression as text."""
        return self.expression.pattern

    @property
    def json_schema(self) -> dict[str, Any]:
        """What JSON Schema can say of the rule."""
        return {"pattern": self.regex}

    def meta(self, meaning: str) -> Meta:
        """Return what the API document says of a field under this rule."""
        return documented(meaning, self.allowed, **self.json_schema)

    def is_valid(self, value: str) -> bool:
        """Say whether `value` matches as a whole; Python's `$` alone would let a last line break pass."""
        return isinstance(value, str) and self.expression.fullmatch(value) is not None

    def validate(self, field: str, value: str) -> str:
        """Return `value` if it matches as a whole; raise `InvalidValue` naming `field` otherwise."""
        if not self.is_valid(value):
            raise InvalidValue(field, f"{truncated_repr(value)} is not allowed", self.allowed)
        return value


class Range(NamedTuple):
    """The integers from `least` to `most`, both included."""

    minimum: int
    maximum: int

    @property
    def json_schema(self) -> dict[str, Any]:
        """What JSON Schema can say of the rule."""
        return {"minimum": self.minimum, "maximum": self.maximum}

    def meta(self, meaning: str) -> Meta:
        """Return what the API document says of a field under this rule."""
        return documented(meaning, self.allowed, **self.json_schema)

    @property
    def allowed(self) -> str:
        """The range in words."""
        return f"an integer from {self.minimum} to {self.maximum}"

    def validate(self, field: str, value: int) -> int:
        """Return `value` if it lies inside; raise `InvalidValue` naming `field` otherwise."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.minimum <= value <= self.maximum:
            raise InvalidValue(field, f"{value!r} is not allowed", self.allowed)
        return value

    def parse(self, field: str, text: str) -> int:
        """Return the integer in `text`, written in decimal digits; raise `InvalidValue` naming `field` otherwise."""
        if _DECIMAL.fullmatch(text) is None:
            raise InvalidValue(
                field, f"{truncated_repr(text)} is not allowed", f"{self.allowed}, in plain decimal digits"
            )
        return self.validate(field, int(text))


class BoundedText(NamedTuple):
    """Free text of 1 to `most` bytes of UTF-8 without control characters."""

    max_bytes: int

    @property
    def json_schema(self) -> dict[str, Any]:
        """What JSON Schema can say of the rule: it counts characters, where the rule counts bytes."""
        return {"pattern": NO_CONTROLS, "min_length": 1, "max_length": self.max_bytes}

    def meta(self, meaning: str) -> Meta:
        """Return what the API document says of a field under this rule."""
        return documented(meaning, self.allowed, **self.json_schema)

    @property
    def allowed(self) -> str:
        """The rule in words."""
        return f"1 to {self.max_bytes} bytes of UTF-8 text without control characters"

    def is_valid(self, value: str) -> bool:
        """Say whether `value` keeps the rule."""
        if not isinstance(value, str) or not value or _UNWRITABLE.search(value):
            return False
        return len(value.encode()) <= self.max_bytes

    def validate(self, field: str, value: str) -> str:
        """Return `value` if it keeps the rule; raise `InvalidValue` naming `field` otherwise."""
        if not self.is_valid(value):
            raise InvalidValue(field, f"{truncated_repr(value)} is not allowed", self.allowed)
        return value


JOB_ID: Final = Pattern(
    re.compile(r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$"),
    "1 to 128 characters out of letters, digits and . _ ~ -, the first a letter or digit",
)
QUEUE: Final = Pattern(
    re.compile(r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$"),
    "1 to 64 characters out of letters, digits and . _ ~ -, the first a letter or digit",
)
IDEMPOTENCY_KEY: Final = Pattern(re.compile(r"^[\x21-\x7e]{1,255}$"), "1 to 255 visible ASCII characters")
LABEL: Final = BoundedText(128)
PROGRESS_MESSAGE: Final = BoundedText(1024)
#: The largest integer that JSON keeps in every language (RFC 8259, section 6).
COUNT: Final = Range(0, 2**53 - 1)
MAX_ATTEMPTS: Final = Range(1, 1000)
#: The doubled delay ends at the same maximum; `LONGEST_RETRY_DELAY` in `store/lua/moves.lua` is equal.
RETRY_DELAY_SECONDS: Final = Range(0, 3600)
RETRY_DELAY_MEANING: Final = (
    f"Seconds before the first retry; doubled for each further retry, up to {RETRY_DELAY_SECONDS.maximum} (an hour)"
)
DELAY_SECONDS: Final = Range(0, 365 * 24 * 3600)
LEASE_SECONDS: Final = Range(5, 3600)
WAIT_SECONDS: Final = Range(0, 30)
DRAIN_SECONDS: Final = Range(1, 24 * 3600)
DEFAULT_DRAIN_SECONDS: Final = 3600
MAX_RUNNING: Final = Range(1, 1_000_000)
#: Queues that one claim may name.
CLAIMED_QUEUES: Final = Range(1, 100)
LEASE_TOKEN: Final = Pattern(re.compile(r"^[\x21-\x7e]{1,255}$"), "the token of the lease as the claim gave it")
#: A place in the history of all jobs, as Redis writes it: two numbers of 64 bits.
STREAM_ID: Final = Pattern(re.compile(r"^[0-9]{1,19}-[0-9]{1,19}$"), "the id of an event as it came")
PAGE_LIMIT: Final = Range(1, 200)
DEFAULT_PAGE_LIMIT: Final = 50
BATCH_SIZE: Final = Range(1, 1000)

DEFAULT_QUEUE: Final = "default"
#: How long a lease is where its worker does not say.
DEFAULT_LEASE_SECONDS: Final = 30
#: The header of W3C Trace Context, section 3.2, version 00.
TRACEPARENT: Final = Pattern(
    re.compile(r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"), "version 00 of W3C Trace Context"
)


def documented(meaning: str, allowed: str, **schema: Any) -> Meta:
    """Return a note for the API document: words and keywords of JSON Schema that are enforced here, not by msgspec."""
    return Meta(extra_json_schema={"description": f"{meaning}: {allowed}", "extra": schema}, extra={"allowed": allowed})


def truncated_repr(value: str) -> str:
    """Return `value` quoted for an error message, cut where it is long."""
    quoted = repr(value)
    return quoted if len(quoted) <= 72 else quoted[:68] + "..." + quoted[-1]


def new_job_id() -> str:
    """Return a fresh UUIDv7: time-ordered, 74 random bits (RFC 9562, section 5.7)."""
    millis = time.time_ns() // 1_000_000
    return str(uuid.UUID(int=(millis << 80) | _with_version_bits(secrets.randbits(80), version=7)))


def job_id_for_key(key: str) -> str:
    """Return the job id that an Idempotency-Key stands for: a UUIDv8 of its SHA-256 (RFC 9562, section 5.8)."""
    IDEMPOTENCY_KEY.validate("Idempotency-Key", key)
    digest = int.from_bytes(sha256(key.encode()).digest()[:16])
    return str(uuid.UUID(int=(digest >> 80 << 80) | _with_version_bits(digest & (2**80 - 1), version=8)))


def _with_version_bits(low: int, version: int) -> int:
    """Set the version and variant bits in the low 80 bits of a UUID."""
    low = low & ~(0xF << 76) | version << 76
    return low & ~(0b11 << 62) | 0b10 << 62
