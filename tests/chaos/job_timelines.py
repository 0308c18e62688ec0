"""Each job's timeline as the event stream gives it: one transition for each revision."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from tests.chaos.history import FINAL_STATUSES, Event, History, Record, Version

#: The statuses that an event may bring next. From running to running: progress, or a cancellation request.
TRANSITIONS = {
    "pending": {"running", "failed", "cancelled"},
    "running": {"running", "completed", "failed", "cancelled", "pending"},
    "failed": {"pending"},
    "cancelled": {"pending"},
}


class Transition(NamedTuple):
    """The change that made one revision of a job."""

    version: Version
    #: The status before and after.
    before: str
    after: str
    #: `created`, `status`, `cancel_requested`, `progress` or `deleted`.
    change: str
    #: Unix times between which the change was made.
    not_before: float
    not_after: float
    #: When the next change with an event was made; infinite for none.
    followed_at: float
    #: For a start: the number of the attempt. 0 for any other change.
    attempt: int = 0

    @property
    def is_retry(self) -> bool:
        """Whether it made a finished job pending."""
        return self.before in FINAL_STATUSES and self.after == "pending"

    @property
    def code(self) -> str:
        """Its code in the history of the job, and `d` for a deletion, which has none there."""
        codes = {"pending": "p", "running": "r", "completed": "c", "failed": "f", "cancelled": "x"}
        if self.is_retry:
            return "t"
        return {"cancel_requested": "q", "deleted": "d"}.get(self.change, codes[self.after])


class JobTimeline(NamedTuple):
    """The events of one job from its creation, and its final record if there is one."""

    job_id: str
    created: int
    events: list[Event]
    record: Record | None

    @property
    def is_deleted(self) -> bool:
        """Whether the last event is a deletion."""
        return self.events[-1].kind == "deleted"

    @property
    def revision(self) -> int:
        """The last known revision."""
        last = self.events[-1].version.revision
        return last if self.record is None else max(last, self.record.version.revision)

    @property
    def transitions(self) -> list[Transition]:
        """The change of each revision. Revisions without an event are progress: it has one event a second at most."""
        cancels = {revision for revision, code in self.record.changes if code == "q"} if self.record else None
        event_of = {event.version.revision: event for event in self.events}
        transitions, before, attempts = list[Transition](), "", 0
        for revision in range(1, self.revision + 1):
            event = event_of.get(revision)
            after = event.status if event else before
            change = _change(event, before, after, revision, cancels)
            is_start = change == "status" and after == "running"
            attempts += is_start
            times = self._times(revision, event)
            version = Version(self.job_id, self.created, revision)
            attempt = attempts if is_start else 0
            transitions.append(Transition(version, before, after, change, *times, attempt=attempt))
            before = after
        return transitions

    def _times(self, revision: int, event: Event | None) -> tuple[float, float, float]:
        earlier = [other.at for other in self.events if other.version.revision < revision]
        later = [other.at for other in self.events if other.version.revision > revision]
        followed_at = min(later, default=float("inf"))
        if event is not None:
            return event.at, event.at + 0.001, followed_at
        return max(earlier, default=0.0), followed_at + 0.001, followed_at


def _change(event: Event | None, before: str, after: str, revision: int, cancels: set[int] | None) -> str:
    if event is not None and event.kind == "deleted":
        return "deleted"
    if revision == 1:
        return "created"
    if before != after:
        return "status"
    if cancels is None and event is not None:  # only the record tells the two apart
        return "cancel_requested or progress"
    return "cancel_requested" if cancels and revision in cancels else "progress"


def build_timelines(history: History) -> dict[tuple[str, int], JobTimeline]:
    """Return the timeline of every job with an event, by job id and creation time."""
    events: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in history.events:
        events[event.version[:2]].append(event)
    records = {record.version[:2]: record for record in history.records.values()}
    return {name: JobTimeline(*name, of_job, records.get(name)) for name, of_job in events.items()}


def ordering_violations(timeline: JobTimeline) -> Iterator[str]:
    """Yield what is impossible in the order of a job's events."""
    first = timeline.events[0]
    if (first.version.revision, first.status, first.kind) != (1, "pending", "changed"):
        yield f"{timeline.job_id} begins with {first}"
    for last, event in pairwise(timeline.events):
        difference = event.version.revision - last.version.revision
        if difference < 1 or (difference > 1 and last.status != "running"):
            yield f"{timeline.job_id} goes from revision {last.version.revision} to {event.version.revision}"
        if not _may_follow(last, event):
            yield f"{timeline.job_id}: {event.kind} as {event.status} follows {last.kind} as {last.status}"


def _may_follow(last: Event, event: Event) -> bool:
    if event.kind == "deleted":
        return last.kind == "changed" and event.status in FINAL_STATUSES and event.status == last.status
    return last.kind == "changed" and event.status in TRANSITIONS.get(last.status, set())
