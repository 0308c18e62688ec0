"""The parts of the service's responses that the commands show. Unknown fields are ignored."""

from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from jobstate_cli.errors import ServiceUnavailable

T = TypeVar("T")


class Progress(Struct, frozen=True):
    """The progress of a job, in units of its worker."""

    current: int
    total: int | None = None
    message: str = ""

    def __str__(self) -> str:
        return f"{self.current}" if self.total is None else f"{self.current}/{self.total}"


class Job(Struct, frozen=True, kw_only=True):
    """A job's record without its input. An event about a deleted job has only the first three fields."""

    job_id: str
    status: str
    queue: str
    attempt: int = 0
    failures: int = 0
    max_attempts: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None
    stale: bool = False
    progress: Progress | None = None
    slate_id: str | None = None
    worker: str | None = None
    lease_expires_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    #: JSON; empty if absent.
    result: Raw = Raw()
    error_message: Raw = Raw()

    @property
    def outcome(self) -> bytes:
        """The job's result, else its error message, as JSON; empty if it has neither."""
        return bytes(self.result or self.error_message)

    def seconds_running(self, now: datetime) -> float | None:
        """Return the seconds from its start to its end, or to `now`; `None` before its first start."""
        if self.started_at is None:
            return None
        return max(0.0, ((self.finished_at or now) - self.started_at).total_seconds())


class Record(Struct, frozen=True):
    """A job, and its JSON byte for byte."""

    job: Job
    json: bytes

    @classmethod
    def of(cls, json: bytes) -> "Record":
        """Decode a record. Raises `ServiceUnavailable` if it is not one."""
        return cls(decoded(Job, json), json)


class Page(Struct, frozen=True):
    """One page of a list, and the cursor of the next one."""

    items: list[Raw]
    next_cursor: str | None = None


class Jobs(Struct, frozen=True):
    """One page of a list, with decoded jobs."""

    items: list[Job]


class Running(Struct, frozen=True):
    """The number of running jobs with a live lease, and without one."""

    leased: int
    unleased: int


class Stats(Struct, frozen=True):
    """Exact counts at the time `at`, on the clock that the leases use."""

    at: datetime
    statuses: dict[str, int]
    delayed: int
    queues: dict[str, dict[str, int]]
    running: Running


class Queue(Struct, frozen=True):
    """The settings and the counts of a queue."""

    queue: str
    paused: bool
    statuses: dict[str, int]
    max_running: int | None = None


class Queues(Struct, frozen=True):
    """All queues, sorted by name."""

    items: list[Queue]


class Drain(Struct, frozen=True):
    """Whether the service is draining, and how many jobs still run."""

    draining: bool
    running: int
    leased: int
    safe_to_stop: bool
    until: datetime | None = None


class Problem(Struct, frozen=True):
    """Problem details (RFC 9457)."""

    type: str = ""
    title: str = ""
    detail: str = ""
    error_message: Raw = Raw()

    @property
    def name(self) -> str:
        """The last part of its type, such as `job-not-found`."""
        return self.type.rpartition(":")[2]


def decoded(kind: type[T], json: bytes) -> T:
    """Decode a response as `kind`. Raises `ServiceUnavailable` if it does not come from the service."""
    try:
        return msgspec.json.decode(json, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ServiceUnavailable(f"the response is not from a jobstate service ({error})") from error


def format_time(at: datetime | None) -> str:
    """Return a time in ISO 8601 to the second; empty for `None`."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else ""
