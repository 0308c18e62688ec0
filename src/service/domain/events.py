"""What happens to jobs, as those hear of it who watch or wait."""

from enum import StrEnum, auto
from hashlib import sha1
from typing import Final

from msgspec import Struct

from service.domain.jobs import JobFilter
from service.domain.states import Status

#: How many characters of its digest stand for a slate whose name went with its job; the twin of `tag` in Lua.
TAG_LENGTH: Final = 12


class EventKind(StrEnum):
    """What can be heard."""

    CHANGED = auto()
    DELETED = auto()
    EXPIRED = auto()


class ControlEvent(Struct, frozen=True):
    """A queue that was paused, let go or capped anew; without a name, a drain that began or was lifted."""

    queue: str | None


class Event(Struct, frozen=True, kw_only=True):
    """One change of a job, or its end; `position` is its place in the history of all jobs."""

    position: str
    kind: EventKind
    job_id: str
    status: Status
    revision: int
    queue: str
    #: When the job was created, in µs since 1970.
    created: int
    slate_id: str | None = None
    #: What is left of an expired job's slate and correlation.
    tags: tuple[str, ...] = ()

    @property
    def at(self) -> int:
        """When it happened, in µs since 1970, to the millisecond."""
        return int(self.position.partition("-")[0]) * 1000

    @property
    def version(self) -> str:
        """What `Job.version` is of the record after this change."""
        return f"{self.created}-{self.revision}"

    def matches(self, filters: JobFilter) -> bool:
        """Say whether the job is one of those that are wanted, by status, queue and slate."""
        return (
            (filters.status is None or self.status is filters.status)
            and (filters.queue is None or self.queue == filters.queue)
            and (
                filters.slate_id is None
                or self.slate_id == filters.slate_id
                or slate_hash(filters.slate_id) in self.tags
            )
        )


def slate_hash(slate_id: str) -> str:
    """Return what an expired job's event carries in place of its slate."""
    return f"s{sha1(slate_id.encode(), usedforsecurity=False).hexdigest()[:TAG_LENGTH]}"
