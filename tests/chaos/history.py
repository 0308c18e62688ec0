"""What clients asked and were answered, what the event stream said, and what Redis has in the end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import NamedTuple

FORGED = "1-1"
FINAL = frozenset({"completed", "failed", "cancelled"})


class Kind(StrEnum):
    """What a call asks for."""

    CREATE = auto()
    START = auto()
    PROGRESS = auto()
    END = auto()
    CANCEL = auto()
    DELETE = auto()
    CLAIM = auto()
    BEAT = auto()
    RELEASE = auto()
    READ = auto()


class Outcome(StrEnum):
    """What a client knows after a call."""

    #: It was done: the answer says so.
    DONE = auto()
    #: It was not done, and will not be.
    REFUSED = auto()
    #: It may have been done, or may be yet.
    UNKNOWN = auto()


class Version(NamedTuple):
    """A state of a job: which job (an id may be used again: by its creation, in µs), and its revision."""

    job_id: str
    created: int
    revision: int


class Seen(NamedTuple):
    """A record as an answer showed it."""

    version: Version
    status: str
    attempt: int = 0
    #: The JSON of its result or error, empty for none.
    content: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One request and what came of it; times in seconds since 1970, by the clock that Redis has too."""

    kind: Kind
    started: float
    ended: float
    #: The id of the job; empty for a claim, and for what is about many jobs.
    job_id: str = ""
    #: What it is a repetition of, where it is sent under the same key; else its own name.
    group: str = ""
    #: Of the HTTP answer; `None` where none came.
    status: int | None = None
    problem: str = ""
    #: The answer is sound in itself: a refusal is a problem, one that may pass says when to come again.
    is_sound: bool = True
    #: Nothing was sent: nobody listened.
    is_unsent: bool = False
    seen: tuple[Seen, ...] = ()
    #: The status that a change leads to; empty for several.
    target: str = ""
    #: The JSON that an end brings.
    content: str = ""
    #: Of the lease that a claim got.
    token: str = ""
    #: The lease token and the version that it was sent with; `FORGED` is nobody's token and no job's version.
    lease: str = ""
    if_match: str = ""
    #: A heartbeat that brings progress makes a revision.
    has_progress: bool = True
    is_keyed: bool = True

    @property
    def outcome(self) -> Outcome:
        """What its client knows."""
        if self.is_unsent or (self.kind is Kind.CLAIM and self.status == 204):
            return Outcome.REFUSED
        if self.status is None or self.problem == "internal-error":
            return Outcome.UNKNOWN
        if self.status == 503 and self.problem.startswith("store-"):
            return Outcome.UNKNOWN
        return Outcome.DONE if self.status < 400 else Outcome.REFUSED

    @property
    def is_change(self) -> bool:
        """Say whether it would change a job."""
        return self.kind is not Kind.READ and self.has_progress


class Event(NamedTuple):
    """An entry of the stream of events; `at` in seconds since 1970, to the millisecond below."""

    position: str
    kind: str
    version: Version
    status: str
    queue: str = ""

    @property
    def at(self) -> float:
        """When it happened."""
        return int(self.position.partition("-")[0]) / 1000

    @property
    def place(self) -> tuple[int, int]:
        """Its position as numbers, which sort."""
        return place_of(self.position)


def place_of(position: str) -> tuple[int, int]:
    """Return a position of the stream as numbers."""
    millis, _, number = position.partition("-")
    return int(millis), int(number)


class Record(NamedTuple):
    """A job's hash at the end; `changes` has the revision and the letter of every change but progress."""

    version: Version
    status: str
    attempt: int
    content: str = ""
    changes: tuple[tuple[int, str], ...] = ()


class Heard(NamedTuple):
    """What a reader of the stream was told: `hello`, `reset`, or the kind of an event, and its place."""

    kind: str
    position: str


class Window(NamedTuple):
    """A stretch of time, in seconds since 1970, in which something was wrong."""

    name: str
    since: float
    until: float

    def touches(self, started: float, ended: float) -> bool:
        """Say whether it has a moment in common with another stretch."""
        return started <= self.until and ended >= self.since


@dataclass
class History:
    """All that is known of one round."""

    calls: list[Call] = field(default_factory=list)
    faults: list[Window] = field(default_factory=list)
    #: What Redis may have forgotten: changes acknowledged within these.
    losses: list[Window] = field(default_factory=list)
    #: Jobs whose leases were made to run out, and until when (s since 1970) each may be taken from its worker for that.
    run_out: dict[str, float] = field(default_factory=dict)
    events: Sequence[Event] = ()
    records: dict[str, Record] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    #: Jobs by status, as `/v1/stats` counts them; ids, as the pages of `/v1/jobs` list them.
    counts: dict[str, int] = field(default_factory=dict)
    listed: list[str] = field(default_factory=list)
    #: What a walk of the keys found that does not fit together.
    drift: list[str] = field(default_factory=list)
    #: What else went wrong, in words.
    complaints: list[str] = field(default_factory=list)

    def may_be_lost(self, call: Call) -> bool:
        """Say whether Redis may have forgotten what the call was told."""
        return any(loss.touches(call.started, call.ended) for loss in self.losses)

    def is_disturbed(self, call: Call) -> bool:
        """Say whether a fault touched the call, so that the service may have had to try twice."""
        return any(fault.touches(call.started - 4, call.ended) for fault in self.faults)
