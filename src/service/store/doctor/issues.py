"""The issues that the doctor reports."""

from enum import StrEnum

from msgspec import Struct


class IssueType(StrEnum):
    """The kind of an issue."""

    #: A job has no entry in an index that it belongs in.
    MISSING = "missing"
    #: The score of an index entry does not match its job.
    SCORE = "score"
    #: An index entry has no job, or its job belongs in another index.
    STRAY = "stray"
    #: A key expires too early, too late or never.
    LIFETIME = "lifetime"
    #: The clock for creation times is behind a job.
    CLOCK = "clock"
    #: A job count does not match the jobs found.
    COUNT = "count"
    #: A job record lacks a field or has an invalid one.
    RECORD = "record"
    #: A key has an unexpected type.
    TYPE = "type"
    #: The settings of a queue cannot be read.
    SETTING = "setting"
    #: A partition lacks the number of partitions or the version, has other settings than the first one, or has a job
    #: that belongs in another one.
    PARTITION = "partition"
    #: A key has a prefix of jobstate, but not a name that jobstate uses.
    FOREIGN = "foreign"


class Issue(Struct, frozen=True):
    """One inconsistency; `repaired` tells whether the doctor has repaired it."""

    type: IssueType
    key: str
    member: str | None
    detail: str
    repaired: bool = False


class CheckStats(Struct):
    """What was checked so far."""

    jobs: int = 0
    entries: int = 0
    #: Whether the counts were compared, which is possible only if no job changed during the check.
    counted: bool = False


def printable(value: bytes) -> str:
    """Return a key or member as text, with backslash escapes for bytes that are not UTF-8."""
    return value.decode(errors="backslashreplace")
