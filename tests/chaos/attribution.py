"""Which call made which revision: every one needs a cause, and a call that may have been done made one at most."""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import NamedTuple

from tests.chaos.history import Call, History, Kind, Outcome, Version
from tests.chaos.job_timelines import Step

#: Seconds by which clocks and the end of a try may differ.
SLACK = 0.25
FOR_EVER = float("inf")


class Cause(NamedTuple):
    """Calls that are one request, as far as they may have made one revision that no answer names."""

    calls: tuple[Call, ...]
    #: It was acknowledged, so that it must have made one.
    is_certain: bool

    def may_have_made(self, step: Step, history: History) -> bool:
        """Say whether one of the calls may have made a revision."""
        return any(could_make(call, step) and _in_time(call, step, history) for call in self.calls)


def could_make(call: Call, step: Step) -> bool:
    """Say whether a call of this kind makes such a revision."""
    if call.job_id not in ("", step.version.job_id):  # a claim does not know which job it gets
        return False
    return call.is_change and _MAKES[call.kind](call, step)


def _moves(before: str, *after: str) -> Callable[[Call, Step], bool]:
    return lambda call, step: step.change == "moved" and step.before == before and step.after in after


_starts = _moves("pending", "running")
_MAKES: dict[Kind, Callable[[Call, Step], bool]] = {
    Kind.CREATE: lambda call, step: step.change == "created",
    Kind.START: _starts,
    Kind.CLAIM: _starts,
    Kind.PROGRESS: lambda call, step: "progress" in step.change or _starts(call, step),
    Kind.BEAT: lambda call, step: "progress" in step.change,
    Kind.END: lambda call, step: step.change == "moved" and step.after == call.target,
    Kind.CANCEL: lambda call, step: "asked" in step.change or (step.change, step.after) == ("moved", "cancelled"),
    Kind.RELEASE: _moves("running", "pending", "failed", "cancelled"),
    Kind.DELETE: lambda call, step: step.change == "deleted",
}


def _in_time(call: Call, step: Step, history: History) -> bool:
    """Say whether the call was under way as the revision was made.

    What is answered 503 is not done later; what got no answer may be, by a service that stood still.
    """
    if step.until + SLACK < call.started:
        return False
    if call.outcome is Outcome.REFUSED:
        # Done by the service's first try, whose answer was lost; refused to its second for what came in between.
        return history.is_disturbed(call) and not call.is_unsent and step.followed <= call.ended + SLACK
    return step.since - SLACK <= (FOR_EVER if call.status is None else call.ended)


def acknowledged(history: History, steps: Iterable[Step]) -> Iterator[tuple[Version, Call]]:
    """Yield the calls that were told that they are done, and the revision that the answer stands for.

    The answer to a creation or a claim whose first reply was lost shows the job as it is by then.
    """
    attempts = {(step.version.job_id, step.version.created, step.attempt): step.version for step in steps}
    for call in history.calls:
        if call.outcome is Outcome.DONE and call.is_change and call.seen and not history.may_be_lost(call):
            [seen] = call.seen
            if call.kind is Kind.CREATE:
                yield seen.version._replace(revision=1), call
            elif call.kind is Kind.CLAIM:
                yield attempts.get((*seen.version[:2], seen.attempt), seen.version), call
            else:
                yield seen.version, call


def causes(history: History, named: Container[int]) -> list[Cause]:
    """Return what may have made revisions that no answer names; the calls (by `id`) in `named` made those they name.

    The answer to a cancel whose first reply was lost may name a later revision: the job was asked to stop already.
    """
    groups: dict[str, list[Call]] = {}
    for number, call in enumerate(history.calls):
        if call.is_change:
            groups.setdefault(call.group or f"#{number}", []).append(call)
    found = []
    for calls in groups.values():
        told = [call for call in calls if call.outcome is Outcome.DONE and not history.may_be_lost(call)]
        if told and id(told[-1]) in named:
            continue
        found.append(Cause(tuple(calls), bool(told) and not told[-1].seen))
        if any(call.kind is Kind.CLAIM and not call.is_keyed for call in calls):
            found.append(Cause(tuple(map(_undone, calls)), False))
    return [cause for cause in found if cause.is_certain or _is_open(cause, history)]


def _undone(call: Call) -> Call:
    """Return the release that the service sends for a claim whose client has left."""
    return Call(Kind.RELEASE, call.started, call.ended, status=None)


def _is_open(cause: Cause, history: History) -> bool:
    return any(
        call.outcome is not Outcome.REFUSED or (history.is_disturbed(call) and not call.is_unsent)
        for call in cause.calls
    )


def matched(rows: Sequence[int], candidates: Callable[[int], Iterable[int]]) -> set[int]:
    """Return those of `rows` that can each have a candidate of its own, as many as possible (Kuhn's algorithm)."""
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
