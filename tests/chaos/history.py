"""The history of a round: all calls and responses, the messages of the event stream, and the final state of Redis."""

import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import NamedTuple

#: Seconds by which clocks differ at most, unless a fault sets them.
CLOCK_TOLERANCE = 0.25
#: The lease token of no job, and the version of no job.
FORGED = "1-1"
#: Seconds of the time-outs of the jobs that have some.
TIMEOUT = 1
_WITH_TIMEOUTS = re.compile(r"r(\d+)c\d+-j\d*[05]$")
FINAL_STATUSES = frozenset({"completed", "failed", "cancelled"})
#: Problems of a response that leaves open whether the change was made.
AMBIGUOUS_PROBLEMS = frozenset({"internal-error", "store-corrupt"})


class Kind(StrEnum):
    """The operation that a call requests."""

    CREATE = auto()
    START = auto()
    PROGRESS = auto()
    FINISH = auto()
    CANCEL = auto()
    RETRY = auto()
    DELETE = auto()
    CLAIM = auto()
    HEARTBEAT = auto()
    RELEASE = auto()
    READ = auto()


#: Changes that leave no index. When a key has another type, they have no effect; others may have been made, because an
#: entry could not be removed afterwards.
_ONLY_ADDING = frozenset({Kind.CREATE, Kind.CLAIM, Kind.HEARTBEAT})


def has_timeouts(job_id: str) -> bool:
    """Return whether its client creates this job with time-outs: every fifth one in a round that has some."""
    match = _WITH_TIMEOUTS.match(job_id)
    return match is not None and round_has_timeouts(int(match[1]))


def round_has_timeouts(number: int) -> bool:
    """Return whether jobs of a round have time-outs: in every third one. Their end takes ten seconds after a fault."""
    return number % 3 == 0


class Outcome(StrEnum):
    """What a client knows after a call, in Jepsen's terms."""

    #: The response says that the call took effect.
    OK = auto()
    #: The call had no effect and will have none.
    FAIL = auto()
    #: The call may have taken effect, or may still do so.
    INFO = auto()


class Version(NamedTuple):
    """A revision of a job. The creation time in µs tells apart jobs that reuse an id."""

    job_id: str
    created: int
    revision: int


class Observation(NamedTuple):
    """A record as a response showed it."""

    version: Version
    status: str
    attempt: int = 0
    #: The result or error as JSON; empty for none.
    content: str = ""
    #: When it was changed, as ISO 8601, and the latest of its other times that are past; empty if not recorded.
    updated_at: str = ""
    latest: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One request and its response. Times are Unix times in seconds, by the clock that Redis uses too."""

    kind: Kind
    started: float
    ended: float
    #: Empty for a claim, and for a read of many jobs.
    job_id: str = ""
    #: The same for all calls that repeat one request under one idempotency key; empty without a key.
    group: str = ""
    #: The HTTP status; `None` without a response.
    status: int | None = None
    problem: str = ""
    #: The response has the right format: an error is a problem, and a temporary one has `Retry-After`.
    is_well_formed: bool = True
    #: The connection failed, so nothing was sent.
    is_unsent: bool = False
    observations: tuple[Observation, ...] = ()
    #: The status that a change requests; empty where several are possible.
    target_status: str = ""
    #: The result or error that a change sends, as JSON.
    content: str = ""
    #: The lease token that a claim returned.
    granted_token: str = ""
    #: The lease token and the version that the request sent.
    sent_token: str = ""
    if_match: str = ""
    #: Only a heartbeat with progress makes a revision.
    has_progress: bool = True
    has_key: bool = True
    #: Stands for a further job of a claim that has given some: over several partitions it may end early.
    is_partial: bool = False

    @property
    def outcome(self) -> Outcome:
        """What the client knows."""
        if self.is_unsent or (self.kind is Kind.CLAIM and self.status == 204):
            return Outcome.FAIL
        if self.problem == "store-corrupt" and self.kind in _ONLY_ADDING:
            return Outcome.FAIL
        if self.status is None or self.problem in AMBIGUOUS_PROBLEMS:
            return Outcome.INFO
        if self.status == 503 and self.problem.startswith("store-"):
            return Outcome.INFO
        return Outcome.OK if self.status < 400 else Outcome.FAIL

    @property
    def is_change(self) -> bool:
        """Whether the call makes a revision if it succeeds."""
        return self.kind is not Kind.READ and self.has_progress


class Event(NamedTuple):
    """An entry of the event stream of a partition, which has this number."""

    position: str
    kind: str
    version: Version
    status: str
    queue: str = ""
    partition: int = 0

    @property
    def at(self) -> float:
        """Unix time in seconds, rounded down to the millisecond."""
        return int(self.position.partition("-")[0]) / 1000

    @property
    def parsed_position(self) -> tuple[int, int]:
        """The position as numbers, for sorting."""
        return parse_position(self.position)


#: The position of an entry in the stream of a partition.
Entry = tuple[int, int]


def parse_position(position: str) -> Entry:
    """Return a stream position as numbers."""
    millis, _, number = position.partition("-")
    return int(millis), int(number)


def parse_event_id(text: str, partitions: int) -> list[Entry]:
    """Return the position in each partition of an id that a client got. It does not use the service's code."""
    if partitions == 1:
        return [parse_position(text)]
    version, *data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert version == 1
    numbers = _integers(data)
    newest, entries = next(numbers), list[Entry]()
    while len(entries) < partitions:
        distance = next(numbers)
        entries.append((newest - distance + 1, next(numbers)) if distance else (0, 0))
    return entries


def _integers(data: Sequence[int]) -> Iterator[int]:
    """Yield the variable-length integers in bytes."""
    number = shift = 0
    for byte in data:
        number, shift = number | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            yield number
            number = shift = 0


class Record(NamedTuple):
    """A job's final hash. `changes` has the revision and change code of every change except progress."""

    version: Version
    status: str
    attempt: int
    content: str = ""
    changes: tuple[tuple[int, str], ...] = ()


class StreamMessage(NamedTuple):
    """A message of the event stream: `hello`, `reset`, or the kind of an event."""

    kind: str
    position: str


class Window(NamedTuple):
    """The time during which a fault was active, or from which Redis may have lost data; Unix times in seconds."""

    name: str
    since: float
    until: float

    def overlaps(self, started: float, ended: float) -> bool:
        """Return whether this window and another interval have a moment in common."""
        return started <= self.until and ended >= self.since


class Outage(NamedTuple):
    """The time from the end of a master until another one was in its place; Unix times in seconds."""

    window: Window
    #: The numbers of the partitions that the master had.
    partitions: frozenset[int]


#: Faults that put data of another program into our keys.
CORRUPTING = frozenset({"wrong-type", "unknown-fields"})


class BulkAction(NamedTuple):
    """What a bulk action reported at its end, and how many jobs it should have changed."""

    key: str
    state: str
    expected: int
    matched: int
    done: int
    #: By the name of the problem.
    refused: dict[str, int]


@dataclass
class History:
    """Everything recorded in one round."""

    calls: list[Call] = field(default_factory=list)
    faults: list[Window] = field(default_factory=list)
    #: Redis may have lost changes that were acknowledged within these windows.
    losses: list[Window] = field(default_factory=list)
    #: Redis may have lost changes that were *not* acknowledged, and that clients may have seen, within these windows.
    failovers: list[Window] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    #: Jobs whose leases the nemesis expired, and until when (Unix time) the reaper may take each.
    expired_leases: dict[str, float] = field(default_factory=dict)
    #: Seconds by which clocks may differ, and by which the service may exceed its own timeout.
    clock_tolerance: float = CLOCK_TOLERANCE
    partitions: int = 1
    #: The bulk actions that have ended; and jobs that only such actions change, with the codes of these changes.
    bulk_actions: list[BulkAction] = field(default_factory=list)
    bulk_jobs: dict[str, str] = field(default_factory=dict)
    events: Sequence[Event] = ()
    records: dict[str, Record] = field(default_factory=dict)
    stream_messages: list[StreamMessage] = field(default_factory=list)
    #: Job counts by status, from `/v1/stats`.
    counts: dict[str, int] = field(default_factory=dict)
    #: Job ids from all pages of `/v1/jobs`.
    listed_ids: list[str] = field(default_factory=list)
    #: Inconsistent keys that the consistency check and the doctor found.
    inconsistencies: list[str] = field(default_factory=list)
    #: Violations found while the round ran.
    errors: list[str] = field(default_factory=list)

    def may_be_lost(self, call: Call) -> bool:
        """Return whether Redis may have lost what the call's response confirmed."""
        return any(loss.overlaps(call.started, call.ended) for loss in self.losses)

    def has_failover(self, started: float, ended: float) -> bool:
        """Return whether an unacknowledged change that was seen in this interval may be lost."""
        return any(failover.overlaps(started, ended) for failover in self.failovers)

    def overlaps_fault(self, call: Call) -> bool:
        """Return whether a fault was active shortly before or during the call, so that the service may have retried."""
        return any(fault.overlaps(call.started - 4, call.ended) for fault in self.faults)
