"""The life of each job as the stream of events tells it: its steps, one for each revision."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from tests.chaos.history import FINAL, Event, History, Record, Version

#: From each status, those that an event may bring next. Running to running: progress, or a cancel that was asked for.
MOVES = {
    "pending": {"running", "failed", "cancelled"},
    "running": {"running", "completed", "failed", "cancelled", "pending"},
}


class Step(NamedTuple):
    """What made one revision of a job."""

    version: Version
    before: str
    after: str
    #: `created`, `moved`, `asked` (to stop), `progress` or `deleted`.
    change: str
    #: When, in seconds since 1970: not before, not after.
    since: float
    until: float
    #: Another change came after it, at this time; infinite for none.
    followed: float
    #: Which move to running it is; 0 for any other step.
    attempt: int = 0


class Life(NamedTuple):
    """One job from its creation on; its record, where it is there in the end."""

    job_id: str
    created: int
    events: list[Event]
    record: Record | None

    @property
    def is_deleted(self) -> bool:
        """Say whether it was deleted."""
        return self.events[-1].kind == "deleted"

    @property
    def revision(self) -> int:
        """The last revision that is known of."""
        last = self.events[-1].version.revision
        return last if self.record is None else max(last, self.record.version.revision)

    @property
    def steps(self) -> list[Step]:
        """What made each revision, also those without an event: progress, which has one event a second at most."""
        asked = {revision for revision, letter in self.record.changes if letter == "q"} if self.record else set()
        at = {event.version.revision: event for event in self.events}
        found, before, attempts = list[Step](), "", 0
        for revision in range(1, self.revision + 1):
            event = at.get(revision)
            after = event.status if event else before
            change = _change(event, before, after, revision, asked if self.record else None)
            starts = change == "moved" and after == "running"
            attempts += starts
            times = self._times(revision, event)
            version = Version(self.job_id, self.created, revision)
            found.append(Step(version, before, after, change, *times, attempt=attempts if starts else 0))
            before = after
        return found

    def _times(self, revision: int, event: Event | None) -> tuple[float, float, float]:
        earlier = [one.at for one in self.events if one.version.revision < revision]
        later = [one.at for one in self.events if one.version.revision > revision]
        followed = min(later, default=float("inf"))
        if event is not None:
            return event.at, event.at + 0.001, followed
        return max(earlier, default=0.0), followed + 0.001, followed


def _change(event: Event | None, before: str, after: str, revision: int, asked: set[int] | None) -> str:
    if event is not None and event.kind == "deleted":
        return "deleted"
    if revision == 1:
        return "created"
    if before != after:
        return "moved"
    if asked is None and event is not None:
        return "asked or progress"
    return "asked" if asked and revision in asked else "progress"


def lives(history: History) -> dict[tuple[str, int], Life]:
    """Return the life of every job that the events or the records know, by its id and creation."""
    events: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in history.events:
        events[event.version[:2]].append(event)
    records = {record.version[:2]: record for record in history.records.values()}
    return {name: Life(*name, told, records.get(name)) for name, told in events.items()}


def unlawful(life: Life) -> Iterator[str]:
    """Say what in the order of a job's events cannot be."""
    first = life.events[0]
    if (first.version.revision, first.status, first.kind) != (1, "pending", "changed"):
        yield f"{life.job_id} begins with {first}"
    for last, event in pairwise(life.events):
        step = event.version.revision - last.version.revision
        if step < 1 or (step > 1 and last.status != "running"):
            yield f"{life.job_id} goes from revision {last.version.revision} to {event.version.revision}"
        if not _follows(last, event):
            yield f"{life.job_id} is {event.kind} as {event.status} after it was {last.kind} as {last.status}"


def _follows(last: Event, event: Event) -> bool:
    if event.kind == "deleted":
        return last.kind == "changed" and event.status in FINAL and event.status == last.status
    return last.kind == "changed" and event.status in MOVES.get(last.status, set())
