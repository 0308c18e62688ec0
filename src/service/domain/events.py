"""The events that subscribers receive."""

from enum import StrEnum, auto

from msgspec import Struct

from service.domain.jobs import JobFilter
from service.domain.states import Status
from service.domain.tags import label_tag, slate_tag


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
    """A change, deletion or expiry of a job; `position` is its id in the event stream of its partition."""

    position: str
    kind: EventKind
    job_id: str
    status: Status
    #: `None` for an expired job, except at the end of the stream of one job: there it is that of the last version.
    revision: int | None
    queue: str
    #: When the job was created (µs since 1970).
    created: int
    slate_id: str | None = None
    #: The tags of a job with labels, and of an expired job, whose record no longer exists.
    tags: tuple[str, ...] = ()
    #: The number of the job's partition.
    partition: int = 0
    #: With several partitions: where the stream of all jobs continues after this event. Its text is the event's id.
    cursor: object | None = None

    @property
    def id(self) -> str:
        """The id in the stream of all jobs."""
        return self.position if self.cursor is None else str(self.cursor)

    @property
    def at(self) -> int:
        """When it happened, in µs since 1970, at a resolution of 1 ms."""
        return int(self.position.partition("-")[0]) * 1000

    @property
    def version(self) -> str:
        """The `Job.version` of the record after this change."""
        return f"{self.created}-{self.revision}"

    def matches(self, filters: JobFilter) -> bool:
        """Return whether the job matches the status, queue, slate and labels of `filters`."""
        slate_id = filters.slate_id
        return (
            filters.status in (None, self.status)
            and filters.queue in (None, self.queue)
            and (slate_id is None or slate_id == self.slate_id or slate_tag(slate_id) in self.tags)
            and all(label_tag(label) in self.tags for label in filters.labels)
        )
