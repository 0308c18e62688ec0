"""Attribution of revisions to calls: every revision needs a cause, and a request makes at most one revision."""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import NamedTuple

from tests.chaos.history import Call, History, Kind, Outcome, Version
from tests.chaos.job_timelines import Transition

INFINITY = float("inf")


class Cause(NamedTuple):
    """A request that may have made one revision that no response names: its first call and the repetitions."""

    calls: tuple[Call, ...]
    #: The request was acknowledged, so it must have made a revision.
    is_certain: bool

    def may_have_caused(self, transition: Transition, history: History) -> bool:
        """Return whether one of the calls may have made this transition."""
        return any(could_cause(call, transition) and _may_overlap(call, transition, history) for call in self.calls)


def could_cause(call: Call, transition: Transition) -> bool:
    """Return whether a call of this kind can make such a transition."""
    if call.job_id not in ("", transition.version.job_id):  # a claim does not name its job
        return False
    return call.is_change and _CAUSES[call.kind](call, transition)


def _status_change(before: str, *after: str) -> Callable[[Call, Transition], bool]:
    return lambda call, change: change.change == "status" and change.before == before and change.after in after


_starts = _status_change("pending", "running")
_CAUSES: dict[Kind, Callable[[Call, Transition], bool]] = {
    Kind.CREATE: lambda call, made: made.change == "created",
    Kind.START: _starts,
    Kind.CLAIM: _starts,
    Kind.PROGRESS: lambda call, made: "progress" in made.change or _starts(call, made),
    Kind.HEARTBEAT: lambda call, made: "progress" in made.change,
    Kind.FINISH: lambda call, made: made.change == "status" and made.after == call.target_status,
    Kind.CANCEL: lambda call, made: (
        "cancel_requested" in made.change or (made.change, made.after) == ("status", "cancelled")
    ),
    Kind.RETRY: lambda call, made: made.is_retry,
    Kind.RELEASE: _status_change("running", "pending", "failed", "cancelled"),
    Kind.DELETE: lambda call, made: made.change == "deleted",
}


def _may_overlap(call: Call, transition: Transition, history: History) -> bool:
    """Return whether the call may have been in progress when the transition was made.

    A call that got 503 has no effect later. A call without a response may: the service may have been paused. A claim of
    several jobs gives those of the partitions that answer: those of one that does not may have been claimed, too.
    """
    if transition.not_after + history.clock_tolerance < call.started:
        return False
    if call.outcome is Outcome.FAIL and not (call.is_partial and history.overlaps_fault(call)):
        # The service's first try took effect and lost its reply; its second failed because of a change in between.
        was_retried = history.overlaps_fault(call) and not call.is_unsent
        return was_retried and transition.followed_at <= call.ended + history.clock_tolerance
    return transition.not_before - history.clock_tolerance <= (INFINITY if call.status is None else call.ended)


def acknowledged_versions(history: History, transitions: Iterable[Transition]) -> Iterator[tuple[Version, Call]]:
    """Yield each acknowledged call and the revision that it made.

    The response to a creation, claim or retry whose first reply was lost shows a later revision of the job.
    """
    transitions = list(transitions)
    retries = [transition.version for transition in transitions if transition.is_retry]
    starts = {
        (transition.version.job_id, transition.version.created, transition.attempt): transition.version
        for transition in transitions
    }
    for call in history.calls:
        if call.outcome is Outcome.OK and call.is_change and call.observations and not history.may_be_lost(call):
            [observed] = call.observations
            if call.kind is Kind.CREATE:
                yield observed.version._replace(revision=1), call
            elif call.kind is Kind.CLAIM:
                yield starts.get((*observed.version[:2], observed.attempt), observed.version), call
            elif call.kind is Kind.RETRY:
                made = (retry for retry in retries if retry[:2] == observed.version[:2] and retry <= observed.version)
                yield max(made, default=observed.version), call
            else:
                yield observed.version, call


def possible_causes(history: History, attributed: Container[int]) -> list[Cause]:
    """Return the possible causes of revisions that no response names. `attributed` has the `id` of all other calls.

    The response to a cancellation whose first reply was lost may name a later revision.
    """
    groups: dict[str, list[Call]] = {}
    for number, call in enumerate(history.calls):
        if call.is_change:
            groups.setdefault(call.group or f"#{number}", []).append(call)
    causes = []
    for calls in groups.values():
        acknowledged = [call for call in calls if call.outcome is Outcome.OK and not history.may_be_lost(call)]
        if acknowledged and id(acknowledged[-1]) in attributed:
            continue
        is_certain = bool(acknowledged) and not acknowledged[-1].observations
        causes.append(Cause(tuple(calls), is_certain))
        if any(call.kind is Kind.CLAIM and not call.has_key for call in calls):
            causes.append(Cause(tuple(map(_automatic_release, calls)), False))
    return [cause for cause in causes if cause.is_certain or _may_have_effect(cause, history)]


def _automatic_release(call: Call) -> Call:
    """Return the release that the service makes for a claim whose client has disconnected."""
    return Call(Kind.RELEASE, call.started, call.ended, status=None)


def _may_have_effect(cause: Cause, history: History) -> bool:
    return any(
        call.outcome is not Outcome.FAIL or (history.overlaps_fault(call) and not call.is_unsent)
        for call in cause.calls
    )


def maximum_matching(rows: Sequence[int], candidates: Callable[[int], Iterable[int]]) -> set[int]:
    """Return the rows of a maximum matching of `rows` with their candidates (Kuhn's algorithm)."""
    owner: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for candidate in candidates(row):
            if candidate not in tried:
                tried.add(candidate)
                if candidate not in owner or place(owner[candidate], tried):
                    owner[candidate] = row
                    return True
        return False

    return {row for row in rows if place(row, set())}
