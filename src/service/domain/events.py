"""The events that subscribers receive."""

from enum import StrEnum, auto
from hashlib import sha1
from typing import Final

from msgspec import Struct

from service.domain.jobs import JobFilter
from service.domain.states import Status

#: Characters of a slate hash; equal to the length of `tag` in Lua.
TAG_LENGTH: Final = 12


class EventKind(StrEnum):
    """What happened to a job."""

    CHANGED = auto()
    DELETED = auto()
    EXPIRED = auto()


class ControlEvent(Struct, frozen=True):
    """A change that is not of a job."""

    #: The queue whose settings changed; `None` when a drain started or stopped.
    queue: str | None


class Event(Struct, frozen=True, kw_only=True):
    """A change, deletion or expiry of a job; `position` is its id in the event stream."""

    position: str
    kind: EventKind
    job_id: str
    status: Status
    revision: int
    queue: str
    #: When the job was created (µs since 1970).
    created: int
    slate_id: str | None = None
    #: Hashes of the slate and correlation ids of an expired job, whose record no longer exists.
    tags: tuple[str, ...] = ()

    @property
    def at(self) -> int:
        """When it happened, in µs since 1970, at a resolution of 1 ms."""
        return int(self.position.partition("-")[0]) * 1000

    @property
    def version(self) -> str:
        """The `Job.version` of the record after this change."""
        return f"{self.created}-{self.revision}"

    def matches(self, filters: JobFilter) -> bool:
        """Return whether the job matches the status, queue and slate of `filters`."""
        slate_id = filters.slate_id
        return (
            filters.status in (None, self.status)
            and filters.queue in (None, self.queue)
            and (slate_id is None or slate_id == self.slate_id or slate_hash(slate_id) in self.tags)
        )


def slate_hash(slate_id: str) -> str:
    """Return the tag by which the event of an expired job identifies its slate."""
    return f"s{sha1(slate_id.encode(), usedforsecurity=False).hexdigest()[:TAG_LENGTH]}"
