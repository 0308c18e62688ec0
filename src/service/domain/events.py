"""What happens to jobs, as those hear of it who watch or wait."""

from enum import StrEnum, auto
from hashlib import sha1
from typing import Final

from msgspec import Struct

from service.domain.states import Status

#: How many characters of its digest stand for a slate whose name went with its job; the twin of `tag` in Lua.
_TAG: Final = 12


class EventKind(StrEnum):
    """What can be heard."""

    CHANGED = auto()
    DELETED = auto()
    EXPIRED = auto()


class Notice(Struct, frozen=True):
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
    def version(self) -> str:
        """What `Job.version` is of the record after this change."""
        return f"{self.created}-{self.revision}"


class EventFilter(Struct, frozen=True, kw_only=True):
    """Whose events are wanted: those that match every field that is given."""

    status: Status | None = None
    queue: str | None = None
    slate_id: str | None = None

    def matches(self, event: Event) -> bool:
        """Say whether an event is wanted."""
        return (
            (self.status is None or event.status is self.status)
            and (self.queue is None or event.queue == self.queue)
            and (self.slate_id is None or event.slate_id == self.slate_id or slate_tag(self.slate_id) in event.tags)
        )


def slate_tag(slate_id: str) -> str:
    """Return what an expired job's event carries in place of its slate."""
    return f"s{sha1(slate_id.encode(), usedforsecurity=False).hexdigest()[:_TAG]}"
