"""What the doctor finds."""

from enum import StrEnum

from msgspec import Struct


class IssueType(StrEnum):
    """What can be wrong."""

    #: A job is not in an index that it belongs to.
    MISSING = "missing"
    #: An entry of an index has another score than its job says.
    SCORE = "score"
    #: An entry of an index has no job, or its job belongs elsewhere.
    STRAY = "stray"
    #: A key lives shorter or longer than it should, or for ever.
    LIFETIME = "lifetime"
    #: The clock of creations is behind a job.
    CLOCK = "clock"
    #: The counts are not what a walk over all jobs finds.
    COUNT = "count"
    #: A record misses a field or has one that cannot be.
    RECORD = "record"
    #: A key of ours holds another type.
    TYPE = "type"
    #: A queue's setting cannot be read.
    SETTING = "setting"
    #: A key under our names that we do not write.
    FOREIGN = "foreign"


class Issue(Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be; `repaired` if it is by now."""

    type: IssueType
    key: str
    member: str | None
    detail: str
    repaired: bool


class CheckStats(Struct):
    """What has been looked at so far."""

    jobs: int = 0
    entries: int = 0
    #: Whether the counts could be compared: only where nothing changed while the doctor walked.
    counted: bool = False


def printable(value: bytes) -> str:
    """Return a name or a member as text."""
    return value.decode(errors="backslashreplace")
