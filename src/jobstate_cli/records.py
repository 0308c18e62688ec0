"""What the service answers, as far as a terminal shows it; fields that are new are passed over."""

from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from jobstate_cli.errors import ServiceUnavailable

T = TypeVar("T")


class Progress(Struct, frozen=True):
    """How far a job is, in units of its worker."""

    current: int
    total: int | None = None
    message: str = ""

    def __str__(self) -> str:
        return f"{self.current}" if self.total is None else f"{self.current}/{self.total}"


class Job(Struct, frozen=True, kw_only=True):
    """A job's record without what it works on; all but the first three are absent where its end is told afterwards."""

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
    #: JSON; empty where there is none.
    result: Raw = Raw()
    error_message: Raw = Raw()

    @property
    def outcome(self) -> bytes:
        """What came out, as JSON: the result of a completed job, the error of any other; empty if nothing."""
        return bytes(self.result or self.error_message)

    def seconds_running(self, now: datetime) -> float | None:
        """How long it has been running at `now`, or had been when it ended; `None` before its first start."""
        if self.started_at is None:
            return None
        return max(0.0, ((self.finished_at or now) - self.started_at).total_seconds())


class Record(Struct, frozen=True):
    """A record, and its JSON byte for byte."""

    job: Job
    json: bytes

    @classmethod
    def of(cls, json: bytes) -> "Record":
        """Read a record; raise `ServiceAway` if it is none."""
        return cls(decoded(Job, json), json)


class Page(Struct, frozen=True):
    """Some of the jobs that a list has, and where the next are."""

    items: list[Raw]
    next_cursor: str | None = None


class Jobs(Struct, frozen=True):
    """The jobs of a page, read."""

    items: list[Job]


class Running(Struct, frozen=True):
    """Running jobs with a live lease, and those without one."""

    leased: int
    unleased: int


class Stats(Struct, frozen=True):
    """Exact counts at the moment `at`, of the clock that rules leases."""

    at: datetime
    statuses: dict[str, int]
    delayed: int
    queues: dict[str, dict[str, int]]
    running: Running


class Queue(Struct, frozen=True):
    """How a queue gives out jobs, and how many it has."""

    queue: str
    paused: bool
    statuses: dict[str, int]
    max_running: int | None = None


class Queues(Struct, frozen=True):
    """The queues by name."""

    items: list[Queue]


class Drain(Struct, frozen=True):
    """Whether jobs are given out, and what still runs."""

    draining: bool
    running: int
    leased: int
    safe_to_stop: bool
    until: datetime | None = None


class Problem(Struct, frozen=True):
    """Problem details after RFC 9457."""

    type: str = ""
    title: str = ""
    detail: str = ""
    error_message: Raw = Raw()

    @property
    def name(self) -> str:
        """The last part of its type, such as `job-not-found`."""
        return self.type.rpartition(":")[2]


def decoded(kind: type[T], json: bytes) -> T:
    """Return the `kind` in an answer; raise `ServiceAway` for what another server may say."""
    try:
        return msgspec.json.decode(json, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ServiceUnavailable(f"what answers is no jobstate service ({error})") from error


def moment(at: datetime | None) -> str:
    """Return a time in ISO 8601 to the second, nothing where there is none."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else ""
