"""Checks of what clients read: no stale or invented state, and every event exactly once."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from tests.chaos.attribution import INFINITY
from tests.chaos.context import CheckContext, Violations, describe_call
from tests.chaos.history import (
    CLOCK_TOLERANCE,
    Call,
    Entry,
    Event,
    History,
    Kind,
    Observation,
    Outcome,
    StreamMessage,
    Version,
    parse_event_id,
)


def reads_are_monotonic(context: CheckContext) -> Violations:
    """No response shows an older revision than a response that ended before its request began."""
    moments: list[tuple[float, int, Call]] = []
    for call in observing_calls(context):
        if call.observations:
            moments += [(call.ended, 0, call), (call.started, 1, call)]
    newest = _NewestVersions()
    for _, is_start, call in sorted(moments, key=lambda moment: moment[:2]):
        if is_start:
            newest.start(call)
        else:
            for observed, known in newest.finish(call):
                yield f"{describe_call(call)} shows {observed.version} after {known} was observed"


def observing_calls(context: CheckContext) -> Iterator[Call]:
    """Yield the calls that succeeded, with what they show and no failover has lost."""
    for call in context.history.calls:
        if call.outcome is Outcome.OK and not context.history.may_be_lost(call):
            kept = tuple(seen for seen in call.observations if not _is_lost_by_failover(context, call, seen))
            yield call if kept == call.observations else replace(call, observations=kept)


def _is_lost_by_failover(context: CheckContext, call: Call, observed: Observation) -> bool:
    """Return whether a read shows a change that was not acknowledged yet, and that a failover has lost."""
    if call.kind is not Kind.READ or not context.history.has_failover(call.started, call.ended):
        return False
    made = context.transitions.get(observed.version)
    return (
        made is None or made.after != observed.status or made.not_before > call.ended + context.history.clock_tolerance
    )


class _NewestVersions:
    """The newest observed version of each job, now and when each call began."""

    def __init__(self) -> None:
        self._newest: dict[str, Version] = {}
        self._known: dict[tuple[int, str], Version] = {}

    def start(self, call: Call) -> None:
        """Record what is known when a call begins."""
        for observed in call.observations:
            if newest := self._newest.get(observed.version.job_id):
                self._known[id(call), observed.version.job_id] = newest

    def finish(self, call: Call) -> Iterator[tuple[Observation, Version]]:
        """Add a call's observations; yield those that are older than what was known when the call began."""
        for observed in call.observations:
            job_id = observed.version.job_id
            known = self._known.get((id(call), job_id))
            if known is not None and observed.version < known:
                yield observed, known
            self._newest[job_id] = max(observed.version, self._newest.get(job_id, observed.version))


def reads_are_valid(context: CheckContext) -> Violations:
    """Every observed state existed, and neither after the response nor before the request."""
    for call in observing_calls(context):
        for observed in call.observations:
            yield from _read_violations(context, call, observed)


def _read_violations(context: CheckContext, call: Call, observed: Observation) -> Violations:
    timeline = context.timelines.get(observed.version[:2])
    transition = context.transitions.get(observed.version)
    if timeline is None or transition is None:
        yield f"{describe_call(call)} shows {observed}, which never existed"
        return
    if observed.status != transition.after or transition.change == "deleted":
        yield f"{describe_call(call)} shows {observed}, whose status was {transition.after}"
    if transition.not_before > call.ended + context.history.clock_tolerance:
        yield f"{describe_call(call)} shows {observed} before it existed"
    if timeline.is_deleted and timeline.events[-1].at + context.history.clock_tolerance < call.started:
        yield f"{describe_call(call)} shows {observed} after its deletion"


def jobs_do_not_vanish(context: CheckContext) -> Violations:
    """A created job is not found only after a request that may have deleted it."""
    history = context.history
    deleted_at: dict[str, float] = {}
    for call in history.calls:
        if call.kind is Kind.DELETE and (call.outcome is not Outcome.FAIL or history.overlaps_fault(call)):
            deleted_at[call.job_id] = min(call.started, deleted_at.get(call.job_id, call.started))
    created_at = {call.job_id: call.ended for _, call in reversed(context.acknowledged) if call.kind is Kind.CREATE}
    for call in history.calls:
        is_missing = call.problem == "job-not-found" and created_at.get(call.job_id, INFINITY) < call.started
        if is_missing and call.ended < deleted_at.get(call.job_id, INFINITY) and not history.may_be_lost(call):
            yield f"{describe_call(call)} did not find an existing job"


def streams_are_complete(context: CheckContext) -> Violations:
    """A subscriber receives every event once and in order, across all its connections."""
    history = context.history
    parts: list[list[StreamMessage]] = []
    for message in history.stream_messages:
        if message.kind in {"hello", "reset"} and (not parts or message.kind == "reset"):
            if parts and not (history.losses or history.failovers):
                yield f"the stream sent `reset` at {message.position} without a loss"
            parts.append([message])
        elif message.kind != "hello":
            parts[-1].append(message)
    for number, (start, *messages) in enumerate(parts):
        first, *ids = [parse_event_id(message.position, history.partitions) for message in (start, *messages)]
        pairs = zip(messages, pairwise([first, *ids]), strict=True)
        if wrong := [message for message, (before, after) in pairs if _repeats(before, after)]:
            yield f"the stream repeats events or goes back: {wrong}"
        is_last = number == len(parts) - 1
        for partition, begins in enumerate(first):
            received = {entries[partition] for entries in ids} - {begins}
            yield from _stream_differences(history, partition, begins, received, is_last)


def _repeats(before: list[Entry], after: list[Entry]) -> bool:
    """Return whether the position after an event is not behind the one before, in one partition."""
    return after == before or any(map(tuple.__lt__, after, before))


def _stream_differences(
    history: History, partition: int, start: Entry, received: set[Entry], is_last: bool
) -> Violations:
    events = [event for event in history.events if event.partition == partition]
    positions = {event.parsed_position for event in events}
    last = max(received & positions, default=start) if history.failovers else max(received, default=start)
    until = events[-1].parsed_position if is_last and events else last
    expected = {
        event.parsed_position
        for event in events
        if start < event.parsed_position <= until and not _is_lost(history, event)
    }
    if missing := expected - received:
        yield f"the stream left out {len(missing)} events, the first {min(missing)}"
    # Events after the final state was read, such as expired leases, are received as well.
    lost = {at for at in received if _is_position_lost(history, at) or _is_in_failover(history, at)}
    unknown = {at for at in received - lost if at <= until} - positions
    if unknown:
        yield f"the stream sent {len(unknown)} events that do not exist, the first {min(unknown)}"


def _is_lost(history: History, event: Event) -> bool:
    return _is_position_lost(history, event.parsed_position)


def _is_position_lost(history: History, position: Entry) -> bool:
    return any(loss.overlaps(*_times(history, position)) for loss in history.losses)


def _is_in_failover(history: History, position: Entry) -> bool:
    return history.has_failover(*_times(history, position))


def _times(history: History, position: Entry) -> tuple[float, float]:
    """Return the Unix times between which an event was made."""
    at, skew = position[0] / 1000, history.clock_tolerance - CLOCK_TOLERANCE
    return at - skew, at + skew + 0.001


def times_are_in_order(context: CheckContext) -> Violations:
    """No time of a job goes back: a later revision was changed later, and nothing in a record is later than that."""
    changed: dict[Version, tuple[str, Call]] = {}
    for call in observing_calls(context):
        for seen in call.observations:
            if seen.latest > seen.updated_at:
                yield f"{describe_call(call)} shows {seen}, which has a time after its last change"
            if seen.updated_at:
                changed[seen.version] = (seen.updated_at, call)
    for before, after in pairwise(sorted(changed)):
        if before[:2] == after[:2] and changed[before][0] > changed[after][0]:
            yield f"{describe_call(changed[after][1])} shows {after} at {changed[after][0]}, after {changed[before][0]}"
